"""What lies beside a restored scene for other programs: styles for QGIS, and a STAC Item for catalogues."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_bounds, transform_geom

from pellucid.apply.scene import OpenScene
from pellucid.data.drawing import RGB
from pellucid.data.files import write_text
from pellucid.data.geotiff import Raster
from pellucid.data.ownership import PREFIX, SOFTWARE, STYLE_MARK
from pellucid.data.raster_source import files_of
from pellucid.data.spectrum import SPECTRA
from pellucid.data.text_file import parse_json

# Percentiles of the valid pixels that a style shows as black and white, as QGIS itself stretches, the least
# reflectance between them, so that an even scene is not all noise, and the longer side in pixels of the
# decimated image that they are taken from.
SHOWN, LEAST_SPAN, SAMPLE = (2, 98), 0.08, 1024
STYLE = f"""<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology">
{STYLE_MARK}
<pipe>
{{renderer}}
</pipe>
</qgis>
"""
# Red over what was painted, the denser the more; nothing where the scene is as it was given.
PAINTED_STYLE = """<rasterrenderer type="singlebandpseudocolor" band="1" opacity="0.7" alphaBand="-1"
 classificationMin="0" classificationMax="255">
<rastershader><colorrampshader colorRampType="INTERPOLATED" clip="0">
<item value="0" alpha="0" color="#d7191c" label="as given"/>
<item value="255" alpha="255" color="#d7191c" label="painted"/>
</colorrampshader></rastershader></rasterrenderer>"""
STAC_VERSION = "1.1.0"
EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("processing/v1.2.0", "projection/v2.0.0", "eo/v2.0.0")
]
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
# Of each file of a scene: what it is, its media type and its roles in a STAC Item.
ASSETS = {
    "result": ("Scene without clouds", COG, ["data"]),
    "std": ("Standard deviation of the error", COG, ["data", "uncertainty"]),
    "painted": ("How much was painted, 0 to 255", COG, ["data-mask"]),
    "preview": ("Before and after", "image/png", ["overview"]),
    "page": ("Page to look at", "text/html", ["overview"]),
    "style": ("Style for QGIS", "application/xml", ["metadata"]),
}
# When a scene was taken, in names of products and files; tags that say so come first.
TIME_TAGS = ("DATATAKE_SENSING_START", "SENSING_TIME", "PRODUCT_START_TIME")
_TIME = re.compile(r"(?<!\d)(20\d\d)-?([01]\d)-?([0-3]\d)(?:T(\d\d):?(\d\d):?(\d\d))?(?!\d)")


def write_sidecars(scene: OpenScene) -> None:
    """Write the styles and the STAC Item of a restored scene, as far as they are wanted."""
    files = scene.outputs
    with Raster(files.result, "result") as result:
        if files.style:
            write_text(files.style, STYLE.format(renderer=_renderer(scene, result)))
        if files.painted_style:
            write_text(files.painted_style, STYLE.format(renderer=PAINTED_STYLE))
        if files.item:
            write_text(files.item, json.dumps(make_item(scene, result), indent=2) + "\n")


def _renderer(scene: OpenScene, result: Raster) -> str:
    """Return how QGIS shows the result: in true colour where there is one, else its first band in grey."""
    numbers = scene.labels.bands
    by_name = {name: number for number, name in numbers.items()}
    shown = [by_name[band] for band in RGB] if set(RGB) <= set(by_name) else list(numbers)[:1]
    stored, mask = result.read_array(size=SAMPLE), result.read_mask(size=SAMPLE)
    _, valid = scene.optical.to_reflectance(stored, mask)
    least = LEAST_SPAN * float(scene.optical.quantification.max())
    limits = _stretch([stored[number - 1][valid[0].numpy()] for number in shown], least)
    file = result.dataset
    units = [(file.scales[number - 1], file.offsets[number - 1]) for number in shown]  # QGIS applies them
    limits = [
        (low * scale + offset, high * scale + offset)
        for (low, high), (scale, offset) in zip(limits, units, strict=True)
    ]
    if len(shown) == 1:
        grey = f'<rasterrenderer type="singlebandgray" grayBand="{shown[0]}" opacity="1" alphaBand="-1">'
        return f"{grey}\n{_enhance('contrastEnhancement', *limits[0])}\n</rasterrenderer>"
    red, green, blue = shown
    bands = f'redBand="{red}" greenBand="{green}" blueBand="{blue}"'
    parts = [
        _enhance(f"{color}ContrastEnhancement", *limit)
        for color, limit in zip(("red", "green", "blue"), limits, strict=True)
    ]
    opening = f'<rasterrenderer type="multibandcolor" {bands} opacity="1" alphaBand="-1">'
    return "\n".join([opening, *parts, "</rasterrenderer>"])


def _stretch(bands: Sequence[NDArray[Any]], least: float) -> list[tuple[float, float]]:
    """Return the stored values that are shown as black and as white, equally far apart in each band."""
    found = [np.percentile(values.astype(np.float64), SHOWN) for values in bands if values.size]
    if not found:
        return [(0.0, least)] * len(bands)
    span = max(least, *(float(high - low) for low, high in found))
    return [(float(low), float(low) + span) for low, _ in found]


def _enhance(name: str, low: float, high: float) -> str:
    stretch = "<algorithm>StretchToMinimumMaximum</algorithm>"
    return f"<{name}><minValue>{low:.7g}</minValue><maxValue>{high:.7g}</maxValue>{stretch}</{name}>"


def make_item(scene: OpenScene, result: Raster) -> dict[str, Any]:
    """Return the STAC Item of a restored scene, its files relative to it; geometry null without a CRS."""
    grid, tags = result.grid, {k.removeprefix(PREFIX).lower(): v for k, v in scene.labels.tags.items()}
    item: dict[str, Any] = {"type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": EXTENSIONS}
    item |= {"id": scene.outputs.result.stem, "geometry": None, "links": []}
    properties: dict[str, Any] = dict(_times(scene.files[0], scene.optical.dataset.tags()))
    if grid.crs and not grid.transform.is_identity:
        left, top = grid.transform.c, grid.transform.f
        right, bottom = grid.transform @ (grid.width, grid.height)
        ring = [[left, top], [left, bottom], [right, bottom], [right, top], [left, top]]
        item["geometry"] = transform_geom(grid.crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ring]})
        bounds = (min(left, right), min(bottom, top), max(left, right), max(bottom, top))
        item["bbox"] = [round(x, 7) for x in transform_bounds(grid.crs, "EPSG:4326", *bounds)]
        code = grid.crs.to_authority()
        properties["proj:code"] = ":".join(code) if code else None
        properties["proj:transform"] = list(grid.transform)[:6]
    properties["proj:shape"] = [grid.height, grid.width]
    made = {name: _parsed(text) for name, text in tags.items() if name != "pellucid"}
    properties |= {
        "processing:software": {SOFTWARE: tags["version"]},
        "processing:lineage": f"Clouds removed by the model {tags['model']}, {scene.guides}",
        "processing:expression": {"format": SOFTWARE, "expression": made},
    }
    return {**item, "properties": properties, "assets": _assets(scene, result)}


def _parsed(text: str) -> Any:
    return parse_json(text) if text.startswith("{") else text


def _assets(scene: OpenScene, result: Raster) -> dict[str, Any]:
    assets = dict[str, Any]()
    for name, (title, media, roles) in ASSETS.items():
        if path := getattr(scene.outputs, name):
            # Where the deviation lies in another folder, its path is the one that the user gave.
            beside = path.parent.resolve() == scene.outputs.result.parent.resolve()
            href = f"./{path.name}" if beside else path.resolve().as_posix()
            assets[name] = {"href": href, "title": title, "type": media, "roles": roles}
    for name in ("result", "std"):
        if name in assets:
            assets[name]["bands"] = _bands(scene, result.dataset.descriptions)
    return assets


def _bands(scene: OpenScene, descriptions: Sequence[str | None]) -> list[dict[str, Any]]:
    bands = list[dict[str, Any]]()
    for number, text in enumerate(descriptions, start=1):
        name = scene.labels.bands.get(number) or text or f"{number}"
        bands.append({"name": name})
        if name in SPECTRA:
            common, center, width = SPECTRA[name]
            bands[-1] |= {"eo:common_name": common, "eo:center_wavelength": center}
            bands[-1] |= {"eo:full_width_half_max": width}
    return bands


def _times(path: Path, tags: Mapping[str, str]) -> dict[str, str | None]:
    """Return when a scene was taken, by tags or names, or else that it was before its files were written."""
    files = files_of(path)
    names = [each.name for each in (path, *files)]
    texts = [*(tags.get(name, "") for name in TIME_TAGS), tags.get("PRODUCT_URI", ""), *names]
    for text in texts:
        if found := _TIME.search(text):
            try:
                taken = datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)  # type: ignore[misc, arg-type]
            except ValueError:  # digits that are no date
                continue
            return {"datetime": _written(taken)}
    written = [each.stat().st_mtime for each in files if each.exists()]  # those of a server have none
    end = datetime.fromtimestamp(int(max(written)), UTC) if written else datetime.now(UTC)
    return {"datetime": None, "start_datetime": "1970-01-01T00:00:00Z", "end_datetime": _written(end)}


def _written(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
