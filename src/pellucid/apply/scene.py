"""The open inputs of a restoration, checked against each other, and the tiles cut from them."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor

from pellucid.apply.decoded import row_kept
from pellucid.apply.engine import Engine
from pellucid.apply.options import SceneOptions
from pellucid.apply.outputs import SceneOutputs
from pellucid.apply.provenance import tag_of_engine
from pellucid.apply.references import References
from pellucid.apply.restored_share import SPECK_REACH_PX, restored_share
from pellucid.apply.scene_bands import GLANCE, find_range, open_optical
from pellucid.apply.scene_clouds import map_file, open_clouds
from pellucid.data.batch import Batch
from pellucid.data.cloud_score import NEEDED, REACH_PX, cloud_score
from pellucid.data.older import MARGIN, far_from_clouds
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.ranges import SENTINEL1
from pellucid.data.raster import OpticalRaster
from pellucid.data.raster_source import files_of
from pellucid.data.reference import widen
from pellucid.data.resample import fill_gaps
from pellucid.data.scene_layers import Labels
from pellucid.data.tiles import index_of, reflect
from pellucid.errors import InputError, counted
from pellucid.methods.autoencoding import Autoencoding
from pellucid.methods.contrastive import Contrastive
from pellucid.methods.inference import warn_of_unknown
from pellucid.methods.method import Method


@dataclass(frozen=True)
class Tile:
    """One tile, H x W pixels from row `top` and column `left` on, mirrored beyond the scene's edge."""

    top: int
    left: int
    stored: NDArray[Any]  # (bands of the file, H, W)
    weight: NDArray[np.float64]  # (H, W), share of the restored image in the result, from 0 to 1
    batch: Batch  # what the method sees, B = 1
    valid: NDArray[np.bool_]  # (H, W), pixels that hold data
    lacks_radar: NDArray[np.bool_]  # (H, W), cloudy pixels that cannot be restored without radar


class OpenScene:
    """The open inputs, checked against each other and the method, and how to cut tiles from them.

    A method that finds clouds itself sees those of a map alone, and says later what it replaces.
    Arguments as of `restore_scene`; without `out` nothing is written, and there are no `outputs`. `engine`
    has the method with the options' sampling, `tiles` is the grid.
    """

    def __init__(
        self,
        optical: Path,
        out: Path | None,
        *,
        sar: Path | None = None,
        cloud: Path | None = None,
        references: Sequence[Path] = (),
        uncertainty: Path | None = None,
        method: Method,
        options: SceneOptions,
        dates_must_guide: bool = True,
    ) -> None:
        _check_method(method, options, wants_spread=uncertainty is not None)
        if references and not method.takes_older:
            raise InputError(
                "references are given, but this model takes none; leave out --reference or choose another "
                "--model"
            )
        self.options, self.uncertainty = options, uncertainty
        self.shared: tuple[str, ...] = ()  # digests of what other scenes tell
        self.inputs: dict[str, Path | Sequence[Path] | None]
        self.inputs = {"optical": optical, "sar": sar, "references": references, "cloud": cloud}
        self.files = tuple(path for path in (optical, sar, map_file(cloud), *references) if path)
        if out:
            self.outputs = SceneOutputs.of(out, uncertainty, options)
            self.outputs.check(self.files)
        with ExitStack() as stack:
            stack.enter_context(row_kept())
            self.optical = stack.enter_context(open_optical(optical, method, options))
            if method.any_bands:
                method = method.with_bands(find_range(self.optical))
            spread = uncertainty is not None and not method.gives_deviation
            self.engine = Engine(method, options, keep_samples=spread, keep_deviation=uncertainty is not None)
            self.method = self.engine.method
            self.radar = self._open_radar(sar, stack)
            finds, scale = method.finds_clouds, options.cloud_scale
            self.cloud = open_clouds(cloud, optical, finds_clouds=finds, scale=scale)
            stack.callback(self.cloud.close if self.cloud else lambda: None)
            self.optical.log_doubts()
            for raster in filter(None, (self.radar, self.cloud)):
                raster.log_doubts()
                raster.align(self.optical.grid, allowed=options.align)
            self._check_score()
            _refuse_empty(self.optical)
            grid = self.optical.grid
            self.references = References(references, grid, options, stack, must_guide=dates_must_guide)
            self.tiles = self.engine.grid(grid.height, grid.width)
            opened = [self.optical, self.radar, self.cloud, *(date.raster for date in self.references.dates)]
            self.kept_bytes = stack.enter_context(row_kept(opened, self.tiles.tile_height))
            if self.references:
                self.references.fit(self._clear_window, self.optical.bands)
            self.truth = stack.enter_context(self._open_truth(options.truth)) if options.truth else None
            self.inputs |= {"references": [date.raster.path for date in self.references.dates]}
            self.close = stack.pop_all().close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def guides(self) -> str:
        """Return what guides the restoration, for a sentence."""
        radar = "with radar" if self.radar else "without radar"
        if self.radar and len(self.radar.polarisations) < len(SENTINEL1.bands):
            radar = f"with {self.radar.polarisations[0]} radar"
        count = len(self.references)
        dates = f", with {counted(count, 'other date')}" if count else ""
        if left_out := self.references.left_out:
            dates += f", {counted(len(left_out), 'other date')} left out"
        shared = f", with {len(self.shared)} more of its day" if self.shared else ""
        return radar + dates + shared

    @property
    def labels(self) -> Labels:
        """Return what the results say of themselves."""
        at = zip(self.optical.indices, self.optical.bands, strict=True)
        bands = {index: band for index, band in at if index is not None}
        return Labels(tag_of_engine("remove-clouds", self.engine, self.inputs), bands)

    def use(self, collected: Any) -> None:
        """Restore with what the tiles say about all of the scene; see `Method.with_scene`."""
        self.engine.set_scene(collected)
        self.method = self.engine.method

    def share(self, scenes: Mapping[Path, str]) -> None:
        """Note the files in which other scenes of its day tell of the ground, and what is in them."""
        self.inputs |= {"context": list(scenes)}
        self.shared = tuple(scenes.values())

    def key(self) -> str:
        """Return a digest of everything on which the result depends; on a CPU, the threads of a tile too."""
        files = [file for path in self.files for file in files_of(path)]
        stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        is_cpu = self.engine.device.type == "cpu"
        threads = torch.get_num_threads() // self.engine.lanes if is_cpu else None  # of a tile
        about = (self.uncertainty is not None, self.labels, type(self.cloud).__name__, *self.shared)
        return self.engine.key(stamps, *about, threads)

    def cut(self, top: int, left: int, size: tuple[int, int] | None = None) -> Tile:
        """Read one tile, or as many rows and columns as `size` says, and weigh its pixels."""
        grid = self.tiles
        num_rows, num_columns = size or (grid.tile_height, grid.tile_width)
        rows = reflect(top, top + num_rows, grid.height)
        columns = reflect(left, left + num_columns, grid.width)
        first_row, last_row = self._around(rows, grid.height)
        first_column, last_column = self._around(columns, grid.width)
        window = Window(first_column, first_row, last_column - first_column, last_row - first_row)
        inner = index_of(rows - first_row, columns - first_column)

        stored = self.optical.read_array(window=window)
        reflectance, valid = self.optical.to_reflectance(stored, self.optical.read_mask(window))
        unit = self.method.optical.to_unit(reflectance)
        cloud = self._cloud(unit, window)
        weight = self._weight(cloud, valid)[inner]
        if self.method.finds_clouds:
            cloud = torch.from_numpy(weight).float()[None] if self._is_told else None
            weight = valid[0].double().numpy()[inner]
        elif cloud is not None:
            cloud = torch.from_numpy(cloud.numpy()[:, inner[0], inner[1]])
        ok = valid[0].numpy()[inner]
        sar, lacks_radar = None, np.zeros_like(ok)
        if self.radar:
            sar = self.method.radar.to_unit(self.radar.read_db(window)).numpy()[:, inner[0], inner[1]]
            if not self.method.radar_optional:
                has_radar = np.isfinite(sar).all(axis=0)
                lacks_radar = ~has_radar & ok & (weight > 0)
                weight[~has_radar] = 0
                sar = fill_gaps(sar, has_radar)
        batch = Batch(
            degraded=torch.from_numpy(fill_gaps(unit.numpy()[:, inner[0], inner[1]], ok))[None].contiguous(),
            valid=torch.from_numpy(ok)[None, None],
            key=(f"{self.optical.path.stem}_{top}_{left}",),
            sar=None if sar is None else torch.from_numpy(sar)[None].contiguous(),
            cloud=None if cloud is None else cloud[None],
            older=self.references.read(window)[..., inner[0], inner[1]] if self.references else None,
            at=((top, left),),
            prompt=None if self.options.prompt is None else (self.options.prompt,),
        )
        return Tile(top, left, stored[:, inner[0], inner[1]], weight, batch, ok, lacks_radar)

    def glance_clear(self) -> NDArray[np.float64] | None:
        """Return how clear a decimated image of the scene is, (h, w) from 0 to 1; None if nothing says so."""
        if self._is_told or not NEEDED.issubset(self.optical.bands):
            return None
        reflectance, valid = self.optical.read(size=GLANCE // 2)
        cloud = cloud_score(self.method.optical.to_unit(reflectance), self.optical.bands)
        return ((1 - cloud) * valid)[0].double().numpy()

    def clear(self, tile: Tile) -> NDArray[np.float64]:
        """Return (H, W), from 0 to 1: how surely a pixel of the tile shows clear ground, and stays."""
        clear = tile.valid & (tile.weight == 0) & ~tile.lacks_radar
        cloud = tile.batch.cloud
        return clear * (1.0 if cloud is None else 1 - cloud[0, 0].double().numpy())

    def judge(self, tile: Tile, cloud: NDArray[np.float64] | None) -> Tile:
        """Return the tile as a method that finds clouds judged it: weight 1 where it replaces anything.

        `cloud` is (H, W), blended, not larger than the tile; the returned weight has its size. An estimate
        passes clear pixels through, and mixes at the edges of clouds, so no share of it is taken again.
        """
        if cloud is None:
            return tile
        height, width = cloud.shape
        return replace(tile, weight=((cloud > 0) & (tile.weight[:height, :width] > 0)).astype(np.float64))

    def mix(self, tile: Tile, restored: NDArray[np.float64]) -> NDArray[Any]:
        """Return the tile's first pixels as stored, with those restored that have weight.

        `restored` is (C, H, W) in [0, 1], blended, and not larger than the tile.
        """
        height, width = restored.shape[1:]
        result = tile.stored[:, :height, :width].copy()
        weight = tile.weight[:height, :width]
        is_new, is_mixed = weight > 0, ((weight > 0) & (weight < 1)).any()
        values = self.method.optical.from_unit(torch.from_numpy(restored)).numpy()
        with np.errstate(invalid="ignore"):  # what is no data, perhaps infinite, stays as it is
            for value, index in zip(self.optical.to_stored(values), self.optical.indices, strict=True):
                if index is not None:
                    old = result[index - 1]
                    change = np.where(weight < 1, old + weight * (value - old), value) if is_mixed else value
                    np.copyto(old, self.optical.fit(change), where=is_new)
        return self.optical.keep_valid(result, tile.valid[:height, :width] & is_new)

    def spread(self, tile: Tile, deviation: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the standard deviation of the tile's first pixels, (bands of the file, H, W), in its units.

        It is 0 where a pixel or a band passes through, NaN where there is no data. `deviation` is that of the
        restored image, (C, H, W), in shares of [0, 1], and not larger than the tile.
        """
        height, width = deviation.shape[1:]
        result = np.zeros((len(tile.stored), height, width), np.float32)
        low, high = self._limits()
        weighted = tile.weight[:height, :width] * (high - low) * deviation
        for values, index in zip(weighted, self.optical.indices, strict=True):
            if index is not None:
                result[index - 1] = values
        result[:, ~tile.valid[:height, :width]] = np.nan
        return result

    def shift(
        self, stored: NDArray[Any], weight: NDArray[np.floating], change: NDArray[np.float64]
    ) -> NDArray[Any]:
        """Return pixels as stored, with the restored ones changed, but not beyond what is 0 and 1.

        Args:
            stored: (bands of the file, H, W), from `mix`.
            weight: (H, W) share of the restored image in them.
            change: (C, H, W) in shares of [0, 1].
        """
        result = stored.copy()
        for low, high, values, index in zip(*self._limits(), change, self.optical.indices, strict=True):
            if index is not None:
                old = stored[index - 1].astype(np.float64)
                new = old + weight * (high - low) * values
                new = new.clip(np.minimum(low, old), np.maximum(high, old))
                np.copyto(result[index - 1], self.optical.fit(new), where=weight > 0)
        return self.optical.keep_valid(result, weight > 0)

    def _limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what 0 and 1 are in the units of the file, both (C, 1, 1)."""
        zeros = torch.zeros(len(self.optical.bands), 1, 1, dtype=torch.float64)
        low, high = (self.method.optical.from_unit(values).numpy() for values in (zeros, zeros + 1))
        return self.optical.to_stored(low), self.optical.to_stored(high)

    def _open_radar(self, sar: Path | None, stack: ExitStack) -> RadarRaster | None:
        if sar:
            if not self.method.radar.bands:
                raise InputError("radar is given, but this model takes none; leave out --sar")
            named, partial = self.options.polarisations, self.method.any_bands
            units = self.options.sar_units
            return stack.enter_context(RadarRaster(sar, named=named, partial=partial, units=units))
        if self.method.radar_optional:
            return None
        raise InputError(
            "no radar is given and this model needs it; add --sar S1.tif or choose another model"
        )

    def _open_truth(self, path: Path) -> OpticalRaster:
        truth = OpticalRaster(path, self.optical.bands, offset=self.options.offset)
        if not truth.grid.matches(self.optical.grid):
            raise InputError(f"the truth {path} has another grid than the scene; give one on the same grid")
        return truth

    def _check_score(self) -> None:
        finds = self.method.finds_clouds
        if (
            not finds
            and not self.cloud
            and self.options.keep_clear
            and not NEEDED.issubset(self.optical.bands)
        ):
            raise InputError(
                f"clouds cannot be found in {', '.join(self.optical.bands)} alone (B02 and B04 are needed), "
                "give a cloud map with --cloud, or restore everything with --no-keep-clear"
            )

    def _around(self, at: NDArray[np.intp], size: int) -> tuple[int, int]:
        """Return the first and last pixel to read, so that weights do not depend on the tiling."""
        halo, options = 0, self.options
        if options.keep_clear and (self.cloud or not self.method.finds_clouds):
            halo = SPECK_REACH_PX + options.margin_px + options.feather_px + (0 if self.cloud else REACH_PX)
        return max(0, int(at.min()) - halo), min(size, int(at.max()) + 1 + halo)

    def _cloud(self, unit: Tensor, window: Window) -> Tensor | None:
        if self.cloud:
            return self.cloud.read(window)
        if self.method.finds_clouds:
            return None
        return cloud_score(unit, self.optical.bands) if self.options.keep_clear else None

    @property
    def _is_told(self) -> bool:
        """Whether the user says what is cloud: by a map, or that everything is."""
        return self.cloud is not None or not self.options.keep_clear

    def _clear_window(self, window: Window) -> tuple[Tensor, Tensor]:
        """Return a window, (1, C, H, W) in [0, 1], and whether its pixels are clear, (1, 1, H, W)."""
        bands = self.optical.bands
        reach = MARGIN + (0 if self.cloud else REACH_PX)
        wide, inner = widen(window, reach, self.optical.grid)
        reflectance, clear = self.optical.read(wide)
        unit = self.method.optical.to_unit(reflectance)
        if self.cloud or NEEDED.issubset(bands):
            cloud = self.cloud.read(wide) if self.cloud else cloud_score(unit, bands)
            clear = clear & far_from_clouds(cloud)
        part = (..., *inner)
        return unit[part][None], clear[part][None].float()

    def _weight(self, cloud: Tensor | None, valid: Tensor) -> NDArray[np.float64]:
        """Return (H, W) in [0, 1]: the share of the restored image in the result."""
        if cloud is None or not self.options.keep_clear:
            return valid[0].double().numpy()
        options, cloudy = self.options, (cloud > self.options.cloud_threshold) & valid
        return restored_share(cloudy, options.margin_px, options.feather_px) * valid[0].numpy()


def _check_method(method: Method, options: SceneOptions, *, wants_spread: bool) -> None:
    """Refuse what the method cannot do, and options that contradict each other."""
    for kind, name in ((Autoencoding, "an autoencoder"), (Contrastive, "a text encoder")):
        if isinstance(method, kind):
            raise InputError(f"this model is {name}, it takes no clouds off; choose another --model")
    if method.scale > 1:
        raise InputError(
            f"this model enlarges slices {method.scale} times, it takes no clouds off; choose another "
            "--model, or use `pellucid upscale`"
        )
    if method.finds_clouds and options.match_surroundings:
        raise InputError(
            "this model takes its colours from the clear pixels already; leave out --match-surroundings"
        )
    wants_spread = wants_spread and not method.gives_deviation
    if wants_spread and not (method.is_random or options.temperature):
        raise InputError(
            "the uncertainty is asked for, but this model is deterministic, its samples do not differ; leave "
            "out --uncertainty or choose another --model"
        )
    if wants_spread and options.samples < 2:
        raise InputError("the uncertainty needs several samples, 1 is drawn; add --samples 8")
    if options.prompt is not None and not method.takes_text:
        raise InputError(
            "a prompt is given, but this model takes no text; leave out --prompt or choose another --model"
        )
    warn_of_unknown(method, [options.prompt or ""])
    if options.match_surroundings and not options.keep_clear:
        raise InputError(
            "--match-surroundings needs the clear pixels, which --no-keep-clear gives up; leave one out"
        )


def _refuse_empty(optical: OpticalRaster) -> None:
    """Refuse a scene without a single valid pixel; a glance at few of them mostly suffices."""
    windows = (window for _, window in optical.dataset.block_windows(1))
    if optical.read(size=GLANCE)[1].any() or any(optical.read(window)[1].any() for window in windows):
        return
    raise InputError(f"the optical scene {optical.path} holds no data at all, give another")
