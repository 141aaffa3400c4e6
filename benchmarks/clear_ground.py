"""What a model that takes clouds off does to scenes that have none: the best answer is to change nothing.

    python -m benchmarks.clear_ground [MODEL]

Clear dates of `sen12mscr` and both dates of `oscd_two_dates`, with radar and, where there is one, the other
date, and without: the share of pixels that change by more than 10 DN in some band, and the PSNR against the
scene itself, at places kept from the training of `ground` and at others. Some dates hold small clouds.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.hidden_ground import restore
from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.datasets._augment_guides import finish_older
from pellucid.datasets.guided_scenes import Config, GuidedScenes
from pellucid.methods.method import Method
from pellucid.metrics import psnr

DATA = Path(os.environ.get("PELLUCID_DATA", "../shared/data"))
KEPT_OUT = ("oriolac_5349", "oriolac_6317", "ROIs1970_fall_139", "milano", "rio", "hongkong", "montpellier")
CHANGED, BEST_DB = 10 / 10_000, 60.0


def main() -> None:
    """Print the table."""
    name = sys.argv[1] if len(sys.argv) > 1 else "ground"
    method = load(name, device="cpu")
    table = Table("places", "guides", "scenes", "pixels changed, mean", "median", "PSNR, 60 dB at most")
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for batch in track(read_scenes(), "clear scenes"):
        places = "kept from training" if Path(batch.key[0]).name.startswith(KEPT_OUT) else "in training"
        bare = replace(batch, sar=None if name == "ground" else batch.sar, older=None)
        for guides, given in (("all", batch), ("none", bare)):
            found.setdefault((places, guides), []).append(change(method, given))
    for (places, guides), rows in found.items():
        shares, figures = torch.tensor(rows).T
        values = f"{shares.mean():.1%}", f"{shares.median():.1%}", f"{figures.mean():.1f} dB"
        table.add_row(places, guides, str(len(rows)), *values)
    Console().print(name, table)


def read_scenes() -> list[Batch]:
    """Return the clear scenes with their guides, cropped to whole strides."""
    cities = DATA / "oscd_two_dates"
    configs = [Config(root=DATA / "sen12mscr" / "s2_cloudfree", radar_root=DATA / "sen12mscr" / "s1")]
    for date, other in (("newer", "older"), ("older", "newer")):
        folders = {"root": cities / f"s2_{date}", "older_root": cities / f"s2_{other}"}
        configs.append(Config(**folders, radar_root=cities / f"s1_{date}"))
    scenes = []
    for config in configs:
        patches = GuidedScenes(config)
        for i in range(len(patches)):
            batch = patches[i]
            height, width = (side // 16 * 16 for side in batch.degraded.shape[-2:])
            images = {n: image[..., :height, :width] for n, image in batch.images().items()}
            cropped = replace(replace(batch, **images), cloud=None)  # type: ignore[arg-type]
            assert cropped.older is not None
            dated = cropped if cropped.older.isfinite().any() else replace(cropped, older=None)
            scenes.append(finish_older(dated, patches.bands))
    return scenes


@torch.inference_mode()
def change(method: Method, batch: Batch) -> tuple[float, float]:
    """Return the share of pixels that change, and the PSNR against the scene itself."""
    image = restore(method, batch)
    known = batch.degraded.isfinite().all(1, keepdim=True) & batch.valid
    error = (image - batch.degraded.nan_to_num()).abs() * known
    share = float(((error.amax(1, keepdim=True) > CHANGED) & known).sum() / known.sum())
    return share, min(float(psnr(image * known, batch.degraded.nan_to_num() * known)), BEST_DB)


if __name__ == "__main__":
    main()
