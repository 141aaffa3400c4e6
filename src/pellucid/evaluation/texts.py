"""Evaluation of a text encoder: whether images find their own texts among all that there are."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table
from torch import Tensor

from pellucid.data.batch import Images
from pellucid.errors import InputError
from pellucid.evaluation.folder import claim_evaluation, write_metrics
from pellucid.evaluation.table import Setting
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
        settings: how it was made, by name.
        timestamp: in UTC, ISO 8601.
        contrast: the loss over all images at once.
        found: share of the images whose nearest text is their own, among all texts.
        chance: share that always naming the most frequent text would get right.
        texts: each of them, the most frequent first.
    """

    name: str
    notes: str
    settings: Mapping[str, Setting]
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
    settings: Mapping[str, Setting] = MappingProxyType({}),
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> TextEvaluation:
    """Return how well whole images find their texts.

    Args:
        method: the text encoder.
        data: images with prompts.
        name: of the evaluation, and of its folder.
        notes: a remark, kept with the figures.
        out: folder, if any, for that of the evaluation, with metrics.json, and for the lists of all.
        settings: how the evaluation is made, kept with the figures.
        device: "auto" is the GPU where there is one.
        progress: called with (images done, images).
    """
    if not len(data):
        raise InputError("there are no images to evaluate on, give data with at least one")
    place = choose_device(device)
    method.network.to(place).eval()
    with claim_evaluation(out, name) as folder:
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
        about = {"name": folder.name if folder else name, "notes": notes, "settings": dict(settings)}
        result = _summarise(method, torch.cat(images), torch.cat(texts), prompts, about)
        if folder is not None:
            write_metrics(asdict(result), folder)
        return result


def _summarise(
    method: Contrastive, images: Tensor, texts: Tensor, prompts: list[str], about: Mapping[str, Any]
) -> TextEvaluation:
    """Return the figures of features, (N, D) each, with name, notes and settings as in `about`."""
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
        name=about["name"],
        notes=about["notes"],
        settings=about["settings"],
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        contrast=contrastive_loss(images, texts, groups, method.network.temperature).item(),
        found=hits.float().mean().item(),
        chance=(counts.max() / counts.sum()).item(),
        texts=tuple(scores),
    )
