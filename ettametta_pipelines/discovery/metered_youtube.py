"""YouTube's public data with every request paid from the shared quota first, and independent requests side by side.

Quota is leased for a whole step and booked as spent a few calls at a time, right before they are sent, so that a
crashed run costs others at most `PREPAID` calls and the book never shows less than YouTube counts. Called by the
collector; what the answers mean is its business.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

from ettametta_pipelines.clock import Clock, pacific_quota_day
from ettametta_pipelines.discovery.quota_plan import PlannedSearch
from ettametta_pipelines.discovery.window import Window
from ettametta_pipelines.failures import TransientError
from ettametta_pipelines.state.quota import (
    Lease,
    LeaseEnded,
    QuotaExhausted,
    close_bucket,
    give_back,
    lease,
    spend,
    take_back,
)
from ettametta_pipelines.vendors.http import NeverSentError, call_with_retries
from ettametta_pipelines.vendors.youtube import METHOD_BUCKETS

if TYPE_CHECKING:
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines.vendors.youtube import PlaylistVideo, SearchPage, VideoStats, YouTubeData

T = TypeVar("T")

QUOTA_EXHAUSTED = "quota_exhausted"
# Calls booked in one transaction: one in eight is enough to keep the database out of the calls' way.
PREPAID = 8


class Purse:
    """Pays for one run's calls of one bucket from leases. Thread-safe; `close` returns what was not needed."""

    def __init__(self, db: "StateDatabase", bucket: str, clock: Clock, holder: str) -> None:
        self._db = db
        self._bucket = bucket
        self._clock = clock
        self._holder = holder
        self._lock = Lock()
        self._lease: Lease | None = None
        self._held = 0
        self._prepaid = 0
        self._refusal: TransientError | None = None

    def hold(self, amount: int) -> None:
        """Lease for calls to come; where there is less, `pay` will say so."""
        with self._lock:
            if amount > self._held + self._prepaid and self._refusal is None:
                self._return()
                try:
                    self._adopt(
                        lease(self._db, "youtube", self._bucket, amount, self._clock, holder=self._holder)
                    )
                except QuotaExhausted as error:
                    self._refusal = error

    def adopt(self, held: Lease) -> None:
        """Pay from a lease made elsewhere."""
        with self._lock:
            self._return()
            self._adopt(held)

    def pay(self) -> None:
        """Book one call as spent. Raises QuotaExhausted, or the vendor's own refusal once it has spoken."""
        with self._lock:
            if self._lease is not None and self._lease.quota_day != pacific_quota_day(self._clock()):
                self._return()
            if self._prepaid == 0:
                if self._refusal is not None:
                    raise self._refusal
                self._prepaid = self._prepay()
            self._prepaid -= 1

    def refund(self) -> None:
        """The call that was paid last never left this machine."""
        with self._lock:
            self._prepaid += 1

    def refused(self, error: TransientError) -> None:
        """The vendor says that the bucket is spent: pay for nothing more, here and in every other run."""
        close_bucket(self._db, "youtube", self._bucket, self._clock)
        with self._lock:
            self._refusal = error
            self._return()

    def close(self) -> None:
        with self._lock:
            self._return()

    def _prepay(self) -> int:
        if self._lease is not None and self._held:
            amount = min(PREPAID, self._held)
            try:
                spend(self._db, self._lease, amount)
            except LeaseEnded:
                self._lease, self._held = None, 0
            else:
                self._held -= amount
                return amount
        self._return()
        self._adopt(lease(self._db, "youtube", self._bucket, 1, self._clock, holder=self._holder))
        assert self._lease is not None
        spend(self._db, self._lease)
        self._held = 0
        return 1

    def _adopt(self, held: Lease) -> None:
        self._lease, self._held = held, held.amount

    def _return(self) -> None:
        if self._lease is not None:
            if self._prepaid:
                take_back(self._db, self._lease, self._prepaid)
            if self._held:
                give_back(self._db, self._lease)
        self._lease, self._held, self._prepaid = None, 0, 0


class MeteredYouTube:
    """`YouTubeData` whose every request is paid first. Thread-safe; to be closed after the run.

    Requests are repeated here as often as the client's endpoint allows and not in the client, since YouTube charges
    for each one it gets. `used` counts what was booked, by bucket; `holder` is who the book says spent it.
    """

    def __init__(
        self,
        client: "YouTubeData",
        db: "StateDatabase",
        clock: Clock,
        *,
        holder: str = "discovery",
        side_by_side: int = 8,
    ) -> None:
        self._client = client.without_retries()
        self._retries = client.endpoint.max_retries
        self._side_by_side = side_by_side
        self._purses = {
            bucket: Purse(db, bucket, clock, holder) for bucket in {b for b, _ in METHOD_BUCKETS.values()}
        }
        self._lock = Lock()
        self.db = db
        self.used: Counter[str] = Counter()
        # Bucket -> the vendor's own word that it is spent.
        self.refusals: dict[str, TransientError] = {}

    def __enter__(self) -> "MeteredYouTube":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what was leased and not spent."""
        for purse in self._purses.values():
            purse.close()

    def watch_url(self, video_id: str) -> str:
        return self._client.watch_url(video_id)

    def adopt(self, held: Lease) -> None:
        """Pay for calls of the lease's bucket from it."""
        self._purses[held.bucket].adopt(held)

    def search(self, planned: PlannedSearch, window: Window) -> "SearchPage":
        return self._paid(
            "search",
            lambda: self._client.search(
                planned.query,
                published_after=window.start,
                published_before=window.end,
                region=planned.region,
                language=planned.language,
            ),
        )

    def batch_get_stats(self, ids: Sequence[str]) -> "list[VideoStats]":
        return self._paid("batch_get_stats", lambda: self._client.batch_get_stats(ids))

    def uploads(self, playlist_id: str, max_results: int) -> "list[PlaylistVideo]":
        return self._paid("uploads", lambda: self._client.uploads(playlist_id, max_results))

    def all_of(self, calls: Sequence[tuple[str, Callable[[], T]]]) -> list[T | None]:
        """Answers of (method, call of it) in order, made side by side; None where the quota did not reach.

        Any other failure is raised once the calls in flight have ended; those behind it are not sent.
        """
        for bucket, amount in Counter(METHOD_BUCKETS[method][0] for method, _ in calls).items():
            if bucket != "search":
                self._purses[bucket].hold(amount)
        failed = False

        def run(call: Callable[[], T]) -> T | None:
            nonlocal failed
            if failed:
                return None
            try:
                return call()
            except TransientError as error:
                if error.code == QUOTA_EXHAUSTED:
                    return None
                failed = True
                raise
            except BaseException:
                failed = True
                raise

        with self._pool(len(calls)) as each:
            return list(each(run, [call for _, call in calls]))

    @contextmanager
    def _pool(self, calls: int) -> Iterator[Callable[..., Iterator[T | None]]]:
        if min(calls, self._side_by_side) < 2:
            yield map
            return
        with ThreadPoolExecutor(min(calls, self._side_by_side), thread_name_prefix="youtube") as pool:
            yield pool.map

    def _paid(self, method: str, call: Callable[[], T]) -> T:
        return call_with_retries(lambda: self._paid_once(method, call), retries=self._retries, seed=method)

    def _paid_once(self, method: str, call: Callable[[], T]) -> T:
        bucket, _ = METHOD_BUCKETS[method]
        purse = self._purses[bucket]
        purse.pay()
        # YouTube charges for refusals too, and a run cancelled in the middle cannot tell what arrived.
        with self._lock:
            self.used[bucket] += 1
        try:
            return call()
        except NeverSentError:
            purse.refund()
            with self._lock:
                self.used[bucket] -= 1
            raise
        except TransientError as error:
            if error.code == QUOTA_EXHAUSTED:
                purse.refused(error)
                self.refusals[bucket] = error
            raise
