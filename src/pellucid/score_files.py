"""The files of an evaluation: all figures, those of each image, and the history of a folder's evaluations."""

import csv
import io
import json
from pathlib import Path

from pellucid.data.geotiff import write_atomically
from pellucid.scores import Evaluation

# Not history.csv, which a training run of the same folder writes.
HISTORY = "evaluations.csv"
HISTORY_COLUMNS = ("timestamp", "model", "psnr", "ssim", "num_images", "notes")


def write_evaluation(result: Evaluation, out: Path) -> None:
    """Write metrics.json and per_image.csv into the folder `out`, and add a row to its evaluations.csv."""
    write_text(out / "metrics.json", json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n")
    write_text(out / "per_image.csv", _csv(_image_rows(result)))
    best = result.row()
    new = {
        "timestamp": result.timestamp,
        "model": result.name,
        "psnr": f"{best.metrics['psnr'].mean:.4f}",
        "ssim": f"{best.metrics['ssim'].mean:.4f}",
        "num_images": best.num_images,
        "notes": result.notes,
    }
    path = out / HISTORY
    before = path.read_text(encoding="utf-8") if path.is_file() else ",".join(HISTORY_COLUMNS) + "\n"
    write_text(path, before + _csv([new]).partition("\n")[2])


def _image_rows(result: Evaluation) -> list[dict[str, object]]:
    rows = []
    for image in result.images:
        figures = {
            f"{source} {region} {metric}".replace(" ", "_"): value
            for (source, region, metric), value in image.values.items()
        }
        rows.append(
            {"key": image.key, **image.words, "cover": image.cover, "gain_db": image.gain(), **figures}
        )
    return rows


def _csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
