"""The morning page and the catalog of videos, as an operator reads them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.operations import overview
from ettametta_pipelines.operations.alert_routes import Severity
from ettametta_pipelines.operations.findings import Finding, Occurrence
from ettametta_pipelines.operations.video_catalog import (
    SHOWN,
    catalog_rows,
    catalog_table,
    known_money,
    standing,
)
from ettametta_pipelines.previews import markdown_table
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import budget
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.lake import open_lake
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.parquet import write_table
from ettametta_pipelines_tests.rows import a_row

NOW = datetime(2026, 11, 23, 7, tzinfo=UTC)
SETTINGS = Settings(_env_file=None)


def post(state: str, platform: str = "youtube", **more: Any) -> Publication:
    return Publication(
        content_id="acme--1", platform=platform, state=state, updated_at=NOW, settled_at=NOW, **more
    )


@pytest.mark.parametrize(
    ("verdict", "rendered", "posts", "queue", "failed", "state", "says"),
    [
        (None, False, [], [], None, "arrived", "arrived, not looked at yet"),
        ("rejected", False, [], [], None, "rejected", "rejected: It is cut off."),
        ("accepted", False, [], [], None, "accepted", "accepted, not rendered yet"),
        ("accepted", False, [], [], "rendition_9x16: no space", "failed", "failed: rendition_9x16: no space"),
        ("accepted", True, [], [], None, "rendered", "rendered"),
        ("accepted", True, [], ["waiting for approval"], None, "waiting", "waiting for approval on tiktok"),
        ("accepted", True, [post("PUBLISHED")], ["waiting for approval"], None, "waiting",
         "waiting for approval on tiktok; on youtube since Mon 23 Nov 07:00"),
        ("accepted", True, [post("PUBLISHED")], [], None, "posted", "on youtube since Mon 23 Nov 07:00"),
        ("accepted", True, [post("NEEDS_REVIEW")], [], None, "review", "a person must look whether it is on youtube"),
        ("accepted", True, [post("FAILED_DEFINITE", error_message="Too long.")], [], None, "failed",
         "not on youtube: Too long."),
        ("accepted", True, [post("FINALIZING")], [], None, "posting", "on its way to youtube"),
    ],
)  # fmt: skip
def test_where_a_video_stands_is_said_in_plain_words(
    verdict: str | None, rendered: bool, posts: list[Any], queue: list[str], failed: str | None, state: str, says: str
) -> None:  # fmt: skip
    source = {"verdict": verdict, "reason": "It is cut off."}
    planned = [{"platform": "tiktok", "why": why, "planned_at": None} for why in queue]
    assert standing(source, rendered, posts, planned, (NOW, failed) if failed else None, SETTINGS) == (
        state,
        says,
    )


def test_the_catalog_shows_the_newest_and_says_how_many_there_are() -> None:
    row = {
        "source_id": "acme--1", "title": "Ten | knives](http://x)", "account": "acme", "niche": None,
        "arrived_at": NOW, "state": "rendered", "says": "rendered", "renditions": ["9x16 http://g/media/a.mp4"],
        "posts": [], "cost_microusd": None, "revenue": [],
    }  # fmt: skip
    table = catalog_table([row] * (SHOWN + 1234))
    assert "1,234 older ones are in the table" in table
    assert "[9x16](http://g/media/a.mp4)" in table
    assert "Ten \\| knives\\]\\(http://x\\)" in table
    assert "| – | – |" in table.splitlines()[2]


class MarginLake:
    """A lake whose `content_margin` has two currencies of one video."""

    def rows(self, sql: str, parameters: object = None) -> list[dict[str, Any]]:
        amounts = (
            ("live", "EUR", 2_000_000, 0),
            ("live", "USD", 5_500_000, 120_000),
            ("sandbox", "USD", 0, 999),
        )
        names = ("mode", "currency", "revenue_micro", "cost_micro")
        return [{"source_id": "a", **dict(zip(names, row, strict=True))} for row in amounts]


def test_revenue_of_a_video_is_taken_from_content_margin_where_it_is_a_table() -> None:
    money = known_money(MarginLake(), ["content_margin"])  # type: ignore[arg-type]
    assert money.revenue == {"a": ["2.00 EUR", "5.50 USD"]}
    assert money.cost_microusd == {"a": 120_000}


def test_failures_stand_by_cause_with_their_remedy_and_without_secrets() -> None:
    struck = tuple(Occurrence(str(n), NOW - timedelta(hours=5), account="acme") for n in range(40))
    found = Finding(
        "failed_run", "x", Severity.ERROR, "failed run", "judging failed at https://u:hunter2@host", "Wait | see.",
        struck, link="http://ui/runs",
    )  # fmt: skip
    section = overview.failures([found], SETTINGS, NOW)
    assert "40 failed runs" in section.table
    assert "5 h 0 min ago" in section.table
    assert "Wait \\| see." in section.table
    assert "hunter2" not in section.table + section.says


def test_of_many_causes_the_page_names_some_and_counts_the_rest() -> None:
    struck = (Occurrence("one", NOW - timedelta(minutes=5)),)
    found = [
        Finding("failed_run", f"cause {n}", Severity.ERROR, "failed run", f"cause {n}", "Look.", struck)
        for n in range(overview.CAUSES + 3)
    ]
    section = overview.failures(found, SETTINGS, NOW)
    assert "And 3 more causes." in section.table
    assert section.says.startswith(f"{overview.CAUSES + 3} causes")


def test_what_is_planned_of_a_video_is_said_unless_it_is_posted_there() -> None:
    source = {"verdict": "accepted", "reason": ""}
    planned = [
        {"platform": "youtube", "why": "posted already", "planned_at": NOW},
        {"platform": "tiktok", "why": "", "planned_at": NOW},
        {"platform": "shorts", "why": "no channel", "planned_at": None},
    ]
    state, says = standing(source, True, [post("PUBLISHED")], planned, None, SETTINGS)
    assert state == "planned"
    assert says.split("; ") == [
        "planned for tiktok at Mon 23 Nov 07:00", "rendered", "not on shorts: no channel",
        "on youtube since Mon 23 Nov 07:00",
    ]  # fmt: skip


def test_a_video_stands_in_the_catalog_with_its_files_and_its_newest_post_on_each_channel(
    settings_env: Settings,
) -> None:
    source = a_row(
        ALL_TABLES["source_media"], source_id="acme--1", title="Knives", account="acme", verdict="accepted",
        accepted_at=NOW,
    )  # fmt: skip
    rendition = a_row(
        ALL_TABLES["rendition_9x16"], source_id="acme--1", format="9x16", object_key="media/renditions/a.mp4"
    )
    for name, row in (("source_media", source), ("rendition_9x16", rendition)):
        contract = ALL_TABLES[name]
        write_table(open_store(settings_env), contract, contract.frame([row]), "acme--1")
    db = open_state(settings_env)
    with db.session() as session:
        for number, state in ((1, "FAILED_DEFINITE"), (2, "PUBLISHED")):
            row = a_publication(number, state)
            session.add(row)
    with open_lake(settings_env, ALL_TABLES) as lake:
        (found,), _ = catalog_rows(lake, db, settings_env, [], [], NOW)
    assert (found["state"], found["says"]) == ("posted", "on youtube since Mon 23 Nov 07:00")
    assert found["posts"] == ["youtube https://y/2"]
    assert found["renditions"][0].startswith("9x16 ")
    assert found["arrived_at"] == NOW


def a_publication(number: int, state: str) -> Publication:
    return Publication(
        id=f"p{number}", platform="youtube", account_id="acme", channel_id="c", content_id="acme--1",
        intent_no=number, state=state, object_key="k", sha256="0", size_bytes=1, title="Knives", privacy="public",
        marker=f"ref-{number}", fence=0, attempts=0, check_count=0, received_bytes=0, url=f"https://y/{number}",
        created_at=NOW, updated_at=NOW, settled_at=NOW,
    )  # fmt: skip


@pytest.fixture
def made(settings_env: Settings) -> dg.Definitions:
    return build_definitions(settings_env)


def run(made: dg.Definitions, job: str) -> dict[str, Any]:
    with dg.DagsterInstance.ephemeral() as instance:
        done = made.resolve_job_def(job).execute_in_process(instance=instance)
    (event,) = done.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_on_a_fresh_home_both_pages_say_what_is_not_there_yet(made: dg.Definitions) -> None:
    page = run(made, "morning_page")
    assert page["finds"].startswith("Nothing was discovered for")
    assert page["failures"] == "Nothing has failed in the last day and is still unrepaired."
    assert page["waiting"] == "Nothing waits for a person."
    assert page["revenue"].startswith("No revenue is booked yet")
    assert page["spend"] == "Nothing was spent this month."
    assert page["storage"] == "No video is stored yet."
    catalog = run(made, "catalog_videos")
    assert (catalog["videos"], catalog["states"]) == (0, "no video yet")


def test_revenue_is_shown_per_service_and_currency_and_spend_beside_its_caps(settings_env: Settings) -> None:
    day = NOW.date() - timedelta(days=1)
    contract = ALL_TABLES["daily_revenue"]
    rows = [
        {
            "day": day, "source": "stripe", "currency": currency, "exponent": exponent, "gross_minor": net,
            "fee_minor": 0, "net_minor": net, "refunds_minor": 0, "disputes_minor": 0, "transactions": 1,
            "transfers_minor": 0, "transfers": 0, "business_timezone": "UTC", "livemode": True,
        }
        for currency, exponent, net in (("USD", 2, 123_456), ("JPY", 0, 900))
    ]  # fmt: skip
    write_table(open_store(settings_env), contract, contract.frame(rows), day.isoformat())
    with open_lake(settings_env, ALL_TABLES) as lake:
        section = overview.revenue(lake, settings_env, NOW)
    assert section.says == "stripe ¥900; stripe $1,234.56"
    db = open_state(settings_env)
    limits = budget.Budget("live", "acme", 5_000_000, 10_000_000, settings_env.timezone)
    claim = budget.claim(db, limits, budget.Purchase(2_000_000, "gemini", "m", "judge", "s"), lambda: NOW)
    budget.settle(db, claim, 1_500_000)
    spent = overview.spend(db, settings_env, NOW)
    assert spent.says == "$1.50 of $10.00 for models today, $1.50 this month (real money)."
    assert "| acme | real money | $1.50 | $5.00 | $1.50 | $70.00 | 2% |" in spent.table


def test_the_front_says_every_part_and_shows_only_the_first_of_what_has_to_be_acted_on() -> None:
    rows = [[f"cause {n}", "look"] for n in range(12)]
    sections = [
        overview.Section("failures", "Failures", "12 causes.", 12, markdown_table(["What", "Do"], rows)),
        overview.Section("waiting", "Waits for a person", "Nothing waits.", 0),
        overview.Section("storage", "Storage", "1 GB.", 1, markdown_table(["What"], [["videos"]] * 30)),
    ]
    text = overview.front(sections)
    assert "| **Failures** | 12 causes. |" in text
    assert "| Storage | 1 GB. |" in text
    assert ("cause 2" in text, "cause 3" in text, "videos" in text) == (True, False, False)
    assert "and 9 more, on the whole page" in text
    assert len(text.splitlines()) < 25
