"""Run folders: their files, and where those of the models that ship lie."""

from pathlib import Path
from typing import NamedTuple

from pellucid.errors import InputError, nearest

CONFIG, WEIGHTS, CARD, METRICS = "config.yaml", "weights.safetensors", "card.md", "metrics.json"
CURVES = "history.png"  # of the training
SHIPPED = Path(__file__).parents[1] / "weights"


def find_run(name_or_path: str | Path) -> Path:
    """Return the run folder of a path, or of the name of a model that ships with the package."""
    for folder in (Path(name_or_path), SHIPPED / name_or_path):
        if (folder / WEIGHTS).is_file():
            return folder
    near = nearest(str(name_or_path), [*shipped_runs()])
    raise InputError(
        f"{str(name_or_path)!r} is neither a run folder with {WEIGHTS} nor a model that ships{near}"
    )


def find_curves(folder: Path) -> Path | None:
    """Return the picture of the training of a run, if there is one."""
    curves = folder / CURVES
    return curves if curves.is_file() else None


def check_no_run(folder: Path) -> None:
    """Refuse a folder with weights, or other files of those names, which a new run would replace."""
    for name in (WEIGHTS, CONFIG, CARD, METRICS):
        if (folder / name).exists():
            raise InputError(
                f"{folder} already holds {name}, and a run never replaces another; choose another folder"
            )


def shipped_runs() -> tuple[str, ...]:
    """Return the names of the models that ship with the package."""
    return tuple(sorted(path.parent.name for path in SHIPPED.glob(f"*/{WEIGHTS}")))


class Description(NamedTuple):
    """What a run says of itself in short."""

    name: str
    size_mb: float
    about: str  # what it is and what it reaches: the first sentence of the card
    licence: str  # of the weights, and of the data in them; "" where the card does not say


def describe(folder: Path) -> Description:
    """Return what the card of a run folder says in short."""
    card = folder / CARD
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    about = next((line for line in lines if line and not line.startswith("#")), "")
    licence = next((line for line in reversed(lines) if line.startswith(("Licence:", "Contains "))), "")
    size = (folder / WEIGHTS).stat().st_size / 1e6
    return Description(folder.name, round(size, 1), about, licence.removeprefix("Licence:").strip())
