from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from stacks import SMALL, Fake, pattern, read, save

from pellucid.apply import volume
from pellucid.apply.options import SliceOptions
from pellucid.apply.upscale import check_upscale, upscale
from pellucid.build.method import load
from pellucid.data.resample import enlarge
from pellucid.data.slice_file import read_info
from pellucid.errors import InputError

WHOLE = replace(SMALL, volume=True)


def noise(*shape: int, dtype: str = "uint8") -> NDArray[Any]:
    return np.stack([pattern(*shape[1:], dtype, seed=at) for at in range(shape[0])])


def run(folder: Path, values: NDArray[Any], options: SliceOptions = WHOLE, **given: Any) -> NDArray[Any]:
    source = save(folder / "in.tif", values)
    upscale(source, folder / "out.tif", method=Fake(), options=options, **given)
    return read(folder / "out.tif")


def test_what_changes_from_slice_to_slice_alone_is_enlarged_along_them(tmp_path: Path) -> None:
    profile = pattern(1, 8, "float32")[0]
    result = run(
        tmp_path, np.broadcast_to(profile[:, None, None], (8, 8, 4)), replace(WHOLE, grey_range="full")
    )
    line = torch.from_numpy(profile)[None, None, :, None].expand(-1, -1, -1, 8)
    expected = enlarge(line, 4).clamp(0, 1)[0, 0, :, 0].numpy()
    assert result.shape == (32, 32, 16)
    np.testing.assert_allclose(result, np.broadcast_to(expected[:, None, None], result.shape), atol=2e-3)


def test_rows_and_columns_are_treated_alike(tmp_path: Path) -> None:
    values, steps = noise(5, 8, 11), list[tuple[float, int]]()
    result = run(tmp_path, values, progress=lambda *now: steps.append(now))
    turned = run(tmp_path, np.ascontiguousarray(values.swapaxes(1, 2)))
    assert np.abs(result.astype(int) - turned.swapaxes(1, 2)).max() <= 1
    assert np.abs(result.reshape(5, 4, 8, 4, 11, 4).mean((1, 3, 5)) - values).mean() < 25
    assert steps[-1][0] == steps[-1][1] > 5


def test_a_folder_of_slices_is_a_volume_and_voxels_shrink_along_all_axes(tmp_path: Path) -> None:
    values = noise(4, 8, 8)
    expected = run(tmp_path, values)
    for at, page in enumerate(values):
        save(tmp_path / "in" / f"{at}.png", page)
    report = upscale(
        tmp_path / "in", tmp_path / "whole.tif", method=Fake(), options=replace(WHOLE, preview=True)
    )
    assert (read(report.out) == expected).all()
    assert report.num_slices == 4
    assert report.preview
    assert report.preview.stat().st_size > 1000

    size = {"unit": "um", "spacing": 2.0, "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "um.tif", values, imagej=True, resolution=(0.5, 0.5), metadata=size)
    upscale(tmp_path / "um.tif", tmp_path / "um4.tif", method=Fake(), options=WHOLE)
    info = read_info(tmp_path / "um4.tif")
    assert (info.num_pages, info.spacing, info.resolution) == (16, 0.5, (2.0, 2.0))


def test_slices_are_in_the_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    values = noise(12, 6, 6)
    expected = run(tmp_path, values)
    for at, page in enumerate(values):
        save(tmp_path / "in" / f"slice_{at}.png", page)
    report = upscale(tmp_path / "in", tmp_path / "whole.tif", method=Fake(), options=WHOLE)
    assert (read(report.out) == expected).all()


def test_no_data_stays_so(tmp_path: Path) -> None:
    values = noise(3, 6, 6, dtype="float32")
    values[1, 2:4, :3] = np.nan
    result = run(tmp_path, values)
    expected = np.isnan(values).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    assert (np.isnan(result) == expected).all()


def test_what_is_no_volume_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = save(tmp_path / "one.tif", noise(1, 8, 8)), save(tmp_path / "two.tif", noise(2, 8, 8))
    with pytest.raises(
        InputError, match=r"one\.tif holds one slice, a volume has several; leave out --volume"
    ):
        upscale(one, tmp_path / "out.tif", method=Fake(), options=WHOLE)
    with pytest.raises(InputError, match="--samples is 3, of a volume one is drawn"):
        upscale(two, tmp_path / "out.tif", method=Fake(), options=replace(WHOLE, samples=3))
    with pytest.raises(InputError, match=r"out\.png cannot hold 8 pages"):
        upscale(two, tmp_path / "out.png", method=Fake(), options=WHOLE)
    save(tmp_path / "in" / "a.png", pattern(8, 8))
    save(tmp_path / "in" / "b.png", pattern(8, 9))
    with pytest.raises(InputError, match=r"b\.png and .*a\.png differ in size or type"):
        upscale(tmp_path / "in", tmp_path / "out.tif", method=Fake(), options=WHOLE)
    # 2 slices as they are, of 1 tile; then 2 x 32 planes of 1 tile.
    assert ": 2 slices, 66 tiles; " in check_upscale(two, tmp_path / "out.tif", method=Fake(), options=WHOLE)
    monkeypatch.setattr(volume, "available_bytes", lambda: 1000.0)
    with pytest.raises(InputError, match=r"needs 0\.0 GB of memory, .* without --volume"):
        upscale(two, tmp_path / "out.tif", method=Fake(), options=WHOLE)
    assert not (tmp_path / "out.tif").exists()


def test_slices_far_apart_are_warned_of(tmp_path: Path) -> None:
    size = {"unit": "um", "spacing": 10.0, "axes": "ZYX"}
    tifffile.imwrite(tmp_path / "in.tif", noise(2, 8, 8), imagej=True, resolution=(0.5, 0.5), metadata=size)
    with pytest.warns(UserWarning, match="slices lie 5 pixels apart"):
        upscale(tmp_path / "in.tif", tmp_path / "out.tif", method=Fake(), options=WHOLE)


def test_grains_are_closer_to_the_truth_than_by_cubic_interpolation(tmp_path: Path) -> None:
    grains = gaussian_filter(np.random.default_rng(0).standard_normal((48, 48, 48)), 4, mode="wrap")
    truth = 0.15 + 0.6 / (1 + np.exp(-6 * grains / grains.std()))
    low = truth.reshape(12, 4, 12, 4, 12, 4).mean((1, 3, 5)).astype(np.float32)
    save(tmp_path / "in.tif", low)
    options = SliceOptions(device="cpu", volume=True, grey_range="full", preview=False)
    upscale(
        tmp_path / "in.tif", tmp_path / "out.tif", method=load("sr3_ct_x4", device="cpu"), options=options
    )
    flat = enlarge(torch.from_numpy(low)[:, None], 4)[:, 0]  # (Z, f Y, f X)
    cubic = torch.nn.functional.interpolate(
        flat.permute(1, 0, 2)[:, None], (48, 48), mode="bicubic", antialias=True, align_corners=False
    )[:, 0].permute(1, 0, 2)
    error, cubic_error = (
        np.mean((found - truth) ** 2) for found in (read(tmp_path / "out.tif"), cubic.numpy())
    )
    assert 10 * np.log10(cubic_error / error) > 2
