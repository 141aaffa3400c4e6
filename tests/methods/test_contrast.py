import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from pellucid.methods.contrastive import contrastive_loss, found, group


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
