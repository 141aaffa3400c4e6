"""Cloud maps: masks, probabilities, percent and scene classifications, told by the set of their values."""

import logging
import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window

from pellucid.data.geotiff import SAMPLE, Grid, Raster
from pellucid.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

# Classes of Sen2Cor's scene classification (SCL) that hide the ground: cloud shadow, medium and high
# probability of cloud, thin cirrus (Sentinel-2 Level-2A algorithm theoretical basis document).
SCL_CLOUD, SCL_LAST = (3, 8, 9, 10), 11
# Numbers that mark missing data: beside 1 or percent, in masks; beside percent; below 0, undeclared.
OUTSIDE, ABOVE_PERCENT = 255.0, (101.0, 127.0, 254.0)
NEGATIVE_FILLS = (-1.0, -99.0, -999.0, -9999.0, -32768.0, -99999.0)
# So few different values are classes unless one is 100; so many up to 255 are probabilities.
FEW_VALUES, MANY_VALUES = 6, 64
# Side of the windows in which all values are looked at, in pixels; and how many are named in a sentence.
WINDOW, NAMED = 2048, 12
# A map that covers less of the scene than this is no map of it: its edge alone may lack a pixel.
COVERED = 0.99
# What `pellucid clouds` calls the band of its masks and maps, which need no interpretation.
OWN = ("cloud mask", "cloud probability")
# Words in the name of a file or band: scene classifications, other classes, percent (MSK_CLDPRB and CLD of
# Level-2A products among them), 0 to 255 (CLP of Sentinel Hub); what is high where it is clear (Cloud Score+
# and its like), of a band and of a file.
SCL, CLASSES, PERCENT, BYTE, MASK, CLEAR, CLEAR_FILE = (
    re.compile(rf"(?<![a-z])({words})(?![a-z])", re.IGNORECASE)
    for words in (
        "scl",
        "fmask|class(es|ification)?|qa",
        "cldprb|cld|(cloud_?)?probability|percent",
        "clp",
        "mask",
        "cs(_cdf)?|clear(ness)?",
        r"cs_cdf|cs(?=_?\d*$)|cloud_?score_?plus|clearness",
    )
)
log = logging.getLogger(__name__)


class CloudRaster(Raster):
    """A cloud map of one band: a mask (0, 1 or 0, 255), probabilities (0 ... 1), percent (0 ... 100), or SCL.

    Values that may be classes are refused, unless the name of the file or band says that they are those of a
    scene classification. `high` is the value that means certainly cloud.

    Args:
        path: GeoTIFF.
        is_patch: it is small, one of many of a dataset, so that few different values do not make classes.
        scale: the value that means certainly cloud, as the user says it; None: the values tell.
    """

    def __init__(self, path: Path, *, is_patch: bool = False, scale: float | None = None) -> None:
        super().__init__(path, "cloud map")
        self.is_patch = is_patch
        try:
            if len(self.numbers) != 1:
                raise InputError(
                    f"the cloud map {path} has {len(self.numbers)} bands, must have one; give that one alone"
                )
            self.number = self.numbers[0]
            if scale is None and self._is_named(BYTE) and self.dataset.dtypes[self.number - 1] == "uint8":
                scale = OUTSIDE
                self.doubts.append(
                    f"{path}: 255 is taken for certainly cloud, as its name says; if it holds percent, add "
                    "--cloud-scale 100"
                )
            self.scale, self.high, self.is_classes = scale, scale or 1.0, False
            self.marks = [self.dataset.nodata or 0.0]  # what is missing is 0, as what is clear
            self._interpret(self._find_values())
        except InputError:
            self.close()
            raise

    def align(self, grid: Grid, *, allowed: bool) -> None:
        """Do as all rasters do, and say what of the grid the map leaves out."""
        super().align(grid, allowed=allowed)
        if self.covered < COVERED and self.fill != 0:  # where 0 is no data, so is what is clear
            share = 100 * self.covered
            log.warning("%s covers %.0f %% of the scene; the rest counts as clear", self.path, share)

    def read(self, window: Window | None = None, size: int | None = None) -> "Tensor":
        """Return (1, H, W) float32 in [0, 1]; 0 where the map holds no data."""
        import torch

        values = self._read_stored(window, size)
        missing = ~np.isfinite(values) | ~self.read_mask(window, size)
        missing |= np.isin(values, self.marks)
        cloud = np.isin(values, SCL_CLOUD).astype(np.float32) if self.is_classes else values / self.high
        return torch.from_numpy(np.where(missing, np.float32(0), cloud)).clamp(0, 1)

    def _read_stored(self, window: Window | None = None, size: int | None = None) -> NDArray[np.float32]:
        return self.read_array([self.number], window, size).astype(np.float32)

    def _find_values(self) -> NDArray[np.float64]:
        """Return the different values of the map, sorted; of floating point those of a sample."""
        dtype = np.dtype(self.dataset.dtypes[self.number - 1])
        if dtype.kind == "f" or dtype.itemsize > 2:
            values = self._read_stored(size=4 * SAMPLE)[0][self.read_mask(size=4 * SAMPLE)]
            return np.unique(values[np.isfinite(values)]).astype(np.float64)
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
        counts = np.zeros(highest - lowest + 1, np.int64)
        for top, left in product(range(0, self.grid.height, WINDOW), range(0, self.grid.width, WINDOW)):
            height, width = min(WINDOW, self.grid.height - top), min(WINDOW, self.grid.width - left)
            window = Window(left, top, width, height)
            values = self.read_array([self.number], window)[0][self.read_mask(window)]
            counts += np.bincount(values.astype(np.int64) - lowest, minlength=len(counts))
        return (np.flatnonzero(counts) + lowest).astype(np.float64)

    def _interpret(self, values: NDArray[np.float64]) -> None:
        """Set what the values mean, or refuse them."""
        is_own = self.dataset.descriptions[self.number - 1] in OWN
        nodata, has_nodata = self.dataset.nodata, self.dataset.nodata in values
        known = self._drop_fill(values[(values != nodata) | (values == 0)])
        if not known.size:
            raise InputError(f"the cloud map {self.path} holds no data, give another")
        if self.scale is not None:
            self._check_scale(known)
            return
        clear = CLEAR.search(self._band_name) or CLEAR_FILE.search(self.path.stem)
        if clear and not is_own:
            raise InputError(
                f"the cloud map {self.path} is named {clear[0]}, high where it is clear; needed is a map "
                "that is high where it is cloudy: 1 minus this one, or, if this is one, --cloud-scale 1"
            )
        if known.min() < 0 or known.max() > OUTSIDE:
            self._refuse(known)
        if (known == 0).all() and nodata in (1, 100, OUTSIDE) and has_nodata and not is_own:
            self.doubts.append(
                f"{self.path} holds 0 alone, beside {nodata:g}, which it declares as no data: nothing is "
                f"cloud; if {nodata:g} means cloud, take that declaration away"
            )
        is_whole = bool((known == np.rint(known)).all())
        if is_whole and known.max() <= SCL_LAST and self._is_named(SCL):
            self.is_classes, self.resampling = True, Resampling.nearest
            found = ", ".join(map(str, SCL_CLOUD))
            self.doubts.append(
                f"{self.path} is taken for a scene classification, {found} for cloud and shadow"
            )
        elif known.max() > 1:
            self.high = self._find_high(known, is_whole=is_whole)
        elif is_whole and known.max() == 1 and not is_own:
            self._interpret_ones(known)

    def _interpret_ones(self, known: NDArray[np.float64]) -> None:
        """Set what 1 means beside 0 alone."""
        if self._is_named(CLASSES):
            self._refuse(known)
        is_mask, is_percent = self._is_named(MASK), self._is_named(PERCENT)
        if is_mask and not is_percent:
            return
        if is_percent and not is_mask:
            self.high = 100.0
            taken = "percent, as its name says: nothing is cloud; if 1 means cloud, add --cloud-scale 1"
        else:
            taken = "clear and cloud; if they are percent, add --cloud-scale 100"
        self.doubts.append(f"{self.path}: 0 and 1 are taken for {taken}")

    def _check_scale(self, known: NDArray[np.float64]) -> None:
        """Refuse values that are not between 0 and what the user says is cloud."""
        if not 0 <= known.min() <= known.max() <= self.high:
            raise InputError(
                f"the cloud map {self.path} holds values from {known.min():g} to {known.max():g}, and "
                f"--cloud-scale is {self.high:g}; name the value that means certainly cloud"
            )

    def _drop_fill(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values without those that mark missing data, which becomes `fill`."""
        fills = [value for value in values if value in NEGATIVE_FILLS]
        rest = values[~np.isin(values, fills)]
        if rest.size > 1 and self._is_fill(rest[-1], rest[:-1]):
            fills, rest = [*fills, rest[-1]], rest[:-1]
        if len(fills) > 1:
            self._refuse(values)
        self.mark_fills(fills)
        self.marks += fills
        return rest

    def _is_fill(self, highest: float, within: NDArray[np.float64]) -> bool:
        """Return whether the highest value marks missing data beside the others; refuse what may do so."""
        is_mark, top = highest in (OUTSIDE, *ABOVE_PERCENT), within.max()
        if self.scale:
            return is_mark and top <= self.scale < highest
        is_whole = bool((within == np.rint(within)).all())
        if highest <= 100 or top > 100 or (is_whole and top <= SCL_LAST):
            return bool(highest == OUTSIDE and top == 1)
        if is_mark and (highest > ABOVE_PERCENT[0] or not is_whole or self._is_named(PERCENT)):
            return True
        if is_mark or within.size >= MANY_VALUES or top <= 1:
            raise InputError(
                f"the cloud map {self.path} holds values up to {top:g} and {highest:g}, which may mark "
                f"missing data or a cloud; declare it (gdal_edit.py -a_nodata {highest:g}), or say with "
                "--cloud-scale what means certainly cloud"
            )
        return False

    def _find_high(self, known: NDArray[np.float64], *, is_whole: bool) -> float:
        """Return the value that means certainly cloud; refuse what may be classes."""
        is_mask, is_sure = set(known) == {0, OUTSIDE}, self.is_patch or not is_whole
        if is_mask or (known.max() > 100 and (is_sure or known.size >= MANY_VALUES)):
            return OUTSIDE
        if SCL_LAST < known.max() <= 100 and (is_sure or known.size > FEW_VALUES or 100 in known):
            return 100.0
        self._refuse(known)
        raise AssertionError

    @property
    def _band_name(self) -> str:
        texts = self.dataset.descriptions[self.number - 1], self.dataset.units[self.number - 1]
        return " ".join(text or "" for text in texts)

    def _is_named(self, words: re.Pattern[str]) -> bool:
        return words.search(f"{self.path.stem} {self._band_name}") is not None

    def _refuse(self, known: NDArray[np.float64]) -> None:
        named = ", ".join(f"{value:g}" for value in known[:NAMED])
        found = f"the values {named}" if known.size <= NAMED else f"values from {known[0]:g} to {known[-1]:g}"
        scl = ""
        if (known == np.rint(known)).all() and 1 < known.max() <= SCL_LAST and known.min() >= 0:
            scl = (
                " (in a scene classification, 3 is shadow, 8, 9, 10 are cloud: name such a file ..._SCL.tif)"
            )
        raise InputError(
            f"the cloud map {self.path} holds {found}, classes perhaps{scl}; must hold 0 and 1, "
            "probabilities from 0 to 1, or percent up to 100: recode it, or say with --cloud-scale what "
            "means certainly cloud"
        )
