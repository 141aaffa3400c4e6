"""The open inputs of a restoration, checked against each other, and the tiles cut from them."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor

from pellucid.apply.engine import Engine, Progress
from pellucid.apply.options import SceneOptions
from pellucid.apply.outputs import check_scene_outputs
from pellucid.apply.references import GLANCE, References
from pellucid.data.band_names import find_bands
from pellucid.data.batch import Batch
from pellucid.data.cloud_score import NEEDED, REACH_PX, box_mean, cloud_score
from pellucid.data.geotiff import Raster
from pellucid.data.older import surely_clear
from pellucid.data.ranges import reflectance_of
from pellucid.data.raster import CloudRaster, OpticalRaster, RadarRaster
from pellucid.data.resample import fill_gaps
from pellucid.data.tiles import reflect
from pellucid.errors import InputError
from pellucid.methods.autoencoding import Autoencoding
from pellucid.methods.contrastive import Contrastive
from pellucid.methods.method import Method

# Cloud below which a pixel stays as it was: what blending makes of 0.
LEAST = 1e-6


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

    Arguments as of `restore_scene`. `engine` has the method with the options' sampling, `tiles` is the grid.
    """

    def __init__(
        self,
        optical: Path,
        out: Path,
        *,
        sar: Path | None,
        references: Sequence[Path],
        cloud: Path | None,
        uncertainty: Path | None,
        method: Method,
        options: SceneOptions,
    ) -> None:
        _check_method(method, options, wants_spread=uncertainty is not None)
        if references and not method.takes_older:
            raise InputError("a reference is given, but this model takes none; leave out --reference")
        self.files = tuple(path for path in (optical, sar, *references, cloud) if path)
        check_scene_outputs(out, uncertainty, self.files)
        with ExitStack() as stack:
            self.optical, method = _open_optical(optical, method, options)
            stack.callback(self.optical.close)
            keep_samples = uncertainty is not None and not method.gives_deviation
            self.engine = Engine(method, options, keep_samples=keep_samples)
            self.options, self.uncertainty = options, uncertainty
            self.radar = self._open_radar(sar, stack)
            self.cloud = stack.enter_context(CloudRaster(cloud)) if cloud else None
            self.optical.log_doubts()
            for raster in filter(None, (self.radar, self.cloud)):
                raster.log_doubts()
                raster.align(self.optical.grid, allowed=options.align)
            grid = self.optical.grid
            self.references = None
            if references:
                self.references = stack.enter_context(
                    References(references, offset=options.offset, grid=grid, align=options.align)
                )
            self._check_score()
            _refuse_empty(self.optical)
            if self.references:
                self._learn_references(self.references)
            self.tiles = self.engine.grid(grid.height, grid.width)
            self.close = stack.pop_all().close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def method(self) -> Method:
        """The method with the options' sampling, for the bands of the scene."""
        return self.engine.method

    def look_round(self, progress: Progress | None = None) -> None:
        """Let a method that explains a tile by all of its scene look at every tile first."""
        if not self.engine.collects:
            return
        grid, collected = self.tiles, None
        for done, (top, left) in enumerate(grid, start=1):
            tile = self.cut(top, left)
            share = np.zeros(tile.valid.shape, np.float32)
            rows, columns = grid.core(top, left)
            share[rows, columns] = tile.valid[rows, columns]
            if share.any():
                found = self.engine.collect(tile.batch, torch.from_numpy(share)[None, None])
                collected = found if collected is None else collected + found
            if progress:
                progress(done, len(grid))
        if collected is not None:
            self.engine.set_scene(collected)

    def key(self) -> str:
        """Return a digest of everything on which the result depends."""
        stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        return self.engine.key(stamps, self.uncertainty is not None)

    def cut(self, top: int, left: int) -> Tile:
        """Read one tile and weigh its pixels."""
        grid = self.tiles
        rows = reflect(top, top + grid.tile_height, grid.height)
        columns = reflect(left, left + grid.tile_width, grid.width)
        first_row, last_row = self._around(rows, grid.height)
        first_column, last_column = self._around(columns, grid.width)
        window = Window(first_column, first_row, last_column - first_column, last_row - first_row)
        inner = np.ix_(rows - first_row, columns - first_column)

        stored = self.optical.read_array(window=window)
        reflectance, valid = self.optical.to_reflectance(stored)
        unit = self.method.optical.to_unit(reflectance)
        cloud = self._cloud(unit, window)
        weight = self._weight(cloud, valid)[inner]
        ok = valid[0].numpy()[inner]
        if self.method.finds_clouds:  # which gets the feathered map, or finds out itself
            cloud, weight = self._given_cloud(weight), ok.astype(np.float64)
        elif cloud is not None:
            cloud = cloud[:, inner[0], inner[1]]
        degraded = fill_gaps(unit.numpy()[:, inner[0], inner[1]], ok)
        sar, lacks_radar = None, np.zeros_like(ok)
        if self.radar:
            sar = self.method.radar.to_unit(self.radar.read_db(window)).numpy()[:, inner[0], inner[1]]
            if not self.method.radar_optional:
                has_radar = np.isfinite(sar).all(axis=0)
                lacks_radar = ~has_radar & ok & (weight > 0)
                weight[~has_radar] = 0
                sar = fill_gaps(sar, has_radar)
        batch = Batch(
            degraded=torch.from_numpy(degraded)[None],
            valid=torch.from_numpy(ok)[None, None],
            key=(f"{self.optical.path.stem}_{top}_{left}",),
            sar=None if sar is None else torch.from_numpy(sar)[None],
            cloud=None if cloud is None else cloud[None],
            older=self.references.read(window)[..., inner[0], inner[1]] if self.references else None,
            prompt=None if self.options.prompt is None else (self.options.prompt,),
            at=((top, left),) if self.engine.collects else None,
        )
        return Tile(top, left, stored[:, inner[0], inner[1]], weight, batch, ok, lacks_radar)

    def clear(self, tile: Tile) -> NDArray[np.float64]:
        """Return (H, W), from 0 to 1: how surely a pixel of the tile shows clear ground, and stays."""
        clear = tile.valid & (tile.weight == 0) & ~tile.lacks_radar
        cloud = tile.batch.cloud
        return clear * (1.0 if cloud is None else 1 - cloud[0, 0].double().numpy())

    def weigh(self, tile: Tile, cloud: NDArray[np.float64] | None) -> Tile:
        """Return the tile with the weight that a method found itself: `cloud`, (H, W), of its first pixels.

        What such a method restores is mixed with the clear part of each pixel already.
        """
        if cloud is None:
            return tile
        weight = np.zeros_like(tile.weight)
        height, width = cloud.shape
        weight[:height, :width] = (cloud > LEAST) & tile.valid[:height, :width]
        return replace(tile, weight=weight)

    def mix(self, tile: Tile, restored: NDArray[np.float64]) -> NDArray[Any]:
        """Return the tile's first pixels as stored, with those restored that have weight.

        `restored` is (C, H, W) in [0, 1], blended, and not larger than the tile.
        """
        height, width = restored.shape[1:]
        result = tile.stored[:, :height, :width].copy()
        weight = tile.weight[:height, :width]
        values = self.method.optical.from_unit(torch.from_numpy(restored)).numpy()
        for value, index in zip(self.optical.to_stored(values), self.optical.indices, strict=True):
            if index is not None:
                old = result[index - 1]
                change = np.where(weight < 1, old + weight * (value - old), value)
                result[index - 1] = np.where(weight > 0, _round(change, self.optical), old)
        return result

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
                result[index - 1] = np.where(weight > 0, _round(new, self.optical), stored[index - 1])
        return result

    def _limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what 0 and 1 are in the units of the file, both (C, 1, 1)."""
        zeros = torch.zeros(len(self.optical.bands), 1, 1, dtype=torch.float64)
        low, high = (self.method.optical.from_unit(values).numpy() for values in (zeros, zeros + 1))
        return self.optical.to_stored(low), self.optical.to_stored(high)

    def _open_radar(self, sar: Path | None, stack: ExitStack) -> RadarRaster | None:
        if sar:
            if not self.method.radar.bands:
                raise InputError("radar is given, but this model takes none; leave out --sar")
            named, partial = self.options.polarisations, self.method.takes_older
            return stack.enter_context(RadarRaster(sar, named=named, partial=partial))
        if self.method.radar_optional:
            return None
        raise InputError(
            "no radar is given and this model needs it; add --sar S1.tif or choose another model"
        )

    def _learn_references(self, references: References) -> None:
        """Compare the references with the scene, both decimated."""
        reflectance, valid = self.optical.read(size=GLANCE)
        scene, bands = self.method.optical.to_unit(reflectance)[None], self.optical.bands
        clear = valid[None]
        if self.cloud:
            clear = clear & (self.cloud.read(size=GLANCE)[None] < self.options.cloud_threshold)
        elif NEEDED.issubset(bands):
            clear = clear & surely_clear(scene, bands)
        references.learn(scene, clear, bands)

    def _given_cloud(self, weight: NDArray[np.float64]) -> Tensor | None:
        """Return the (1, H, W) cloud map that a method gets which could find clouds itself."""
        is_given = self.cloud or not self.options.keep_clear
        return torch.from_numpy(weight).float()[None] if is_given else None

    def _check_score(self) -> None:
        if not self.cloud and self.options.keep_clear and not NEEDED.issubset(self.optical.bands):
            raise InputError(
                f"clouds cannot be found in {', '.join(self.optical.bands)} alone (B02 and B04 are needed), "
                "give a cloud map with --cloud, or restore everything with --no-keep-clear"
            )

    def _around(self, at: NDArray[np.intp], size: int) -> tuple[int, int]:
        """Return the first and last pixel to read, so that weights do not depend on the tiling."""
        halo = self.options.margin_px + 2 * (self.options.feather_px // 2) if self.options.keep_clear else 0
        if not self.cloud:
            halo = 0 if self.method.finds_clouds or not halo else halo + REACH_PX
        return max(0, int(at.min()) - halo), min(size, int(at.max()) + 1 + halo)

    def _cloud(self, unit: Tensor, window: Window) -> Tensor | None:
        if self.cloud:
            return self.cloud.read(window)
        if self.method.finds_clouds or not self.options.keep_clear:
            return None
        return cloud_score(unit, self.optical.bands)

    def _weight(self, cloud: Tensor | None, valid: Tensor) -> NDArray[np.float64]:
        """Return (H, W) in [0, 1]: the share of the restored image in the result."""
        if cloud is None or not self.options.keep_clear:
            return valid[0].double().numpy()
        radius = self.options.feather_px // 2
        cloudy = (cloud > self.options.cloud_threshold) & valid
        near = box_mean(cloudy.double(), self.options.margin_px + radius) > 0
        return (box_mean(near.double(), radius) * valid)[0].numpy()


def _round(values: NDArray[np.float64], raster: OpticalRaster) -> NDArray[np.float64]:
    """Return values that the raster's type can hold and that do not mean nodata."""
    if raster.dtype.kind == "f":
        return values
    limits = np.iinfo(raster.dtype)
    values = np.rint(values).clip(limits.min, limits.max)
    nodata = raster.dataset.nodata
    if nodata is not None:
        values[values == nodata] = nodata + (1 if nodata < limits.max else -1)
    return values


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
    if wants_spread and not (method.is_random or method.gives_deviation):
        raise InputError(
            "the uncertainty is asked for, but this model is deterministic, its samples do not differ; leave "
            "out --uncertainty or choose another --model"
        )
    if wants_spread and options.samples < 2 and not method.gives_deviation:
        raise InputError("the uncertainty needs several samples, 1 is drawn; add --samples 8")
    if options.prompt is not None and not method.takes_text:
        raise InputError(
            "a prompt is given, but this model takes no text; leave out --prompt or choose another --model"
        )
    if options.match_surroundings and method.finds_clouds:
        raise InputError("this model matches its surroundings by itself; leave out --match-surroundings")
    if options.match_surroundings and not options.keep_clear:
        raise InputError(
            "--match-surroundings needs the clear pixels, which --no-keep-clear gives up; leave one out"
        )


def _open_optical(path: Path, method: Method, options: SceneOptions) -> tuple[OpticalRaster, Method]:
    """Return the open scene, and the method for its bands."""
    if not method.any_bands:
        if options.bands is not None:
            raise InputError(
                f"--bands is given, but this model is for {', '.join(method.optical.bands)} alone; leave it "
                "out"
            )
        bands = method.optical.bands
        raster = OpticalRaster(path, bands, offset=options.offset, allow_missing=options.allow_missing)
        return raster, method
    with Raster(path, "optical scene") as opened:
        found = find_bands(opened.dataset, path, options.bands)
    bands = tuple(found)
    raster = OpticalRaster(path, bands, offset=options.offset, numbers=tuple(found.values()))
    return raster, method.with_bands(reflectance_of(bands))


def _refuse_empty(optical: OpticalRaster) -> None:
    """Refuse a scene without a single valid pixel; a glance at few of them mostly suffices."""
    windows = (window for _, window in optical.dataset.block_windows(1))
    if optical.read(size=GLANCE)[1].any() or any(optical.read(window)[1].any() for window in windows):
        return
    raise InputError(f"the optical scene {optical.path} holds no data at all, give another")
