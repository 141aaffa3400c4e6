"""The service over HTTP: its pages, and its interface for scripts."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

import pellucid
from pellucid.errors import InputError
from pellucid.web.desk import Desk, NewJob
from pellucid.web.given_files import list_folder
from pellucid.web.guard import refusal_page
from pellucid.web.limits import RequestError
from pellucid.web.results import SHOWN, list_files, zip_files
from pellucid.web.write_page import ASSETS, fill_frame

# Seconds between looks at what changed, and after which something is sent so that no connection is given up.
LOOK_S, ALIVE_S = 0.25, 15.0
# Parts of the pages, in the order in which they are sent.
PARTS = {
    "page.css": ("page.css", "service/service.css"),
    "service.js": ("shared/dom.js", "service/form.js", "service/list.js", "service/main.js"),
    "interface.js": ("shared/dom.js", "service/interface.js"),
}
ABOUT = """Send files, start jobs, follow them, fetch what they made.

Scripts send the token as `Authorization: Bearer TOKEN`. Refusals are one sentence: `{"error": "..."}`.
"""


def build_app(desk: Desk) -> FastAPI:
    """Return the application; whoever runs it lets a `Guard` stand before it."""
    app = FastAPI(
        title="pellucid serve",
        version=pellucid.__version__,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for add in (_add_pages, _add_files, _add_jobs, _add_events, _add_results):
        add(app, desk)
    app.add_exception_handler(Exception, _explain)
    app.add_exception_handler(InputError, _explain)
    app.add_exception_handler(HTTPException, _explain)
    app.add_exception_handler(RequestValidationError, _explain)
    return app


async def _explain(request: Request, error: Exception) -> Response:
    """Answer with one sentence: as a page to browsers that want one, else as JSON."""
    status, text = 400, str(error)
    if isinstance(error, RequestError):
        status = error.status
    elif not isinstance(error, InputError | HTTPException | RequestValidationError):
        status, text = 500, f"an unexpected error, please report it: {type(error).__name__}"
    elif isinstance(error, HTTPException):
        status, text = (
            error.status_code,
            f"there is nothing at {request.url.path[:200]}; go to the first page",
        )
        if status != 404:
            text = f"{request.method} {request.url.path[:200]} cannot be answered ({error.detail}); see /api"
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "the request"
        text = f"{place}: {first['msg'][:1].lower()}{first['msg'][1:200]}; see /api"
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(refusal_page(text), status)
    return JSONResponse({"error": text}, status)


def _add_pages(app: FastAPI, desk: Desk) -> None:  # noqa: ARG001
    """Add the pages for people, and what they are made of."""

    @app.get("/", include_in_schema=False)
    def front() -> HTMLResponse:
        otherwise = ' Scripts can use the service without: see <a href="/api">/api</a>.'
        return _page("service", "pellucid", '<a href="/api">For scripts</a>', otherwise)

    @app.get("/favicon.ico", include_in_schema=False, status_code=204)
    def icon() -> None: ...

    @app.get("/api", include_in_schema=False)
    def interface() -> HTMLResponse:
        otherwise = ' <a href="/openapi.json">openapi.json</a> says the same.'
        return _page("interface", "pellucid: for scripts", '<a href="/">Jobs</a>', otherwise)

    @app.get("/assets/{name}", include_in_schema=False)
    def part(name: str) -> Response:
        if name not in PARTS:
            raise RequestError(404, f"there is no {name[:60]!r} here; go to the first page")
        text = "\n".join((ASSETS / each).read_text(encoding="utf-8") for each in PARTS[name])
        return Response(text, media_type="text/css" if name.endswith(".css") else "text/javascript")


def _page(kind: str, title: str, links: str, otherwise: str) -> HTMLResponse:
    """Answer with a page that asks for its styles and scripts."""
    head = f"""<link rel="icon" href="data:,">
<link rel="stylesheet" href="/assets/page.css">
<script src="/assets/{kind}.js" defer></script>"""
    return HTMLResponse(fill_frame(kind, title, head=head, links=f"\n  {links}", otherwise=otherwise))


def _add_files(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/offer", summary="What there is: commands with their files and options, devices, limits")
    def offer() -> dict[str, Any]:
        return {
            "version": pellucid.__version__,
            "tasks": list(desk.tasks.values()),
            "devices": desk.devices,
            "shared": desk.shared is not None,
            "limits": desk.limits,
        }

    @app.get("/api/folder", summary="What lies in the shared folder, or in a folder below it")
    def folder(path: Annotated[str, Query(max_length=2000)] = "") -> list[dict[str, str | int]]:
        return list_folder(desk.shared, path)

    @app.post(
        "/api/uploads",
        status_code=201,
        summary="Send a file, whose bytes are the body; the answer names it for a job",
        openapi_extra={
            "requestBody": {
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
            }
        },
    )
    async def upload(request: Request, name: Annotated[str, Query(max_length=1000)]) -> dict[str, str]:
        text = request.headers.get("content-length", "")
        length = int(text) if text.isdecimal() else None
        pieces = request.stream()
        return {"upload": await desk.uploads.receive(name, length, pieces), "name": name}


def _add_jobs(app: FastAPI, desk: Desk) -> None:
    @app.get("/api/jobs", summary="All jobs, newest first")
    def jobs() -> list[dict[str, Any]]:
        return [desk.describe(job) for job in desk.jobs.all()]

    @app.post("/api/jobs", status_code=201, summary="Put a job into the queue")
    def submit(wanted: NewJob) -> dict[str, Any]:
        return desk.describe(desk.submit(wanted))

    @app.get("/api/jobs/{job}", summary="One job: its state, how far it is, its files")
    def one(job: str) -> dict[str, Any]:
        return desk.describe(desk.jobs.get(job))

    @app.post("/api/jobs/{job}/cancel", summary="Stop a job; what is finished of it is kept")
    def cancel(job: str) -> dict[str, Any]:
        return desk.describe(desk.jobs.cancel(job))

    @app.post("/api/jobs/{job}/resume", summary="Go on with a job that failed or was cancelled")
    def resume(job: str) -> dict[str, Any]:
        return desk.describe(desk.jobs.queue_again(job))

    @app.delete("/api/jobs/{job}", status_code=204, summary="Delete a job with all its files")
    def delete(job: str) -> None:
        desk.jobs.remove(job)


def _add_events(app: FastAPI, desk: Desk) -> None:
    @app.get(
        "/api/events",
        summary="Server-sent events: first all jobs, then each that changes ('job') or goes ('gone')",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def events() -> StreamingResponse:
        return StreamingResponse(follow(desk), media_type="text/event-stream")


async def follow(desk: Desk) -> AsyncIterator[str]:
    """Yield the changes of all jobs as server-sent events, until the service ends."""
    number, quiet_s, is_first = 0, 0.0, True
    while not desk.closing.is_set():
        number, changed, gone = await asyncio.to_thread(desk.jobs.since, number)
        described = [await asyncio.to_thread(desk.describe, job) for job in changed]
        if is_first:
            yield _event("jobs", described)
        else:
            for each in described:
                yield _event("job", each)
            for name in gone:
                yield _event("gone", {"id": name})
        quiet_s = 0.0 if described or gone else quiet_s + LOOK_S
        if quiet_s > ALIVE_S:
            quiet_s = 0.0
            yield ": still here\n\n"
        is_first = False
        await asyncio.sleep(LOOK_S)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _add_results(app: FastAPI, desk: Desk) -> None:
    @app.get(
        "/jobs/{job}/all.zip",
        summary="All files of a result in one archive",
        response_class=StreamingResponse,
    )
    def archive(job: str) -> StreamingResponse:
        found = desk.jobs.get(job)
        files = list_files(desk.jobs.home(job)) if found.state == "done" else {}
        if not files:
            raise RequestError(
                404, f"{found.name} is {found.state}, so that it has no files yet; wait for its end"
            )
        headers = {"content-disposition": f'attachment; filename="{job}.zip"'}
        return StreamingResponse(zip_files(files), media_type="application/zip", headers=headers)

    @app.get("/jobs/{job}/{part}/{name:path}", summary="A file of a job: its part is 'result' or 'input'")
    def file(job: str, part: str, name: str) -> FileResponse:
        path = list_files(desk.jobs.home(desk.jobs.get(job).id), part).get(name)
        if path is None:
            raise RequestError(
                404, f"there is no file {name[:200]!r} in the {part[:20]} of this job; see its list"
            )
        kind = SHOWN.get(path.suffix.lower()) if part == "result" else None
        if kind:
            return FileResponse(path, media_type=kind)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)
