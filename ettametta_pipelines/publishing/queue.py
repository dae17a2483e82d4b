"""The publishing queue: when each finished video is posted on each channel, by slots, caps and quotas.

`plan` is a pure function of what waits, what was posted and the clock. It places one post after another, always the
one whose turn it is on the earliest day that has room: among accounts by their weight, within a channel the oldest
first. What it places never depends on later placements, so planning again after the first posts went out leaves the
rest where it was. What waits is gathered by `backlog.py`; nothing here posts or reads a database.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType

from ettametta_pipelines.clock import PACIFIC, business_day_bounds, business_day_of, pacific_quota_day
from ettametta_pipelines.publishing.policy import ChannelPolicy, Channels
from ettametta_pipelines.publishing.slots import slot_instants

# A slot is kept for this long: the daemon looks every few minutes and may be restarted.
SLOT_GRACE = timedelta(minutes=15)
TIKTOK_WINDOW = timedelta(hours=24)

ChannelKey = tuple[str, str]
# Until when a platform takes no post of a channel, as it said itself when one was tried.
ClosedUntil = Mapping[ChannelKey, datetime]
# Uploads a platform still takes on a quota day, from all accounts together; None for no such limit.
QuotaLeft = Callable[[str, date], int | None]


@dataclass(frozen=True)
class Entry:
    """One finished video for one channel. `held` says why it cannot be planned; empty means that it may be posted."""

    platform: str
    account: str
    source_id: str
    title: str
    ready_at: datetime
    intent_no: int = 1
    sha256: str = ""
    object_key: str = ""
    not_before: datetime | None = None
    held: str = ""
    attempts: int = 0

    @property
    def channel(self) -> ChannelKey:
        return self.account, self.platform


@dataclass(frozen=True)
class Taken:
    """A posting time that is gone: a post made, or a run asked for. `post` names the post, whose tries count once."""

    platform: str
    account: str
    at: datetime
    post: str


@dataclass(frozen=True)
class Planned:
    """An entry with its instant, or without one while it is held; `why` says in words what it waits for."""

    entry: Entry
    at: datetime | None
    why: str

    def is_due(self, now: datetime) -> bool:
        return self.at is not None and self.at <= now


def plan(
    entries: Iterable[Entry],
    taken: Iterable[Taken],
    channels: Channels,
    now: datetime,
    quota_left: QuotaLeft = lambda _platform, _day: None,
    closed_until: ClosedUntil = MappingProxyType({}),
) -> list[Planned]:
    """Every entry with its instant, by instant, then the held ones, oldest first. Instants are whole seconds UTC."""
    now = now.replace(microsecond=0)
    waiting = sorted(entries, key=_age)
    calendars = _calendars([e for e in waiting if not e.held], taken, channels, now, closed_until)
    quotas = _Quotas(quota_left)
    planned: list[Planned] = []
    while calendars:
        calendar = min(calendars, key=lambda c: c.turn(quotas))
        entry, at, why = calendar.place(quotas)
        quotas.take(entry.platform, pacific_quota_day(at))
        planned.append(Planned(entry, at, why))
        calendars = [c for c in calendars if c.waits]
    planned.sort(key=lambda p: (p.at, _age(p.entry)))
    return [*planned, *(Planned(entry, None, entry.held) for entry in waiting if entry.held)]


def _age(entry: Entry) -> tuple[datetime, str, str, str, int]:
    return entry.ready_at, entry.source_id, entry.platform, entry.account, entry.intent_no


def _calendars(
    entries: Sequence[Entry],
    taken: Iterable[Taken],
    channels: Channels,
    now: datetime,
    closed_until: ClosedUntil,
) -> "list[_Calendar]":
    by_channel: dict[ChannelKey, _Calendar] = {}
    for entry in entries:
        if entry.channel not in by_channel:
            rolling = channels.limits.tiktok_posts_per_24_hours if entry.platform == "tiktok" else None
            closed = closed_until.get(entry.channel)
            by_channel[entry.channel] = _Calendar(channels.of(*entry.channel), now, rolling, closed)
        by_channel[entry.channel].add(entry)
    for gone in sorted(taken, key=lambda t: (t.at, t.post)):
        calendar = by_channel.get((gone.account, gone.platform))
        if calendar is not None:
            calendar.note(gone.at, gone.post)
    return list(by_channel.values())


class _Quotas:
    """What is left of the uploads that all accounts share, by platform and Pacific day."""

    def __init__(self, left: QuotaLeft) -> None:
        self._left = left
        self._days: dict[tuple[str, date], int | None] = {}

    def room_on(self, platform: str, day: date) -> bool:
        left = self._days.setdefault((platform, day), self._left(platform, day))
        return left is None or left > 0

    def take(self, platform: str, day: date) -> None:
        left = self._days.get((platform, day))
        if left is not None:
            self._days[platform, day] = left - 1


class _Calendar:
    """One channel while it is planned: what waits, and the times gone, rising."""

    def __init__(
        self, policy: ChannelPolicy, now: datetime, rolling_cap: int | None, closed_until: datetime | None
    ) -> None:
        self._policy = policy
        self._now = now
        self._start = now - SLOT_GRACE if policy.slots else now
        self._rolling_cap = rolling_cap
        self._closed_until = closed_until
        self._undated: deque[Entry] = deque()
        self._dated: list[Entry] = []
        self._gone: list[tuple[datetime, str]] = []
        self._by_day: dict[date, set[str]] = {}
        self._by_quota_day: Counter[date] = Counter()
        self._next: tuple[Entry, datetime, str] | None = None

    @property
    def waits(self) -> bool:
        return bool(self._undated or self._dated)

    def add(self, entry: Entry) -> None:
        """One more that waits, younger than those before it."""
        dated = entry.not_before is not None and entry.not_before > self._start
        (self._dated if dated else self._undated).append(entry)

    def note(self, at: datetime, post: str) -> None:
        """A time that is gone, later than those before it."""
        self._gone.append((at, post))
        self._by_day.setdefault(business_day_of(at, self._policy.time_zone), set()).add(post)
        self._by_quota_day[pacific_quota_day(at)] += 1

    def turn(self, quotas: _Quotas) -> tuple[object, ...]:
        """Whose turn it is: the earliest quota day first, on it the smallest share so far, then the oldest post."""
        entry, at, _ = self._candidate(quotas)
        day = pacific_quota_day(at)
        return day, (self._by_quota_day[day] + 1) / self._policy.weight, _age(entry)

    def place(self, quotas: _Quotas) -> tuple[Entry, datetime, str]:
        """Give the candidate its instant."""
        entry, at, why = self._candidate(quotas)
        if self._undated and self._undated[0] is entry:
            self._undated.popleft()
        else:
            self._dated.remove(entry)
        self.note(at, post_name(entry.source_id, entry.intent_no))
        self._next = None
        return entry, at, why

    def _candidate(self, quotas: _Quotas) -> tuple[Entry, datetime, str]:
        """The post of this channel that can be made first, the oldest of those that can be made then."""
        if self._next is not None:
            entry, at, _ = self._next
            if quotas.room_on(entry.platform, pacific_quota_day(at)):
                return self._next
        # Those without a date of their own can all be made when the oldest of them can.
        waiting = [*([self._undated[0]] if self._undated else []), *self._dated]
        found = [(entry, *self._earliest(entry, quotas)) for entry in waiting]
        self._next = min(found, key=lambda item: (item[1], _age(item[0])))
        return self._next

    def _earliest(self, entry: Entry, quotas: _Quotas) -> tuple[datetime, str]:
        """The first instant that every rule allows, and the weightiest rule that forbade an earlier one."""
        at, heaviest, why = self._start, -1, "due now"
        while True:
            for weight, rule in RULES:
                allowed, said = rule(self, at, entry, quotas)
                if allowed > at:
                    at = allowed
                    if weight > heaviest and said:
                        heaviest, why = weight, said
                    break
            else:
                return at, why if at > self._now else "due now"

    def _slot(self, at: datetime, entry: Entry, quotas: _Quotas) -> tuple[datetime, str]:
        gone = {time for time, _ in self._gone_since(at)}
        free = (slot for slot in slot_instants(self._policy, at) if slot not in gone)
        return next(free, at), "waits for its slot"

    def _gap(self, at: datetime, entry: Entry, quotas: _Quotas) -> tuple[datetime, str]:
        minutes = self._policy.min_gap_minutes
        after = self._gone[-1][0] + timedelta(minutes=minutes) if self._gone else at
        return max(at, after), f"{minutes} minutes after the post before it"

    def _not_before(self, at: datetime, entry: Entry, quotas: _Quotas) -> tuple[datetime, str]:
        wish = entry.not_before
        if wish is None or wish <= at:
            return at, ""
        local = wish.astimezone(self._policy.time_zone)
        return wish, f"approved for {local:%Y-%m-%d %H:%M} or later"

    def _daily_cap(self, at: datetime, entry: Entry, quotas: _Quotas) -> tuple[datetime, str]:
        cap, zone = self._policy.daily_cap, self._policy.time_zone
        day = business_day_of(at, zone)
        if cap is None or len(self._by_day.get(day, ())) < cap:
            return at, ""
        return business_day_bounds(day, zone)[1], f"daily cap of {cap} reached"

    def _rolling(self, at: datetime, entry: Entry, quotas: _Quotas) -> tuple[datetime, str]:
        cap = self._rolling_cap
        if cap is None:
            return at, ""
        last_tries = sorted(
            {post: time for time, post in self._gone_since(at - TIKTOK_WINDOW, open_end=True)}.values()
        )
        if len(last_tries) < cap:
            return at, ""
        return last_tries[-cap] + TIKTOK_WINDOW, f"TikTok's {cap} posts in 24 hours are planned"

    def _closed(self, at: datetime, entry: Entry, quotas: _Quotas) -> tuple[datetime, str]:
        until = self._closed_until
        if until is None or until <= at:
            return at, ""
        said = f"{until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return until, f"{entry.platform} takes no more posts of this channel before {said}"

    def _quota(self, at: datetime, entry: Entry, quotas: _Quotas) -> tuple[datetime, str]:
        day = pacific_quota_day(at)
        if quotas.room_on(entry.platform, day):
            return at, ""
        said = "today" if day == pacific_quota_day(self._now) else f"{day}"
        return business_day_bounds(day, PACIFIC)[
            1
        ], f"YouTube's uploads of the project are planned for {said}"

    def _gone_since(self, at: datetime, *, open_end: bool = False) -> list[tuple[datetime, str]]:
        find = bisect_right if open_end else bisect_left
        return self._gone[find(self._gone, at, key=lambda gone: gone[0]) :]


Rule = Callable[[_Calendar, datetime, Entry, _Quotas], tuple[datetime, str]]
# In the order they are asked; of those that moved a post, the one with the greatest weight is what it waits for.
RULES: tuple[tuple[int, Rule], ...] = (
    (2, _Calendar._not_before),
    (6, _Calendar._closed),
    (0, _Calendar._slot),
    (1, _Calendar._gap),
    (3, _Calendar._daily_cap),
    (4, _Calendar._rolling),
    (5, _Calendar._quota),
)


def post_name(source_id: str, intent_no: int) -> str:
    """How a post is named in `Taken.post`."""
    return f"{source_id}#{intent_no}"
