"""What the state database alone shows to be wrong."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.clock import pacific_quota_day
from ettametta_pipelines.operations.alert_routes import Severity, Thresholds
from ettametta_pipelines.operations.findings import Finding, look_at_state
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import budget, quota
from ettametta_pipelines.state.models import (
    ApiQuota,
    ConnectionEvent,
    OAuthConnection,
    Publication,
    VideoPeriod,
    VideoSlot,
)
from ettametta_pipelines.state.session import StateDatabase

NOW = datetime(2026, 11, 23, 7, tzinfo=UTC)
SETTINGS = Settings(
    _env_file=None, ETTAMETTA_UI_URL="https://dagster.example.com", PRODUCTION_DOMAIN="studio.example.com"
)


def found(db: StateDatabase) -> dict[str, Finding]:
    return {
        finding.fingerprint: finding for finding in look_at_state(db, SETTINGS, Thresholds(), NOW).findings
    }


def put(db: StateDatabase, *rows: Any) -> None:
    with db.session() as session:
        session.add_all(rows)


def test_a_well_state_shows_nothing(database: StateDatabase) -> None:
    assert found(database) == {}


def test_a_consent_that_ended_is_told_since_it_ended_with_the_page_to_mend_it(
    database: StateDatabase,
) -> None:
    put(
        database,
        OAuthConnection(
            account_id="acme", platform="youtube", channel_id="c", channel_title="Acme Cooks", scopes="",
            access_token="x", expires_at=NOW, generation=1, status="reauth_required", connected_at=NOW,
            updated_at=NOW, reauth_reason="consent was revoked",
        ),
        ConnectionEvent(
            account_id="acme", platform="youtube", channel_id="c", at=NOW - timedelta(hours=5),
            event="consent_ended", actor="refresh", detail="",
        ),
    )  # fmt: skip
    finding = found(database)["reauth:acme/youtube"]
    assert finding.headline == "Acme Cooks on youtube must be connected again; its posts wait"
    (struck,) = finding.open
    assert struck.at == NOW - timedelta(hours=5)
    assert struck.link == "https://studio.example.com/accounts/acme/youtube"


def test_posts_in_doubt_are_told_by_state_each_with_its_page(database: StateDatabase) -> None:
    put(
        database,
        *(
            Publication(
                id=f"p{n}", platform="youtube", account_id="acme", channel_id="c", content_id=f"v{n}", intent_no=1,
                state="NEEDS_REVIEW", fence=1, object_key="k", sha256="s", size_bytes=1, received_bytes=0, marker="m",
                title=f"Video {n}", privacy="private", attempts=1, check_count=0, created_at=NOW, updated_at=NOW,
            )
            for n in range(2)
        ),
    )  # fmt: skip
    finding = found(database)["needs_review:NEEDS_REVIEW"]
    assert [one.what for one in finding.open] == ["Video 0", "Video 1"]
    assert finding.open[0].link == "https://studio.example.com/publications/p0"


def test_a_budget_and_a_cap_nearly_spent_are_told_with_whose_they_are(database: StateDatabase) -> None:
    limits = budget.Budget("live", "acme", 5_000_000, 10_000_000, SETTINGS.timezone)
    for dollars, expected in ((3_900_000, set()), (200_000, {"spending:live/acme/2026-11-23"})):
        claim = budget.claim(
            database, limits, budget.Purchase(dollars, "gemini", "m", "judge", "s"), lambda: NOW
        )
        budget.settle(database, claim, dollars)
        assert set(found(database)) == expected
    finding = found(database)["spending:live/acme/2026-11-23"]
    assert finding.headline == "models cost 4.10 of 5.00 USD today for acme"
    bought = budget.Budget("live", "acme", None, None, SETTINGS.timezone)
    claim = budget.claim(
        database, bought, budget.Purchase(90_000_000, "eleven", "v", "voice", "s"), lambda: NOW
    )
    budget.settle(database, claim, 90_000_000)
    assert (
        "acme spent 94.10 of 70.00 USD this month" in found(database)["spending:live/acme/2026-11"].headline
    )


def draw(db: StateDatabase, bucket: str, share: float, **more: Any) -> date:
    day = pacific_quota_day(NOW)
    quota.reserve(db, "youtube", bucket, 1, lambda: NOW)
    with db.session() as session:
        chosen = sa.update(ApiQuota).where(ApiQuota.bucket == bucket)
        session.execute(chosen.values(used=sa.cast(ApiQuota.limit * share, sa.Integer), reserved=0, **more))
    return day


def test_uploads_nearly_spent_are_told_and_searches_are_meant_to_be(database: StateDatabase) -> None:
    draw(database, "search", 1.0)
    day = draw(database, "videos_insert", 0.95)
    assert set(found(database)) == {f"quota:youtube/videos_insert/{day}"}


def test_a_bucket_the_vendor_closed_early_is_told_whichever_it_is(database: StateDatabase) -> None:
    day = draw(database, "search", 0.2, closed_at=NOW)
    finding = found(database)[f"quota:youtube/search/{day}"]
    assert "although our book shows" in finding.headline
    assert finding.severity is Severity.WARNING


def test_slots_held_long_after_their_lease_are_told(database: StateDatabase) -> None:
    put(
        database,
        VideoPeriod(
            id=1, mode="sandbox", account_id="acme", starts_at=NOW, ends_at=NOW + timedelta(days=30), used=0,
            reserved=1, released=0,
        ),
    )  # fmt: skip
    put(
        database,
        *(
            VideoSlot(
                id=str(hours), period_id=1, source_id=f"v{hours}", state="reserved", holder="r",
                lease_until=NOW - timedelta(hours=hours), reserved_at=NOW,
            )
            for hours in (1, 3)
        ),
    )  # fmt: skip
    (finding,) = found(database).values()
    assert [one.what for one in finding.open] == ["v3"]
