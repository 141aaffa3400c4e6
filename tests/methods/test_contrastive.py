import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from pellucid.data.batch import Batch
from pellucid.data.ranges import PICTURE
from pellucid.data.tokenizer import default_tokenizer, learn_tokenizer
from pellucid.errors import InputError
from pellucid.methods.contrastive import Contrastive, contrastive_loss, found, group
from pellucid.networks.text_encoder import Config, build

TEXTS = ("Region: sea", "Region: ice", "Region: sea", "region: SEA")
TINY = Config(
    vocab_size=20, width=16, num_layers=1, num_heads=2, length=8, bands=3, image_width=8, features=6
)


@pytest.fixture
def method() -> Contrastive:
    torch.manual_seed(0)
    return Contrastive(build(TINY), learn_tokenizer(TEXTS, size=20, length=8), optical=PICTURE)


@pytest.fixture
def batch() -> Batch:
    target = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(
        degraded=target,
        target=target,
        valid=torch.ones(4, 1, 16, 16, dtype=torch.bool),
        key=("a", "b", "c", "d"),
        prompt=TEXTS,
    )


def test_loss_is_that_of_the_features_of_images_and_texts(method: Contrastive, batch: Batch) -> None:
    ids = method.tokenizer(TEXTS)
    images, texts = method.network.image_features(batch.target), method.network.text_features(ids)
    # What the tokenizer does not tell apart is one text.
    expected = contrastive_loss(images, texts, torch.tensor([0, 1, 0, 0]), 0.07)
    terms = method.loss(batch)
    torch.testing.assert_close(terms["total"], expected)
    assert terms["contrast"] == terms["total"]


def test_gradients_reach_texts_images_and_temperature(method: Contrastive, batch: Batch) -> None:
    method.loss(batch)["total"].backward()
    for name in ("text.embeddings.token_embedding.weight", "image.0.weight", "log_temperature"):
        assert method.network.get_parameter(name).grad.abs().sum() > 0, name


def test_what_is_not_valid_makes_no_difference(method: Contrastive, batch: Batch) -> None:
    valid = batch.valid.clone()
    valid[..., :4] = False
    spoilt = replace(batch, target=batch.target.where(valid, math.nan), valid=valid)
    assert method.loss(spoilt)["total"] == method.loss(replace(batch, valid=valid))["total"]


def test_images_that_find_their_texts_are_counted(
    method: Contrastive, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, groups = torch.eye(2)[[0, 1, 0, 0]], torch.tensor([0, 1, 0, 0])
    images = torch.eye(2)[[0, 1, 1, 0]]  # the third finds the other text
    monkeypatch.setattr(method, "features", lambda batch: (images, texts, groups))
    figures = method.validate(batch)
    assert figures["found"].item() == figures["chance"].item() == 0.75
    torch.testing.assert_close(figures["loss_total"], contrastive_loss(images, texts, groups, 0.07))


def test_where_all_texts_are_the_same_nothing_is_to_be_found(method: Contrastive, batch: Batch) -> None:
    figures = method.validate(replace(batch, prompt=("Region: ice",) * 4))
    assert figures["found"].isnan()
    assert figures["chance"].isnan()
    assert figures["loss_total"] > math.log(4)


def test_a_vocabulary_or_length_that_is_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="vocabulary is 20; set vocab_size to at least 1000"):
        Contrastive(build(TINY), default_tokenizer(length=8), optical=PICTURE)
    with pytest.raises(InputError, match="gives 9 ids per text, the text encoder takes 8; set length to 9"):
        Contrastive(build(TINY), learn_tokenizer(TEXTS, length=9), optical=PICTURE)


def test_images_without_texts_are_refused(method: Contrastive, batch: Batch) -> None:
    with pytest.raises(ValueError, match="a has no prompt, texts are learnt from images and prompts"):
        method.loss(replace(batch, prompt=None))
    with pytest.raises(ValueError, match="a has no target"):
        method.loss(replace(batch, target=None))


def test_it_makes_no_images(method: Contrastive, batch: Batch) -> None:
    with pytest.raises(InputError, match="this model is a text encoder, it makes no images; choose another"):
        method.restore(batch)


def test_loss_of_two_pairs_is_that_worked_by_hand() -> None:
    images = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    texts = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    # Cosines of the images with the texts: 1 and 0.7071, 0 and 0.7071; temperature 0.5.
    half = math.sqrt(0.5)
    rows = [[1.0, half], [0.0, half]]
    wanted = 0.0
    for lines in (rows, list(zip(*rows, strict=True))):
        for at, line in enumerate(lines):
            total = sum(math.exp(value / 0.5) for value in line)
            wanted -= math.log(math.exp(line[at] / 0.5) / total) / 4
    found = contrastive_loss(images, texts, torch.tensor([0, 1]), 0.5)
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_without_shared_texts_it_is_the_loss_of_clip() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(5, 8, generator=generator) for _ in range(2))
    logits = normalize(images, dim=1) @ normalize(texts, dim=1).mT / 0.07
    clip = (cross_entropy(logits, torch.arange(5)) + cross_entropy(logits.mT, torch.arange(5))) / 2
    torch.testing.assert_close(contrastive_loss(images, texts, torch.arange(5), 0.07), clip)


def test_pairs_that_share_a_text_are_no_negatives() -> None:
    """Features that tell the texts apart, and nothing else, are as good as can be."""
    groups = torch.tensor([0, 1, 0, 0])
    features = torch.eye(2)[groups]
    loss = contrastive_loss(features, features, groups, 0.01)
    assert loss.item() == pytest.approx(3 / 4 * math.log(3), rel=1e-5)  # three may be any of three
    assert contrastive_loss(features, features[[1, 0, 2, 3]], groups, 0.01) > 10 * loss


def test_one_match_of_many_is_not_enough() -> None:
    groups = torch.tensor([0, 0, 1])
    texts = torch.eye(3)[[0, 0, 2]]
    one = torch.eye(3)[[0, 1, 2]]  # the second image is like no text
    assert contrastive_loss(one, texts, groups, 0.1) > 1.5 * contrastive_loss(texts, texts, groups, 0.1)


def test_order_and_length_of_features_make_no_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(6, 8, generator=generator) for _ in range(2))
    groups, order = torch.tensor([0, 1, 0, 2, 2, 3]), torch.tensor([3, 1, 5, 0, 2, 4])
    loss = contrastive_loss(images, texts, groups, 0.2)
    torch.testing.assert_close(contrastive_loss(3 * images[order], texts[order], groups[order], 0.2), loss)
    torch.testing.assert_close(contrastive_loss(texts, images, groups, 0.2), loss)


def test_equal_texts_are_one_group() -> None:
    ids = torch.tensor([[2, 5, 3], [2, 4, 3], [2, 5, 3], [2, 5, 6]])
    distinct, groups = group(ids)
    assert len(distinct) == 3
    assert torch.equal(distinct[groups], ids)


def test_an_image_finds_its_text_where_no_other_is_nearer() -> None:
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    images = torch.tensor([[3.0, 1.0], [0.2, 0.1], [1.0, 0.9]])  # the second is nearer to the first text
    assert found(images, texts, torch.tensor([0, 1, 0])).item() == pytest.approx(2 / 3)
