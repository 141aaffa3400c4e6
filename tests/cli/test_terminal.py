import errno
import inspect
import io
import json
import logging
import math
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import pellucid.cli
from pellucid.apply.options import Help, parse_offset
from pellucid.cli import terminal
from pellucid.cli.terminal import report_errors, takes
from pellucid.errors import InputError, damaged


@dataclass(frozen=True)
class Options:
    """Some options."""

    size: Annotated[int, Help("The size.", min=2)] = 3
    offset: Annotated["Unknown", Help("What is added.", parse=parse_offset)] = "auto"  # type: ignore[name-defined]  # noqa: F821
    force: Annotated[bool, Help("Do it.", flags=("--force",))] = False
    hidden: Annotated[float, Help("Not here.")] = 0.5
    quiet: tuple[str, ...] = ()


def call(*words: str) -> tuple[int, str]:
    app = typer.Typer()

    @app.command()
    @takes(Options, hide=("hidden",))
    def command(name: str, *, options: Options) -> None:
        typer.echo(f"{name}: {options}")

    result = CliRunner().invoke(app, words)
    return result.exit_code, " ".join(result.output.split())


def test_options_become_those_of_the_command_with_their_defaults() -> None:
    assert call("a") == (0, f"a: {Options()}")
    found = call("a", "--size", "5", "--offset", "-1000", "--force")
    assert found == (0, f"a: {Options(size=5, offset=-1000, force=True)}")
    code, text = call("--help")
    assert code == 0
    for expected in ("The size.", "x>=2", "[default: 3]", "What is added.", "--force"):
        assert expected in text
    for absent in ("--hidden", "--quiet", "--no-force"):
        assert absent not in text


@dataclass(frozen=True)
class Dependent:
    """Options that have no effect without others."""

    unit: Annotated[str, Help("Of the guide.", needs=("guide", "guide_dir", "elsewhere"))] = "auto"


def test_an_option_that_has_no_effect_is_refused_in_one_sentence() -> None:
    app = typer.Typer()

    @app.command()
    @takes(Dependent, has_all=lambda given: given["name"] == "list.csv")
    def command(
        name: str, guide: str | None = None, guide_dir: str | None = None, *, options: Dependent
    ) -> None:
        typer.echo(options.unit)

    for words, code in (
        (["a"], 0),
        (["a", "--unit", "auto"], 0),
        (["a", "--unit", "db", "--guide", "b"], 0),
        (["a", "--unit", "db", "--guide-dir", "b"], 0),
        (["list.csv", "--unit", "db"], 0),
        (["a", "--unit", "db"], 2),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == code
    assert " ".join(result.output.split()) == (
        "error: --unit has no effect without --guide or --guide-dir; add one, or leave it out"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "remove-clouds s.tif -o o.tif --sar-units db",
            "--sar-units has no effect without --sar or --sar-dir",
        ),
        ("remove-clouds s.tif -o o.tif --polarisations VV", "--polarisations has no effect without --sar or"),
        ("remove-clouds s.tif -o o.tif --cloud-scale 100", "--cloud-scale has no effect without --cloud;"),
        ("remove-clouds s.tif -o o.tif --align", "without --sar, --sar-dir, --reference, --reference-dir or"),
        ("remove-clouds s.tif -o o.tif --dry-run --estimate", "leave one out"),
        ("explain s.tif -o o.png --sar-units power", "--sar-units has no effect without --sar; add one"),
        ("clouds scenes -o maps --dilation-size 5", "--dilation-size has no effect without --mask;"),
        ("clouds scenes -o maps --threshold 0.5 --no-preview", "--threshold has no effect without --mask or"),
        ("benchmark data --no-cost --threads 3", "--threads has no effect with --no-cost; leave it out"),
        ("verify --renew --device cpu", "--device has no effect with --renew; leave it out"),
        ("verify --renew --json", "--json has no effect with --renew; leave it out"),
        (
            "remove-clouds *.tif -o o --scheduler tcp://a:1 --workers 2",
            "--workers has no effect with --scheduler; leave it out",
        ),
    ],
)
def test_so_it_is_in_every_command(words: str, message: str) -> None:
    result = CliRunner().invoke(pellucid.cli.app, words.split())
    assert (result.exit_code, result.output.count("error:")) == (2, 1)
    assert message in result.output


def test_values_out_of_bounds_and_unknown_words_are_refused() -> None:
    code, text = call("a", "--offset", "much")
    assert (code, text) == (
        2,
        "error: --offset is 'much', must be auto, none or a whole number such as -1000",
    )
    assert call("a", "--size", "1")[0] == 2
    assert call("a", "--hidden", "1")[0] == 2


def end(error: BaseException) -> tuple[int, str]:
    """Return exit code and output of a command that ends in an error."""
    app = typer.Typer()

    @app.command()
    @report_errors()
    def command() -> None:
        raise error

    result = CliRunner().invoke(app, [])
    return result.exit_code, " ".join(result.output.split())


def test_a_doubt_is_said_once_and_what_libraries_log_is_not(caplog: pytest.LogCaptureFixture) -> None:
    app = typer.Typer()

    @app.command()
    @report_errors()
    def command() -> None:
        for _ in range(2):
            logging.getLogger("pellucid.data").warning("%s is %s", "a[b].tif", "odd")
        logging.getLogger("rasterio._env").error("TIFFReadDirectory: line of a library")
        logging.getLogger("tifffile").error("line of another")

    result = CliRunner().invoke(app, [])
    assert " ".join(result.output.split()) == "warning: a[b].tif is odd"
    assert not logging.getLogger("pellucid").handlers


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "No space left on device; free the disk or choose another folder"),
        (errno.EACCES, "Permission denied; change its permissions or choose another"),
        (errno.EROFS, "Read-only file system; choose another folder"),
        (errno.ELOOP, "Too many levels of symbolic links; choose another name"),
    ],
)
def test_what_the_system_refuses_ends_in_one_sentence(number: int, way_out: str) -> None:
    assert end(OSError(number, os.strerror(number), "a[b].tif")) == (
        2,
        f"error: cannot read or write a[b].tif: {way_out}",
    )


@pytest.mark.parametrize(
    ("error", "about"),
    [
        (MemoryError("84 GiB"), " (84 GiB)"),
        (MemoryError(), ""),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory\nat 0x0"),
            " (DefaultCPUAllocator: can't allocate memory)",
        ),
        (RuntimeError("could not create a primitive"), " (could not create a primitive)"),
        (RuntimeError("can't start new thread"), " (can't start new thread)"),
        (type("LightGBMError", (Exception,), {})("std::bad_alloc"), " (std::bad_alloc)"),
        (
            ImportError("a.so: failed to map segment from shared object"),
            " (a.so: failed to map segment from shared object)",
        ),
    ],
)
def test_exhausted_memory_ends_in_one_sentence(error: Exception, about: str) -> None:
    wanted = f"memory is exhausted{about}; close other programs, or cut the input into parts"
    assert end(error) == (2, f"error: {wanted}")


def test_names_between_colons_stay_as_they_are() -> None:
    assert end(InputError(":cat:.tif is missing")) == (2, "error: :cat:.tif is missing")


def test_a_fault_of_ours_stays_a_fault() -> None:
    assert end(FileNotFoundError(errno.ENOENT, "none", "x"))[0] == 1
    assert end(ZeroDivisionError())[0] == 1
    assert end(RuntimeError("could not create a primitive descriptor"))[0] == 1


def test_an_interruption_ends_in_one_sentence_that_says_how_to_go_on() -> None:
    error = KeyboardInterrupt()
    assert end(error) == (130, "stopped")
    error.add_note("what is finished of [b].tif was kept, and the same command goes on there")
    assert end(error) == (
        130,
        "stopped; what is finished of [b].tif was kept, and the same command goes on there",
    )


CODE = """
import os, signal, sys, time, typer
from pellucid.cli.terminal import report_errors
app = typer.Typer()

@app.command()
@report_errors()
def command() -> None:
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    time.sleep(60)

app([])
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_terminate_signal_ends_like_ctrl_c(name: str) -> None:
    words = [sys.executable, "-c", CODE, name]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_the_answer_to_a_terminate_signal_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    end(ValueError())
    assert signal.getsignal(signal.SIGTERM) == before


# Commands that end within two seconds of being loaded, and one with a bar of its own.
SHORT = ("status", "models", "info")
OWN_BAR = ("train", "serve")
COMMANDS = typer.main.get_command(pellucid.cli.app).commands


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {*SHORT, *OWN_BAR}))
def test_a_command_that_takes_long_shows_a_bar(name: str) -> None:
    command = COMMANDS[name]
    for each in getattr(command, "commands", {name: command}).values():
        module = inspect.getmodule(inspect.unwrap(each.callback))
        assert hasattr(module, "progress_bar") or hasattr(module, "progress_bars"), name


@dataclass(frozen=True)
class Report:
    """What was done."""

    path: Path
    share: float


@pytest.mark.parametrize("code", [0, 1, 2])
def test_json_is_what_a_command_tells_and_nothing_else(code: int) -> None:
    app = typer.Typer()

    @app.command()
    @terminal.scriptable
    def command() -> None:
        terminal.out.print("done")
        terminal.tell(report=Report(Path("a/b"), math.nan), names=("x", 2.5))
        terminal.print_paths(result=Path("a.tif"), page=None)
        if code:
            raise typer.Exit(code)

    found = CliRunner().invoke(app, ["--json"])
    told = {"report": {"path": "a/b", "share": None}, "names": ["x", 2.5], "files": {"result": "a.tif"}}
    assert found.exit_code == code
    assert (json.loads(found.stdout) if code < 2 else found.stdout) == (told if code < 2 else "")
    assert CliRunner().invoke(app, []).stdout.split() == ["done", "result", "a.tif", "open", "a.tif"]
    assert not CliRunner().invoke(app, ["--quiet"]).stdout


def test_every_command_that_ends_offers_json_and_quiet() -> None:
    for name, command in COMMANDS.items():
        for each in getattr(command, "commands", {name: command}).values():
            options = [option for parameter in each.params for option in parameter.opts]
            assert "--quiet" in options, name
            assert ("--json" in options) is (name != "serve"), name


def test_quiet_silences_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "err", Console(file=shown, force_terminal=True))
    for quiet in (True, False):
        monkeypatch.setattr(terminal.out, "quiet", quiet)
        with terminal.progress_bar("working") as advance:
            advance(1, 4)
        assert ("working" in shown.getvalue()) is not quiet


def test_a_file_that_memory_is_too_short_for_is_not_called_damaged() -> None:
    error = RuntimeError("unable to mmap 8 bytes from file <a>: Cannot allocate memory (12)")
    assert str(damaged(Path("a"), error, "download it again")) == (
        f"memory is exhausted ({error}); close other programs, so that a can be read"
    )
    assert (
        str(damaged(Path("a"), EOFError(), "download it again"))
        == "a is damaged (EOFError), download it again"
    )
