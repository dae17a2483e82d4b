"""The ledger of a render node's jobs: accepted once, claimed by one worker, run again once when that is lost.

    queued -> running -> done        and to the queue again when it is ordered anew and a clip is missing: it was
                                     removed since, or its shot had failed
       ^         |-----> parked      the input's fault, or lost twice: waits for somebody to ask again
       '---------'                   the worker stopped, or was lost for the first time

The queue only carries ids; whatever it loses or repeats, a job moves on here or not at all.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.failures import FailureKind, PermanentError, PipelineError
from ettametta_pipelines.state.models import DatabaseNow, RenderFetch, RenderJob
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent
from ettametta_pipelines.synthesis.job import ClipJob, job_slug

MAX_LOSSES = 1
MAX_WEBHOOK_TRIES = 12
FIRST_WEBHOOK_WAIT_S = 2.0
LONGEST_WEBHOOK_WAIT_S = 900.0


def accept(db: StateDatabase, key: str, job: ClipJob) -> RenderJob:
    """The job of an idempotency key: a new one, or the one that was accepted before.

    Raises PermanentError `idempotency_key_reused` when the key came with another job.
    """
    document = json.loads(job.as_json())
    with db.session() as session:
        row = {
            "id": job_slug(key), "idempotency_key": key, "document": document, "state": "queued", "attempt": 0,
            "losses": 0, "webhook_tries": 0, "created_at": db.now(session),
        }  # fmt: skip
        insert_if_absent(session, RenderJob, row)
        known = session.get_one(RenderJob, row["id"])
        if known.document != document:
            raise PermanentError(
                f"The idempotency key {key!r} belongs to another job.",
                code="idempotency_key_reused",
                remedy="Use a new key for a new job.",
            )
        return known


def find(db: StateDatabase, job_id: str) -> RenderJob | None:
    with db.session(write=False) as session:
        return session.get(RenderJob, job_id)


def ask_again(db: StateDatabase, job_id: str) -> RenderJob | None:
    """A parked job goes to the queue once more; any other stays as it is."""
    with db.session() as session:
        session.execute(
            sa.update(RenderJob)
            .where(RenderJob.id == job_id, RenderJob.state == "parked")
            .values(state="queued", losses=0, error=None, sent_at=None, finished_at=None, webhook_due_at=None)
        )
    return find(db, job_id)


def make_again(db: StateDatabase, job_id: str) -> RenderJob | None:
    """A done job goes to the queue once more, for what is missing of it; any other stays as it is."""
    with db.session() as session:
        session.execute(sa.delete(RenderFetch).where(RenderFetch.job_id == job_id))
        session.execute(
            sa.update(RenderJob)
            .where(RenderJob.id == job_id, RenderJob.state == "done")
            .values(
                state="queued", losses=0, sent_at=None, finished_at=None, webhook_due_at=None, cleared_at=None
            )
        )
    return find(db, job_id)


def note_sent(db: StateDatabase, job_id: str, key: str, start: int, count: int, size: int) -> None:
    """So many bytes of a clip went out, from `start`. It is fetched once they are all of it without a gap: whoever was
    cut off goes on where it was."""
    with db.session() as session:
        insert_if_absent(session, RenderFetch, {"job_id": job_id, "request_key": key, "sent": 0})
        row = session.get_one(RenderFetch, (job_id, key), with_for_update=True)
        if start <= row.sent:
            row.sent = max(row.sent, start + count)
        if row.sent >= size and row.fetched_at is None:
            row.fetched_at = db.now(session)


def claim(db: StateDatabase, job_id: str, holder: str, lease_s: float) -> RenderJob | None:
    """The job, now this holder's; None when it is not to be had (done, at work elsewhere, or repeated by the queue)."""
    with db.session() as session:
        claimed = session.execute(
            sa.update(RenderJob)
            .where(RenderJob.id == job_id, RenderJob.state == "queued")
            .values(
                state="running",
                attempt=RenderJob.attempt + 1,
                holder=holder,
                lease_until=DatabaseNow(lease_s),
                progress=None,
            )
            .returning(RenderJob.id)
        ).first()
        return session.get(RenderJob, job_id) if claimed else None


def beat(db: StateDatabase, job: RenderJob, lease_s: float, progress: Mapping[str, Any] | None) -> bool:
    """Hold on to a job and say how far it is; False when it has been taken away."""
    with db.session() as session:
        held = session.execute(
            _of_attempt(job)
            .values(lease_until=DatabaseNow(lease_s), progress=progress)
            .returning(RenderJob.id)
        )
        return held.first() is not None


def finish(db: StateDatabase, job: RenderJob) -> None:
    with db.session() as session:
        session.execute(_of_attempt(job).values(**_ended("done")))


def give_back(db: StateDatabase, job: RenderJob) -> None:
    """The worker stops in good order: the job goes back to the queue, and this was no loss."""
    with db.session() as session:
        session.execute(_of_attempt(job).values(state="queued", holder=None, lease_until=None, sent_at=None))


def fail(db: StateDatabase, job: RenderJob, error: PipelineError) -> None:
    """What is transient is tried once more; everything else is parked with its reason."""
    with db.session() as session:
        if error.kind is FailureKind.TRANSIENT and job.losses < MAX_LOSSES:
            _lose(session, _of_attempt(job))
            return
        reason = {
            "kind": error.kind.value, "code": error.code, "message": error.message, "remedy": error.remedy,
        }  # fmt: skip
        session.execute(_of_attempt(job).values(**_ended("parked"), error=reason))


def _of_attempt(job: RenderJob) -> sa.Update:
    return sa.update(RenderJob).where(
        RenderJob.id == job.id, RenderJob.state == "running", RenderJob.attempt == job.attempt
    )


def _ended(state: str) -> dict[str, Any]:
    return {
        "state": state, "lease_until": None, "finished_at": DatabaseNow(), "webhook_tries": 0,
        "webhook_due_at": DatabaseNow(), "told_at": None,
    }  # fmt: skip


def _lose(session: Any, update: sa.Update) -> None:
    session.execute(
        update.values(
            state="queued", holder=None, lease_until=None, sent_at=None, losses=RenderJob.losses + 1
        )
    )


LOST = {
    "kind": FailureKind.TRANSIENT.value,
    "code": "render_worker_lost",
    "message": "The worker was lost twice while it made these clips.",
    "remedy": "Look at the node's log and memory, then order the job again.",
}


def holders(db: StateDatabase) -> Sequence[str]:
    """Who is said to be at work."""
    with db.session(write=False) as session:
        query = sa.select(RenderJob.holder).where(RenderJob.state == "running").distinct()
        return [holder for holder in session.scalars(query) if holder]


def take_back_lost(db: StateDatabase, *, gone: Sequence[str] = ()) -> int:
    """Jobs whose worker was not heard of in time or is known to be gone: run again once, then parked. How many."""
    with db.session() as session:
        lost = sa.update(RenderJob).where(
            RenderJob.state == "running",
            sa.or_(RenderJob.lease_until < DatabaseNow(), RenderJob.holder.in_(gone)),
        )
        parked = session.execute(
            lost.where(RenderJob.losses >= MAX_LOSSES)
            .values(**_ended("parked"), error=LOST)
            .returning(RenderJob.id)
        ).all()
        again = session.execute(
            lost.values(
                state="queued", holder=None, lease_until=None, sent_at=None, losses=RenderJob.losses + 1
            ).returning(RenderJob.id)
        ).all()
        return len(parked) + len(again)


def waiting(db: StateDatabase) -> Sequence[str]:
    """Ids of the jobs that wait for a worker, oldest first."""
    with db.session(write=False) as session:
        query = sa.select(RenderJob.id).where(RenderJob.state == "queued").order_by(RenderJob.created_at)
        return session.scalars(query).all()


def not_sent(db: StateDatabase) -> Sequence[str]:
    """Those of the waiting that the queue was not told of."""
    with db.session(write=False) as session:
        query = sa.select(RenderJob.id).where(RenderJob.state == "queued", RenderJob.sent_at.is_(None))
        return session.scalars(query.order_by(RenderJob.created_at)).all()


def mark_sent(db: StateDatabase, job_id: str) -> None:
    with db.session() as session:
        session.execute(sa.update(RenderJob).where(RenderJob.id == job_id).values(sent_at=DatabaseNow()))


def due_notices(db: StateDatabase) -> Sequence[RenderJob]:
    """Ended jobs of which nobody was told yet."""
    with db.session(write=False) as session:
        query = sa.select(RenderJob).where(RenderJob.webhook_due_at <= DatabaseNow())
        return session.scalars(query.order_by(RenderJob.webhook_due_at).limit(50)).all()


def note_notice(db: StateDatabase, job: RenderJob, *, delivered: bool) -> None:
    """After a try: told, to be tried again later, or given up (the orderer looks for itself, too)."""
    tries = job.webhook_tries + 1
    wait = min(FIRST_WEBHOOK_WAIT_S * 2 ** (tries - 1), LONGEST_WEBHOOK_WAIT_S)
    again = None if delivered or tries >= MAX_WEBHOOK_TRIES else DatabaseNow(wait)
    with db.session() as session:
        session.execute(
            sa.update(RenderJob)
            .where(RenderJob.id == job.id, RenderJob.webhook_tries == job.webhook_tries)
            .values(webhook_tries=tries, webhook_due_at=again, told_at=DatabaseNow() if delivered else None)
        )


def counts(db: StateDatabase) -> dict[str, int]:
    """How many jobs are in each state."""
    with db.session(write=False) as session:
        query = sa.select(RenderJob.state, sa.func.count()).group_by(RenderJob.state)
        found = dict(session.execute(query).tuples().all())
    return {state: found.get(state, 0) for state in ("queued", "running", "done", "parked")}
