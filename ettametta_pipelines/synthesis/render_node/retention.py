"""Removes clips of a render node that are old or too many, once those who ordered them have them.

A clip may go when every job it belongs to is done and, for each of them, it was handed out whole or the webhook was
taken long enough ago. What nobody fetched and nobody was told of stays, whatever the limits say. There is no list of
what was removed: a clip that a done job made and that is not there was. Called by `server.py`'s housekeeping.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import RenderFetch, RenderJob
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectMissing, ObjectStore
from ettametta_pipelines.synthesis.job import ClipJob, JobReport, clip_key, finished_clip, note_key

REMOVED = (
    "This clip was removed some time after it was handed out; order the job again under the same idempotency key, "
    "and it is made again."
)


@dataclass(frozen=True)
class Limits:
    """Seconds a clip is kept, bytes all clips may have, and seconds from the webhook's being taken to a removal."""

    age_s: float
    total_bytes: int
    grace_s: float

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        return cls(
            settings.render_node_keep_days * 86_400,
            int(settings.render_node_keep_gb * 1e9),
            settings.render_node_grace_s,
        )


@dataclass(frozen=True)
class _Clip:
    """A clip that is there: the jobs it belongs to, when the last of them ended, None while one has not."""

    prefix: str
    key: str
    size: int
    ended_at: datetime | None
    may_go: bool


def remove_old(db: StateDatabase, store: ObjectStore, limits: Limits) -> int:
    """Remove what is beyond the limits and may go; how many clips. Cut off, it goes on with the next call."""
    with db.session(write=False) as session:
        if not _beyond(
            _there(session, store, limits, db.now(session)), limits, db.now(session)
        ) and not _empty(session, store):
            return 0
    # Judged again under the ledger's lock: no job that would take such a clip for made is accepted meanwhile.
    with db.session() as session:
        gone = _beyond(_there(session, store, limits, db.now(session)), limits, db.now(session))
        for clip in gone:
            # The note first: a clip without one is made again, a note without its clip is a mistake.
            store.delete(note_key(clip.prefix, clip.key))
            store.delete(clip_key(clip.prefix, clip.key))
        for row in _empty(session, store):
            row.cleared_at = db.now(session)
    return len(gone)


def removed(store: ObjectStore, job: ClipJob) -> Sequence[str]:
    """Request keys of a done job's clips that are not there any more."""
    failures = JobReport.read(store, job.job_id).failures
    return [
        key for key, _ in job.keyed() if key not in failures and finished_clip(store, job.prefix, key) is None
    ]


def _there(session: Any, store: ObjectStore, limits: Limits, now: datetime) -> Sequence[_Clip]:
    """Clips that are there, those of the longest ended jobs first."""
    rows = session.scalars(sa.select(RenderJob).where(RenderJob.cleared_at.is_(None))).all()
    fetches = sa.select(RenderFetch.job_id, RenderFetch.request_key).where(
        RenderFetch.fetched_at.is_not(None)
    )
    fetched = set(session.execute(fetches).tuples())
    told_before = now - timedelta(seconds=limits.grace_s)
    owners: dict[tuple[str, str], list[RenderJob]] = defaultdict(list)
    for row in rows:
        job = _job(row)
        for key, _ in job.keyed():
            owners[job.prefix, key].append(row)
    found = []
    for (prefix, key), jobs in owners.items():
        try:
            size = store.head(clip_key(prefix, key)).size
        except ObjectMissing:
            continue
        ended = [row.finished_at for row in jobs if row.state == "done" and row.finished_at is not None]
        is_had = all(
            (row.id, key) in fetched or (row.told_at is not None and row.told_at <= told_before)
            for row in jobs
        )
        all_done = len(ended) == len(jobs)
        found.append(_Clip(prefix, key, size, max(ended) if all_done else None, all_done and is_had))
    return sorted(found, key=lambda clip: clip.ended_at or now)


def _beyond(clips: Sequence[_Clip], limits: Limits, now: datetime) -> Sequence[_Clip]:
    held, gone = sum(clip.size for clip in clips), []
    oldest = now - timedelta(seconds=limits.age_s)
    for clip in clips:
        is_old = clip.ended_at is not None and clip.ended_at <= oldest
        if clip.may_go and (is_old or held > limits.total_bytes):
            gone.append(clip)
            held -= clip.size
    return gone


def _empty(session: Any, store: ObjectStore) -> Sequence[RenderJob]:
    """Done jobs that have no clip any more and are not marked so."""
    query = sa.select(RenderJob).where(RenderJob.state == "done", RenderJob.cleared_at.is_(None))
    return [
        row
        for row in session.scalars(query)
        if not any(store.exists(clip_key(_job(row).prefix, key)) for key, _ in _job(row).keyed())
    ]


def _job(row: RenderJob) -> ClipJob:
    return ClipJob.from_json(json.dumps(row.document))
