"""Run folders: their files, and where those of the models that ship lie."""

from pathlib import Path

from pellucid.errors import InputError
from pellucid.schema import nearest

CONFIG, WEIGHTS, CARD, METRICS = "config.yaml", "weights.safetensors", "card.md", "metrics.json"
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


def describe(folder: Path) -> tuple[str, str, str]:
    """Return name, size in MB and the first sentence of the card of a run folder."""
    lines = (folder / CARD).read_text(encoding="utf-8").splitlines() if (folder / CARD).is_file() else []
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return folder.name, f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f}", first
