"""A quarter of all that happens to money, on a simulated account: the books hold, in whatever order they are made."""

import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ettametta_pipelines.clock import business_day_bounds, business_day_of
from ettametta_pipelines.revenue.reconcile import LEDGER_CHECKS
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.stripe import StripeClient
from ettametta_pipelines_tests.frozen import SetClock, utc
from ettametta_pipelines_tests.revenue.books import LOS_ANGELES, Books, days, problems
from ettametta_pipelines_tests.revenue.ledger_simulator import ShopifyPayments, StripeAccount, StripeServer

FIRST = date(2026, 8, 12)
SPAN = days(FIRST, 90)
# Weeks at whose end the books are closed.
CLOSED_WEEKS = (1, 3, 4, 5, 8, 11)
# Days on which something in particular happens, counted from the first.
AUTUMN = (date(2026, 11, 1) - FIRST).days


class World:
    """An account and a store that go through the same quarter, and the clients that read them."""

    def __init__(self, server: str, account: StripeAccount, clock: SetClock) -> None:
        self.account, self.clock = account, clock
        self.shop = ShopifyPayments(clock)
        endpoint = VendorEndpoint("stripe", "sandbox", server, "test")
        self.clients: dict[str, Any] = {
            "stripe": StripeClient(endpoint, sleep=lambda _: None), "shopify": self.shop,
        }  # fmt: skip

    def at(self, day: int, hour: int = 12) -> None:
        self.clock.now = business_day_bounds(SPAN[day], LOS_ANGELES)[0] + timedelta(hours=hour)


@pytest.fixture
def clock() -> SetClock:
    return SetClock(utc("2026-08-12T12:00:00"))


@pytest.fixture
def world(clock: SetClock) -> Iterator[World]:
    account = StripeAccount(clock)
    with StripeServer(account) as url:
        yield World(url, account, clock)


def live(world: World) -> Iterator[int]:
    """The whole list of fixtures, week by week; yields the day on which the books of the week are due."""
    account, shop = world.account, world.shop
    kept: dict[str, str] = {}
    for week in range(13):
        world.at(week * 7, 9)
        account.charge(2900)
        account.charge(5000 + week, withheld=17)
        shop.move("CHARGE", "19.99", "0.88")
        kept[f"charge {week}"] = account.charge(10_000)
        account.charge(4300, "jpy")
        account.charge(12_340, "kwd")
        account.charge(250_000, "huf")
        account.charge(9900, "twd")
        kept[f"euro {week}"] = account.charge(10_000, settled=9215, into="eur", rate="0.9215")
        happen(world, week, kept)
        world.at(week * 7 + 2, 8)
        for currency in ("usd", "jpy", "kwd", "huf", "twd", "eur"):
            kept[f"payout {currency} {week}"] = account.pay_out(currency)
        shop.pay_out()
        world.at(week * 7 + 5, 3)
        if week in CLOSED_WEEKS:
            yield min(week * 7 + 4, len(SPAN) - 1)


def happen(world: World, week: int, kept: dict[str, str]) -> None:
    account, shop = world.account, world.shop
    if week == 1:
        account.refund(kept["charge 0"], 3000)
        account.refund(kept["charge 0"], 2001)
        kept["failed refund"] = account.refund(kept["charge 1"], 500)
        shop.move("REFUND", "-19.99")
    if week == 2:
        account.fail_refund(kept["failed refund"])
        kept["lost"] = account.dispute(kept["charge 1"], 10_000)
        kept["won"] = account.dispute(kept["charge 2"], 10_000)
        account.fail_payout(kept["payout usd 1"])
        account.refund(kept["euro 0"], 10_000, settled=9100, into="eur")
    if week == 3:
        account.pay_instantly(700, 7)
        account.move("fee", 45)
        account.move("other_adjustment", -321)
        shop.move("RESERVED_FUNDS", "-5.00")
        shop.move("ADJUSTMENT", "1.23")
    if week == 4:
        account.lose(kept["lost"])
        account.win(kept["won"])
        kept["partial"] = account.dispute(kept["charge 3"], 2500)
        kept["second of one charge"] = account.dispute(kept["charge 3"], 1500)
        account.late(777, world.clock() + timedelta(days=15))
    if week == 5:
        account.refund(kept["charge 1"], 10_000)
        # More goes back than comes in: the bank is debited.
        account.refund(kept["charge 4"], 10_000)
        account.move("other_adjustment", -90_000)
        shop.move("RESERVED_FUNDS_REVERSAL", "5.00")
    if week == 6:
        account.win(kept["partial"])
        account.lose(kept["second of one charge"])
    if week == 11:
        start, end = business_day_bounds(SPAN[AUTUMN], LOS_ANGELES)
        world.clock.now = end + timedelta(hours=1)
        for instant in (start - timedelta(seconds=1), start, end - timedelta(seconds=1), end):
            account.charge(100, at=instant)


def test_a_quarter_of_everything_holds_and_comes_out_the_same_in_any_order_twice_and_from_raw(
    world: World, clock: SetClock, tmp_path: Path
) -> None:
    nightly = Books(tmp_path / "nightly", LOS_ANGELES, clock)
    reopened: list[str] = []
    for last in live(world):
        span = SPAN[max(0, last - 34) : last + 1]
        for source, client in world.clients.items():
            reopened += [said for day in nightly.read(source, client, span) for said in day.news]
        found = problems(nightly.make(span))
        # The balance tells of the movement that Stripe does not list yet.
        hidden = "balance_moves_by_the_net" if last == 39 else ""
        assert set(found) == ({hidden} - {""}), found
        assert not hidden or "off by USD 7.77" in found[hidden]
    assert len(reopened) == 1
    assert "came late: other_adjustment of $7.77" in reopened[0]
    world.at(len(SPAN) - 1, 40)
    assert problems(nightly.close(world.clients, SPAN[-35:])) == {}
    wanted = nightly.business_hash()

    # Everything again, twice, in random order.
    shuffled = Books(tmp_path / "shuffled", LOS_ANGELES, clock)
    chunks = [SPAN[n : n + 15] for n in range(0, len(SPAN), 15)]
    order = chunks * 2
    random.Random(11).shuffle(order)
    for chunk in order:
        for source, client in world.clients.items():
            shuffled.read(source, client, chunk)
    random.Random(12).shuffle(chunks)
    for chunk in chunks:
        for source in world.clients:
            shuffled.book(source, chunk)
        shuffled.mart(chunk)
    assert shuffled.business_hash() == wanted
    assert problems(shuffled.reconcile(SPAN).findings) == {}

    # From the raw files alone, put there twice and in random order.
    rebuilt = Books(tmp_path / "rebuilt", LOS_ANGELES, clock)
    files = [item for source in world.clients for item in nightly.raw_files(source).items()] * 2
    random.Random(13).shuffle(files)
    for key, data in files:
        rebuilt.store.put(key, data)
    assert problems(rebuilt.make(SPAN)) == {}
    assert rebuilt.business_hash() == wanted
    assert {row["currency"]: row["exponent"] for row in rebuilt.rows("daily_revenue")} == {
        "USD": 2, "JPY": 0, "KWD": 3, "HUF": 2, "TWD": 2, "EUR": 2,
    }  # fmt: skip
    edges = [row for row in rebuilt.rows("stripe_ledger") if row["amount_minor"] == 100]
    assert [row["day"] - SPAN[AUTUMN] for row in edges] == [timedelta(days=n) for n in (-1, 0, 0, 1)]


def test_booking_a_closed_day_again_changes_no_business_column(
    world: World, clock: SetClock, tmp_path: Path
) -> None:
    books = Books(tmp_path / "books", LOS_ANGELES, clock)
    for last in live(world):
        if last > 14:
            break
    books.close(world.clients, SPAN[:14])
    before, files = books.business_hash(), entries(books)
    for name in world.clients:
        assert not any(
            day.added or day.changed or day.gone for day in books.read(name, world.clients[name], SPAN[:14])
        )
    books.make(SPAN[:14])
    assert books.business_hash() == before
    assert entries(books) == files


def entries(books: Books) -> set[str]:
    return {key for source in ("stripe", "shopify") for key in books.raw_files(source) if "/entries/" in key}


# --- one minor unit ----------------------------------------------------------------------------------------------


def broken_payout(account: StripeAccount) -> str:
    name = account.pay_out()
    account.payouts[name]["amount"] += 1
    account.entry_of(name)["amount"] -= 1
    account.entry_of(name)["net"] -= 1
    return name


def paid_twice(account: StripeAccount) -> str:
    first = account.pay_out()
    twice = account.paid_by[first][0]
    account.charge(2900)
    second = account.pay_out()
    account.paid_by[second].append(twice)
    return twice


def short_reversal(account: StripeAccount) -> str:
    name = account.pay_out()
    account.fail_payout(name, short_by=1)
    return name


def crooked_refund(account: StripeAccount) -> str:
    name = account.charge(5000)
    account.refund(name, 1000)
    account.charges[name]["amount_refunded"] += 1
    return name


def short_win(account: StripeAccount) -> str:
    name = account.dispute(account.charge(5000), 5000)
    account.win(name, short_by=1)
    return name


def crooked_net(account: StripeAccount) -> str:
    row = account.entry_of(account.charge(5000))
    row["net"] += 1
    return str(row["id"])


def crooked_parts(account: StripeAccount) -> str:
    row = account.entry_of(account.charge(5000))
    row["fee_details"][0]["amount"] += 1
    return str(row["id"])


def unplaced(account: StripeAccount) -> str:
    return account.move("loan_from_mars", 100)


@pytest.mark.parametrize(
    ("break_it", "check"),
    [
        (broken_payout, "payouts_add_up"),
        (paid_twice, "paid_once"),
        (short_reversal, "failed_payouts_are_reversed"),
        (crooked_refund, "refunds_match_charges"),
        (short_win, "disputes_settle"),
        (crooked_net, "net_is_amount_minus_fee"),
        (crooked_parts, "fee_details_add_up"),
        (unplaced, "categories_are_known"),
    ],
)
def test_a_difference_of_one_minor_unit_fails_its_check_and_names_the_object(
    world: World, clock: SetClock, tmp_path: Path, break_it: Any, check: str
) -> None:
    world.at(0)
    world.account.charge(2900)
    name = break_it(world.account)
    world.at(3)
    books = Books(tmp_path / "books", LOS_ANGELES, clock)
    found = problems(books.close(world.clients, SPAN[:4]))
    assert name in found.pop(check)
    # A payout listed with the row twice, or with a crooked net, does not add up either.
    assert set(found) <= {"payouts_add_up", "mart_equals_ledger", "balance_moves_by_the_net"}


def test_a_balance_that_moved_by_another_sum_is_named_with_the_difference(
    world: World, clock: SetClock, tmp_path: Path
) -> None:
    books = Books(tmp_path / "books", LOS_ANGELES, clock)
    world.at(0)
    world.account.charge(2900)
    world.at(1, 1)
    assert problems(books.close(world.clients, SPAN[:2])) == {}
    clock.sleep(60)
    world.account.charge(700)
    world.account.balance_error = 1
    world.at(1, 20)
    found = problems(books.close(world.clients, SPAN[:2]))
    assert set(found) == {"balance_moves_by_the_net"}
    assert "off by USD 0.01" in found["balance_moves_by_the_net"]


def test_a_payout_of_days_not_booked_waits_and_is_no_difference(
    world: World, clock: SetClock, tmp_path: Path
) -> None:
    books = Books(tmp_path / "books", LOS_ANGELES, clock)
    world.at(0)
    world.shop.move("CHARGE", "19.99", "0.88")
    world.at(1)
    world.account.charge(2900)
    world.at(2)
    agrees = world.account.pay_out()
    world.shop.pay_out()
    world.account.charge(5000)
    world.at(3)
    differs = broken_payout(world.account)
    world.at(4)
    span = SPAN[1:4]
    books.close(world.clients, span)
    found = books.reconcile(span)
    assert found.waiting == 1
    assert {finding.looked_at for finding in found.findings} == {3}
    assert set(problems(found.findings)) == {"payouts_add_up"}
    rows = books.rows("ledger_reconciliation")
    assert {(row["source"], row["standing"], row["day"]) for row in rows} == {
        ("stripe", "agrees", SPAN[2]), ("stripe", "differs", SPAN[3]), ("shopify", "history incomplete", SPAN[2]),
    }  # fmt: skip
    assert {row["payout_id"] for row in rows} >= {agrees, differs}


def test_a_row_a_payout_paid_and_the_ledger_lacks_is_named(
    world: World, clock: SetClock, tmp_path: Path
) -> None:
    books = Books(tmp_path / "books", LOS_ANGELES, clock)
    world.at(0)
    charge = world.account.charge(2900)
    world.account.pay_out()
    world.at(2)
    books.close(world.clients, SPAN[:3])
    entry = world.account.entry_of(charge)["id"]
    world.account.delete(entry)
    clock.sleep(60)
    (read, *_) = books.read("stripe", world.clients["stripe"], SPAN[:3])
    assert read.news == [f"{entry} is no longer listed, was charge of $29.00, fee $0.87"]
    assert "the ledger does not have it" in problems(books.make(SPAN[:3]))["payout_rows_are_booked"]


# --- reading -----------------------------------------------------------------------------------------------------


def test_rows_that_arrive_while_pages_are_read_are_booked_once(
    world: World, clock: SetClock, tmp_path: Path
) -> None:
    world.at(0)
    account = world.account
    for amount in range(1000, 1030):
        account.charge(amount)
    clock.sleep(3600)
    account.while_reading = lambda: [account.charge(amount) for amount in range(2000, 2010)] and None
    books = Books(tmp_path / "books", LOS_ANGELES, clock)
    (read,) = books.read("stripe", world.clients["stripe"], SPAN[:1])
    assert read.listed in (30, 40)
    clock.sleep(60)
    books.read("stripe", world.clients["stripe"], SPAN[:1])
    assert problems(books.book("stripe", SPAN[:1]).findings(LEDGER_CHECKS)) == {}
    assert len(books.ledger("stripe", FIRST)) == 40


def test_an_error_on_the_third_page_is_tried_again_and_loses_nothing(
    world: World, clock: SetClock, tmp_path: Path
) -> None:
    world.at(0)
    for amount in range(1000, 1030):
        world.account.charge(amount)
    world.at(1)
    world.account.fail_on_page = 3
    books = Books(tmp_path / "books", LOS_ANGELES, clock)
    (read,) = books.read("stripe", world.clients["stripe"], SPAN[:1])
    assert (read.listed, read.is_closed, world.account.fail_on_page) == (30, True, 0)


def test_pending_money_becomes_available_without_reopening_the_day(
    world: World, clock: SetClock, tmp_path: Path
) -> None:
    world.at(0)
    world.account.charge(2900)
    world.at(1, 1)
    books = Books(tmp_path / "books", LOS_ANGELES, clock)
    books.close(world.clients, SPAN[:1])
    assert [row["status"] for row in books.ledger("stripe", FIRST)] == ["pending"]
    world.at(4)
    (read,) = books.read("stripe", world.clients["stripe"], SPAN[:1])
    books.make(SPAN[:1])
    assert (read.was_closed, read.changed, read.news) == (True, 1, [])
    assert [row["status"] for row in books.ledger("stripe", FIRST)] == ["available"]


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["charge", "refund", "fail refund", "dispute", "win", "lose", "payout", "fail payout", "fee"]),
        st.integers(1, 50_000),
        st.integers(1, 40),
    ),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, seed=st.integers(0, 1000))
def test_whatever_happens_the_invariants_hold_and_order_does_not_matter(
    events: list[tuple[str, int, int]], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = SetClock(utc("2026-10-30T12:00:00"))
    account = StripeAccount(clock, page_size=5)
    with StripeServer(account) as url:
        client = StripeClient(VendorEndpoint("stripe", "sandbox", url, "test"), sleep=lambda _: None)
        for kind, amount, hours in events:
            clock.sleep(hours * 3600)
            befall(account, kind, amount)
        clock.sleep(86_400)
        first, last = date(2026, 10, 29), business_day_of(clock(), LOS_ANGELES)
        span = days(first, (last - first).days + 1)
        folder = tmp_path_factory.mktemp("books")
        at_once = Books(folder / "at-once", LOS_ANGELES, clock)
        assert problems(at_once.close({"stripe": client}, span)) == {}
        mixed = list(span)
        random.Random(seed).shuffle(mixed)
        one_by_one = Books(folder / "one-by-one", LOS_ANGELES, clock)
        for day in mixed[:6] + span:
            one_by_one.read("stripe", client, [day])
        assert problems(one_by_one.make(span, ["stripe"])) == {}
        assert one_by_one.business_hash() == at_once.business_hash()


def befall(account: StripeAccount, kind: str, amount: int) -> None:
    """One event, where there is an object it can befall."""
    charges = [c for c in account.charges.values() if c["amount"] > c["amount_refunded"]]
    refunds = [r for r in account.refunds.values() if r["status"] == "succeeded"]
    disputes = [d for d in account.disputes.values() if d["status"] == "needs_response"]
    paid = [p for p in account.payouts.values() if p["status"] == "paid"]
    if kind == "charge":
        account.charge(amount, ("usd", "jpy", "kwd")[amount % 3])
    elif kind == "refund" and charges:
        charge = charges[amount % len(charges)]
        account.refund(charge["id"], min(amount, charge["amount"] - charge["amount_refunded"]))
    elif kind == "fail refund" and refunds:
        account.fail_refund(refunds[amount % len(refunds)]["id"])
    elif kind == "dispute" and charges:
        charge = charges[amount % len(charges)]
        account.dispute(charge["id"], min(amount, charge["amount"]))
    elif kind in ("win", "lose") and disputes:
        getattr(account, kind)(disputes[amount % len(disputes)]["id"])
    elif kind == "payout":
        account.pay_out(("usd", "jpy", "kwd")[amount % 3])
    elif kind == "fail payout" and paid:
        account.fail_payout(paid[amount % len(paid)]["id"])
    elif kind == "fee":
        account.move("fee", -amount)


def test_raw_files_are_written_once_and_say_when_a_day_was_closed(
    world: World, clock: SetClock, tmp_path: Path
) -> None:
    books = Books(tmp_path / "books", LOS_ANGELES, clock)
    world.at(0)
    world.account.charge(2900)
    world.at(0, 20)
    assert [day.is_closed for day in books.read("stripe", world.clients["stripe"], SPAN[:1])] == [False]
    world.at(1, 1)
    assert [day.was_closed for day in books.read("stripe", world.clients["stripe"], SPAN[:1])] == [False]
    closed = books.raw_files("stripe")
    world.at(1, 2)
    assert [day.was_closed for day in books.read("stripe", world.clients["stripe"], SPAN[:1])] == [True]
    after = books.raw_files("stripe")
    # The balance is read each time; of the closed day nothing is said again.
    assert {k: v for k, v in after.items() if k in closed} == closed
    assert not [key for key in after.keys() - closed.keys() if f"/{FIRST}/" in key and "/entries/" in key]
