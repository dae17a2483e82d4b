"""What videos cost, to the millionth, and what earned more than it cost."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.revenue import margin as margin_module
from ettametta_pipelines.revenue.costs import cost_rows, make_costs, unequal_claims, unequal_spending
from ettametta_pipelines.revenue.margin import make_margin, unattributed_in_words
from ettametta_pipelines.revenue.margin_contracts import CONTENT_COSTS, CONTENT_MARGIN, REVENUE_ATTRIBUTION
from ettametta_pipelines.revenue.posts import Post, Posts, filters_of
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state.budget import Budget, Purchase
from ettametta_pipelines.state.models import AccountSpending
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.lake import Lake
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import read_table, write_table

DAY = date(2026, 3, 5)
NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
_numbers = count(1)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


@pytest.fixture
def lake(store: ObjectStore) -> Lake:
    return Lake.over(store, ALL_TABLES)


def spend(db: StateDatabase, cost: int | None, subject: str = "x", at: datetime = NOON, **about: Any) -> None:
    """One paid call of acme; without a cost it is not settled."""
    budget = Budget("live", "acme", None, None, ZoneInfo("UTC"))
    made = budgets.claim(
        db,
        budget,
        Purchase(50, about.pop("vendor", "gemini"), "m", "assessment", subject, **about),
        lambda: at,
    )
    if cost is not None:
        budgets.settle(db, made, cost)


def made_after(store: ObjectStore, *sources: str) -> None:
    """Sources that name the brief that was written for candidate v1 of cooking."""
    blank: dict[str, Any] = {
        "day": DAY, "niche": "cooking", "brief_id": "br1", "platform": "youtube", "video_id": "v1",
        "score": 0.5, "prompt": "p", "hook_text": "h", "broll_keywords": [], "hashtags": [], "recipe": "clean",
        "provider": "gemini", "model": "m", "requested_model": "m", "prompt_version": "1", "cost_microusd": 7,
        "written_at": NOON,
    }  # fmt: skip
    briefs = ALL_TABLES["creative_briefs"]
    write_table(store, briefs, briefs.frame([blank]), f"{DAY}|cooking")
    media = ALL_TABLES["source_media"]
    for source in sources:
        row = {
            "source_id": source, "account": "acme", "niche": "cooking", "upload_key": "u", "sha256": "0",
            "size_bytes": 1,
            "verdict": "accepted", "title": "t", "rights": "owned", "brief_id": "br1",
        }  # fmt: skip
        write_table(store, media, media.frame([row]), source)


def test_a_call_is_its_videos_cost_its_brief_s_videos_its_niche_s_or_of_nothing(
    database: StateDatabase, store: ObjectStore, lake: Lake
) -> None:
    made_after(store, "acme--1", "acme--2")
    spend(database, 10, "own footage:acme--3", source_id="acme--3", niche="travel")
    spend(database, 7, "youtube:v1", niche="cooking")
    spend(database, 5, "br1", vendor="veo")
    spend(database, 4, "youtube:v2", niche="cooking")
    spend(database, 3)
    spend(database, None)
    spend(database, 99, at=NOON + timedelta(days=1))
    costs = make_costs(store, database, lake, [DAY])
    assert [finding.problem for finding in costs.findings] == ["", ""]
    told = [
        (
            row["bucket"],
            row["source_id"],
            row["niche"],
            row["vendor"],
            row["cost_microusd"],
            row["open_microusd"],
        )
        for row in costs.rows[DAY]
    ]
    assert sorted(told, key=str) == sorted(
        [
            ("source", "acme--3", "travel", "gemini", 10, 0),
            ("source", "acme--1", "cooking", "gemini", 4, 0), ("source", "acme--2", "cooking", "gemini", 3, 0),
            ("source", "acme--1", None, "veo", 3, 0), ("source", "acme--2", None, "veo", 2, 0),
            ("niche", None, "cooking", "gemini", 4, 0),
            ("unassigned", None, None, "gemini", 3, 0), ("unassigned", None, None, "gemini", 0, 50),
        ],
        key=str,
    )  # fmt: skip


def test_what_a_clip_cost_is_the_cost_of_the_video_it_became(
    database: StateDatabase, store: ObjectStore, lake: Lake
) -> None:
    clips = ALL_TABLES["synthesized_clips"]
    row = {
        "day": DAY, "niche": "cooking", "plan_id": "br1", "origin": "brief", "account": "acme", "title": "t",
        "prompt": "p", "engine": "veo", "why": "first", "considered_json": "[]", "wanted_json": "{}",
        "ask_again": False, "planned_at": NOON, "status": "made", "request_key": "clip-of-acme", "source_id": "acme--7",
    }  # fmt: skip
    write_table(store, clips, clips.frame([row]), f"{DAY}|cooking")
    spend(database, 20, "clip-of-acme", vendor="veo", niche="cooking")
    spend(database, 8, "clip-that-failed", vendor="veo", niche="cooking")
    rows = make_costs(store, database, lake, [DAY]).rows[DAY]
    assert sorted((row["bucket"], row["source_id"], row["cost_microusd"]) for row in rows) == [
        ("niche", None, 8), ("source", "acme--7", 20),
    ]  # fmt: skip


@given(cost=st.integers(0, 10**9), videos=st.integers(0, 9))
def test_a_shared_call_is_divided_without_a_millionth_lost(cost: int, videos: int) -> None:
    claim = {
        "id": "c", "day": DAY, "mode": "live", "account_id": "acme", "purpose": "brief", "provider": "p",
        "subject": "s", "niche": "n", "source_id": None, "state": "settled", "cost_microusd": cost,
        "reserved_microusd": cost,
    }  # fmt: skip
    rows = cost_rows(claim, {("s", "n"): [f"acme--{n}" for n in range(videos)]} if videos else {})
    assert sum(row["cost_microusd"] for row in rows) == cost
    assert len(rows) == max(1, videos)


def test_one_millionth_off_names_the_call(database: StateDatabase, store: ObjectStore, lake: Lake) -> None:
    spend(database, 10)
    spend(database, 20)
    make_costs(store, database, lake, [DAY])
    frame = read_table(store, CONTENT_COSTS, DAY.isoformat())
    frame.loc[0, "cost_microusd"] += 1
    write_table(store, CONTENT_COSTS, frame, DAY.isoformat())
    from ettametta_pipelines.revenue.costs import read_claims

    (said,) = unequal_claims(lake, read_claims(database, DAY, DAY), [DAY])
    claim = frame.loc[0, "claim_id"]
    assert said == f"claim {claim} cost USD 0.000010, its rows come to USD 0.000011"
    write_table(store, CONTENT_COSTS, frame[1:], DAY.isoformat())
    (said,) = unequal_claims(lake, read_claims(database, DAY, DAY), [DAY])
    assert said == f"claim {claim} cost USD 0.000010, its rows come to USD 0.000000"


def test_an_account_counted_one_millionth_off_is_named(database: StateDatabase) -> None:
    spend(database, 10)
    spend(database, None)
    assert unequal_spending(database, [DAY]) == []
    with database.session() as session:
        session.execute(sa.update(AccountSpending).values(spent_microusd=AccountSpending.spent_microusd + 1))
    assert unequal_spending(database, [DAY]) == [
        "live account acme in March 2026 is counted USD 0.000011 and 0.000050 set aside, its claims come to "
        "USD 0.000010 and 0.000050 set aside"
    ]


# --- margin ------------------------------------------------------------------------------------------------------


def post(number: int, niche: str, recipe: str, form: str = "9x16", platform: str = "youtube") -> Post:
    return Post(
        f"pub-{number}-{platform}", f"acme--{number}", "acme", platform, "UC", f"v{number}", NOON - timedelta(days=9),
        niche, form, recipe, ("grain", "vignette") if recipe == "cinematic" else (),
    )  # fmt: skip


def earned(
    minor: int, of: Post | None, currency: str = "USD", exponent: int = 2, **more: Any
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "day": DAY, "source": "shopify", "currency": currency, "exponent": exponent, "item_id": f"o{next(_numbers)}",
        "share_no": 1, "rule": "none", "gross_minor": minor, "fee_minor": 0, "net_minor": minor, "livemode": True,
    }  # fmt: skip
    if of is not None:
        names = (
            "account",
            "source_id",
            "publication_id",
            "platform",
            "channel_id",
            "niche",
            "format",
            "recipe",
        )
        row |= {name: getattr(of, name) for name in names}
    return row | more


def cost(microusd: int, source: str | None, niche: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "day": DAY, "claim_id": f"c{next(_numbers)}", "share_no": 1, "mode": "live", "account": "acme",
        "bucket": "source", "source_id": source, "niche": niche, "kind": "voice_over", "vendor": "v", "subject": "s",
        "state": "settled", "cost_microusd": microusd, "open_microusd": 0,
    } | more  # fmt: skip


def margin(
    store: ObjectStore,
    lake: Lake,
    posts: list[Post],
    revenue: list[dict[str, Any]],
    costs: list[dict[str, Any]],
    day: date = DAY,
) -> dict[tuple[str, str, str], dict[str, Any]]:
    write_table(store, REVENUE_ATTRIBUTION, REVENUE_ATTRIBUTION.frame(revenue), DAY.isoformat())
    write_table(store, CONTENT_COSTS, CONTENT_COSTS.frame(costs), DAY.isoformat())
    sources = {one.source_id: ("acme", str(one.niche)) for one in posts}
    made = make_margin(store, lake, [day], Posts(posts, sources), window_days=30)
    assert [finding.problem for finding in made.findings] == [""]
    return {(row["dimension"], row["value"], row["currency"]): row for row in made.rows[day]}


def test_a_niche_that_earns_and_one_that_loses_are_told_apart(store: ObjectStore, lake: Lake) -> None:
    posts = [post(n, "cooking" if n < 6 else "travel", "cinematic" if n % 2 else "clean") for n in range(12)]
    revenue = [earned(1000 + 10 * n, one) for n, one in enumerate(posts[:6])]
    costs = [cost(500_000 + n, one.source_id) for n, one in enumerate(posts)]
    found = margin(store, lake, posts, [*revenue, earned(700, None, reason="x")], costs)
    cooking, travel = found["niche", "cooking", "USD"], found["niche", "travel", "USD"]
    assert (cooking["verdict"], cooking["videos"], cooking["earning_videos"]) == ("earns", 6, 6)
    assert cooking["revenue_micro"] == sum(1000 + 10 * n for n in range(6)) * 10_000
    assert cooking["cost_micro"] == 6 * 500_000 + sum(range(6))
    assert (travel["verdict"], travel["earning_videos"], travel["margin_micro"]) == (
        "loses", 0, -(6 * 500_000 + sum(range(6, 12))),
    )  # fmt: skip
    assert travel["low"] <= travel["mean_margin"] <= travel["high"] < 0
    assert found["niche", "(unattributed)", "USD"]["revenue_micro"] == 7_000_000
    grain, vignette = found["filter", "grain", "USD"], found["filter", "vignette", "USD"]
    assert (
        grain["margin_micro"]
        == vignette["margin_micro"]
        == found["recipe", "cinematic", "USD"]["margin_micro"]
    )
    assert found["filter", "(none)", "USD"]["videos"] == 6
    assert found["format", "9x16", "USD"]["verdict"] == "earns"
    assert (
        found["format", "9x16", "USD"]["low"] < found["format", "9x16", "USD"]["mean_margin"] < cooking["low"]
    )
    (words,) = unattributed_in_words(list(found.values()))
    assert words == "Of USD 68.50 booked (live), USD 7.00, 10% are of no video that is known."


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("UNION ALL BY NAME\n        SELECT * FROM silent", ""),
        ("SELECT * FROM revenue\n        UNION ALL BY NAME", "revenue off by -17000000 and cost by 0"),
        ("UNION ALL BY NAME\n        SELECT * FROM costs", "revenue off by 0 and cost by -500000"),
    ],
)
def test_a_margin_that_loses_or_doubles_rows_fails_and_says_by_how_much(
    store: ObjectStore, lake: Lake, monkeypatch: pytest.MonkeyPatch, lost: str, said: str
) -> None:
    whole = {name: margin_module._sql(name) for name in ("content_margin", "check_margin_adds_up")}
    assert lost in whole["content_margin"]
    cut = whole | {"content_margin": whole["content_margin"].replace(lost, "")}
    monkeypatch.setattr(margin_module, "_sql", cut.__getitem__)
    one = post(1, "cooking", "clean")
    write_table(
        store, REVENUE_ATTRIBUTION, REVENUE_ATTRIBUTION.frame([earned(1000, one), earned(700, None)]), DAY.isoformat()
    )  # fmt: skip
    write_table(store, CONTENT_COSTS, CONTENT_COSTS.frame([cost(500_000, one.source_id)]), DAY.isoformat())
    posts = Posts([one], {one.source_id: ("acme", "cooking")})
    (finding,) = make_margin(store, lake, [DAY], posts, window_days=30).findings
    if said:
        assert f"2026-03-05 live USD by channel: {said} millionths" in finding.problem
    else:
        assert finding.problem == ""


def test_a_channel_is_told_from_another_of_its_platform(store: ObjectStore, lake: Lake) -> None:
    one, two = post(1, "cooking", "clean"), replace(post(2, "cooking", "clean"), channel_id="UC2")
    found = margin(
        store, lake, [one, two], [earned(5, one), earned(7, two), earned(3, None)], [cost(9, "acme--2")]
    )
    values = {
        value: row["margin_micro"] for (dimension, value, _), row in found.items() if dimension == "channel"
    }
    assert values == {"UC": 50_000, "UC2": 70_000 - 9, "(unattributed)": 30_000}


def test_few_videos_get_no_verdict_and_silent_ones_count(store: ObjectStore, lake: Lake) -> None:
    posts = [post(n, "cooking", "clean") for n in range(4)]
    found = margin(store, lake, posts, [earned(1000, posts[0])], [])
    cooking = found["niche", "cooking", "USD"]
    assert (cooking["verdict"], cooking["videos"], cooking["earning_videos"], cooking["low"]) == (
        "too few",
        4,
        1,
        None,
    )
    assert cooking["mean_margin"] == 2.5


def test_a_video_on_two_platforms_shares_its_cost_and_loses_no_millionth(
    store: ObjectStore, lake: Lake
) -> None:
    posts = [post(1, "cooking", "clean"), post(1, "cooking", "clean", platform="tiktok")]
    found = margin(store, lake, posts, [earned(5, posts[1])], [cost(7, "acme--1"), cost(3, None, "cooking")])
    assert sorted(found["platform", name, "USD"]["cost_micro"] for name in ("youtube", "tiktok")) == [3, 4]
    assert found["platform", "(shared)", "USD"]["cost_micro"] == 3
    assert found["niche", "cooking", "USD"]["cost_micro"] == 10
    assert (found["video", "acme--1", "USD"]["cost_micro"], found["video", "acme--1", "USD"]["videos"]) == (
        7,
        1,
    )


def test_currencies_and_play_money_are_never_added_up(store: ObjectStore, lake: Lake) -> None:
    one = post(1, "cooking", "clean")
    revenue = [
        earned(5, one), earned(7, one, "JPY", 0), earned(9, one, "KWD", 3), earned(11, one, livemode=False),
    ]  # fmt: skip
    found = margin(store, lake, [one], revenue, [cost(1, "acme--1"), cost(2, "acme--1", mode="sandbox")])
    by_mode = {
        (row["mode"], row["currency"]): (row["revenue_micro"], row["cost_micro"])
        for row in CONTENT_MARGIN.rows(read_table(store, CONTENT_MARGIN, DAY.isoformat()))
        if row["dimension"] == "niche"
    }
    assert by_mode == {
        ("live", "USD"): (50_000, 1), ("live", "JPY"): (7_000_000, 0), ("live", "KWD"): (9_000, 0),
        ("sandbox", "USD"): (110_000, 2),
    }  # fmt: skip
    assert found["niche", "cooking", "JPY"]["margin_micro"] == 7_000_000


def test_the_window_ends_on_the_day_and_forgets_what_is_older(store: ObjectStore, lake: Lake) -> None:
    one = post(1, "cooking", "clean")
    assert ("niche", "cooking", "USD") in margin(
        store, lake, [one], [earned(5, one)], [], DAY + timedelta(days=29)
    )
    assert margin(store, lake, [one], [earned(5, one)], [], DAY + timedelta(days=30)) == {}


def test_filters_are_the_parts_a_recipe_need_not_have() -> None:
    assert filters_of(
        '{"fit":"crop","grain":{"strength":4},"vignette":null,"originality":{},"version":1}'
    ) == ("grain",)


def test_of_two_posts_on_a_platform_the_newest_is_meant_and_without_a_platform_the_only_one() -> None:
    older, newer = post(1, "cooking", "clean"), post(1, "cooking", "punchy")
    newer = Post(**vars(newer) | {"publication_id": "pub-2", "published_at": NOON})
    posts = Posts([older, newer, post(2, "cooking", "clean")])
    assert posts.of("acme--1", "youtube") == newer
    assert posts.of("acme--1", None) is None
    assert posts.of("acme--2", None) == posts.all[2]
    assert posts.of("acme--2", "tiktok") is None
