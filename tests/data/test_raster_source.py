from pathlib import Path

import numpy as np
import pytest
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine
from scenes import ground, write

from pellucid.apply.inputs import check_rasters
from pellucid.errors import InputError

PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)


@pytest.mark.parametrize("kind", ["GRD", "SLC"])
def test_products_in_radar_geometry_are_refused_with_a_way_out(tmp_path: Path, kind: str) -> None:
    scene = write(tmp_path / "s2.tif", ground())
    product = tmp_path / f"S1A_IW_{kind}H_1SDV_20230601T051522_20230601T051547_048790_05DE2D_1A2B.SAFE"
    product.mkdir()
    with pytest.raises(InputError, match=rf"is by its name a {kind} product.* Terrain Correction of SNAP"):
        check_rasters(scene, product)
    made = tmp_path / f"S1A_IW_{kind}H_1SDV_20230601T051522_Orb_Cal_TC.tif"
    check_rasters(scene, write(made, np.full((2, 75, 101), -10, np.float32), ("VV", "VH")))


@pytest.mark.parametrize("align", [False, True])
def test_radar_with_control_points_alone_is_refused_with_a_way_out(tmp_path: Path, align: bool) -> None:
    scene = write(tmp_path / "s2.tif", ground())
    corners = [(0, 0), (0, 101), (75, 0), (75, 101)]
    points = [GroundControlPoint(row, column, 15 + column / 1e4, 45 - row / 1e4) for row, column in corners]
    values = np.full((2, 75, 101), -10, np.float32)
    place = {"transform": None, "crs": CRS.from_epsg(4326), "gcps": points}
    radar = write(tmp_path / "s1.tif", values, ("VV", "VH"), **place)
    with pytest.raises(InputError, match=r"control points alone, .* Terrain Correction of SNAP"):
        check_rasters(scene, radar, align=align)
    with pytest.raises(InputError, match=r"control points alone, .* gdalwarp"):
        check_rasters(scene, references=[radar], align=align)


@pytest.mark.parametrize("align", [False, True])
def test_guides_of_another_place_are_refused(tmp_path: Path, align: bool) -> None:
    scene = write(tmp_path / "s2.tif", ground())
    values = np.full((2, 75, 101), -10, np.float32)
    elsewhere = Affine(10, 0, 900_000, 0, -10, 5_000_000)
    for crs, transform in (("EPSG:32633", elsewhere), ("EPSG:4326", Affine(1e-4, 0, 2, 0, -1e-4, 48))):
        guide = write(tmp_path / "guide.tif", values, ("VV", "VH"), crs=crs, transform=transform)
        with pytest.raises(InputError, match=r"does not overlap it, give one of the same place"):
            check_rasters(scene, guide, align=align)
        with pytest.raises(InputError, match=r"does not overlap it, give one of the same place"):
            check_rasters(scene, references=[guide], align=align)
