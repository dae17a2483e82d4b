"""Tables of the relational state, as typed SQLAlchemy models, and database time.

Here is their shape only: what a row means and which columns are unique. How rows move is said where they are
moved: `quota.py`, `budget.py`, `clip_orders.py` and `uploads.py` in this room, `ledger.py` and `tokens.py` in
publishing, `entitlements.py` and `reservations.py` in billing, `links.py` and `clicks.py` in commerce. A change here
needs a revision under `migrations/versions`; a test compares the two.
"""

from datetime import UTC, date, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    UniqueConstraint,
    literal,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in and out on every database. A naive datetime is a mistake and raises ValueError."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("the state database takes aware datetimes only")
        return _in_utc(value)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        # SQLite has no time zones: what was stored is UTC and comes back naive.
        return None if value is None else _in_utc(value)


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class DatabaseNow(FunctionElement[datetime]):
    """The database server's clock, plus `seconds`. Leases compare with this, never with a worker's clock.

    It moves within a transaction, so that time spent waiting for a lock counts.
    """

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(literal(float(seconds)))


@compiles(DatabaseNow, "postgresql")
def _now_on_postgres(element: DatabaseNow, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kw)}))"


@compiles(DatabaseNow, "sqlite")
def _now_on_sqlite(element: DatabaseNow, compiler: SQLCompiler, **kw: Any) -> str:
    # SQLite's clock has milliseconds; the zeros make it compare as text with stored microseconds.
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {datetime: UtcDateTime, dict[str, Any]: JSON, list[Any]: JSON}


class Publication(Base):
    """One intent to post one source video on one channel, claimed before anything is sent.

    `fence` rises with every claim, and every write names the fence it was claimed under. `handle` is the encrypted
    capability to continue the upload (session URI, upload URL). `quota_day` is set while the row holds a reserved
    slot of that day's upload quota. `wishes` is what the operator chose for this intent, for whoever runs it again.
    """

    __tablename__ = "publications"
    __table_args__ = (
        UniqueConstraint("platform", "channel_id", "content_id", "intent_no"),
        UniqueConstraint("platform", "remote_id"),
        Index(None, "content_id"),
        Index(None, "state"),
        Index(None, "state", "settled_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    platform: Mapped[str]
    account_id: Mapped[str]
    channel_id: Mapped[str]
    content_id: Mapped[str]
    intent_no: Mapped[int]
    state: Mapped[str]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    fence: Mapped[int]
    handle: Mapped[str | None]
    object_key: Mapped[str]
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    received_bytes: Mapped[int] = mapped_column(BigInteger)
    marker: Mapped[str]
    title: Mapped[str]
    privacy: Mapped[str]
    attempts: Mapped[int]
    quota_day: Mapped[date | None]
    remote_id: Mapped[str | None]
    url: Mapped[str | None]
    request_id: Mapped[str | None]
    wishes: Mapped[dict[str, Any] | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    check_count: Mapped[int]
    next_check_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    session_opened_at: Mapped[datetime | None]
    first_mutation_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]


class PublicationEvent(Base):
    """One transition of one publication: the audit trail. Holds no secret."""

    __tablename__ = "publication_events"

    id: Mapped[int] = mapped_column(primary_key=True)
    publication_id: Mapped[str] = mapped_column(ForeignKey("publications.id"), index=True)
    at: Mapped[datetime]
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    fence: Mapped[int]
    actor: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[dict[str, Any]]


class PublicationRights(Base):
    """By what rights a file is posted on a platform: a record for each of its inputs, kept before anything is sent."""

    __tablename__ = "publication_rights"

    platform: Mapped[str] = mapped_column(primary_key=True)
    content_id: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(primary_key=True)
    rights: Mapped[list[Any]]
    recorded_at: Mapped[datetime]


class PublicationExtra(Base):
    """Something set on a post after it was published, such as its thumbnail; `sha256` is of what was set last.

    `done_at` is empty until the platform has it. A row here never changes the publication's own.
    """

    __tablename__ = "publication_extras"
    __table_args__ = (UniqueConstraint("publication_id", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    publication_id: Mapped[str] = mapped_column(ForeignKey("publications.id"))
    kind: Mapped[str]
    object_key: Mapped[str]
    sha256: Mapped[str]
    tried_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]


class OAuthConnection(Base):
    """An account's channel on a platform and the tokens to act for it, encrypted."""

    __tablename__ = "oauth_connections"
    __table_args__ = (
        UniqueConstraint("account_id", "platform"),
        # Empty while the first consent is being stored.
        Index(
            "uq_oauth_connections_platform_channel_id",
            "platform",
            "channel_id",
            unique=True,
            sqlite_where=text("channel_id <> ''"),
            postgresql_where=text("channel_id <> ''"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    platform: Mapped[str]
    channel_id: Mapped[str]
    channel_title: Mapped[str]
    uploads_playlist: Mapped[str | None]
    scopes: Mapped[str]
    access_token: Mapped[str]
    refresh_token: Mapped[str | None]
    expires_at: Mapped[datetime]
    refresh_expires_at: Mapped[datetime | None]
    generation: Mapped[int]
    status: Mapped[str]
    connected_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    # The pair of one generation before, for whoever has to prove to a vendor what was rotated into what.
    previous_access_token: Mapped[str | None]
    previous_refresh_token: Mapped[str | None]
    refreshed_at: Mapped[datetime | None]
    # When the pair is renewed unasked; empty is at once. Moved ahead by every failure, of which there were so many.
    refresh_due_at: Mapped[datetime | None]
    refresh_failures: Mapped[int] = mapped_column(default=0)
    reauth_reason: Mapped[str | None]
    alerted_at: Mapped[datetime | None]


class ConnectionEvent(Base):
    """What became of an account's channel and by whom: the audit trail, kept when the channel is disconnected."""

    __tablename__ = "connection_events"
    __table_args__ = (Index(None, "account_id", "platform"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    platform: Mapped[str]
    channel_id: Mapped[str]
    at: Mapped[datetime]
    event: Mapped[str]
    actor: Mapped[str]
    detail: Mapped[str]


class OAuthConsent(Base):
    """A consent that was asked for and not answered yet. Only hashes of the state and of the browser are kept."""

    __tablename__ = "oauth_consents"

    state_sha256: Mapped[str] = mapped_column(primary_key=True)
    browser_sha256: Mapped[str]
    account_id: Mapped[str]
    platform: Mapped[str]
    code_verifier: Mapped[str]
    redirect_uri: Mapped[str]
    actor: Mapped[str]
    expires_at: Mapped[datetime]


class WebhookEvent(Base):
    """One message of a vendor, stored before it is answered; `handled_at` is empty until its effect is in place.

    `due_at` is when it may be taken next; one that failed too often has `parked_at`, and a person looks at it.
    """

    __tablename__ = "webhook_events"
    __table_args__ = (UniqueConstraint("source", "event_id"), Index(None, "handled_at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str]
    event_id: Mapped[str]
    kind: Mapped[str]
    body: Mapped[str]
    received_at: Mapped[datetime]
    handled_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    due_at: Mapped[datetime | None]
    parked_at: Mapped[datetime | None]
    problem: Mapped[str | None]


class Upload(Base):
    """One version of one object the upload sensor has seen, and what became of it.

    `captions_key` is empty text for an upload without captions, and null where nobody has looked. `settled_at` is when
    its run was seen to exist; until then every tick asks for it.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        UniqueConstraint("object_key", "etag"),
        Index(None, "source_id"),
        Index(None, "seen_at"),
        Index(None, "account_id"),
        Index(None, "captions_key"),
        # The few a sensor may still have to ask a run for, among millions.
        Index(
            "ix_uploads_open",
            "seen_at",
            sqlite_where=text("settled_at IS NULL AND status = 'accepted'"),
            postgresql_where=text("settled_at IS NULL AND status = 'accepted'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    object_key: Mapped[str]
    etag: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    account_id: Mapped[str | None]
    niche: Mapped[str | None]
    sha256: Mapped[str | None]
    source_id: Mapped[str | None]
    status: Mapped[str]
    reason_code: Mapped[str | None]
    reason: Mapped[str | None]
    sidecar_etag: Mapped[str | None]
    sidecar_sha256: Mapped[str | None]
    captions_key: Mapped[str | None]
    captions_etag: Mapped[str | None]
    captions_sha256: Mapped[str | None]
    seen_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    title: Mapped[str | None]


class ArchivedSource(Base):
    """A source video that left the live partitions: when, and when it was called back, if it was."""

    __tablename__ = "archived_sources"

    source_id: Mapped[str] = mapped_column(primary_key=True)
    archived_at: Mapped[datetime]
    restored_at: Mapped[datetime | None]


class ApiQuota(Base):
    """Spending of one vendor bucket on one quota day: used + reserved never exceeds limit.

    `closed_at` is set when the vendor itself said that the bucket is spent: nothing is granted after that.
    """

    __tablename__ = "api_quota"
    __table_args__ = (
        UniqueConstraint("vendor", "bucket", "quota_day"),
        CheckConstraint('used >= 0 AND reserved >= 0 AND used + reserved <= "limit"', name="within_limit"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    vendor: Mapped[str]
    bucket: Mapped[str]
    quota_day: Mapped[date]
    limit: Mapped[int]
    used: Mapped[int]
    reserved: Mapped[int]
    closed_at: Mapped[datetime | None]


class QuotaLease(Base):
    """What one run holds and has spent of one bucket: the unspent part is free again at `expires_at`.

    `unspent` is part of the bucket's `reserved`, `spent` of its `used`. `holder` is who spends, a niche for instance.
    """

    __tablename__ = "quota_leases"
    __table_args__ = (Index(None, "quota_day"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    vendor: Mapped[str]
    bucket: Mapped[str]
    quota_day: Mapped[date]
    holder: Mapped[str]
    unspent: Mapped[int]
    spent: Mapped[int]
    expires_at: Mapped[datetime]


class SearchMade(Base):
    """One search a niche paid for and what it brought; region and language are empty where none was asked for.

    `new` counts videos that no earlier search of the same run had found, `outliers` those of them far above their
    channel's usual views, empty until that is known.
    """

    __tablename__ = "searches_made"
    __table_args__ = (Index(None, "quota_day"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    niche: Mapped[str]
    query: Mapped[str]
    region: Mapped[str]
    language: Mapped[str]
    day: Mapped[date]
    quota_day: Mapped[date]
    hits: Mapped[int]
    new: Mapped[int]
    outliers: Mapped[int | None]


class ParkedSearch(Base):
    """A search that a partition (`day`, `niche`) wanted and the quota of `parked_on` did not cover."""

    __tablename__ = "parked_searches"
    __table_args__ = (UniqueConstraint("niche", "day", "query", "region", "language"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    niche: Mapped[str]
    day: Mapped[date]
    query: Mapped[str]
    region: Mapped[str]
    language: Mapped[str]
    parked_on: Mapped[date]


class ChannelUploads(Base):
    """A channel's recent uploads as seen at one time, shared by all niches: [[video id, views, published at], ...]."""

    __tablename__ = "channel_uploads"

    channel_id: Mapped[str] = mapped_column(primary_key=True)
    observed_at: Mapped[datetime]
    uploads: Mapped[list[Any]]


class ModelSpending(Base):
    """Money spent on models' answers in one business day, in millionths of a US dollar; account `*` is everybody.

    `mode` keeps the sandbox's play money apart from real money. Limits are settings and not here.
    """

    __tablename__ = "model_spending"
    __table_args__ = (
        UniqueConstraint("mode", "account_id", "day"),
        CheckConstraint("spent_microusd >= 0 AND reserved_microusd >= 0", name="not_negative"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    mode: Mapped[str]
    account_id: Mapped[str]
    day: Mapped[date]
    spent_microusd: Mapped[int] = mapped_column(BigInteger)
    reserved_microusd: Mapped[int] = mapped_column(BigInteger)


class AccountSpending(Base):
    """Money an account has spent on all paid work in one calendar month (`month` is its first day), in micro-dollars.

    Counts the same claims as `model_claims` holds, whatever was bought. The cap is a setting and not here.
    """

    __tablename__ = "account_spending"
    __table_args__ = (
        UniqueConstraint("mode", "account_id", "month"),
        CheckConstraint("spent_microusd >= 0 AND reserved_microusd >= 0", name="not_negative"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    mode: Mapped[str]
    account_id: Mapped[str]
    month: Mapped[date]
    spent_microusd: Mapped[int] = mapped_column(BigInteger)
    reserved_microusd: Mapped[int] = mapped_column(BigInteger)


class ModelClaim(Base):
    """One paid call, claimed before it is made: reserved, then settled, parked or released. The ledger of spending.

    `cost_microusd` is what it cost by the answer's usage; of a parked claim, whose answer was lost, what was reserved.
    `niche` and `source_id` say whose cost it is, as far as that is known when it is claimed.
    """

    __tablename__ = "model_claims"
    __table_args__ = (Index(None, "day", "state"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    mode: Mapped[str]
    account_id: Mapped[str]
    day: Mapped[date]
    provider: Mapped[str]
    model: Mapped[str]
    purpose: Mapped[str]
    subject: Mapped[str]
    niche: Mapped[str | None]
    source_id: Mapped[str | None]
    state: Mapped[str]
    reserved_microusd: Mapped[int] = mapped_column(BigInteger)
    cost_microusd: Mapped[int | None] = mapped_column(BigInteger)
    reason_code: Mapped[str | None]
    claimed_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class ClipSubmission(Base):
    """One clip ordered from a vendor, once: open, sending, running, then done, failed, or parked for a person.

    `request_key` names engine, model and request, so that the same clip is never ordered twice. `claim_id` is the money
    set aside, until it is closed; `operation_id` the vendor's name for the order; `partition` where it is wanted.
    """

    __tablename__ = "clip_submissions"
    __table_args__ = (Index(None, "state", "lease_until"),)

    request_key: Mapped[str] = mapped_column(primary_key=True)
    mode: Mapped[str]
    account_id: Mapped[str]
    engine: Mapped[str]
    model: Mapped[str]
    partition: Mapped[str]
    state: Mapped[str]
    attempts: Mapped[int]
    quote_microusd: Mapped[int] = mapped_column(BigInteger)
    cost_microusd: Mapped[int | None] = mapped_column(BigInteger)
    claim_id: Mapped[str | None]
    operation_id: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    reason_code: Mapped[str | None]
    reason: Mapped[str | None]
    opened_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]


class Entitlement(Base):
    """What one account is entitled to, as last read from Stripe; `mode` keeps the sandbox's accounts apart.

    `tier` is what was paid for, until `tier_until`; `next_tier` follows then, `awaiting_tier` waits for its payment.
    `anchor_at` is what the account's video periods are counted from. `reads` numbers the readings of Stripe as they
    begin, `applied_read` is the one this row shows: an older reading never overwrites a newer one.
    """

    __tablename__ = "entitlements"
    __table_args__ = (UniqueConstraint("mode", "account_id"), UniqueConstraint("mode", "customer_id"))

    id: Mapped[int] = mapped_column(primary_key=True)
    mode: Mapped[str]
    account_id: Mapped[str]
    customer_id: Mapped[str | None]
    subscription_id: Mapped[str | None]
    status: Mapped[str]
    tier: Mapped[str | None]
    tier_until: Mapped[datetime | None]
    next_tier: Mapped[str | None]
    awaiting_tier: Mapped[str | None]
    cancel_at_period_end: Mapped[bool]
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    grace_until: Mapped[datetime | None]
    hold_reason: Mapped[str | None]
    hold_until: Mapped[datetime | None]
    problem: Mapped[str | None]
    anchor_at: Mapped[datetime]
    reads: Mapped[int]
    applied_read: Mapped[int]
    read_at: Mapped[datetime | None]
    read_because: Mapped[str | None]
    updated_at: Mapped[datetime]


class VideoPeriod(Base):
    """An account's videos in one period: `used` were delivered, `reserved` are being made, `released` failed for free.

    Limits are the tier's and not here, so that an upgrade counts at once. Periods of an account never overlap.
    """

    __tablename__ = "video_periods"
    __table_args__ = (
        UniqueConstraint("mode", "account_id", "starts_at"),
        CheckConstraint("used >= 0 AND reserved >= 0 AND released >= 0", name="not_negative"),
        CheckConstraint("starts_at < ends_at", name="has_length"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    mode: Mapped[str]
    account_id: Mapped[str]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    used: Mapped[int]
    reserved: Mapped[int]
    released: Mapped[int]


class VideoSlot(Base):
    """One source video's claim on a period: reserved until `lease_until`, then consumed or released, with the reason.

    One row per source and period, so formats, retries and re-renders of a source share it. `holder` is the run.
    """

    __tablename__ = "video_slots"
    __table_args__ = (
        UniqueConstraint("period_id", "source_id"),
        Index(None, "state", "lease_until"),
        Index(None, "source_id"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    period_id: Mapped[int] = mapped_column(ForeignKey("video_periods.id"))
    source_id: Mapped[str]
    state: Mapped[str]
    holder: Mapped[str]
    lease_until: Mapped[datetime]
    reason: Mapped[str | None]
    reserved_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class PublicationDecision(Base):
    """A person's word on one post: approve, reject or hold. Append-only; the newest of a post stands.

    `content_hash` covers the file, the words and the flags that were shown (`post`); `arms` are the variants in them.
    """

    __tablename__ = "publication_decisions"
    __table_args__ = (Index(None, "content_id", "platform"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    platform: Mapped[str]
    account_id: Mapped[str]
    content_id: Mapped[str]
    intent_no: Mapped[int]
    decision: Mapped[str]
    sha256: Mapped[str]
    content_hash: Mapped[str]
    post: Mapped[dict[str, Any]]
    wishes: Mapped[dict[str, Any]]
    arms: Mapped[list[Any]]
    not_before: Mapped[datetime | None]
    comment: Mapped[str]
    decided_by: Mapped[str]
    run_id: Mapped[str | None]
    decided_at: Mapped[datetime]


class PublicationSlot(Base):
    """One posting time taken for one post, before its run is asked for: no two posts take the same.

    `attempt` counts how often a time was taken for the same post.
    """

    __tablename__ = "publication_slots"
    __table_args__ = (
        UniqueConstraint("platform", "account_id", "slot_at"),
        UniqueConstraint("platform", "account_id", "content_id", "intent_no", "attempt"),
        Index(None, "taken_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    platform: Mapped[str]
    account_id: Mapped[str]
    content_id: Mapped[str]
    intent_no: Mapped[int]
    attempt: Mapped[int]
    slot_at: Mapped[datetime]
    run_key: Mapped[str]
    taken_at: Mapped[datetime]


class PublicationVariant(Base):
    """Which variant of an experiment one post carries; `shares` are the probabilities of all variants it might have."""

    __tablename__ = "publication_variants"
    __table_args__ = (UniqueConstraint("platform", "account_id", "content_id", "intent_no", "experiment"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    platform: Mapped[str]
    account_id: Mapped[str]
    content_id: Mapped[str]
    intent_no: Mapped[int]
    experiment: Mapped[str]
    kind: Mapped[str]
    arm: Mapped[str]
    shares: Mapped[dict[str, Any]]
    text: Mapped[str]
    assigned_at: Mapped[datetime]


class Alert(Base):
    """One thing that is wrong, as one route of alerts knows it; opened again when it comes back.

    `occurrences` is how often it was found at the last look, `told` how often by the last message; `told` is 0 until
    somebody was told. `closed_at` is empty while it lasts.
    """

    __tablename__ = "alerts"
    __table_args__ = (UniqueConstraint("route", "fingerprint"), Index(None, "closed_at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    route: Mapped[str]
    fingerprint: Mapped[str]
    kind: Mapped[str]
    severity: Mapped[str]
    headline: Mapped[str]
    opened_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    occurrences: Mapped[int]
    told: Mapped[int]
    told_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]


class AlertBudget(Base):
    """How many messages a route of alerts may still send: a token bucket, as full as it was at `filled_at`."""

    __tablename__ = "alert_budgets"

    route: Mapped[str] = mapped_column(primary_key=True)
    millitokens: Mapped[int]
    filled_at: Mapped[datetime]


class AlertMessage(Base):
    """One message to one target: written with the alerts it tells of, then claimed (`lease_until`) and sent.

    `target` names an address or a configured webhook and is no secret. `attempts` counts claims after which nothing was
    heard; `parked_at` is set when it cannot be delivered.
    """

    __tablename__ = "alert_messages"
    __table_args__ = (Index(None, "sent_at", "parked_at", "due_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    route: Mapped[str]
    target: Mapped[str]
    severity: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int]
    sent_at: Mapped[datetime | None]
    parked_at: Mapped[datetime | None]
    error: Mapped[str | None]


class AffiliateLink(Base):
    """One link an account earns by: where it leads, and in posts of which niches it is offered.

    `status` is active or retired. What was posted keeps its codes: a retired link's lead to `fallback_url`, where
    there is one.
    """

    __tablename__ = "affiliate_links"
    __table_args__ = (Index(None, "account_id", "status"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    label: Mapped[str]
    network: Mapped[str]
    target_url: Mapped[str]
    fallback_url: Mapped[str | None]
    commission_note: Mapped[str]
    niches: Mapped[list[Any]]
    status: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    edited_at: Mapped[datetime | None]
    edited_by: Mapped[str | None]
    retired_at: Mapped[datetime | None]
    retired_by: Mapped[str | None]


class AffiliateLinkCode(Base):
    """A code of the gateway's redirect, `/go/{code}`: of a link or a product, alone or in one post.

    A product's code keeps its address (`target_url`), a link's leads where the link leads now. The code of a post
    keeps what the post says (`words`), so that the post reads the same however often it is composed.
    """

    __tablename__ = "affiliate_link_codes"
    __table_args__ = (
        UniqueConstraint("account_id", "source_id", "platform", "intent_no"),
        CheckConstraint("(link_id IS NULL) <> (product_id IS NULL)", name="of_one_thing"),
        Index(None, "link_id"),
        Index(None, "product_id"),
    )

    code: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    link_id: Mapped[str | None] = mapped_column(ForeignKey("affiliate_links.id"))
    product_id: Mapped[str | None]
    target_url: Mapped[str | None]
    niche: Mapped[str | None]
    source_id: Mapped[str | None]
    platform: Mapped[str | None]
    intent_no: Mapped[int | None]
    words: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]


class AffiliateClick(Base):
    """One request of a code. Nothing here tells who clicked: no address, no agent, of the referrer its host alone.

    `is_bot` is set for what nobody clicked (crawlers, previews, HEAD, repetition); such rows are not counted.
    """

    __tablename__ = "affiliate_clicks"
    __table_args__ = (Index(None, "code", "day"), Index(None, "day"))

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    clicked_at: Mapped[datetime]
    day: Mapped[date]
    is_bot: Mapped[bool]
    referrer_host: Mapped[str | None]


class NicheOffer(Base):
    """What posts of a niche offer until the next matching: the best product, or an account's best link.

    `account_id` is empty for products, which every channel may offer that opted in. `statement` is what must be said
    beside it. Written by commerce, read by publishing.
    """

    __tablename__ = "niche_offers"
    __table_args__ = (UniqueConstraint("account_id", "niche", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[str]
    niche: Mapped[str]
    kind: Mapped[str]
    link_id: Mapped[str | None]
    product_id: Mapped[str | None]
    label: Mapped[str]
    target_url: Mapped[str | None]
    statement: Mapped[str]
    score: Mapped[float] = mapped_column(Double)
    day: Mapped[date]
    chosen_at: Mapped[datetime]


class RenderJob(Base):
    """One job on a render node; the truth about it, whatever becomes of the queue.

    `attempt` fences: what a worker says counts only for the attempt it claimed. `document` is the `ClipJob`. `told_at`
    is when the webhook took the news of its end, `cleared_at` when the last of its clips was removed.
    """

    __tablename__ = "render_jobs"
    __table_args__ = (UniqueConstraint("idempotency_key"), Index(None, "state", "lease_until"))

    id: Mapped[str] = mapped_column(primary_key=True)
    idempotency_key: Mapped[str]
    document: Mapped[dict[str, Any]]
    state: Mapped[str]
    attempt: Mapped[int]
    losses: Mapped[int]
    holder: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    progress: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    sent_at: Mapped[datetime | None]
    webhook_tries: Mapped[int]
    webhook_due_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    told_at: Mapped[datetime | None]
    cleared_at: Mapped[datetime | None]


class RenderFetch(Base):
    """How much of a render job's clip was handed out: its first `sent` bytes, and when that was all of it."""

    __tablename__ = "render_fetches"

    job_id: Mapped[str] = mapped_column(ForeignKey("render_jobs.id"), primary_key=True)
    request_key: Mapped[str] = mapped_column(primary_key=True)
    sent: Mapped[int] = mapped_column(BigInteger)
    fetched_at: Mapped[datetime | None]


class GpuClip(Base):
    """GPU time of one clip that was made, as its worker measured it, in milliseconds; counted once."""

    __tablename__ = "gpu_clips"
    __table_args__ = (Index(None, "made_at"),)

    request_key: Mapped[str] = mapped_column(primary_key=True)
    engine: Mapped[str]
    model: Mapped[str]
    gpu_ms: Mapped[int] = mapped_column(BigInteger)
    made_at: Mapped[datetime]
