"""Where curves and pictures of a training go: TensorBoard's events and, on request, Weights & Biases."""

import importlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pellucid.data.files import write_text
from pellucid.errors import InputError

# The file of a run folder that names the run at Weights & Biases, by which a resumed training goes on there.
WANDB_ID = "wandb_id.txt"


@dataclass(frozen=True)
class Logs:
    """Where the curves of a training go.

    Attributes:
        folder: of TensorBoard's events, in a folder of the run's name; None: the run folder.
        wandb: project at Weights & Biases that gets the curves too; "" for none.

    Raises:
        InputError: if a project is named, but the package wandb is missing.
    """

    folder: Path | None = None
    wandb: str = ""

    def __post_init__(self) -> None:
        if self.wandb:
            import_wandb()

    def events(self, run: Path) -> Path:
        """Return the folder of the events of a run folder."""
        return self.folder / run.name if self.folder else run


class Writer(Protocol):
    """What takes curves and pictures, each at an optimiser step."""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Take a point of a curve."""

    def add_image(self, name: str, picture: NDArray[np.uint8], step: int, *, dataformats: str) -> None:
        """Take a picture."""

    def flush(self) -> None:
        """Show what there is."""

    def close(self) -> None:
        """End it."""


def open_writers(logs: Logs, run: Path, first_step: int) -> list[Writer]:
    """Return what takes the curves of a run folder; events from the first step on are made anew."""
    from torch.utils.tensorboard import SummaryWriter

    writers: list[Writer] = [SummaryWriter(str(logs.events(run)), purge_step=first_step)]
    return [*writers, WandbWriter(logs.wandb, run)] if logs.wandb else writers


def import_wandb() -> Any:
    """Return the package wandb, which is no dependency."""
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise InputError(
            f"--wandb needs the package wandb ({error}); pip install 'pellucid[wandb]', or leave --wandb out"
        ) from error


class WandbWriter:
    """A run at Weights & Biases, or, with WANDB_MODE=offline, in the folder `wandb` of the run folder.

    Args:
        project: that it belongs to.
        folder: the run folder, whose name it has; a training that is resumed in it goes on in the same run.
    """

    def __init__(self, project: str, folder: Path) -> None:
        self.wandb = import_wandb()
        known = folder / WANDB_ID
        name = known.read_text(encoding="utf-8").strip() if known.is_file() else secrets.token_hex(8)
        write_text(known, f"{name}\n")
        options = {"project": project, "name": folder.name, "id": name, "resume": "allow"}
        silent = self.wandb.Settings(silent=True)
        try:
            self.run = self.wandb.init(dir=str(folder), settings=silent, **options)
        except Exception as error:  # its own classes are in a package that may be missing
            raise InputError(
                f"Weights & Biases refuses the run ({error}); log in with `wandb login`, or set "
                "WANDB_MODE=offline"
            ) from error
        self.run.define_metric("*", step_metric="step")  # steps of a resumed run may come twice

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """Take a point of a curve."""
        self.run.log({name: float(value), "step": step})

    def add_image(self, name: str, picture: NDArray[np.uint8], step: int, *, dataformats: str) -> None:  # noqa: ARG002
        """Take a picture."""
        self.run.log({name: self.wandb.Image(picture), "step": step})

    def flush(self) -> None:
        """Do nothing: what is logged is on its way."""

    def close(self) -> None:
        """End it."""
        self.run.finish()
