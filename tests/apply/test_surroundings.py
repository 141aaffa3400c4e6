import numpy as np
import pytest

from pellucid.apply.surroundings import CELL, PRIOR, SIGMA, Surroundings, enlarge_cells


def test_a_difference_known_everywhere_is_taken_over_but_for_the_prior() -> None:
    surroundings = Surroundings(2, 5 * CELL, 7 * CELL)
    difference = np.stack([np.full((5 * CELL, 7 * CELL), value) for value in (0.1, -0.04)])
    surroundings.add(difference, np.ones(difference.shape[1:]), 0, 0)
    found = enlarge_cells(surroundings.smooth(), slice(0, 5 * CELL), slice(0, 7 * CELL))
    np.testing.assert_allclose(found, difference / (1 + PRIOR))


def test_it_does_not_matter_how_the_scene_is_cut() -> None:
    generator = np.random.default_rng(0)
    difference, weight = generator.normal(size=(3, 75, 101)), generator.random((75, 101))
    whole, parts = Surroundings(3, 75, 101), Surroundings(3, 75, 101)
    whole.add(difference, weight, 0, 0)
    for top, left in ((0, 0), (0, 37), (29, 0), (29, 37)):
        bottom, right = (29, 75)[top > 0], (37, 101)[left > 0]
        parts.add(difference[:, top:bottom, left:right], weight[top:bottom, left:right], top, left)
    np.testing.assert_allclose(parts.sums, whole.sums)
    assert parts.sums.shape == (4, 5, 7)


def test_what_reaches_over_the_edge_does_not_count() -> None:
    wide, exact = Surroundings(1, 20, 30), Surroundings(1, 20, 30)
    wide.add(np.ones((1, 16, 24)), np.ones((16, 24)), 8, 12)
    exact.add(np.ones((1, 12, 18)), np.ones((12, 18)), 8, 12)
    np.testing.assert_array_equal(wide.sums, exact.sums)
    assert wide.sums[1].sum() == 12 * 18


def test_the_difference_fades_away_from_clear_pixels() -> None:
    size = 12 * SIGMA
    surroundings = Surroundings(1, 4 * CELL, size)
    weight = np.zeros((4 * CELL, size))
    weight[:, : size // 4] = 1
    surroundings.add(np.ones((1, *weight.shape)), weight, 0, 0)
    along = enlarge_cells(surroundings.smooth(), slice(CELL, CELL + 1), slice(0, size))[0, 0]
    assert along[: size // 4 - SIGMA].min() > 0.95
    assert along[size // 4 + SIGMA] == pytest.approx(0.159 / (0.159 + PRIOR), abs=0.02)
    assert along[-2 * SIGMA :].max() < 0.01
    assert (np.diff(along) < 1e-9).all()


def test_between_the_centres_of_cells_it_is_linear() -> None:
    rows, columns = np.mgrid[0:4, 0:5] * CELL + (CELL - 1) / 2
    cells = (2 * rows + 3 * columns)[None]
    found = enlarge_cells(cells, slice(20, 41), slice(9, 70))
    np.testing.assert_allclose(found[0], 2 * np.arange(20, 41)[:, None] + 3 * np.arange(9, 70))
