from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Client, served

from pellucid.errors import InputError
from pellucid.web.guard import read_token

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(tmp_path_factory.mktemp("service"), names=("lab.example",)) as found:
        yield found


@pytest.fixture(scope="module")
def stranger(client: Client) -> Client:
    """A client without the token."""
    return Client(client.service, "", client.home)


def cookie(client: Client) -> dict[str, str]:
    return {"Cookie": f"pellucid-{client.port}={client.token}"}


def test_the_token_in_the_address_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(
    client: Client, stranger: Client
) -> None:
    status, headers, body = stranger.raw("GET", f"/?token={client.token}")
    assert status == 200
    assert b"url=/" in body
    assert client.token.encode() not in body
    found = headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(found.split("; "))
    status, _, body = stranger.raw("GET", "/", headers={"Cookie": found.partition(";")[0]})
    assert (status, b"New job" in body) == (200, True)


@pytest.mark.parametrize("path", ["/", "/api", "/api/jobs", "/openapi.json", "/api/events", "/nothing"])
def test_without_the_token_nothing_is_shown(client: Client, stranger: Client, path: str) -> None:
    wrong = client.token[:-1] + ("A" if client.token[-1] != "A" else "B")
    for headers in (
        {},
        {"Cookie": f"pellucid-{client.port}={wrong}"},
        {"Cookie": "pellucid-1=" + client.token},
        {"Cookie": "\xff=;;;="},
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": f"Basic {client.token}"},
        {"Authorization": "Bearer \xe9"},
    ):
        status, _, body = stranger.raw("GET", path, headers=headers)
        assert (status, b"token" in body) == (401, True), headers
    for address in (f"{path}?token={wrong}", f"{path}?token=", f"{path}?token=%C3%A9"):
        assert stranger.raw("GET", address)[0] == 401


def test_browsers_get_a_page_that_says_what_to_do(stranger: Client) -> None:
    status, headers, body = stranger.raw("GET", "/", headers=HTML)
    assert (status, headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert b"open the whole address that pellucid serve printed" in body


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80", "[::1"]
)
def test_a_name_that_was_made_to_point_here_is_refused(client: Client, host: str) -> None:
    status, _, body = client.raw("GET", "/api/jobs", headers={"Host": host})
    assert (status, b"does not go by the name" in body) == (421, True)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:5", "192.168.1.7", "lab.example"]
)
def test_own_names_and_addresses_in_numbers_are_taken(client: Client, host: str) -> None:
    assert client.raw("GET", "/api/jobs", headers={"Host": host})[0] == 200


def test_posts_of_other_sites_are_refused(client: Client, stranger: Client) -> None:
    here = f"http://127.0.0.1:{client.port}"
    path = "/api/jobs/x/cancel"
    for origin in (
        "http://evil.example",
        "null",
        f"http://127.0.0.1:{client.port + 1}",
        f"{here}.evil.example",
    ):
        status, _, body = stranger.raw("POST", path, headers={**cookie(client), "Origin": origin})
        assert (status, b"another page" in body) == (403, True), origin
        assert client.raw("POST", path, headers={"Origin": origin})[0] == 403
    assert stranger.raw("POST", path, headers=cookie(client))[0] == 403
    assert stranger.raw("POST", path, headers={**cookie(client), "Origin": here})[0] == 404
    assert client.raw("POST", path)[0] == 404


def test_parts_of_other_sites_are_refused_and_links_from_them_open(client: Client, stranger: Client) -> None:
    own = cookie(client)
    assert stranger.raw("GET", "/api/jobs", headers={**own, "Sec-Fetch-Site": "cross-site"})[0] == 403
    assert stranger.raw("GET", "/api/jobs", headers={**own, "Sec-Fetch-Site": "same-site"})[0] == 403
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert stranger.raw("GET", f"/?token={client.token}", headers=link)[0] == 200
    assert stranger.raw("GET", "/api/jobs", headers={**own, "Sec-Fetch-Site": "same-origin"})[0] == 200


def test_every_answer_says_what_browsers_keep_to(client: Client, stranger: Client) -> None:
    for found in (client.raw("GET", "/"), stranger.raw("GET", "/"), client.raw("GET", "/assets/page.css")):
        headers = found[1]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_the_token_is_kept_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    token = read_token(tmp_path)
    assert read_token(tmp_path) == token
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    (tmp_path / "token").write_text("short")
    with pytest.raises(InputError, match="16 or more"):
        read_token(tmp_path)
