"""Plays scenarios to their end, compares what the ledger says with what was really posted, and tells it as a table.

A scenario ends when the publication rests: workers are started again and time passes, as schedules and people would
have it. Then one more worker runs over it, as a backfill of published partitions does, and nothing may change.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ettametta_pipelines_tests.faults.arena import Arena, Truth
from ettametta_pipelines_tests.faults.scenarios import Scenario
from ettametta_pipelines_tests.faults.worker import Ended, Job, await_worker, fork_worker

MOST_RESTARTS = 14
WHILE_FROZEN = 4
RESTS = frozenset({"PUBLISHED", "NEEDS_REVIEW", "FAILED_DEFINITE", "INCIDENT"})
DEAD_GRANTS = frozenset({"reauth_required"})


class Verdict(StrEnum):
    EXACTLY_ONCE = "exactly once"
    PARKED = "parked"
    DUPLICATE = "duplicate"
    LOST = "lost"
    FALSE = "false published"
    PARKED_WRONGLY = "parked, though knowable"
    UNSHOWN = "thumbnail missing"
    NOT_REACHED = "point not reached"


GOOD = frozenset({Verdict.EXACTLY_ONCE, Verdict.PARKED, Verdict.NOT_REACHED})


@dataclass(frozen=True)
class Played:
    """A scenario and what became of it; `why` for a person who looks into it."""

    scenario: Scenario
    verdict: Verdict
    why: str


def play(arena: Arena, scenario: Scenario) -> Played:
    """One scenario from a clean place to rest."""
    job = arena.start(scenario.platform, () if scenario.family == "restored" else scenario.fault.rules)
    if scenario.point is not None and scenario.point.what == "refresh":
        arena.expire_token(job)
    reached = FAMILIES[scenario.family](arena, scenario, job)
    if not reached:
        return Played(scenario, Verdict.NOT_REACHED, "")
    told = _until_it_rests(arena, job)
    return _judged(arena, scenario, job, told)


def _struck(arena: Arena, scenario: Scenario, job: Job) -> bool:
    return arena.run(job, scenario.point).reached or scenario.point is None


def _restored(arena: Arena, scenario: Scenario, job: Job) -> bool:
    first = arena.run(job, scenario.point)
    _until_it_rests(arena, job)
    if scenario.point is None:
        arena.lose_rows()
    elif first.reached:
        arena.restore()
    if scenario.crash == "copy of long ago":
        arena.age_session(job)
    arena.faults(job.platform, scenario.fault.rules)
    arena.forget(scenario.fault.forgets)
    return first.reached or scenario.point is None


def _frozen(arena: Arena, scenario: Scenario, job: Job) -> bool:
    """One worker stops at the point; its lease ends and another does the work; then the first one goes on."""
    pid, reading = fork_worker(job, scenario.point)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        os.close(reading)
        return False
    # Some of it cannot be done while the first one holds the connection to the session.
    _until_it_rests(arena, job, WHILE_FROZEN)
    os.kill(pid, signal.SIGCONT)
    await_worker(pid, reading)
    return True


def _racing(arena: Arena, scenario: Scenario, job: Job) -> bool:
    """Two workers at the same time; which of them wins is the machine's choice."""
    for started in [fork_worker(job, None), fork_worker(job, None)]:
        await_worker(*started)
    return True


FAMILIES = {"kill": _struck, "restored": _restored, "frozen": _frozen, "racing": _racing}


def _until_it_rests(arena: Arena, job: Job, most: int = MOST_RESTARTS) -> list[dict[str, Any]]:
    """Start workers until the publication is settled; what each of them told."""
    told: list[dict[str, Any]] = []
    for _ in range(most):
        row = arena.row(job)
        if row is not None and row["state"] in RESTS:
            break
        arena.pass_time(job)
        ended = arena.run(job)
        told.append({k: v for k, v in ended.told.items() if k != "trace"})
        if ended.told.get("error") in DEAD_GRANTS:
            arena.reconnect(job)
    return told


def _judged(arena: Arena, scenario: Scenario, job: Job, told: list[dict[str, Any]]) -> Played:
    row, before = arena.row(job) or {"state": "no row", "remote_id": None}, arena.truth(job)
    again: Ended = arena.run(job)
    truth = arena.truth(job)
    verdict = _verdict(scenario, row, truth)
    is_changed = truth.posts != before.posts or again.told.get("state") != row["state"]
    if is_changed and row["state"] in RESTS:
        verdict = Verdict.DUPLICATE if len(truth.posts) > 1 else Verdict.LOST
    if verdict is Verdict.EXACTLY_ONCE and not truth.shown:
        verdict = Verdict.UNSHOWN
    if verdict in GOOD:
        return Played(scenario, verdict, "")
    why = f"ledger {row}, platform {truth}, workers {told}, again {again.told.get('error')}"
    return Played(scenario, verdict, why)


def _verdict(scenario: Scenario, row: dict[str, Any], truth: Truth) -> Verdict:
    if len(truth.posts) > 1:
        return Verdict.DUPLICATE
    if row["state"] == "NEEDS_REVIEW":
        fault = scenario.fault
        is_right = fault.unknowable or (fault.unprovable and not truth.posts)
        return Verdict.PARKED if is_right else Verdict.PARKED_WRONGLY
    if row["state"] != "PUBLISHED":
        return Verdict.LOST
    is_right = truth.whole and len(truth.posts) == 1 and row["remote_id"] in (None, *truth.posts)
    return Verdict.EXACTLY_ONCE if is_right else Verdict.FALSE


def play_all(
    arena: Arena, chosen: Iterable[Scenario], *, tell: Callable[[Played], None] = lambda _: None
) -> list[Played]:
    """All of them in turn; `tell` hears of each when it is over."""
    played = []
    for scenario in chosen:
        played.append(play(arena, scenario))
        tell(played[-1])
    return played


COLUMNS = (
    Verdict.EXACTLY_ONCE, Verdict.PARKED, Verdict.DUPLICATE, Verdict.LOST, Verdict.FALSE, Verdict.PARKED_WRONGLY,
    Verdict.UNSHOWN,
)  # fmt: skip


def table(played: Iterable[Played]) -> str:
    """Counts by crash point, by fault and in all; scenarios whose point was not reached are no scenarios."""
    counted = [p for p in played if p.verdict is not Verdict.NOT_REACHED]
    lines = [_line("", ("scenarios", *COLUMNS))]
    for heading, key in (
        ("by crash point", lambda p: f"{p.scenario.family}: {p.scenario.crash}"),
        ("by fault", lambda p: f"{p.scenario.platform}: {p.scenario.fault.name}"),
        ("by platform", lambda p: p.scenario.platform),
    ):
        lines += ["", heading]
        groups: dict[str, Counter[Verdict]] = {}
        for each in counted:
            groups.setdefault(key(each), Counter())[each.verdict] += 1
        lines += [_counts(name, groups[name]) for name in sorted(groups, key=_natural)]
    return "\n".join([*lines, "", _counts("all", Counter(p.verdict for p in counted))])


def _counts(name: str, counts: Counter[Verdict]) -> str:
    return _line(name, (str(counts.total()), *(str(counts[verdict] or "-") for verdict in COLUMNS)))


def _line(name: str, cells: Iterable[str]) -> str:
    return f"{name:<58}" + "".join(f"{cell:>{max(len(cell), 14) + 1}}" for cell in cells)


def _natural(name: str) -> list[Any]:
    import re

    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
