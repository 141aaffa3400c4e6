from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from products import SIDE, START, TILE, ramps, shrink, write_jp2, write_product
from scenes import write

from pellucid.data.band_files import find_band_files
from pellucid.data.geotiff import Raster
from pellucid.data.raster import OpticalRaster
from pellucid.data.raster_source import files_of
from pellucid.errors import InputError

INSIDE = (..., slice(3, -3), slice(3, -3))


def write_bands(folder: Path) -> None:
    """Write B02 and B04 of 10 m and B11 of 20 m, named as in a product, in no product."""
    red, blue, infrared = ramps(3)
    write_jp2(folder / f"{TILE}_{START}_B04.jp2", red, 10)
    write_jp2(folder / f"{TILE}_{START}_B02.jp2", blue, 10)
    write_jp2(folder / f"{TILE}_{START}_B11.jp2", shrink(infrared, 2), 20)


def test_files_of_bands_become_one_scene_in_the_order_of_the_sensor(tmp_path: Path) -> None:
    write_bands(tmp_path)
    with Raster(tmp_path / "*_B*.jp2", "optical scene") as raster:
        assert raster.dataset.descriptions == ("B02", "B04", "B11")
        np.testing.assert_array_equal(raster.read_array()[INSIDE], ramps(3)[[1, 0, 2]][INSIDE])


def test_colours_and_names_of_landsat_name_bands(tmp_path: Path) -> None:
    values = np.full((1, 8, 8), 12_000, np.uint16)
    for name in ("scene_red", "scene_nir08", "scene_elevation"):
        write(tmp_path / f"{name}.tif", values)
    with Raster(tmp_path / "scene_*.tif", "optical scene") as raster:
        assert raster.dataset.descriptions == ("B04", "B8A", "scene_elevation")
    for satellite, number, band in ((8, 4, "B04"), (5, 4, "B8A"), (9, 7, "B12")):
        folder = tmp_path / str(satellite)
        write(folder / f"LC0{satellite}_L2SP_190025_20230601_20230607_02_T1_SR_B{number}.TIF", values)
        with OpticalRaster(folder / "*_SR_B?.TIF", (band,)) as raster:
            assert raster.read()[0].mean() == pytest.approx(12_000 * 2.75e-5 - 0.2)


def test_files_in_a_product_have_the_units_of_its_metadata(tmp_path: Path) -> None:
    product = write_product(tmp_path, offsets=(-900,) * 13)
    pattern = product / "GRANULE/*/IMG_DATA/**/*.jp2"
    for path in product.rglob("*_B12_*.jp2"):
        path.unlink()
    assert product / "MTD_MSIL2A.xml" in files_of(pattern)
    with OpticalRaster(pattern, ("B02", "B11")) as raster:
        assert raster.dataset.count == 11
        values, _ = raster.read()
    expected = (ramps(12)[[1, 10]].astype(float) - 900) / 10_000
    np.testing.assert_allclose(values.numpy()[INSIDE], expected[INSIDE], atol=1e-7)


def test_bands_of_one_granule_of_an_old_product_are_a_scene(tmp_path: Path) -> None:
    product = tmp_path / "S2A_OPER_PRD_MSIL1C_PDMC_20160605T201137_R022.SAFE"
    for i, tile in enumerate(("T33UUP", "T33UUQ")):
        for band, values in zip(("B02", "B04"), ramps(4)[2 * i :], strict=False):
            name = f"S2A_OPER_MSI_L1C_TL_EPA__20160605T113933_A000734_{tile}"
            write_jp2(product / f"GRANULE/{name}_N02.02/IMG_DATA/{name}_{band}.jp2", values, 10)
    (product / "S2A_OPER_MTD_SAFL1C_PDMC_20160605T201137.xml").write_text("<a/>")
    with OpticalRaster(product / "GRANULE/*_T33UUP_*/IMG_DATA/*_B*.jp2", ("B02", "B04")) as raster:
        np.testing.assert_allclose(raster.read()[0].numpy(), ramps(2) / 10_000, atol=1e-7)
    with pytest.raises(InputError, match="narrow the pattern"):
        Raster(product / "GRANULE/*/IMG_DATA/*_B*.jp2", "optical scene")


def test_pictures_and_classes_of_a_product_are_no_bands(tmp_path: Path) -> None:
    write_bands(tmp_path)
    write_jp2(tmp_path / f"{TILE}_{START}_SCL_20m.jp2", np.zeros((60, 60), np.uint8), 20)
    assert len(find_band_files(tmp_path / "*.jp2")) == 3


def _twice(folder: Path) -> str:
    write_jp2(folder / "B02.jp2", ramps(1)[0], 10)
    return "*B0*.jp2"


def _another_day(folder: Path) -> str:
    write_jp2(folder / f"{TILE}_20230606T101031_B03.jp2", ramps(1)[0], 10)
    return "*_B*.jp2"


def _another_baseline(folder: Path) -> str:
    for baseline, band in (("0204", "B05"), ("0510", "B06")):
        write_jp2(folder / f"S2A_N{baseline}_R022" / f"{band}.jp2", ramps(1)[0], 10)
    return "S2A_*/B*.jp2"


def _elsewhere(folder: Path) -> str:
    write(folder / "B08.tif", ramps(1))
    return "*B0*"


def _cut(folder: Path) -> str:
    path = folder / f"{TILE}_{START}_B04.jp2"
    path.write_bytes(path.read_bytes()[:-100])
    return "*.jp2"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_twice, r"has more than one file of B02 \(B02.jp2, T33UUP_20230601T101031_B02.jp2\)"),
        (_another_day, "mixes files of more than one acquisition"),
        (_another_baseline, r"mixes files of more than one processing baseline \(0204, 0510\)"),
        (_elsewhere, "does not overlap"),
        (_cut, r"_B04.jp2, which ends too early; download it again"),
        (lambda _: "C*.jp2", r"no file of a band fits .*C\*.jp2"),
    ],
)
def test_files_that_are_no_scene_are_refused(
    tmp_path: Path, change: Callable[[Path], str], found: str
) -> None:
    write_bands(tmp_path)
    pattern = change(tmp_path)
    with pytest.raises(InputError, match=found):
        Raster(tmp_path / pattern, "optical scene")


def test_files_of_a_product_do_not_mix_with_others(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    write_jp2(tmp_path / f"{TILE}_{START}_B02.jp2", ramps(1)[0], 10)
    with pytest.raises(InputError, match=r"takes files of the product .* and others"):
        Raster(tmp_path / "**/*_B0*.jp2", "optical scene")
    assert len(find_band_files(product / "**/*_B02_*.jp2")) == 3
    assert SIDE % 6 == 0
