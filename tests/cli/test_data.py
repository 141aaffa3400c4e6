"""The command `pellucid data check`."""

import json
from pathlib import Path

import pytest
from tests.datasets.test_sar_optical import make_folder
from typer.testing import CliRunner, Result

from pellucid.cli import app


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "check", *map(str, words)])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    for number in range(3):
        make_folder(tmp_path / "Dataset", number, (("tropical", "summer"), ("arctic", "")))
    return tmp_path / "Dataset"


def test_a_usable_folder_is_described_with_exit_code_0(pairs: Path, tmp_path: Path) -> None:
    result = call(pairs, "--report", tmp_path / "report.json", "--sheet", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    text = said(result)
    assert f"{pairs}: sar_optical, 6 samples, 3 places" in text
    assert "size 16 x 16 16 x 16" in text
    assert "values 0 to 1 0 to 1" in text
    assert "region: tropical (3), arctic (3)" in text
    assert (
        'prompt: "Colorise image, Region: tropical, Season: summer" (3), "Colorise image, Region: arctic"'
        in text
    )
    assert (
        "empty metadata: r_000/s1_000/img_p1 has no season; r_001/s1_001/img_p1 has no season; and 1 more"
        in text
    )
    assert "6 of 6 samples can be used" in text
    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert (values["num_samples"], values["is_usable"], len(values["problems"])) == (6, True, 3)
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert call(pairs, "--report", tmp_path / "report.json").exit_code == 0  # its own report is replaced
    mine = tmp_path / "mine.json"
    mine.write_text("{}")
    assert call(pairs, "--report", mine).exit_code == 2
    assert mine.read_text() == "{}"


def test_samples_that_cannot_be_used_make_exit_code_1(pairs: Path) -> None:
    (pairs / "r_000" / "s2_000" / "img_p0.png").write_bytes(b"")
    result = call(pairs)
    assert result.exit_code == 1
    assert "unusable image:" in said(result)
    assert "img_p0.png is damaged or no PNG file" in said(result)
    assert "5 of 6 samples can be used" in said(result)


def test_what_is_no_data_makes_exit_code_2(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for words in ((tmp_path / "none",), (tmp_path,), (pairs, "--sheet", tmp_path / "file" / "sheet.png")):
        result = call(*words)
        assert result.exit_code == 2
        assert "error:" in said(result)
    assert "none is no folder" in said(call(tmp_path / "none"))


def test_the_layout_can_be_named(pairs: Path) -> None:
    result = call(pairs / "r_000" / "s1_000", "--kind", "slices")
    assert result.exit_code == 0, result.output
    assert "slices, 2 samples" in said(result)
