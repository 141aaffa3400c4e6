"""A scene on its way to the disk: rows that survive a crash, then one Cloud-Optimized GeoTIFF."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from pellucid.data.geotiff import check_writable, first_line, flush, open_raster, temporary_beside
from pellucid.errors import InputError

# Side in pixels of the blocks of the file, of the working file (uncompressed, so that blocks can be
# written again in place) and of the result.
WORKING_BLOCK, BLOCK = 256, 512


class WorkingFile:
    """An uncompressed copy-to-be of a scene, beside the final path, with a note of what is done.

    Args:
        out: final path.
        source: open dataset whose grid, type, nodata, band names, tags and scales are kept.
        key: tells apart what the rows are made of; a working file with another key is begun anew.
        resume: go on with a working file that is there.

    Attributes:
        num_done: rows of tiles that an earlier call has finished.
        counts: numbers kept with them.

    Raises:
        InputError: if the folder cannot be written to or the disk has too little room.
    """

    def __init__(self, out: Path, source: Any, *, key: str, resume: bool) -> None:
        check_writable(out)
        self.out, self.key = out, key
        self.path = out.with_name(f".{out.name}.partial.tif")
        self.note = out.with_name(f".{out.name}.partial.json")
        self.num_done, self.counts = 0, [0, 0, 0]
        if not (resume and self._read_note()):
            self.discard()
            _check_room(out, source)
            try:
                self._create(source)
            except (OSError, RasterioError) as error:
                self.discard()
                raise explain_write_error(out, error) from error
        self.dataset = open_raster(self.path, "r+")

    def write(self, values: NDArray[Any], row: int, column: int) -> None:
        """Write (C, H, W), as stored, with its first pixel at the row and column."""
        window = Window(column, row, values.shape[2], values.shape[1])
        self.dataset.write(values, window=window)

    def checkpoint(self, num_done: int, counts: list[int]) -> None:
        """Bring all that is written to the disk, then note that so many rows of tiles are done."""
        self.dataset.close()
        flush(self.path)
        text = json.dumps({"key": self.key, "num_done": num_done, "counts": counts})
        with temporary_beside(self.note) as temporary:
            temporary.write_text(text, encoding="utf-8")
            flush(temporary)
            temporary.replace(self.note)
        self.dataset = open_raster(self.path, "r+")

    def finish(self) -> None:
        """Write the final file, compressed and with overviews, read it back, and drop the working file.

        Raises:
            InputError: if the result does not read back as it was written.
        """
        self.close()
        options = {"compress": "DEFLATE", "predictor": "YES", "blocksize": BLOCK, "bigtiff": "IF_SAFER"}
        with temporary_beside(self.out) as temporary:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                rasterio.shutil.copy(
                    self.path, temporary, driver="COG", overview_resampling="average", **options
                )
            flush(temporary)
            self._verify(temporary)
            temporary.replace(self.out)
        self.discard()

    def close(self) -> None:
        """Close the working file and leave it for a later call."""
        self.dataset.close()

    def discard(self) -> None:
        """Remove the working file and its note."""
        self.note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _read_note(self) -> bool:
        """Take up what an earlier call has done; False if there is nothing of use."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
            usable = bool(note["key"] == self.key) and self.path.exists()
            if usable:
                self.num_done, self.counts = note["num_done"], note["counts"]
        except (OSError, ValueError, KeyError):
            return False
        return usable

    def _create(self, source: Any) -> None:
        profile = {name: source.profile.get(name) for name in ("dtype", "count", "crs", "width", "height")}
        tiling = {"tiled": True, "blockxsize": WORKING_BLOCK, "blockysize": WORKING_BLOCK}
        if not source.transform.is_identity:
            profile["transform"] = source.transform
        with open_raster(
            self.path, "w", driver="GTiff", bigtiff="IF_SAFER", nodata=source.nodata, **tiling, **profile
        ) as copy:
            copy.descriptions, copy.units = source.descriptions, source.units
            copy.scales, copy.offsets = source.scales, source.offsets
            copy.colorinterp = source.colorinterp
            copy.update_tags(**source.tags())
            for band in source.indexes:
                tags = source.tags(band)
                copy.update_tags(band, **{k: v for k, v in tags.items() if not k.startswith("STATISTICS_")})

    def _verify(self, written: Path) -> None:
        """Compare the first and the last block of the written file with what it was made of."""
        with open_raster(self.path) as made, open_raster(written) as read:
            if (made.shape, made.dtypes) != (read.shape, read.dtypes):
                raise InputError(f"{self.out} did not read back as written, check the disk")
            height, width = (min(BLOCK, side) for side in made.shape)
            for row, column in ((0, 0), (made.height - height, made.width - width)):
                window = Window(column, row, width, height)
                if not np.array_equal(
                    made.read(window=window), read.read(window=window), equal_nan=made.dtypes[0][0] == "f"
                ):
                    raise InputError(f"{self.out} did not read back as written, check the disk")


def explain_write_error(out: Path, error: Exception) -> InputError:
    """Return what to tell a user about an error of the disk or the library that writes to it."""
    reason = first_line(error) if isinstance(error, RasterioError) else getattr(error, "strerror", str(error))
    return InputError(f"cannot write {out}: {reason}; free the disk or choose another folder")


def _check_room(out: Path, source: Any) -> None:
    """Refuse to begin if the disk cannot hold the working file and the result."""
    needed = 2 * source.width * source.height * source.count * np.dtype(source.dtypes[0]).itemsize
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise InputError(
            f"cannot write {out}: {out.parent} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are "
            "needed; free the disk or choose another folder"
        )
