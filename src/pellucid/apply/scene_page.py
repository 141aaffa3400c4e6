"""The page beside a scene: before, guides, result and uncertainty, to look at in a browser."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from pellucid.apply.info import in_labels
from pellucid.apply.scene import OpenScene
from pellucid.data.geotiff import Raster
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.radar_units import NAMES
from pellucid.data.raster import OpticalRaster
from pellucid.web.layers import Band, Layer, optical_bands, plain_bands, raster_layer
from pellucid.web.write_page import draw_page


def draw_scene_page(scene: OpenScene, counts: Sequence[int], made: Mapping[str, Path]) -> str:
    """Return the page of a restored scene, whose inputs are open.

    Args:
        scene: whose outputs the page names.
        counts: of valid pixels, and of restored ones.
        made: rasters that hold what the outputs will: `result`, `std` and `painted`.
    """
    files = scene.outputs
    bands = optical_bands(scene.optical)
    layers = [raster_layer("Before", "before", scene.optical, bands, "reflectance")]
    if scene.radar:
        unit = NAMES[scene.radar.backscatter.unit]
        layers.append(raster_layer("Radar", "radar", scene.radar, _radar_bands(scene.radar), unit))
    for i, date in enumerate(scene.references.dates, start=1):
        name = f"Reference {i}" if len(scene.references) > 1 else "Reference"
        layers.append(_reference(name, date.raster))
    with ExitStack() as stack:
        result = stack.enter_context(Raster(made["result"], "result"))
        after = raster_layer("After", "after", result, bands, "reflectance")
        layers.append(replace(after, path=files.result))
        if scene.truth:
            of_truth = optical_bands(scene.truth)
            layers.append(raster_layer("Truth", "truth", scene.truth, of_truth, "reflectance"))
        if files.std:
            deviation = stack.enter_context(Raster(made["std"], "uncertainty"))
            spread = tuple(Band(band.name, band.number, 0, band.divide) for band in bands)
            uncertainty = raster_layer("Uncertainty", "uncertainty", deviation, spread, "reflectance")
            layers.append(replace(uncertainty, path=files.std))
        if files.painted:
            share = stack.enter_context(Raster(made["painted"], "map of what was painted"))
            painted = raster_layer("Painted", "painted", share, (Band("painted", 1, divide=255),))
            layers.append(replace(painted, path=files.painted))
        provenance = _provenance(made["result"], scene, counts)
        return draw_page(files.result.parent, layers, provenance, title=files.result.name)


def _radar_bands(radar: RadarRaster) -> tuple[Band, ...]:
    present = zip(("VV", "VH"), radar.indices, strict=True)
    return tuple(Band(name, number) for name, number in present if number is not None)


def _reference(name: str, raster: Raster) -> Layer:
    if isinstance(raster, OpticalRaster):
        return raster_layer(name, "reference", raster, optical_bands(raster), "reflectance")
    return raster_layer(name, "reference", raster, plain_bands(raster))


def _provenance(out: Path, scene: OpenScene, counts: Sequence[int]) -> dict[str, str]:
    """Return how the result was made: what was counted, and what it says itself."""
    num_valid, num_restored = counts[:2]
    restored = f"{num_restored:,} of {num_valid:,} pixels ({num_restored / max(num_valid, 1):.1%})"
    return {"Restored": restored, "Guides": scene.guides, **in_labels(out)}
