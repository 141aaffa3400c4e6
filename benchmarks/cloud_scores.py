"""How well the scorers of `pellucid clouds` find simulated clouds at places that none of them was trained on.

    python -m benchmarks.cloud_scores

F1 of the masks as the command makes them, against cloud that hides a tenth of the ground, and half of it; the
mean over the patches of `ground_places.yaml`, with the bands of Level 1C, of Level 2A, and of four.
"""

from pathlib import Path
from statistics import fmean

import numpy as np
from rich.console import Console
from rich.table import Table

from pellucid.apply.cloud_scorers import Scorer, find_scorer, to_mask
from pellucid.apply.options import ScorerName
from pellucid.build.method import load
from pellucid.data.batch import Batch
from pellucid.data.ranges import SENTINEL2
from pellucid.evaluation.sources import read_sources

PLACES = Path(__file__).parent / "ground_places.yaml"
LEVEL_2A = tuple(band for band in SENTINEL2.bands if band != "B10")
BANDS = {"L1C": SENTINEL2.bands, "L2A": LEVEL_2A, "B02, B03, B04, B08": ("B02", "B03", "B04", "B08")}
HIDDEN = (0.1, 0.5)


def main() -> None:
    """Print the table."""
    method = load("ground", device="cpu")
    names: tuple[ScorerName, ...] = ("ground", "built-in", "s2cloudless")
    scorers = {name: find_scorer(name, method=method) for name in names}
    found = read_sources(method, PLACES)
    patches = [found[i] for i in range(len(found))]
    table = Table("scorer", "bands", *(f"F1, {share:.0%} hidden" for share in HIDDEN))
    for name, scorer in scorers.items():
        for title, bands in BANDS.items() if scorer.optional else [("L1C", SENTINEL2.bands)]:
            rows = [score(batch, scorer, bands) for batch in patches]
            table.add_row(name, title, *(f"{fmean(column):.3f}" for column in zip(*rows, strict=True)))
    Console().print(table)


def score(batch: Batch, scorer: Scorer, bands: tuple[str, ...]) -> list[float]:
    """Return F1 of the mask of a patch, by how much a cloud has to hide."""
    at = [SENTINEL2.bands.index(band) for band in bands]
    assert batch.cloud is not None
    assert batch.degraded is not None
    cloud = batch.cloud[0, 0].numpy()
    mask = to_mask(scorer(batch.degraded[0, at], batch.valid[0], bands)) == 1
    valid = batch.valid[0, 0].numpy()
    return [f1(mask & valid, (cloud > share) & valid) for share in HIDDEN]


def f1(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the harmonic mean of precision and recall; 1 where all is clear and said to be."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


if __name__ == "__main__":
    main()
