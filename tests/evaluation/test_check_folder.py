import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.datasets.test_sar_optical import make_folder, rewrite
from tests.rasters import write_raster

from pellucid.data.ownership import save_image
from pellucid.errors import InputError
from pellucid.evaluation.check_folder import CheckOptions, check_folder
from pellucid.evaluation.check_report import Report
from pellucid.simulate.pairs import simulate_pairs


def kinds(report: Report, *, fatal: bool) -> list[str]:
    return sorted({problem.kind for problem in report.problems if problem.is_fatal == fatal})


def check(folder: Path, **options: Any) -> Report:
    report = check_folder(folder, CheckOptions(**options))
    json.dumps(report.to_dict(), allow_nan=False)
    return report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    simulate_pairs(folder, count=4, size=32, seed=0)
    return folder


@pytest.fixture
def patches(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "patches")
    return tmp_path / "patches"


def noise(path: Path, *shape: int, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def test_pairs_without_fault_are_counted_by_what_is_known(tmp_path: Path) -> None:
    make_folder(tmp_path, 0, (("tropical", "summer"), ("tropical", "fall")))
    make_folder(tmp_path, 1, (("arctic", "fall"),))
    make_folder(tmp_path, 2, (("arctic", "winter"),))
    report = check(tmp_path)
    assert (report.kind, report.num_samples, report.num_places, report.num_unusable) == (
        "sar_optical",
        4,
        3,
        0,
    )
    assert not report.problems
    assert report.is_usable
    assert report.counts["region"] == {"tropical": 2, "arctic": 2}
    assert report.counts["season"] == {"fall": 2, "summer": 1, "winter": 1}
    assert report.counts["prompt"]["Colorise image, Region: tropical, Season: fall"] == 1
    assert report.counts["polarisation"] == {"VV": 4}
    assert sum(report.split_sizes.values()) == 4
    assert report.splits.keys() == {"train", "val", "test"}
    radar, optical = report.images
    assert (radar.role, radar.sizes, radar.dtypes) == ("radar", {"16 x 16": 4}, {"uint8": 4})
    assert (optical.bands, optical.low, optical.high) == ({"R G B": 4}, 0, 1)


def test_every_fault_of_pairs_is_found(tmp_path: Path) -> None:
    make_folder(tmp_path, 0, (("arctic", "fall"),) * 8)
    make_folder(tmp_path, 1, (("", "autumn"), ("arctic", "")))
    make_folder(tmp_path, 2, (("arctic", "winter"),))
    radar, optical = tmp_path / "r_000" / "s1_000", tmp_path / "r_000" / "s2_000"
    (radar / "img_p0.png").unlink()
    (radar / "img_p1.png").write_bytes(b"no picture")
    noise(radar / "img_p2.png", 8, 8)
    shutil.copy(optical / "img_p3.png", radar / "img_p3.png")
    Image.new("L", (16, 16), 99).save(radar / "img_p4.png")
    shutil.copy(optical / "img_p6.png", optical / "img_p5.png")
    noise(radar / "extra.png", 16, 16, seed=1)
    rewrite(tmp_path / "data_r_002.csv", "s2_fileName", "file")
    report = check(tmp_path)
    assert kinds(report, fatal=True) == [
        "constant image",
        "different sizes",
        "faulty list",
        "missing file",
        "unusable image",
    ]
    assert kinds(report, fatal=False) == [
        "duplicate image",
        "empty metadata",
        "not listed",
        "one season, two words",
        "other size",
    ]
    assert (report.num_samples, report.num_unusable) == (10, 5)
    empty = [problem.text for problem in report.problems if problem.kind == "empty metadata"]
    assert empty == ["r_001/s1_001/img_p0 has no region", "r_001/s1_001/img_p1 has no season"]
    assert not report.is_usable


def test_a_picture_in_two_region_folders_of_different_splits_is_a_leak(tmp_path: Path) -> None:
    for number in range(3):
        make_folder(tmp_path, number, (("arctic", "fall"),))
    for number in (1, 2):
        shutil.copy(tmp_path / "r_000/s2_000/img_p0.png", tmp_path / f"r_00{number}/s2_00{number}/img_p0.png")
    assert kinds(check(tmp_path), fatal=True) == ["leak between splits"]
    splits = {"train": ["r_000", "r_001", "r_002"]}
    (tmp_path / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    report = check(tmp_path, splits=tmp_path / "splits.json")
    assert kinds(report, fatal=False) == ["duplicate image"]
    assert (report.split_by, report.split_sizes) == ("splits.json", {"train": 3})


def test_patches_are_read_with_their_radar_and_clouds(patches: Path, tmp_path: Path) -> None:
    report = check_folder(patches, sheet_path=tmp_path / "sheet.png")
    assert (report.kind, report.num_samples, report.is_usable) == ("sen12ms_cr", 4, True)
    assert [summary.role for summary in report.images] == ["cloudy", "clear", "radar"]
    cloudy, clear, radar = report.images
    assert cloudy.cloud is not None
    assert clear.cloud is not None
    assert cloudy.cloud > clear.cloud
    assert (radar.unit, radar.bands) == ("dB", {"VV VH": 4})
    assert len(cloudy.by_band) == 13
    # Two parts of two samples each, of three panels each.
    assert Image.open(tmp_path / "sheet.png").size[0] > 6 * 256


def test_every_fault_of_patches_is_found(patches: Path) -> None:
    names = [path.name for path in sorted((patches / "s1").iterdir())]
    with tifffile.TiffFile(patches / "s1" / names[0]) as file:
        backscatter = file.asarray()
    write_raster(patches / "s1" / names[0], 10 ** (np.moveaxis(backscatter, -1, 0) / 10), ("VV", "VH"))
    write_raster(patches / "s1" / names[1], np.full((2, 32, 32), -12, np.float32), ("VV", "VH"))
    (patches / "s2_cloudfree" / names[2]).unlink()
    shutil.copy(patches / "s2_cloudfree" / names[3], patches / "s2_cloudy" / names[3])
    report = check(patches)
    assert kinds(report, fatal=True) == ["constant image", "missing file"]
    assert {"linear radar", "duplicate image"} <= set(kinds(report, fatal=False))
    assert report.num_unusable == 2
    assert any("cloudy and clear image of" in problem.text for problem in report.problems)


def test_listed_splits_that_share_a_place_are_a_leak(patches: Path) -> None:
    names = [path.name for path in sorted((patches / "s1").iterdir())]
    rows = [f"{split},s1,s2_cloudfree,s2_cloudy,{name}" for split, name in zip("1123", names, strict=True)]
    (patches / "data.csv").write_text("\n".join(rows), encoding="utf-8")
    keys = [name.removesuffix(".tif") for name in names]
    index = [f"{key},{place}" for key, place in zip(keys, "abac", strict=True)]
    (patches / "index.csv").write_text("\n".join(["name,split_group", *index]), encoding="utf-8")
    report = check(patches)
    leaks = [problem.text for problem in report.problems if problem.is_fatal]
    assert "the place a is in train and in val" in leaks
    assert report.split_by == "as listed"
    assert dict(report.split_sizes) == {"train": 2, "val": 1, "test": 1}


def test_clear_scenes_are_told_with_their_radar(patches: Path) -> None:
    clear = patches / "s2_cloudfree"
    first = sorted((patches / "s1").iterdir())[0]
    first.unlink()
    report = check(clear, radar=patches / "s1")
    assert (report.kind, report.is_usable) == ("clear_scenes", True)
    assert [summary.num_images for summary in report.images] == [4, 3]
    assert "no radar" in kinds(report, fatal=False)
    lacking = check(clear, bands=("B02", "B99"))
    assert (kinds(lacking, fatal=True), lacking.num_unusable) == (["unusable image"], 4)
    assert check(clear, pattern=first.name).num_samples == 1


def test_slices_are_paired_by_name_and_scale(tmp_path: Path) -> None:
    for i in range(3):
        noise(tmp_path / "hr" / f"{i}.png", 32, 32, seed=i)
        noise(tmp_path / "lr" / f"{i}.png", 8, 8, seed=i)
    assert check(tmp_path).is_usable
    assert [summary.sizes for summary in check(tmp_path).images] == [{"32 x 32": 3}, {"8 x 8": 3}]
    noise(tmp_path / "lr" / "1.png", 16, 16)
    noise(tmp_path / "hr" / "3.png", 32, 32, seed=3)
    report = check(tmp_path)
    assert kinds(report, fatal=True) == ["no partner", "other scale"]
    assert report.num_unusable == 2
    assert check(tmp_path / "hr", lr=tmp_path / "lr").num_unusable == 2


def test_slices_of_one_name_are_found(tmp_path: Path) -> None:
    noise(tmp_path / "a.png", 8, 8)
    noise(tmp_path / "a.bmp", 8, 8, seed=1)
    report = check(tmp_path)
    assert (kinds(report, fatal=True), report.num_unusable) == (["one name, two files"], 1)


def test_pages_of_a_stack_are_slices(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 65536, (5, 12, 10), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "core.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "float.tif", np.full((4, 4), 7.0, np.float32))
    report = check(tmp_path)
    assert (report.kind, report.num_samples, report.num_unusable) == ("slices", 6, 1)
    assert report.images[0].sizes == {"12 x 10": 5}
    assert "must lie in [0, 1]" in report.problems[0].text


def test_a_limit_reads_some_samples_and_looks_for_the_files_of_all(tmp_path: Path) -> None:
    make_folder(tmp_path, 0, (("arctic", "fall"),) * 9)
    (tmp_path / "r_000/s1_000/img_p1.png").unlink()
    calls: list[tuple[float, int]] = []
    report = check_folder(
        tmp_path, CheckOptions(limit=3), progress=lambda done, total: calls.append((done, total))
    )
    assert (report.num_read, report.num_samples, report.num_unusable) == (3, 9, 1)
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_folders_of_no_known_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds none of the known layouts: clear_scenes \(GeoTIFFs"):
        check(tmp_path)
    noise(tmp_path / "colour" / "a.png", 4, 4, 3)
    with pytest.raises(InputError, match="is in colour, but slices are grey"):
        check(tmp_path / "colour")
    for name, count in (("s1", 2), ("s2", 13)):
        write_raster(tmp_path / "mixed" / name / "a.tif", np.ones((count, 4, 4), np.uint16), ("",) * count)
    with pytest.raises(InputError, match=r"several kinds, s1 \(2 bands\), s2 \(13 bands\); name one"):
        check(tmp_path / "mixed")
    make_folder(tmp_path / "pairs", 0, (("arctic", "fall"),))
    with pytest.raises(InputError, match="--lr is for slices"):
        check(tmp_path / "pairs", lr=tmp_path)
    with pytest.raises(
        InputError, match="--splits is for sar_optical and sen12ms_cr, this folder is of slices"
    ):
        check(tmp_path / "pairs" / "r_000" / "s1_000", splits=tmp_path / "splits.json")
    with pytest.raises(
        InputError, match="--bands is for optical scenes, this folder, of sar_optical, has none"
    ):
        check(tmp_path / "pairs", bands=("B02",))
    with pytest.raises(
        InputError, match="--kind is 'synthetic', known are clear_scenes, sar_optical, sen12ms_cr"
    ):
        check(tmp_path / "pairs", kind="synthetic")


def test_the_real_pairs_and_patches(data_folder: Path) -> None:
    report = check(data_folder / "sar_optical", limit=10)
    assert (report.num_samples, report.num_unusable, report.is_usable) == (124, 0, True)
    assert report.counts["season"] == {"not known": 121, "winter": 2, "fall": 1}
    report = check(data_folder / "sen12mscr", limit=2)
    assert report.is_usable
    assert dict(report.split_sizes) == {"train": 8, "val": 2, "test": 1}


def test_a_sheet_never_replaces_an_image_that_is_checked_though_it_is_ours(tmp_path: Path) -> None:
    image, options = tmp_path / "a.png", CheckOptions(kind="slices", pattern="*.png")
    save_image(Image.fromarray(np.full((8, 8), 100, np.uint8)), image)
    (tmp_path / "elsewhere.png").symlink_to(image)
    before = image.read_bytes()
    for sheet in (image, tmp_path / "elsewhere.png"):
        with pytest.raises(InputError, match="it is an input; name another file"):
            check_folder(tmp_path, options, sheet_path=sheet)
    assert image.read_bytes() == before


def test_a_list_of_nothing_is_refused(patches: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(patches, tmp_path / "empty")
    (folder / "data.csv").write_text("")
    for sheet in (None, tmp_path / "sheet.png"):
        with pytest.raises(InputError, match="lists no sample, of layout sen12ms_cr; fill its list"):
            check_folder(folder, sheet_path=sheet)
