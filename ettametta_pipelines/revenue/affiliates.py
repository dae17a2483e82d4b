"""What affiliate networks pay, from their exports (CSV) and their postbacks.

Networks have no common API: an operator imports the file a network offers, or the network calls back per sale. Either
way a row is kept as it came, once, and a later row of the same transaction replaces an earlier one in
`affiliate_earnings`, since a commission is pending for weeks and may be declined. Called by the asset, the command
line and the gateway.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import business_day_of
from ettametta_pipelines.csv_rows import NoCsv, csv_rows
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.money import Money
from ettametta_pipelines.revenue.contracts import AFFILIATE_EARNINGS, AFFILIATE_RAW
from ettametta_pipelines.revenue.raw import MARTS, slices
from ettametta_pipelines.revenue.reading import chunks

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

REQUIRED = ("occurred_at", "amount", "currency")
OPTIONAL = ("transaction_id", "status", "link", "order_id")
# What a row says of its sale; these name one that has no id of its own.
SALE = ("occurred_at", "amount_minor", "currency", "link_id", "order_id")
STATUSES = ("pending", "approved", "declined", "reversed")
MAX_BYTES = 20_000_000
MAX_TEXT = 200
# What the tables hold, some orders of magnitude below what a sum of them holds.
MAX_MINOR = 10**15
# Clocks and time zones of networks are taken this wrong.
AHEAD = timedelta(days=1)
EPOCH = datetime(1990, 1, 1, tzinfo=UTC)
_NETWORK = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")

REOPENED_SQL = """
    SELECT DISTINCT day FROM affiliate_raw
    SEMI JOIN (SELECT network, transaction_id FROM affiliate_raw WHERE received_at >= $since) AS told
        USING (network, transaction_id)
    ORDER BY day
"""


class ImportRefused(PermanentError):
    """A file or postback with something in it that cannot be booked; nothing of it was kept."""


@dataclass(frozen=True)
class Imported:
    """What an import did: rows of the file, and whether this very file had been imported before."""

    rows: int
    days: int
    sha256: str
    was_known: bool
    oldest: date | None = None


def import_csv(
    store: "ObjectStore", network: str, name: str, data: bytes, *, timezone: ZoneInfo, now: datetime
) -> Imported:
    """Keep a network's export: UTF-8 CSV with a header of `REQUIRED` and any of `OPTIONAL` columns, in any order.

    Amounts are decimals in major units, instants ISO 8601; one without an offset, or a day alone, is local to
    `timezone`. A row without a `transaction_id` is known by what it says of the sale, and by its place among the like
    ones of its file: exports whose days overlap count nothing twice, and a changed status is a later word on the same
    sale. All lines are good or nothing is kept: ImportRefused names the first bad ones. The same file again changes
    nothing.
    """
    _check_network(network)
    if len(data) > MAX_BYTES:
        raise _refused(f"{name} has more than {MAX_BYTES:,} bytes.", "Split the export into shorter periods.")
    digest = hashlib.sha256(data).hexdigest()
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    alike: Counter[str] = Counter()
    for line, fields in _lines(name, data):
        try:
            row = _row(fields, timezone, now)
            if not row["transaction_id"]:
                said = repr([str(row[part]) for part in SALE])
                alike[said] += 1
                row["transaction_id"] = f"{hashlib.sha256(said.encode()).hexdigest()[:16]}:{alike[said]}"
            rows.append(row)
        except (ValueError, PermanentError) as error:
            said = error.message if isinstance(error, PermanentError) else str(error)
            problems.append(f"line {line}: {said}")
    times = Counter(row["transaction_id"] for row in rows)
    problems += [f"transaction {name} stands in it twice" for name, count in times.items() if count > 1]
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise _refused(f"{name} cannot be imported: {'; '.join(problems[:5])}{more}.", "Correct the file.")
    written = _keep(store, network, rows, f"import-{digest[:16]}", name, now)
    days = {row["day"] for row in rows}
    return Imported(
        len(rows), len(days), digest, was_known=bool(rows) and not written, oldest=min(days, default=None)
    )


def record_postback(
    store: "ObjectStore",
    network: str,
    transaction_id: str,
    *,
    occurred_at: str,
    amount: str,
    currency: str,
    status: str = "pending",
    link: str = "",
    order_id: str = "",
    timezone: ZoneInfo,
    now: datetime,
) -> bool:
    """Keep what a network calls back about one transaction; False when the very same was kept before.

    `amount` is a decimal in major units, `occurred_at` as in an export. A later call with another status or amount is
    kept beside the first and counts instead of it; `now` is when the network called. Raises ImportRefused.
    """
    _check_network(network)
    fields = {
        "transaction_id": transaction_id, "occurred_at": occurred_at, "amount": amount,
        "currency": currency, "status": status, "link": link, "order_id": order_id,
    }  # fmt: skip
    try:
        row = _row(fields, timezone, now)
    except (ValueError, PermanentError) as error:
        said = error.message if isinstance(error, PermanentError) else str(error)
        raise _refused(
            f"A postback of {network} cannot be booked: {said.rstrip('.')}.",
            "Correct the address the network calls, or its names in the networks file.",
        ) from None
    if not row["transaction_id"]:
        raise _refused(f"A postback of {network} has no transaction id.", "Have the network send it.")
    said = hashlib.sha256(repr(sorted(fields.items())).encode()).hexdigest()
    return _keep(store, network, [row], f"postback-{said[:24]}", "postback", now)


def reopened_days(lake: "Lake", since: datetime) -> list[date]:
    """Days of the transactions of which a network said something since then, those they stood under before included."""
    return [row["day"] for row in lake.rows(REOPENED_SQL, {"since": since})]


def book_affiliates(
    store: "ObjectStore", lake: "Lake", days: Sequence[date], timezone: ZoneInfo
) -> list[dict[str, Any]]:
    """Compute and store `affiliate_earnings` of these days (in order) from what was kept; all rows."""
    from ettametta_pipelines.storage.parquet import write_arrow

    everything: list[dict[str, Any]] = []
    for chunk in chunks(days):
        given = {"first_day": chunk[0], "last_day": chunk[-1], "timezone": timezone.key}
        rows = AFFILIATE_EARNINGS.checked(lake.arrow((MARTS / "affiliate_earnings.sql").read_text(), given))
        by_day = dict(slices(rows, "day"))
        for day in chunk:
            write_arrow(store, AFFILIATE_EARNINGS, by_day.get(day, rows.slice(0, 0)), day.isoformat())
        everything += rows.to_pylist()
    return everything


def _lines(name: str, data: bytes) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, fields) of the rows. Raises ImportRefused for a file that is not as agreed."""
    try:
        for line, fields in csv_rows(data, REQUIRED, OPTIONAL):
            if fields is None:
                raise _refused(f"{name} has another number of fields in line {line}.", "Correct the file.")
            yield line, fields
    except NoCsv as error:
        raise _refused(f"{name} cannot be imported: {error}.", "Export it as CSV in UTF-8.") from None


def _row(fields: Mapping[str, str], timezone: ZoneInfo, now: datetime) -> dict[str, Any]:
    """A row as it is kept. Raises ValueError or PermanentError that says what is wrong."""
    texts = {name: (fields.get(name) or "").strip() for name in REQUIRED + OPTIONAL}
    long = [name for name, text in texts.items() if len(text) > MAX_TEXT or not text.isprintable()]
    if long:
        raise ValueError(f"{', '.join(long)} is longer than {MAX_TEXT} characters or not printable")
    currency = texts["currency"].upper()
    status = texts["status"].lower() or "pending"
    if status not in STATUSES:
        raise ValueError(f"its status {status!r} is none of {', '.join(STATUSES)}")
    occurred_at = _instant(texts["occurred_at"], timezone)
    if not EPOCH <= occurred_at <= now + AHEAD:
        raise ValueError(
            f"the sale of {texts['occurred_at']} lies in the future, or before there were networks"
        )
    amount = Money.parse(texts["amount"], currency)
    if abs(amount.minor) > MAX_MINOR:
        raise ValueError(f"{texts['amount']} is more than any commission")
    return {
        "day": business_day_of(occurred_at, timezone), "occurred_at": occurred_at, "status": status,
        "transaction_id": texts["transaction_id"], "currency": currency, "exponent": amount.exponent,
        "amount_minor": amount.minor, "link_id": texts["link"] or None, "order_id": texts["order_id"] or None,
    }  # fmt: skip


def _instant(text: str, timezone: ZoneInfo) -> datetime:
    """ISO 8601, a day alone, or seconds since 1970, which some networks send."""
    if re.fullmatch(r"[0-9]{9,10}", text):
        return datetime.fromtimestamp(int(text), UTC)
    if len(text) == 10:
        return datetime.combine(date.fromisoformat(text), time.min, tzinfo=timezone)
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=timezone)


def _keep(
    store: "ObjectStore", network: str, rows: Sequence[dict[str, Any]], batch: str, name: str, now: datetime
) -> bool:
    """One immutable file per day; False when all were there."""
    from ettametta_pipelines.storage.objects import ObjectExists
    from ettametta_pipelines.storage.parquet import parquet_bytes, table_key

    batch = f"{network}-{batch}"
    is_new = False
    by_day: dict[date, list[dict[str, Any]]] = {}
    for row in rows:
        kept = {"network": network, "batch": batch, "file": name, "received_at": now}
        by_day.setdefault(row["day"], []).append(row | kept)
    for day, found in by_day.items():
        table = AFFILIATE_RAW.to_arrow(AFFILIATE_RAW.frame(found))
        partition = f"{day.isoformat()}|{batch}"
        with suppress(ObjectExists):
            store.create(
                table_key(AFFILIATE_RAW.name, partition), parquet_bytes(AFFILIATE_RAW, table, partition)
            )
            is_new = True
    return is_new


def _check_network(network: str) -> None:
    if not network or len(network) > 40 or not set(network) <= _NETWORK:
        raise _refused(f"{network!r} is no name of a network.", "Use lower-case letters, digits and dashes.")


def _refused(said: str, remedy: str) -> ImportRefused:
    return ImportRefused(said, code="affiliate_import_refused", remedy=remedy)
