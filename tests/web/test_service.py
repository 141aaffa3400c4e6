import io
import json
import zipfile
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from loopback import TIFF, Client, served, wait_for
from PIL import Image

from pellucid.web.limits import Limits


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to choose from, with a link that leaves it, beside a secret."""
    top = tmp_path_factory.mktemp("disk")
    (top / "secret.tif").write_bytes(TIFF + b"secret")
    folder = top / "data"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "S2.tif").write_bytes(TIFF)
    (folder / "S2.vrt").write_text("<VRTDataset/>")
    (folder / "leaves.tif").symlink_to(top / "secret.tif")
    (folder / "away").symlink_to(top)
    return folder


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("service")
    with served(home, shared=shared, limits=Limits(upload_bytes=10_000)) as found:
        yield found


@pytest.fixture(scope="module")
def done(client: Client) -> str:
    """A job that is done, and has a link among its results."""
    job = client.start()
    client.reach(job, "done")
    (client.home / "jobs" / job / "result" / "link.tif").symlink_to("/etc/hostname")
    return job


def test_a_job_goes_from_upload_to_archive(client: Client) -> None:
    job = client.start(name="S2.tif", options={"seed": 7, "std": True})
    found = client.reach(job, "done")
    assert [each["name"] for each in found["files"]] == ["clear.html", "clear.tif"]
    assert (found["page"], found["out"], found["message"]) == ("clear.html", "clear.tif", "")
    status, headers, page = client.raw("GET", f"/jobs/{job}/result/clear.html")
    assert (status, page) == (200, b"<p>page")
    assert "inline" not in headers.get("content-disposition", "")
    status, headers, raster = client.raw("GET", f"/jobs/{job}/result/clear.tif")
    assert (status, raster) == (200, b"clear")
    assert headers["content-disposition"] == 'attachment; filename="clear.tif"'
    assert client.raw("GET", f"/jobs/{job}/input/scene/S2.tif")[2] == TIFF
    with zipfile.ZipFile(io.BytesIO(client.raw("GET", f"/jobs/{job}/all.zip")[2])) as archive:
        assert archive.namelist() == ["clear.html", "clear.tif"]
        assert archive.read("clear.tif") == b"clear"
    assert client.ask("DELETE", f"/api/jobs/{job}") == (204, None)
    assert client.ask("GET", f"/api/jobs/{job}")[0] == 404


def test_a_job_that_fails_shows_its_one_sentence(client: Client) -> None:
    found = client.reach(client.start(name="bad.tif"), "failed")
    assert found["message"] == "bad.tif has no bands; name them"
    assert found["warnings"] == ["it is dark"]
    assert not found["files"]
    found = client.reach(client.start(name="broken.tif"), "failed")
    assert found["message"] == "an unexpected error, please report it: RuntimeError: boom"


def test_two_users_see_the_same_jobs_and_one_runs_at_a_time(client: Client) -> None:
    first, second = client.start(name="slow.tif"), client.start(name="slow2.tif")
    client.reach(first, "running", share=0.25)
    assert client.job(second)["state"] == "waiting"
    assert {first, second} <= {job["id"] for job in client.ask("GET", "/api/jobs")[1]}
    assert client.ask("DELETE", f"/api/jobs/{first}")[0] == 409
    assert client.ask("POST", f"/api/jobs/{first}/cancel")[0] == 200
    client.reach(second, "running")
    assert client.job(first)["state"] == "cancelled"
    wait_for(lambda: client.ask("POST", f"/api/jobs/{first}/resume")[0] == 200)
    assert client.ask("POST", f"/api/jobs/{first}/resume")[0] == 409
    for job in (second, first):
        let_go(client, job)
        client.reach(job, "done")


def let_go(client: Client, job: str) -> None:
    """Let a slow job end: it waits for a file in its folder, which no request can write."""
    (client.home / "jobs" / job / "go").touch()


def test_events_bring_all_jobs_then_each_change_with_the_time_left(client: Client) -> None:
    connection = HTTPConnection("127.0.0.1", client.port, timeout=20)
    connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {client.token}"})
    stream = connection.getresponse()
    assert stream.headers["content-type"].startswith("text/event-stream")
    job = client.start(name="slow-event.tif")
    seen = []
    for line in stream:
        if line.startswith(b"event:"):
            kind = line.split()[1].decode()
        if line.startswith(b"data:"):
            data = json.loads(line[5:])
            if kind == "job" and data["id"] == job:
                seen.append(data)
                if data["share"] == 0.25:
                    assert (data["stage"], data["left_s"] > 0) == ("removing clouds", True)
                    let_go(client, job)
                if data["state"] == "done":
                    break
        assert not seen or kind == "job"
    assert [each["state"] for each in seen][-1] == "done"
    connection.close()


@pytest.mark.parametrize(
    "path",
    [
        "../secret.tif",
        "below/../../secret.tif",
        "/etc/hostname",
        "leaves.tif",
        "away/secret.tif",
        "below\\..\\secret.tif",
        "S2\0.tif",
        "~/x.tif",
        ".hidden.tif",
        "nothing.tif",
    ],
)
def test_nothing_outside_the_shared_folder_can_be_named(client: Client, path: str) -> None:
    files = {"scene": [{"path": path}]}
    status, found = client.ask("POST", "/api/jobs", {"command": "remove-clouds", "files": files})
    assert (status, "not in the shared folder" in found["error"]) == (404, True)


def test_what_may_name_other_files_is_refused_by_its_content(client: Client) -> None:
    files = {"scene": [{"path": "S2.vrt"}]}
    status, found = client.ask("POST", "/api/jobs", {"command": "remove-clouds", "files": files})
    assert (status, "takes nothing else" in found["error"]) == (400, True)
    status, _, body = client.raw("POST", "/api/uploads?name=S2.tif", b"<VRTDataset/>")
    assert (status, b"takes nothing else" in body) == (400, True)


def test_a_new_job_takes_files_of_an_earlier_one_even_when_that_is_gone(client: Client) -> None:
    earlier = client.start(name="bad.tif")
    client.reach(earlier, "failed")
    wanted = {"command": "remove-clouds", "files": {"scene": [{"job": earlier, "path": "bad.tif"}]}}
    status, found = client.ask("POST", "/api/jobs", wanted | {"options": {"seed": 1}})
    assert status == 201
    assert client.ask("DELETE", f"/api/jobs/{earlier}")[0] == 204
    client.reach(found["id"], "failed")
    assert client.raw("GET", f"/jobs/{found['id']}/input/scene/bad.tif")[2] == TIFF
    for file in ({"job": found["id"], "path": "../job.json"}, {"job": "x", "path": "bad.tif"}):
        assert client.ask("POST", "/api/jobs", wanted | {"files": {"scene": [file]}})[0] == 404


def test_the_folder_is_listed_without_what_leaves_it(client: Client) -> None:
    names = {each["name"]: each["kind"] for each in client.ask("GET", "/api/folder")[1]}
    assert names == {"below": "folder"}
    assert [each["name"] for each in client.ask("GET", "/api/folder?path=below")[1]] == ["S2.tif"]
    for path in ("..", "below/../..", "away", "%2e%2e", "..%2f..", "/", "below%2f..%2f.."):
        status = client.ask("GET", f"/api/folder?path={path}")[0]
        assert status == 404, path


def test_a_path_below_the_shared_folder_is_used(client: Client) -> None:
    files = {"scene": [{"path": "below/S2.tif"}]}
    status, found = client.ask("POST", "/api/jobs", {"command": "remove-clouds", "files": files})
    assert status == 201
    assert client.reach(found["id"], "done")["name"] == "below/S2.tif"


@pytest.mark.parametrize(
    "path",
    [
        "../job.json",
        "..%2fjob.json",
        "%2e%2e/job.json",
        "..%2f..%2f..%2ftoken",
        "/etc/hostname",
        "%2fetc%2fhostname",
        "clear.tif%00.html",
        ".hidden",
        "link.tif",
        "",
    ],
)
def test_only_listed_files_of_a_result_are_sent(client: Client, done: str, path: str) -> None:
    for start in (f"/jobs/{done}/result/", f"/jobs/{done}/input/", f"/jobs/{done}/", "/assets/", "/jobs/"):
        status, _, body = client.raw("GET", start + path)
        assert status in (404, 400), (start, body)


@pytest.mark.parametrize(
    "name", ["..%2fx.tif", "a%00.tif", "-o.tif", "", ".tif", "a%2fb.tif", "B*.tif", "x" * 200]
)
def test_names_of_uploads_that_mean_something_else_are_refused(client: Client, name: str) -> None:
    status, _, body = client.raw("POST", f"/api/uploads?name={name}", TIFF)
    assert (status, b"rename the file" in body) == (400, True)


def test_a_file_that_is_too_large_is_refused_by_what_it_says_and_by_what_comes(client: Client) -> None:
    status, _, body = client.raw("POST", "/api/uploads?name=S2.tif", TIFF + bytes(20_000))
    assert (status, b"larger than" in body) == (413, True)
    pieces = (TIFF if i == 0 else bytes(5000) for i in range(5))  # sent in chunks, without a length
    status, _, body = client.raw("POST", "/api/uploads?name=S2.tif", pieces)
    assert (status, b"larger than" in body) == (413, True)
    assert not list((client.home / "uploads").iterdir())


def test_a_request_that_is_too_long_is_refused(client: Client) -> None:
    text = json.dumps({"command": "x" * 200_000})
    status, _, body = client.raw("POST", "/api/jobs", text, {"Content-Type": "application/json"})
    assert (status, b"longer than" in body) == (413, True)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"command": "rm", "files": {}}, "there is no command 'rm' here"),
        ({"command": "remove-clouds", "files": {}}, "Scene is missing; add a file"),
        ({"command": "remove-clouds"}, "files: field required; see /api"),
        ({"command": "remove-clouds", "files": {"scene": [{}]}}, "either an upload or a path"),
        ({"command": "remove-clouds", "files": {"scene": [{"upload": "../.."}]}}, "there is no upload"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence(client: Client, wanted: object, said: str) -> None:
    status, found = client.ask("POST", "/api/jobs", wanted)
    assert status in (400, 404)
    assert said in found["error"]


def test_a_refused_job_leaves_nothing_and_its_upload_can_be_used_again(client: Client) -> None:
    key, before = client.upload(), set((client.home / "jobs").iterdir())
    wanted = {"command": "remove-clouds", "files": {"scene": [{"upload": key}]}, "options": {"seed": "-o"}}
    status, found = client.ask("POST", "/api/jobs", wanted)
    assert (status, "seed is '-o', must be a whole number" in found["error"]) == (400, True)
    assert set((client.home / "jobs").iterdir()) == before
    status, found = client.ask("POST", "/api/jobs", wanted | {"options": {"seed": 3}})
    assert status == 201
    client.reach(found["id"], "done")


def test_a_colour_picture_is_refused_at_once_where_a_grey_one_is_needed(client: Client) -> None:
    for colour, status in (((10, 20, 30), 400), ((20, 20, 20), 201)):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), colour).save(file, "png")
        radar = [{"upload": client.upload("radar.png", file.getvalue())}]
        wanted = {"command": "remove-clouds", "files": {"scene": [{"upload": client.upload()}], "sar": radar}}
        found, answer = client.ask("POST", "/api/jobs", wanted)
        assert found == status
        if status == 400:
            assert answer["error"] == "radar.png has 3 channels, a grey slice is needed; convert it"


def test_the_interface_describes_itself_and_its_pages_fetch_nothing_from_outside(client: Client) -> None:
    _, found = client.ask("GET", "/openapi.json")
    assert {"/api/jobs", "/api/uploads", "/api/events", "/api/folder"} <= set(found["paths"])
    for path in ("/", "/api", "/assets/service.js", "/assets/page.css", "/assets/interface.js"):
        status, headers, body = client.raw("GET", path)
        assert status == 200, path
        outside = body.replace(b"http://www.w3.org/2000/svg", b"")
        assert b"http://" not in outside
        assert b"https://" not in outside
        assert "default-src 'none'" in headers["content-security-policy"]


def test_full_queues_and_lists_are_refused(tmp_path: Path) -> None:
    with served(tmp_path, limits=Limits(waiting=2, kept=3)) as client:
        slow = [client.start(name=f"slow{i}.tif") for i in range(2)]
        status, found = client.ask("POST", "/api/jobs", {"command": "remove-clouds", "files": {}})
        assert (status, found["error"][:19]) == (429, "2 jobs wait or run,")
        for job in slow:
            let_go(client, job)
            client.reach(job, "done")
        client.reach(client.start(), "done")
        status, found = client.ask("POST", "/api/jobs", {"command": "remove-clouds", "files": {}})
        assert (status, found["error"][:16]) == (429, "3 jobs are kept,")


def test_a_job_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    with served(tmp_path, limits=Limits(job_seconds=0.5)) as client:
        found = client.reach(client.start(name="slow.tif"), "failed")
        assert "longer than the 0.000138889 hours" in found["message"]


def test_two_devices_run_two_jobs(tmp_path: Path) -> None:
    with served(tmp_path, devices=("cuda:0", "cuda:1")) as client:
        jobs = [client.start(name=f"slow{i}.tif") for i in range(2)]
        found = [client.reach(job, "running") for job in jobs]
        assert {job["device"] for job in found} == {"cuda:0", "cuda:1"}
        for job in jobs:
            let_go(client, job)
            client.reach(job, "done")
