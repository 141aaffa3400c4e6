from pathlib import Path

import numpy as np
import pytest
import rasterio
from tests.scenes import write

from pellucid.data.radar_picture import read_radar_picture
from pellucid.data.radar_scene import RadarRaster
from pellucid.data.radar_units import RadarUnit
from pellucid.data.ranges import SENTINEL1, Bands
from pellucid.errors import InputError

# Medians of VV and VH over real ground, in dB: farmland, forest, snow, a town, desert, and a lake.
GROUNDS = [(-11, -17.6), (-10.1, -15.8), (-14.5, -21.9), (-7.7, -13.6), (-12, -22), (-22, -26.9)]


def speckled(medians: tuple[float, ...], size: int = 32) -> np.ndarray:
    """Return backscatter of homogeneous ground in dB, (P, size, size), with the speckle of 4.4 looks."""
    speckle = np.random.default_rng(0).gamma(4.4, 1 / 4.1, (len(medians), size, size))
    return (np.reshape(medians, (-1, 1, 1)) + 10 * np.log10(speckle)).astype(np.float32)


def read(path: Path, names: Bands = ("VV", "VH"), units: RadarUnit = "auto") -> np.ndarray:
    with RadarRaster(path, named=names, partial=True, units=units) as radar:
        found = radar.read_db().numpy()
    return found[np.isfinite(found).any((1, 2))]


@pytest.mark.parametrize("medians", GROUNDS)
def test_power_is_told_and_amplitudes_are_never_taken_for_it(
    tmp_path: Path, medians: tuple[float, float]
) -> None:
    db = speckled(medians)
    np.testing.assert_allclose(read(write(tmp_path / "power.tif", 10 ** (db / 10))), db, atol=1e-3)
    amplitudes = write(tmp_path / "amplitude.tif", 10 ** (db / 20))
    with pytest.raises(InputError, match=r"say it with --sar-units power or --sar-units amplitude"):
        read(amplitudes)
    np.testing.assert_allclose(read(amplitudes, units="amplitude"), db, atol=1e-3)


@pytest.mark.parametrize("medians", [(-4, -9.5), (-6.5, -11.5)])
def test_power_that_may_be_amplitudes_is_read_where_that_is_said(
    tmp_path: Path, medians: tuple[float, float]
) -> None:
    db = speckled(medians)
    path = write(tmp_path / "s1.tif", 10 ** (db / 10))
    with pytest.raises(InputError, match=r"medians -\d+.\d, -\d+.\d dB\) or amplitudes"):
        read(path)
    np.testing.assert_allclose(read(path, units="power"), db, atol=1e-3)


@pytest.mark.parametrize(
    ("decade", "units", "doubt"),
    [
        (10, "amplitude", "as power they would be usual backscatter"),
        (20, "power", "they may be amplitudes"),
        (20, "amplitude", ""),
        (10, "power", ""),
    ],
)
def test_what_speaks_against_a_unit_that_is_said_is_told(
    tmp_path: Path, decade: int, units: RadarUnit, doubt: str
) -> None:
    path = write(tmp_path / "s1.tif", 10 ** (speckled((-9, -15.5)) / decade))
    with RadarRaster(path, named=("VV", "VH"), units=units) as radar:
        assert len(radar.doubts) == 1 + bool(doubt)
        assert doubt in radar.doubts[-1]


def test_of_one_polarisation_less_is_told(tmp_path: Path) -> None:
    dark, usual = speckled((-13,)), speckled((-9,))
    found = read(write(tmp_path / "dark.tif", 10 ** (dark / 10)), ("VV",))
    np.testing.assert_allclose(found, dark, atol=1e-3)
    for name, values in {"power": 10 ** (usual / 10), "amplitude": 10 ** (usual / 20)}.items():
        with pytest.raises(InputError, match=r"say it with --sar-units power or --sar-units amplitude"):
            read(write(tmp_path / f"{name}.tif", values), ("VV",))


@pytest.mark.parametrize(
    ("name", "bands", "tags"),
    [
        ("s1.tif", ("Amplitude_VV", "Amplitude_VH"), {}),
        ("s1.tif", ("VV_amp", "VH_amp"), {}),
        ("s1.tif", ("VV", "VH"), {"units": "amplitude"}),
        ("S1A_IW_20200101T000000_DVP_RTC30_G_gauned_0123.tif", ("VV", "VH"), {}),
    ],
)
def test_amplitudes_that_a_file_declares_are_converted_after_saying_so(
    tmp_path: Path, name: str, bands: Bands, tags: dict[str, str]
) -> None:
    db = speckled((-11, -17.6))
    path = write(tmp_path / name, 10 ** (db / 20), bands)
    with rasterio.open(path, "r+") as file:
        file.update_tags(**tags)
    with RadarRaster(path) as radar:
        np.testing.assert_allclose(radar.read_db(), db, atol=1e-3)
        assert radar.doubts == [f"{path} holds amplitudes, not dB: they are converted"]


def test_power_that_a_file_declares_needs_no_option(tmp_path: Path) -> None:
    db = speckled((-6.5, -11.5))
    path = write(tmp_path / "s1.tif", 10 ** (db / 10), ("Intensity_VV", "Intensity_VH"))
    with RadarRaster(path) as radar:
        np.testing.assert_allclose(radar.read_db(), db, atol=1e-3)


@pytest.mark.parametrize(
    ("values", "units", "message"),
    [
        (
            speckled((-11, -18)),
            "power",
            r"values about -1\d.\d, no backscatter as linear power, which --sar-u",
        ),
        (speckled((-11, -18)), "amplitude", r"no backscatter as amplitude, which --sar-units says it is"),
        (
            10 ** (speckled((-11, -18)) / 10),
            "db",
            r"no backscatter as dB, which --sar-units says it is; give",
        ),
        (200 * 10 ** (speckled((-1, -7)) / 20), "amplitude", r"or calibrate it to sigma nought"),
        (speckled((-11, -18)) * 100, "db", r"no backscatter as dB"),
    ],
)
def test_a_unit_that_the_values_cannot_have_is_refused(
    tmp_path: Path, values: np.ndarray, units: RadarUnit, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "s1.tif", values), units=units)


def test_power_whose_bands_are_named_amplitude_is_refused(tmp_path: Path) -> None:
    power = 10 ** (speckled((-16, -23)) / 10)
    with pytest.raises(InputError, match="no backscatter as amplitude, which its names or tags say it is"):
        read(write(tmp_path / "s1.tif", power, ("VV_amplitude", "VH_amplitude")))


def test_pictures_take_the_unit_that_is_said(tmp_path: Path) -> None:
    db, vv = speckled((-11,)), SENTINEL1.select(("VV",))
    path = write(tmp_path / "s1.tif", 10 ** (db / 20), ("VV",))
    with pytest.raises(InputError, match="--sar-units amplitude"):
        read_radar_picture(path, vv)
    found = read_radar_picture(path, vv, units="amplitude")
    np.testing.assert_allclose(found.sar, ((db + 25) / 25).clip(0, 1), atol=1e-4)
