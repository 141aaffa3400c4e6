import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pystac
import pytest
from products import write_product
from rasterio.transform import Affine
from rasterio.warp import transform
from scenes import BANDS, OPTIONS, constant, ground, left_cloud, write

from pellucid.apply.remove_clouds import restore_scene
from pellucid.apply.sidecars import LEAST_SPAN
from pellucid.data.band_names import LEVEL_2A
from pellucid.data.gdal_open import open_raster
from pellucid.data.ownership import is_ours
from pellucid.data.ranges import SENTINEL2
from pellucid.errors import InputError

SIDECARS = replace(OPTIONS, sidecars=True, painted=True)


def restore(folder: Path, bands: tuple[str, ...] = BANDS, name: str = "s2.tif", **profile: Any) -> Path:
    """Restore a scene with a cloud on its left; return the result."""
    scene = write(folder / name, ground()[: len(bands)], bands, **profile)
    cloud = (np.arange(101) < 40).astype(np.uint8) * np.ones((1, 75, 1), np.uint8)
    restore_scene(
        scene,
        folder / "out.tif",
        method=constant(0.5),
        cloud=write(folder / "cloud.tif", cloud, **profile),
        options=SIDECARS,
    )
    return folder / "out.tif"


def item(out: Path) -> dict[str, Any]:
    return json.loads(out.with_suffix(".json").read_text())


def test_the_style_shows_b04_b03_b02_between_values_that_the_scene_has(tmp_path: Path) -> None:
    out = restore(tmp_path, BANDS[::-1])
    renderer = ElementTree.parse(out.with_suffix(".qml")).find("pipe/rasterrenderer")
    assert renderer is not None
    assert renderer.get("type") == "multibandcolor"
    assert [renderer.get(f"{color}Band") for color in ("red", "green", "blue")] == ["10", "11", "12"]
    low, high = (
        float(renderer.findtext(f"redContrastEnhancement/{name}Value", "")) for name in ("min", "max")
    )
    assert 300 <= low < 900
    assert 4500 < high <= 5000 + 900  # as far above the darkest as the brightest band needs
    spans = {float(each.findtext("maxValue", "")) - float(each.findtext("minValue", "")) for each in renderer}
    assert max(spans) - min(spans) < 0.01


def test_the_style_of_a_product_is_in_reflectance_as_qgis_reads_its_numbers(tmp_path: Path) -> None:
    """QGIS applies the scales and offsets of a file: a style in digital numbers would show it black."""
    method = constant(0.5)
    method.optical = SENTINEL2.select(LEVEL_2A)
    out = tmp_path / "out.tif"
    restore_scene(write_product(tmp_path), out, method=method, options=replace(SIDECARS, keep_clear=False))
    with open_raster(out) as file:
        assert set(file.offsets) == {-0.1}
    renderer = ElementTree.parse(out.with_suffix(".qml")).find("pipe/rasterrenderer")
    assert renderer is not None
    low, high = (float(renderer.findtext(f"redContrastEnhancement/{n}Value", "")) for n in ("min", "max"))
    assert low == pytest.approx(0.5, abs=1e-6)
    assert high == pytest.approx(0.5 + LEAST_SPAN, abs=1e-6)


def test_what_was_painted_is_shown_in_red_and_what_is_as_given_not_at_all(tmp_path: Path) -> None:
    restore(tmp_path)
    items = ElementTree.parse(tmp_path / "out_painted.qml").findall(".//item")
    assert [(each.get("value"), each.get("alpha")) for each in items] == [("0", "0"), ("255", "255")]


def test_the_stac_item_is_read_by_pystac_with_its_place_bands_and_making(tmp_path: Path) -> None:
    out = restore(tmp_path, name="S2A_MSIL1C_20200102T030405_N0208_T33UUP.tif")
    found = pystac.Item.from_file(out.with_suffix(".json"))
    assert found.id == "out"
    assert found.datetime is not None
    assert found.datetime.isoformat() == "2020-01-02T03:04:05+00:00"
    (west, east), (south, north) = transform(
        "EPSG:32633", "EPSG:4326", [500_000, 501_010], [5_000_000 - 750, 5_000_000]
    )
    assert found.bbox == pytest.approx([west, south, east, north], abs=1e-4)
    properties = found.properties
    assert (properties["proj:code"], properties["proj:shape"]) == ("EPSG:32633", [75, 101])
    assert properties["proj:transform"] == [10, 0, 500_000, 0, -10, 5_000_000]
    assert properties["processing:expression"]["expression"]["inputs"]["cloud"] == "cloud.tif"
    red = found.assets["result"].extra_fields["bands"][3]
    assert red == {
        "name": "B04",
        "eo:common_name": "red",
        "eo:center_wavelength": 0.665,
        "eo:full_width_half_max": 0.03,
    }
    for asset in found.get_assets().values():
        assert (tmp_path / asset.href).is_file()
    assert set(found.assets) == {"result", "painted", "style"}


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("S2_2021-03-04.tif", "2021-03-04T00:00:00Z"),
        ("T33UUP_20210304T101112_B02.tif", "2021-03-04T10:11:12Z"),
        ("s2_20219999.tif", None),
        ("roi_120210304.tif", None),
    ],
)
def test_when_a_scene_was_taken_is_in_its_name_or_unknown(
    tmp_path: Path, name: str, taken: str | None
) -> None:
    properties = item(restore(tmp_path, name=name))["properties"]
    assert properties["datetime"] == taken
    if not taken:
        assert properties["start_datetime"] < properties["end_datetime"]


def test_the_same_call_writes_the_same_sidecars(tmp_path: Path) -> None:
    texts = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        out = restore(folder)
        os.utime(folder / "s2.tif", (10**9, 10**9))
        restore_again = restore_scene(
            folder / "s2.tif", out, method=constant(0.5), cloud=folder / "cloud.tif", options=SIDECARS
        )
        assert restore_again.out == out
        texts.append([out.with_suffix(suffix).read_bytes() for suffix in (".json", ".qml")])
    assert texts[0] == texts[1]


def test_a_scene_without_a_place_has_an_item_without_a_geometry(tmp_path: Path) -> None:
    found = item(restore(tmp_path, crs=None, transform=Affine.identity()))
    assert found["geometry"] is None
    assert "bbox" not in found
    assert "proj:code" not in found["properties"]


def test_a_style_or_item_of_others_is_never_replaced_but_may_be_left_out(tmp_path: Path) -> None:
    scene, cloud = write(tmp_path / "s2.tif", ground(), BANDS), left_cloud(tmp_path)
    for name in ("out.qml", "out.json", "out_painted.qml"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(InputError, match=f"{name}: a file is there that pellucid did not write"):
            restore_scene(scene, tmp_path / "out.tif", method=constant(0.5), cloud=cloud, options=SIDECARS)
        without = replace(SIDECARS, sidecars=False)
        restore_scene(scene, tmp_path / "out.tif", method=constant(0.5), cloud=cloud, options=without)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    restore_scene(scene, tmp_path / "out.tif", method=constant(0.5), cloud=cloud, options=SIDECARS)
    assert all(is_ours(tmp_path / name) for name in ("out.qml", "out.json", "out_painted.qml"))
    restore_scene(scene, tmp_path / "out.tif", method=constant(0.5), cloud=cloud, options=SIDECARS)


def test_sidecars_of_an_earlier_result_go_and_files_of_others_stay(tmp_path: Path) -> None:
    out = restore(tmp_path)
    style, item_file = out.with_suffix(".qml"), out.with_suffix(".json")
    item_file.write_text("{}")
    plain = replace(OPTIONS, sidecars=False, painted=False, resume=False)
    restore_scene(tmp_path / "s2.tif", out, method=constant(0.2), options=plain)
    assert not style.exists()
    assert not out.with_name("out_painted.tif").exists()
    assert item_file.read_text() == "{}"
