"""What channels earn: estimates apart from finals, all revisions kept, booked to the unit once a month is closed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettametta_pipelines.publishing.earnings import EarningChannel, Post
from ettametta_pipelines.revenue.contracts import CONTRACTS
from ettametta_pipelines.revenue.daily import make_daily_revenue
from ettametta_pipelines.revenue.margin_contracts import YOUTUBE_REVENUE
from ettametta_pipelines.revenue.youtube import (
    ESTIMATED,
    FINALISED,
    REST,
    RevenueRead,
    closes_at,
    known_rows,
    newest,
    read_channel,
    read_channels,
    store_days,
)
from ettametta_pipelines.storage.lake import Lake
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import write_table

DAY = date(2026, 3, 5)
EARLY = datetime(2026, 3, 8, 12, tzinfo=UTC)
CLOSED = closes_at(DAY)
POSTED = datetime(2026, 3, 1, tzinfo=UTC)


def channel(*videos: str, may_tell: bool = True) -> EarningChannel:
    posts = {name: Post(f"pub-{name}", f"acme--{name}", POSTED) for name in videos}
    return EarningChannel("acme", "UCacme", may_tell, lambda: "token", posts)


class Told:
    """A channel's answers: {day: (total, {video: amount})} in millionths."""

    def __init__(self, days: Mapping[date, tuple[int, Mapping[str, int]]]) -> None:
        self.days = days

    def channel_revenue(self, first: date, last: date) -> dict[date, int]:
        return {day: total for day, (total, _) in self.days.items() if first <= day <= last}

    def video_revenue(self, day: date, video_ids: Sequence[str]) -> dict[str, int]:
        return {name: amount for name, amount in self.days[day][1].items() if name in video_ids}


def read(rows: Sequence[dict[str, Any]], total: int, now: datetime, **videos: int) -> RevenueRead:
    found = RevenueRead(rows=[dict(row) for row in rows])
    answers = Told({DAY: (total, videos)})
    read_channel(channel("a", "b"), answers, [DAY], found, currency="USD", livemode=False, now=now)
    return found


def amounts(rows: Sequence[dict[str, Any]], column: str = "amount_micro") -> dict[str, int]:
    return {row["video_id"]: row[column] for row in newest(rows)}


def test_what_is_of_no_post_of_ours_is_the_rest_and_estimates_are_not_booked() -> None:
    rows = read([], 5_000_000, EARLY, a=1_234_567, b=765_433).rows
    assert amounts(rows) == {"a": 1_234_567, "b": 765_433, REST: 3_000_000}
    assert {row["basis"] for row in rows} == {ESTIMATED}
    assert set(amounts(rows, "booked_minor").values()) == {0}
    assert [row["source_id"] for row in rows] == ["acme--a", "acme--b", None]


def test_an_estimate_that_moves_is_a_revision_beside_the_one_before() -> None:
    first = read([], 100, EARLY, a=100)
    again = read(first.rows, 100, EARLY + timedelta(days=1), a=100)
    assert (again.rows, again.new, again.revised) == (first.rows, 0, 0)
    moved = read(first.rows, 90, EARLY + timedelta(days=2), a=90)
    assert (moved.new, moved.revised, moved.reopened) == (0, 1, [])
    assert [
        (row["amount_micro"], row["valid_to"] is None) for row in moved.rows if row["video_id"] == "a"
    ] == [
        (100, False),
        (90, True),
    ]


def test_a_closed_month_is_final_booked_once_and_apart_from_its_estimates() -> None:
    estimated = read([], 20_000, EARLY, a=10_000, b=10_000).rows
    final = read(estimated, 14_999, CLOSED, a=4_999, b=5_000)
    holds = newest(final.rows)
    assert {(row["basis"], row["revision"]) for row in holds} == {(FINALISED, 1)}
    # 1.4999 cents are a cent: it goes to whom it was nearest to.
    assert amounts(final.rows, "booked_minor") == {"a": 0, "b": 1, REST: 0}
    assert final.reopened == []


def test_a_final_day_that_changes_reopens_visibly_with_its_videos() -> None:
    final = read([], 50_000, CLOSED, a=30_000).rows
    late = read(final, 40_000, CLOSED + timedelta(days=3), a=20_000)
    assert late.reopened == ["2026-03-05 of acme's channel UCacme was USD 0.050000, is 0.040000; changed: a"]
    assert [row["revision"] for row in newest(late.rows)] == [2, 2]


def test_a_day_that_is_not_there_yet_or_no_longer_is_left_as_it_stands() -> None:
    found = RevenueRead(rows=read([], 100, EARLY, a=100).rows)
    before = [dict(row) for row in found.rows]
    read_channel(channel("a"), Told({}), [DAY], found, currency="USD", livemode=False, now=CLOSED)
    assert found.rows == before


def test_an_older_reading_that_is_filed_late_changes_nothing() -> None:
    final = read([], 100, CLOSED, a=100).rows
    assert read(final, 70, EARLY, a=70).rows == final


@settings(max_examples=60)
@given(
    readings=st.lists(
        st.tuples(st.integers(0, 60), st.lists(st.integers(-(10**7), 10**8), min_size=3, max_size=3)),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_is_told_the_books_are_the_total_rounded_once(
    readings: list[tuple[int, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows: list[dict[str, Any]] = []
    for days_later, (a, b, rest) in sorted(readings, key=lambda one: one[0]):
        rows = read(rows, a + b + rest, EARLY + timedelta(days=days_later), a=a, b=b).rows
    holds = newest(rows)
    assert (
        sum(row["amount_micro"] for row in holds)
        == sum(row["amount_micro"] for row in holds if row["video_id"] != REST) + amounts(rows)[REST]
    )
    store = ObjectStore.from_url(tmp_path_factory.mktemp("store").as_uri())
    assert store_days(store, RevenueRead(rows=rows), [DAY])[1] == []
    assert {(r["video_id"], r["valid_from"]) for r in known_rows(store, [DAY])} == {
        (r["video_id"], r["valid_from"]) for r in rows
    }


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"booked_minor": 4}, "2026-03-05 UCacme is booked with USD 0.06, what was told rounds to USD 0.05"),
        ({"basis": ESTIMATED, "booked_minor": 0}, "2026-03-05 UCacme holds estimates beside finals"),
        (
            {"basis": ESTIMATED, "booked_minor": 1},
            "2026-03-05 UCacme a is an estimate and booked with USD 0.01",
        ),
    ],
)
def test_mixed_bases_or_one_unit_too_many_fail_the_check_by_name(
    store: ObjectStore, change: dict[str, Any], said: str
) -> None:
    rows = read([], 50_000, CLOSED, a=30_000).rows
    rows[0] |= change
    assert said in store_days(store, RevenueRead(rows=rows), [DAY])[1]


def test_two_figures_at_once_fail_the_check(store: ObjectStore) -> None:
    rows = read([], 50_000, CLOSED, a=30_000).rows
    twice = rows[0] | {"revision": 2}
    (said, *_) = store_days(store, RevenueRead(rows=[*rows, twice]), [DAY])[1]
    assert said.startswith("2026-03-05 UCacme")


def test_the_daily_mart_books_what_is_final_and_nothing_else(store: ObjectStore) -> None:
    rows = read(read([], 90_000, EARLY, a=90_000).rows, 50_000, CLOSED, a=30_000).rows
    other = [row | {"day": DAY + timedelta(days=1)} for row in read([], 70_000, EARLY, a=70_000).rows]
    for day, found in ((DAY, rows), (DAY + timedelta(days=1), other)):
        write_table(store, YOUTUBE_REVENUE, YOUTUBE_REVENUE.frame(found), day.isoformat())
    with Lake.over(store, {contract.name: contract for contract in CONTRACTS}) as lake:
        made = make_daily_revenue(store, lake, [DAY, DAY + timedelta(days=1)])
    assert [finding.problem for finding in made.findings] == ["", ""]
    (row,) = made.rows[DAY]
    assert (row["source"], row["net_minor"], row["fee_minor"]) == ("youtube", 5, 0)
    assert made.rows[DAY + timedelta(days=1)] == []


def test_a_channel_without_consent_is_named_and_the_others_are_read() -> None:
    found, problems = read_channels(
        [channel("a", may_tell=False), channel("a")],
        lambda _: Told({DAY: (7, {"a": 7})}),
        [DAY],
        [],
        currency="USD",
        livemode=True,
        now=EARLY,
    )
    assert problems == ["acme's consent does not cover revenue"]
    assert amounts(found.rows) == {"a": 7, REST: 0}
