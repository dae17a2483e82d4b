"""Books of a test: a store of its own, read, booked, marted and reconciled as the assets do it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.revenue.contracts import BUSINESS_COLUMNS, CONTRACTS, DAILY_REVENUE
from ettametta_pipelines.revenue.daily import MartDays, make_daily_revenue
from ettametta_pipelines.revenue.ledger import LEDGERS, BookedDays, Finding, book_ledger
from ettametta_pipelines.revenue.raw import DayRead
from ettametta_pipelines.revenue.reading import READERS
from ettametta_pipelines.revenue.reconcile import (
    LEDGER_CHECKS,
    Reconciliation,
    reconcile,
    store_reconciliation,
)
from ettametta_pipelines.storage.lake import Lake
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import TABLES_PREFIX

UTC = ZoneInfo("UTC")
LOS_ANGELES = ZoneInfo("America/Los_Angeles")


def days(first: date, count: int) -> list[date]:
    return [first + timedelta(days=offset) for offset in range(count)]


class Books:
    """What stands in one store, for one business zone."""

    def __init__(self, folder: Path, timezone: ZoneInfo, clock: Clock) -> None:
        self.store = ObjectStore.from_url(folder.as_uri())
        self.timezone = timezone
        self.clock = clock

    def lake(self) -> Lake:
        return Lake.over(self.store, {contract.name: contract for contract in CONTRACTS})

    def read(self, source: str, client: Any, span: Sequence[date]) -> list[DayRead]:
        with self.lake() as lake:
            return list(READERS[source](client, self.store, lake, span, self.timezone, self.clock))

    def book(self, source: str, span: Sequence[date]) -> BookedDays:
        with self.lake() as lake:
            return book_ledger(self.store, lake, source, span, self.timezone)

    def mart(self, span: Sequence[date]) -> MartDays:
        with self.lake() as lake:
            return make_daily_revenue(self.store, lake, span)

    def reconcile(self, span: Sequence[date]) -> Reconciliation:
        with self.lake() as lake:
            found = reconcile(self.store, lake, span, self.timezone)
            store_reconciliation(self.store, found, span)
            return found

    def close(self, clients: Mapping[str, Any], span: Sequence[date]) -> list[Finding]:
        """Everything for these days, as one run; what the checks found."""
        for source, client in clients.items():
            self.read(source, client, span)
        return self.make(span, clients)

    def make(self, span: Sequence[date], sources: Iterable[str] = LEDGERS) -> list[Finding]:
        """Ledgers, mart and reconciliation of these days from what has been read."""
        booked = [self.book(source, span) for source in sources]
        findings = [finding for ledger in booked for finding in ledger.findings(LEDGER_CHECKS)]
        return [*findings, *self.mart(span).findings, *self.reconcile(span).findings]

    def rows(self, table: str, where: str = "true") -> list[dict[str, Any]]:
        with self.lake() as lake:
            return lake.rows(f"select * from {table} where {where} order by all")

    def ledger(self, source: str, day: date) -> list[dict[str, Any]]:
        return self.rows(LEDGERS[source].name, f"day = date '{day}'")

    def business_hash(self) -> str:
        """Digest of everything the books say, leaving out how far money has travelled and when rows were read."""
        columns = ", ".join(BUSINESS_COLUMNS)
        digest = hashlib.sha256()
        with self.lake() as lake:
            for contract in LEDGERS.values():
                digest.update(repr(lake.rows(f"select {columns} from {contract.name} order by all")).encode())
            digest.update(repr(lake.rows(f"select * from {DAILY_REVENUE.name} order by all")).encode())
        return digest.hexdigest()

    def raw_files(self, source: str) -> dict[str, bytes]:
        return {
            info.key: self.store.get(info.key) for info in self.store.list(f"{TABLES_PREFIX}/{source}_raw")
        }


def problems(findings: Iterable[Finding]) -> dict[str, str]:
    return {finding.name: finding.problem for finding in findings if not finding.passed}
