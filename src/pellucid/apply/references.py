"""The other dates that guide a restoration: opened, checked against the scene, and brought to its colours."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from rasterio.windows import Window
from torch import Tensor

from pellucid.apply.options import SceneOptions
from pellucid.data.geotiff import ElsewhereError, Grid
from pellucid.data.harmonise import Colours, date_sums, merge_dates
from pellucid.data.older import FILL_PX, close_holes, repeats
from pellucid.data.ranges import Bands
from pellucid.data.reference import Look, ReferenceRaster, widen
from pellucid.data.sums import Sums
from pellucid.errors import InputError

# Side in pixels of the windows in which dates and scene are compared, and how many mostly suffice.
WINDOW, ENOUGH = 512, 32
# A window of the scene, (1, C, H, W) in [0, 1], and how surely its pixels are clear, (1, 1, H, W).
Clear = Callable[[Window], tuple[Tensor, Tensor]]
log = logging.getLogger(__name__)


class NoClearReferenceError(InputError):
    """No other date is clear where the scene is."""


class References:
    """Other dates of a scene, open on its grid; without any it is empty, and false.

    Args:
        paths: of the files.
        grid: of the scene.
        options: `align` and `bands` count.
        stack: closes the files.
        must_guide: refuse dates of which none can guide the scene; else it is restored without them.

    Attributes:
        left_out: files that cannot guide, for they are elsewhere, or nowhere clear where the scene is.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        grid: Grid,
        options: SceneOptions,
        stack: ExitStack,
        *,
        must_guide: bool = True,
    ) -> None:
        self.grid, self.dates, self.must_guide = grid, list[ReferenceRaster](), must_guide
        self.colours: list[Colours] = []
        self.left_out: list[Path] = []
        self.scene: tuple[Look, Bands] | None = None
        for path in paths:
            date = ReferenceRaster(path, named=options.bands)
            stack.callback(date.raster.close)
            date.raster.log_doubts()
            try:
                date.raster.align(grid, allowed=options.align)
            except ElsewhereError as error:
                if must_guide:
                    raise
                self._leave_out(path, str(error))
            else:
                self.dates.append(date)

    def __len__(self) -> int:
        return len(self.dates)

    def fit(self, clear: Clear, bands: Bands) -> None:
        """Find how each date becomes the scene, from pixels that are clear in both.

        Dates without such pixels, and the scene itself, are left out, with a warning.

        Raises:
            NoClearReferenceError: if none is left, and one must be.
        """
        self.scene = (lambda window: clear(window)[0], bands)
        windows = list(_windows(self.grid))
        step = -(-len(windows) // ENOUGH)
        first = windows[::step]
        others = set[ReferenceRaster]()
        sums = self._compare(first, clear, bands, others)
        is_open = len(others) < len(self.dates) or not all(_has_common(each) for each in sums)
        if step > 1 and is_open:
            rest = [window for i, window in enumerate(windows) if i % step]
            more = self._compare(rest, clear, bands, others)
            sums = [a + b if a and b else a or b for a, b in zip(sums, more, strict=True)]
        compared = list(zip(self.dates, sums, strict=True))
        found = [(date, each) for date, each in compared if each and _has_common(each) and date in others]
        fitting = [date for date, _ in found]
        for date, each in compared:
            if date in fitting:
                continue
            path = date.raster.path
            fault = f"the reference {path} has no clear pixel in common with the scene"
            way_out = "give one that is clear where the scene is, or leave it out"
            if _has_common(each):
                fault, way_out = f"the reference {path} is the scene itself", "give another date"
            elif not any(sums):
                way_out = "which shows no ground whose colours it could take; leave it out"
            if self.must_guide and not fitting:
                raise NoClearReferenceError(f"{fault}, {way_out}")
            self._leave_out(path, fault)
        self.dates = fitting
        self.colours = [Colours(each, date.bands, bands) for date, each in found]

    def read(self, window: Window) -> Tensor:
        """Return all dates in the scene's bands and colours, (1, C, H, W), NaN where none is clear near."""
        wide, (rows, columns) = widen(window, FILL_PX, self.grid)
        images = [
            colours.apply(date.read(wide, self.scene))
            for date, colours in zip(self.dates, self.colours, strict=True)
        ]
        return close_holes(merge_dates(images, self.colours))[..., rows, columns]

    def _leave_out(self, path: Path, why: str) -> None:
        log.warning("%s; it is left out", why.partition(", give ")[0])
        self.left_out.append(path)

    def _compare(
        self, windows: Sequence[Window], clear: Clear, bands: Bands, others: set[ReferenceRaster]
    ) -> list[Sums | None]:
        """Return what the windows tell of each date; None if the scene is clear in none of them.

        Dates that show a pixel that is not the scene's own are added to `others`.
        """
        totals: list[Sums | None] = [None] * len(self.dates)
        for window in windows:
            scene, weight = clear(window)
            is_clear = bool(weight.any())
            for i, date in enumerate(self.dates):
                if date in others and not is_clear:
                    continue
                image = date.read(window)
                if (
                    date not in others
                    and (image.isfinite() & ~repeats(image, date.bands, scene, bands)).any()
                ):
                    others.add(date)
                if not is_clear:
                    continue
                found = date_sums(image, scene, weight)
                before = totals[i]
                totals[i] = found if before is None else before + found
        return totals


def _has_common(sums: Sums | None) -> bool:
    """Whether a date and the scene are both clear in any pixel."""
    return sums is not None and bool(sums.count.any())


def _windows(grid: Grid) -> Iterator[Window]:
    """Yield windows that cover the grid, row by row."""
    for top, left in product(range(0, grid.height, WINDOW), range(0, grid.width, WINDOW)):
        yield Window(left, top, min(WINDOW, grid.width - left), min(WINDOW, grid.height - top))
