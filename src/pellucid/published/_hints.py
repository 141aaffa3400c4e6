"""What the shapes in a checkpoint do not show, and the user can add."""

from dataclasses import dataclass, field
from typing import Any


def _hint(help: str, **option: Any) -> Any:  # noqa: A002
    """Return a field whose metadata are the help and further arguments of its option on the command line."""
    return field(default=None, metadata={"help": help, **option})


@dataclass(frozen=True)
class Hints:
    """What a checkpoint's shapes do not show, by format; None: as published."""

    scale: int | None = _hint(
        "sr3: how many times its results are larger; the file does not say; default 8.", min=1
    )
    groups: int | None = _hint(
        "sr3: norm_groups of its YAML; default 16 for the published x8 deep, else 32.", min=1
    )
    num_heads: int | None = _hint(
        "sr3: heads of its attention; default 4. sar-colorization: of its text encoder's; default one per 64 "
        "channels.",
        min=1,
    )
    axes: tuple[int, int, int] | None = _hint(
        "cr-rf: axes_dim of its parameters; default 16,56,56 for heads of 128 channels.",
        metavar="IMAGE,ROW,COLUMN",
    )
    autoencoder: str | None = _hint("cr-rf: imported autoencoder of the images.", metavar="RUN")
    sar_autoencoder: str | None = _hint("cr-rf: imported autoencoder of the radar.", metavar="RUN")
    tokenizer: str | None = _hint(
        "sar-colorization: tokenizer.json of its training; default the vocabulary that it has without one.",
        metavar="FILE",
    )
