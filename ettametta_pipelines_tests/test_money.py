"""The money type: exact reading, showing and splitting of amounts with 0, 2 and 3 decimals."""

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.money import EXPONENTS, Money, MoneyError, UnknownCurrency, round_together, totals
from ettametta_pipelines_tests.fuzz import spoilt, tried

currencies = st.sampled_from(sorted(EXPONENTS))


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("29.00", "USD", 2900),
        ("29.0", "USD", 2900),
        ("29", "USD", 2900),
        ("-0.05", "USD", -5),
        ("1200.0", "JPY", 1200),
        ("1.234", "KWD", 1234),
        ("1.2", "KWD", 1200),
        ("0.00", "EUR", 0),
        ("123456789012345678901234567890.12", "USD", 12345678901234567890123456789012),
    ],
)
def test_a_decimal_string_is_read_exactly(text: str, currency: str, minor: int) -> None:
    assert Money.parse(text, currency) == Money(minor, currency)


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("1.005", "USD"),
        ("1200.5", "JPY"),
        ("1e3", "USD"),
        ("NaN", "USD"),
        ("", "USD"),
        ("1,000.00", "USD"),
        ("٣", "USD"),
    ],
)
def test_an_amount_that_is_not_exact_or_not_a_number_is_refused(text: str, currency: str) -> None:
    with pytest.raises(MoneyError) as refusal:
        Money.parse(text, currency)
    assert refusal.value.code == "inexact_amount"


@pytest.mark.parametrize("currency", ["XXX", "usd", "", "BTC"])
def test_a_currency_without_known_decimals_is_an_error_not_a_guess(currency: str) -> None:
    with pytest.raises(UnknownCurrency) as refusal:
        Money(1, currency)
    assert refusal.value.code == "unknown_currency"


@pytest.mark.parametrize(
    ("minor", "currency", "shown"),
    [
        (123456, "USD", "$1,234.56"),
        (1200, "JPY", "¥1,200"),
        (-5, "EUR", "-€0.05"),
        (1234567, "KWD", "KWD 1,234.567"),
        (0, "USD", "$0.00"),
        (0, "JPY", "¥0"),
    ],
)
def test_money_is_shown_as_people_write_it(minor: int, currency: str, shown: str) -> None:
    assert str(Money(minor, currency)) == shown


def test_amounts_of_different_currencies_have_no_sum() -> None:
    with pytest.raises(MoneyError) as refusal:
        Money(100, "USD") + Money(100, "EUR")
    assert refusal.value.code == "mixed_currencies"


def test_totals_are_kept_per_currency() -> None:
    amounts = [Money(1, "USD"), Money(7, "JPY"), Money(-3, "USD")]
    assert totals(amounts) == {"JPY": Money(7, "JPY"), "USD": Money(-2, "USD")}


@given(
    minor=st.integers(-(10**15), 10**15),
    weights=st.lists(st.integers(0, 10**6), min_size=1, max_size=40).filter(any),
)
def test_the_parts_of_a_split_add_up_and_none_is_off_by_a_whole_unit(minor: int, weights: list[int]) -> None:
    parts = Money(minor, "USD").split(weights)
    assert sum(part.minor for part in parts) == minor
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part.minor * sum(weights) - minor * weight) < sum(weights)


def test_units_left_over_go_to_the_parts_that_lost_most() -> None:
    assert [part.minor for part in Money(100, "USD").split([1, 1, 1])] == [34, 33, 33]
    assert [part.minor for part in Money(-100, "USD").split([1, 2, 3])] == [-17, -33, -50]


@pytest.mark.parametrize("weights", [[], [0, 0], [3, -1]])
def test_a_split_without_usable_weights_is_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Money(100, "USD").split(weights)


@given(minor=st.integers(-(10**12), 10**12), currency=currencies)
def test_what_is_shown_reads_back_as_the_same_amount(minor: int, currency: str) -> None:
    shown = str(Money(minor, currency))
    number = "".join(c for c in shown if c in "-.0123456789")
    assert Money.parse(number, currency).minor == minor


@pytest.mark.parametrize("text", ["9" * 5000, "0." + "1" * 5000, "-" + "9" * 31])
def test_an_amount_of_thousands_of_digits_is_refused_as_any_other(text: str) -> None:
    with pytest.raises(MoneyError) as failure:
        Money.parse(text, "USD")
    assert failure.value.code == "inexact_amount"


@pytest.mark.fuzz
@tried(100)
@given(text=spoilt([b"12.50", b"-0.05", b"1200", b"007.1", b""]), currency=currencies)
def test_any_text_is_an_exact_amount_or_refused(text: bytes, currency: str) -> None:
    written = text.decode("utf-8", "replace")
    try:
        money = Money.parse(written, currency)
    except MoneyError:
        return
    assert Decimal(written).scaleb(money.exponent) == money.minor


amounts = st.integers(-(10**12), 10**12)


@pytest.mark.fuzz
@tried(100)
@given(a=amounts, b=amounts, c=amounts, currency=currencies)
def test_amounts_add_as_whole_numbers_do(a: int, b: int, c: int, currency: str) -> None:
    x, y, z = (Money(minor, currency) for minor in (a, b, c))
    assert (x + y) + z == x + (y + z) == Money(a + b + c, currency)
    assert x - y == -(y - x) == Money(a - b, currency)
    assert totals([x, y, z, Money(1, "USD")])[currency].minor == a + b + c + (currency == "USD")


@pytest.mark.fuzz
@tried(100)
@given(parts=st.lists(amounts, max_size=12), unit=st.sampled_from([1, 2, 10, 10_000, 1_000_000]))
def test_parts_are_rounded_together_to_what_their_sum_rounds_to(parts: list[int], unit: int) -> None:
    rounded = round_together(parts, unit)
    assert sum(rounded) == int((Decimal(sum(parts)) / unit).to_integral_value(ROUND_HALF_EVEN))
    assert all(abs(whole * unit - part) < unit for whole, part in zip(rounded, parts, strict=True))
