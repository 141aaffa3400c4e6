from typing import Any

import numpy as np
import pytest
import torch
from scenes import RandomMethod, identity
from tests.apply.test_joint_tiles import Local, method
from tests.painters import Painter

from pellucid.apply.engine import Engine, Piece
from pellucid.apply.options import ApplyOptions, PictureOptions, choose_sampling
from pellucid.data.batch import Batch
from pellucid.errors import InputError
from pellucid.generative.path import RectifiedFlow
from pellucid.methods.generative import Generative


@pytest.mark.parametrize(
    ("sampler", "expected"), [("ddpm", (1.0, "euler")), ("ddim", (0.0, "euler")), ("dpm++", (0.0, "dpm++"))]
)
def test_each_sampler_is_a_solver_and_its_noise(sampler: str, expected: tuple[float, str]) -> None:
    options = PictureOptions(sampler=sampler, steps=7, strength=0.8)  # type: ignore[arg-type]
    for eta, solver in ((1.0, "euler"), (0.0, "heun")):
        chosen = choose_sampling(method(Local(), eta=eta, solver=solver), options)
        assert isinstance(chosen, Generative)
        assert (chosen.sampling.eta, chosen.sampling.solver) == expected
        assert (chosen.sampling.steps, chosen.sampling.strength) == (7, 0.8)


def test_without_options_a_method_samples_as_it_does() -> None:
    given = method(Local(), eta=1.0)
    assert choose_sampling(given, PictureOptions()) is given


def test_samplers_that_a_method_has_no_place_for_are_refused() -> None:
    with pytest.raises(InputError, match="takes no steps; leave out --sampler"):
        choose_sampling(Painter(), PictureOptions(sampler="ddim"))
    from_radar = method(Local(), RectifiedFlow("image"))
    from_radar.start_noise = 0.1
    with pytest.raises(InputError, match="choose another --sampler than ddpm"):
        choose_sampling(from_radar, PictureOptions(sampler="ddpm"))


SMALL = ApplyOptions(tile=16, overlap=4, device="cpu")
IMAGE = np.random.default_rng(0).random((13, 40, 56), np.float32)


def cut(top: int, left: int) -> Batch:
    """Return a tile of the image, without data beyond its edges."""
    image = np.zeros((13, 16, 16), np.float32)
    part = IMAGE[:, top : top + 16, left : left + 16]
    image[:, : part.shape[1], : part.shape[2]] = part
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    return Batch(degraded=torch.from_numpy(image)[None], valid=valid, key=(f"{top} {left}",))


def join(pieces: list[Piece]) -> np.ndarray:
    result = np.full((len(pieces[0].samples), 13, 40, 56), np.nan)
    for piece in pieces:
        assert np.isnan(result[:, :, piece.rows, piece.columns]).all()
        result[:, :, piece.rows, piece.columns] = piece.samples
    return result


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_pieces_cover_the_image_once_and_the_identity_is_exact(batch: int) -> None:
    engine = Engine(identity(), ApplyOptions(tile=16, overlap=4, device="cpu", batch=batch))
    counts: list[tuple[float, int]] = []
    grid = engine.grid(40, 56)
    pieces = list(engine.run(grid, cut, progress=lambda *count: counts.append(count)))
    assert len(pieces) == len(grid)
    assert (join(pieces)[0] == IMAGE).all()
    assert counts == sorted(counts)
    assert counts[-1] == (len(grid), len(grid))


def test_samples_are_kept_if_wanted_and_else_their_mean() -> None:
    options = ApplyOptions(tile=16, overlap=4, device="cpu", samples=3)
    kept, mean = (
        join(list(engine.run(engine.grid(40, 56), cut)))
        for engine in (Engine(RandomMethod(0.1), options, keep_samples=each) for each in (True, False))
    )
    assert (len(kept), len(mean)) == (3, 1)
    np.testing.assert_allclose(kept.mean(0), mean[0], atol=1e-12)
    assert kept.std(0, ddof=1).mean() == pytest.approx(0.1, rel=0.2)


def test_finished_rows_are_restored_only_as_far_as_later_ones_overlap_them() -> None:
    method = identity()
    engine = Engine(method, SMALL)
    grid = engine.grid(40, 56)
    whole = list(engine.run(grid, cut))
    method.num_calls = 0
    rest = list(engine.run(grid, cut, first_row=2))
    assert method.num_calls == 2 * len(grid.lefts)
    assert [piece.rows for piece in rest] == [piece.rows for piece in whole[-len(grid.lefts) :]]
    assert all((a.samples == b.samples).all() for a, b in zip(rest, whole[-len(rest) :], strict=True))


def test_tiles_that_need_no_network_are_not_restored() -> None:
    method = identity()
    engine = Engine(method, SMALL)
    grid = engine.grid(40, 56)
    pieces = list(engine.run(grid, lambda top, left: cut(top, left) if left else None))
    assert method.num_calls == len(grid) - len(grid.tops)
    assert [piece.tile is None for piece in pieces] == [not piece.columns.start for piece in pieces]


def test_the_key_depends_on_what_changes_a_pixel() -> None:
    key = Engine(identity(), SMALL).key("input")
    assert key == Engine(identity(), ApplyOptions(tile=16, overlap=4, device="cpu", batch=7)).key("input")
    assert key != Engine(identity(), SMALL).key("other")
    assert key != Engine(identity(), ApplyOptions(tile=16, overlap=4, device="cpu", seed=1)).key("input")


@pytest.mark.parametrize("size", [(1024, 1024), (2048, 600), (10980, 10980), (300, 200)])
def test_tiles_of_a_method_that_takes_any_have_the_size_that_costs_least(size: tuple[int, int]) -> None:
    free, usual = identity(), Engine(identity(), ApplyOptions(tile=512)).grid(*size)
    free.__class__ = type("Free", (type(free),), {"any_tile": True, "tile": 512})
    grid = Engine(free, ApplyOptions()).grid(*size)
    assert grid.area <= usual.area
    assert 448 <= grid.tile <= 640
    assert Engine(free, ApplyOptions(tile=512)).grid(*size) == usual


def test_precision_is_chosen_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = identity()
    eager.__class__ = type("Eager", (type(eager),), {"prefers_bf16": True})
    for fast, any_method, expected in (
        (True, eager, "bf16"),
        (True, identity(), "fp32"),
        (False, eager, "fp32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda fast=fast: {"amx_bf16": fast})
        assert Engine(any_method, ApplyOptions(device="cpu")).precision == expected
        assert Engine(any_method, ApplyOptions(device="cpu", precision="fp32")).precision == "fp32"


@pytest.mark.parametrize("batch", [3, 7])
@pytest.mark.parametrize("most", [1, 2, 0])
def test_fewer_tiles_go_through_the_network_where_memory_is_short(most: int, batch: int) -> None:
    class Short(RandomMethod):
        def restore(self, batch: Batch, *rest: Any) -> torch.Tensor:
            if len(batch) > most:
                raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
            return super().restore(batch, *rest)

    options = ApplyOptions(tile=16, overlap=4, device="cpu", batch=batch, samples=3)
    short, wide = Engine(Short(0.1), options), Engine(RandomMethod(0.1), options)
    if most:
        images = [join(list(engine.run(engine.grid(40, 56), cut))) for engine in (short, wide)]
        np.testing.assert_array_equal(*images)
    else:
        with pytest.raises(InputError, match=r"cpu has too little memory for a tile of 16 px; use a smaller"):
            list(short.run(short.grid(40, 56), cut))


@pytest.mark.parametrize(
    ("most", "words"),
    [
        (100, "for a tile of 128 px; one of 64 px fits, use --tile 64"),
        (40, "for a tile of 128 px; one of 32 px fits, use --tile 32 --overlap 8"),
        (20, "for a tile of 128 px; nor is it enough for 32 px: close other programs, or choose another"),
    ],
)
def test_the_tile_that_would_fit_is_named_where_memory_is_short(most: int, words: str) -> None:
    class Short(RandomMethod):
        def restore(self, batch: Batch, *rest: Any) -> torch.Tensor:
            if batch.valid.shape[-1] > most:
                raise MemoryError
            return super().restore(batch, *rest)

    engine = Engine(Short(0.1), ApplyOptions(tile=128, overlap=32, device="cpu"))
    blank = Batch(degraded=torch.zeros(1, 13, 128, 128), valid=torch.ones(1, 1, 128, 128).bool(), key=("a",))
    with pytest.raises(InputError, match=words):
        list(engine.run(engine.grid(150, 150), lambda *_: blank))


def test_memory_that_is_short_while_a_scene_is_read_is_said_too() -> None:
    class Short(RandomMethod):
        def collect(self, *_: Any, **options: Any) -> None:  # noqa: ARG002
            raise RuntimeError("DefaultCPUAllocator: not enough memory")

    engine, tile = Engine(Short(0.1), ApplyOptions(device="cpu")), cut(0, 0)
    with pytest.raises(InputError, match="too little memory for a tile of 16 px; close other programs"):
        engine.collect(tile, tile.valid.float())
