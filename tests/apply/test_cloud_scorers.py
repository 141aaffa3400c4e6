import sys

import numpy as np
import pytest
import torch
from s2cloudless.cloud_detector import S2PixelCloudDetector
from s2cloudless.utils import MODEL_BANDS as PUBLISHED_BANDS

from pellucid.apply.cloud_scorers import MODEL_BANDS, NO_DATA, disk, find_scorer, to_mask
from pellucid.build.method import load
from pellucid.data.cloud_score import cloud_score
from pellucid.data.ranges import SENTINEL2
from pellucid.errors import InputError

BANDS, RGBN = SENTINEL2.bands, ("B02", "B03", "B04", "B08")


def patch(height: int = 20, width: int = 30) -> torch.Tensor:
    """Reflectance of 13 bands, dark to the left and bright to the right, beyond 1 too."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(13, height, width, generator=generator) * torch.linspace(0.1, 1.4, width)


def everywhere(image: torch.Tensor) -> torch.Tensor:
    return torch.ones(1, *image.shape[1:], dtype=torch.bool)


def test_probabilities_are_those_of_s2cloudless_from_13_bands_and_from_10() -> None:
    image = patch()
    scorer = find_scorer("s2cloudless", threads=1)
    detector = S2PixelCloudDetector(all_bands=True)
    expected = detector.get_cloud_probability_maps(image.permute(1, 2, 0).numpy()[None])[0]
    assert expected.std() > 0.05
    np.testing.assert_array_equal(scorer(image, everywhere(image), BANDS), expected)
    assert tuple(PUBLISHED_BANDS) == MODEL_BANDS
    few = image[[BANDS.index(band) for band in MODEL_BANDS]]
    np.testing.assert_array_equal(scorer(few, everywhere(image), MODEL_BANDS), expected)


@pytest.mark.parametrize("name", ["s2cloudless", "built-in"])
def test_pixels_without_data_score_nothing_and_do_not_change_the_others(name: str) -> None:
    image, scorer = patch(), find_scorer(name)
    whole = scorer(image, everywhere(image), BANDS)
    valid = everywhere(image)
    valid[:, :, :5] = False
    found = scorer(image * valid, valid, BANDS)
    assert (found[:, :5] == 0).all()
    np.testing.assert_array_equal(found[:, 10:], whole[:, 10:])
    nothing = torch.zeros_like(valid)
    assert (scorer(image * nothing, nothing, BANDS) == 0).all()


@pytest.mark.parametrize("bands", [BANDS, tuple(band for band in BANDS if band != "B10"), RGBN])
def test_ground_finds_cloud_in_the_bands_that_there_are(bands: tuple[str, ...]) -> None:
    scorer = find_scorer("ground", method=load("ground", device="cpu"))
    generator = torch.Generator().manual_seed(0)
    image = 0.05 + 0.02 * torch.rand(len(bands), 75, 90, generator=generator)
    image[:, :, 45:] += 0.6
    if "B10" in bands:
        image[bands.index("B10")] = 0.001  # which water vapour hides, land as cloud
    valid = everywhere(image)
    valid[:, :9] = False
    found = scorer(image * valid, valid, bands)
    assert found.shape == (75, 90)
    assert (found[:9] == 0).all()
    assert found[9:, :40].mean() < 0.4
    assert found[9:, 50:].mean() > 0.8
    with pytest.raises(InputError, match=r"pellucid.load\('ground'\)"):
        find_scorer("ground")


def test_the_built_in_scorer_is_the_cloud_score_of_the_bands_that_there_are() -> None:
    scorer, few = find_scorer("built-in"), ("B02", "B04", "B11")
    image = patch()[[BANDS.index(band) for band in few]]
    expected = cloud_score(image.clamp(0, 1), few)[0].numpy()
    np.testing.assert_array_equal(scorer(image, everywhere(image), few), expected)
    assert set(BANDS) - set(scorer.optional) == {"B02", "B04"}


@pytest.mark.parametrize("radius", [1, 2, 4, 7])
def test_a_disk_is_symmetric_and_has_the_area_of_a_circle(radius: int) -> None:
    found = disk(radius)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(found, found[::-1])
    assert found[radius].sum() == 2 * radius + 1
    assert found[0].sum() == 1
    assert abs(found.sum() - np.pi * radius**2) < 3 * radius


@pytest.mark.parametrize(
    ("threshold", "average_over", "dilation_size"), [(0.4, 4, 2), (0.7, 1, 3), (0.5, 0, 0), (0.5, 3, 0)]
)
def test_masks_are_those_of_s2cloudless(threshold: float, average_over: int, dilation_size: int) -> None:
    probability = np.random.default_rng(0).random((60, 50), dtype=np.float32) ** 2
    probability[20:40, 10:30] += (1 - probability[20:40, 10:30]) * 0.8
    limits = {"threshold": threshold, "average_over": average_over, "dilation_size": dilation_size}
    expected = S2PixelCloudDetector(**limits).get_mask_from_prob(probability[None])[0]
    assert 0.05 < expected.mean() < 0.95
    np.testing.assert_array_equal(to_mask(probability, **limits), expected)


def test_missing_data_is_marked_and_no_mean_heeds_it() -> None:
    probability = np.full((30, 30), 0.5, np.float32)
    probability[:, :12] = np.nan
    mask = to_mask(probability, threshold=0.4)
    assert (mask[:, :12] == NO_DATA).all()
    assert (mask[:, 12:] == 1).all()
    assert (to_mask(probability, threshold=0.6)[:, 12:] == 0).all()
    assert (to_mask(np.full((5, 5), np.nan, np.float32)) == NO_DATA).all()


def test_without_s2cloudless_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s2cloudless.cloud_detector", None)
    with pytest.raises(
        InputError, match=r"s2cloudless is not installed.*pellucid\[clouds\].*--scorer ground"
    ):
        find_scorer("s2cloudless")
    find_scorer("built-in")
