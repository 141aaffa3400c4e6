import json

import pytest
from typer.testing import CliRunner, Result

import pellucid
from pellucid.cli import app
from pellucid.data.run_folder import SHIPPED, describe, shipped_runs
from pellucid.evaluation import installation
from pellucid.evaluation.installation import Finding


def call(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_the_version_is_that_of_the_package() -> None:
    assert call("--version").output == f"pellucid {pellucid.__version__}\n"


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("wrong", 1)])
def test_the_doctor_ends_with_1_only_if_something_is_wrong(
    state: installation.State, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = [Finding("[disk]", "full", state, "empty it")]
    monkeypatch.setattr(installation, "check_installation", lambda: findings)
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
