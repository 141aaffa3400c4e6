from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from pellucid.data.cloud_score import REACH_PX, box_mean, cloud_score, widen
from pellucid.data.ranges import SENTINEL2
from pellucid.data.raster import read_cloud, read_optical

BANDS = SENTINEL2.bands
# Reflectance of 13 bands: medians of clear and of cloudy places in SEN12MS-CR.
LAND = (0.13, 0.10, 0.09, 0.08, 0.11, 0.20, 0.24, 0.23, 0.27, 0.05, 0.001, 0.18, 0.10)
WATER = (0.11, 0.08, 0.05, 0.03, 0.026, 0.024, 0.022, 0.018, 0.017, 0.008, 0.001, 0.004, 0.002)
SOIL = (0.14, 0.12, 0.13, 0.17, 0.19, 0.22, 0.24, 0.24, 0.27, 0.09, 0.002, 0.32, 0.21)
SNOW = (0.73, 0.73, 0.68, 0.71, 0.73, 0.74, 0.72, 0.68, 0.68, 0.40, 0.008, 0.04, 0.04)
CLOUD = (0.45, 0.43, 0.41, 0.42, 0.43, 0.47, 0.50, 0.48, 0.52, 0.15, 0.010, 0.40, 0.30)
CIRRUS = (0.21, 0.17, 0.15, 0.14, 0.16, 0.20, 0.22, 0.22, 0.24, 0.11, 0.045, 0.20, 0.14)
SHADOW = (0.11, 0.075, 0.05, 0.035, 0.04, 0.07, 0.08, 0.08, 0.09, 0.02, 0.001, 0.07, 0.04)


def field(spectrum: tuple[float, ...], height: int = 120, width: int = 120) -> Tensor:
    return torch.tensor(spectrum).view(-1, 1, 1).repeat(1, height, width)


@pytest.mark.parametrize("spectrum", [LAND, WATER, SOIL, SNOW])
def test_clear_land_water_soil_and_snow_are_clear(spectrum: tuple[float, ...]) -> None:
    assert cloud_score(field(spectrum), BANDS).max() < 0.5


@pytest.mark.parametrize("spectrum", [CLOUD, CIRRUS])
def test_cloud_and_cirrus_are_cloud(spectrum: tuple[float, ...]) -> None:
    assert cloud_score(field(spectrum), BANDS).min() > 0.5


def test_a_dark_spot_is_a_shadow_near_a_cloud_only() -> None:
    scene = field(LAND, 150, 300)
    scene[:, 60:80, 60:80] = field(SHADOW, 20, 20)
    scene[:, 60:80, 250:270] = field(SHADOW, 20, 20)
    scene[:, 60:80, 110:130] = field(CLOUD, 20, 20)
    scene[:, 100:120, 60:80] = field(WATER, 20, 20)
    cloudy = cloud_score(scene, BANDS)[0] > 0.5
    assert cloudy[64:76, 64:76].all()
    assert cloudy[62:78, 112:128].all()
    assert not cloudy[:, 240:].any()
    assert not cloudy[104:116, 64:76].any()


def test_a_window_with_the_reach_around_it_has_the_score_of_the_scene() -> None:
    generator = torch.Generator().manual_seed(0)
    scene = field(LAND, 240, 260) * (0.5 + torch.rand(1, 240, 260, generator=generator))
    scene[:, 100:130, 90:140] = field(CLOUD, 30, 50)
    whole = cloud_score(scene, BANDS)
    part = cloud_score(scene[:, 100 - REACH_PX : 140 + REACH_PX, 90 - REACH_PX : 150 + REACH_PX], BANDS)
    torch.testing.assert_close(part[:, REACH_PX:-REACH_PX, REACH_PX:-REACH_PX], whole[:, 100:140, 90:150])
    assert whole.max() == 1


def test_a_batch_is_scored_image_by_image() -> None:
    images = [field(LAND), field(CLOUD)]
    images[0][:, 10:20, 10:20] = field(CLOUD, 10, 10)
    scores = cloud_score(torch.stack(images), BANDS)
    assert scores.shape == (2, 1, 120, 120)
    for image, score in zip(images, scores, strict=True):
        assert torch.equal(cloud_score(image, BANDS), score)


def test_bands_are_used_by_name_and_some_may_lack() -> None:
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0)).tolist()
    scene = field(LAND)
    scene[:, 10:40, 10:40] = field(CLOUD, 30, 30)
    shuffled = cloud_score(scene[order], tuple(BANDS[i] for i in order))
    assert torch.equal(shuffled, cloud_score(scene, BANDS))
    few = cloud_score(scene[[1, 3]], ("B02", "B04"))
    assert few[0, 20:30, 20:30].min() > 0.5
    assert few[0, 60:, 60:].max() < 0.5
    with pytest.raises(ValueError, match="needs B02 and B04, got B08; give a cloud map"):
        cloud_score(scene[[7]], ("B08",))


def test_pixels_without_data_are_no_cloud_and_make_no_shadow() -> None:
    scene = field(LAND)
    scene[:, :, :60] = 0
    scene[:, 10:30, 70:90] = field(CLOUD, 20, 20)
    cloudy = cloud_score(scene, BANDS)[0] > 0.5
    assert not cloudy[:, :60].any()
    assert not cloudy[60:].any()


@pytest.mark.parametrize("radius", [1, 3, 200])
def test_the_mean_over_a_square_is_that_of_the_pixels_inside(radius: int) -> None:
    values = torch.rand(1, 9, 11, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(
        [
            values[0, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].mean()
            for y in range(9)
            for x in range(11)
        ]
    )
    torch.testing.assert_close(box_mean(values, radius).flatten(), expected)


def test_real_clouds_are_found_and_real_clear_ground_is_not(data_folder: Path) -> None:
    root = data_folder / "sen12mscr"
    hits = misses = 0
    for path in sorted((root / "mask").glob("*.tif")):
        found = cloud_score(read_optical(root / "s2_cloudy" / path.name, BANDS)[0], BANDS) > 0.5
        cloud = read_cloud(path) > 0.5
        hits, misses = hits + int((found & cloud).sum()), misses + int((~found & cloud).sum())
        clear = cloud_score(read_optical(root / "s2_cloudfree" / path.name, BANDS)[0], BANDS)
        assert (clear > 0.5).float().mean() < 0.03, path.name
    assert hits / (hits + misses) > 0.9


def test_a_band_that_is_nan_counts_as_missing() -> None:
    image = torch.rand(13, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.2
    image[:, 10:20, 10:20] = 0.8
    for band in ("B10", "B03", "B11", "B08"):
        lacking = image.clone()
        lacking[SENTINEL2.bands.index(band)] = torch.nan
        kept = [i for i, name in enumerate(SENTINEL2.bands) if name != band]
        expected = cloud_score(image[kept], tuple(SENTINEL2.bands[i] for i in kept))
        torch.testing.assert_close(cloud_score(lacking, SENTINEL2.bands), expected)


def test_what_is_doubted_reaches_as_far_along_rows_columns_and_corners() -> None:
    score = torch.rand(2, 1, 21, 34, generator=torch.Generator().manual_seed(0))
    assert widen(score, 4).equal(max_pool2d(score, 9, stride=1, padding=4))
    assert widen(-score, 4).equal(max_pool2d(-score, 9, stride=1, padding=4))
    assert widen(score, 40).equal(score.amax((2, 3), keepdim=True).expand_as(score))
