from itertools import product

import pytest
import torch

from pellucid.data.sums import Sums
from pellucid.methods.scene_sums import CELL, PART, SceneSums, cells_of, sum_cell
from pellucid.networks._cells import REACH, RESIDUAL_CELL, Means
from pellucid.networks.ground import Config, build


def test_cells_lie_at_fixed_places() -> None:
    found = cells_of(CELL - 16, 0, 32, 40)
    assert found == [
        ((0, 0), (slice(0, 16), slice(0, 40))),
        ((1, 0), (slice(16, 32), slice(0, 40))),
    ]
    assert cells_of(-32, CELL, 64, 8) == [((0, 1), (slice(32, 64), slice(0, 8)))]
    assert SceneSums({}).count == 0


def test_sums_and_means_of_parts_are_those_of_their_pixels_and_add() -> None:
    phi, values, weight = (torch.rand(1, count, CELL, CELL) for count in (3, 2, 1))
    images = torch.cat([weight, weight * phi, weight * values], 1)[0]
    parts = images.unflatten(2, (-1, PART)).unflatten(1, (-1, PART)).mean((2, 4))
    sums, means = sum_cell(phi, values, weight, left=CELL)
    torch.testing.assert_close(means, parts)
    for found, wanted in zip(vars(sums).values(), vars(Sums.over(phi, values, weight)).values(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)
    above, below = (
        sum_cell(*(x[:, :, rows] for x in (phi, values, weight)), top=rows.start)
        for rows in (slice(0, 203), slice(203, CELL))
    )
    torch.testing.assert_close(above[1] + below[1], parts)
    torch.testing.assert_close((above[0] + below[0]).gram, sums.gram, rtol=1e-4, atol=0)


@torch.inference_mode()
@pytest.mark.parametrize("at", [(CELL, CELL - PART), (CELL - 2 * PART, CELL)])
def test_a_tile_carries_what_the_whole_scene_does(at: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = build(Config(features=2, widths=(8, 8), clear_widths=(8, 8), detail=4, refine=0))
    parts = torch.rand(1, 1 + 3 + 13, 2 * CELL // PART, 2 * CELL // PART)
    features, solution = parts[:, 1:4], torch.rand(1, 3, 13)
    weight, values = parts[:, :1], parts[:, 4:] * parts[:, :1]
    means, num = torch.cat([weight, weight * features, values], 1)[0], CELL // PART
    quarters = product((0, 1), (0, 1))
    sums = SceneSums({}, {(i, j): means[:, i * num :, j * num :][:, :num, :num] for i, j in quarters})
    residual = (parts[:, 4:] - torch.einsum("bdc,bdhw->bchw", solution, features)).repeat_interleave(PART, 2)
    residual = residual.repeat_interleave(PART, 3)
    each = weight.repeat_interleave(PART, 2).repeat_interleave(PART, 3)
    whole = net.carry(residual, each)
    rows, columns = (slice(start, start + 2 * PART) for start in at)
    around = Means(*sums._around(*at, 2 * PART, 2 * PART)[None].split([1, 3, 13], 1)).residual(solution)
    tile = net.carry(residual[..., rows, columns], each[..., rows, columns], around)
    cells = [slice(s.start // RESIDUAL_CELL, s.stop // RESIDUAL_CELL) for s in (rows, columns)]
    assert (whole.residual[..., cells[0], cells[1]] - tile.residual).abs().max() < 1e-4
    assert (whole.near[..., cells[0], cells[1]] - tile.near).abs().max() < 1e-5
    alone = net.carry(residual[..., rows, columns], each[..., rows, columns])
    assert (whole.near[..., cells[0], cells[1]] - alone.near).abs().max() > 0.01
    assert around[0].shape[-1] == 2 * PART // RESIDUAL_CELL + 2 * REACH
