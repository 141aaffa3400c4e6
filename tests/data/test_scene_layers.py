from pathlib import Path
from typing import Any

import pytest
from rasterio.enums import ColorInterp
from scenes import BANDS, ground, write

from pellucid.data.gdal_open import open_raster
from pellucid.data.scene_layers import Labels, create_layer


def layer(folder: Path, name: str, bands: tuple[str, ...] = BANDS, *, named: bool = True, **tags: str) -> Any:
    """Return a layer of a scene of these bands, open."""
    source = write(folder / "s2.tif", ground(40, 40)[: len(bands)], bands if named else ())
    with open_raster(source, "r+") as file:
        file.update_tags(**tags)
    labels = Labels({"PELLUCID_MODEL": "new"}, dict(enumerate(bands, start=1)))
    with open_raster(source) as file:
        create_layer(folder / f"{name}.tif", file, name, block=256, labels=labels)
    return open_raster(folder / f"{name}.tif")


def test_true_colour_is_b04_b03_b02_wherever_they_lie(tmp_path: Path) -> None:
    with layer(tmp_path, "result", BANDS[::-1]) as file:
        shown = {text: color.name for text, color in zip(file.descriptions, file.colorinterp, strict=True)}
    assert {name: color for name, color in shown.items() if color != "undefined"} == {
        "B04": "red",
        "B03": "green",
        "B02": "blue",
    }


@pytest.mark.parametrize("bands", [("B08", "B04", "B03"), ("B02",)])
def test_bands_without_true_colour_stay_grey(tmp_path: Path, bands: tuple[str, ...]) -> None:
    with layer(tmp_path, "result", bands) as file:
        assert file.colorinterp[0] == ColorInterp.gray
        assert not {ColorInterp.red, ColorInterp.blue} & set(file.colorinterp)


def test_colours_that_the_scene_declares_itself_are_kept(tmp_path: Path) -> None:
    own = (ColorInterp.undefined, ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    source = write(tmp_path / "s2.tif", ground(40, 40)[:4], ("B02", "B03", "B04", "B08"))
    with open_raster(source, "r+") as file:
        file.colorinterp = own
    with open_raster(source) as file:
        names = dict(enumerate(file.descriptions, start=1))
        create_layer(tmp_path / "a.tif", file, "result", block=256, labels=Labels(bands=names))
    with open_raster(tmp_path / "a.tif") as file:
        assert file.colorinterp == own


def test_bands_get_names_and_wavelengths_that_the_scene_lacks(tmp_path: Path) -> None:
    with layer(tmp_path, "std", named=False) as file:
        assert file.descriptions == BANDS
        assert file.tags(2) == {"wavelength": "0.49", "fwhm": "0.065", "wavelength_units": "Micrometers"}


def test_a_result_says_what_made_it_and_nothing_of_what_made_its_input(tmp_path: Path) -> None:
    old = {"PELLUCID": "result", "PELLUCID_MODEL": "old", "PELLUCID_SCORER": "old", "PLACE": "here"}
    with layer(tmp_path, "result", **old) as file:
        tags = {name: text for name, text in file.tags().items() if name != "AREA_OR_POINT"}
    new = {"PELLUCID": "result", "PELLUCID_MODEL": "new", "PELLUCID_LAYER": "result", "PLACE": "here"}
    assert tags == new


def test_what_was_painted_is_one_band_of_bytes_on_the_grid_of_the_scene(tmp_path: Path) -> None:
    with layer(tmp_path, "painted") as file, open_raster(tmp_path / "s2.tif") as scene:
        assert (file.count, file.dtypes[0], file.nodata) == (1, "uint8", None)
        assert (file.crs, file.transform, file.shape) == (scene.crs, scene.transform, scene.shape)
        assert file.descriptions == ("painted",)
