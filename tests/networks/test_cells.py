import pytest
import torch
from torch.nn.functional import avg_pool2d

from pellucid.networks._cells import blur_cells


@pytest.mark.parametrize(("size", "radius"), [((9, 14), 2), ((5, 30), 8), ((1, 1), 2)])
def test_a_blur_is_the_mean_over_squares_twice_with_0_outside(size: tuple[int, int], radius: int) -> None:
    cells = torch.rand(2, 3, *size)
    wanted = cells
    for _ in range(2):
        wanted = avg_pool2d(wanted, 2 * radius + 1, stride=1, padding=radius)
    torch.testing.assert_close(blur_cells(cells, radius), wanted)
