"""The redirect behind `/go/{code}`: where a code leads, whether a request of it is a person's, and the note of it.

A follower never waits for the database to write: the answer goes out, the click is noted behind it by one thread, and
lost only if the process is killed in between. Where a code leads is remembered for a while, so that a code followed
lately still works while the database is away; another one is answered with 503 then. No address of a visitor is
stored: repetition is told by a hash that lives in this process alone.
"""

import hashlib
import queue
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ettametta_pipelines.clock import business_day_of
from ettametta_pipelines.commerce.links import ACTIVE
from ettametta_pipelines.commerce.networks import Networks
from ettametta_pipelines.commerce.targets import host_of, tracked
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.state.models import AffiliateClick, AffiliateLink, AffiliateLinkCode
from ettametta_pipelines.state.session import StateDatabase

CODE = re.compile(r"[a-z0-9]{6,16}")
# How long an address is believed without asking: an edit or a retirement elsewhere shows after that.
FRESH_S = 10.0
REMEMBERED = 20_000
# Requests a second that are answered at all, and of one visitor on one code in a minute that count as clicks.
RATE, BURST = 200.0, 400.0
CLICKS_A_MINUTE = 5
WAITING = 5_000
BATCH = 200
RETRY_S = 1.0

# Link previews, crawlers, monitors and libraries. Who pretends to be a person is not told apart here.
_MACHINES = re.compile(
    r"bot\b|bot[/;_-]|crawl|spider|slurp|preview|facebookexternalhit|facebookcatalog|whatsapp|telegram|discord|skype"
    r"|embedly|headless|lighthouse|pingdom|uptime|monitor|scan|curl|wget|python|httpx|okhttp|java/|go-http|axios|libwww",
    re.IGNORECASE,
)
_NOT_ASKED_FOR = re.compile(r"prefetch|preview|prerender", re.IGNORECASE)
_PURPOSES = ("purpose", "sec-purpose", "x-purpose", "x-moz")


@dataclass(frozen=True)
class Lead:
    """Where a code leads: `url`, None where its offer has ended without another address."""

    url: str | None
    is_active: bool


class Redirects:
    """Looks codes up, remembering what it found. Safe between threads."""

    def __init__(
        self, db: StateDatabase, networks: Callable[[], Networks], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._networks = networks
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Lead]] = OrderedDict()
        self._lock = threading.Lock()

    def remembered(self, code: str, *, fresh: bool) -> Lead | None:
        """What was found lately, or with `fresh=False` whenever it was."""
        with self._lock:
            found = self._known.get(code)
        if found is None or (fresh and self._clock() - found[0] > FRESH_S):
            return None
        return found[1]

    def find(self, code: str) -> Lead | None:
        """Where the database says a code leads; None for no code of ours. Raises PipelineError when it is away."""
        with self._db.session(write=False) as session:
            found = session.execute(
                sa.select(AffiliateLinkCode, AffiliateLink)
                .outerjoin(AffiliateLink, AffiliateLink.id == AffiliateLinkCode.link_id)
                .where(AffiliateLinkCode.code == code)
            ).first()
        if found is None:
            return None
        lead = self._lead(*found.tuple())
        with self._lock:
            self._known[code] = (self._clock(), lead)
            self._known.move_to_end(code)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return lead

    def forget(self) -> None:
        """A link was changed in this process."""
        with self._lock:
            self._known.clear()

    def _lead(self, code: AffiliateLinkCode, link: AffiliateLink | None) -> Lead:
        if link is not None and link.status != ACTIVE:
            return Lead(link.fallback_url, False)
        target = link.target_url if link is not None else code.target_url
        if target is None:
            return Lead(None, False)
        return Lead(
            tracked(
                target, code.code, network=link.network if link else "", networks=self._networks(),
                is_shop=link is None, platform=code.platform, niche=code.niche, source_id=code.source_id,
            ),
            True,
        )  # fmt: skip


class Gauge:
    """How many requests this process answers, and how often one visitor is counted on one code. Memory is bounded."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left, self._at = BURST, clock()
        self._salt = secrets.token_bytes(16)
        self._seen: OrderedDict[bytes, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def admits(self) -> bool:
        """False while more is asked than is answered."""
        with self._lock:
            now = self._clock()
            self._left, self._at = min(BURST, self._left + (now - self._at) * RATE), now
            if self._left < 1:
                return False
            self._left -= 1
            return True

    def repeats(self, *visitor: str) -> bool:
        """Whether this visitor has been counted often enough in this minute."""
        key = hashlib.blake2b("\x1f".join(visitor).encode(), key=self._salt, digest_size=16).digest()
        with self._lock:
            now = self._clock()
            since, count = self._seen.pop(key, (now, 0))
            if now - since > 60:
                since, count = now, 0
            self._seen[key] = (since, count + 1)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return count >= CLICKS_A_MINUTE


def is_machine(method: str, headers: Mapping[str, str]) -> bool:
    """Whether nobody clicked: HEAD, a known crawler, a prefetch, or a picture's address rather than a page's."""
    agent = headers.get("user-agent", "")
    return (
        method != "GET"
        or not agent
        or _MACHINES.search(agent) is not None
        or any(_NOT_ASKED_FOR.search(headers.get(name, "")) for name in _PURPOSES)
        or headers.get("sec-fetch-dest", "document") not in ("document", "empty")
    )


def referrer_host(header: str | None) -> str | None:
    """Host of a Referer header, nothing else of it; None where there is none that can be read."""
    try:
        host = host_of(header or "")
    except ValueError:
        return None
    return host if re.fullmatch(r"[a-z0-9.-]{1,253}", host) else None


class ClickLog:
    """Notes clicks behind the answers, in batches, by one thread that starts with the first click.

    While the database is away they wait, `WAITING` at most; what comes then is dropped and counted in `lost`.
    """

    def __init__(self, db: StateDatabase, timezone: ZoneInfo) -> None:
        self._db = db
        self._timezone = timezone
        self._waiting: queue.Queue[tuple[str, bool, str | None, float]] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self.lost = 0

    def note(self, code: str, *, is_bot: bool, referrer: str | None) -> None:
        """Never waits and never raises."""
        try:
            self._waiting.put_nowait((code, is_bot, referrer, time.monotonic()))
        except queue.Full:
            self.lost += 1
            return
        with self._lock:
            if self._thread is None:
                self._ending.clear()
                self._thread = threading.Thread(target=self._work, name="clicks", daemon=True)
                self._thread.start()

    def close(self, within_s: float = 5.0) -> None:
        """Note what waits, for so long at most. Clicks that come later start again."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._ending.set()
            thread.join(within_s)

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if not batch and self._ending.is_set():
                return
            while batch:
                try:
                    self._store(batch)
                    break
                except PipelineError:
                    if self._ending.wait(RETRY_S):
                        self.lost += len(batch)
                        break

    def _next_batch(self) -> list[tuple[str, bool, str | None, float]]:
        batch = []
        try:
            batch.append(self._waiting.get(timeout=0.2))
            while len(batch) < BATCH:
                batch.append(self._waiting.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _store(self, batch: list[tuple[str, bool, str | None, float]]) -> None:
        with self._db.session() as session:
            now, here = self._db.now(session), time.monotonic()
            for code, is_bot, referrer, noted in batch:
                # By the database's clock, less how long it waited here.
                at = now - timedelta(seconds=here - noted)
                session.add(
                    AffiliateClick(
                        code=code, clicked_at=at, day=business_day_of(at, self._timezone), is_bot=is_bot,
                        referrer_host=referrer,
                    )
                )  # fmt: skip
