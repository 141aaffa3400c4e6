import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import typer
from loopback import Client
from scenes import BANDS, ground, write
from tests.test_installation import call as call_without
from typer.testing import CliRunner

from pellucid.cli import app
from pellucid.cli.offers import find_models, find_tasks
from pellucid.cli.serve import START
from pellucid.web.server import Service

PELLUCID = (sys.executable, "-c", "from pellucid.cli import main; main()")


def start(stack: ExitStack, home: Path, *words: str) -> tuple["subprocess.Popen[str]", Client]:
    """Return the process of a service, and a client of it."""
    command = (*PELLUCID, "serve", str(home), "--port", "0", "--device", "cpu", *words)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stack.enter_context(process)
    stack.callback(process.kill)
    assert process.stdout
    label, address = process.stdout.readline().split()
    assert label == "open"
    token = parse_qs(urlsplit(address).query)["token"][0]
    return process, Client(Service(address, lambda: None, lambda: None), token, home)


def test_a_killed_service_goes_on_with_a_real_scene_and_ends_with_a_sentence(tmp_path: Path) -> None:
    scene = write(tmp_path / "S2.tif", ground(64, 64), BANDS)
    radar = write(tmp_path / "S1.tif", -10 - 5 * (ground(64, 64)[:2] / 900).astype("float32"), ("VV", "VH"))
    with ExitStack() as stack:
        process, client = start(stack, tmp_path / "service", "--max-hours", "1")
        files = {"scene": scene.read_bytes(), "sar": radar.read_bytes()}
        sent = {role: [{"upload": client.upload(f"{role}.tif", found)}] for role, found in files.items()}
        wanted = {"command": "remove-clouds", "files": sent, "options": {"model": "cross_attention"}}
        job = client.ask("POST", "/api/jobs", wanted)[1]["id"]
        client.reach(job, "running")
        process.kill()
        process.wait()
        process, client = start(stack, tmp_path / "service")
        found = client.reach(job, "done", seconds=120)
        assert {"clear.tif", "clear.html", "clear.json"} <= {each["name"] for each in found["files"]}
        assert client.raw("GET", f"/jobs/{job}/result/clear.html")[2].startswith(b"<!doctype html>")
        wrong = [{"upload": client.upload("a.tif")}]
        slices = {"command": "upscale", "files": {"slices": wrong}}
        status, refused = client.ask("POST", "/api/jobs", slices)
        assert (status, refused["error"].startswith("a.tif ")) == (400, True)
        failed = client.reach(
            client.ask("POST", "/api/jobs", wanted | {"files": {"scene": wrong}})[1]["id"], "failed"
        )
        assert "a.tif" in failed["message"]
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130
        assert said.startswith("stopped; ")


def test_a_job_ends_with_its_service(tmp_path: Path) -> None:
    scene = write(tmp_path / "S2.tif", ground(64, 64), BANDS)
    words = (*START, "remove-clouds", str(scene), "-o", str(tmp_path / "out.tif"))
    with subprocess.Popen(words, stdin=subprocess.PIPE, cwd=tmp_path, stderr=subprocess.PIPE) as process:
        process.communicate(timeout=60)  # closes its input
        assert process.returncode in (130, -signal.SIGTERM)
    assert not (tmp_path / "out.tif").exists()


def test_a_job_prints_its_progress(tmp_path: Path) -> None:
    scene = write(tmp_path / "S2.tif", ground(64, 64), BANDS)
    words = (
        *START,
        "remove-clouds",
        str(scene),
        "-m",
        "cross_attention",
        "-o",
        str(tmp_path / "out.tif"),
        "-q",
    )
    reads, writes = os.pipe()
    done = subprocess.run(words, stdin=reads, capture_output=True, text=True, cwd=tmp_path, check=True)
    os.close(writes)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["stage"] for line in lines} <= {"reading the scene", "removing clouds"}
    assert lines[-1]["done"] == lines[-1]["total"]


def test_what_is_offered_exists_on_the_command_line() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for task in find_tasks().values():
        flags = {flag for each in commands[task.command].params for flag in each.opts}
        offered = {each.flag for each in (*task.roles, *task.choices) if each.flag}
        assert offered <= flags
        assert all(choice.help for choice in task.choices)


def test_models_are_offered_where_they_can_be_used() -> None:
    found = find_models()
    assert "ground" in found["remove-clouds"]
    assert found["upscale"] == ("sr3_ct_x2", "sr3_ct_x4")
    assert found["colorize"] == ("sar_color",)


def test_a_dry_run_checks_and_serves_nothing(tmp_path: Path) -> None:
    words = ["serve", str(tmp_path / "home"), "--dry-run", "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, "jobs on cpu" in result.output) == (0, True)
    assert not (tmp_path / "home").exists()
    result = CliRunner().invoke(app, [*words, "--folder", str(tmp_path / "nothing")])
    assert (result.exit_code, "is no folder" in result.output) == (2, True)


@pytest.mark.parametrize("package", ["uvicorn"])
def test_without_its_extra_it_says_how_to_install_it(package: str, tmp_path: Path) -> None:
    code, said = call_without("serve", tmp_path, "--device", "cpu", blocked=(package,))
    assert code == 2
    assert f"serve needs the package {package}, install it: pip install 'pellucid[serve]'" in said
