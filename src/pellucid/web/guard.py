"""Who may ask the service: those with its token, by its own name, from its own pages."""

import asyncio
import hmac
import html
import ipaddress
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pellucid.data.files import make_folder
from pellucid.errors import InputError, explain
from pellucid.web.limits import MAX_REQUEST, REQUEST_S, RequestError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN = "token"
# What needs no token: parts of the package. What streams a body of its own.
PUBLIC, UPLOADS = "/assets/", "/api/uploads"
SAFE_METHODS = ("GET", "HEAD")
# Of every answer. Pages of results carry a stricter policy of their own, by the digests of their scripts.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
)
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    b"form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
RESULT_POLICY = b"form-action 'none'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
# A link on another site sends no cookie along, not even through a redirect: so the browser goes on by itself.
WELCOME = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
    '<title>pellucid</title><p>Signed in. <a href="/">Go on</a>'
)
REFUSAL = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><link rel="stylesheet" href="/assets/page.css">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>pellucid</title>'
    '<body class="service"><main class="single"><section class="card"><h1>Not open</h1><p>{}</p>'
    '<p><a href="/">To the jobs</a></p></section></main>'
)


def read_token(folder: Path) -> str:
    """Return the token in the folder of a service, made at first; only the owner can read the file."""
    path = folder / TOKEN
    make_folder(folder)
    try:
        if not path.exists():
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(f"{secrets.token_urlsafe(24)}\n", encoding="utf-8")
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = explain(error) if isinstance(error, OSError) else "it is no text; delete it"
        raise InputError(f"cannot read or write {path}: {reason}") from error
    if len(token) < 16 or not token.isascii() or not token.replace("-", "").replace("_", "").isalnum():
        raise InputError(f"{path} must hold a token of 16 or more letters, digits, - and _; delete it")
    return token


class Guard:
    """Lets requests through to an application, or refuses them in one sentence.

    Args:
        app: what answers.
        token: that a request must bring: in its address at first, then in a cookie, or as a bearer.
        names: hosts besides this machine and addresses in numbers that a request may be meant for: a page of
            another site whose name was made to point here is refused.
        cookie: the name of the cookie, one per port.
    """

    def __init__(
        self, app: App, *, token: str, names: Collection[str] = (), cookie: str = "pellucid"
    ) -> None:
        self.app, self.token, self.cookie = app, token, cookie
        own = ("localhost", socket.gethostname(), *names)
        self.names = {name.lower().rstrip(".") for name in own}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        send = _with_headers(scope, send)
        try:
            self._check_host(headers)
            is_welcome = scope["path"].startswith(PUBLIC) or self._check_token(scope, headers)
            self._check_origin(scope, headers)
            if is_welcome and scope["method"] not in SAFE_METHODS and not scope["path"].startswith(UPLOADS):
                receive = await _read_whole(headers, receive)
        except RequestError as error:
            await _refuse(error, headers, send)
            return
        if is_welcome:
            await self.app(scope, receive, send)
            return
        cookie = f"{self.cookie}={self.token}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000"
        await _answer(send, 200, WELCOME, [(b"set-cookie", cookie.encode())])

    def _check_host(self, headers: dict[str, str]) -> None:
        try:
            name = (urlsplit(f"//{headers.get('host', '')}").hostname or "").rstrip(".")
        except ValueError:
            name = ""
        if name not in self.names and not _is_address(name):
            shown = headers.get("host", "")[:100]
            raise RequestError(
                421, f"the service does not go by the name {shown!r}; start it with --name NAME"
            )

    def _check_token(self, scope: Scope, headers: dict[str, str]) -> bool:
        """Return whether a request may pass; not yet if it brings the token in the address of a page."""
        if "authorization" in headers:
            kind, _, given = headers["authorization"].partition(" ")
            if kind.lower() == "bearer" and self._is_token(given.strip()):
                return True
            raise RequestError(401, "the Authorization header holds another token; send 'Bearer TOKEN'")
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get(TOKEN, [""])[0]
        if asked and scope["path"] == "/" and self._is_token(asked):
            return False
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            found = None
        if found is not None and self._is_token(found.value):
            return True
        raise RequestError(
            401, "this page needs the token; open the whole address that pellucid serve printed"
        )

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def _check_origin(self, scope: Scope, headers: dict[str, str]) -> None:
        """Refuse what another site lets a browser ask for."""
        site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
        is_change = scope["method"] not in SAFE_METHODS
        from_here = origin is not None and origin.partition("://")[2] == headers.get("host")
        is_script = "authorization" in headers and origin is None
        is_page = headers.get("sec-fetch-mode") == "navigate" and not is_change
        if (is_change and not from_here and not is_script) or (origin and not from_here):
            raise RequestError(
                403, "the request comes from another page; use the pages of the service itself"
            )
        if site not in ("same-origin", "none") and not is_page:
            raise RequestError(
                403, "the request comes from another site; use the pages of the service itself"
            )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _read_whole(headers: dict[str, str], receive: Receive) -> Receive:
    """Return the body of a request, which is short and comes soon."""
    body, more = b"", True
    try:
        async with asyncio.timeout(REQUEST_S):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestError(400, "the request broke off; send it again")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MAX_REQUEST or int(headers.get("content-length", "0")) > MAX_REQUEST:
                    raise RequestError(413, f"the request is longer than {MAX_REQUEST:,} bytes; shorten it")
    except TimeoutError as error:
        raise RequestError(
            408, f"the request did not come within {REQUEST_S:.0f} s; send it again"
        ) from error
    is_read = False

    async def receive_again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _with_headers(scope: Scope, send: Send) -> Send:
    """Return how answers are sent: with what browsers are to keep to."""
    is_result = scope["path"].startswith("/jobs/")
    added = [*HEADERS, (b"content-security-policy", RESULT_POLICY if is_result else POLICY)]

    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *added]
        await send(message)

    return send_more


def refusal_page(text: str) -> str:
    """Return the page that says why something is refused."""
    return REFUSAL.format(html.escape(text[:1].upper() + text[1:]))


async def _refuse(error: RequestError, headers: dict[str, str], send: Send) -> None:
    if "text/html" in headers.get("accept", ""):
        await _answer(send, error.status, refusal_page(str(error)))
    else:
        text = json.dumps({"error": str(error)})
        await _answer(send, error.status, text, kind="application/json")


async def _answer(
    send: Send,
    status: int,
    text: str,
    headers: list[tuple[bytes, bytes]] | None = None,
    *,
    kind: str = "text/html; charset=utf-8",
) -> None:
    body = text.encode()
    length = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": status, "headers": [*length, *(headers or [])]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
