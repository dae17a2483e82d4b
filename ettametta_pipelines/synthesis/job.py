"""A GPU job as both sides see it: what is ordered, where its clips and its report lie, how its worker ends.

The orderer writes a `ClipJob` and reads a `JobReport`; `worker.py` does the opposite, on whatever machine it runs.
Both are JSON documents in the object store, which is the truth: messages and logs on the way may be lost.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

from ettametta_pipelines.failures import FailureKind, PermanentError, TransientError
from ettametta_pipelines.storage.objects import ObjectMissing, ObjectStore
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult, request_key

JOBS_PREFIX = "jobs/synthesis"
Outcome = ClipResult | ClipFailure


class Exit(IntEnum):
    """How a worker ended. What a signal did stands above 128, as shells have it."""

    DONE = 0
    BUG = 1
    BAD_JOB = 2
    NO_MODEL = 3
    OUT_OF_MEMORY = 12
    TRY_AGAIN = 75
    STOPPED = 143


def job_slug(job_id: str) -> str:
    """Any job id as 32 hex digits, for keys and names of pods."""
    return hashlib.sha256(job_id.encode()).hexdigest()[:32]


def job_key(slug: str) -> str:
    return f"{JOBS_PREFIX}/{slug}.json"


def report_key(job_id: str) -> str:
    return f"{JOBS_PREFIX}/{job_slug(job_id)}.report.json"


@dataclass(frozen=True)
class ClipJob:
    """Several clips of one model, loaded once. Clips go to `{prefix}/{request_key}.mp4`."""

    job_id: str
    engine: str
    model: str
    requests: tuple[ClipRequest, ...]

    @property
    def prefix(self) -> str:
        return f"media/clips/{self.engine}"

    @property
    def key(self) -> str:
        return job_key(job_slug(self.job_id))

    def keyed(self) -> list[tuple[str, ClipRequest]]:
        """Each request with the name of its clip, in order."""
        return [(request_key(self.engine, self.model, request), request) for request in self.requests]

    def as_json(self) -> bytes:
        document = {
            "job_id": self.job_id,
            "engine": self.engine,
            "model": self.model,
            "requests": [request.as_json() for request in self.requests],
        }
        return json.dumps(document, sort_keys=True).encode()

    @classmethod
    def from_json(cls, document: bytes | str) -> "ClipJob":
        """Raises PermanentError `bad_gpu_job` naming what is wrong."""
        try:
            read = json.loads(document)
            job = cls(
                read["job_id"],
                read["engine"],
                read["model"],
                tuple(ClipRequest(**request) for request in read["requests"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise bad_job(f"it cannot be read ({error})") from error
        for name in ("job_id", "engine", "model"):
            if not isinstance(getattr(job, name), str) or not getattr(job, name):
                raise bad_job(f"{name} must be a text")
        for request in job.requests:
            _check(request)
        return job


def bad_job(why: str) -> PermanentError:
    return PermanentError(
        f"The GPU job cannot be used: {why}.",
        code="bad_gpu_job",
        remedy="Correct the request; orderer and worker must be of the same version.",
    )


def _check(request: ClipRequest) -> None:
    if not isinstance(request.prompt, str) or not request.prompt.strip():
        raise bad_job("a prompt is empty")
    for name, low, high in (("width", 1, 8192), ("height", 1, 8192), ("fps", 1, 120), ("seed", 0, 2**32 - 1)):
        value = getattr(request, name)
        if type(value) is not int or not low <= value <= high:
            raise bad_job(f"{name} must be a whole number from {low} to {high}")
    if not isinstance(request.seconds, int | float) or not 0 < request.seconds <= 600:
        raise bad_job("seconds must be more than 0 and at most 600")


def outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    name = "result" if isinstance(outcome, ClipResult) else "failure"
    return {name: asdict(outcome)}


def outcome_from_json(document: Mapping[str, Any]) -> Outcome:
    if "result" in document:
        return ClipResult(**document["result"])
    failure = dict(document["failure"])
    return ClipFailure(**failure | {"kind": FailureKind(failure["kind"])})


@dataclass(frozen=True)
class JobReport:
    """What a worker says of a job: failures by request, and figures (seconds by stage, peak memory in bytes)."""

    failures: Mapping[str, ClipFailure] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> bytes:
        return json.dumps(
            {
                "failures": [asdict(failure) for failure in self.failures.values()],
                "figures": dict(self.figures),
            }
        ).encode()

    @classmethod
    def read(cls, store: ObjectStore, job_id: str) -> "JobReport":
        """The report of a job; an empty one when its worker left none."""
        try:
            document = json.loads(store.get(report_key(job_id)))
        except ObjectMissing:
            return cls()
        failures = [ClipFailure(**row | {"kind": FailureKind(row["kind"])}) for row in document["failures"]]
        return cls({failure.request_key: failure for failure in failures}, document["figures"])


def clip_key(prefix: str, key: str) -> str:
    return f"{prefix}/{key}.mp4"


def note_key(prefix: str, key: str) -> str:
    """Where a clip's `ClipResult` lies. Written after the clip: where it is, the clip is whole."""
    return f"{prefix}/{key}.json"


def write_note(store: ObjectStore, prefix: str, result: ClipResult) -> None:
    store.put(note_key(prefix, result.request_key), json.dumps(asdict(result), sort_keys=True).encode())


def finished_clip(store: ObjectStore, prefix: str, key: str) -> ClipResult | None:
    """The result of a clip that exists; None where it has to be made."""
    try:
        result = ClipResult(**json.loads(store.get(note_key(prefix, key))))
    except (ObjectMissing, ValueError, TypeError):
        return None
    return result if store.exists(result.object_key) else None


def sha256_of(store: ObjectStore, key: str) -> str:
    digest = hashlib.sha256()
    for chunk in store.iter_chunks(key):
        digest.update(chunk)
    return digest.hexdigest()


def collect(store: ObjectStore, job: ClipJob) -> list[Outcome | None]:
    """What became of each request; None where there is neither a clip nor a stated failure.

    A clip counts only if the object holds the bytes its result names.
    """
    failures = JobReport.read(store, job.job_id).failures
    outcomes: list[Outcome | None] = []
    for key, _ in job.keyed():
        made = finished_clip(store, job.prefix, key)
        if made is not None and sha256_of(store, made.object_key) == made.sha256:
            outcomes.append(made)
        else:
            outcomes.append(failures.get(key))
    return outcomes


def all_outcomes(store: ObjectStore, job: ClipJob) -> list[Outcome]:
    """The outcome of every request. Raises TransientError `clips_missing` where a worker left one without."""
    outcomes = collect(store, job)
    missing = sum(outcome is None for outcome in outcomes)
    if missing:
        raise TransientError(
            f"The worker ended, but {missing} of {len(outcomes)} clips are not in {store.url}.",
            code="clips_missing",
            remedy="It is tried again by itself. If it lasts, check that worker and orderer use the same store.",
        )
    return [outcome for outcome in outcomes if outcome is not None]


def finished_before(store: ObjectStore, job: ClipJob) -> list[Outcome] | None:
    """All results, where every clip of the job exists already; else None."""
    found = [finished_clip(store, job.prefix, key) for key, _ in job.keyed()]
    return [result for result in found if result is not None] if all(found) else None


def make_job(job_id: str, engine: str, model: str, requests: Sequence[ClipRequest]) -> ClipJob:
    """A job that was read back as the worker will, so that a bad request fails before a GPU is asked for."""
    return ClipJob.from_json(ClipJob(job_id, engine, model, tuple(requests)).as_json())
