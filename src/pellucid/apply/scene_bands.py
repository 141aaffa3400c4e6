"""Which bands a scene has for a method, and what 0 and 1 mean in them."""

from pathlib import Path

import numpy as np

from pellucid.apply.options import SceneOptions
from pellucid.data.band_names import find_bands
from pellucid.data.geotiff import SAMPLE, Raster
from pellucid.data.ranges import SENTINEL2, ValueRange
from pellucid.data.raster import OpticalRaster
from pellucid.errors import InputError
from pellucid.methods.method import Method

# Longer side in pixels of the decimated image at which one glances first.
GLANCE = 1024
# An unknown band whose brightest pixels, by percentile, exceed this holds no reflectance.
BRIGHTEST, MAX_REFLECTANCE = 99.9, 1.5


class SceneRaster(OpticalRaster):
    """A scene that is glanced at for its units, its clear parts, its range, and a preview."""

    glances = (SAMPLE, GLANCE // 2, GLANCE)


def open_optical(path: Path, method: Method, options: SceneOptions) -> OpticalRaster:
    """Return the open scene, with the bands of the method, or, where any will do, those that it has."""
    if not method.any_bands:
        if options.bands:
            raise InputError(
                "--bands says what a scene has, but this model needs its own bands, by name or in order; "
                "leave it out or choose another --model"
            )
        missing = options.allow_missing
        return SceneRaster(path, method.optical.bands, offset=options.offset, allow_missing=missing)
    with Raster(path, "optical scene") as raster:
        found = find_bands(raster.dataset, path, options.bands)
    return SceneRaster(path, tuple(found), offset=options.offset, numbers=list(found.values()))


def find_range(optical: OpticalRaster) -> ValueRange:
    """Return what 0 and 1 mean in each band: of one unknown to Sentinel-2, perhaps all that it holds."""
    high = [1.0] * len(optical.bands)
    unknown = [i for i, band in enumerate(optical.bands) if band not in SENTINEL2.bands]
    if unknown:
        values, valid = optical.read(size=GLANCE)
        for i in unknown:
            found = values[i].numpy()[valid[0].numpy()]
            brightest = float(np.percentile(found, BRIGHTEST)) if found.size else 1.0
            if brightest > MAX_REFLECTANCE:
                high[i] = float(f"{brightest:.2g}")
    return ValueRange(
        optical.bands, (0.0,) * len(high), tuple(high), SENTINEL2.unit, "the scene; reflectance where known"
    )
