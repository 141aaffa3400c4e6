import numpy as np

from pellucid.data.resample import fill_gaps


def test_gaps_take_the_nearest_value_of_their_own_band() -> None:
    values = np.array([[[1, 9, 9, 2]], [[3, 9, 9, 4]]], np.float32)
    filled = fill_gaps(values, np.array([[True, False, False, True]]))
    assert filled.tolist() == [[[1, 1, 2, 2]], [[3, 3, 4, 4]]]


def test_without_gaps_nothing_changes_and_with_gaps_alone_all_is_zero() -> None:
    values = np.full((1, 2, 2), 5, np.float32)
    assert fill_gaps(values, np.ones((2, 2), np.bool_)) is values
    values[0, 0, 0] = np.nan
    assert fill_gaps(values, np.zeros((2, 2), np.bool_)).tolist() == [[[0, 5], [5, 5]]]
