"""Paid clips, killed at every point under every fault: `python -m ettametta_pipelines_tests.faults.clips`.

A worker orders one clip through the real makers, against the sandbox in a process of its own; a saboteur kills it with
signal 9 before or after one step. Workers without a saboteur follow until the order has an end, and one more after
that. The sandbox counts every order it takes: two for one clip is a double charge. Exit code 1 when there is any.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state import clip_orders as orders
from ettametta_pipelines.state.budget import Budget
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis import making
from ettametta_pipelines.synthesis.engines.remote import RemoteEngine
from ettametta_pipelines.synthesis.engines.siliconflow import SiliconFlowEngine
from ettametta_pipelines.synthesis.engines.veo import VeoEngine
from ettametta_pipelines.synthesis.making import Ask, Workshop
from ettametta_pipelines.synthesis.prices import load_engines
from ettametta_pipelines.synthesis.requests import ClipRequest, ClipResult
from ettametta_pipelines.vendors.google_video import GoogleVideoClient
from ettametta_pipelines.vendors.siliconflow import SiliconFlowClient
from ettametta_pipelines_tests.faults.worker import keep_certificates

MOST_RESTARTS = 8
ACCOUNT, NICHE, DAY = "acme", "cooking", date(2026, 11, 23)


@dataclass(frozen=True)
class Way:
    """One vendor: engine, model, the sandbox's name for it, where it is ordered, where it is looked at."""

    engine: str
    model: str
    vendor: str
    counted: str
    order: str
    look: str


WAYS = (
    Way(
        "siliconflow", "Wan-AI/Wan2.2-T2V-A14B", "siliconflow", "siliconflow", "video/submit", "video/status"
    ),
    Way("veo", "gemini-omni-1.2-flash", "gemini", "interactions", "interactions$", "interactions/"),
    Way("veo", "veo-3.1-fast-generate-001", "vertex", "vertex", "predictLongRunning", "fetchPredict"),
)

# Step -> whether dying there may leave nobody knowing if the order was sent.
POINTS: dict[tuple[str, str], bool] = {
    ("open_order", "before"): False,
    ("open_order", "after"): False,
    ("begin_sending", "before"): False,
    ("begin_sending", "after"): True,
    ("submit", "before"): True,
    ("submit", "after"): True,
    ("note_operation", "before"): True,
    ("note_operation", "after"): False,
    ("look", "before"): False,
    ("look", "after"): False,
    ("keep_clip", "before"): False,
    ("keep_clip", "after"): False,
    ("finish", "before"): False,
    ("finish", "after"): False,
    ("hand_in", "before"): False,
    ("hand_in", "after"): False,
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong beside the kill: a rule of the sandbox for orders or looks, or a word in the prompt.

    `unknowable`: the answer to the order is lost. `ends`: the states the order may then have in the end. `last`: the
    last point a worker comes by that meets the fault.
    """

    name: str
    rule: dict[str, Any] | None = None
    at: str = "order"
    trick: str = ""
    unknowable: bool = False
    ends: tuple[str, ...] = (orders.DONE,)
    last: tuple[str, str] = ("hand_in", "after")


SENT, KEPT = ("submit", "before"), ("keep_clip", "before")
FAULTS = (
    Fault("none"),
    Fault("order taken, answer lost", {"action": "drop_after"}, unknowable=True, ends=(), last=SENT),
    Fault("order taken, 502 after", {"action": "status_after", "status": 502}, unknowable=True, ends=(), last=SENT),
    Fault(
        "order taken, answer unreadable", {"action": "status_after", "status": 200, "body": "<html>"}, unknowable=True,
        ends=(), last=SENT,
    ),
    Fault("order dropped unread", {"action": "drop_before"}, unknowable=True, ends=(), last=SENT),
    Fault("busy: 503", {"status": 503}, last=SENT),
    Fault("busy: 429", {"status": 429}, last=SENT),
    Fault("look lost", {"action": "drop_after"}, at="look"),
    Fault("look answers 500", {"status": 500}, at="look"),
    Fault("refused when ordered", trick="refused", ends=(orders.FAILED,), last=SENT),
    Fault("filtered when finished", trick="filtered", ends=(orders.FAILED,), last=("look", "after")),
    Fault("fails late", trick="fails-late", ends=(orders.FAILED,), last=("look", "after")),
    Fault("no video in the file", trick="no-video", ends=(orders.FAILED,), last=KEPT),
)  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    way: Way
    point: tuple[str, str] | None
    fault: Fault

    @property
    def name(self) -> str:
        point = " ".join(reversed(self.point)) if self.point else "not killed"
        return f"{self.way.counted}: {point}, {self.fault.name}"


def scenarios() -> list[Scenario]:
    places = list(POINTS)
    return [
        Scenario(way, point, fault)
        for way in WAYS
        for fault in FAULTS
        for point in (None, *places[: places.index(fault.last) + 1])
    ]


def sample(count: int, seed: int = 7) -> list[Scenario]:
    """About `count` of them, every point and every fault of every vendor among them as far as they reach."""
    rng = random.Random(seed)
    whole = scenarios()
    rng.shuffle(whole)
    chosen: list[Scenario] = []
    seen: set[object] = set()
    for each in whole:
        marks = {("point", each.point), ("fault", each.fault.name), (each.way.counted, each.point is None)}
        if not marks <= seen:
            seen |= marks
            chosen.append(each)
    return (chosen + [each for each in whole if each not in chosen])[:count]


class Place:
    """A fresh database and store, and the sandbox that all places share."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.database = f"sqlite:///{folder}/state.db"
        (folder / "store").mkdir()
        db = StateDatabase(self.database)
        db.migrate()
        self.db = db
        self.store = ObjectStore.from_url((folder / "store").as_uri())

    def engine(self, way: Way) -> RemoteEngine:
        path = {"siliconflow": "siliconflow/v1", "gemini": "gemini", "vertex": "vertex"}[way.vendor]
        endpoint = VendorEndpoint(
            way.vendor, "sandbox", f"{self.url}/{path}/", "test", timeout_s=5, max_retries=1
        )
        terms = load_engines().engines[way.engine].models[way.model]  # type: ignore[index]
        if way.engine == "siliconflow":
            return SiliconFlowEngine(
                SiliconFlowClient(endpoint, sleep=lambda _: None), way.model, terms, poll_s=0
            )
        assert terms.backend is not None
        return VeoEngine(GoogleVideoClient(endpoint, way.model, terms.backend), terms, poll_s=0)

    def ask(self, scenario: Scenario) -> Ask:
        trick = f" sandbox:{scenario.fault.trick}" if scenario.fault.trick else ""
        seconds = 5.0 if scenario.way.engine == "siliconflow" else 4.0
        request = ClipRequest(f"a tide{trick}", seconds, 720, 1280, 24, 5)
        return Ask("plan", scenario.way.engine, scenario.way.model, "sandbox", request, 500_000, ACCOUNT, "p")


def work(place: Place, scenario: Scenario) -> dict[str, Any]:
    """What one run does with a planned clip: make it and hand it in."""
    engine, ask = place.engine(scenario.way), place.ask(scenario)
    if scenario.point is not None:
        _sabotage(scenario.point, engine)
    budget = Budget("sandbox", ACCOUNT, 1_000_000, 1_000_000, ZoneInfo("UTC"))
    workshop = Workshop(
        StateDatabase(place.database), place.store, place.folder / "scratch", lambda *_: budget, utc_now, patience_s=20
    )  # fmt: skip
    outcome = making.make_remote(workshop, engine, [ask])["plan"]
    if isinstance(outcome, ClipResult):
        making.hand_in(
            workshop, outcome, account=ACCOUNT, niche=NICHE, niches=[NICHE], day=DAY,
            stated={"title": "A tide", "rights": "generated"},
        )  # fmt: skip
        return {"made": outcome.sha256}
    return {"state": outcome.state, "code": outcome.code}


def _sabotage(point: tuple[str, str], engine: RemoteEngine) -> None:
    step, when = point
    homes: dict[str, Any] = {"submit": engine, "look": engine, "keep_clip": making, "hand_in": making}
    home = homes.get(step, orders)
    real = getattr(home, step)

    def struck(*arguments: Any, **named: Any) -> Any:
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(home, step, struck)


def run_worker(place: Place, scenario: Scenario) -> dict[str, Any] | None:
    """A forked worker's report; None when it was killed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        # Whoever follows finds the lease of a dead sender over.
        begin = orders.begin_sending
        orders.begin_sending = lambda db, key: begin(db, key, lease=timedelta(0))  # type: ignore[assignment, misc]
        told: Any = {"error": "the worker raised"}
        try:
            told = work(place, scenario)
        finally:
            os.write(writing, json.dumps(told).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        report = pipe.read()
    _, status = os.waitpid(pid, 0)
    return None if os.WIFSIGNALED(status) else json.loads(report)


@dataclass(frozen=True)
class Played:
    scenario: Scenario
    verdict: str
    why: str = ""


GOOD = ("once", "parked", "refused", "point not reached")


def play(url: str, counts: Callable[[str], int], scenario: Scenario) -> Played:
    """One scenario to its end, judged by what the sandbox charged."""
    with tempfile.TemporaryDirectory() as folder, httpx.Client(base_url=url, trust_env=False) as http:
        place = Place(Path(folder), url)
        before = counts(scenario.way.counted)
        if scenario.fault.rule is not None:
            path = scenario.way.order if scenario.fault.at == "order" else scenario.way.look
            rule = {"vendor": scenario.way.vendor, "path_regex": path, **scenario.fault.rule}
            http.post("/_control/faults", json=rule).raise_for_status()
        told = [run_worker(place, scenario)]
        reached = told[0] is None
        calm = Scenario(scenario.way, None, scenario.fault)
        while len(told) < MOST_RESTARTS and not _rests(told[-1]):
            told.append(run_worker(place, calm))
        charged = counts(scenario.way.counted) - before
        told.append(run_worker(place, calm))
        http.delete("/_control/faults").raise_for_status()
        charged_after = counts(scenario.way.counted) - before
        if scenario.point is not None and not reached:
            return Played(scenario, "point not reached")
        verdict, why = _judged(place, scenario, told, charged, charged_after)
        return Played(scenario, verdict, why)


def _rests(told: dict[str, Any] | None) -> bool:
    return told is not None and ("made" in told or told.get("state") in ("failed", "parked"))


def _judged(
    place: Place, scenario: Scenario, told: list[dict[str, Any] | None], charged: int, charged_after: int
) -> tuple[str, str]:
    standing = orders.find_order(place.db, place.ask(scenario).key)
    spent = budgets.spending(place.db, "sandbox", utc_now().date())
    uploads = [info.key for info in place.store.list("uploads/") if info.key.endswith(".mp4")]
    facts = f"{charged} then {charged_after} charges, {standing}, {uploads}, {spent}, workers {told}"
    if charged_after > 1:
        return "DOUBLE CHARGE", facts
    if charged_after != charged or standing is None or told[-1] != told[-2]:
        return "restless", facts
    if any(row.reserved_microusd for row in spent.values()):
        return "money left aside", facts
    if standing.state == orders.PARKED:
        known = scenario.fault.unknowable or (scenario.point is not None and POINTS[scenario.point])
        return ("parked", "") if known and not uploads else ("parked, though knowable", facts)
    if standing.state == orders.FAILED:
        return ("refused", "") if orders.FAILED in scenario.fault.ends and not uploads else ("lost", facts)
    good = standing.state == orders.DONE and len(uploads) == 1 and charged == 1
    return ("once", "") if good else ("lost", facts)


@contextmanager
def sandbox() -> Iterator[tuple[str, Callable[[str], int]]]:
    """The sandbox in a process of its own, since workers are forked and a server has threads."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            from ettametta_pipelines.sandbox.server import SandboxServer

            with SandboxServer(home) as server:
                os.write(writing, f"{server.url}\n".encode())
                signal.pause()
            os._exit(0)
        try:
            url = os.read(reading, 200).decode().strip()
            yield url, lambda vendor: _charges(home, vendor)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _charges(home: Path, vendor: str) -> int:
    import sqlite3

    with sqlite3.connect(f"file:{home}/sandbox/sandbox.db?mode=ro", uri=True) as db:
        row = db.execute("SELECT value FROM counters WHERE name = ?", (f"{vendor}_clip_charges",)).fetchone()
    return int(row[0]) if row else 0


def be_quick() -> None:
    """What every worker needs, read once before the first is forked."""
    import google.genai.types
    import httpx2  # noqa: F401
    from google.genai._gaos import types  # noqa: F401
    from google.genai._gaos.lib import compat_errors  # noqa: F401

    keep_certificates()
    google.genai.Client(api_key="none").interactions  # noqa: B018


def main() -> int:
    parser = argparse.ArgumentParser(prog="clips", description=__doc__)
    parser.add_argument("--sample", type=int, default=0, help="play about so many scenarios instead of all")
    asked = parser.parse_args()
    began = time.monotonic()
    be_quick()
    chosen = sample(asked.sample) if asked.sample else scenarios()
    with sandbox() as (url, counts):
        played = [play(url, counts, each) for each in chosen]
    tally = Counter(each.verdict for each in played)
    for each in played:
        if each.verdict not in GOOD:
            sys.stdout.write(f"{each.verdict}: {each.scenario.name}\n  {each.why}\n")
    counted = sum(tally.values()) - tally["point not reached"]
    is_good = all(each.verdict in GOOD for each in played)
    sys.stdout.write(
        f"Paid clips: {counted} scenarios in {time.monotonic() - began:.0f} s: {dict(tally)}: "
        f"the bar is {'met' if is_good else 'MISSED'}\n"
    )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
