"""Evaluation of a text encoder: whether images find their own texts among all that there are."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from torch import Tensor

from pellucid.data.batch import Images
from pellucid.data.files import write_text
from pellucid.errors import InputError
from pellucid.evaluation.table import claim_evaluation
from pellucid.methods.contrastive import Contrastive, contrastive_loss, finds, group
from pellucid.methods.inference import choose_device


@dataclass(frozen=True)
class TextScore:
    """Share `found` of the images of a text whose nearest it is; texts with the same token ids are one."""

    text: str
    num_images: int
    found: float


@dataclass(frozen=True)
class TextEvaluation:
    """What an evaluation of a text encoder found.

    Attributes:
        timestamp: in UTC, ISO 8601.
        contrast: the loss over all images at once.
        found: share of the images whose nearest text is their own, among all texts.
        chance: share that always naming the most frequent text would get right.
        texts: each of them, the most frequent first.
    """

    name: str
    notes: str
    timestamp: str
    contrast: float
    found: float
    chance: float
    texts: tuple[TextScore, ...]

    def table(self) -> Table:
        """Return the figures for the screen."""
        num_images = sum(text.num_images for text in self.texts)
        title = (
            f"{self.name}: {self.found:.0%} of {num_images} images find their own text, {self.chance:.0%} by "
            f"naming the most frequent; contrast {self.contrast:.3f}"
        )
        figures = (Column(head, justify="right") for head in ("images", "found"))
        table = Table("text", *figures, title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
        for text in self.texts:
            table.add_row(text.text or "(none)", str(text.num_images), f"{text.found:.0%}")
        return table


@torch.no_grad()
def evaluate_texts(
    method: Contrastive,
    data: Images,
    *,
    name: str,
    notes: str = "",
    out: Path | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> TextEvaluation:
    """Return how well whole images find their texts.

    Args:
        method: the text encoder.
        data: images with prompts.
        name: of the model.
        notes: a remark.
        out: folder that gets metrics.json, if any.
        device: "auto" is the GPU where there is one.
        progress: called with (images done, images).
    """
    if not len(data):
        raise InputError("there are no images to evaluate on, give data with at least one")
    place = choose_device(device)
    method.network.to(place).eval()
    with claim_evaluation(out):
        images, texts = [], []
        prompts: list[str] = []
        for i in range(len(data)):
            batch = data[i].to(place)
            image, text, _ = method.features(batch)
            images.append(image)
            texts.append(text)
            prompts += batch.prompt or ("",)
            if progress is not None:
                progress(i + 1, len(data))
        result = _summarise(method, torch.cat(images), torch.cat(texts), prompts, name=name, notes=notes)
        if out is not None:
            write_text(out / "metrics.json", json.dumps(asdict(result), indent=1) + "\n")
        return result


def _summarise(
    method: Contrastive, images: Tensor, texts: Tensor, prompts: list[str], *, name: str, notes: str
) -> TextEvaluation:
    """Return the figures of features, (N, D) each."""
    _, groups = group(method.tokenizer(prompts).to(images.device))
    counts = groups.bincount()
    if len(counts) == 1:
        raise InputError(
            f"the images have one text, {prompts[0]!r}, so that every image finds it; evaluate on others too"
        )
    hits = finds(images, texts, groups)
    scores = []
    for at in counts.argsort(descending=True, stable=True).tolist():
        found = hits[groups == at].float().mean().item()
        scores.append(TextScore(prompts[groups.tolist().index(at)], int(counts[at]), found))
    return TextEvaluation(
        name=name,
        notes=notes,
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        contrast=contrastive_loss(images, texts, groups, method.network.temperature).item(),
        found=hits.float().mean().item(),
        chance=(counts.max() / counts.sum()).item(),
        texts=tuple(scores),
    )
