import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from pellucid.datasets.slices import Config, Slices
from pellucid.errors import InputError


def make_slices(folder: Path, *names: str, size: tuple[int, int] = (32, 24)) -> Path:
    """Write slices of noise; the same name gives the same noise."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(list(name.encode())).integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(noise).save(path)
    return folder


def make_stack(path: Path, num_pages: int, size: tuple[int, int]) -> Path:
    stack = np.random.default_rng(num_pages).integers(0, 65536, (num_pages, *size), dtype=np.uint16)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, stack)
    return path.parent


def slices(hr: Path, scale: int = 4, **keys: Any) -> Slices:
    return Slices(Config(hr=hr, **keys), scale=scale)


def test_the_low_resolution_is_what_pillow_makes_of_the_high(tmp_path: Path) -> None:
    dataset = slices(make_slices(tmp_path, "a.png", size=(67, 50)))
    item = dataset[0]
    assert item.target is not None
    assert (item.target.shape, item.degraded.shape, item.scale) == ((1, 1, 64, 48), (1, 1, 16, 12), 4)
    assert item.valid.all()
    assert item.valid.shape == item.target.shape
    stored = np.asarray(Image.open(tmp_path / "a.png"), dtype=np.float32)[:64, :48] / 255
    np.testing.assert_array_equal(item.target[0, 0], stored)
    pillow = Image.fromarray(stored).resize((12, 16), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(item.degraded[0, 0], np.clip(np.asarray(pillow), 0, 1), atol=1e-6)


def test_low_and_high_resolution_are_paired_by_name(tmp_path: Path) -> None:
    names = ("core/b_02.png", "core/b_01.png", "a.png")
    hr = make_slices(tmp_path / "hr", *names)
    lr = make_slices(tmp_path / "lr", *names, size=(8, 6))
    dataset = slices(hr, lr=lr, pattern="**/*")
    assert dataset.keys == ("a", "core/b_01", "core/b_02")
    for i, key in enumerate(dataset.keys):
        item = dataset[i]
        assert item.key == (key,)
        assert item.target is not None
        for image, folder in ((item.target, hr), (item.degraded, lr)):
            stored = np.asarray(Image.open(folder / f"{key}.png"))
            np.testing.assert_array_equal((image[0, 0] * 255).round(), stored)


def test_a_pair_may_have_two_formats(tmp_path: Path) -> None:
    hr = make_slices(tmp_path / "hr", "a.tif")
    item = slices(hr, lr=make_slices(tmp_path / "lr", "a.png", size=(8, 6)))[0]
    assert item.scale == 4


def test_every_page_of_a_stack_is_a_slice(tmp_path: Path) -> None:
    hr = make_stack(tmp_path / "hr" / "core.tif", 5, (16, 16))
    dataset = slices(hr, scale=2, lr=make_stack(tmp_path / "lr" / "core.tif", 5, (8, 8)), numbers=(1, 3))
    assert dataset.keys == ("core_page0001", "core_page0002", "core_page0003")
    item = dataset[2]
    assert item.target is not None
    for image, folder in ((item.target, "hr"), (item.degraded, "lr")):
        stored = tifffile.imread(tmp_path / folder / "core.tif")[3]
        np.testing.assert_array_equal((image[0, 0].double() * 65535).round(), stored)
    assert len(set(dataset.groups)) == 3


def test_numbers_are_a_range_of_depths_with_both_ends(tmp_path: Path) -> None:
    names = [f"run7_{depth:04d}.png" for depth in (0, 5, 10, 15)]
    dataset = slices(make_slices(tmp_path, *names), numbers=(5, 10))
    assert dataset.keys == ("run7_0005", "run7_0010")


def test_excluded_slices_are_left_out(tmp_path: Path) -> None:
    hr = make_slices(tmp_path / "hr", "a.png", "b.png", "c.png", "high.png")
    lr = make_slices(tmp_path / "lr", "a.png", "b.png", "c.png", size=(8, 6))
    assert slices(hr, lr=lr, exclude=("b", "high.png")).keys == ("a", "c")
    with pytest.raises(InputError, match="'d' fits no sample"):
        slices(hr, exclude=("d",))


def test_a_slice_is_the_same_place_however_it_is_reached(tmp_path: Path) -> None:
    make_slices(tmp_path / "core", "a_1.png")
    (tmp_path / "link").symlink_to(tmp_path / "core")
    make_slices(tmp_path / "other", "a_1.png")
    direct = slices(tmp_path / "core").groups
    assert slices(tmp_path / "link").groups == direct
    assert slices(tmp_path, pattern="core/*").groups == direct
    assert slices(tmp_path / "other").groups != direct


def test_slices_without_a_partner_are_listed_on_both_sides(tmp_path: Path) -> None:
    hr = make_slices(tmp_path / "hr", "a.png", *(f"h{i}.png" for i in range(7)))
    lr = make_slices(tmp_path / "lr", "a.png", "low.png", size=(8, 6))
    with pytest.raises(InputError) as raised:
        slices(hr, lr=lr)
    assert f"{hr} holds h0, h1, h2, h3, h4 and 2 more that {lr} lacks" in str(raised.value)
    assert f"{lr} holds low that {hr} lacks" in str(raised.value)


def test_a_wrong_ratio_names_both_sizes_and_the_factor(tmp_path: Path) -> None:
    hr = make_slices(tmp_path / "hr", "a.png")
    lr = make_slices(tmp_path / "lr", "a.png", size=(4, 3))
    with pytest.raises(InputError, match=r"has 32 x 24 pixels and .* 4 x 3, the first must be 4 times"):
        slices(hr, lr=lr)
    assert slices(hr, lr=lr, scale=8)[0].scale == 8


@pytest.mark.parametrize(
    ("keys", "scale", "message"),
    [
        ({"numbers": (7, 9)}, 4, r"numbers \(\(7, 9\)\) and exclude leave none of the 2 slices"),
        ({"numbers": (0, 9), "exclude": ()}, 64, "has 32 x 24 pixels, 64 a side are needed"),
        ({}, 1, "nothing to learn at scale 1; name lr too"),
        ({"pattern": "*.tif"}, 4, "no slice .* fits '\\*.tif'"),
    ],
)
def test_slices_that_cannot_be_used_are_explained(
    tmp_path: Path, keys: dict[str, Any], scale: int, message: str
) -> None:
    make_slices(tmp_path, "a_1.png", "a_2.png")
    with pytest.raises(InputError, match=message):
        slices(tmp_path, scale, **keys)


def test_a_name_without_a_number_has_no_depth(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the name a has none; rename"):
        slices(make_slices(tmp_path, "a.png"), numbers=(0, 1))


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png and .*a\.tif have one name, a"):
        slices(make_slices(tmp_path, "a.png", "a.tif"))


def test_real_slices_are_split_by_depth(data_folder: Path) -> None:
    train = slices(data_folder / "soil_ct", numbers=(0, 300))
    test = slices(data_folder / "soil_ct", numbers=(310, 345))
    assert (len(train), len(test)) == (61, 8)
    assert not set(train.groups) & set(test.groups)
    item = test[0]
    assert item.degraded.shape == (1, 1, 125, 125)
    assert item.target is not None
    error = (item.enlarged() - item.target).square().mean()
    assert 20 < -10 * torch.log10(error) < 40


@pytest.mark.parametrize(("scale", "low", "psnr"), [(4, "lr_64.png", 23.798), (8, "lr_32.png", 24.139)])
def test_a_published_pair_gives_the_published_figure_of_bicubic(
    tmp_path: Path, data_folder: Path, scale: int, low: str, psnr: float
) -> None:
    for folder, name in (("hr", "hr_256.png"), ("lr", low)):
        (tmp_path / folder).mkdir()
        shutil.copy(data_folder / "soil_ct_sr3xct" / name, tmp_path / folder / "soil.png")
    item = slices(tmp_path / "hr", scale=scale, lr=tmp_path / "lr")[0]
    assert item.target is not None
    error = (item.enlarged() - item.target).square().mean()
    assert -10 * torch.log10(error) == pytest.approx(psnr, abs=0.005)  # the published one rounds to 8 bit
