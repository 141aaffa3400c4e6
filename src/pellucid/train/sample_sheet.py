"""A sheet of training samples as the network will see them: cropped, turned, augmented."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from pellucid.data.batch import Batch
from pellucid.data.drawing import gray_to_rgb, save_picture, sheet, to_picture
from pellucid.methods.method import Method, result_range

# Samples on the sheet.
NUM_SAMPLES = 8
SIDE = 192


def draw_samples(samples: Dataset[Batch], method: Method, path: Path) -> None:
    """Write the first samples of a training, a row each: what goes in, and what is to come out."""
    batches = [samples[i] for i in range(min(NUM_SAMPLES, len(samples)))]  # type: ignore[arg-type]
    panels = [_panels(batch, method) for batch in batches]
    columns = [name for name in panels[0] if all(name in each for each in panels)]
    captions = [", ".join((*batch.key, *(batch.prompt or ()))) for batch in batches]
    rows = [[each[name] for name in columns] for each in panels]
    save_picture(sheet(rows, columns, captions, side=SIDE), path)


def _panels(batch: Batch, method: Method) -> dict[str, NDArray[np.uint8]]:
    """Return a picture of each image of a sample, B = 1, by what it is."""
    bands, valid = result_range(method).bands, batch.valid[0]
    found = {"degraded": to_picture(batch.enlarged()[0], bands, valid)}
    if batch.sar is not None and method.radar.bands:
        found["radar"] = to_picture(batch.sar[0], method.radar.bands)
    if batch.older is not None:
        found["older"] = to_picture(batch.older[0], bands, valid)
    if batch.cloud is not None:
        found["cloud"] = gray_to_rgb(batch.cloud[0])
    if batch.target is not None:
        found["target"] = to_picture(batch.target[0], bands, valid)
    return found
