"""The service over loopback, with jobs that do next to nothing, for tests."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pellucid.web.server import Service, Settings, opened
from pellucid.web.tasks import Choice, Role, Task

TIFF = b"II*\0" + bytes(100)
TASK = Task(
    "remove-clouds",
    "Remove clouds",
    (Role("scene", "Scene", "A scene."), Role("sar", "Radar", "Radar.", "--sar", many=True, grey=(".png",))),
    (
        Choice("seed", "Seed.", "--seed", "whole", 0),
        Choice("std", "Spread.", "--std", "yes", writes="std.tif"),
    ),
    "clear.tif",
    "many",
)
# Stands in for the command line: the name of the scene says how the job goes. A slow one waits for a file.
STAND_IN = """
import json, pathlib, sys, time
words, scene = sys.argv[1:], pathlib.Path(sys.argv[2])
out = pathlib.Path(next(word for word in words if word.startswith("--output=")).partition("=")[2])
def line(done):
    print(json.dumps({"stage": "removing clouds", "done": done, "total": 4}), flush=True)
line(0)
if "bad" in scene.name:
    print("warning: it is dark", file=sys.stderr)
    print(f"error: {scene} has no bands; name them", file=sys.stderr)
    sys.exit(2)
if "broken" in scene.name:
    raise RuntimeError("boom")
time.sleep(0.05)
line(1)
while "slow" in scene.name and not pathlib.Path("go").exists():
    time.sleep(0.02)
out.write_bytes(b"clear")
out.with_suffix(".html").write_text("<p>page")
(out.parent / ".hidden").write_text("no")
"""
START = (sys.executable, "-c", STAND_IN)


@dataclass(frozen=True)
class Client:
    """Asks a service; as a script with its token unless another is given."""

    service: Service
    token: str
    home: Path

    @property
    def port(self) -> int:
        return urlsplit(self.service.address).port or 0

    def raw(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body; the path goes out as it is."""
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, own | (headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and JSON."""
        text = None if body is None else json.dumps(body)
        status, _, found = self.raw(
            method, path, text, {"Content-Type": "application/json"} if text else None
        )
        return status, json.loads(found) if found else None

    def upload(self, name: str = "S2.tif", content: bytes = TIFF) -> str:
        status, _, found = self.raw("POST", f"/api/uploads?name={name}", content)
        assert status == 201, found
        key: str = json.loads(found)["upload"]
        return key

    def start(self, name: str = "S2.tif", **more: Any) -> str:
        """Start a job with an upload of a name, and return its id."""
        wanted = {"command": "remove-clouds", "files": {"scene": [{"upload": self.upload(name)}]}} | more
        status, found = self.ask("POST", "/api/jobs", wanted)
        assert status == 201, found
        key: str = found["id"]
        return key

    def job(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/api/jobs/{job}")[1]
        return found

    def reach(
        self, job: str, *states: str, share: float | None = None, seconds: float = 20
    ) -> dict[str, Any]:
        """Wait until a job has a state, and a share done, and return it."""
        wait_for(
            lambda: self.job(job)["state"] in states and share in (None, self.job(job)["share"]), seconds
        )
        return self.job(job)


def wait_for(is_so: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.02)


def settings(home: Path, **more: Any) -> Settings:
    return replace(Settings(home, {TASK.command: TASK}, START, port=0, devices=("cpu",)), **more)


@contextmanager
def served(home: Path, **more: Any) -> Iterator[Client]:
    """Yield a client of a service in a thread."""
    with opened(settings(home, **more)) as service:
        thread = Thread(target=service.run)
        thread.start()
        try:
            client = Client(service, parse_qs(urlsplit(service.address).query)["token"][0], home)
            wait_for(lambda: client.ask("GET", "/api/jobs")[0] == 200)
            yield client
        finally:
            service.stop()
            thread.join()
