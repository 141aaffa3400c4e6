from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid.data.resample import enlarge, fill_gaps, reduce


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_both_ways_are_those_of_pillow(factor: int) -> None:
    image = np.random.default_rng(0).random((48, 64), dtype=np.float32)
    tensor = torch.from_numpy(image)[None, None]
    for change, size in ((enlarge, (64 * factor, 48 * factor)), (reduce, (64 // factor, 48 // factor))):
        expected = np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        np.testing.assert_allclose(change(tensor, factor)[0, 0].numpy(), expected, atol=1e-5)


def test_the_published_enlargement_of_a_real_slice_is_ours(data_folder: Path) -> None:
    low = Image.open(data_folder / "soil_ct_sr3xct" / "lr_64.png").convert("F")
    expected = np.array(low.resize((256, 256), Image.Resampling.BICUBIC))
    found = enlarge(torch.from_numpy(np.array(low))[None, None], 4)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_flat_image_stays_flat() -> None:
    flat = torch.full((1, 1, 12, 12), 0.3)
    torch.testing.assert_close(reduce(enlarge(flat, 3), 3), flat)


def test_sides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="10 x 12 pixels, both must divide by 4"):
        reduce(torch.zeros(1, 1, 10, 12), 4)


def test_gaps_take_the_nearest_value_of_their_own_band() -> None:
    values = np.array([[[1, 9, 9, 2]], [[3, 9, 9, 4]]], np.float32)
    filled = fill_gaps(values, np.array([[True, False, False, True]]))
    assert filled.tolist() == [[[1, 1, 2, 2]], [[3, 3, 4, 4]]]


def test_without_gaps_nothing_changes_and_with_gaps_alone_all_is_zero() -> None:
    values = np.full((1, 2, 2), 5, np.float32)
    assert fill_gaps(values, np.ones((2, 2), np.bool_)) is values
    values[0, 0, 0] = np.nan
    assert fill_gaps(values, np.zeros((2, 2), np.bool_)).tolist() == [[[0, 5], [5, 5]]]
