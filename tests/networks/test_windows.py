import pytest
import torch

from pellucid.networks._windows import FORBIDDEN, relative_positions, window_order

CPU = torch.device("cpu")


def test_tokens_are_the_pixels_of_each_window_row_by_row() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    tokens = window_order(1, 4, 4, 2, 0, CPU).cut(image)
    assert tokens.flatten(1).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_shifted_windows_start_inside_and_those_that_wrap_around_come_last() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    tokens = window_order(1, 4, 4, 2, 1, CPU).cut(image)
    assert tokens.flatten(1).tolist() == [[5, 6, 9, 10], [7, 4, 11, 8], [13, 14, 1, 2], [15, 12, 3, 0]]


def test_mask_forbids_exactly_the_pairs_that_were_no_neighbours() -> None:
    mask = window_order(1, 4, 4, 2, 1, CPU).mask
    assert mask is not None
    beside = [[0, FORBIDDEN], [FORBIDDEN, 0]]  # left and right half are apart
    above = torch.tensor(beside).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert mask[0, 0].tolist() == torch.tensor(beside).repeat(2, 2).tolist()
    assert mask[1, 0].tolist() == above.tolist()
    assert mask[2, 0].tolist() == torch.full((4, 4), FORBIDDEN).fill_diagonal_(0).tolist()


@pytest.mark.parametrize("size", [(2, 8, 12), (1, 4, 8), (3, 4, 4)])
@pytest.mark.parametrize("shift", [0, 2])
def test_joining_undoes_cutting_and_so_does_the_gradient(size: tuple[int, int, int], shift: int) -> None:
    batch, height, width = size
    windows = window_order(batch, height, width, 4, shift, CPU)
    image = torch.randn(batch, 3, height, width, requires_grad=True)
    tokens = windows.cut(image)
    torch.testing.assert_close(windows.join(tokens), image)
    weights = torch.randn_like(tokens)
    (tokens * weights).sum().backward()
    torch.testing.assert_close(image.grad, windows.join(weights))


def test_window_as_large_as_the_image_is_not_shifted() -> None:
    assert torch.equal(window_order(1, 4, 8, 4, 2, CPU).order, window_order(1, 4, 8, 4, 0, CPU).order)
    assert window_order(1, 4, 8, 4, 2, CPU).mask is None


def test_orders_are_made_once_and_serve_training_even_if_first_used_in_inference_mode() -> None:
    with torch.inference_mode():
        windows = window_order(1, 12, 20, 4, 2, CPU)
    assert window_order(1, 12, 20, 4, 2, CPU) is windows
    image = torch.ones(1, 1, 12, 20, requires_grad=True)
    windows.cut(image).sum().backward()
    assert image.grad is not None
    assert not windows.order.is_inference()


def test_relative_position_of_a_pair_is_its_row_and_column_step() -> None:
    index = relative_positions(2, CPU).view(4, 4)
    assert index[0].tolist() == [4, 3, 1, 0]  # to itself, the right, below, both; 3 x 3 steps, from (-1, -1)
    assert index[:, 0].tolist() == [4, 5, 7, 8]
