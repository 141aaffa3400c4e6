import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.evaluation.test_figures import score
from tests.evaluation.test_table import placed

from pellucid.data.claims import claim_folders
from pellucid.errors import InputError
from pellucid.evaluation.folder import claim_evaluation, read_metrics, write_evaluation
from pellucid.evaluation.table import Evaluation, summarise


def keep(root: Path, name: str, **about: Any) -> Path:
    """Write an evaluation of two images."""
    scores = [score(0.2, 0.4, 0.1), score(0.1, 0.4, 0.1, cover=1.0)]
    return write(root, name, summarise(scores, name=name, **about))


def write(root: Path, name: str, result: Evaluation) -> Path:
    with claim_evaluation(root, name) as folder:
        assert folder is not None
        write_evaluation(result, folder)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_each_evaluation_keeps_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = [
        keep(tmp_path, "test"),
        keep(tmp_path, "test"),
        keep(tmp_path, "other"),
        keep(tmp_path, "test"),
    ]
    assert [folder.name for folder in folders] == ["test", "test_2", "other", "test_3"]
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    assert metrics["num_images"] == 2
    assert metrics["rows"][0]["psnr"] == {"mean": pytest.approx(20, abs=1e-3), "std": None, "num": 1}
    rows = rows_of(folders[0] / "per_image.csv")
    assert [row["key"] for row in rows] == ["cover_0.5", "cover_1"]
    assert float(rows[0]["model_all_psnr"]) == pytest.approx(20, abs=1e-3)
    assert float(rows[0]["mean_spectrum_cloudy_mae"]) == pytest.approx(0.1)
    assert read_metrics(folders[0] / "metrics.json") == metrics


def test_the_lists_say_how_each_evaluation_was_made(tmp_path: Path) -> None:
    keep(tmp_path, "first", notes='with "quotes", and a comma', settings={"data": "here", "crop": 128})
    keep(tmp_path, "second", settings={"data": "there", "steps": 20})
    rows = rows_of(tmp_path / "evaluations.csv")
    assert [row["name"] for row in rows] == ["first", "second"]
    assert rows[0]["notes"] == 'with "quotes", and a comma'
    assert (rows[0]["psnr"], rows[0]["num_images"]) == ("20.0", "2")
    assert [(row["data"], row["crop"], row["steps"]) for row in rows] == [
        ("here", "128", ""),
        ("there", "", "20"),
    ]
    listed = json.loads((tmp_path / "evaluations.json").read_text())
    assert [(row["name"], row["crop"], row["date"]) for row in listed] == [
        ("first", 128, rows[0]["date"]),
        ("second", None, rows[1]["date"]),
    ]


def test_the_files_tell_what_is_known_of_places(tmp_path: Path) -> None:
    scored = replace(placed(0.2, "arctic", ""), place="r_001")
    folder = write(tmp_path, "m", summarise([scored], name="m"))
    (row,) = rows_of(folder / "per_image.csv")
    assert (row["place"], row["region"], row["season"]) == ("r_001", "arctic", "")


def test_lists_of_another_origin_are_refused(tmp_path: Path) -> None:
    for name in ("evaluations.csv", "evaluations.json"):
        (tmp_path / name).write_text("mine")
        with (
            pytest.raises(InputError, match=f"{name}: a file is there that"),
            claim_evaluation(tmp_path, "m"),
        ):
            pass
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path) -> None:
    for name in ("a/b", "..", ".hidden", ""):
        with (
            pytest.raises(InputError, match="which no folder can be called"),
            claim_evaluation(tmp_path, name),
        ):
            pass
    with claim_evaluation(None, "a/b") as folder:
        assert folder is None


def test_an_evaluation_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it failed"), claim_evaluation(tmp_path / "new", "m"):
        raise ValueError("it failed")
    assert not list(tmp_path.iterdir())


def test_a_file_that_no_evaluation_wrote_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    for text in ("[]", "{}", "{"):
        path.write_text(text)
        with pytest.raises(InputError, match="evaluat"):
            read_metrics(path)


def killed(root: Path, name: str) -> Path:
    """Return the folder that a killed evaluation leaves: its lock and what it had drawn."""
    folder = root / name
    (folder / "pictures").mkdir(parents=True)
    for part in (".pellucid.lock", "sheet.png", "pictures/a.png", ".per_image.csv.pellucid-abcdefgh.csv"):
        (folder / part).write_text("")
    return folder


def test_what_a_killed_evaluation_left_makes_way(tmp_path: Path) -> None:
    killed(tmp_path, "m")
    assert keep(tmp_path, "m") == tmp_path / "m"
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["metrics.json", "per_image.csv"]
    assert keep(tmp_path, "m").name == "m_2"


def test_what_is_no_part_of_an_evaluation_or_still_at_work_stays(tmp_path: Path) -> None:
    (killed(tmp_path, "m") / "notes.txt").write_text("mine")
    (tmp_path / "m_2").mkdir()
    with claim_folders(tmp_path / "m_3"):
        assert keep(tmp_path, "m").name == "m_4"
    assert (tmp_path / "m" / "sheet.png").exists()


def test_an_evaluation_that_fails_leaves_nothing_of_its_pictures(tmp_path: Path) -> None:
    def fail(folder: Path | None) -> None:
        assert folder is not None
        (folder / "pictures").mkdir()
        (folder / "pictures" / "a.png").touch()
        raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"), claim_evaluation(tmp_path / "new", "m") as folder:
        fail(folder)
    assert not list(tmp_path.iterdir())
