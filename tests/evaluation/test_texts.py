import io
import json
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from rich.console import Console
from torch import Tensor

from pellucid.data.batch import Batch
from pellucid.data.ranges import PICTURE
from pellucid.data.tokenizer import learn_tokenizer
from pellucid.errors import InputError
from pellucid.evaluation.texts import TextScore, evaluate_texts
from pellucid.methods.contrastive import Contrastive
from pellucid.networks.text_encoder import Config, build

TEXTS = ("Region: sea", "Region: ice")
TINY = Config(
    vocab_size=20, width=16, num_layers=1, num_heads=2, length=8, bands=3, image_width=8, features=6
)


class Known(Contrastive):
    """Knows where each text lies, and that an image lies at its own brightness: 0 is the sea, 1 is ice."""

    def features(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        prompt = cast("tuple[str, ...]", batch.prompt)[0]
        brightness = batch.degraded.mean().view(1, 1)
        text = torch.tensor([[0.0, 1.0] if "ice" in prompt.lower() else [1.0, 0.0]])
        return torch.cat([1 - brightness, brightness], 1), text, torch.zeros(1, dtype=torch.long)


def item(brightness: float, prompt: str, side: int = 8) -> Batch:
    image = torch.full((1, 3, side, side), brightness)
    valid = torch.ones(1, 1, side, side, dtype=torch.bool)
    return Batch(degraded=image, target=image, valid=valid, key=("place",), prompt=(prompt,))


def method() -> Contrastive:
    return Known(build(TINY), learn_tokenizer(TEXTS, size=20, length=8), optical=PICTURE)


# Of images of two sizes; the last text is, to the tokenizer, the first.
DATA = (item(0.1, TEXTS[0]), item(0.9, TEXTS[0], 16), item(0.8, TEXTS[1]), item(0.2, "region: SEA"))


def test_each_text_is_found_by_a_share_of_its_images(tmp_path: Path) -> None:
    done = []
    result = evaluate_texts(
        method(), DATA, name="m", out=tmp_path, device="cpu", progress=lambda i, n: done.append((i, n))
    )
    assert (result.found, result.chance) == (0.75, 0.75)
    assert result.texts == (
        TextScore("Region: sea", 3, pytest.approx(2 / 3)),
        TextScore("Region: ice", 1, 1.0),
    )
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert json.loads((tmp_path / "m" / "metrics.json").read_text())["texts"][1]["num_images"] == 1
    text = io.StringIO()
    Console(file=text, width=140).print(result.table())
    said = " ".join(text.getvalue().split())
    assert "m: 75% of 4 images find their own text, 75% by naming the most frequent" in said


def test_the_loss_is_that_of_all_images_at_once() -> None:
    torch.manual_seed(0)
    plain: Any = Contrastive(build(TINY), learn_tokenizer(TEXTS, size=20, length=8), optical=PICTURE)
    plain.network.eval()
    data = [item(value, text) for value, text in ((0.1, TEXTS[0]), (0.4, TEXTS[1]), (0.9, TEXTS[1]))]
    expected = plain.validate(Batch.cat(data))
    result = evaluate_texts(plain, data, name="m", device="cpu")
    assert result.contrast == pytest.approx(expected["loss_contrast"].item(), rel=1e-5)
    assert result.found == pytest.approx(expected["found"].item())
    assert math.isclose(result.chance, 2 / 3, rel_tol=1e-6)


def test_images_that_tell_no_texts_apart_are_refused() -> None:
    with pytest.raises(
        InputError, match="the images have one text, 'Region: sea', so that every image finds it"
    ):
        evaluate_texts(method(), [DATA[0], DATA[3]], name="m", device="cpu")
    with pytest.raises(InputError, match="there are no images"):
        evaluate_texts(method(), [], name="m", device="cpu")
