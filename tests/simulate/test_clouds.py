from pathlib import Path

import pytest
import rasterio
import torch
from torch import Tensor

from pellucid.data.ranges import SENTINEL2
from pellucid.simulate.clouds import SkyOptions, add_clouds

BANDS = SENTINEL2.bands
ONLY_HEAPS = {"overcast": 0.0, "thin": 0.0, "haze": 0.0}


def clear_image(side: int = 96) -> Tensor:
    """A chequered landscape, dark in the visible and bright in the infrared."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    fields = ((rows // 8 + columns // 8) % 2).float()
    level = torch.linspace(0.05, 0.3, 13).view(-1, 1, 1)
    return level * (0.7 + 0.6 * fields)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_clear_sky_leaves_the_image_as_it_is() -> None:
    clear = clear_image()
    options = SkyOptions(cover=(0.0, 0.0), **ONLY_HEAPS)
    degraded, cloud = add_clouds(clear, BANDS, generator(0), options)
    torch.testing.assert_close(degraded, clear, rtol=0, atol=0)
    assert cloud.count_nonzero() == 0
    assert degraded is not clear


def test_the_map_is_zero_exactly_where_the_image_is_unchanged() -> None:
    clear = clear_image()
    for seed in range(6):
        degraded, cloud = add_clouds(
            clear, BANDS, generator(seed), SkyOptions(cover=(0.3, 0.3), **ONLY_HEAPS)
        )
        untouched = cloud[0] == 0
        assert 0 < untouched.float().mean() < 1
        torch.testing.assert_close(degraded[:, untouched], clear[:, untouched], rtol=0, atol=0)
        assert ((degraded - clear).abs().amax(0)[cloud[0] > 0.1] > 0).all()


def test_thick_overcast_hides_the_ground_everywhere() -> None:
    options = SkyOptions(overcast=1.0, thin=0.0, haze=0.0, thickness=(50.0, 50.0))
    clear = clear_image()
    visible = BANDS.index("B02")
    for seed in range(4):
        over_fields, cloud = add_clouds(clear, BANDS, generator(seed), options)
        over_meadow, _ = add_clouds(clear.flip(-1) * 0.9, BANDS, generator(seed), options)
        assert (over_fields - over_meadow).abs().max() < 0.1 * (clear - clear.flip(-1) * 0.9).abs().max()
        assert cloud.min() > 0.9
        assert over_fields[visible].min() > 2 * clear[visible].max()


def test_cover_is_the_share_under_cloud() -> None:
    options = SkyOptions(cover=(0.5, 0.5), shadow=(0.0, 0.0), **ONLY_HEAPS)
    shares = []
    for seed in range(12):
        _, cloud = add_clouds(torch.full((1, 96, 96), 0.1), ("B02",), generator(seed), options)
        shares.append((cloud > 0).float().mean())
    assert torch.stack(shares).median() == pytest.approx(0.5, abs=0.03)


def test_only_high_clouds_show_in_the_cirrus_band() -> None:
    clear = clear_image() * 0 + 0.05
    clear[BANDS.index("B10")] = 0
    seen = {}
    for height in (0.0, 0.9):
        options = SkyOptions(overcast=1.0, thin=0.0, haze=0.0, height=(height, height))
        degraded, _ = add_clouds(clear, BANDS, generator(3), options)
        seen[height] = degraded[BANDS.index("B10")].max()
    assert seen[0.0] < 0.002
    assert seen[0.9] > 0.1


@pytest.mark.parametrize(("azimuth_deg", "side"), [(90.0, -1), (270.0, 1)])
def test_shadows_fall_away_from_the_sun(azimuth_deg: float, side: int) -> None:
    clear = torch.full((2, 192, 192), 0.25)
    options = SkyOptions(
        cover=(0.15, 0.15),
        height=(0.03, 0.03),
        shadow=(1.0, 1.0),
        sun_azimuth_deg=(azimuth_deg, azimuth_deg),
        **ONLY_HEAPS,
    )
    lags = torch.arange(-70, 71)
    total = torch.zeros(len(lags))
    for seed in range(8):
        degraded, _ = add_clouds(clear, ("B02", "B08"), generator(seed), options)
        cloudy = (degraded[0] > 0.3).float()
        shaded = (degraded[1] < 0.2).float()
        assert shaded.sum() > 0
        total += torch.stack([(torch.roll(cloudy, int(lag), 1) * shaded).sum() for lag in lags])
    assert (lags[total.argmax()] * side) > 8


def test_shadows_darken_infrared_more_than_blue() -> None:
    clear = torch.full((3, 128, 128), 0.25)
    options = SkyOptions(cover=(0.3, 0.3), height=(0.05, 0.05), **ONLY_HEAPS)
    degraded, _ = add_clouds(clear, ("B02", "B08", "B11"), generator(1), options)
    shaded = degraded[1] < 0.2
    blue, infrared, shortwave = degraded[:, shaded].mean(1)
    assert blue > infrared > shortwave


def test_haze_scatters_blue_and_lets_the_shortwave_through() -> None:
    clear = clear_image()
    drop = []
    for seed in range(20):
        degraded, _ = add_clouds(clear, BANDS, generator(seed), SkyOptions(thin=1.0, overcast=0.0))
        change = (degraded - clear).mean((1, 2))
        drop.append(change[BANDS.index("B02")] - change[BANDS.index("B12")])
    assert torch.stack(drop).mean() > 0.01


def test_thick_clouds_are_as_bright_in_every_band_as_real_ones(data_folder: Path) -> None:
    ratios = []
    for name in ("280", "281", "312"):
        path = data_folder / "sen12mscr_optical" / "s2_cloudy" / f"ROIs1970_fall_136_p{name}.tif"
        with rasterio.open(path) as file:
            real = torch.from_numpy(file.read().astype("float32") / 10_000).clamp(0, 1)
        opaque = (real[1] > 0.5) & (real[1] < 0.9)
        ratios.append(real[:, opaque].median(1).values / real[1, opaque].median())
    made = []
    for seed in range(40):
        options = SkyOptions(overcast=1.0, thin=0.0, haze=0.0, thickness=(10.0, 50.0))
        image, _ = add_clouds(clear_image(), BANDS, generator(seed), options)
        opaque = (image[1] > 0.5) & (image[1] < 0.9)
        if opaque.any():
            made.append(image[:, opaque].median(1).values / image[1, opaque].median())
    keep = [i for i, band in enumerate(BANDS) if band not in ("B09", "B10")]  # they vary with height
    real_ratio, made_ratio = torch.stack(ratios).mean(0)[keep], torch.stack(made).mean(0)[keep]
    assert (made_ratio / real_ratio - 1).abs().max() < 0.2


def test_the_same_seed_gives_the_same_sky() -> None:
    clear = clear_image()
    first = add_clouds(clear, BANDS, generator(5))
    again = add_clouds(clear, BANDS, generator(5))
    other = add_clouds(clear, BANDS, generator(6))
    for one, two in zip(first, again, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert not torch.equal(first[0], other[0])


def test_values_stay_in_the_unit_range_for_any_bands_and_size() -> None:
    twelve = tuple(band for band in BANDS if band != "B10")
    for seed, (bands, height, width) in enumerate(
        [(twelve, 64, 80), (("B08", "B02"), 7, 5), (BANDS, 33, 200), (("B12",), 1, 1)]
    ):
        clear = torch.rand(len(bands), height, width, generator=generator(seed))
        degraded, cloud = add_clouds(clear, bands, generator(seed), SkyOptions(overcast=0.5))
        assert degraded.shape == clear.shape
        assert cloud.shape == (1, height, width)
        for image in (degraded, cloud):
            assert image.isfinite().all()
            assert image.min() >= 0
            assert image.max() <= 1


def test_an_unknown_band_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="B99"):
        add_clouds(torch.zeros(1, 8, 8), ("B99",), generator(0))


def test_an_upside_down_range_is_refused() -> None:
    with pytest.raises(ValueError, match="from low to high"):
        SkyOptions(cover=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        SkyOptions(haze=1.5)


def test_a_missing_band_stays_nan_and_leaves_the_map_finite() -> None:
    image = clear_image()
    image[3] = torch.nan
    degraded, cloud = add_clouds(image, SENTINEL2.bands, generator(1))
    assert degraded[3].isnan().all()
    assert degraded[torch.arange(13) != 3].isfinite().all()
    assert cloud.isfinite().all()
    assert cloud.any()
