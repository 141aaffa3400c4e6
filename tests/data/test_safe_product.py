import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from products import SIDE, ramps, write_manifest, write_product, zip_product

from pellucid.data.band_names import LEVEL_2A
from pellucid.data.ranges import SENTINEL2
from pellucid.data.raster import OpticalRaster
from pellucid.data.safe_product import check_digests, is_product, read_product
from pellucid.errors import InputError

# Pixels of 60 m have no neighbour to be interpolated with at the edges.
INSIDE = (..., slice(3, -3), slice(3, -3))


@pytest.mark.parametrize("level", ["L1C", "L2A"])
@pytest.mark.parametrize(("baseline", "offset"), [("02.04", None), ("04.00", -1000), ("05.10", -1000)])
def test_reflectance_is_exact_in_every_band_and_baseline(
    tmp_path: Path, level: str, baseline: str, offset: int | None
) -> None:
    offsets = None if offset is None else (offset,) * 13
    product = write_product(tmp_path, level=level, baseline=baseline, offsets=offsets)
    bands = SENTINEL2.bands if level == "L1C" else LEVEL_2A
    expected = (ramps(len(bands)).astype(float) + (offset or 0)) / 10_000
    archive, metadata = zip_product(product), product / f"MTD_MSI{level}.xml"
    for path in (product, archive, metadata, product / "manifest.safe"):
        with OpticalRaster(path, bands) as raster:
            values, valid = raster.read()
            assert not raster.doubts
            assert raster.dataset.descriptions == bands
        assert valid.all()
        np.testing.assert_allclose(values.numpy()[INSIDE], expected[INSIDE], atol=1e-7)


def test_the_metadata_decides_on_offsets_and_not_the_baseline(tmp_path: Path) -> None:
    """A collection that was processed again may have any of them, whatever date and baseline say."""
    early = write_product(tmp_path / "early", baseline="02.04", offsets=tuple(range(-1000, 300, 100)))
    late = write_product(tmp_path / "late", baseline="05.10", offsets=None, quantification=20_000)
    with OpticalRaster(early, ("B02", "B12")) as raster:
        values, _ = raster.read()
    expected = ramps(12)[[1, 11]].astype(float) + np.array([-900, 200])[:, None, None]
    np.testing.assert_allclose(values.numpy()[INSIDE], expected[INSIDE] / 10_000, atol=1e-7)
    with OpticalRaster(late, ("B02",)) as raster:
        values, _ = raster.read()
    np.testing.assert_allclose(values.numpy()[INSIDE], ramps(12)[1:2][INSIDE] / 20_000, atol=1e-7)


def test_missing_pixels_are_missing_in_all_bands_and_bleed_into_none(tmp_path: Path) -> None:
    values = ramps(12)
    values[:, :, :60] = 0
    values[3, 100, 100] = 0
    with OpticalRaster(write_product(tmp_path, values=values), LEVEL_2A) as raster:
        reflectance, valid = raster.read()
    expected = np.ones((SIDE, SIDE), bool)
    expected[:, :60] = False
    expected[100, 100] = False
    np.testing.assert_array_equal(valid[0], expected)
    lowest = reflectance.numpy()[:, :, 60:].reshape(12, -1)
    assert (np.sort(lowest, axis=1)[:, 1] > 0.1).all()


def test_windows_agree_with_the_whole(tmp_path: Path) -> None:
    from rasterio.windows import Window

    values = np.random.default_rng(0).integers(1, 9000, (12, SIDE, SIDE)).astype(np.uint16)
    with OpticalRaster(write_product(tmp_path, values=values), LEVEL_2A) as raster:
        whole = raster.read_array()
        for top, left, height, width in [(0, 0, 17, 31), (59, 61, 3, 1), (100, 7, 20, 113)]:
            part = raster.read_array(window=Window(left, top, width, height))
            np.testing.assert_array_equal(part, whole[:, top : top + height, left : left + width])


def test_only_products_are_taken_for_such(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    assert is_product(product)
    assert not is_product(tmp_path)
    assert not is_product(tmp_path / "scene.tif")
    files = read_product(product).files
    assert len(files) == 13
    assert all(path.is_file() for path in files)


def _drop(pattern: str) -> Callable[[Path], None]:
    def change(product: Path) -> None:
        for path in product.rglob(pattern):
            path.unlink()

    return change


def _edit(pattern: str, new: str) -> Callable[[Path], None]:
    def change(product: Path) -> None:
        path = product / "MTD_MSIL2A.xml"
        path.write_text(re.sub(pattern, new, path.read_text(), count=1))

    return change


def _old(product: Path) -> None:
    (product / "MTD_MSIL2A.xml").rename(product / "S2A_OPER_MTD_SAFL1C_PDMC_20160605T201137.xml")


BOMB = '<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;">]>\n<n1:Level'


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            _drop("*_B05_*.jp2"),
            r"lacks the file of B05 in 20 m; needed are all of B01, .*: download it again, or",
        ),
        (_drop("*_B08_10m.jp2"), r"lacks the file of B08 in 10 m; needed"),
        (_old, "in the format before December 2016, of many tiles; download the tile anew"),
        (_drop("MTD_MSI*.xml"), r"has no MTD_MSIL1C.xml or MTD_MSIL2A.xml, so it is no whole"),
        (_edit("<n1:Level", BOMB), "declares a document type"),
        (_edit("</n1:General_Info>", ""), r"MTD_MSIL2A.xml is damaged \(mismatched tag"),
        (_edit(">10000<", ">0<"), "quantification value 0, must be positive"),
        (_edit(">10000<", ">many<"), "has 'many' where a number is needed"),
        (_edit('band_id="3"', 'band_id="13"'), "offset for the band '13', must be 0 to 12"),
        (
            _edit("</Granule>", "</Granule><Granule/>"),
            "has more than one granule, so it is in the format before",
        ),
    ],
)
def test_incomplete_products_are_refused(tmp_path: Path, change: Callable[[Path], None], found: str) -> None:
    product = write_product(tmp_path)
    change(product)
    with pytest.raises(InputError, match=found):
        OpticalRaster(product, LEVEL_2A)


def test_a_band_that_was_only_made_at_20_m_is_taken_as_it_is(tmp_path: Path) -> None:
    """Sen2Cor makes products of one resolution, whose metadata lists no other."""
    product = write_product(tmp_path)
    _edit("[^>]*B03_10m<", "<")(product)
    found = {band.name: band.source for band in read_product(product).bands}
    assert found["B03"].endswith("_B03_20m.jp2")
    assert found["B02"].endswith("_B02_10m.jp2")


def test_a_document_type_is_refused_in_any_encoding(tmp_path: Path) -> None:
    product = write_product(tmp_path)
    path = product / "MTD_MSIL2A.xml"
    path.write_bytes(
        path.read_text().replace("UTF-8", "UTF-16").replace("<n1:Level", BOMB, 1).encode("utf-16")
    )
    with pytest.raises(InputError, match="is damaged"):
        read_product(product)


def test_archives_without_a_product_or_with_several_are_refused(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "product.zip"
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="is no readable zip archive"):
        read_product(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "empty")
    with pytest.raises(InputError, match=r"has no MTD_MSIL1C.xml or MTD_MSIL2A.xml"):
        read_product(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.SAFE/MTD_MSIL2A.xml", "<a/>")
        archive.writestr("b.SAFE/MTD_MSIL2A.xml", "<a/>")
    with pytest.raises(InputError, match="holds 2 products"):
        read_product(path)


def test_a_damaged_image_is_refused_where_it_is_read(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 9000, (12, SIDE, SIDE)).astype(np.uint16)
    product = write_product(tmp_path, values=values)
    path = next(product.rglob("*_B03_10m.jp2"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"B03_10m.jp2"):
        OpticalRaster(product, LEVEL_2A)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"has the file .*_B03_10m.jp2, which is no readable raster"):
        OpticalRaster(product, LEVEL_2A)


def test_a_folder_of_products_is_data_and_a_product_alone_too(tmp_path: Path) -> None:
    from pellucid.evaluation.check_folder import check_folder

    product = write_product(tmp_path / "one")
    zip_product(write_product(tmp_path / "two"))
    for folder, number in ((tmp_path, 2), (product, 1)):
        report = check_folder(folder)
        assert (report.kind, report.num_samples, report.num_unusable) == ("clear_scenes", number, 0)
        assert report.images


@pytest.mark.parametrize("kind", ["MD5", "SHA3-256"])
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_band_with_other_bytes_than_the_manifest_says_is_damaged(
    tmp_path: Path, kind: str, is_packed: bool
) -> None:
    product = write_product(tmp_path)
    write_manifest(product, kind)
    check_digests(zip_product(product) if is_packed else product)
    image = next(product.rglob("*_B04_10m.jp2"))
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"B04_10m.jp2, which is not that of its manifest"):
        check_digests(zip_product(product) if is_packed else product)
    with pytest.raises(InputError, match="which is not that of its manifest"):
        OpticalRaster(zip_product(product) if is_packed else product, ("B04",))
    (product / "manifest.safe").unlink()
    check_digests(product)
