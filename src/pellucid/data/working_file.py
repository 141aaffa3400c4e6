"""Writing a scene: working files from which an interrupted call resumes, then a Cloud-Optimized GeoTIFF."""

import errno
import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from pellucid.data.checked_raster import NOT_READ_BACK, are_equal, checksum
from pellucid.data.digests import check_archive, seal_archive
from pellucid.data.files import (
    beside,
    check_writable,
    clear_orphans,
    existing_folder,
    flush,
    temporary_beside,
    write_atomically,
)
from pellucid.data.gdal_open import GDAL_ERRORS, first_line, open_raster
from pellucid.data.scene_layers import Labels, create_layer
from pellucid.errors import WriteError, explain

# Side in pixels of the blocks of the working file, which is not compressed, so that they can be written again
# in place, and of the result.
WORKING_BLOCK, BLOCK = 256, 512
# Side in pixels of the windows in which the result is read back.
CHECKED = 2 * BLOCK
# On Sentinel-2 the lowest level of compression makes files as small as the usual one, in 2/3 of the time.
COG = {"compress": "DEFLATE", "level": 1, "predictor": "YES", "num_threads": "ALL_CPUS"}
COG |= {"statistics": "YES", "blocksize": BLOCK, "bigtiff": "IF_SAFER"}
# GDAL makes the overviews in a file of their own first, which it would compress too, in 40 % of all its time.
MAKING = {"COG_TMP_COMPRESSION": "NONE"}
# How GDAL says that a file could not take more.
NOT_TAKEN = re.compile(r"TIFF(Append|Write|Flush)|write error", re.IGNORECASE)
# Said where rows that are finished cannot be used.
OTHER = (
    "an interrupted call began {out} with other inputs, options, weights or number of CPU threads "
    "(OMP_NUM_THREADS), so that it begins anew"
)
# Endings of the working rasters beside the result, by what they hold.
ENDINGS = {
    "result": ".partial.tif",
    "std": ".partial.std.tif",
    "painted": ".partial.painted.tif",
    "weight": ".partial.weight.tif",
}


class WorkingFile:
    """A scene that is being written, beside its final path: uncompressed rasters and a note of what is done.

    The rasters are the result, its standard deviation, what was painted in it and, until the end, the share
    of what is new in it, where wanted. The note has a checksum of everything that was written, and a digest
    of its own. Whoever writes the scene has claimed it, see `pellucid.data.claims`.

    Args:
        out: final path of the result.
        source: open dataset whose grid, type, nodata, band names, tags and scales are kept.
        key: digest of what the rows are made of; a working file with another key is begun anew, and so is one
            that was damaged, both after a warning.
        resume: go on with a working file that is there.
        std: final path of a standard deviation, float32 in the bands of the source; None: none is written.
        painted: final path of where and how much was painted, one band of uint8; None: none is written.
        with_weight: keep a share, one band of float32, until the end.
        labels: what the rasters say of themselves.

    Attributes:
        num_done: rows of tiles that are finished, and noted.
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
        painted: Path | None = None,
        with_weight: bool = False,
        labels: Labels | None = None,
    ) -> None:
        wanted = {"result": out, "std": std, "painted": painted}
        self.outs = {name: path for name, path in wanted.items() if path}
        for path in self.outs.values():
            check_writable(path)
        self.out, self.key = out, key
        names = [*self.outs, *(["weight"] if with_weight else [])]
        self.paths = {name: beside(out, ENDINGS[name]) for name in names}
        self.note = beside(out, ".partial.npz")
        clear_orphans(self.note)
        self.num_done, self.state = 0, dict[str, NDArray[Any]]()
        # What was written, and is noted: raster by its number, row, column, height, width, checksum.
        self.parts: list[list[int]] = []
        self.num_noted = 0
        self.datasets: dict[str, Any] = {}
        self.files: dict[str, os.stat_result] = {}
        if resume and self._go_on():
            return
        self.discard()
        check_room(self._needed(source))
        try:
            for name, path in self.paths.items():
                create_layer(path, source, name, block=WORKING_BLOCK, labels=labels or Labels())
        except (OSError, *GDAL_ERRORS) as error:
            self.discard()
            raise explain_write_error(out, error) from error
        self._open()

    def write(self, layers: Mapping[str, NDArray[Any]], row: int, column: int) -> None:
        """Write part of each raster, (C, H, W), with its first pixel at the row and column."""
        for name, values in layers.items():
            height, width = values.shape[1:]
            self.datasets[name].write(values, window=Window(column, row, width, height))
            stored = values.astype(self.datasets[name].dtypes[0])
            number = list(self.paths).index(name)
            self.parts.append([number, row, column, height, width, checksum(stored)])

    def checkpoint(self, num_done: int, state: Mapping[str, NDArray[Any]]) -> None:
        """Flush everything to the disk and read it back, then note how many rows of tiles are done."""
        self.close()
        for path in self.paths.values():
            flush(path, forget=True)
        self._open()
        if not self._holds(self.parts[self.num_noted :]):
            raise OSError(errno.EIO, NOT_READ_BACK)
        self.num_noted = len(self.parts)
        note = {"_key": np.array(self.key), "_num_done": np.array(num_done), "_parts": np.array(self.parts)}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **note, **state)
            seal_archive(temporary)

        write_atomically(self.note, write)
        self.num_done = num_done

    def finish(
        self,
        revise: Callable[[Path, Path], None] | None = None,
        meanwhile: Callable[[Mapping[str, Path]], None] | None = None,
    ) -> None:
        """Write the final files, compressed and with overviews, read them back, and drop the working file.

        They appear together, when all are written. Before, `revise` is called with a copy of the result, to
        be changed in place, and the weights; while they are written, another thread calls `meanwhile` with
        the rasters of which they are made, by name.
        """
        self.close()
        with ExitStack() as stack:
            made = dict(self.paths)
            if revise:
                made["result"] = stack.enter_context(temporary_beside(self.out))
                shutil.copyfile(self.paths["result"], made["result"])
                revise(made["result"], self.paths["weight"])
            # Here, for both threads: what each of them changes of the filters is undone in any order.
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with ThreadPoolExecutor(1) as beside:
                done = beside.submit(meanwhile, made) if meanwhile else None
                staged = {out: stack.enter_context(stage_cog(made[n], out)) for n, out in self.outs.items()}
                if done:
                    done.result()
            for out, temporary in staged.items():
                temporary.replace(out)
        self.discard()

    def close(self) -> None:
        """Close the working file and leave it for a later call."""
        for dataset in self.datasets.values():
            dataset.close()

    def discard(self) -> None:
        """Remove the working file and its note."""
        for path in (self.note, *(beside(self.out, ending) for ending in ENDINGS.values())):
            path.unlink(missing_ok=True)

    def _open(self) -> None:
        """Open the rasters, which must be the files that they were when they were opened before."""
        self._check_same()
        self.datasets = {name: open_raster(path, "r+") for name, path in self.paths.items()}
        self._check_same()  # nor replaced before they were open

    def _check_same(self) -> None:
        for name, path in self.paths.items():
            found = path.stat()
            if not os.path.samestat(found, self.files.setdefault(name, found)):
                raise OSError(errno.ESTALE, f"{path.name} was replaced while it was being written")

    def _go_on(self) -> bool:
        """Open the working file of an earlier call; return False if there is none that fits and is whole."""
        if not self.note.exists():
            return False
        try:
            check_archive(self.note, must_have=True)
            with np.load(self.note) as note:
                state = dict(note)
            if str(state.pop("_key")) != self.key:
                warnings.warn(OTHER.format(out=self.out), stacklevel=3)
                return False
            self.num_done, self.parts = int(state.pop("_num_done")), state.pop("_parts").tolist()
            self.state, self.num_noted = state, len(self.parts)
            self._open()
            if self._holds(self.parts):
                return True
            self.close()
        except (OSError, EOFError, ValueError, KeyError, BadZipFile, *GDAL_ERRORS):
            pass  # as a part that does not read back
        warnings.warn(f"what an interrupted call left of {self.out} is damaged; it begins anew", stacklevel=3)
        self.num_done, self.state, self.parts, self.num_noted, self.files = 0, {}, [], 0, {}
        return False

    def _holds(self, parts: Sequence[Sequence[int]]) -> bool:
        """Return whether parts of the rasters are as they were written."""
        names = list(self.paths)
        for number, row, column, height, width, wanted in parts:
            window = Window(column, row, width, height)
            if checksum(self.datasets[names[number]].read(window=window)) != wanted:
                return False
        return True

    def _needed(self, source: Any) -> Mapping[Path, int]:
        """Return the bytes that the working files and the results take, by folder."""
        size = layer_bytes(source)
        needed = Counter({self.out.parent: sum(size[name] for name in self.paths)})
        if "weight" in self.paths:  # a copy of the result, to be changed
            needed[self.out.parent] += size["result"]
        for name, out in self.outs.items():
            needed[out.parent] += size[name]
        return needed


def layer_bytes(source: Any) -> dict[str, int]:
    """Return the bytes of each raster that may be written of an open scene, not compressed."""
    pixels = source.width * source.height
    size = {"result": pixels * source.count * np.dtype(source.dtypes[0]).itemsize, "painted": pixels}
    return size | {"std": 4 * pixels * source.count, "weight": 4 * pixels}


def check_scene_room(out: Path, source: Any) -> None:
    """Refuse to read a scene whose working file the disk cannot hold, unless an earlier call has made it."""
    if not beside(out, ENDINGS["result"]).exists():
        check_room({existing_folder(out.parent): layer_bytes(source)["result"]})


def check_room(needed: Mapping[Path, int]) -> None:
    """Refuse to begin if the disk cannot hold what is to be written, in bytes by folder."""
    for folder, num_bytes in needed.items():
        free = shutil.disk_usage(folder).free
        if num_bytes > free:
            raise WriteError(
                f"{folder} has {in_bytes(free)} free, {in_bytes(num_bytes)} may be needed; "
                "free the disk or choose another folder"
            )


def in_bytes(number: float) -> str:
    """Return a number of bytes for a sentence: "3.2 GB", "0.4 MB"."""
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"


def write_cog(made: Path, out: Path, *, overviews: str = "average") -> None:
    """Write a finished GeoTIFF to `out`, whole or not at all, compressed, with overviews, and read it back.

    `overviews` is how GDAL resamples them; classes need "mode".
    """
    with stage_cog(made, out, overviews=overviews) as temporary:
        temporary.replace(out)


@contextmanager
def stage_cog(made: Path, out: Path, *, overviews: str = "average") -> Iterator[Path]:
    """Yield a temporary file beside `out`, as `write_cog` writes it; it is deleted unless it was renamed.

    It holds the statistics of its bands, so that a GIS need not look at all pixels to show them.
    """
    with temporary_beside(out) as temporary:
        # Where a disk is full GDAL does not say so, or goes on.
        check_full = partial(check_room, {out.parent: made.stat().st_size * 4 // 3})
        try:
            with warnings.catch_warnings(), rasterio.Env(**MAKING):
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                rasterio.shutil.copy(made, temporary, driver="COG", overview_resampling=overviews, **COG)
            flush(temporary, forget=True)
            is_whole = are_equal(made, temporary, side=CHECKED)
        except GDAL_ERRORS:
            check_full()
            raise
        if not is_whole:
            check_full()
            raise WriteError(f"{out} {NOT_READ_BACK.removeprefix('it ')}, check the disk")
        yield temporary


def explain_write_error(out: Path, error: Exception) -> WriteError:
    """Return an error of the disk, or of the library that writes to it, as one for users."""
    if isinstance(error, OSError) and not isinstance(error, RasterioError):
        return WriteError(f"cannot write {out}: {explain(error)}")
    reason = first_line(error) if isinstance(error, GDAL_ERRORS) else str(error)
    if NOT_TAKEN.search(reason):
        reason = f"the disk, which may be full, took no more ({reason})"
    return WriteError(f"cannot write {out}: {reason}; free the disk or choose another folder")
