import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from loopback import TIFF, served, settings, wait_for

from pellucid.errors import InputError
from pellucid.web import limits, uploads
from pellucid.web import server as module
from pellucid.web.limits import Limits
from pellucid.web.server import check_settings, opened


def test_a_restart_in_the_middle_goes_on_with_what_ran_and_keeps_what_ended(tmp_path: Path) -> None:
    with served(tmp_path) as client:
        ended = client.start()
        client.reach(ended, "done")
        job, later = client.start(name="slow.tif"), client.start(name="later.tif")
        client.reach(job, "running", share=0.25)
    (tmp_path / "jobs" / job / "go").touch()
    with served(tmp_path) as again:
        assert again.token == client.token
        assert again.reach(job, "done")["files"]
        assert again.reach(later, "done")["files"]
        assert again.job(ended)["state"] == "done"
        assert again.job(later)["started"] >= again.job(job)["ended"]


def test_a_folder_that_is_no_job_and_a_damaged_one_hold_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 20)
    for name, text in (("empty", None), ("damaged", "{"), ("other", '{"id": "job"}')):
        (tmp_path / "jobs" / name).mkdir(parents=True)
        if text is not None:
            (tmp_path / "jobs" / name / "job.json").write_text(text)
    with served(tmp_path) as client:
        assert client.ask("GET", "/api/jobs") == (200, [])


def test_uploads_that_come_too_slowly_or_not_whole_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "IDLE_S", 0.3)
    with served(tmp_path, limits=Limits(upload_seconds=1.0)) as client:
        head = "POST /api/uploads?name=S2.tif HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Authorization: Bearer {client.token}\r\nContent-Length: 1000\r\n\r\n"
        for pause in (20.0, 0.1):  # one stalls, one drips
            with socket.create_connection(("127.0.0.1", client.port), timeout=pause) as slow:
                slow.sendall(head.encode() + TIFF)
                answer = b""
                while not answer:
                    try:
                        answer = slow.recv(1000)
                    except TimeoutError:
                        slow.sendall(b"x")
                assert answer.startswith(b"HTTP/1.1 408")
        with socket.create_connection(("127.0.0.1", client.port)) as broken:
            broken.sendall(head.encode() + TIFF)
        wait_for(lambda: not list((tmp_path / "uploads").iterdir()))
        client.reach(client.start(), "done")  # others are served


def test_connections_without_a_request_are_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_S", 0.3)
    with served(tmp_path) as client:
        whole = f"GET /api/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {client.token}\r\n\r\n"
        for first in ("", whole):
            with socket.create_connection(("127.0.0.1", client.port), timeout=20) as slow:
                slow.sendall(first.encode())
                assert slow.recv(1000).startswith(b"HTTP/1.1 200") if first else True
                slow.sendall(b"GET / HTT")
                with suppress(ConnectionResetError):
                    while slow.recv(1000):
                        pass
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as follower:
            follower.sendall(whole.replace("jobs", "events").encode())
            follower.recv(1000)
            time.sleep(0.6)
            client.start()
            assert b"event: job" in follower.recv(10_000)  # a stream is no slow request


def test_a_folder_belongs_to_one_service(tmp_path: Path) -> None:
    with (
        served(tmp_path),
        pytest.raises(InputError, match="another run is writing"),
        opened(settings(tmp_path)),
    ):
        pass


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = pytest.raises(InputError, match=f"cannot listen at 127.0.0.1, port {port}")
        with said, opened(settings(tmp_path, port=port)):
            pass
    assert not (tmp_path / "jobs").exists()


@pytest.mark.parametrize("part", ["", "inside"])
def test_own_folder_and_shared_folder_do_not_lie_in_each_other(tmp_path: Path, part: str) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "token").touch()
    with pytest.raises(InputError, match="lie in each other"):
        check_settings(settings(tmp_path, shared=tmp_path / part))
    with pytest.raises(InputError, match="lie in each other"):
        check_settings(settings(tmp_path / "inside", shared=tmp_path))


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "mine.tif").write_bytes(TIFF)
    mode = tmp_path.stat().st_mode
    with pytest.raises(InputError, match="holds other files, such as uploads"), opened(settings(tmp_path)):
        pass
    assert (tmp_path / "uploads" / "mine.tif").exists()
    assert tmp_path.stat().st_mode == mode


def test_the_address_names_the_machine_where_it_listens_everywhere() -> None:
    assert module._address("0.0.0.0", 80, "t") == f"http://{socket.gethostname()}:80/?token=t"
    assert module._address("::1", 80, "t") == "http://[::1]:80/?token=t"
