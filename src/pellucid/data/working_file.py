"""Writing a scene: working files from which an interrupted call resumes, then a Cloud-Optimized GeoTIFF."""

import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from pellucid.data.files import check_writable, flush, temporary_beside, write_atomically
from pellucid.data.geotiff import copy_mask, first_line, georeference, open_raster
from pellucid.errors import InputError

# Side in pixels of the blocks of the working file, which is not compressed, so that they can be written again
# in place, and of the result.
WORKING_BLOCK, BLOCK = 256, 512


class WorkingFile:
    """A scene that is being written, beside its final path: uncompressed rasters and a note of what is done.

    The rasters are the result, its standard deviation and the share of what is new in it, where wanted.

    Args:
        out: final path of the result.
        source: open dataset whose grid, type, nodata, band names, tags and scales are kept.
        key: digest of what the rows are made of; a working file with another key is begun anew.
        resume: go on with a working file that is there.
        std: final path of a standard deviation, float32 in the bands of the source; None: none is written.
        with_weight: keep a share, one band of float32, until the end.

    Attributes:
        num_done: rows of tiles that an earlier call has finished.
        state: arrays kept with them.
    """

    def __init__(
        self,
        out: Path,
        source: Any,
        *,
        key: str,
        resume: bool,
        std: Path | None = None,
        with_weight: bool = False,
    ) -> None:
        self.outs = {"result": out} | ({"std": std} if std else {})
        for path in self.outs.values():
            check_writable(path)
        self.out, self.key = out, key
        names = [*self.outs, *(["weight"] if with_weight else [])]
        suffixes = {name: "" if name == "result" else f".{name}" for name in names}
        self.paths = {name: out.with_name(f".{out.name}.partial{end}.tif") for name, end in suffixes.items()}
        self.note = out.with_name(f".{out.name}.partial.npz")
        self.num_done, self.state = 0, dict[str, NDArray[Any]]()
        self.datasets: dict[str, Any] = {}
        if not (resume and self._read_note()):
            self.discard()
            check_room(self._needed(source))
            try:
                for name, path in self.paths.items():
                    _create(path, source, name)
            except (OSError, RasterioError) as error:
                self.discard()
                raise explain_write_error(out, error) from error
        self._open()

    def write(self, layers: Mapping[str, NDArray[Any]], row: int, column: int) -> None:
        """Write part of each raster, (C, H, W), with its first pixel at the row and column."""
        for name, values in layers.items():
            window = Window(column, row, values.shape[2], values.shape[1])
            self.datasets[name].write(values, window=window)

    def checkpoint(self, num_done: int, state: Mapping[str, NDArray[Any]]) -> None:
        """Flush everything to the disk, then note how many rows of tiles are done."""
        self.close()
        for path in self.paths.values():
            flush(path)
        note = {"_key": np.array(self.key), "_num_done": np.array(num_done), **state}
        write_atomically(self.note, lambda temporary: np.savez(temporary, allow_pickle=False, **note))
        self._open()

    def finish(self, revise: Callable[[Path, Path], None] | None = None) -> None:
        """Write the final files, compressed and with overviews, read them back, and drop the working file.

        They appear together, when all are written. Before, `revise` is called with a copy of the result, to
        be changed in place, and the weights.
        """
        self.close()
        with ExitStack() as stack:
            made = dict(self.paths)
            if revise:
                made["result"] = stack.enter_context(temporary_beside(self.paths["result"]))
                shutil.copyfile(self.paths["result"], made["result"])
                revise(made["result"], self.paths["weight"])
            staged = {out: stack.enter_context(stage_cog(made[name], out)) for name, out in self.outs.items()}
            for out, temporary in staged.items():
                temporary.replace(out)
        self.discard()

    def close(self) -> None:
        """Close the working file and leave it for a later call."""
        for dataset in self.datasets.values():
            dataset.close()

    def discard(self) -> None:
        """Remove the working file and its note."""
        self.note.unlink(missing_ok=True)
        for path in self.paths.values():
            path.unlink(missing_ok=True)

    def _open(self) -> None:
        self.datasets = {name: open_raster(path, "r+") for name, path in self.paths.items()}

    def _read_note(self) -> bool:
        """Load the state of an earlier call; return False if there is none that fits."""
        try:
            with np.load(self.note) as note:
                state = dict(note)
            usable = str(state.pop("_key")) == self.key and all(path.exists() for path in self.paths.values())
            if usable:
                self.num_done, self.state = int(state.pop("_num_done")), state
        except (OSError, EOFError, ValueError, KeyError, BadZipFile):
            return False
        return usable

    def _needed(self, source: Any) -> Mapping[Path, int]:
        """Return the bytes that the working files and the results take, by folder."""
        pixels = source.width * source.height
        size = {"result": pixels * source.count * np.dtype(source.dtypes[0]).itemsize, "weight": 4 * pixels}
        size["std"] = 4 * pixels * source.count
        needed = Counter({self.out.parent: sum(size[name] for name in self.paths)})
        if "weight" in self.paths:  # a copy of the result, to be changed
            needed[self.out.parent] += size["result"]
        for name, out in self.outs.items():
            needed[out.parent] += size[name]
        return needed


def check_room(needed: Mapping[Path, int]) -> None:
    """Refuse to begin if the disk cannot hold what is to be written, in bytes by folder."""
    for folder, num_bytes in needed.items():
        free = shutil.disk_usage(folder).free
        if num_bytes > free:
            raise InputError(
                f"{folder} has {free / 1e9:.1f} GB free, {num_bytes / 1e9:.1f} GB may be needed; "
                "free the disk or choose another folder"
            )


def _create(path: Path, source: Any, name: str) -> None:
    """Make the empty raster of that name on the grid of the source."""
    profile = {"width": source.width, "height": source.height, **georeference(source)}
    profile |= {"tiled": True, "blockxsize": WORKING_BLOCK, "blockysize": WORKING_BLOCK}
    if name == "result":
        profile |= {"dtype": source.profile.get("dtype"), "count": source.count, "nodata": source.nodata}
    else:
        profile |= {"dtype": "float32", "count": source.count if name == "std" else 1}
        profile |= {"nodata": np.nan if name == "std" else None}
    with open_raster(path, "w", driver="GTiff", bigtiff="IF_SAFER", **profile) as copy:
        if name == "weight":
            return
        copy.descriptions, copy.units, copy.scales = source.descriptions, source.units, source.scales
        if name == "std":  # a difference has no offset, and the tags of the scene do not apply to it
            return
        copy_mask(source, copy)
        copy.offsets = source.offsets
        copy.colorinterp = source.colorinterp
        copy.update_tags(**source.tags())
        for band in source.indexes:
            tags = source.tags(band)
            copy.update_tags(band, **{k: v for k, v in tags.items() if not k.startswith("STATISTICS_")})


def write_cog(made: Path, out: Path, *, overviews: str = "average") -> None:
    """Write a finished GeoTIFF to `out`, whole or not at all, compressed, with overviews, and read it back.

    `overviews` is how GDAL resamples them; classes need "mode".
    """
    with stage_cog(made, out, overviews=overviews) as temporary:
        temporary.replace(out)


@contextmanager
def stage_cog(made: Path, out: Path, *, overviews: str = "average") -> Iterator[Path]:
    """Yield a temporary file beside `out`, as `write_cog` writes it; it is deleted unless it was renamed."""
    options = {"compress": "DEFLATE", "predictor": "YES", "blocksize": BLOCK, "bigtiff": "IF_SAFER"}
    with temporary_beside(out) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            rasterio.shutil.copy(made, temporary, driver="COG", overview_resampling=overviews, **options)
        flush(temporary)
        _verify(made, temporary, out)
        yield temporary


def _verify(made: Path, written: Path, out: Path) -> None:
    """Compare the first and the last block of the written file with what it was made of."""
    with open_raster(made) as source, open_raster(written) as read:
        height, width = (min(BLOCK, side) for side in source.shape)
        is_same = (source.shape, source.dtypes) == (read.shape, read.dtypes)
        for row, column in ((0, 0), (source.height - height, source.width - width)):
            window = Window(column, row, width, height)
            is_same = is_same and np.array_equal(
                source.read(window=window), read.read(window=window), equal_nan=source.dtypes[0][0] == "f"
            )
    if not is_same:
        raise InputError(f"{out} did not read back as written, check the disk")


def explain_write_error(out: Path, error: Exception) -> InputError:
    """Return an error of the disk, or of the library that writes to it, as one for users."""
    reason = first_line(error) if isinstance(error, RasterioError) else getattr(error, "strerror", str(error))
    return InputError(f"cannot write {out}: {reason}; free the disk or choose another folder")
