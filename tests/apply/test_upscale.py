import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine
from stacks import SMALL, Fake, bicubic, pattern, read, save
from torch import Tensor, nn

from pellucid.apply.upscale import NOTE, check_upscale, upscale
from pellucid.errors import InputError
from pellucid.methods.sampling import Sampling


@pytest.mark.parametrize(
    ("scale", "stride", "size", "suffix", "dtype"),
    [
        (4, 8, (26, 40), ".png", "uint8"),
        (4, 16, (9, 21), ".tif", "uint16"),
        (8, 8, (6, 12), ".png", "uint16"),
        (2, 4, (30, 14), ".tif", "float32"),
        (3, 4, (5, 33), ".tiff", "uint8"),
    ],
)
def test_tiles_of_a_network_that_adds_nothing_give_bicubic_without_seams(
    tmp_path: Path, scale: int, stride: int, size: tuple[int, int], suffix: str, dtype: str
) -> None:
    values, white = pattern(*size, dtype), {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]
    source, out = save(tmp_path / f"in{suffix}", values), tmp_path / f"out{suffix}"
    options = replace(SMALL, grey_range="full", tile=96 if stride == 4 else 64)
    upscale(source, out, method=Fake(scale, stride), options=options)
    result, expected = read(out), bicubic(values, scale, white)
    assert result.dtype == values.dtype
    assert result.shape == (size[0] * scale, size[1] * scale)
    # Where the tiles reach over the edge, the slice goes on mirrored: two of its pixels see that.
    height, width = (n * scale if n * scale % math.lcm(scale, stride) == 0 else (n - 2) * scale for n in size)
    difference = np.abs(result - expected)[:height, :width]
    assert difference.max(initial=0) <= (1e-6 if dtype == "float32" else 0.501)


def test_tiled_equals_whole(tmp_path: Path) -> None:
    source = save(tmp_path / "in.tif", pattern(31, 23, "float32"))
    results = []
    for tile in (32, 48, 128):
        upscale(
            source,
            tmp_path / "out.tif",
            method=Fake(spread=0.05),
            options=replace(SMALL, tile=tile, overlap=0),
        )
        results.append(read(tmp_path / "out.tif"))
    for result in results[:2]:
        np.testing.assert_allclose(result, results[2], rtol=0, atol=2e-7)


def test_many_tiles_at_once_give_the_same_as_one_by_one(tmp_path: Path) -> None:
    source = save(tmp_path / "in.png", pattern(20, 31))
    for batch in (1, 5):
        options = replace(SMALL, samples=3, batch=batch)
        upscale(source, tmp_path / f"out{batch}.png", method=Fake(spread=0.1), options=options)
    assert (read(tmp_path / "out1.png") == read(tmp_path / "out5.png")).all()
    assert (read(tmp_path / "out1_std.tif") == read(tmp_path / "out5_std.tif")).all()


def test_slices_of_a_stack_share_their_noise_and_seeds_differ(tmp_path: Path) -> None:
    values = np.full((12, 12), 32768, np.uint16)
    values[0, 0] += 1  # a slice of one value would stay so
    source = save(tmp_path / "in.tif", np.stack([values] * 3))
    method, options = Fake(spread=0.1), replace(SMALL, grey_range="full")
    upscale(source, tmp_path / "out.tif", method=method, options=options)
    upscale(source, tmp_path / "other.tif", method=method, options=replace(options, seed=1))
    stack = read(tmp_path / "out.tif")
    assert stack.shape == (3, 48, 48)
    assert stack[0].std() == pytest.approx(0.1 * 65535, rel=0.1)
    assert (stack == stack[0]).all()
    assert np.abs(np.corrcoef(stack[0].ravel(), read(tmp_path / "other.tif")[0].ravel())[0, 1]) < 0.1


def test_mean_and_standard_deviation_of_samples_are_in_grey_values(tmp_path: Path) -> None:
    values = np.full((32, 32), 20000, np.uint16)
    values[0, 0] += 1
    source = save(tmp_path / "in.tif", values)
    options = replace(SMALL, tile=128, samples=9, grey_range=(10000.0, 30000.0))
    report = upscale(source, tmp_path / "out.tif", method=Fake(spread=0.05), options=options)
    assert report.std == tmp_path / "out_std.tif"
    result, std = read(report.out).astype(float), read(report.std)
    assert std.dtype == np.float32
    # 0.05 of a range of 20000 is 1000; the mean of 9 samples spreads a third of that.
    assert np.sqrt(np.mean(std**2)) == pytest.approx(1000, rel=0.02)
    assert result.mean() == pytest.approx(20000, abs=10)
    assert result.std() == pytest.approx(1000 / 3, rel=0.03)


def test_values_beyond_the_range_are_kept(tmp_path: Path) -> None:
    values = np.full((16, 16), 1000, np.uint16)
    values[8, 8], values[3, 3] = 60000, 10
    values[:, ::2] += 50
    method = Fake()
    upscale(
        save(tmp_path / "in.tif", values),
        tmp_path / "out.tif",
        method=method,
        options=replace(SMALL, grey_range=(900.0, 1200.0)),
    )
    assert all(seen.min() >= 0 and seen.max() <= 1 for seen in method.seen)
    result = read(tmp_path / "out.tif")
    assert np.abs(result - bicubic(values, 4, 65535)).max() < 60
    assert result.max() > 50000


def test_16_bit_is_stretched_by_default_and_8_bit_is_not(tmp_path: Path) -> None:
    narrow = 20000 + pattern(40, 40, "uint8").astype(np.uint16)
    method = Fake()
    upscale(save(tmp_path / "a.tif", narrow), tmp_path / "out.tif", method=method, options=SMALL)
    seen = torch.cat([part.flatten() for part in method.seen])
    low, high = np.percentile(narrow, (0.1, 99.9))
    start, span = low - (high - low) * 0.02 / 0.96, (high - low) / 0.96
    assert seen.min() == pytest.approx((narrow.min() - start) / span, abs=1e-3)
    assert seen.max() == pytest.approx((narrow.max() - start) / span, abs=1e-3)
    assert 0 < seen.min() < 0.03
    assert 0.97 < seen.max() < 1
    expected = bicubic(narrow, 4, 65535).clip(start, start + span)
    assert np.abs(read(tmp_path / "out.tif") - expected).max() < 0.51

    method = Fake()
    upscale(save(tmp_path / "b.png", pattern(8, 8)), tmp_path / "out.png", method=method, options=SMALL)
    assert method.seen[0].max() == pytest.approx(pattern(8, 8).max() / 255)


@pytest.mark.parametrize(("value", "dtype"), [(1234, "uint16"), (0, "uint8"), (0.3, "float32")])
def test_a_slice_of_one_value_stays_that_and_gets_no_grain(tmp_path: Path, value: float, dtype: str) -> None:
    stack = np.stack([np.full((5, 7), value, dtype), pattern(5, 7, dtype), np.full((5, 7), value, dtype)])
    source = save(tmp_path / "in.tif", stack)
    options, steps = replace(SMALL, samples=2), list[tuple[float, int]]()
    report = upscale(
        source,
        tmp_path / "out.tif",
        method=Fake(spread=0.1),
        options=options,
        progress=lambda *now: steps.append(now),
    )
    result, std = read(tmp_path / "out.tif"), read(tmp_path / "out_std.tif")
    assert (result[[0, 2]] == np.asarray(value, dtype)).all()
    assert (std[[0, 2]] == 0).all()
    assert std[1].mean() > 0
    assert report.num_slices == 3
    assert steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("scale", [0.04, 0.003, 1.0, 3000.0])
def test_floating_point_of_any_range_is_enlarged_like_8_bit(tmp_path: Path, scale: float) -> None:
    values = pattern(12, 12, "float32") * np.float32(scale) - np.float32(scale / 2 if scale > 1 else 0)
    method = Fake()
    upscale(save(tmp_path / "in.tif", values), tmp_path / "out.tif", method=method, options=SMALL)
    assert 0 <= method.seen[0].min() < 0.04
    assert 0.96 < method.seen[0].max() <= 1
    result = read(tmp_path / "out.tif").reshape(12, 4, 12, 4).mean((1, 3))
    assert np.abs(result - values).mean() < 0.1 * np.ptp(values)
    assert read(tmp_path / "out.tif").max() < values.max() + 0.1 * np.ptp(values)


@pytest.mark.parametrize("grey_range", [None, (-1000.0, 2000.0)])
def test_signed_16_bit_is_enlarged_and_stays_signed(
    tmp_path: Path, grey_range: tuple[float, float] | None
) -> None:
    values = (pattern(12, 12).astype(np.int16) * 12 - 1000).astype(np.int16)
    options = replace(SMALL, grey_range=grey_range)
    upscale(save(tmp_path / "in.tif", values), tmp_path / "out.tif", method=Fake(), options=options)
    result = read(tmp_path / "out.tif")
    assert result.dtype == np.int16
    means = result.reshape(12, 4, 12, 4).mean((1, 3))
    assert np.abs(means - values).mean() < 0.1 * np.ptp(values)


def test_where_there_is_no_data_there_is_none_in_the_result(tmp_path: Path) -> None:
    values = pattern(12, 12, "float32")
    values[:5, :5] = np.nan
    method, options = Fake(spread=0.1), replace(SMALL, samples=2)
    upscale(save(tmp_path / "in.tif", values), tmp_path / "out.tif", method=method, options=options)
    hidden = np.isnan(values).repeat(4, 0).repeat(4, 1)
    assert (np.isnan(read(tmp_path / "out.tif")) == hidden).all()
    assert (np.isnan(read(tmp_path / "out_std.tif")) == hidden).all()
    assert all(seen.isfinite().all() for seen in method.seen)


def test_a_georeferenced_slice_keeps_its_place_and_what_is_declared(tmp_path: Path) -> None:
    values = pattern(12, 16).clip(1)
    values[:3, :3] = 0
    source, out = tmp_path / "in.tif", tmp_path / "out.tif"
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    size = {"count": 1, "height": 12, "width": 16}
    with rasterio.open(source, "w", driver="GTiff", dtype="uint8", nodata=0, **size, **place) as file:
        file.write(values, 1)
        file.scales, file.offsets = (0.5,), (2,)
    upscale(source, out, method=Fake(spread=0.2), options=replace(SMALL, samples=2, html=True, preview=True))
    for path, nodata, offset in ((out, 0, 2), (tmp_path / "out_std.tif", math.nan, 0)):
        with rasterio.open(source) as before, rasterio.open(path) as after:
            assert after.bounds == before.bounds
            assert (after.crs, after.res, after.scales) == (before.crs, (2.5, 2.5), (0.5,))
            assert (after.nodata, after.offsets) == (pytest.approx(nodata, nan_ok=True), (offset,))
            hidden = after.read_masks(1) == 0
        assert hidden[:12, :12].all()
        assert hidden.sum() == 144


def test_control_points_of_a_slice_are_kept(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, col, 10 + col, 50 - row) for row in (0, 8) for col in (0, 9, 12)]
    size = {"count": 1, "height": 12, "width": 16, "dtype": "uint8"}
    with rasterio.open(
        tmp_path / "in.tif", "w", driver="GTiff", gcps=points, crs="EPSG:4326", **size
    ) as file:
        file.write(pattern(12, 16), 1)
    upscale(tmp_path / "in.tif", tmp_path / "out.tif", method=Fake(), options=SMALL)
    with rasterio.open(tmp_path / "out.tif") as file:
        found, crs = file.gcps
    assert crs == "EPSG:4326"
    wanted = [(4 * point.row, 4 * point.col, point.x, point.y) for point in points]
    assert [(point.row, point.col, point.x, point.y) for point in found] == wanted


def test_a_rounding_error_above_one_is_no_other_range(tmp_path: Path) -> None:
    values = pattern(12, 12, "float32")
    values[0, 0] = np.float32(1.0000001)
    options = replace(SMALL, grey_range="full")
    upscale(save(tmp_path / "in.tif", values), tmp_path / "out.tif", method=Fake(), options=options)
    assert read(tmp_path / "out.tif").max() <= 1
    wrong = save(tmp_path / "wrong.tif", values * 2)
    with pytest.raises(InputError, match=r"from 0.4.* to 2.*, --range full means 0 to 1 in floating point"):
        upscale(wrong, tmp_path / "out2.tif", method=Fake(), options=options)


def test_all_slices_of_a_folder_have_one_range(tmp_path: Path) -> None:
    for name, value in (("a.tif", 1000), ("b.tif", 3000)):
        values = np.full((8, 8), value, np.uint16)
        values[0, 0] += 10
        save(tmp_path / "in" / name, values)
    method = Fake()
    upscale(tmp_path / "in", tmp_path / "out", method=method, options=SMALL)
    assert [round(float(seen.median()), 2) for seen in method.seen] == [0.02, 0.98]


def test_steps_and_eta_change_a_copy_of_the_method(tmp_path: Path) -> None:
    calls: list[tuple[float, int]] = []
    method = Fake(sampling=Sampling(steps=50))
    method.path, method.schedule = Steps(), None
    source = save(tmp_path / "in.png", pattern(8, 8))
    upscale(
        source,
        tmp_path / "out.png",
        method=method,
        options=replace(SMALL, steps=4, samples=2),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert method.sampling == Sampling(steps=50)
    assert calls == [(n / 8, 1) for n in (1, 2, 3, 4, 5, 6, 7, 8, 8)]


class Steps:
    """The part of a path that says how many steps it has."""

    def times(self, num_steps: int, num_tokens: int) -> Tensor:  # noqa: ARG002
        if num_steps > 100:
            raise ValueError(f"num_steps is {num_steps}, the path has 1 to 100")
        return torch.linspace(1, 0, num_steps + 1)


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A folder of three slices whose third was not reached; its results lie in `out`."""
    for i in range(3):
        save(tmp_path / "in" / f"{i}.png", pattern(8, 8, seed=i))
    (tmp_path / "in" / "PROVENANCE.txt").write_text("not a slice")
    with pytest.raises(KeyboardInterrupt):
        upscale(tmp_path / "in", tmp_path / "out", method=Fake(stop_after=2), options=SMALL)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [NOTE, "0.png", "1.png"]
    return tmp_path


def test_a_folder_goes_on_where_it_stopped(interrupted: Path) -> None:
    method = Fake()
    report = upscale(interrupted / "in", interrupted / "out", method=method, options=SMALL)
    assert (report.num_slices, report.num_skipped, len(method.seen)) == (1, 2, 1)
    assert sorted(path.name for path in (interrupted / "out").iterdir()) == ["0.png", "1.png", "2.png"]
    assert read(interrupted / "out" / "2.png").shape == (32, 32)


def test_the_preview_is_that_of_a_call_that_was_not_interrupted(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "in" / f"{i}.png", pattern(8, 8, seed=i))
    options = replace(SMALL, preview=True)
    upscale(tmp_path / "in", tmp_path / "whole", method=Fake(), options=options)
    for stop_after in (1, 3):
        out = tmp_path / f"stopped{stop_after}"
        with pytest.raises(KeyboardInterrupt):
            upscale(tmp_path / "in", out, method=Fake(stop_after=stop_after), options=options)
        report = upscale(tmp_path / "in", out, method=Fake(), options=options)
        assert report.preview
        assert report.preview.read_bytes() == (tmp_path / "whole_preview.png").read_bytes()


def test_results_may_go_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "in" / "a.png", pattern(8, 8))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    report = upscale(tmp_path / "in", ".", method=Fake(), options=replace(SMALL, samples=2, preview=True))
    assert report.out == tmp_path / "here"
    assert report.std == tmp_path / "here_std"
    assert {path.name for path in tmp_path.iterdir()} == {"in", "here", "here_std", "here_preview.png"}
    assert read(tmp_path / "here" / "a.png").shape == (32, 32)


@pytest.mark.parametrize(
    ("change", "num_skipped"),
    [({"seed": 1}, 0), ({"resume": False}, 0), ({"overlap": 0}, 0), ({"batch": 3}, 2)],
)
def test_other_options_begin_anew(interrupted: Path, change: dict[str, Any], num_skipped: int) -> None:
    options = replace(SMALL, **change)
    report = upscale(interrupted / "in", interrupted / "out", method=Fake(), options=options)
    assert report.num_skipped == num_skipped


def test_another_autoencoder_begins_anew(interrupted: Path) -> None:
    method = Fake()
    method.autoencoders = {"optical": nn.Linear(2, 2)}  # type: ignore[attr-defined]
    report = upscale(interrupted / "in", interrupted / "out", method=method, options=SMALL)
    assert report.num_skipped == 0


def test_a_slice_that_changed_is_enlarged_again(interrupted: Path) -> None:
    save(interrupted / "in" / "1.png", pattern(8, 8, seed=7))
    report = upscale(interrupted / "in", interrupted / "out", method=Fake(), options=SMALL)
    assert (report.num_slices, report.num_skipped) == (2, 1)


def test_the_preview_shows_bicubic_result_and_spread(tmp_path: Path) -> None:
    source = save(tmp_path / "in.tif", np.stack([pattern(140, 20, "uint16")] * 3))
    options = replace(SMALL, tile=128, samples=2, preview=True)
    report = upscale(source, tmp_path / "out.tif", method=Fake(spread=0.1), options=options)
    assert report.preview == tmp_path / "out_preview.png"
    picture = np.asarray(Image.open(report.preview)).astype(int)
    # Two rows of three panels, each 512 px high: the whole, shrunk to 73 px wide, and its centre, 80 px.
    assert picture.shape[:2] == (6 + 16 + 2 * (512 + 6 + 16), 6 + 3 * (80 + 6))
    bicubic, result, spread = (picture[600:1000, 6 + i * 86 : 86 + i * 86] for i in range(3))
    assert 0 < np.abs(bicubic - result).mean() < 25
    assert np.abs(bicubic - spread).mean() > 25


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", pattern(8, 8))
    line = check_upscale(tmp_path / "in", tmp_path / "out", method=Fake(), options=SMALL)
    assert "1 slice, 1 tile; uint8 from 0 to 255 seen as 0 to 1" in line
    assert not (tmp_path / "out").exists()


def test_samples_of_one_step_are_said_to_be_alike(tmp_path: Path) -> None:
    source = save(tmp_path / "in.png", pattern(8, 8))
    method = Fake(spread=0.05, sampling=Sampling(steps=1))
    with pytest.warns(UserWarning, match="says little; add --steps 10"):
        upscale(source, tmp_path / "out.png", method=method, options=replace(SMALL, samples=2))
