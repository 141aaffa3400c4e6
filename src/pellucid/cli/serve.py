"""The service for colleagues: `serve`."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli import terminal
from pellucid.cli.terminal import out, report_errors
from pellucid.errors import InputError

# The words before a command line that the service runs.
START = (sys.executable, "-c", "from pellucid.cli.serve import run_job; run_job()")
# Seconds between two lines of progress; in which a job has to end once its service is gone; for which a job
# waits until what an earlier service left running has ended.
LINE_S, END_S, PATIENCE_S = 0.2, 20.0, 60.0

Home = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Folder of the service: its jobs, their results, its token.")
]
Shared = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DATA", help="Folder below which files may be named; it is only read."),
]
Host = Annotated[
    str, typer.Option(help="Address to listen at; 0.0.0.0 is all of this machine's, for a trusted network.")
]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--name", metavar="HOST", help="Another name by which browsers may call it; may be repeated."
    ),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="cpu, cuda or cuda:N, each with a job at a time; may be repeated. Default: every GPU.",
    ),
]
Models = Annotated[
    list[Path] | None,
    typer.Option("--model", "-m", metavar="RUN", help="A run folder to offer too; may be repeated."),
]
UploadGb = Annotated[float, typer.Option(min=0.001, help="Size of the largest file that may be sent, in GB.")]
UploadMinutes = Annotated[float, typer.Option(min=0.1, help="Time in which a file must come.")]
Waiting = Annotated[int, typer.Option(min=1, help="Jobs that may wait or run.")]
Kept = Annotated[int, typer.Option(min=1, help="Jobs that are kept, with those that ended.")]
Hours = Annotated[float, typer.Option(min=0.01, help="Time that a job may take.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, serve nothing.")]


@report_errors()
def serve_command(
    home: Home = Path("pellucid_service"),
    folder: Shared = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    name: Names = None,
    device: Devices = None,
    model: Models = None,
    max_upload_gb: UploadGb = 4.0,
    max_upload_minutes: UploadMinutes = 60.0,
    max_waiting: Waiting = 20,
    max_results: Kept = 200,
    max_hours: Hours = 6.0,
    *,
    dry_run: DryRun = False,
) -> None:
    """Let colleagues restore scenes, slices and radar in a browser, with a queue and pages of all results.

    Whoever has the address that is printed, with its token, may send files, name those below --folder, and
    see and delete all results. Stop it with Ctrl-C; the same command goes on with what was running.

    Example: `pellucid serve my_results --folder scenes`
    """
    from pellucid.apply.outputs import can_go_on
    from pellucid.cli.offers import find_tasks
    from pellucid.web.limits import GB, Limits
    from pellucid.web.server import Settings, check_settings, opened

    settings = Settings(
        home,
        find_tasks(model or []),
        START,
        shared=folder,
        host=host,
        port=port,
        names=name or (),
        devices=device or _find_devices(),
        limits=Limits(
            max_upload_gb * GB, max_upload_minutes * 60, max_waiting, max_results, max_hours * 3600
        ),
    )
    check_settings(settings)
    if dry_run:
        out.print(f"{home}: jobs on {', '.join(settings.devices)}, at {host}, port {port}", soft_wrap=True)
        return
    with can_go_on(), opened(settings) as service:
        typer.echo(f"open     {service.address}")  # even with --quiet: nobody can know it otherwise
        sys.stdout.flush()
        service.run()


def _find_devices() -> list[str]:
    """Return every GPU, or else the CPU; torch is loaded by a process of its own, which frees its memory."""
    code = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    count = int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdecimal() else 0
    return [f"cuda:{i}" for i in range(count)] or ["cpu"]


def run_job() -> None:
    """Run the command line for a service, in the folder of its job.

    Progress goes to standard output, a line of JSON each. The end of standard input is that of the service,
    and ends the job as a terminate signal does. A job that an earlier service left running is waited for.
    """
    threading.Thread(target=_end_with_service, daemon=True).start()
    terminal.followers.append(_Lines())
    from pellucid.cli import main
    from pellucid.web.write_page import linked_below

    linked_below.set(Path.cwd())
    try:
        with ExitStack() as stack, report_errors():
            _claim(stack, Path.cwd() / "process")
            main()
    except typer.Exit as error:  # before the command line takes over
        raise SystemExit(error.exit_code) from error


def _end_with_service() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_S)
    os._exit(terminal.STOPPED)


def _claim(stack: ExitStack, path: Path) -> None:
    """Hold a claim, as soon as nobody else does."""
    from pellucid.data.claims import claim_files

    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            stack.enter_context(claim_files(path))
        except InputError:
            if time.monotonic() > give_up:
                raise
            time.sleep(LINE_S)
        else:
            return


class _Lines:
    """Prints progress as lines, not too many of them."""

    def __init__(self) -> None:
        self.stage, self.printed = "", 0.0

    def __call__(self, stage: str, done: float, total: int) -> None:
        is_due = time.monotonic() - self.printed > LINE_S
        if is_due or stage != self.stage or done >= total:
            self.stage, self.printed = stage, time.monotonic()
            with suppress(OSError):  # the service is gone
                sys.stdout.write(json.dumps({"stage": stage, "done": done, "total": total}) + "\n")
                sys.stdout.flush()
