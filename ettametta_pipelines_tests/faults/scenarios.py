"""The scenarios: what goes wrong at the server, where the worker is struck, and what is done to the database meanwhile.

Tables only; `matrix.py` plays them. A fault names the requests it hits by what they are for, not by their number, so
that it still hits them after a restart. Crash points are those of the publication's life in order, CP1 to CP25.
"""

import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ettametta_pipelines_tests.faults.arena import SIZES
from ettametta_pipelines_tests.faults.worker import TIMEOUT_S, Point

Rule = dict[str, Any]
SLOW_S = TIMEOUT_S + 0.3
SOON_S = 0.15
HOUR = {"retry-after": "3600"}
GONE = {"action": "status", "status": 404}


@dataclass(frozen=True)
class Fault:
    """What the server does wrong. `unknowable` says why the truth cannot be had, where parking is then right.

    `unprovable` says the same for a post that is in truth not there: what is can be found, but nothing can show that
    the last bytes did not arrive. `forgets` names what the sandbox deletes of what it knows when the fault sets in.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    unknowable: str = ""
    unprovable: str = ""
    forgets: str = ""


def _youtube(what: str, action: str, **rule: Any) -> Rule:
    """A rule for the requests of one purpose."""
    last = SIZES["youtube"] - 1
    requests: Mapping[str, Rule] = {
        "open": {"method": "POST", "path_regex": "/upload/youtube/v3/videos"},
        "chunk": {"method": "PUT", "range_regex": rf"bytes \d+-(?!{last}/)\d+/"},
        "last": {"method": "PUT", "range_regex": rf"bytes \d+-{last}/"},
        "query": {"method": "PUT", "range_regex": r"bytes \*/"},
        "session": {"method": "PUT", "path_regex": "/upload/"},
        "status": {"method": "GET", "path_regex": "/youtube/v3/videos$"},
        "listing": {"method": "GET", "path_regex": "/playlistItems"},
    }
    return requests[what] | {"action": action} | rule


def _tiktok(what: str, action: str, **rule: Any) -> Rule:
    last = SIZES["tiktok"] - 1
    requests: Mapping[str, Rule] = {
        "creator": {"method": "POST", "path_regex": "/creator_info/"},
        "open": {"method": "POST", "path_regex": "/video/init/"},
        "chunk": {"method": "PUT", "range_regex": rf"bytes \d+-(?!{last}/)\d+/"},
        "last": {"method": "PUT", "range_regex": rf"bytes \d+-{last}/"},
        "status": {"method": "POST", "path_regex": "/status/fetch/"},
    }
    return requests[what] | {"action": action} | rule


def _refused(reason: str, status: int = 403) -> Rule:
    error = {"code": status, "message": reason, "errors": [{"reason": reason, "domain": "youtube"}]}
    return {"status": status, "body": {"error": error}}


def _told(status: int, code: str, data: Mapping[str, Any] | None = None) -> Rule:
    return {
        "status": status,
        "body": {"data": data or {}, "error": {"code": code, "message": "", "log_id": "1"}},
    }


NOTHING_LISTED: Rule = {"status": 200, "body": {"items": []}}
# Rules that begin to work with the last chunk.
SENT = {"armed_by": rf"-{SIZES['youtube'] - 1}/"}
TAKEN = {"armed_by": rf"-{SIZES['tiktok'] - 1}/"}
FULL = {"range": f"bytes=0-{SIZES['youtube'] - 1}"}
AS_IF_EMPTY = _told(200, "ok", {"status": "PROCESSING_UPLOAD", "uploaded_bytes": 0})
BLIND = "the session is gone and the channel's list does not show the upload"
UNSENT = "the session is gone, and no list can prove that its last bytes never arrived"
INVISIBLE = "YouTube gave the video an id and shows nothing under it"
FORGOTTEN = "TikTok does not know the upload any more"
ADDRESS_DEAD = "the address for the last bytes is dead and TikTok does not say that it has them"


def _on_the_wire(call: Any, whats: tuple[str, ...]) -> Iterator[Fault]:
    """What can happen to any request that changes something."""
    for what in whats:
        yield Fault(f"dropped before {what}", (call(what, "drop_before"),))
        yield Fault(f"dropped after {what}", (call(what, "drop_after"),))
        yield Fault(f"500 after {what}", (call(what, "status_after", status=500),))
        yield Fault(f"503 before {what}", (call(what, "status", status=503, times=2),))
        yield Fault(f"429 for an hour at {what}", (call(what, "status", status=429, headers=HOUR, times=2),))
        yield Fault(f"answer to {what} too slow", (call(what, "delay_after", delay_s=SLOW_S),))
        yield Fault(f"{what} arrives late", (call(what, "late", delay_s=SOON_S),))


YOUTUBE_FAULTS: tuple[Fault, ...] = (
    Fault("none"),
    *_on_the_wire(_youtube, ("open", "chunk", "last")),
    *(
        Fault(f"403 quotaExceeded at {what}", (_youtube(what, "status", times=2, **_refused("quotaExceeded")),))
        for what in ("open", "chunk", "last", "status", "listing")
    ),
    *(
        Fault(f"401 at {what}", (_youtube(what, "status", **_refused("authError", 401)),))
        for what in ("open", "chunk", "last", "query", "status", "listing")
    ),
    Fault(
        "308 although complete",
        (
            _youtube("last", "status_after", status=308, headers=FULL),
            _youtube("query", "status_after", status=308, headers=FULL, times=2, **SENT),
        ),
    ),
    Fault(
        "308 although complete, for ever",
        (
            _youtube("last", "status_after", status=308, headers=FULL, times=None),
            _youtube("query", "status_after", status=308, headers=FULL, times=None, **SENT),
        ),
        unprovable=UNSENT,
    ),
    Fault(
        "session gone after the last chunk",
        (_youtube("last", "drop_after"), _youtube("query", **SENT, times=None, **GONE)),
        unprovable=UNSENT,
    ),
    Fault(
        "session gone, list lags twice",
        (
            _youtube("last", "drop_after"),
            _youtube("query", **SENT, times=None, **GONE),
            _youtube("listing", "status", **SENT, times=2, **NOTHING_LISTED),
        ),
        unprovable=UNSENT,
    ),
    Fault(
        "session gone, list blind for ever",
        (
            _youtube("last", "drop_after"),
            _youtube("query", **SENT, times=None, **GONE),
            _youtube("listing", "status", **SENT, times=None, **NOTHING_LISTED),
        ),
        unknowable=BLIND,
    ),
    Fault(
        "session gone before the last chunk arrived",
        (_youtube("last", "drop_before", times=None), _youtube("query", **SENT, times=None, **GONE)),
        unknowable=UNSENT,
    ),
    Fault(
        "session away for a while",
        (_youtube("last", "drop_before"), _youtube("query", **SENT, times=2, **GONE)),
    ),
    Fault("session gone half-way", (_youtube("chunk", after=1, **GONE),)),
    Fault("video not visible for a while", (_youtube("status", "status", times=6, **NOTHING_LISTED),)),
    Fault(
        "video never visible", (_youtube("status", "status", times=None, **NOTHING_LISTED),), unknowable=INVISIBLE
    ),
    Fault("state of the video refused", (_youtube("status", "status", status=503, times=3),)),
)  # fmt: skip

TIKTOK_FAULTS: tuple[Fault, ...] = (
    Fault("none"),
    *_on_the_wire(_tiktok, ("open", "chunk", "last")),
    *(
        Fault(f"rate limit at {what}", (_tiktok(what, "status", times=2, **_told(429, "rate_limit_exceeded")),))
        for what in ("creator", "open", "status")
    ),
    *(
        Fault(f"401 at {what}", (_tiktok(what, "status", **_told(401, "access_token_invalid")),))
        for what in ("creator", "open", "status")
    ),
    *(
        Fault(f"error inside HTTP 200 at {what}", (_tiktok(what, "status", **_told(200, "internal_error")),))
        for what in ("creator", "open", "status")
    ),
    Fault("too many posts today", (_tiktok("creator", "status", times=2, **_told(200, "spam_risk_too_many_posts")),)),
    Fault("cap of users reached", (_tiktok("open", "status", times=2, **_told(403, "reached_active_user_cap")),)),
    Fault(
        "status lags twice",
        (_tiktok("last", "drop_after"), _tiktok("status", "status", **TAKEN, times=2, **AS_IF_EMPTY)),
    ),
    Fault(
        "status lags for ever",
        (_tiktok("last", "drop_after"), _tiktok("status", "status", **TAKEN, times=None, **AS_IF_EMPTY)),
        unknowable="TikTok says for ever that it waits for bytes it refuses to take",
    ),
    Fault(
        "upload forgotten after the last chunk",
        (
            _tiktok("last", "drop_after"),
            _tiktok("status", "status", **TAKEN, times=None, **_told(400, "invalid_publish_id")),
        ),
        unknowable=FORGOTTEN,
    ),
    Fault(
        "upload unknown for a while",
        (
            _tiktok("last", "drop_after"),
            _tiktok("status", "status", **TAKEN, times=2, **_told(400, "invalid_publish_id")),
        ),
    ),
    Fault("address gone half-way", (_tiktok("chunk", after=1, **GONE),)),
    Fault("address expired at the last chunk", (_tiktok("last", "status", status=403, times=None),), ADDRESS_DEAD),
    Fault(
        "address gone after the last chunk",
        (_tiktok("last", "drop_after"), _tiktok("last", after=1, times=None, **GONE)),
        unprovable=ADDRESS_DEAD,
    ),
    Fault("state of the post refused", (_tiktok("status", "status", times=3, **_told(500, "internal_error")),)),
)  # fmt: skip

FAULTS: Mapping[str, tuple[Fault, ...]] = {"youtube": YOUTUBE_FAULTS, "tiktok": TIKTOK_FAULTS}

# Where a worker is killed. CP16 is in `test_dagster_kills.py`, CP19 to CP25 stand in families of their own below; CP24
# is part of every scenario: one more run over what rests.
CRASH_POINTS: Mapping[str, Point] = {
    "CP1 planned, not committed": Point("before_commit", ">PLANNED"),
    "CP2 planned with its quota": Point("after_commit", ">PLANNED"),
    "CP3 claimed": Point("after_commit", "claim"),
    "CP4 token refreshed, not stored": Point("after_call", "refresh"),
    "CP5 session asked for, no answer": Point("answered", "open"),
    "CP6 session there, not stored": Point("before_commit", ".*>SESSION_OPEN"),
    "CP7 session stored, no byte sent": Point("after_commit", ".*>SESSION_OPEN"),
    "CP8 in the middle of a chunk": Point("mid_body", "chunk", 2),
    "CP9 chunk taken, not noted": Point("after_call", "chunk"),
    "CP10 last chunk allowed, not sent": Point("after_commit", ".*>FINALIZING"),
    "CP11 half of the last chunk sent": Point("mid_body", "last"),
    "CP12 last chunk taken, answer unread": Point("answered", "last"),
    "CP13 answer read, id not stored": Point("before_commit", ".*>PROCESSING"),
    "CP14 id stored": Point("after_commit", ".*>PROCESSING"),
    "CP14 published, thumbnail not set": Point("before_call", "thumbnail"),
    "CP14 thumbnail set, not noted": Point("after_call", "thumbnail"),
    "CP15 published, nobody told": Point("done", "done"),
    "CP17 state asked for": Point("answered", "status"),
    "CP18 looked, not noted": Point("before_commit", "count_check|RECONCILING>.*"),
}


@dataclass(frozen=True)
class Scenario:
    """One line of the matrix. `family` says what is done; `point` where; `fault` what the server does meanwhile."""

    platform: str
    family: str
    crash: str
    fault: Fault
    point: Point | None = None
    weight: int = 1

    @property
    def name(self) -> str:
        return f"{self.platform}: {self.family}: {self.crash} x {self.fault.name}"


def _crossed(platform: str) -> Iterator[Scenario]:
    for fault in FAULTS[platform]:
        yield Scenario(platform, "kill", "no crash", fault)
        for crash, point in CRASH_POINTS.items():
            if platform == "youtube" or point.what != "thumbnail":
                yield Scenario(platform, "kill", crash, fault, point)


# As many writes and calls as an undisturbed upload has, and some.
WRITES = {"youtube": 26, "tiktok": 18}


def _every_step(platform: str) -> Iterator[Scenario]:
    """Killed before and after each commit, and before and after each call, in turn."""
    none, lost = _fault(platform, "none"), _fault(platform, "dropped after last")
    for nth in range(1, WRITES[platform] + 1):
        for when in ("before_commit", "after_commit"):
            yield Scenario(platform, "kill", f"any {when.replace('_', ' ')}", none, Point(when, ".*", nth))
        if nth > WRITES[platform] // 3:
            yield Scenario(platform, "kill", "any after commit", lost, Point("after_commit", ".*", nth))
    for nth in range(1, 10):
        for when in ("before_call", "after_call"):
            yield Scenario(platform, "kill", f"any {when.replace('_', ' ')}", none, Point(when, ".*", nth))


RESTORED_WITH: Mapping[str, tuple[str, ...]] = {
    "youtube": ("none", "session gone", "session gone, list lags twice", "session gone, list blind for ever"),
    "tiktok": ("none", "status behind the last chunk", "upload forgotten"),
}
# What the platforms do when a worker with an old database comes back.
AFTER_RESTORE: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("none"),
        Fault("session gone", forgets="youtube_session"),
        Fault(
            "session gone, list lags twice",
            (_youtube("listing", "status", times=2, **NOTHING_LISTED),),
            forgets="youtube_session",
        ),
        Fault(
            "session gone, list blind for ever",
            (_youtube("listing", "status", times=None, **NOTHING_LISTED),),
            unknowable=BLIND,
            forgets="youtube_session",
        ),
        Fault("upload forgotten", unknowable=FORGOTTEN, forgets="tiktok_upload"),
        Fault("status behind the last chunk", (_tiktok("status", "status", times=2, **AS_IF_EMPTY),)),
    )
}


def _restored(platform: str) -> Iterator[Scenario]:
    """The database is copied at a commit, the post is made, the copy comes back: the ledger is behind the platform."""
    for name in RESTORED_WITH[platform]:
        fault = AFTER_RESTORE[name]
        yield Scenario(platform, "restored", "rows lost", fault)
        for nth in range(1, WRITES[platform] + 1):
            yield Scenario(
                platform, "restored", "copy at a commit", fault, Point("after_commit", ".*", nth, "copy")
            )
        for nth in (4, 9, 12):
            yield Scenario(
                platform, "restored", "copy of long ago", fault, Point("after_commit", ".*", nth, "copy")
            )


# Not within a transaction: who is stopped holding a lock of the database is not a zombie, but an outage.
FROZEN_AT = (
    Point("after_commit", "claim"),
    Point("before_call", "open"),
    Point("answered", "open"),
    Point("after_commit", ".*>SESSION_OPEN"),
    Point("before_call", "chunk"),
    Point("mid_body", "chunk"),
    Point("after_call", "chunk", 2),
    Point("after_commit", ".*>FINALIZING"),
    Point("before_call", "last"),
    Point("mid_body", "last"),
    Point("answered", "last"),
    Point("after_call", "last"),
    Point("before_call", "status"),
    Point("after_call", "status"),
)
FROZEN_WITH = {
    "youtube": ("none", "dropped after last", "session gone half-way", "308 although complete"),
    "tiktok": ("none", "dropped after last", "address gone half-way", "error inside HTTP 200 at status"),
}


def _frozen(platform: str, names: Sequence[str] = ()) -> Iterator[Scenario]:
    for name in names or FROZEN_WITH[platform]:
        for point in FROZEN_AT:
            stop = replace(point, act="stop")
            yield Scenario(platform, "frozen", "CP19 wakes after its lease", _fault(platform, name), stop)


def _racing(platform: str) -> Iterator[Scenario]:
    names = ("none", "dropped after open", "dropped after last", "500 after last", "503 before chunk")
    for name in names:
        for crash in ("CP22 tick lost, run asked twice", "CP23 two daemons", "CP25 pressed twice"):
            yield Scenario(platform, "racing", crash, _fault(platform, name))


def _broken_database(platform: str) -> Iterator[Scenario]:
    for nth in range(1, WRITES[platform] + 1):
        full = Point("before_commit", ".*", nth, "full")
        yield Scenario(platform, "kill", "CP21 disk full", _fault(platform, "none"), full)
    for nth in range(1, WRITES[platform] + 1, 3):
        locked = Point("begin", ".*", nth, "lock")
        yield Scenario(platform, "kill", "CP20 database locked", _fault(platform, "none"), locked)


def _on_postgres(platform: str) -> Iterator[Scenario]:
    for nth in range(1, WRITES[platform] + 1):
        for when in ("before_commit", "after_commit"):
            yield Scenario(
                platform,
                "kill",
                "CP20 connection lost",
                _fault(platform, "none"),
                Point(when, ".*", nth, "cut"),
            )
    for crash, point in CRASH_POINTS.items():
        yield Scenario(platform, "kill", crash, _fault(platform, "dropped after last"), point)
    yield from _frozen(platform, ["none"])
    for name in ("none", "dropped after last"):
        yield Scenario(platform, "racing", "CP25 pressed twice", _fault(platform, name))


def _fault(platform: str, name: str) -> Fault:
    return next(fault for fault in FAULTS[platform] if fault.name == name)


def scenarios(database: str = "sqlite") -> list[Scenario]:
    """All of them for one kind of database, in an order that does not change."""
    families = (
        (_crossed, _every_step, _restored, _frozen, _racing, _broken_database)
        if database == "sqlite"
        else (_on_postgres,)
    )
    return [scenario for family in families for platform in FAULTS for scenario in family(platform)]


def sample(chosen: list[Scenario], count: int, seed: int = 7) -> list[Scenario]:
    """A part of them that has every crash point, every fault and every family of each platform at least once."""
    shuffled = sorted(chosen, key=lambda s: zlib.crc32(f"{seed}{s.name}{s.point}".encode()))
    kept: list[Scenario] = []
    seen: set[tuple[str, str, str]] = set()
    for scenario in shuffled:
        marks = {
            (scenario.platform, "crash", scenario.crash),
            (scenario.platform, "fault", scenario.fault.name),
            (scenario.platform, "family", scenario.family),
        }
        if marks - seen:
            seen |= marks
            kept.append(scenario)
    rest = [scenario for scenario in shuffled if scenario not in kept]
    random.Random(seed).shuffle(rest)
    return (kept + rest)[: max(count, len(kept))]
