from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from scenes import (
    BANDS,
    EVERYTHING,
    OPTIONS,
    FakeMethod,
    RandomMethod,
    ground,
    left_cloud,
    nothing_left,
    read,
    write,
)
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from pellucid.apply.remove_clouds import restore_scene
from pellucid.data import working_file
from pellucid.data.batch import Batch, Condition
from pellucid.data.ranges import SENTINEL1, SENTINEL2
from pellucid.generative.noise import Noise, NoiseField
from pellucid.methods.generative import Generative, GenerativeConfig
from pellucid.methods.sampling import Sampling

SPREAD = 0.05
SAMPLES = 4


class Textured(RandomMethod):
    """Makes texture as a network does: each pixel follows from the noise around it."""

    def answer(self, batch: Batch, noise: Noise | None) -> Tensor:
        assert noise is not None
        texture = avg_pool2d(noise(0, batch.degraded.shape[1]), 3, 1, 1, count_include_pad=False)
        return self.function(batch) + 3 * self.spread * texture


class Independent(Textured):
    """The same, but with noise of its own in every tile."""

    def answer(self, batch: Batch, noise: Noise | None) -> Tensor:
        assert noise is not None
        generator = torch.Generator().manual_seed(self.num_calls)
        return super().answer(batch, lambda *_: torch.randn(batch.degraded.shape, generator=generator))


def step_ratio(image: np.ndarray, tile: int, overlap: int) -> float:
    """The mean squared step where neighbouring tiles meet, over that elsewhere, in both directions."""
    inside, outside = [], []
    for axis in (1, 2):
        steps = np.diff(image.astype(float), axis=axis) ** 2
        at = np.arange(steps.shape[axis])
        meets = (at >= tile - overlap) & ((at + 1) % (tile - overlap) < overlap)
        inside.append(steps.compress(meets, axis=axis).mean())
        outside.append(steps.compress(~meets, axis=axis).mean())
    return float(np.mean(inside) / np.mean(outside))


def restore(folder: Path, method: Any, name: str = "out.tif", **changes: Any) -> np.ndarray:
    """Restore `s2.tif` in the folder and return the result."""
    options = replace(changes.pop("options", EVERYTHING), **changes)
    restore_scene(folder / "s2.tif", folder / name, method=method, options=options)
    return read(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a clear scene, `s2.tif`."""
    write(tmp_path / "s2.tif", ground(), BANDS)
    return tmp_path


def test_texture_shows_no_seams_with_any_seed_which_noise_of_each_tile_would(folder: Path) -> None:
    write(folder / "s2.tif", ground(120, 152), BANDS)
    for seed in range(3):
        assert step_ratio(restore(folder, Textured(SPREAD), seed=seed), 32, 8) == pytest.approx(1, abs=0.06)
    assert step_ratio(restore(folder, Independent(SPREAD)), 32, 8) < 0.85


def test_the_result_does_not_depend_on_tile_or_batch_but_on_the_seed(folder: Path) -> None:
    first = restore(folder, RandomMethod(SPREAD))
    for changes in ({"tile": 64, "overlap": 16}, {"batch": 5}, {"tile": 256}):
        assert (restore(folder, RandomMethod(SPREAD), **changes) == first).all(), changes
    other = restore(folder, RandomMethod(SPREAD), seed=1)
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("kind", ["numbers", "offset", "reflectance"])
def test_mean_and_spread_of_the_samples_are_in_the_units_of_the_scene(tmp_path: Path, kind: str) -> None:
    scene, unit, add = ground(), 10_000.0, 0
    if kind == "offset":
        scene, add = scene + np.uint16(1000), 1000
    if kind == "reflectance":
        scene, unit = scene.astype(np.float32) / 10_000, 1.0
    path, std = write(tmp_path / "s2.tif", scene, BANDS), tmp_path / "std.tif"
    restore_scene(
        path,
        tmp_path / "out.tif",
        method=RandomMethod(SPREAD),
        uncertainty=std,
        options=replace(EVERYTHING, samples=SAMPLES, seed=3, batch=3),
    )
    field = NoiseField(3)
    drawn = [field.field(0, 0, 75, 101, channels=13, sample=i).double().numpy() for i in range(SAMPLES)]
    expected = SPREAD * unit * np.std(drawn, axis=0, ddof=1)
    np.testing.assert_allclose(read(std), expected, rtol=1e-4, atol=2e-6 * unit)
    mean = (0.5 + SPREAD * np.mean(drawn, axis=0)) * unit + add
    np.testing.assert_allclose(read(tmp_path / "out.tif"), mean, rtol=0, atol=0.501 if unit > 1 else 1e-6)


def test_the_spread_lies_on_the_grid_and_is_0_where_pixels_pass_through(tmp_path: Path) -> None:
    scene = np.concatenate([ground(), ground(seed=1)[:1]])
    scene[:, 60:70, 5:90] = 0
    path = write(tmp_path / "s2.tif", scene, (*BANDS, "SCL"), nodata=0)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (0.0001,) * 14, (-0.1,) * 14
    report = restore_scene(
        path,
        tmp_path / "out.tif",
        method=RandomMethod(SPREAD),
        cloud=left_cloud(tmp_path),
        uncertainty=tmp_path / "std.tif",
        options=replace(OPTIONS, samples=SAMPLES, margin_px=4, feather_px=8),
    )
    assert report.uncertainty == tmp_path / "std.tif"
    with rasterio.open(path) as before, rasterio.open(tmp_path / "std.tif") as after:
        for name in ("crs", "transform", "shape", "descriptions", "scales"):
            assert getattr(after, name) == getattr(before, name), name
        assert np.isnan(after.nodata)
        assert after.dtypes == ("float32",) * 14
        assert after.offsets == (0.0,) * 14
        assert after.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    std, valid = read(tmp_path / "std.tif"), (scene != 0).all(axis=0)
    assert (np.isnan(std) == ~valid).all()
    assert (std[13][valid] == 0).all()
    assert (std[:, :60, 52:] == 0).all()
    assert np.sqrt((std[:13, :60, :44] ** 2).mean()) == pytest.approx(SPREAD * 10_000, rel=0.02)
    feathered = np.sqrt((std[:13, :60, 43:53] ** 2).mean(axis=(0, 1)))
    assert (np.diff(feathered)[:9] < 0).all()


class Steady(nn.Module):
    """Says that the image is what it is given, and counts."""

    stride = 4
    num_calls = 0

    def forward(self, x_t: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        assert condition.degraded is not None
        assert x_t.shape[0] == c_noise.shape[0]
        self.num_calls += 1
        return condition.degraded


def test_steps_and_guidance_reach_the_sampler(folder: Path) -> None:
    config = GenerativeConfig(path={"num_steps": 20}, prediction="image", steps=7, drop_condition=0.1)
    method = Generative(Steady(), config, optical=SENTINEL2, radar=SENTINEL1.select(()), losses={})
    result = restore(folder, method, tile=128, steps=3)
    assert (np.abs(result.astype(int) - ground()) <= 1).all()
    assert method.network.num_calls == 3
    guided = restore(folder, method, tile=128, steps=2, guidance=1.5)
    assert method.network.num_calls == 3 + 4
    assert method.sampling == Sampling(steps=7)
    # In [-1, 1], 1.5 times as far from nothing, which is 0, that is 0.5 in [0, 1].
    expected = np.clip(5000 + 1.5 * (ground().astype(float) - 5000), 0, None)
    assert np.abs(guided - expected).max() <= 1


def test_a_prompt_reaches_a_method_that_takes_text(folder: Path) -> None:
    seen: list[tuple[str, ...] | None] = []

    def look(batch: Batch) -> Tensor:
        seen.append(batch.prompt)
        return batch.degraded

    method = FakeMethod(look)
    method.takes_text = True
    restore(folder, method, prompt="a forest in summer", batch=2, tile=64)
    assert set(seen) == {("a forest in summer", "a forest in summer")}


SPECTRUM = np.linspace(500, 2500, 13).round()
OFFSET = torch.linspace(-0.03, 0.04, 13).view(1, 13, 1, 1)
MATCHED = replace(OPTIONS, tile=64, overlap=16, match_surroundings=True)


@pytest.fixture
def disc(tmp_path: Path) -> tuple[Path, np.ndarray, FakeMethod]:
    """A folder with a round cloud over even ground; the cloud; a method whose colours are wrong."""
    rows, columns = np.mgrid[0:240, 0:270]
    cloud = np.hypot(rows - 110, columns - 140) < 60
    scene = np.broadcast_to(SPECTRUM[:, None, None], (13, 240, 270)).astype(np.uint16)
    write(tmp_path / "s2.tif", np.where(cloud, 6000, scene).astype(np.uint16), BANDS)
    write(tmp_path / "cloud.tif", cloud[None].astype(np.uint8))
    truth = torch.from_numpy(SPECTRUM / 10_000).float().view(1, 13, 1, 1)
    return tmp_path, cloud, FakeMethod(lambda batch: (truth + OFFSET).expand_as(batch.degraded))


def restore_disc(folder: Path, method: FakeMethod, **changes: Any) -> np.ndarray:
    """The result less the truth, in digital numbers."""
    options = replace(MATCHED, **changes)
    restore_scene(
        folder / "s2.tif", folder / "out.tif", method=method, cloud=folder / "cloud.tif", options=options
    )
    return read(folder / "out.tif").astype(float) - SPECTRUM[:, None, None]


def test_colours_are_matched_to_the_clear_surroundings(disc: tuple[Path, np.ndarray, FakeMethod]) -> None:
    folder, cloud, method = disc
    before = restore_disc(folder, method, match_surroundings=False)
    after = restore_disc(folder, method)
    np.testing.assert_allclose(before[:, cloud].mean(axis=1), OFFSET.flatten() * 10_000, atol=1)
    reduction = np.abs(after[:, cloud]).mean() / np.abs(before[:, cloud]).mean()
    assert reduction < 0.15
    assert (np.abs(after) <= np.abs(before) + 1).all()
    clear = (before == 0).all(axis=0)
    assert clear.sum() > 0.6 * clear.size
    assert (after[:, clear] == 0).all()


def test_matching_makes_no_seams_and_hardly_depends_on_the_tiles(
    disc: tuple[Path, np.ndarray, FakeMethod],
) -> None:
    folder, cloud, method = disc
    after = restore_disc(folder, method)
    within = np.hypot(*(np.mgrid[0:240, 0:270] - np.array([110, 140])[:, None, None])) < 58
    for axis in (1, 2):
        steps = np.abs(np.diff(after, axis=axis))
        both = within[1:] & within[:-1] if axis == 1 else within[:, 1:] & within[:, :-1]
        assert steps[:, both].max() <= 4  # of offsets up to 400
    other = restore_disc(folder, method, tile=128, overlap=32)
    assert np.abs(after - other)[:, cloud].max() < 0.1 * 400


def interrupt(method: FakeMethod, *, after: int) -> FakeMethod:
    """Let the user of a method lose patience after so many tiles."""
    function = method.function

    def restore(batch: Batch) -> Tensor:
        if method.num_calls > after:
            raise KeyboardInterrupt
        return function(batch)

    method.function = restore
    return method


def test_an_interrupted_scene_goes_on_to_the_same_result_spread_and_colours(tmp_path: Path) -> None:
    scene = write(tmp_path / "s2.tif", ground(120, 101), BANDS)
    cloud = left_cloud(tmp_path, 120, 101, columns=60)
    options = replace(OPTIONS, samples=2, match_surroundings=True)

    def run(name: str, method: FakeMethod) -> list[np.ndarray]:
        out, std = tmp_path / f"{name}.tif", tmp_path / f"{name}_std.tif"
        restore_scene(scene, out, method=method, cloud=cloud, uncertainty=std, options=options)
        return [read(out), read(std)]

    whole, rest = RandomMethod(SPREAD), RandomMethod(SPREAD)
    expected = run("whole", whole)
    with pytest.raises(KeyboardInterrupt):
        run("out", interrupt(RandomMethod(SPREAD), after=20))
    assert not (tmp_path / "out.tif").exists()
    found = run("out", rest)
    # Five rows of four tiles, twice; two rows were done, and the second is needed for its overlap.
    assert (whole.num_calls, rest.num_calls) == (40, 32)
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))
    names = {"s2.tif", "cloud.tif", "whole.tif", "whole_std.tif", "out.tif", "out_std.tif"}
    assert nothing_left(tmp_path, names)


def test_result_and_spread_appear_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, std = write(tmp_path / "s2.tif", ground(), BANDS), tmp_path / "std.tif"
    method, options = RandomMethod(SPREAD), replace(EVERYTHING, samples=2)
    stage = working_file.stage_cog

    def stop_at_the_spread(made: Path, out: Path) -> Any:
        if out == std:
            raise KeyboardInterrupt
        return stage(made, out)

    with monkeypatch.context() as patch:
        patch.setattr(working_file, "stage_cog", stop_at_the_spread)
        with pytest.raises(KeyboardInterrupt):
            restore_scene(scene, tmp_path / "out.tif", method=method, uncertainty=std, options=options)
    assert not (tmp_path / "out.tif").exists()
    num_calls = method.num_calls
    restore_scene(scene, tmp_path / "out.tif", method=method, uncertainty=std, options=options)
    assert method.num_calls == num_calls
    assert nothing_left(tmp_path, {"s2.tif", "out.tif", "std.tif"})
