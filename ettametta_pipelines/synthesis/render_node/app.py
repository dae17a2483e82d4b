"""The HTTP side of a render node: take jobs, say how they stand, hand out clips.

Every request carries `Authorization: Bearer RENDER_NODE_SECRET`, but for `/health` and `/metrics`, which say numbers
only. A job is in the ledger before it is answered; whether the queue hears of it at once does not matter.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from ettametta_pipelines.failures import FailureKind, PipelineError
from ettametta_pipelines.state.models import RenderJob
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import ClipJob, JobReport, bad_job, collect, outcome_as_json
from ettametta_pipelines.synthesis.render_node import jobs
from ettametta_pipelines.synthesis.render_node.handing_out import HandedOut
from ettametta_pipelines.synthesis.render_node.retention import REMOVED, removed

MAX_JOB_BYTES = 4 << 20
MAX_STILL_BYTES = 32 << 20
STATUS_OF = {"idempotency_key_reused": 409, "bad_gpu_job": 422}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(r"[0-9a-f]{32}")


def create_node(
    db: StateDatabase,
    store: ObjectStore,
    secret: str,
    announce: Callable[[str], bool],
    health: Callable[[], dict[str, Any]],
) -> FastAPI:
    """The ASGI application. `announce` tells the queue of a job, `health` says how queue and workers are."""
    app = FastAPI(title="ettametta render node", docs_url=None, redoc_url=None, openapi_url=None)

    def allowed(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {secret}".encode()):
            raise HTTPException(401, "not_authorized")

    guarded = [Depends(allowed)]

    @app.post("/jobs", dependencies=guarded, status_code=202)
    async def order(
        request: Request, idempotency_key: Annotated[str, Header(min_length=1, max_length=300)]
    ) -> dict[str, Any]:
        job = ClipJob.from_json(await _limited(request, MAX_JOB_BYTES))
        return await run_in_threadpool(_accepted, idempotency_key, job)

    def _accepted(key: str, job: ClipJob) -> dict[str, Any]:
        _check_stills(store, job)
        row = jobs.accept(db, key, job)
        if row.state == "done" and (removed(store, job) or JobReport.read(store, job.job_id).failures):
            row = _known(jobs.make_again(db, row.id))
        if row.state == "queued" and row.sent_at is None:
            announce(row.id)
        return _standing(store, row)

    @app.get("/jobs/{job_id}", dependencies=guarded)
    def standing(job_id: str) -> dict[str, Any]:
        return _standing(store, _known(jobs.find(db, job_id)))

    @app.post("/jobs/{job_id}/retry", dependencies=guarded, status_code=202)
    def again(job_id: str) -> dict[str, Any]:
        row = _known(jobs.ask_again(db, job_id))
        if row.state == "queued":
            announce(row.id)
        return _standing(store, row)

    @app.put("/stills/{sha256}", dependencies=guarded)
    async def still(sha256: str, request: Request) -> dict[str, str]:
        data = await _limited(request, MAX_STILL_BYTES)
        if not _SHA256.fullmatch(sha256) or hashlib.sha256(data).hexdigest() != sha256:
            raise HTTPException(422, "not_that_content")
        await run_in_threadpool(store.put, still_key(sha256), data)
        return {"image_key": still_key(sha256)}

    @app.get("/jobs/{job_id}/clips/{key}", dependencies=guarded)
    def clip(job_id: str, key: str) -> Response:
        row = _known(jobs.find(db, job_id))
        job = ClipJob.from_json(_dumped(row))
        path = store.local_path(f"{job.prefix}/{key}.mp4") if _KEY.fullmatch(key) else None
        if path is None or key not in dict(job.keyed()) or not path.is_file():
            if row.state == "done" and key in removed(store, job):
                raise HTTPException(410, REMOVED)
            raise HTTPException(404, "no_such_clip")
        size = path.stat().st_size
        return HandedOut(path, lambda start, count: jobs.note_sent(db, job_id, key, start, count, size))

    _add_probes(app, db, health)
    return app


def _add_probes(app: FastAPI, db: StateDatabase, health: Callable[[], dict[str, Any]]) -> None:
    registry = CollectorRegistry()
    registry.register(_Figures(db, health))

    @app.get("/health")
    def healthy() -> JSONResponse:
        try:
            said = {"jobs": jobs.counts(db), **health()}
        except PipelineError as error:
            return JSONResponse({"status": "broken", "problem": error.code}, 503)
        return JSONResponse({"status": "ok" if said["redis"] and said["workers"] else "degraded", **said})

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    @app.exception_handler(PipelineError)
    def failed(request: Request, error: PipelineError) -> Response:
        transient = error.kind is FailureKind.TRANSIENT
        said = {"error": error.code, "message": error.message, "remedy": error.remedy}
        return JSONResponse(said, 503 if transient else STATUS_OF.get(error.code, 400))


class _Figures:
    """What Prometheus reads, counted when it asks."""

    def __init__(self, db: StateDatabase, health: Callable[[], dict[str, Any]]) -> None:
        self._db, self._health = db, health

    def collect(self) -> Iterable[GaugeMetricFamily]:
        by_state = GaugeMetricFamily("ettametta_render_jobs", "Jobs of this node", labels=["state"])
        for state, number in jobs.counts(self._db).items():
            by_state.add_metric([state], number)
        yield by_state
        said = self._health()
        yield GaugeMetricFamily("ettametta_render_workers", "GPU workers alive", value=said["workers"])
        yield GaugeMetricFamily("ettametta_render_redis_up", "Whether the queue answers", value=said["redis"])

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()


def still_key(sha256: str) -> str:
    return f"stills/{sha256}"


def _check_stills(store: ObjectStore, job: ClipJob) -> None:
    for request in job.requests:
        if request.image_key is not None and (
            request.image_key != still_key(request.image_sha256 or "") or not store.exists(request.image_key)
        ):
            raise bad_job("a picture to start from was not uploaded before")


def _known(row: RenderJob | None) -> RenderJob:
    if row is None:
        raise HTTPException(404, "no_such_job")
    return row


def _dumped(row: RenderJob) -> str:
    import json

    return json.dumps(row.document)


def _standing(store: ObjectStore, row: RenderJob) -> dict[str, Any]:
    """A job as its orderer sees it; `outcomes` once it is done, in the order of its requests."""
    outcomes: list[Any] = []
    if row.state == "done":
        made = collect(store, ClipJob.from_json(_dumped(row)))
        outcomes = [outcome_as_json(outcome) for outcome in made if outcome is not None]
    return {
        "id": row.id,
        "state": row.state,
        "attempt": row.attempt,
        "progress": row.progress,
        "error": row.error,
        "outcomes": outcomes,
    }


async def _limited(request: Request, limit: int) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise HTTPException(413, "too_large")
    return body
