"""What became of a post, told only from what was observed."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.publishing.contracts import PUBLICATION_METRICS
from ettametta_pipelines.scoring.outcomes import HORIZONS, at_age, missing_reasons, outcomes_of, read_outcomes
from ettametta_pipelines.scoring.quality_contracts import POST_OUTCOMES
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.lake import open_lake
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.parquet import table_key, write_table

Row = dict[str, Any]

PUBLISHED = datetime(2026, 5, 1, 12, tzinfo=UTC)
AS_OF = PUBLISHED + timedelta(days=30)
DAY = HORIZONS[0]
PARTS = ("velocity", "outlier", "engagement", "hook", "aesthetics")


def hours(*pairs: tuple[float, int]) -> list[tuple[timedelta, int]]:
    return [(timedelta(hours=age), count) for age, count in pairs]


def post(name: str, **changes: Any) -> Row:
    row = {
        "publication_id": name, "source_id": f"acme--{name}", "platform": "youtube", "account": "acme",
        "channel_id": "UC1", "privacy": "public", "published_at": PUBLISHED, "brief_id": "b", "niche": "fitness",
        "candidate_day": PUBLISHED.date(), "candidate_platform": "youtube", "candidate_video_id": "v", "score": 0.6,
        "weights_version": "stated-1", "challenger_score": None, "challenger_version": None,
        "observed_at": PUBLISHED - timedelta(hours=9), **{f"{part}_part": 0.5 for part in PARTS},
    }  # fmt: skip
    return row | changes


def reading(name: str, age_h: float, views: int | None, **changes: Any) -> Row:
    row = {"publication_id": name, "observed_at": PUBLISHED + timedelta(hours=age_h), "views": views}
    return row | {"likes": 10, "comments": 1} | changes


def readings(name: str, at_a_day: int) -> list[Row]:
    return [reading(name, 24, at_a_day), reading(name, 168, 2 * at_a_day)]


def of(name: str, rows: list[Row]) -> Row:
    return next(row for row in rows if row["publication_id"] == name)


def test_views_between_two_readings_lie_between_them_as_a_power_of_age() -> None:
    value = at_age(hours((12, 999), (48, 3999)), DAY)
    assert value is not None
    assert math.expm1(value) == pytest.approx(1999, abs=1)


def test_a_reading_at_the_very_age_is_taken_as_it_is() -> None:
    assert at_age(hours((24, 500)), DAY) == pytest.approx(math.log1p(500))


@pytest.mark.parametrize(
    "told",
    [hours((1, 10), (23, 90)), hours((25, 100), (50, 200)), hours((2, 10), (52, 900)), hours()],
    ids=["only before", "only after", "too far apart", "nothing"],
)
def test_nothing_is_extrapolated(told: list[tuple[timedelta, int]]) -> None:
    assert at_age(told, DAY) is None


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(0.1, 23.9), st.floats(24.1, 48))
def test_an_interpolated_count_never_leaves_its_neighbours(
    a: int, b: int, before: float, after: float
) -> None:
    value = at_age(hours((before, min(a, b)), (after, max(a, b))), DAY)
    assert value is not None
    assert math.log1p(min(a, b)) - 1e-9 <= value <= math.log1p(max(a, b)) + 1e-9


def test_lift_is_against_the_median_of_the_channels_other_posts() -> None:
    names = [f"p{i}" for i in range(6)]
    told = [row for name in names[:5] for row in readings(name, 1000)] + readings("p5", 4000)
    row = of("p5", outcomes_of([post(name) for name in names], told, AS_OF))
    assert row["usual_views_24h"] == pytest.approx(1000)
    assert row["lift_24h"] == pytest.approx(math.log(4), abs=0.01)
    assert row["engagement_lift_24h"] == pytest.approx(-math.log(4), abs=0.01)


def test_a_channel_a_thousand_times_larger_has_the_same_lifts() -> None:
    small = [post(f"s{i}") for i in range(6)]
    large = [post(f"l{i}", channel_id="UC2") for i in range(6)]
    views = [100_000, 200_000, 300_000, 400_000, 500_000, 900_000]
    told = [row for i, v in enumerate(views) for row in (*readings(f"s{i}", v), *readings(f"l{i}", v * 1000))]
    rows = outcomes_of([*small, *large], told, AS_OF)
    for i in range(6):
        assert of(f"s{i}", rows)["lift_7d"] == pytest.approx(of(f"l{i}", rows)["lift_7d"], abs=1e-4)


def test_every_reason_for_not_knowing_is_named() -> None:
    rows = outcomes_of(
        [
            post("private", privacy="private"),
            post("young", published_at=AS_OF - timedelta(hours=5)),
            post("unseen", channel_id="UC3"),
            post("alone", channel_id="UC4"),
            post("unbriefed", brief_id=None),
            post("lost", candidate_day=None),
            post("unscored", score=None),
            post("hindsight", observed_at=PUBLISHED + timedelta(days=2)),
        ],
        readings("alone", 100),
        AS_OF,
    )
    assert {name: of(name, rows)["status_24h"] for name in ("private", "young", "unseen", "alone")} == {
        "private": "not_public", "young": "too_young", "unseen": "not_observed", "alone": "no_usual",
    }  # fmt: skip
    assert of("alone", rows)["lift_24h"] is None
    assert {name: of(name, rows)["link"] for name in ("unbriefed", "lost", "unscored", "hindsight")} == {
        "unbriefed": "no_brief", "lost": "brief_unknown", "unscored": "candidate_unknown",
        "hindsight": "observed_later",
    }  # fmt: skip
    assert sum(missing_reasons(rows, "24h").values()) == 8
    POST_OUTCOMES.frame([{"day": AS_OF.date()} | row for row in rows])


def test_hidden_figures_stay_unknown() -> None:
    names = [f"p{i}" for i in range(6)]
    told = [row | {"likes": None} for name in names for row in readings(name, 1000)]
    told += [reading("p0", 24.5, None)]
    row = of("p0", outcomes_of([post(name) for name in names], told, AS_OF))
    assert (row["status_24h"], row["engagement_lift_24h"]) == ("known", None)


def test_figures_of_days_that_do_not_matter_are_not_opened(settings_env: Settings) -> None:
    store, at = open_store(settings_env), datetime(2026, 11, 20, tzinfo=UTC)
    figures = reading(
        "p", 24, 500, day=at.date(), platform="youtube", source_id="acme--p", remote_id="v", shares=None
    )
    frame = PUBLICATION_METRICS.frame([figures | {"observed_at": at}])
    write_table(store, PUBLICATION_METRICS, frame, "2026-11-20")
    for day in ("2026-04-01", "2026-12-01"):
        store.put(table_key("publication_metrics", day), b"not to be opened")
    with open_lake(settings_env, ALL_TABLES) as lake:
        assert read_outcomes(lake, at.date(), at) == []
