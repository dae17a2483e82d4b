"""A world of orders, refunds, visits, channels and commissions: what is attributed and what is not are the books."""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ettametta_pipelines.revenue.affiliates import book_affiliates, import_csv
from ettametta_pipelines.revenue.attributing import Attributed, attribution_problems, make_attribution
from ettametta_pipelines.revenue.attribution import NOT_READ, Policy, Rule, source_of_code
from ettametta_pipelines.revenue.ledger import Finding
from ettametta_pipelines.revenue.margin_contracts import REVENUE_ATTRIBUTION, YOUTUBE_REVENUE
from ettametta_pipelines.revenue.orders import read_orders
from ettametta_pipelines.revenue.posts import Post, Posts
from ettametta_pipelines.revenue.youtube import RevenueRead, closes_at, read_channel
from ettametta_pipelines.storage.lake import Lake
from ettametta_pipelines.storage.parquet import read_table, write_table
from ettametta_pipelines.vendors.shopify_orders import OrderJourney, Visit
from ettametta_pipelines_tests.frozen import SetClock, utc
from ettametta_pipelines_tests.revenue.books import UTC as UTC_ZONE
from ettametta_pipelines_tests.revenue.books import Books, days, problems
from ettametta_pipelines_tests.revenue.ledger_simulator import ShopifyPayments
from ettametta_pipelines_tests.revenue.test_youtube_revenue import Told, channel

FIRST = date(2026, 3, 1)
SPAN = days(FIRST, 50)
WEEK = SPAN[:7]
POSTS = Posts(
    [
        Post(
            f"pub-{name}", f"acme--{name}", "acme", platform, f"UC{name}", name,
            datetime(2026, 2, 1, tzinfo=UTC), niche, "9x16", "cinematic", ("grain",),
        )
        for name, platform, niche in (("a", "youtube", "cooking"), ("b", "tiktok", "travel"))
    ],
    {"acme--a": ("acme", "cooking"), "acme--b": ("acme", "travel"), "acme--held": ("acme", "travel")},
)  # fmt: skip
CODES = source_of_code({"k3x": ("acme--b", "tiktok")})


class World:
    """A store whose orders remember their visits, and a channel that is read once its month is closed."""

    def __init__(self, folder: Path, clock: SetClock) -> None:
        self.clock = clock
        self.shop = ShopifyPayments(clock)
        self.books = Books(folder, UTC_ZONE, clock)
        self.orders: dict[str, OrderJourney] = {}

    def at(self, day: int) -> None:
        self.clock.now = datetime.combine(FIRST, datetime.min.time(), UTC) + timedelta(days=day, hours=12)

    def order(self, amount: str, *visits: tuple[float, str, str], fee: str = "0.30") -> str:
        """An order now; visits are (days before, utm_source, utm_content)."""
        name = f"gid://shopify/Order/{len(self.orders) + 1}"
        now = self.clock()
        self.orders[name] = OrderJourney(
            name, f"#{len(self.orders) + 1}", now, True,
            tuple(Visit(now - timedelta(days=ago), source, "video", "n", content) for ago, source, content in visits),
        )  # fmt: skip
        self.shop.move("CHARGE", amount, fee)["associatedOrder"] = {"id": name}
        return name

    def refund(self, order: str, amount: str) -> None:
        self.shop.move("REFUND", f"-{amount}")["associatedOrder"] = {"id": order}

    def journeys(self, start: datetime, end: datetime) -> Iterator[OrderJourney]:
        yield from (order for order in self.orders.values() if start <= order.ordered_at < end)

    def lake(self) -> Lake:
        return self.books.lake()

    def book(self, span: list[date]) -> None:
        self.books.read("shopify", self.shop, span)
        self.books.book("shopify", span)
        with self.lake() as lake:
            book_affiliates(self.books.store, lake, span, UTC_ZONE)
        self.books.mart(span)

    def read_journeys(self, span: list[date]) -> None:
        read_orders(self, self.books.store, span, UTC_ZONE, self.clock, livemode=False)

    def attribute(self, span: list[date], rule: Rule = "last_touch") -> Attributed:
        with self.lake() as lake:
            return make_attribution(self.books.store, lake, span, Policy(rule), POSTS, CODES)

    def told_by_youtube(self, answers: Mapping[date, tuple[int, Mapping[str, int]]]) -> None:
        for day in answers:
            found = RevenueRead()
            read_channel(
                channel("a"), Told(answers), [day], found, currency="USD", livemode=False, now=closes_at(day)
            )
            write_table(self.books.store, YOUTUBE_REVENUE, YOUTUBE_REVENUE.frame(found.rows), day.isoformat())

    def nets(self) -> dict[tuple[str, str], int]:
        """Net by source of money and video."""
        return {
            (row["source"], row["went_to"]): row["net"]
            for row in self.lake().rows(
                "select source, coalesce(source_id, 'none') as went_to, sum(net_minor) as net "
                "from revenue_attribution group by all"
            )
        }

    def table(self) -> list[dict[str, Any]]:
        return self.books.rows("revenue_attribution")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store", SetClock(utc("2026-03-01T12:00:00")))


def failing(findings: list[Finding]) -> dict[str, str]:
    return problems(findings)


def test_refunds_weeks_later_follow_their_order_and_everything_else_says_why_it_is_of_nobody(
    world: World,
) -> None:
    bought = world.order("100.00", (2, "youtube", "acme--a"), (0.1, "google", ""))
    world.order("50.00", (1, "tiktok", "k3x"))
    world.order("20.00", (40, "youtube", "acme--a"))
    world.shop.move("BILLING_DEBIT", "-9.99")
    world.at(45)
    world.refund(bought, "100.00")
    imported = b"occurred_at,amount,currency,status,link,transaction_id\n" + b"".join(
        f"2026-03-04,{amount},EUR,{status},{link},{number}\n".encode()
        for number, (amount, status, link) in enumerate(
            [
                ("3.00", "approved", "k3x"),
                ("4.00", "pending", "k3x"),
                ("5.00", "approved", ""),
                ("6", "reversed", "k3x"),
            ]
        )
    )
    import_csv(world.books.store, "amazon-de", "x.csv", imported, timezone=UTC_ZONE, now=world.clock())
    world.told_by_youtube({date(2026, 3, 2): (2_345_000, {"a": 1_234_567})})
    world.at(49)
    world.book(SPAN)
    world.read_journeys(SPAN)
    made = world.attribute(SPAN)
    assert failing(made.findings) == {}
    # Of the refunded order the fee is left, with the video it went to.
    assert world.nets() == {
        ("shopify", "acme--a"): -30, ("shopify", "acme--b"): 4970, ("shopify", "none"): 1970 - 999,
        ("youtube", "acme--a"): 123, ("youtube", "none"): 111,
        ("affiliate", "acme--b"): 300, ("affiliate", "none"): 500,
    }  # fmt: skip
    of_youtube = next(row for row in made.rows[date(2026, 3, 2)] if row.get("source_id"))
    assert (of_youtube["publication_id"], of_youtube["niche"], of_youtube["recipe"], of_youtube["format"]) == (
        "pub-a", "cooking", "cinematic", "9x16",
    )  # fmt: skip


def test_a_forged_link_to_a_video_that_is_not_out_takes_no_order_from_the_post_before_it(
    world: World,
) -> None:
    world.order("100.00", (2, "youtube", "acme--a"), (1, "tiktok", "acme--held"), (0.5, "tiktok", "acme--a"))
    world.order("20.00", (1, "youtube", "acme--held"))
    world.at(1)
    world.book(SPAN[:2])
    world.read_journeys(SPAN[:2])
    assert failing(world.attribute(SPAN[:2]).findings) == {}
    assert world.nets() == {("shopify", "acme--a"): 9970, ("shopify", "none"): 1970}


def test_an_order_read_late_is_of_nobody_until_then_and_its_video_s_after(world: World) -> None:
    bought = world.order("100.00", (2, "youtube", "acme--a"))
    world.at(20)
    world.refund(bought, "40.00")
    world.at(21)
    world.book(SPAN[:22])
    early = world.attribute(SPAN[:22])
    assert failing(early.findings) == {}
    assert {row["reason"] for rows in early.rows.values() for row in rows} == {NOT_READ}
    world.read_journeys(SPAN[:22])
    late = world.attribute(SPAN[10:22])
    assert "took -USD 40.00 from acme--a" in failing(late.findings)["refunds_follow_their_order"]
    assert failing(world.attribute(SPAN[:22]).findings) == {}
    assert world.nets() == {("shopify", "acme--a"): 5970}


def test_a_journey_once_told_stands_when_shopify_forgets_it(world: World) -> None:
    name = world.order("100.00", (2, "youtube", "acme--a"))
    world.at(1)
    world.read_journeys(SPAN[:1])
    told = world.orders[name]
    world.orders[name] = OrderJourney(name, told.name, told.ordered_at, True, ())
    world.read_journeys(SPAN[:1])
    world.book(SPAN[:1])
    world.attribute(SPAN[:1])
    assert world.nets() == {("shopify", "acme--a"): 9970}


def test_one_unit_too_many_fails_and_names_day_source_and_items(world: World) -> None:
    bought = world.order("100.00", (2, "youtube", "acme--a"))
    world.at(1)
    world.refund(bought, "100.00")
    world.at(2)
    world.book(SPAN[:3])
    world.read_journeys(SPAN[:3])
    world.attribute(SPAN[:3])
    store = world.books.store
    frame = read_table(store, REVENUE_ATTRIBUTION, SPAN[1].isoformat())
    for column in ("gross_minor", "net_minor"):
        frame[column] += 1
    write_table(store, REVENUE_ATTRIBUTION, frame, SPAN[1].isoformat())
    with world.lake() as lake:
        said = dict(attribution_problems(lake, {"first_day": SPAN[0], "last_day": SPAN[2]}))
    (adds_up,) = said["attribution_adds_up"]
    assert adds_up.startswith("2026-03-02 shopify USD")
    assert "off by USD 0.01" in adds_up
    assert bought in adds_up
    (follows,) = said["refunds_follow_their_order"]
    assert follows == f"{bought} was refunded in full and leaves USD 0.01 with acme--a"


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["order", "refund", "fee", "youtube", "commission"]),
        st.integers(1, 30_000),
        st.integers(0, len(WEEK) - 2),
    ),
    min_size=1,
    max_size=14,
)
VISITS = [
    (3.0, "youtube", "acme--a"),
    (2.0, "tiktok", "k3x"),
    (1.0, "youtube", "acme--a"),
    (90.0, "tiktok", "acme--b"),
]


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, rule=st.sampled_from(["last_touch", "first_touch", "linear"]), seed=st.integers(0, 999))
def test_on_every_day_in_any_order_and_with_late_data_the_parts_are_the_books(
    events: list[tuple[str, int, int]], rule: Rule, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("world")
    world = World(folder / "nightly", SetClock(utc("2026-03-01T12:00:00")))
    rng = random.Random(seed)
    happen(world, events, rng)
    world.at(len(WEEK) - 1)
    world.book(WEEK)
    world.read_journeys(WEEK)
    assert failing(world.attribute(WEEK, rule).findings) == {}
    wanted = world.table()

    shuffled = list(WEEK)
    rng.shuffle(shuffled)
    # Everything again, first before any visit is known, then a day at a time in no order: the sums hold throughout.
    other = World(folder / "shuffled", world.clock)
    other.shop, other.orders = world.shop, world.orders
    for info in world.books.store.list("tables"):
        if "affiliate_raw" in info.key or "youtube_revenue" in info.key:
            other.books.store.put(info.key, world.books.store.get(info.key))
    other.book(WEEK)
    for day in shuffled[:4]:
        assert "attribution_adds_up" not in failing(other.attribute([day], rule).findings)
    other.read_journeys(WEEK)
    for day in shuffled:
        assert "attribution_adds_up" not in failing(other.attribute([day], rule).findings)
    assert other.table() == wanted


def happen(world: World, events: list[tuple[str, int, int]], rng: random.Random) -> None:
    earned: dict[date, tuple[int, dict[str, int]]] = {}
    for number, (kind, amount, day) in enumerate(sorted(events, key=lambda event: event[2])):
        world.at(day)
        text = f"{amount // 100}.{amount % 100:02d}"
        if kind == "refund" and world.orders:
            world.refund(rng.choice(sorted(world.orders)), text)
        elif kind == "fee":
            world.shop.move("BILLING_DEBIT", f"-{text}")
        elif kind == "youtube":
            earned[SPAN[day]] = (amount * 777, {"a": amount * 333})
        elif kind == "commission":
            row = f"{SPAN[day]},{text},EUR,approved,{rng.choice(['k3x', ''])},t{number}\n"
            data = b"occurred_at,amount,currency,status,link,transaction_id\n" + row.encode()
            import_csv(world.books.store, "net", "x.csv", data, timezone=UTC_ZONE, now=world.clock())
        else:
            world.order(text, *rng.sample(VISITS, rng.randrange(len(VISITS) + 1)), fee="0.07")
    world.told_by_youtube(earned)
