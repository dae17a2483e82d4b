"""Makes planned clips: orders, waits, fetches, checks and keeps them, and hands them in like any upload.

Every clip ends in the object store under `media/clips/{engine}/{request_key}.mp4` with its `ClipResult` beside it as
JSON, written last: where that is, the clip is whole and is not made again. What is ordered from a vendor goes through
`state/clip_orders.py` first. One clip's failure is its own outcome and stops no other. Called by `assets.py`.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeVar

from ettametta_pipelines.clock import Clock, rfc3339
from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.failures import (
    FailureKind,
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.media.inbox import drop_upload, source_id_of
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.media.sidecar import MAX_TITLE
from ettametta_pipelines.state import clip_orders as orders
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.budget import Budget, BudgetSpent
from ettametta_pipelines.state.clip_orders import Order
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines.storage.objects import ObjectExists, ObjectStore
from ettametta_pipelines.synthesis import job
from ettametta_pipelines.synthesis.engines import cinematic
from ettametta_pipelines.synthesis.engines.remote import Delivery, RemoteEngine
from ettametta_pipelines.synthesis.gpu_time import note_gpu_time
from ettametta_pipelines.synthesis.requests import (
    ClipFailure,
    ClipRequest,
    ClipResult,
    ClipRunner,
    request_key,
)
from ettametta_pipelines.untrusted import plain_text

SANDBOX = "sandbox"
# Failures after which no other engine is tried: what one vendor refuses to show is not taken to the next, and a clip
# that may exist is not made a second time.
FINAL_CODES = frozenset({"content_refused", "clip_overdue", orders.ANSWER_LOST})
# What a look may say that ends an order. Anything else (a refused key, a wrong address) is said of the look, and the
# clip is still being made and paid for.
ENDED = frozenset({"content_refused", "clip_failed", "clip_expired"})
# How much longer or shorter than ordered a clip may be without a word about it.
LENGTH_SLACK_S = 0.5


@dataclass(frozen=True)
class Ask:
    """One planned clip: who makes it, of what, for whom, for how much. `partition` is where it was planned."""

    plan_id: str
    engine: str
    model: str
    mode: str
    request: ClipRequest
    quote_microusd: int
    account: str
    partition: str
    again: bool = False

    @property
    def key(self) -> str:
        """Name of the clip. What the sandbox makes has another one, so that it never passes for the real thing."""
        model = f"{self.model}@{SANDBOX}" if self.mode == SANDBOX else self.model
        return request_key(self.engine, model, self.request)


@dataclass(frozen=True)
class Unmade:
    """A clip there is not (yet): pending, failed or parked, and why."""

    state: str
    kind: FailureKind
    code: str
    message: str
    remedy: str = ""

    @property
    def allows_another_engine(self) -> bool:
        return self.state == "failed" and self.code not in FINAL_CODES


Outcome = ClipResult | Unmade


@dataclass(frozen=True)
class Workshop:
    """What clips are made with. `patience_s` is how long finished clips are waited for in one run."""

    db: StateDatabase
    store: ObjectStore
    scratch: Path
    budget_of: Callable[[str, str], Budget]
    clock: Clock
    patience_s: float = 900.0
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    say: Callable[[str], object] = field(default=lambda _: None, repr=False)


def clip_key(ask: Ask) -> str:
    return f"media/clips/{ask.engine}/{ask.key}.mp4"


def finished_clip(store: ObjectStore, ask: Ask) -> ClipResult | None:
    """The clip of an ask if it exists whole."""
    return job.finished_clip(store, f"media/clips/{ask.engine}", ask.key)


def keep_clip(
    workshop: Workshop, ask: Ask, path: Path, cost_of: Callable[[float], int], provenance: Mapping[str, str]
) -> ClipResult:
    """Check a file as uploads are checked, store it and its result. Raises PermanentError with the probe's reason.

    `cost_of` gives what so many seconds of video cost. Where the clip is not what was ordered, its provenance says so.
    """
    probe = require_probe(path, name=f"the clip of {ask.engine}")
    if differs := differences(ask.request, probe):
        workshop.say(f"{ask.engine} delivered {differs}.")
        provenance = {**provenance, "differs": differs}
    key = clip_key(ask)
    with suppress(ObjectExists):
        workshop.store.put_file(key, path, create=True, content_type="video/mp4")
    made = ClipResult(
        engine=ask.engine,
        model=ask.model,
        request_key=ask.key,
        object_key=key,
        sha256=file_sha256(path),
        seed=ask.request.seed,
        width=probe.width,
        height=probe.height,
        fps=probe.fps,
        frames=probe.frames,
        has_audio=probe.has_audio,
        cost_microusd=cost_of(probe.duration_s),
        provenance={"mode": ask.mode, "made_at": rfc3339(workshop.clock()), **provenance},
    )
    note = json.dumps(asdict(made), sort_keys=True).encode()
    workshop.store.put(key.removesuffix(".mp4") + ".json", note, content_type="application/json")
    return made


def differences(request: ClipRequest, probe: Probe) -> str:
    """How a delivered clip is another than was asked for, in words; "" where it is the same as far as one sees."""
    found = []
    if (probe.width, probe.height) != (request.width, request.height):
        found.append(f"{probe.width}x{probe.height} instead of {request.width}x{request.height}")
    if abs(probe.duration_s - request.seconds) > LENGTH_SLACK_S:
        found.append(f"{probe.duration_s:.1f} s instead of {request.seconds:g} s")
    return ", ".join(found)


def make_cinematic(workshop: Workshop, asks: Sequence[Ask]) -> dict[str, Outcome]:
    """Move the stills of asks, one after another; by plan id."""
    return {ask.plan_id: _guarded(lambda ask=ask: _moved(workshop, ask)) for ask in asks}  # type: ignore[misc]


def _moved(workshop: Workshop, ask: Ask) -> ClipResult:
    made = finished_clip(workshop.store, ask)
    if made is not None:
        return made
    if ask.request.image_key is None:
        raise PermanentError(
            "There is no still to move.", code="no_still", remedy="Name a still, or another engine."
        )
    still = workshop.store.get(ask.request.image_key)
    with private_dir(workshop.scratch, "cinematic") as workdir:
        path = workdir / "clip.mp4"
        move = cinematic.make_clip(ask.request, still, path)
        return keep_clip(workshop, ask, path, lambda _: 0, {"move": move})


def make_on_gpu(workshop: Workshop, runner: ClipRunner, asks: Sequence[Ask]) -> dict[str, Outcome]:
    """Work off asks of one engine and model in one job, which is named by its clips; by plan id.

    The job has all of them, also those that are made, which its worker skips: a run that was killed in the middle is
    followed by one with the same job, which finds the pod or the node that is still at it.
    """
    outcomes: dict[str, Outcome] = {
        ask.plan_id: made for ask in asks if (made := finished_clip(workshop.store, ask)) is not None
    }
    if len(outcomes) == len(asks):
        return outcomes
    asks = sorted(asks, key=lambda ask: ask.key)
    first, requests = asks[0], [ask.request for ask in asks]
    job_id = request_key(first.engine, " ".join(ask.key for ask in asks), first.request)
    told: Sequence[ClipResult | ClipFailure | Unmade]
    try:
        told = runner.run(job_id, first.engine, first.model, requests)
    except PipelineError as error:
        # What it made before is there all the same.
        told = [finished_clip(workshop.store, ask) or unmade(error) for ask in asks]
    fresh = [(ask, one) for ask, one in zip(asks, told, strict=True) if ask.plan_id not in outcomes]
    note_gpu_time(workshop.db, (one for _, one in fresh if isinstance(one, ClipResult)))
    return outcomes | {ask.plan_id: _guarded(lambda one=one: _checked(workshop, one)) for ask, one in fresh}  # type: ignore[misc]


def _checked(workshop: Workshop, told: ClipResult | ClipFailure | Unmade) -> Outcome:
    """A runner's clip counts once it passed the probe that uploads pass."""
    if isinstance(told, Unmade):
        return told
    if isinstance(told, ClipFailure):
        state = "pending" if told.kind is FailureKind.TRANSIENT else "failed"
        return Unmade(state, told.kind, told.code, told.message, told.remedy)
    with private_dir(workshop.scratch, "clip") as workdir:
        path = workdir / "clip.mp4"
        workshop.store.download(told.object_key, path)
        if file_sha256(path) != told.sha256:
            raise TransientError(
                f"{told.object_key} is not the clip that was reported.",
                code="clip_changed",
                remedy="Materialize synthesized_clips again.",
            )
        require_probe(path, name=f"the clip of {told.engine}")
    return told


def make_remote(workshop: Workshop, engine: RemoteEngine, asks: Sequence[Ask]) -> dict[str, Outcome]:
    """Order every ask, then wait for all of them together; by plan id. An ask whose order runs is not ordered again.

    What is not finished within the patience is pending: the next run goes on with the same order.
    """
    outcomes: dict[str, Outcome] = {}
    running = []
    for ask in asks:
        outcome = _guarded(lambda ask=ask: _ordered(workshop, engine, ask))  # type: ignore[misc]
        if outcome is None:
            running.append(ask)
        else:
            outcomes[ask.plan_id] = outcome
    give_up_at = time.monotonic() + workshop.patience_s
    while running:
        for ask in list(running):
            outcome = _guarded(lambda ask=ask: _looked(workshop, engine, ask))  # type: ignore[misc]
            if outcome is not None:
                running.remove(ask)
                outcomes[ask.plan_id] = outcome
        if running and time.monotonic() > give_up_at:
            break
        if running:
            workshop.say(f"{engine.engine}: {len(running)} of {len(asks)} clips are being made.")
            workshop.sleep(engine.poll_s)
    for ask in running:
        outcomes[ask.plan_id] = Unmade(
            "pending", FailureKind.TRANSIENT, "still_running", f"{engine.engine} is not finished yet.",
            "It is fetched by itself when it is.",
        )  # fmt: skip
    return outcomes


def _ordered(workshop: Workshop, engine: RemoteEngine, ask: Ask) -> Outcome | None:
    """None once the order runs at the vendor; else the clip, or why there is none."""
    made = finished_clip(workshop.store, ask)
    order = Order(ask.key, ask.engine, ask.model, ask.partition, ask.quote_microusd)
    standing = orders.find_order(workshop.db, ask.key)
    if standing is None or standing.state == orders.FAILED:
        if made is not None:
            return made
        budget = workshop.budget_of(ask.account, ask.mode)
        standing = orders.open_order(workshop.db, budget, order, workshop.clock, again=ask.again)
    if made is not None:
        # The clip was kept and the process died before the order was closed.
        orders.finish(workshop.db, ask.key, made.cost_microusd)
        return made
    if standing.is_dead:
        lost = f"The process that ordered {ask.key} from {ask.engine} died before it had an answer."
        orders.park(workshop.db, ask.key, orders.ANSWER_LOST, lost)
        raise _parked(lost)
    if standing.state == orders.PARKED:
        raise _parked(standing.reason or "")
    if standing.state == orders.FAILED:
        raise PermanentError(
            standing.reason or "It failed before.",
            code=standing.reason_code or "clip_failed",
            remedy="Plan it again with ask_again, or change the prompt.",
        )
    if standing.state == orders.DONE:
        raise PermanentError(
            f"The clip {ask.key} was made and paid for, but is not in the store any more.",
            code="clip_missing",
            remedy="Restore the object from a backup, or order another seed.",
        )
    if standing.state == orders.OPEN and orders.begin_sending(workshop.db, ask.key):
        _send(workshop, engine, ask)
        return None
    if standing.state == orders.RUNNING:
        return None
    raise TransientError(
        f"Another run is ordering {ask.key}.", code="being_ordered", remedy="It is looked at again by itself."
    )


def _send(workshop: Workshop, engine: RemoteEngine, ask: Ask) -> None:
    """Send the order, once; whatever comes of it is in the database before this ends."""
    key = ask.key
    try:
        image = workshop.store.get(ask.request.image_key) if ask.request.image_key else None
        operation = engine.submit(ask.request, image)
    except OutcomeUnknownError as error:
        orders.park(workshop.db, key, error.code, error.message)
        raise _parked(error.message) from error
    except PipelineError as error:
        if error.kind is FailureKind.TRANSIENT:
            orders.not_sent(workshop.db, key, error.code, error.message)
        else:
            orders.fail(workshop.db, key, error.code, error.message)
        raise
    except BaseException as error:
        orders.park(workshop.db, key, orders.ANSWER_LOST, f"Ordering ended with {type(error).__name__}.")
        raise
    # First to the run's log: should the database be away now, a person finds there what the vendor calls it.
    workshop.say(f"{ask.engine} took the order {key} and calls it {operation}.")
    orders.note_operation(workshop.db, key, operation)


def _looked(workshop: Workshop, engine: RemoteEngine, ask: Ask) -> Outcome | None:
    standing = orders.find_order(workshop.db, ask.key)
    assert standing is not None
    assert standing.operation_id is not None
    delivery, trouble = None, None
    try:
        delivery = engine.look(standing.operation_id, ask.request)
    except PipelineError as error:
        if error.code in ENDED:
            # A clip that is over was paid for; one that failed or was refused is not charged.
            cost = ask.quote_microusd if error.code == "clip_expired" else 0
            orders.fail(workshop.db, ask.key, error.code, error.message, cost_microusd=cost)
            raise
        trouble = unmade(error, is_ordered=True)
    if delivery is not None:
        return _fetched(workshop, ask, standing.operation_id, delivery)
    # A key that is refused hides how the order stands; a person mends that.
    if standing.is_overdue and (trouble is None or trouble.kind is not FailureKind.NEEDS_PERSON):
        overdue = PermanentError(
            f"{ask.engine} has not finished {standing.operation_id} in {orders.OVERDUE.days} day.",
            code="clip_overdue",
            remedy="Look in the vendor's console; order it again with ask_again. Its quote counts as spent.",
        )
        orders.fail(workshop.db, ask.key, overdue.code, overdue.message, cost_microusd=ask.quote_microusd)
        raise overdue
    return trouble


def _fetched(workshop: Workshop, ask: Ask, operation: str, delivery: Delivery) -> Outcome:
    with private_dir(workshop.scratch, "clip") as workdir:
        path = workdir / "clip.mp4"
        try:
            delivery.fetch(path)
            made = keep_clip(
                workshop,
                ask,
                path,
                delivery.cost_of,
                {"operation_id": operation, **delivery.provenance},
            )
        except PermanentError as error:
            paid = delivery.cost_of(ask.request.seconds)
            orders.fail(workshop.db, ask.key, error.code, error.message, cost_microusd=paid)
            raise
        except PipelineError as error:
            return unmade(error, is_ordered=True)
    orders.finish(workshop.db, ask.key, made.cost_microusd)
    return made


def _parked(why: str) -> NeedsPersonError:
    return NeedsPersonError(
        why,
        code=orders.ANSWER_LOST,
        remedy="Look in the vendor's console; then materialize synthesis_plans with `found_orders`: the request key "
        "and the order's id, or `none` where there is no such order.",
    )


T = TypeVar("T")


def _guarded(make: Callable[[], T]) -> T | Unmade:
    try:
        return make()
    except PipelineError as error:
        return unmade(error)


def unmade(error: PipelineError, *, is_ordered: bool = False) -> Unmade:
    """The outcome a failure means for one clip. While its order runs at a vendor, no failure of ours ends it."""
    state = "failed"
    if error.code == orders.ANSWER_LOST or (is_ordered and error.kind is not FailureKind.TRANSIENT):
        state = "parked"
    elif error.kind is FailureKind.TRANSIENT and not isinstance(error, BudgetSpent):
        state = "pending"
    return Unmade(state, error.kind, error.code, error.message, error.remedy)


def is_ordered(workshop: Workshop, ask: Ask) -> bool:
    """Whether a vendor has, or may have, an order for this clip that has no end yet."""
    standing = orders.find_order(workshop.db, ask.key)
    return standing is not None and standing.state in (orders.SENDING, orders.RUNNING, orders.PARKED)


def hand_in(
    workshop: Workshop,
    made: ClipResult,
    *,
    account: str,
    niche: str,
    niches: Sequence[str],
    day: date,
    stated: Mapping[str, str | None],
) -> tuple[str, str, bool]:
    """Put a clip under `uploads/`, where intake takes it as it takes any upload; (source id, object key, if it is new).

    A clip that lies there, or that intake took before, is not put there again.
    """
    name = f"{made.engine}-{made.request_key}.mp4"
    key = f"uploads/{account}/{niche}/{day:%Y/%m/%d}/{name}"
    source_id = source_id_of(account, made.sha256)
    with workshop.db.session(write=False) as session:
        is_taken = uploads.for_source(session, source_id) is not None
    if is_taken or workshop.store.exists(key):
        return source_id, key, False
    with private_dir(workshop.scratch, "hand-in") as workdir:
        path = workdir / name
        workshop.store.download(made.object_key, path)
        said = {**stated, "title": plain_text(stated.get("title") or "Untitled", MAX_TITLE)}
        drop_upload(workshop.store, path, account=account, niche=niche, niches=niches, day=day, stated=said)
    return source_id, key, True
