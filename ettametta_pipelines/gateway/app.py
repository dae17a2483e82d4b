"""The gateway application: health probes and media links.

`GET /media/{key}` serves immutable objects of the store's `media/` tree with byte ranges, so that a rendition's
link in the Dagster UI plays in the browser. Uploads, tables and state are never served. The server binds the
loopback interface unless told otherwise (`gateway/server.py`).
"""

import mimetypes
import re
from collections.abc import Iterator

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectMissing, ObjectStore, open_store

SERVED_PREFIX = "media/"
CHUNK_BYTES = 1 << 20
IMMUTABLE = "public, max-age=31536000, immutable"
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")


def create_gateway(settings: Settings) -> FastAPI:
    """The ASGI application over the configured store and state."""
    app = FastAPI(title="ettametta gateway", docs_url=None, redoc_url=None, openapi_url=None)
    store = open_store(settings)
    state = open_state(settings)

    @app.get("/livez")
    def livez() -> dict[str, str]:
        return {"service": "ettametta-gateway", "status": "alive"}

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        problems = _readiness_problems(store, state)
        return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200)

    @app.api_route("/media/{path:path}", methods=["GET", "HEAD"])
    def media(path: str, request: Request) -> Response:
        return _serve_media(store, SERVED_PREFIX + path, request.headers.get("range"))

    return app


def _readiness_problems(store: ObjectStore, state: StateDatabase) -> list[str]:
    problems = []
    try:
        store.check_reachable()
    except PipelineError as error:
        problems.append(f"object store: {error.code}")
    try:
        with state.session(write=False) as session:
            state.now(session)
    except PipelineError as error:
        problems.append(f"state database: {error.code}")
    return problems


def _serve_media(store: ObjectStore, key: str, range_header: str | None) -> Response:
    try:
        info = store.head(key)
    except ObjectMissing:
        raise HTTPException(404, "no such media") from None
    except PipelineError as error:
        status = 404 if error.code == "bad_object_key" else 503
        raise HTTPException(status, error.code) from None
    content_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
    headers = {"Cache-Control": IMMUTABLE, "ETag": f'"{info.etag.strip(chr(34))}"', "Accept-Ranges": "bytes"}
    local = store.local_path(key)
    if local is not None:
        return FileResponse(local, media_type=content_type, headers=headers)
    start, end = _resolve_range(range_header, info)
    partial = range_header is not None
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
    headers["Content-Length"] = str(end - start)
    body = _read_span(store, key, start, end)
    return StreamingResponse(body, 206 if partial else 200, headers=headers, media_type=content_type)


def _resolve_range(header: str | None, info: ObjectInfo) -> tuple[int, int]:
    """Half-open byte span of a single-range request (RFC 9110 section 14); 416 when it cannot be satisfied."""
    if header is None:
        return 0, info.size
    match = _RANGE.match(header.strip())
    first, last = match.groups() if match else ("", "")
    if first:
        start, end = int(first), min(int(last) + 1, info.size) if last else info.size
    elif last:
        start, end = max(info.size - int(last), 0), info.size
    else:
        start, end = 0, 0
    if start >= end:
        raise HTTPException(416, "range not satisfiable", {"Content-Range": f"bytes */{info.size}"})
    return start, end


def _read_span(store: ObjectStore, key: str, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        length = min(CHUNK_BYTES, end - start)
        yield store.read_range(key, start, length)
        start += length
