import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.tiles import Blender, TileGrid, reflect

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


def blend(grid: TileGrid, image: np.ndarray, order: int = 1) -> np.ndarray:
    """Cut the image into tiles and blend them, each row's tiles in the order or its reverse."""
    rows, columns = (reflect(0, size + grid.tile, size) for size in image.shape[1:])
    padded = image[:, rows][:, :, columns]
    blender, out = Blender(grid, len(image)), np.zeros(image.shape)
    for i, top in enumerate(grid.tops):
        blender.start_row(top)
        for left in grid.lefts[::order]:
            tile = padded[:, top : top + grid.tile_height, left : left + grid.tile_width]
            blender.add(left, tile)
        end = grid.tops[i + 1] if i + 1 < len(grid.tops) else grid.height
        out[:, top:end] = blender.blend(slice(top, end), slice(0, grid.width))
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


def test_the_order_of_the_tiles_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    grid = TileGrid(height=8, width=40, tile=8, overlap=4)
    tiles = {left: generator.random((1, 8, 8), dtype=np.float32) for left in grid.lefts}
    results = []
    for order in (1, -1):
        blender = Blender(grid, 1)
        for left in grid.lefts[::order]:
            blender.add(left, tiles[left])
        results.append(blender.blend(slice(0, 8), slice(0, 40)))
    assert (results[0] == results[1]).all()


def test_the_blend_passes_from_one_tile_to_the_next_in_equal_steps() -> None:
    grid = TileGrid(height=1, width=12, tile=8, overlap=4)
    blender = Blender(grid, 1)
    blender.add(0, np.zeros((1, 1, 8), dtype=np.float32))
    blender.add(4, np.ones((1, 1, 8), dtype=np.float32))
    blended = blender.blend(slice(0, 1), slice(0, 12))[0, 0]
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
    ],
)
def test_a_tile_that_the_network_cannot_divide_is_refused(tile: int, overlap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TileGrid(100, 100, tile, overlap, stride=4)


def test_what_lies_in_the_margin_of_a_tile_does_not_count() -> None:
    grid = TileGrid(height=6, width=18, tile=8, overlap=4, stride=2, margin=1)
    image = np.random.default_rng(0).random((1, 6, 18), dtype=np.float32)
    blender, last = Blender(grid, 1), grid.lefts[-1]
    for left in grid.lefts:
        tile = image[:, :, left : left + 8].copy()
        tile[:, :, : 1 if left else 0] = 7
        tile[:, :, 8 if left == last else 7 :] = 7
        blender.add(left, tile)
    assert (blender.blend(slice(0, 6), slice(0, 18)) == image).all()


def test_the_overlap_must_hold_both_margins() -> None:
    with pytest.raises(ValueError, match="overlap is 4 px, must hold two margins of 3 px"):
        TileGrid(32, 32, 16, 4, 4, margin=3)
