"""The one money type: whole minor units, a currency, and the currency's exponent. No floats anywhere.

The exponent table is the one place that knows how many decimals a currency has; a currency that is not in
it is an error, never a guess of two. Used by the vendor clients that read decimal amounts and by everything
that shows money.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ettametta_pipelines.failures import PermanentError

# Decimals of the minor unit as Stripe's API counts it (docs.stripe.com/currencies), so that ledger
# integers are taken over unchanged. It differs from ISO 4217 where Stripe keeps two decimals that must be
# 00 (ISK, UGX) or has none where ISO has two (MGA). HUF and TWD are whole-unit for payouts only; their
# amounts count two decimals.
_DECIMALS: dict[int, str] = {
    0: "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF",
    2: (
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD "
        "CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD "
        "GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR ISK JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL "
        "MAD MDL MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP "
        "PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS "
        "TMT TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES WST XCD XCG YER ZAR ZMW"
    ),
    3: "BHD IQD JOD KWD LYD OMR TND",
}
EXPONENTS: dict[str, int] = {code: digits for digits, codes in _DECIMALS.items() for code in codes.split()}

# No amount of money has more digits, and Python reads numbers of thousands of them only when told to.
_PLAIN_NUMBER = re.compile(r"(-?)([0-9]{1,30})(?:\.([0-9]{1,30}))?")
_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}


class UnknownCurrency(PermanentError):
    """A currency whose number of decimals is not known, so its amounts cannot be read."""


class MoneyError(PermanentError):
    """An amount that cannot be held exactly, or a sum over different currencies."""


def exponent_of(currency: str) -> int:
    """Decimals of a currency's minor unit: 2 for USD, 0 for JPY, 3 for KWD. Raises UnknownCurrency."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise UnknownCurrency(
            f"The number of decimals of currency {currency!r} is not known.",
            code="unknown_currency",
            remedy="Add it to the table in money.py, with the vendor's documentation at hand.",
        ) from None


@dataclass(frozen=True)
class Money:
    """An exact amount: `minor` units (cents, yen, fils; negative is money going out) of a `currency`."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent_of(self.currency)

    @classmethod
    def parse(cls, amount: str, currency: str) -> "Money":
        """From a decimal string in major units, as Shopify writes it: `"12.5"`, `"-3.00"`, `"1200.0"` yen.

        Raises MoneyError when it is not a plain number or has more significant decimals than the currency.
        """
        exponent = exponent_of(currency)
        match = _PLAIN_NUMBER.fullmatch(amount)
        decimals = (match[3] or "") if match else ""
        if match is None or decimals[exponent:].strip("0"):
            raise MoneyError(
                f"{amount!r} is not an exact amount of {currency}, which has {exponent} decimals.",
                code="inexact_amount",
                remedy="Look at the vendor's row; it is not rounded, as books must match to the unit.",
            )
        minor = int(match[2] + decimals[:exponent].ljust(exponent, "0"))
        return cls(-minor if match[1] else minor, currency)

    @property
    def exponent(self) -> int:
        return exponent_of(self.currency)

    def __add__(self, other: "Money") -> "Money":
        return Money(self.minor + self._same(other).minor, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.minor - self._same(other).minor, self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.minor, self.currency)

    def __str__(self) -> str:
        """For people: `$1,234.56`, `-€0.05`, `¥1,200`, `KWD 1.234`."""
        digits = f"{abs(self.minor):0{self.exponent + 1}d}"
        whole = f"{int(digits[: len(digits) - self.exponent]):,}"
        number = f"{whole}.{digits[-self.exponent :]}" if self.exponent else whole
        return ("-" if self.minor < 0 else "") + _SYMBOLS.get(self.currency, f"{self.currency} ") + number

    def split(self, weights: Sequence[int]) -> list["Money"]:
        """Parts in proportion to `weights` that add up to this amount exactly; see `split_exactly`."""
        return [Money(minor, self.currency) for minor in split_exactly(self.minor, weights)]

    def _same(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise MoneyError(
                f"{self} and {other} are of different currencies and have no sum.",
                code="mixed_currencies",
                remedy="Keep one total per currency.",
            )
        return other


def split_exactly(units: int, weights: Sequence[int]) -> list[int]:
    """Whole units in proportion to `weights` that add up to `units`.

    Largest remainder: every part is rounded toward zero, then the units left over go one each to the parts that lost
    most, the earlier one on a tie. Weights are whole, not negative, and not all zero; else ValueError.
    """
    total_weight = sum(weights)
    if total_weight <= 0 or min(weights) < 0:
        raise ValueError("split needs weights that are not negative and not all zero")
    sign = -1 if units < 0 else 1
    shares = [divmod(abs(units) * weight, total_weight) for weight in weights]
    left_over = abs(units) - sum(whole for whole, _ in shares)
    topped_up = set(sorted(range(len(shares)), key=lambda i: -shares[i][1])[:left_over])
    return [sign * (whole + (i in topped_up)) for i, (whole, _) in enumerate(shares)]


def round_together(parts: Sequence[int], unit: int) -> list[int]:
    """Parts in multiples of `unit` that add up to their sum rounded once, half to even.

    Every part is rounded down, then those that lost most get one more each, the earlier one on a tie; so none is off
    by a whole unit. Parts may be negative.
    """
    rounded = [divmod(part, unit) for part in parts]
    whole, rest = divmod(sum(parts), unit)
    total = whole + (2 * rest > unit or (2 * rest == unit and whole % 2 == 1))
    left_over = total - sum(down for down, _ in rounded)
    topped_up = set(sorted(range(len(rounded)), key=lambda i: -rounded[i][1])[:left_over])
    return [down + (i in topped_up) for i, (down, _) in enumerate(rounded)]


def totals(amounts: Iterable[Money]) -> dict[str, Money]:
    """Sum per currency, currencies in alphabetical order."""
    sums: dict[str, Money] = {}
    for amount in amounts:
        sums[amount.currency] = sums.get(amount.currency, Money(0, amount.currency)) + amount
    return dict(sorted(sums.items()))
