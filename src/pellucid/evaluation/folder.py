"""The folder of an evaluation, a new one for each, and the list of all evaluations beside them."""

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from pellucid.data.claims import LOCK, claim_folders, is_held
from pellucid.data.files import TEMPORARY, write_text
from pellucid.data.ownership import begins
from pellucid.data.text_file import parse_json
from pellucid.errors import InputError
from pellucid.evaluation.figures import ImageScore
from pellucid.evaluation.table import Evaluation

# What lies in the folder of an evaluation; the first is written last.
METRICS, PER_IMAGE, SHEET, CALIBRATION, PICTURES, PAGE = (
    *("metrics.json", "per_image.csv", "sheet.png", "calibration.png"),
    *("pictures", "evaluation.html"),
)
PARTS = (PER_IMAGE, SHEET, CALIBRATION, PAGE)
# Name of both lists of evaluations; not history.csv, which a training writes into its run.
EVALUATIONS = "evaluations"
# Columns of the lists that come first; the settings of all evaluations follow.
FIRST = ("name", "date", "model", "data", "split", "num_images", "psnr", "ssim", "gain_db", "found")


@contextmanager
def claim_evaluation(root: Path | None, name: str) -> Iterator[Path | None]:
    """Make and hold `root/name`, with a number behind the name if that is taken; None without a root.

    What is left of an evaluation that ended early makes way for the next one, and goes after an error.

    Raises:
        InputError: if the name is none of a folder, or a list in `root` is of another origin.
    """
    if root is None:
        yield None
        return
    if not name or name != Path(name).name or name.startswith("."):
        raise InputError(f"the evaluation is named {name!r}, which no folder can be called; use letters")
    _check_lists(root)
    numbered = (root / (name if number == 1 else f"{name}_{number}") for number in count(1))
    folder = next(path for path in numbered if not path.exists() or _is_left(path))
    with claim_folders(folder):
        _clear(folder)
        try:
            yield folder
        except BaseException:
            if not (folder / METRICS).exists():
                _clear(folder)
            raise


def _is_left(folder: Path) -> bool:
    """Return whether a folder holds nothing but the lock and parts of an evaluation that was killed."""
    if not (folder / LOCK).is_file() or is_held(folder):
        return False
    return all(path.name in (LOCK, PICTURES, *PARTS) or TEMPORARY in path.name for path in folder.iterdir())


def _clear(folder: Path) -> None:
    """Remove the parts of an evaluation."""
    for name in PARTS:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / PICTURES, ignore_errors=True)


def write_evaluation(result: Evaluation, folder: Path) -> None:
    """Write metrics.json and per_image.csv into the folder of an evaluation, and list it beside."""
    write_text(folder / PER_IMAGE, as_csv([_image_row(image) for image in result.images]))
    write_metrics(result.to_dict(), folder)


def write_metrics(metrics: Mapping[str, Any], folder: Path) -> None:
    """Write metrics.json, and the lists of all evaluations beside the folder."""
    write_text(folder / METRICS, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    root = folder.parent
    found = [_list_row(path.parent.name, read_metrics(path)) for path in root.glob(f"*/{METRICS}")]
    rows = sorted(found, key=lambda row: (str(row["date"]), str(row["name"])))
    columns = list(dict.fromkeys([*FIRST, *(column for row in rows for column in row)]))
    full = [{column: row.get(column) for column in columns} for row in rows]
    write_text(root / f"{EVALUATIONS}.json", json.dumps(full, indent=1) + "\n")
    write_text(root / f"{EVALUATIONS}.csv", as_csv(full))


def read_metrics(path: Path) -> dict[str, Any]:
    """Return the figures in a metrics.json; refuse a file that no evaluation wrote."""
    try:
        metrics = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; evaluate again") from error
    if not isinstance(metrics, dict) or "timestamp" not in metrics:
        raise InputError(f"{path} is no file of an evaluation; name the folder of one")
    return metrics


def _list_row(name: str, metrics: Mapping[str, Any]) -> dict[str, object]:
    """Return an evaluation as a row of the lists: its settings, and its means over all images."""
    rows = metrics.get("rows") or [{}]
    gain = metrics.get("gain_db", {}).get("all", {}).get("mean")
    texts = metrics.get("texts")
    return {
        **dict.fromkeys(FIRST),
        **metrics.get("settings", {}),
        "name": name,
        "date": metrics["timestamp"],
        "num_images": sum(text["num_images"] for text in texts) if texts else metrics.get("num_images"),
        "psnr": _mean(rows[0], "psnr"),
        "ssim": _mean(rows[0], "ssim"),
        "gain_db": None if gain is None else round(gain, 4),
        "found": metrics.get("found"),
        "notes": metrics.get("notes", ""),
    }


def _mean(row: Mapping[str, Any], metric: str) -> float | None:
    value = row.get(metric, {}).get("mean")
    return None if value is None else round(value, 4)


def _check_lists(root: Path) -> None:
    """Refuse a folder in which lists of another origin have our names."""
    for suffix, start in ((".csv", "name,date,"), (".json", "[")):
        path = root / f"{EVALUATIONS}{suffix}"
        if path.exists() and not begins(path, start):
            raise InputError(
                f"cannot write {path}: a file is there that no evaluation of this version wrote; move it "
                "away, or name another folder"
            )


def _image_row(image: ImageScore) -> dict[str, object]:
    figures = {"_".join(place).replace(" ", "_"): value for place, value in image.values.items()}
    known = {"key": image.key, "place": image.place, **image.words}
    return {**known, "cover": image.cover, "gain_db": image.gain(), **figures}


def as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as a table in CSV, under the columns that any of them has."""
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
