import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pellucid import config
from pellucid.data.batch import Batch
from pellucid.data.schema import parse
from pellucid.datasets.sar_optical import Config, SarOptical
from pellucid.errors import InputError
from pellucid.train.data import build_training_data

COLUMNS = (
    "s1_fileName,s2_fileName,coordinates,country,date-time,scale,region,season,"
    "operational-mode,polarisation,bands"
)
PROMPT = "Colorise image, Region: {region}, Season: {season}"


def make_folder(root: Path, number: int, words: tuple[tuple[str, str], ...], side: int = 16) -> Path:
    """Write a region folder of noise and its list, one pair per (region, season)."""
    place, rows = f"r_{number:03d}", [COLUMNS]
    for i, (region, season) in enumerate(words):
        files = [f"{place}/{sensor}_{number:03d}/img_p{i}.png" for sensor in ("s1", "s2")]
        generator = np.random.default_rng([number, i])
        for file, shape in zip(files, ((side, side), (side, side, 3)), strict=True):
            path = root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(path)
        rows.append(f'{",".join(files)},"48.8, 17.3",Chile,2018-01-06,10,{region},{season},IW,VV,B4 B3 B2')
    (root / f"data_{place}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def dataset(root: Path, **keys: Any) -> SarOptical:
    return SarOptical(Config(root=root, **keys))


def rewrite(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


SUMMER = (("tropical", "summer"),)


def test_a_pair_is_the_files_over_255(tmp_path: Path) -> None:
    data = dataset(make_folder(tmp_path, 3, (("tropical", "summer"), ("arctic", "winter"))))
    assert data.keys == ("r_003/s1_003/img_p0", "r_003/s1_003/img_p1")
    assert data.groups == ("r_003", "r_003")
    item = data[1]
    assert item.sar is not None
    assert item.target is not None
    gray = np.asarray(Image.open(tmp_path / "r_003/s1_003/img_p1.png"), dtype=np.float32) / 255
    color = np.asarray(Image.open(tmp_path / "r_003/s2_003/img_p1.png"), dtype=np.float32) / 255
    np.testing.assert_array_equal(item.sar[0, 0], gray)
    np.testing.assert_array_equal(item.target[0], np.moveaxis(color, -1, 0))
    np.testing.assert_array_equal(item.degraded[0], np.stack([gray] * 3))
    assert item.valid.shape == (1, 1, 16, 16)
    assert item.valid.all()
    assert item.prompt == ("Colorise image, Region: arctic, Season: winter",)
    assert Batch.cat([data[0], item]).prompt == data.prompts


def test_every_column_is_read_and_may_stand_in_a_prompt(tmp_path: Path) -> None:
    data = dataset(make_folder(tmp_path, 0, SUMMER), prompt="{country} at {coordinates}, {operational-mode}")
    assert data.prompts == ("Chile at 48.8, 17.3, IW",)
    assert data.pairs[0].words == {
        "coordinates": "48.8, 17.3",
        "country": "Chile",
        "date-time": "2018-01-06",
        "scale": "10",
        "region": "tropical",
        "season": "summer",
        "operational-mode": "IW",
        "polarisation": "VV",
        "bands": "B4 B3 B2",
    }


def test_words_that_say_nothing_count_as_unknown(tmp_path: Path) -> None:
    words = (("Unknown", " summer "), ("nan", "-"))
    assert dataset(make_folder(tmp_path, 0, words)).prompts == (
        "Colorise image, Season: summer",
        "Colorise image",
    )
    assert dataset(tmp_path, prompt="{region} in {season}").prompts == ("", "")


def test_windows_separators_and_a_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    make_folder(tmp_path, 0, SUMMER)
    path = tmp_path / "data_r_000.csv"
    text = path.read_text(encoding="utf-8").replace("r_000/s1_000/", "r_000\\s1_000\\").replace("\n", "\r\n")
    path.write_bytes(text.encode("utf-8-sig"))
    data = dataset(tmp_path)
    assert data.keys == ("r_000/s1_000/img_p0",)
    assert data[0].sar is not None


def test_missing_files_are_counted_and_the_first_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_folder(tmp_path, 0, SUMMER * 4)
    for name in ("s1_000/img_p1.png", "s2_000/img_p3.png"):
        (tmp_path / "r_000" / name).unlink()
    with caplog.at_level(logging.WARNING):
        data = dataset(tmp_path)
        _ = [data[i] for i in range(len(data))]
    assert len(caplog.records) == 1
    assert f"2 of 4 pairs of {tmp_path} lack a file, first {tmp_path}/r_000/s1_000/img_p1.png" in caplog.text
    assert "data_r_000.csv, line 3" in caplog.text
    assert data.keys == ("r_000/s1_000/img_p0", "r_000/s1_000/img_p2")
    assert [pair.key for pair in data.missing] == ["r_000/s1_000/img_p1", "r_000/s1_000/img_p3"]


def test_it_is_an_error_if_all_files_are_missing(tmp_path: Path) -> None:
    make_folder(tmp_path, 0, SUMMER)
    shutil.rmtree(tmp_path / "r_000")
    with pytest.raises(InputError, match=r"1 of 1 pairs .* relative to the folder of the lists"):
        dataset(tmp_path)


def test_broken_and_wrong_images_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path, 0, SUMMER * 4)
    radar, optical = tmp_path / "r_000" / "s1_000", tmp_path / "r_000" / "s2_000"
    (radar / "img_p0.png").write_bytes((radar / "img_p0.png").read_bytes()[:100])
    shutil.copy(optical / "img_p1.png", radar / "img_p1.png")
    shutil.copy(radar / "img_p2.png", optical / "img_p2.png")
    Image.new("L", (8, 16)).save(radar / "img_p3.png")
    data = dataset(tmp_path)
    for index, message in enumerate(
        (
            "s1_000/img_p0.png is damaged or no PNG file",
            "s1_000/img_p1.png has three different channels, a radar picture is grey",
            "s2_000/img_p2.png is grey, an optical picture in colour is needed",
            "s1_000/img_p3.png has 16 x 8 pixels and .*s2_000/img_p3.png 16 x 16",
        )
    ):
        with pytest.raises(InputError, match=message):
            data[index]


def test_radar_may_be_stored_in_three_equal_channels_with_full_opacity_or_in_16_bit(tmp_path: Path) -> None:
    make_folder(tmp_path, 0, SUMMER * 3)
    radar = tmp_path / "r_000" / "s1_000"
    plain = Image.open(radar / "img_p0.png")
    plain.convert("RGBA").save(radar / "img_p1.png")
    Image.fromarray(np.asarray(plain).astype(np.uint16) * 257).save(radar / "img_p2.png")
    data = dataset(tmp_path)
    first = data[0].sar
    for index in (1, 2):
        torch.testing.assert_close(data[index].sar, first)
    see_through = plain.convert("RGBA")
    see_through.putalpha(200)
    see_through.save(radar / "img_p1.png")
    with pytest.raises(InputError, match=r"img_p1.png is transparent in places"):
        data[1]


def test_pictures_can_be_brought_to_one_size(tmp_path: Path) -> None:
    make_folder(tmp_path, 0, SUMMER, side=16)
    make_folder(tmp_path, 1, SUMMER, side=12)
    sizes = [dataset(tmp_path, size=16)[i].images().values() for i in range(2)]
    assert {image.shape[-2:] for images in sizes for image in images} == {(16, 16)}
    stored = np.asarray(Image.open(tmp_path / "r_000/s1_000/img_p0.png"), dtype=np.float32) / 255
    pillow = Image.fromarray(stored).resize((6, 6), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(dataset(tmp_path, size=6)[0].degraded[0, 2], np.asarray(pillow), atol=1e-5)


def test_a_config_makes_changed_crops_of_the_training_folders(tmp_path: Path) -> None:
    make_folder(tmp_path, 0, SUMMER * 3, side=32)
    make_folder(tmp_path, 1, SUMMER, side=32)
    source = {"name": "sar_optical", "root": tmp_path}
    values = {
        "network": {"name": "flux"},
        "method": {"name": "generative", "optical": ["R", "G", "B"], "radar": ["VV"]},
        "data": {
            "train": [{**source, "folders": ["r_000"]}],
            "val": [{**source, "folders": ["r_001"]}],
            "tile": 16,
            "augment": {"picture": {"radar_noise": 0.1, "brightness": 0.3, "rotation": 5}},
        },
    }
    data = build_training_data(parse(config.Config, values, where="test"))
    batch = Batch.cat([data.stream[i] for i in range(4)])
    assert batch.target is not None
    assert batch.sar is not None
    assert (batch.target.shape, batch.sar.shape) == ((4, 3, 16, 16), (4, 1, 16, 16))
    assert torch.equal(batch.degraded, batch.sar.repeat(1, 3, 1, 1))
    assert batch.prompt == ("Colorise image, Region: tropical, Season: summer",) * 4
    assert not batch.valid.all()
    assert data.val is not None
    assert data.val[0].key == ("r_001/s1_001/img_p0",)
    assert data.mean_spectrum == pytest.approx((0.5, 0.5, 0.5), abs=0.02)
    values["data"]["val"] = [source]
    with pytest.raises(InputError, match="training and validation share r_000"):
        build_training_data(parse(config.Config, values, where="test"))
    values["method"]["optical"] = ["B02"]
    with pytest.raises(InputError, match=r"data are pictures of the bands R, G, B and one .* names B02, VV"):
        build_training_data(parse(config.Config, values, where="test"))


def make_regions(root: Path, *sizes: int) -> Path:
    for number, size in enumerate(sizes):
        make_folder(root, number, SUMMER * size, side=1)
    return root


def test_splits_take_whole_folders_and_all_of_them(tmp_path: Path) -> None:
    make_regions(tmp_path, 1, 2, 3, 4, 5, 6, 7, 8, 2, 2)
    parts = {split: dataset(tmp_path, split=split) for split in ("train", "val", "test")}
    folders = {split: set(part.groups) for split, part in parts.items()}
    assert not folders["train"] & folders["val"]
    assert not (folders["train"] | folders["val"]) & folders["test"]
    assert sum(map(len, parts.values())) == 40
    assert [len(part) for part in parts.values()] == [32, 4, 4]


def test_a_split_stays_when_files_get_lost_or_pairs_are_excluded(tmp_path: Path) -> None:
    make_regions(tmp_path, 5, 5, 5, 5, 2, 2)
    test = dataset(tmp_path, split="test", seed=3)
    lost = next(pair for pair in dataset(tmp_path).pairs if pair.group not in test.groups)
    for path in lost.sar.parent.iterdir():
        path.unlink()
    again = dataset(tmp_path, split="test", seed=3, exclude=(test.keys[0],))
    assert again.keys == test.keys[1:]


def test_another_seed_divides_the_folders_otherwise(tmp_path: Path) -> None:
    make_regions(tmp_path, *[1] * 12)
    parts = {dataset(tmp_path, split="test", seed=seed).keys for seed in range(6)}
    assert len(parts) > 2


def test_splits_may_be_named_in_a_file_or_by_folder(tmp_path: Path) -> None:
    make_regions(tmp_path, 1, 1, 1)
    names = {"train": ["r_000", "r_002"], "test": ["r_001"]}
    (tmp_path / "splits.json").write_text(json.dumps(names), encoding="utf-8")
    assert dataset(tmp_path, split="train", splits=tmp_path / "splits.json").groups == ("r_000", "r_002")
    assert dataset(tmp_path, folders=("r_001", "r_002")).groups == ("r_001", "r_002")
    assert dataset(tmp_path, exclude=("r_000/img_p0", "r_002")).groups == ("r_001",)
    with pytest.raises(InputError, match="'r_01' fits no sample"):
        dataset(tmp_path, folders=("r_01",))
    with pytest.raises(InputError, match="leave out one of the two"):
        dataset(tmp_path, folders=("r_001",), split="test")
    with pytest.raises(InputError, match="has no pair of split 'test'"):
        dataset(tmp_path, split="test", shares=(1, 1, 0))
    with pytest.raises(ValueError, match="one share at least"):
        dataset(tmp_path, shares=(0, 0, 0))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("s2_fileName", "optical", "lacks the column s2_fileName"),
        ('"48.8, 17.3"', "48.8, 17.3", "line 2 has 12 columns, the first row 11; put entries with commas in"),
        ("r_000/s2_000", "r_001/s2_001", "both must lie in one region folder"),
        ("r_000/s1_000/", "", "both must lie in one region folder"),
        ("r_000/s1_000/", "/elsewhere/r_000/s1_000/", "line 2 names /elsewhere/.*, which does not lie in"),
        ("r_000/s1_000/", "../r_000/s1_000/", "which does not lie in .*; name files there, as r_000"),
        ("r_000/s1_000/", "C:\\\\r_000\\\\s1_000\\\\", "which does not lie in"),
    ],
)
def test_a_faulty_list_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    make_folder(tmp_path, 0, SUMMER)
    rewrite(tmp_path / "data_r_000.csv", old, new)
    with pytest.raises(InputError, match=message):
        dataset(tmp_path)


def test_absolute_paths_keep_the_places_apart(tmp_path: Path) -> None:
    for number in (0, 1):
        make_folder(tmp_path, number, SUMMER)
        rewrite(tmp_path / f"data_r_00{number}.csv", f"r_00{number}/", f"{tmp_path}/r_00{number}/")
    (tmp_path / "._data_r_000.csv").write_bytes(b"\0\5\x16\7")
    data = dataset(tmp_path)
    assert data.groups == ("r_000", "r_001")
    assert data.keys == ("r_000/s1_000/img_p0", "r_001/s1_001/img_p0")


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no data_r"):
        dataset(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        dataset(tmp_path / "none")


def test_the_real_pairs(data_folder: Path) -> None:
    root = data_folder / "sar_optical"
    if not root.is_dir():
        pytest.skip(f"{root} is missing")
    data = dataset(root, size=256)
    assert len(data) == 124
    assert not data.missing
    assert data.prompts[data.keys.index("r_003/s1_003/img_p0")].endswith("Region: temperate, Season: fall")
    assert data.prompts[-1] == "Colorise image"
    assert {data[i].degraded.shape[-2:] for i in (0, 3, 20, 123)} == {(256, 256)}
    parts = [set(dataset(root, split=split).groups) for split in ("train", "val", "test")]
    assert sorted(group for part in parts for group in part) == [f"r_{i:03d}" for i in range(7)]
