import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.tiles import Blender, TileGrid, index_of, reflect

GRIDS = st.builds(
    lambda height, width, stride, tile, overlap: TileGrid(
        height, width, tile * stride, min(overlap, tile - 1) * stride, stride
    ),
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 5),
    st.integers(1, 8),
    st.integers(0, 6),
)


def blend(grid: TileGrid, image: np.ndarray, first_row: int = 0) -> np.ndarray:
    """Cut the image into tiles and blend them; rows of tiles before the first are left out."""
    rows, columns = (reflect(0, size + grid.tile, size) for size in image.shape[1:])
    padded = image[:, rows][:, :, columns]
    blender, out = Blender(grid, len(image)), np.full(image.shape, np.nan)
    for i, top in list(enumerate(grid.tops))[first_row:]:
        for j, left in enumerate(grid.lefts):
            tile = padded[:, top : top + grid.tile_height, left : left + grid.tile_width]
            out[(slice(None), *grid.finished(i, j))] = blender.add(i, j, tile)
    return out


def test_tiles_of_four_with_overlap_two_start_where_worked_by_hand() -> None:
    grid = TileGrid(height=4, width=9, tile=4, overlap=2, stride=2)
    assert grid.tops == (0,)
    assert grid.lefts == (0, 2, 4, 6)
    assert grid.column_sums.tolist() == [1, 2, 3, 3, 3, 3, 3, 3, 2]


@given(GRIDS)
@settings(deadline=None, max_examples=60)
def test_tiles_cover_every_pixel_and_start_at_multiples_of_the_stride(grid: TileGrid) -> None:
    assert all(start % grid.stride == 0 for start in grid.tops + grid.lefts)
    assert grid.tile_height % grid.stride == grid.tile_width % grid.stride == 0
    assert grid.row_sums.min() >= 1
    assert grid.column_sums.min() >= 1
    assert 0 <= grid.lefts[-1] + grid.tile_width - grid.width < grid.stride
    assert len(list(grid)) == len(grid)


@given(GRIDS, st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_tiles_that_agree_blend_to_the_image_bit_by_bit(grid: TileGrid, seed: int) -> None:
    image = np.random.default_rng(seed).random((2, grid.height, grid.width), dtype=np.float32)
    assert (blend(grid, image) == image).all()


@given(GRIDS, st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_tiles_that_differ_blend_to_their_weighted_mean(grid: TileGrid, seed: int) -> None:
    random = np.random.default_rng(seed)
    tiles = {at: random.random((1, grid.tile_height, grid.tile_width), np.float32) for at in grid}
    sums = np.zeros((2, 1, grid.tops[-1] + grid.tile_height, grid.lefts[-1] + grid.tile_width))
    blender, out = Blender(grid, 1), np.full((1, grid.height, grid.width), np.nan)
    for i, top in enumerate(grid.tops):
        for j, left in enumerate(grid.lefts):
            rows, columns = slice(top, top + grid.tile_height), slice(left, left + grid.tile_width)
            weights = grid.weights(top, left)
            sums[0, :, rows, columns] += weights * tiles[top, left]
            sums[1, :, rows, columns] += weights
            out[(slice(None), *grid.finished(i, j))] = blender.add(i, j, tiles[top, left])
    expected = (sums[0] / sums[1])[:, : grid.height, : grid.width]
    assert (out == expected).all()


def test_rows_of_tiles_can_be_left_out_at_the_beginning() -> None:
    grid = TileGrid(height=24, width=12, tile=8, overlap=4)
    image = np.random.default_rng(0).random((1, 24, 12), dtype=np.float32)
    assert grid.tops == (0, 4, 8, 12, 16)
    assert (blend(grid, image, first_row=2)[:, 12:] == image[:, 12:]).all()


def test_a_tile_that_adds_nothing_leaves_what_its_neighbours_add() -> None:
    grid = TileGrid(height=1, width=12, tile=8, overlap=4)
    blender = Blender(grid, 1)
    parts = [blender.add(0, 0, np.ones((1, 1, 8), np.float32)), blender.add(0, 1, None)]
    blended = np.concatenate(parts, axis=2)[0, 0]
    np.testing.assert_allclose(blended, [1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0])


def test_memory_holds_of_a_row_of_tiles_what_the_next_one_overlaps() -> None:
    blender = Blender(TileGrid(height=4096, width=8192, tile=512, overlap=64), 14)
    for j in range(3):
        blender.add(0, j, np.zeros((14, 512, 512), np.float32))
    held = sum(value.nbytes for value in vars(blender).values() if isinstance(value, np.ndarray))
    assert held < 100 * 2**20  # a whole row would take 460 MB


def test_the_blend_passes_from_one_tile_to_the_next_in_equal_steps() -> None:
    grid = TileGrid(height=1, width=12, tile=8, overlap=4)
    blender = Blender(grid, 1)
    parts = [blender.add(0, j, np.full((1, 1, 8), j, np.float32)) for j in range(2)]
    blended = np.concatenate(parts, axis=2)[0, 0]
    np.testing.assert_allclose(blended, [0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])


def test_reflection_mirrors_at_the_edge_and_runs_back_and_forth() -> None:
    assert reflect(-2, 8, 3).tolist() == [2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    assert reflect(-1, 3, 1).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (250, 32, r"tile is 250 px, must be a positive multiple of 4; try 248"),
        (256, 33, r"overlap is 33 px, must be a positive multiple of 4; try 32"),
        (0, 0, r"tile is 0 px, must be a positive multiple of 4; try 4"),
        (64, 64, r"overlap is 64 px, must be less than the tile of 64; try 16"),
        (64, 65, r"overlap is 65 px, must be a positive multiple of 4; try 16"),
    ],
)
def test_a_tile_that_the_network_cannot_divide_is_refused(tile: int, overlap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TileGrid(100, 100, tile, overlap, stride=4)


def test_what_lies_in_the_margin_of_a_tile_does_not_count() -> None:
    grid = TileGrid(height=6, width=18, tile=8, overlap=4, stride=2, margin=1)
    image = np.random.default_rng(0).random((1, 6, 18), dtype=np.float32)
    blender, last, out = Blender(grid, 1), grid.lefts[-1], np.zeros(image.shape)
    for j, left in enumerate(grid.lefts):
        tile = image[:, :, left : left + 8].copy()
        tile[:, :, : 1 if left else 0] = 7
        tile[:, :, 8 if left == last else 7 :] = 7
        out[(slice(None), *grid.finished(0, j))] = blender.add(0, j, tile)
    assert (out == image).all()


def test_the_overlap_must_hold_both_margins() -> None:
    with pytest.raises(ValueError, match="overlap is 4 px, must hold two margins of 3 px"):
        TileGrid(32, 32, 16, 4, 4, margin=3)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (-2, 1), (3, -1), (5, 6), (-1, -1)])
def test_an_index_is_that_of_rows_and_columns(top: int, left: int) -> None:
    image = np.arange(2 * 7 * 9).reshape(2, 7, 9)
    rows, columns = reflect(top, top + 4, 7), reflect(left, left + 5, 9)
    at = index_of(rows, columns)
    np.testing.assert_array_equal(image[0][at], image[0][np.ix_(rows, columns)])
    np.testing.assert_array_equal(image[:, at[0], at[1]], image[:, rows][:, :, columns])
