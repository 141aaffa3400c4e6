from pathlib import Path

import pytest
from tiny import tiny_config, tiny_method

from pellucid.build.run import save_run
from pellucid.data import run_folder
from pellucid.data.run_folder import find_run, shipped_runs
from pellucid.errors import InputError


def test_a_run_is_found_by_folder_or_by_the_name_that_it_ships_under(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "SHIPPED", tmp_path / "shipped")
    for folder in (tmp_path / "mine", tmp_path / "shipped" / "good", tmp_path / "shipped" / "better"):
        save_run(folder, config=tiny_config(), method=tiny_method())
    assert find_run(tmp_path / "mine") == tmp_path / "mine"
    assert find_run("good") == tmp_path / "shipped" / "good"
    assert shipped_runs() == ("better", "good")
    with pytest.raises(
        InputError, match=r"'bad' is neither a run folder .* that ships; known are better, good"
    ):
        find_run("bad")
