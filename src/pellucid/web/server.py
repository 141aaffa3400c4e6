"""Runs the service: the application behind its guard, and the threads that work, until a signal ends both."""

import asyncio
import shutil
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import quote

from pellucid.data.claims import claim_files
from pellucid.data.files import check_is_folder
from pellucid.errors import InputError, explain
from pellucid.web import limits
from pellucid.web.given_files import skipped_drivers
from pellucid.web.guard import TOKEN, Guard, read_token
from pellucid.web.job_queue import JobQueue
from pellucid.web.jobs import Jobs
from pellucid.web.limits import MAX_CONNECTIONS, Limits
from pellucid.web.tasks import Task

if TYPE_CHECKING:
    import uvicorn

# Seconds that answers have to end when the service does, and that an idle connection is kept.
GRACE_S, KEEP_S = 3, 15


@dataclass(frozen=True)
class Settings:
    """How the service runs.

    Attributes:
        home: its own folder: jobs, uploads, the token.
        tasks: what it offers, by command.
        start: the words before a command line, as `JobQueue` takes them.
        shared: the folder below which files may be named; None: none.
        host, port: where it listens; port 0: any that is free.
        names: hosts that it also goes by.
        devices: one job runs on each at a time.
        limits: what it takes.
    """

    home: Path
    tasks: Mapping[str, Task]
    start: Sequence[str]
    shared: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    names: Collection[str] = ()
    devices: Sequence[str] = ("auto",)
    limits: Limits = field(default_factory=Limits)


def check_settings(settings: Settings) -> None:
    """Refuse settings that cannot be used, also where a package is missing; the folder is not made."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"serve needs the package {error.name}, install it: pip install 'pellucid[serve]'"
        ) from error
    if settings.shared is not None:
        check_is_folder(settings.shared)
        home, shared = settings.home.resolve(), settings.shared.resolve()
        if home.is_relative_to(shared) or shared.is_relative_to(home):
            raise InputError(
                f"the folder of the service, {home}, and --folder {shared} lie in each other; "
                "part them, so that nobody can name the files of others"
            )
    _check_home(settings.home)


def _check_home(home: Path) -> None:
    """Refuse a folder of the service that holds anything else: it is closed to others, and uploads go."""
    if home.exists() and not home.is_dir():
        raise InputError(f"{home} is a file; name a folder for the jobs and their results")
    names = (
        {each.name for each in home.iterdir() if not each.name.startswith(".")} if home.exists() else set()
    )
    if names and TOKEN not in names:
        raise InputError(f"{home} holds other files, such as {min(names)}; name a new folder for the service")


@dataclass(frozen=True)
class Service:
    """A service that listens.

    Attributes:
        address: what a browser opens, with the token.
        run: serves until a signal comes or `stop` is called.
        stop: ends it, from any thread.
    """

    address: str
    run: Callable[[], None]
    stop: Callable[[], None]


@contextmanager
def opened(settings: Settings) -> Iterator[Service]:
    """Yield a service; what runs when it ends, the next one in its folder goes on with.

    Raises:
        InputError: if the folder or the port is another service's, or cannot be used.
    """
    check_settings(settings)
    from pellucid.web.desk import Desk
    from pellucid.web.service import build_app
    from pellucid.web.uploads import Uploads

    home = settings.home.resolve()
    with claim_files(home / "service"), _listen(settings.host, settings.port) as listener:
        home.chmod(0o700)
        token, port = read_token(home), listener.getsockname()[1]
        shared = settings.shared.resolve() if settings.shared else None
        jobs = Jobs(home / "jobs", settings.limits)
        uploads = Uploads(home / "uploads", settings.limits)
        desk = Desk(jobs, uploads, settings.tasks, settings.limits, shared, settings.devices)
        names = (settings.host, *settings.names)
        server = _build(
            Guard(build_app(desk), token=token, names=names, cookie=f"pellucid-{port}"), desk.closing
        )

        def stop() -> None:
            desk.closing.set()
            server.should_exit = True

        queue = JobQueue(
            jobs,
            settings.start,
            settings.devices,
            hidden=[shared] if shared else [],
            environment={"GDAL_SKIP": skipped_drivers()},
        )
        queue.start()
        try:
            yield Service(_address(settings.host, port, token), partial(server.run, sockets=[listener]), stop)
        finally:
            desk.closing.set()
            queue.stop()
            shutil.rmtree(home / "uploads", ignore_errors=True)


def _build(guard: Guard, closing: threading.Event) -> "uvicorn.Server":
    """Return the server of an application; streams end when `closing` is set, as a signal does."""
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        """Closes connections on which no whole head of a request comes."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect_head()

        def data_received(self, data: bytes) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self._expect_head()
            super().data_received(data)

        def _expect_head(self) -> None:
            self.loop.call_later(limits.HEAD_S, self._give_up, self.cycle)

        def _give_up(self, before: object) -> None:
            if self.cycle is before and (self.cycle is None or self.cycle.response_complete):
                self.transport.close()

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            closing.set()
            super().handle_exit(sig, frame)

    return Server(
        uvicorn.Config(
            guard,
            http=Impatient,
            log_level="warning",
            access_log=False,  # it would hold the token
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_S,
            timeout_graceful_shutdown=GRACE_S,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        reason = explain(error, "choose another --port or --host")
        raise InputError(f"cannot listen at {host}, port {port}: {reason}") from error
    return listener


def _address(host: str, port: int, token: str) -> str:
    """Return what a browser opens."""
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/?{TOKEN}={quote(token)}"
