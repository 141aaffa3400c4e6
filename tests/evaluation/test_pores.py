import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from pellucid.evaluation.pores import find_pores, otsu

WHOLE = np.ones((40, 40), bool)


def square(side: int, *, at: int = 5) -> np.ndarray:
    image = np.full((40, 40), 0.8)
    image[at : at + side, at : at + side] = 0.2
    return image


def test_otsu_parts_two_greys_where_the_variance_between_them_is_largest() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0.2, 0.05, 3000), generator.normal(0.7, 0.05, 9000)])
    found = otsu(values)
    best = max(
        np.linspace(0.2, 0.7, 501),
        key=lambda t: (
            np.mean(values <= t)
            * np.mean(values > t)
            * (values[values <= t].mean() - values[values > t].mean()) ** 2
        ),
    )
    cost, least = (
        np.mean(values <= t) * values[values <= t].var() + np.mean(values > t) * values[values > t].var()
        for t in (found, best)
    )
    assert cost == pytest.approx(least, rel=1e-2)
    assert 0.35 < found < 0.55


def test_porosity_and_connectivity_are_shares_of_the_valid_pixels() -> None:
    image = np.minimum(square(8), square(4, at=20))
    pores = find_pores(image, WHOLE)
    assert pores.porosity == pytest.approx(80 / 1600)
    assert pores.connectivity == pytest.approx(64 / 80)
    half = WHOLE.copy()
    half[:, 20:] = False
    assert find_pores(image, half).porosity == pytest.approx(64 / 800)
    assert find_pores(image, half).connectivity == 1


def test_pores_that_touch_at_a_corner_are_two() -> None:
    image = np.full((8, 8), 0.9)
    image[2:4, 2:4] = image[4:6, 4:6] = 0.1
    assert find_pores(image, np.ones((8, 8), bool)).connectivity == 0.5


def test_a_disc_is_as_wide_as_its_radius() -> None:
    rows, columns = np.mgrid[:41, :41] - 20
    disc = np.where(np.hypot(rows, columns) < 12, 0.1, 0.9)
    wider = find_pores(disc, np.ones(disc.shape, bool)).wider
    assert len(wider) == 12
    assert wider[:11].min() > 0.93
    assert (np.diff(wider) <= 0).all()


def test_the_error_of_pore_sizes_is_the_distance_of_their_distributions() -> None:
    small, large = find_pores(square(6), WHOLE), find_pores(square(12), WHOLE)
    errors = small.errors(large)
    radii = [np.arange(1, len(pores.wider) + 1) for pores in (small, large)]
    shares = [-np.diff(np.append(pores.wider, 0)) for pores in (small, large)]
    assert errors["pore_size"] == pytest.approx(wasserstein_distance(*radii, *shares), abs=1e-9)
    assert errors["porosity"] == pytest.approx(100 * (144 - 36) / 1600)
    assert errors["connectivity"] == 0
    assert large.errors(large) == {"porosity": 0, "pore_size": 0, "connectivity": 0}


def test_what_has_no_pores_has_no_figures_of_them() -> None:
    nothing = find_pores(square(6), ~WHOLE)
    assert np.isnan(nothing.porosity)
    assert np.isnan(nothing.errors(find_pores(square(6), WHOLE))["connectivity"])


def test_blur_is_farther_from_the_truth_than_the_truth_with_a_little_noise() -> None:
    generator = np.random.default_rng(0)
    truth = 1 / (1 + np.exp(-20 * gaussian_filter(generator.standard_normal((128, 128)), 3) / 0.1))
    valid = np.ones(truth.shape, bool)
    blurred, noisy = gaussian_filter(truth, 5), truth + 0.02 * generator.standard_normal(truth.shape)
    errors = [find_pores(image, valid).errors(find_pores(truth, valid)) for image in (blurred, noisy)]
    assert errors[0]["pore_size"] > 3 * errors[1]["pore_size"]
