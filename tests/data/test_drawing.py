from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data.drawing import BLACK, NO_DATA, gray_to_rgb, radar_to_rgb, save_picture, sheet, to_rgb
from pellucid.data.ranges import SENTINEL2
from pellucid.errors import InputError

BANDS = SENTINEL2.bands


def test_red_green_and_blue_are_b04_b03_and_b02_between_black_and_white() -> None:
    optical = torch.zeros(13, 1, 3)
    optical[[3, 2, 1], 0, 0] = torch.tensor(BLACK)
    optical[3, 0, 1] = BLACK[0] + (0.4 - BLACK[0]) / 2
    optical[[3, 2, 1], 0, 2] = 0.4
    picture = to_rgb(optical, BANDS)
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[0, 1].tolist() == [round(255 * 0.5 ** (1 / 1.6)), 0, 0]
    assert picture[0, 2].tolist() == [255, 255, 255]


def test_the_stretch_of_an_image_does_not_depend_on_its_surroundings() -> None:
    optical = torch.rand(13, 8, 8, generator=torch.Generator().manual_seed(0))
    assert (to_rgb(optical, BANDS)[:4, :4] == to_rgb(optical[:, :4, :4], BANDS)).all()


def test_without_all_three_colours_the_first_band_is_grey() -> None:
    picture = to_rgb(torch.full((2, 1, 1), 0.4), ("B08", "B04"))
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_pixels_without_data_are_grey() -> None:
    valid = torch.tensor([[[True, False]]])
    assert to_rgb(torch.ones(13, 1, 2), BANDS, valid)[0].tolist() == [[255] * 3, [NO_DATA] * 3]
    sar = torch.tensor([[[0.8, float("nan")]], [[0.4, 0.2]]])
    assert radar_to_rgb(sar)[0].tolist() == [[204, 102, 230], [NO_DATA] * 3]


def test_grey_levels_run_from_zero_to_high() -> None:
    values = torch.tensor([[[0.0, 0.1, 0.5, float("nan")]]])
    assert gray_to_rgb(values, high=0.2)[0, :, 0].tolist() == [0, 128, 255, 0]


def test_a_sheet_holds_every_panel_at_its_place() -> None:
    red, blue = np.zeros((2, 10, 20, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    image = np.asarray(sheet([[red, blue], [blue, red]], ["left", "right"], ["one", "two"], side=40))
    assert [tuple(image[y, x]) for y in (50, 92) for x in (10, 56)] == [
        (255, 0, 0),
        (0, 0, 255),
        (0, 0, 255),
        (255, 0, 0),
    ]


def test_a_sheet_with_a_missing_panel_is_refused() -> None:
    panel = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="2 titles need as many panels in every row"):
        sheet([[panel]], ["input", "result"])
    with pytest.raises(ValueError, match="and a caption per row"):
        sheet([[panel]], ["input"], ["one", "two"])


def test_a_picture_is_written_whole_or_refused(tmp_path: Path) -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    save_picture(picture, tmp_path / "a.png")
    assert (np.asarray(Image.open(tmp_path / "a.png")) == picture).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(InputError, match=r"a\.png is a file; choose another folder"):
        save_picture(picture, tmp_path / "a.png" / "b.png")
