from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.rasters import write_raster

from pellucid.data.ranges import SENTINEL2
from pellucid.datasets._listing import Form, ImageFile
from pellucid.errors import InputError
from pellucid.evaluation.check_images import WINDOW, draw, find_bands, read_facts


def image(path: Path, form: Form) -> ImageFile:
    return ImageFile("clear", path, form)


def write_optical(path: Path, values: np.ndarray, names: tuple[str, ...] = ("B02", "B03", "B04")) -> Path:
    write_raster(path, values, names)
    return path


def test_the_facts_of_a_scene_are_its_reflectance_without_pixels_that_hold_no_data(tmp_path: Path) -> None:
    values = np.full((3, 10, 20), 500, dtype=np.uint16)
    values[1], values[2, 0, 0], values[:, 5:] = 3000, 8000, 0
    facts = read_facts(image(write_optical(tmp_path / "a.tif", values), "optical"))
    assert (facts.size, facts.bands, facts.dtype, facts.unit) == (
        "10 x 20",
        ("B02", "B03", "B04"),
        "uint16",
        "reflectance",
    )
    assert facts.low == pytest.approx((0.05, 0.3, 0.05))
    assert facts.high == pytest.approx((0.05, 0.3, 0.8))
    assert facts.mean == pytest.approx((0.05, 0.3, 0.05 + 0.75 / 100))
    assert facts.missing == 0.5
    assert not facts.doubts


def test_large_scenes_are_read_in_parts_to_the_last_pixel(tmp_path: Path) -> None:
    values = np.full((1, WINDOW + 3, 8), 500, dtype=np.uint16)
    values[0, -1, -1] = 900
    facts = read_facts(image(write_optical(tmp_path / "a.tif", values, ("B08",)), "optical"))
    assert facts.high == pytest.approx((0.09,))
    assert facts.height == WINDOW + 3
    assert np.isnan(facts.cloud)


def test_the_digest_is_of_the_pixels(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    Image.fromarray(noise).save(tmp_path / "b.tif")
    Image.fromarray(noise.T.copy()).save(tmp_path / "c.png")
    one, same, other = (
        read_facts(image(tmp_path / name, "slice")).digest for name in ("a.png", "b.tif", "c.png")
    )
    assert one == same != other


def test_clouds_are_counted_among_the_pixels_with_data(tmp_path: Path) -> None:
    values = np.full((3, 60, 80), 500, dtype=np.uint16)
    values[:, :, :40] = 6000
    values[:, :30] = 0
    facts = read_facts(image(write_optical(tmp_path / "a.tif", values), "optical"))
    assert facts.cloud == pytest.approx(0.5, abs=0.05)


def test_doubts_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    power = np.random.default_rng(0).uniform(0.01, 0.3, (2, 16, 16)).astype(np.float32)
    power[1] /= 5  # VH
    write_raster(tmp_path / "linear.tif", power, ("VV", "VH"))
    bright = np.random.default_rng(0).uniform(0.5, 1.6, (3, 16, 16)).astype(np.float32)
    shifted = np.random.default_rng(0).integers(1010, 4000, (3, 64, 64)).astype(np.uint16)
    Image.fromarray(np.full((4, 4), 5, dtype=np.uint8)).save(tmp_path / "dark.png")
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "gray.png")
    forms: dict[Path, Form] = {
        tmp_path / "linear.tif": "radar",
        write_optical(tmp_path / "bright.tif", bright): "optical",
        write_optical(tmp_path / "shifted.tif", shifted): "optical",
        tmp_path / "dark.png": "gray",
        tmp_path / "gray.png": "color",
    }
    doubts = [[kind for kind, _ in read_facts(image(path, form)).doubts] for path, form in forms.items()]
    assert doubts == [["linear radar"], ["clipped"], ["offset"], ["dark radar"], ["colourless"]]
    assert not read_facts(ImageFile("cloudy", tmp_path / "bright.tif", "optical")).doubts
    assert not caplog.records
    for path, form in forms.items():
        assert draw(image(path, form)).shape[2] == 3
    assert not caplog.records


def test_bands_are_those_of_the_file_or_must_be_those_that_are_wanted(tmp_path: Path) -> None:
    values = np.ones((13, 4, 4), dtype=np.uint16)
    assert find_bands(write_optical(tmp_path / "a.tif", values[:2], ("B8", "B2"))) == ("B02", "B08")
    unnamed = write_optical(tmp_path / "b.tif", values[:12], ("",) * 12)
    assert find_bands(unnamed) == tuple(band for band in SENTINEL2.bands if band != "B10")
    assert find_bands(unnamed, ("B02",)) == ("B02",)
    with pytest.raises(InputError, match="lacks the band B10"):
        find_bands(unnamed, ("B10",))
    with pytest.raises(InputError, match="has no band of Sentinel-2"):
        find_bands(write_optical(tmp_path / "c.tif", values[:1], ("landcover",)))
