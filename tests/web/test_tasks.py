from dataclasses import replace
from pathlib import Path

import pytest
from loopback import TASK

from pellucid.errors import InputError
from pellucid.web.tasks import Choice, Value, _check, write_words

RESULTS, SCENE = Path("/home/job/result"), Path("/home/job/input/scene/-o.tif")
NUMBER = Choice("guidance", "", "--guidance", "number", low=1, high=20)
TEXT = Choice("model", "", "--model", "text", known=("ground", "other"), only=True)


def words(**options: Value | None) -> list[str]:
    return write_words(TASK, {"scene": [SCENE]}, options, RESULTS)


def test_paths_are_absolute_and_values_stand_behind_their_flag() -> None:
    found = write_words(
        TASK, {"scene": [SCENE], "sar": [Path("/a b"), Path("/c")]}, {"seed": -3, "std": True}, RESULTS
    )
    assert found == [
        "remove-clouds",
        "/home/job/input/scene/-o.tif",
        "--sar=/a b",
        "--sar=/c",
        "--output=/home/job/result/clear.tif",
        "--seed=-3",
        "--std=/home/job/result/std.tif",
    ]


def test_defaults_are_left_to_the_command() -> None:
    assert words(seed=0, std=False) == words() == words(seed=None, std=None)


def test_several_files_as_an_argument_become_their_folder(tmp_path: Path) -> None:
    task = replace(TASK, roles=(replace(TASK.roles[0], many=True),))
    many = write_words(task, {"scene": [tmp_path / "a.png", tmp_path / "b.png"]}, {}, RESULTS)
    assert many == write_words(task, {"scene": [tmp_path]}, {}, RESULTS)
    assert many[1:] == [str(tmp_path), "--output=/home/job/result/many"]


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({"sar": [SCENE]}, {}, "Scene is missing"),
        ({"scene": [SCENE] * 2}, {}, "Scene is one file, 2 are given"),
        ({"scene": [SCENE], "sars": [SCENE]}, {}, "takes no file as 'sars'; did you mean 'sar'"),
        ({"scene": [SCENE]}, {"sead": 1}, "no option 'sead' here; did you mean 'seed'"),
        ({"scene": [SCENE]}, {"seed": 1.5}, "seed is 1.5, must be a whole number"),
        ({"scene": [SCENE]}, {"seed": True}, "seed is True, must be a whole number"),
        ({"scene": [SCENE]}, {"std": "yes"}, "std is 'yes', must be true or false"),
    ],
)
def test_what_cannot_be_run_is_refused(files: dict, options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        write_words(TASK, files, options, RESULTS)


@pytest.mark.parametrize(
    ("choice", "value", "said"),
    [
        (NUMBER, 21, "guidance is 21, must be 1 to 20"),
        (NUMBER, float("nan"), "must be a number"),
        (NUMBER, float("inf"), "must be a number"),
        (TEXT, "grond", "model is 'grond'; did you mean 'ground'"),
        (Choice("prompt", "", "--prompt", "text"), "a\nb", "a text of one line"),
        (Choice("prompt", "", "--prompt", "text"), "x" * 301, "at most 300"),
        (Choice("prompt", "", "--prompt", "text"), 3, "a text of one line"),
    ],
)
def test_values_out_of_range_are_refused(choice: Choice, value: Value, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _check(choice, value)
