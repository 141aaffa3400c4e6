import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

import pellucid
from pellucid.cli import app
from pellucid.cli.terminal import print_paths
from pellucid.data.run_folder import SHIPPED, describe, shipped_runs
from pellucid.evaluation import installation, verify
from pellucid.evaluation.installation import Finding
from pellucid.evaluation.verify import Verdict


def call(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_the_version_is_that_of_the_package() -> None:
    assert call("--version").output == f"pellucid {pellucid.__version__}\n"


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("wrong", 1)])
def test_the_doctor_ends_with_1_only_if_something_is_wrong(
    state: installation.State, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = [Finding("[disk]", "full", state, "empty it")]
    monkeypatch.setattr(installation, "check_installation", lambda progress: findings)
    shown = call("doctor")
    assert shown.exit_code == code
    assert all(word in shown.output for word in (state, "[disk]", "full", "-> empty it"))
    assert ("is ready" in shown.output) == (code == 0)
    printed = call("doctor", "--json", "--quiet")
    assert printed.exit_code == code
    assert json.loads(printed.output)["checks"][0]["mend"] == "empty it"
    silent = call("doctor", "--quiet")
    assert (silent.exit_code, silent.output) == (code, "")
    assert call("doctor").output == shown.output


def test_models_says_what_each_reaches_and_its_licence() -> None:
    for name in shipped_runs():
        found = describe(SHIPPED / name)
        assert any(character.isdigit() for character in found.about), name
        assert found.licence, name
    listed = json.loads(call("models", "--json").output)
    assert [each["name"] for each in listed] == list(shipped_runs())
    assert all(len(each["sha256"]) == 64 for each in listed)


def test_verify_says_pass_or_fail() -> None:
    passed = call("verify", "cross_attention", "--device", "cpu")
    assert passed.exit_code == 0, passed.output
    assert passed.output.splitlines()[-1] == "PASS"
    printed = json.loads(call("verify", "cross_attention", "--json").output)
    assert printed["is_passed"]
    assert printed["verdicts"][0]["check"] == "weights"


def test_verify_fails_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Verdict("ground", "weights", "", "its content changed", is_passed=False)]
    monkeypatch.setattr(verify, "verify", lambda model, devices, progress: found)
    failed = call("verify", "ground")
    assert (failed.exit_code, failed.output.splitlines()[-1]) == (1, "FAIL")
    assert "its content changed" in failed.output


def test_golden_values_are_made_anew(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(SHIPPED / "cross_attention", run)
    golden = (run / "golden.json").read_text()
    (run / "golden.json").unlink()
    renewed = call("verify", str(run), "--renew")
    assert renewed.exit_code == 0, renewed.output
    assert json.loads((run / "golden.json").read_text())["sha256"] == json.loads(golden)["sha256"]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if inner := getattr(command, "commands", None):
        for name, each in inner.items():
            yield from leaves(each, (*path, name))
    else:
        yield path, command


LEAVES = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_each_help_begins_with_an_example_whose_command_and_options_exist(path: tuple[str, ...]) -> None:
    command = LEAVES[path]
    assert command.help.startswith("Example: `")
    known = {word for each in command.params for word in (*each.opts, *each.secondary_opts)}
    for example in re.findall(r"^Example: `(.*)`$", command.help, re.MULTILINE):
        words = shlex.split(example)
        assert words[: 1 + len(path)] == ["pellucid", *path]
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= known, example


@pytest.mark.parametrize(
    ("typed", "offered"), [("remove", "remove-clouds"), ("remove-clouds --mod", "--model")]
)
def test_the_shell_completes(typed: str, offered: str) -> None:
    words = typed.split()
    asked = {
        "_PELLUCID_COMPLETE": "complete_bash",
        "COMP_WORDS": f"pellucid {typed}",
        "COMP_CWORD": str(len(words)),
    }
    found = CliRunner().invoke(app, [], prog_name="pellucid", env=asked)
    assert offered in found.output.split()


def test_the_last_line_says_what_to_open(capsys: pytest.CaptureFixture[str]) -> None:
    print_paths(result=Path("a.tif"), preview=Path("a.png"), page=Path("a.html"), spread=None)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["open", "a.html"]
    print_paths(result=Path("a.tif"))
    assert capsys.readouterr().out.splitlines() == ["result   a.tif", "open     a.tif"]


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pellucid", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"pellucid {pellucid.__version__}\n"
