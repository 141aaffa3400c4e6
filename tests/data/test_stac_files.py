import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import write

from pellucid.data.radar_scene import RadarRaster
from pellucid.data.raster import OpticalRaster
from pellucid.data.raster_source import files_of
from pellucid.errors import InputError


def write_item(path: Path, assets: Any) -> Path:
    path.write_text(json.dumps({"type": "Feature", "stac_version": "1.0.0", "id": "a", "assets": assets}))
    return path


def power(folder: Path, name: str, value: float) -> Path:
    return write(folder / f"{name}.tif", np.full((1, 40, 50), value, np.float32), nodata=-32768.0)


def test_an_item_of_terrain_corrected_radar_is_read_in_db(tmp_path: Path) -> None:
    power(tmp_path, "a_vv", 0.1)
    power(tmp_path, "a_vh", 0.01)
    far = "https://example.com/rtc/a_vh.tif?sig=x"
    item = write_item(tmp_path / "rtc.json", {"vh": {"href": far}, "vv": {"href": "./a_vv.tif"}, "t": {}})
    with RadarRaster(item) as radar:
        backscatter = radar.read_db()
    np.testing.assert_allclose(backscatter.mean((1, 2)), [-10, -20], atol=1e-4)
    assert {path.name for path in files_of(item)} == {"rtc.json", "a_vv.tif", "a_vh.tif"}


def test_an_item_says_the_scale_of_optical_bands(tmp_path: Path) -> None:
    write(tmp_path / "red.tif", np.full((1, 40, 50), 3000, np.uint16))
    units = [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]
    item = write_item(tmp_path / "s2.json", {"red": {"href": "red.tif", "raster:bands": units}})
    with OpticalRaster(item, ("B04",)) as raster:
        assert raster.read()[0].mean() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("assets", "found"),
    [
        ({"vv": {"href": "https://example.com/b.tif"}}, r"not on this machine; download it as .*b.tif"),
        ({"vv": {"href": "../b.tif"}}, "not on this machine; check the item"),
        ({"thumbnail": {"href": "a.png"}}, r"no asset named VV, VH or as a band .*\(it has thumbnail\)"),
        ([], "is no STAC Item: it has no assets"),
    ],
)
def test_items_without_files_are_refused(tmp_path: Path, assets: Any, found: str) -> None:
    item = write_item(tmp_path / "rtc.json", assets)
    with pytest.raises(InputError, match=found):
        RadarRaster(item)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rtc.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"is no JSON"):
        RadarRaster(tmp_path / "rtc.json")
