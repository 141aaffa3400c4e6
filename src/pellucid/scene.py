"""The open inputs of a restoration, checked against each other, and the tiles cut from them."""

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from pellucid.data.batch import Batch
from pellucid.data.cloud_score import REACH_PX, box_mean, cloud_score
from pellucid.data.geotiff import check_writable
from pellucid.data.raster import CloudRaster, Offset, OpticalRaster, RadarRaster
from pellucid.data.tiles import TileGrid, reflect
from pellucid.errors import InputError
from pellucid.generative.noise import Noise
from pellucid.methods.method import Method
from pellucid.trainer import choose_device

# Tiles that a GPU restores at once, if not said otherwise; a CPU gains nothing from more than one.
GPU_BATCH = 8
# Longer side in pixels of the decimated image in which valid pixels are looked for first.
GLANCE = 1024


@dataclass(frozen=True)
class RestoreOptions:
    """How a scene is restored.

    Attributes:
        tile: side of a tile in pixels; a multiple of the method's stride.
        overlap: pixels that neighbouring tiles share; a multiple of the stride.
        batch: tiles that are restored at once; 0: 1 on a CPU, 8 on a GPU.
        keep_clear: pass clear pixels through unchanged.
        cloud_threshold: probability above which a pixel is restored.
        margin_px: pixels around clouds that are restored too.
        feather_px: width of the edge over which restored pixels pass into unchanged ones.
        precision: "bf16" halves the memory and is quicker where the hardware knows it.
        device: "auto", "cpu", "cuda" and so on.
        align: warp radar and cloud map to the scene's grid.
        offset: DN to add before use; "auto" asks the metadata, then the values; "none" is 0.
        allow_missing: bands that the scene may lack; the network then sees 0.
        preview: write a PNG, before and after, beside the result.
        resume: go on where an interrupted call stopped.
    """

    tile: int = 256
    overlap: int = 32
    batch: int = 0
    keep_clear: bool = True
    cloud_threshold: float = 0.5
    margin_px: int = 4
    feather_px: int = 16
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    align: bool = False
    offset: Offset = "auto"
    allow_missing: tuple[str, ...] = ()
    preview: bool = True
    resume: bool = True


@dataclass(frozen=True)
class Tile:
    """One tile, H x W pixels, mirrored beyond the scene's edge.

    Attributes:
        left: its first column in the scene.
        stored: (bands of the file, H, W), as stored.
        weight: (H, W) share of the restored image in the result, from 0 to 1.
        batch: what the method sees, B = 1.
        valid: (H, W) bool, pixels that hold data.
        lacks_radar: (H, W) bool, cloudy pixels that cannot be restored without radar.
    """

    left: int
    stored: NDArray[Any]
    weight: NDArray[np.float64]
    batch: Batch
    valid: NDArray[np.bool_]
    lacks_radar: NDArray[np.bool_]


class Scene:
    """The open inputs, checked against each other and the method, and how to cut tiles from them.

    Args:
        optical: Sentinel-2 scene.
        out: where the result is to go.
        sar: Sentinel-1 scene, if any.
        cloud: cloud map, if any.
        method: what restores.
        options: see `RestoreOptions`.

    Raises:
        InputError: for any of them that cannot be used.
    """

    def __init__(
        self,
        optical: Path,
        out: Path,
        sar: Path | None,
        cloud: Path | None,
        method: Method,
        options: RestoreOptions,
    ) -> None:
        self.method, self.options = method, options
        self.device = choose_device(options.device)
        self.batch = options.batch or (1 if self.device.type == "cpu" else GPU_BATCH)
        self.files = tuple(path for path in (optical, sar, cloud) if path)
        _check_out(out, self.files)
        with ExitStack() as stack:
            self.optical = stack.enter_context(
                OpticalRaster(
                    optical,
                    method.optical.bands,
                    offset=options.offset,
                    allow_missing=options.allow_missing,
                )
            )
            self.radar = self._open_radar(sar, stack)
            self.cloud = stack.enter_context(CloudRaster(cloud)) if cloud else None
            for raster in (self.radar, self.cloud):
                if raster:
                    raster.align(self.optical.grid, allowed=options.align)
            self._check_score()
            _refuse_empty(self.optical)
            self.tiles = self._tiles()
            self.close = stack.pop_all().close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def key(self) -> str:
        """Return a digest of everything on which the result depends."""
        settings = replace(self.options, preview=True, resume=True)
        stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        ranges = (self.method.optical, self.method.radar)
        weights = digest_weights(self.method.network)
        values = (settings, stamps, type(self.method).__name__, ranges, weights)
        return hashlib.sha256(repr(values).encode()).hexdigest()

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
        degraded = _fill(unit.numpy()[:, inner[0], inner[1]], ok)
        sar, lacks_radar = None, np.zeros_like(ok)
        if self.radar:
            sar = self.method.radar.to_unit(self.radar.read_db(window)).numpy()[:, inner[0], inner[1]]
            if not self.method.radar_optional:
                heard = np.isfinite(sar).all(axis=0)
                lacks_radar = ~heard & ok & (weight > 0)
                weight[~heard] = 0
                sar = _fill(sar, heard)
        batch = Batch(
            degraded=torch.from_numpy(degraded)[None],
            valid=torch.from_numpy(ok)[None, None],
            key=(f"{self.optical.path.stem}_{top}_{left}",),
            sar=None if sar is None else torch.from_numpy(sar)[None],
            cloud=None if cloud is None else torch.from_numpy(cloud.numpy()[:, inner[0], inner[1]])[None],
        )
        return Tile(left, stored[:, inner[0], inner[1]], weight, batch, ok, lacks_radar)

    def restore(self, tiles: list[Tile]) -> list[NDArray[np.float32]]:
        """Return (C, tile_height, tile_width) in [0, 1] of each tile."""
        batch = Batch.cat([tile.batch for tile in tiles]).to(self.device)
        return list(run_method(self.method, batch, precision=self.options.precision).cpu().numpy())

    def mix(self, tile: Tile, restored: NDArray[np.float64]) -> NDArray[Any]:
        """Return the tile's first pixels as stored, with those restored that have weight.

        Args:
            tile: as cut from the scene.
            restored: (C, H, W) in [0, 1], blended; not larger than the tile.
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

    def _open_radar(self, sar: Path | None, stack: ExitStack) -> RadarRaster | None:
        if sar:
            return stack.enter_context(RadarRaster(sar))
        if self.method.radar_optional:
            return None
        raise InputError(
            "no radar is given and this model needs it; add --sar S1.tif or choose another model"
        )

    def _check_score(self) -> None:
        """Refuse to tell clouds from bands that do not show them."""
        if not self.cloud and self.options.keep_clear and not {"B02", "B04"} <= set(self.optical.bands):
            raise InputError(
                f"clouds cannot be told from {', '.join(self.optical.bands)} alone (B02 and B04 are needed), "
                "give a cloud map with --cloud, or restore everything with --no-keep-clear"
            )

    def _tiles(self) -> TileGrid:
        grid, options = self.optical.grid, self.options
        try:
            return TileGrid(grid.height, grid.width, options.tile, options.overlap, self.method.stride)
        except ValueError as error:
            raise InputError(str(error)) from error

    def _around(self, at: NDArray[np.intp], size: int) -> tuple[int, int]:
        """Return the first and last pixel to read, so that weights do not depend on the tiling."""
        halo = self.options.margin_px + 2 * (self.options.feather_px // 2) if self.options.keep_clear else 0
        halo += REACH_PX if halo and not self.cloud else 0
        return max(0, int(at.min()) - halo), min(size, int(at.max()) + 1 + halo)

    def _cloud(self, unit: Tensor, window: Window) -> Tensor | None:
        if self.cloud:
            return self.cloud.read(window)
        return cloud_score(unit, self.optical.bands) if self.options.keep_clear else None

    def _weight(self, cloud: Tensor | None, valid: Tensor) -> NDArray[np.float64]:
        """Return (H, W) in [0, 1]: the share of the restored image in the result."""
        if cloud is None or not self.options.keep_clear:
            return valid[0].double().numpy()
        radius = self.options.feather_px // 2
        cloudy = (cloud > self.options.cloud_threshold) & valid
        near = box_mean(cloudy.double(), self.options.margin_px + radius) > 0
        return (box_mean(near.double(), radius) * valid)[0].numpy()


def run_method(
    method: Method, batch: Batch, *, precision: Literal["fp32", "bf16"], noise: Noise | None = None
) -> Tensor:
    """Return (B, C, H, W) float32 in [0, 1] on the batch's device.

    Raises:
        InputError: if the memory does not suffice, or the model gives what is no number.
    """
    device, size = batch.degraded.device, max(batch.valid.shape[-2:])
    try:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            restored = method.restore(batch, noise).float()
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{device} has too little memory for {len(batch)} tiles of {size} px, use a smaller --tile"
        ) from error
    if not restored.isfinite().all():
        raise InputError(f"the model gave no number at {batch.key[0]} in {precision}, try --precision fp32")
    return restored


def digest_weights(network: nn.Module) -> str:
    """Return a digest of all weights of a network."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _fill(values: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (C, H, W) with unknown pixels replaced by their nearest known ones, so that nothing bleeds."""
    if known.all() or not known.any():
        return np.nan_to_num(values, nan=0.0) if not known.any() else values
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return values[:, nearest[0], nearest[1]]


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


def _check_out(out: Path, files: tuple[Path, ...]) -> None:
    """Refuse an output that cannot be written or would replace an input."""
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"cannot write {out}: the result is a GeoTIFF; let its name end in .tif")
    check_writable(out)
    if any(path.exists() and out.exists() and path.samefile(out) for path in files):
        raise InputError(f"cannot write {out}: it is an input; name another file")


def _refuse_empty(optical: OpticalRaster) -> None:
    """Refuse a scene without a single valid pixel."""
    _, valid = optical.read(size=GLANCE)
    if valid.any():
        return
    for _, window in optical.dataset.block_windows(1):
        if optical.read(window)[1].any():
            return
    raise InputError(f"the optical scene {optical.path} holds no data at all, give another")
