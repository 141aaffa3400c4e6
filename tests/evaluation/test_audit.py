import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from pellucid.data.ranges import SENTINEL2
from pellucid.datasets._listing import Problem
from pellucid.errors import InputError
from pellucid.evaluation.audit import audit_folder, is_clean
from pellucid.evaluation.audit_split import read_any_split
from pellucid.evaluation.check_report import Report
from pellucid.simulate.pairs import simulate_pairs

BAND = {band: i for i, band in enumerate(SENTINEL2.bands)}
NAMES = [f"synthetic_{number}" for number in range(1, 5)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    simulate_pairs(folder, count=4, size=96, seed=1)
    return folder


@pytest.fixture
def pairs(made: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(made, tmp_path / "pairs"))
    (folder / "data.csv").unlink()  # which would name the pairs
    return folder


def be_clear(pairs: Path, name: str) -> Path:
    """Let the cloudy day be a clear one; return the path of the cloud-free image."""
    clear, cloudy = (pairs / folder / f"{name}.tif" for folder in ("s2_cloudfree", "s2_cloudy"))
    shutil.copy(clear, cloudy)
    change(cloudy, lambda values: values * 1.02)
    return clear


def change(path: Path, function: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    with rasterio.open(path, "r+") as file:
        file.write(function(file.read()).astype(file.dtypes[0]))


def audit(folder: Path, **options: Any) -> Report:
    report = audit_folder(folder, **options)
    json.dumps(report.to_dict(), allow_nan=False)
    return report


def only(report: Report, kind: str) -> Problem:
    """Return the one finding, which must be of this kind."""
    (found,) = report.problems
    assert found.kind == kind
    return found


def test_clean_data_show_no_fault(pairs: Path) -> None:
    report = audit(pairs)
    assert report.problems == ()
    assert is_clean(report)
    assert report.num_read == 4


def test_a_cloud_in_a_cloud_free_image_is_found(pairs: Path) -> None:
    path = pairs / "s2_cloudfree" / f"{NAMES[1]}.tif"

    def cover(values: NDArray[Any]) -> NDArray[Any]:
        values[:, :48] = 6000 - 100 * np.arange(13)[:, None, None]
        values[BAND["B10"], :48] = 300
        return values

    change(path, cover)
    found = only(audit(pairs), "clouds in a target")
    assert "is 50% cloudy" in found.text or "is 51% cloudy" in found.text or "is 52% cloudy" in found.text
    assert found.key == NAMES[1]


def test_snow_on_one_date_is_found(pairs: Path) -> None:
    def snow(values: NDArray[Any]) -> NDArray[Any]:
        values[: BAND["B09"]] = values[: BAND["B09"]] // 20 + 7000
        values[BAND["B11"] :] = 500
        return values

    change(be_clear(pairs, NAMES[1]), snow)
    assert "has snow on 100% of what is clear on both dates" in only(audit(pairs), "snow on one date").text


def test_an_offset_that_is_taken_off_twice_is_found(pairs: Path) -> None:
    path = pairs / "s2_cloudfree" / f"{NAMES[2]}.tif"
    change(path, lambda values: np.clip(values.astype(int) - 1500, 0, None))
    assert "at 0 or below in a visible band" in only(audit(pairs), "wrong offset").text


def test_faults_are_found_in_a_tar_too(pairs: Path) -> None:
    change(
        pairs / "s2_cloudfree" / f"{NAMES[2]}.tif", lambda values: np.clip(values.astype(int) - 1500, 0, None)
    )
    shutil.copy(pairs / "s1" / f"{NAMES[0]}.tif", pairs / "s1" / f"{NAMES[1]}.tif")
    unpacked = {(problem.kind, problem.key) for problem in audit(pairs).problems}
    with tarfile.open(pairs / "all.tar", "w") as archive:
        for folder in ("s1", "s2_cloudfree", "s2_cloudy"):
            archive.add(pairs / folder, folder)
            shutil.rmtree(pairs / folder)
    packed = audit(pairs)
    assert {(problem.kind, problem.key) for problem in packed.problems} == unpacked
    assert {kind for kind, _ in unpacked} >= {"wrong offset"}
    assert packed.num_read == 4


def test_an_offset_that_is_left_on_one_date_is_found(pairs: Path) -> None:
    path = be_clear(pairs, NAMES[2])
    change(path, lambda values: values + 1000)
    assert "so the offset of processing baseline 04.00 is taken off" in only(audit(pairs), "offset").text
    with rasterio.open(path, "r+") as file:
        file.update_tags(RADIO_ADD_OFFSET="0")  # as a program that took nothing off might say
    kinds = {problem.kind: problem.text for problem in audit(pairs).problems}
    assert "differs from the other date by 0.1 in reflectance in every band" in kinds["wrong offset"]


def test_images_that_lie_beside_each_other_are_found(pairs: Path) -> None:
    change(be_clear(pairs, NAMES[3]), lambda values: np.roll(values, (4, -3), (1, 2)))
    texts = [p.text for p in audit(pairs).problems if p.kind == "misregistration"]
    assert any("lies +4 rows and -3 columns away from where the other date" in text for text in texts)


def test_radar_that_lies_beside_its_image_is_found(pairs: Path) -> None:
    with rasterio.open(pairs / "s2_cloudfree" / f"{NAMES[3]}.tif") as file:
        bright = file.read(BAND["B04"] + 1) / 10_000
    speckle = np.random.default_rng(0).normal(0, 0.3, (2, *bright.shape))
    radar = -15 + 8 * np.log10(bright) + speckle
    change(pairs / "s1" / f"{NAMES[3]}.tif", lambda values: radar)
    assert not audit(pairs).problems
    change(pairs / "s1" / f"{NAMES[3]}.tif", lambda values: np.roll(values, (6, -5), (1, 2)))
    found = only(audit(pairs), "misregistration")
    assert "s1" in found.text
    assert "lies +6 rows and -5 columns away from where the optical image" in found.text


def test_saturated_and_wrapped_radar_are_found(pairs: Path) -> None:
    change(pairs / "s1" / f"{NAMES[0]}.tif", lambda values: np.minimum(values, np.quantile(values[0], 0.9)))
    change(pairs / "s1" / f"{NAMES[1]}.tif", wrap)
    kinds = {problem.key: problem.kind for problem in audit(pairs).problems}
    assert kinds == {NAMES[0]: "saturated radar", NAMES[1]: "wrapped radar"}


def wrap(values: NDArray[Any]) -> NDArray[Any]:
    top = np.quantile(values, 0.9)
    return np.where(values > top, values - (top - values.min()), values)


def test_a_patch_that_was_brightened_is_found_in_another_split(pairs: Path, tmp_path: Path) -> None:
    for folder in ("s1", "s2_cloudy", "s2_cloudfree"):
        shutil.copy(pairs / folder / f"{NAMES[0]}.tif", pairs / folder / "copy.tif")
        change(pairs / folder / "copy.tif", lambda values: values * 0.98)
        move(pairs / folder / "copy.tif")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": NAMES, "test": ["copy"]}))
    report = audit(pairs, split=read_any_split(split))
    leaks = [problem.text for problem in report.problems if problem.is_fatal]
    assert len(leaks) == 3  # in the cloudy image, the clear one and the radar
    assert all(f"copy (test) and {NAMES[0]} (train) are nearly the same" in text for text in leaks)
    assert not is_clean(report)


def move(path: Path) -> None:
    """Let a raster lie elsewhere on the ground."""
    with rasterio.open(path, "r+") as file:
        file.transform = file.transform @ file.transform.translation(5000, 5000)


def test_other_dates_are_added_by_name(pairs: Path) -> None:
    newer = pairs / "s2_cloudfree"
    report = audit(newer, older=pairs / "s2_cloudfree", cloudy=pairs / "s2_cloudy")
    assert [image.role for image in report.images] == ["optical", "older", "cloudy"]
    with pytest.raises(InputError, match=r"holds no image named like one of .*synthetic_1.tif"):
        audit(newer, older=pairs / "s1" / "..")
