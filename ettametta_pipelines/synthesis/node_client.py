"""The orderer's side of a render node: submit, look until it is done, fetch the clips and check every byte.

Looking is the truth; the node's webhook only makes it sooner (`finish_from_webhook`). The idempotency key is the
job's id, so an order that is repeated after a lost answer or a killed run is the same order. No Dagster here.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

from ettametta_pipelines.failures import (
    ERROR_BY_KIND,
    FailureKind,
    NeedsPersonError,
    PermanentError,
    TransientError,
)
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import (
    ClipJob,
    JobReport,
    Outcome,
    all_outcomes,
    clip_key,
    finished_before,
    finished_clip,
    job_key,
    make_job,
    outcome_from_json,
    report_key,
    write_note,
)
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult
from ettametta_pipelines.vendors.http import http_client, raise_for_vendor, send, unreadable_answer

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
VENDOR = "render_node"
DOWNLOAD_TRIES = 4
_ENGINE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{32}")
_STANDING = frozenset({"id", "state", "attempt", "progress", "error", "outcomes"})


@dataclass(frozen=True)
class NodeDeadlines:
    """Seconds: waiting in the node's queue, at work, without an answer of the node, and between two looks."""

    queue_s: float = 3600
    run_s: float = 3600
    api_s: float = 300
    poll_s: float = 2


class NodeClient:
    """The node's HTTP interface. Every call is repeated while the node is away, for `api_s` at most."""

    def __init__(self, url: str, secret: str, deadlines: NodeDeadlines) -> None:
        self._deadlines = deadlines
        endpoint = VendorEndpoint(VENDOR, "live", url.rstrip("/") + "/", "RENDER_NODE_URL is set")
        self._http = http_client(endpoint, headers={"Authorization": f"Bearer {secret}"})

    def submit(self, key: str, document: bytes) -> dict[str, Any]:
        headers = {"Idempotency-Key": key}
        return self._json("take a job", _STANDING, "POST", "jobs", content=document, headers=headers)

    def standing(self, node_job: str) -> dict[str, Any]:
        return self._json("say how a job stands", _STANDING, "GET", f"jobs/{node_job}")

    def ask_again(self, node_job: str) -> dict[str, Any]:
        return self._json("try a job again", _STANDING, "POST", f"jobs/{node_job}/retry")

    def put_still(self, sha256: str, data: bytes) -> str:
        answer = self._json("take a picture", {"image_key"}, "PUT", f"stills/{sha256}", content=data)
        return str(answer["image_key"])

    def _json(self, doing: str, tells: Set[str], method: str, path: str, **options: Any) -> dict[str, Any]:
        """The answer, which tells at least `tells`. A proxy's page in its place is no answer."""

        def call() -> dict[str, Any]:
            response = send(self._http, method, path, vendor=VENDOR, doing=doing, **options)
            raise_for_vendor(response, vendor=VENDOR, doing=doing, detail=_detail(response))
            try:
                said = response.json()
            except ValueError:
                raise unreadable_answer(VENDOR, doing) from None
            if not isinstance(said, dict) or not tells <= said.keys():
                raise unreadable_answer(VENDOR, doing)
            return said

        return self._until_answered(call)

    def _until_answered(self, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._deadlines.api_s
        while True:
            try:
                return call()
            except TransientError as error:
                if time.monotonic() + self._deadlines.poll_s > deadline:
                    raise TransientError(
                        f"The render node did not answer for {self._deadlines.api_s:g} s: {error.message}",
                        code="render_node_unreachable",
                        remedy="Look at the node; the job goes on there and is taken up by the next try.",
                    ) from error
                time.sleep(self._deadlines.poll_s)

    def download(self, node_job: str, key: str, path: Path) -> None:
        """Fetch a clip; what a cut connection left is continued. Raises TransientError `clip_removed`."""
        import httpx

        doing, address = "hand out a clip", f"jobs/{node_job}/clips/{key}"

        def call() -> bool:
            have = path.stat().st_size if path.exists() else 0
            headers = {"Range": f"bytes={have}-"} if have else {}
            try:
                with self._http.stream("GET", address, headers=headers) as response:
                    if response.status_code in (410, 416):
                        return response.status_code == 416
                    if response.status_code >= 300:
                        response.read()
                    raise_for_vendor(response, vendor=VENDOR, doing=doing)
                    with path.open("ab" if response.status_code == 206 else "wb") as file:
                        for chunk in response.iter_bytes(1 << 20):
                            file.write(chunk)
                    return True
            except httpx.TransportError as error:
                raise TransientError(
                    f"The render node broke off ({type(error).__name__}).", code="render_node_broke_off"
                ) from error

        if not self._until_answered(call):
            raise TransientError(
                f"The render node has removed the clip {key}.",
                code="clip_removed",
                remedy="The next try orders the job again, and the node makes it again.",
            )


def _detail(response: "httpx.Response") -> str:
    try:
        said = response.json()
        return str(said.get("message") or said.get("detail") or "")
    except (ValueError, AttributeError):
        return ""


def open_client(settings: Settings, deadlines: NodeDeadlines) -> NodeClient:
    """Raises NeedsPersonError `render_node_unconfigured`."""
    if not settings.render_node_url or settings.render_node_secret is None:
        raise NeedsPersonError(
            "The render node is half configured.",
            code="render_node_unconfigured",
            remedy="Set RENDER_NODE_URL, and RENDER_NODE_SECRET to the node's own.",
        )
    return NodeClient(settings.render_node_url, settings.render_node_secret.get_secret_value(), deadlines)


class NodeRunner:
    """`ClipRunner` by a render node."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        *,
        say: Callable[[str], None] | None = None,
        deadlines: NodeDeadlines | None = None,
    ) -> None:
        self._store, self._say = store, say or (lambda words: None)
        self._deadlines = deadlines or NodeDeadlines(run_s=settings.gpu_run_s)
        self._client = open_client(settings, self._deadlines)

    def run(self, job_id: str, engine: str, model: str, requests: Sequence[ClipRequest]) -> Sequence[Outcome]:
        """One outcome a request. Raises the node's reason for a parked job, `render_node_busy`, `render_node_slow`
        or `render_node_unreachable`."""
        job = make_job(job_id, engine, model, requests)
        if (before := finished_before(self._store, job)) is not None:
            return before
        # Before it is sent, so that the node's word about it is known for ours.
        self._store.put(job.key, job.as_json())
        there = replace(job, requests=tuple(self._with_still(request) for request in requests))
        standing = self._client.submit(job_id, there.as_json())
        if standing["state"] == "parked":
            self._say(f"The node parked this job before ({standing['error']['code']}); it is asked again.")
            standing = self._client.ask_again(standing["id"])
        fetch(self._client, self._store, job_id, self._wait(standing))
        return all_outcomes(self._store, job)

    def _with_still(self, request: ClipRequest) -> ClipRequest:
        if request.image_key is None:
            return request
        if request.image_sha256 is None:
            raise PermanentError(
                "A clip that starts from a picture must name its content.",
                code="bad_gpu_job",
                remedy="Give image_sha256 beside image_key.",
            )
        data = self._store.get(request.image_key)
        return replace(request, image_key=self._client.put_still(request.image_sha256, data))

    def _wait(self, standing: dict[str, Any]) -> dict[str, Any]:
        """The job once it is done. A restart of the node, or of its worker, begins the time at work anew."""
        state, since, said = "", time.monotonic(), ""
        while standing["state"] != "done":
            now_in = f"{standing['state']}, attempt {standing['attempt']}"
            if now_in != state:
                state, since = now_in, time.monotonic()
            words = (
                f"Render node: {state}" + (f", {progress}" if (progress := _words(standing)) else "") + "."
            )
            if words != said:
                self._say(words)
                said = words
            if standing["state"] == "parked":
                raise _parked(standing["error"])
            limit = self._deadlines.queue_s if standing["state"] == "queued" else self._deadlines.run_s
            if time.monotonic() - since > limit:
                raise _late(standing["state"], limit)
            time.sleep(self._deadlines.poll_s)
            standing = self._client.standing(standing["id"])
        return standing


def _words(standing: Mapping[str, Any]) -> str:
    progress = standing["progress"] or {}
    return f"step {progress['step']} of {progress['steps']}" if "step" in progress else ""


def _parked(error: Mapping[str, str]) -> Exception:
    kind = FailureKind(error["kind"])
    return ERROR_BY_KIND[kind](error["message"], code=error["code"], remedy=error["remedy"])


def _late(state: str, limit: float) -> TransientError:
    if state == "queued":
        return TransientError(
            f"The render node did not begin within {limit:.0f} s; other jobs are before this one.",
            code="render_node_busy",
            remedy="It stays in the node's queue and is taken up by the next try; add a node if it lasts.",
        )
    return TransientError(
        f"The render node was at it for {limit:.0f} s.",
        code="render_node_slow",
        remedy="It goes on there and is taken up by the next try; order fewer shots a job.",
    )


def fetch(client: NodeClient, store: ObjectStore, job_id: str, standing: Mapping[str, Any]) -> int:
    """Bring a done job's clips into the store, those that are not there yet; how many were brought.

    Raises TransientError `clip_damaged` when a clip does not arrive as the node made it.
    """
    try:
        outcomes = [outcome_from_json(outcome) for outcome in standing["outcomes"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _nonsense("of a clip what no clip has") from error
    failures = {outcome.request_key: outcome for outcome in outcomes if isinstance(outcome, ClipFailure)}
    store.put(report_key(job_id), JobReport(failures, {}).as_json())
    brought = 0
    for result in outcomes:
        if isinstance(result, ClipResult):
            brought += _fetch_clip(client, store, str(standing["id"]), result)
    return brought


def _fetch_clip(client: NodeClient, store: ObjectStore, node_job: str, result: ClipResult) -> bool:
    # The node is trusted with clips, not with where they are written.
    if not (_ENGINE.fullmatch(result.engine) and _KEY.fullmatch(result.request_key)):
        raise _nonsense("a clip that cannot be one")
    prefix = f"media/clips/{result.engine}"
    known = finished_clip(store, prefix, result.request_key)
    if known is not None and known.sha256 == result.sha256:
        return False
    with TemporaryDirectory(prefix="clips-") as directory:
        path = Path(directory, "clip.mp4")
        for _ in range(DOWNLOAD_TRIES):
            client.download(node_job, result.request_key, path)
            if _sha256(path) == result.sha256:
                break
            path.unlink()
        else:
            raise TransientError(
                f"The clip {result.request_key} did not arrive as the render node made it.",
                code="clip_damaged",
                remedy="It is fetched again by the next try; look for what changes answers on the way.",
            )
        store.put_file(clip_key(prefix, result.request_key), path)
    write_note(store, prefix, replace(result, object_key=clip_key(prefix, result.request_key)))
    return True


def _nonsense(what: str) -> PermanentError:
    return PermanentError(
        f"The render node names {what}.",
        code="render_node_nonsense",
        remedy="Check what answers at RENDER_NODE_URL, and that it is of this version.",
    )


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def gave_job(store: ObjectStore, node_job: str) -> bool:
    """Whether a job that a message is about was ordered from here."""
    return bool(_KEY.fullmatch(node_job)) and store.exists(job_key(node_job))


def finish_from_webhook(settings: Settings, store: ObjectStore, message: Mapping[str, Any]) -> str:
    """What a `render_job_ended` message of the node comes to: its clips are fetched; says so in a few words.

    The message only says that it is worth looking; what counts is what the node answers. Repeating it changes nothing.
    """
    node_job = str(message.get("job_id", ""))
    if not gave_job(store, node_job):
        return "no job of ours"
    job = ClipJob.from_json(store.get(job_key(node_job)))
    client = open_client(settings, NodeDeadlines(api_s=60))
    standing = client.standing(node_job)
    if standing["state"] != "done":
        return f"job is {standing['state']}"
    return f"{fetch(client, store, job.job_id, standing)} clips fetched"
