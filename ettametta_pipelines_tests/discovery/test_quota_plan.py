"""Who may search how often, and what: shares, order, re-runs and backfills."""

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.quota_plan import (
    PastSearch,
    PlannedSearch,
    allowance,
    night_shares,
    possible_searches,
    rank_searches,
    wanted_searches,
)

TODAY = date(2026, 11, 21)


def niche(slug: str = "fitness", queries: int = 6, **changes: Any) -> Niche:
    fields = {"slug": slug, "title": slug, "queries": tuple(f"query {n}" for n in range(queries))}
    return Niche(**{**fields, **changes})


def made(
    search: PlannedSearch, *, days_ago: int, new: int, outliers: int = 0, niche: str = "fitness"
) -> PastSearch:
    day = TODAY - timedelta(days=days_ago)
    return PastSearch(niche, search, day, day, new, outliers)


def shares(
    *niches: Niche, searches: int = 90, history: tuple[PastSearch, ...] = (), today: date = TODAY
) -> Any:
    by_slug = {n.slug: n for n in niches}
    return night_shares(by_slug, history, today=today, searches=searches, per_weight=6)


def test_every_query_comes_in_the_first_market_before_the_next() -> None:
    wide = niche(queries=2, regions=("US", "GB"), languages=("en",))
    assert [str(s) for s in possible_searches(wide)] == [
        "query: query 0 (US en)", "query: query 1 (US en)", "query: query 0 (GB en)", "query: query 1 (GB en)",
    ]  # fmt: skip
    assert wanted_searches(wide, 3) == 3
    assert wanted_searches(wide.model_copy(update={"weight": 0.1}), 3) == 1


@given(
    weights=st.lists(st.floats(0.05, 10), min_size=1, max_size=120),
    searches=st.integers(0, 100),
    queries=st.integers(1, 20),
)
def test_shares_never_exceed_the_inventory_nor_what_a_niche_wants_and_waste_nothing(
    weights: list[float], searches: int, queries: int
) -> None:
    niches = [niche(f"n{i}", queries, weight=weight) for i, weight in enumerate(weights)]
    given_ = shares(*niches, searches=searches)
    wants = {n.slug: wanted_searches(n, 6) for n in niches}
    assert all(0 <= given_[slug] <= wants[slug] for slug in wants)
    assert sum(given_.values()) == min(searches, sum(wants.values()))


def test_a_niche_of_twice_the_weight_gets_twice_the_searches() -> None:
    given_ = shares(niche("a", 20, weight=2), niche("b", 20), niche("c", 20), searches=12)
    assert given_ == {"a": 6, "b": 3, "c": 3}


def test_a_niche_whose_searches_bring_more_gets_more_but_none_is_starved() -> None:
    rich = [made(PlannedSearch("q", None, None), days_ago=d, new=40, niche="a") for d in range(1, 15)]
    poor = [made(PlannedSearch("q", None, None), days_ago=d, new=1, niche="b") for d in range(1, 15)]
    given_ = shares(niche("a", 20, weight=3), niche("b", 20, weight=3), searches=12, history=(*rich, *poor))
    assert given_["a"] > given_["b"] >= 3


def test_what_a_niche_does_tonight_does_not_move_tonights_shares() -> None:
    tonight = made(PlannedSearch("q", None, None), days_ago=0, new=50, niche="a")
    pair = (niche("a", 20), niche("b", 20))
    assert shares(*pair, searches=7, history=(tonight,)) == shares(*pair, searches=7)


def test_where_niches_outnumber_searches_those_that_waited_longest_come_first() -> None:
    niches = [niche(f"n{i}") for i in range(6)]
    first = shares(*niches, searches=3)
    history = tuple(
        made(PlannedSearch("q", None, None), days_ago=0, new=5, niche=slug) for slug, n in first.items() if n
    )
    next_day = shares(*niches, searches=3, history=history, today=TODAY + timedelta(days=1))
    assert {s for s, n in next_day.items() if n} == {s for s, n in first.items() if not n}


def test_an_unproven_niche_searches_in_the_order_of_its_file() -> None:
    fresh = niche(queries=3)
    assert [c.search for c in rank_searches(fresh, [], {}, today=TODAY)] == possible_searches(fresh)


def test_what_brought_most_comes_first_until_something_else_has_waited_long_enough() -> None:
    strong, weak, _ = possible_searches(niche(queries=3))
    both = niche(queries=2)
    after_a_night = [made(strong, days_ago=1, new=20, outliers=2), made(weak, days_ago=1, new=10)]
    assert rank_searches(both, after_a_night, {}, today=TODAY)[0].search == strong
    weak_waited = [made(strong, days_ago=d, new=20, outliers=2) for d in range(1, 20)] + [
        made(weak, days_ago=20, new=10)
    ]
    ranked = rank_searches(both, weak_waited, {}, today=TODAY)
    assert ranked[0].search == weak
    assert "20 days ago" in ranked[0].reason


def test_a_backfill_leaves_tonights_staleness_alone() -> None:
    one, two = possible_searches(niche(queries=2))
    backfilled = PastSearch("fitness", one, TODAY - timedelta(days=25), TODAY, 5, 0)
    ranked = rank_searches(niche(queries=2), [made(two, days_ago=1, new=5), backfilled], {}, today=TODAY)
    assert ranked[0].search == one


def test_parked_searches_are_served_first_the_oldest_before_all() -> None:
    one, two, three = possible_searches(niche(queries=3))
    parked = {three: date(2026, 11, 19), two: date(2026, 11, 20)}
    ranked = rank_searches(niche(queries=3), [made(one, days_ago=9, new=99)], parked, today=TODAY)
    assert [c.search for c in ranked] == [three, two, one]
    assert ranked[0].reason == "parked for 2026-11-19 when the quota was spent"


def may(slug: str, spent: dict[str, int], left: int, *, is_news: bool = True) -> int:
    return allowance(slug, shares={"a": 4, "b": 4}, spent=spent, left=left, rerun_reserve=2, is_news=is_news)


@pytest.mark.parametrize(
    ("slug", "spent", "left", "is_news", "searches"),
    [
        ("a", {}, 10, True, 4),
        ("b", {"a": 4}, 6, True, 4),
        # Again the same night: from the reserve, never from what the other waits for.
        ("a", {"a": 4}, 6, True, 2),
        ("a", {"a": 6}, 4, True, 0),
        # Somebody else has used the key: both get their part of the rest.
        ("a", {}, 5, True, 3),
        ("a", {}, 1, True, 1),
        # A backfill takes what no news and no re-run needs.
        ("a", {}, 10, False, 0),
        ("a", {}, 30, False, 20),
        ("a", {"a": 4, "b": 4}, 12, False, 10),
    ],
)  # fmt: skip
def test_a_run_takes_its_share_a_repeat_the_reserve_and_a_backfill_the_rest(
    slug: str, spent: dict[str, int], left: int, is_news: bool, searches: int
) -> None:
    assert may(slug, spent, left, is_news=is_news) == searches
