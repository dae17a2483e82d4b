"""Chooses the engine for a brief before anything is spent: a pure function of quotes, plan, cap and expected revenue.

The rule, engine by engine along the declared chain (best first), ends at the first that passes all of it:

1. it can make the clip and is set up here (its quote is an offer);
2. the account's tier holds it;
3. its price fits in what the account may still spend, by its day and its month;
4. it leaves a margin: the price is at most `spend_share` of the revenue a clip of the niche is expected to bring; where
   that is not known, at most `unknown_revenue_microusd`. An engine a person named needs no margin.

Where the first of the chain does not pass and a fallback is not allowed, nothing is chosen. What was chosen instead of
what, and why every other one was not, stands in the decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ettametta_pipelines.synthesis.prices import Quote

AUTO = "auto"


@dataclass(frozen=True)
class Limits:
    """What may be spent, on what. Money in millionths of a US dollar.

    Args:
        engines: those the account's tier holds.
        tier: its name, for people.
        left_microusd: what the account may still spend today, by engine: sandbox and live money are apart.
        expected_microusd: revenue a clip of this niche is expected to bring; None when nobody knows.
        spend_share: share of it that a clip may cost.
        unknown_microusd: what a clip may cost where it is not known.
    """

    engines: frozenset[str]
    tier: str
    left_microusd: Mapping[str, int]
    expected_microusd: int | None
    spend_share: float
    unknown_microusd: int


@dataclass(frozen=True)
class Considered:
    """One engine that was looked at: its price as far as there is one, and why it was not taken ("" if it was)."""

    engine: str
    model: str
    microusd: int | None
    code: str = ""
    why_not: str = ""


@dataclass(frozen=True)
class Decision:
    """The quote that is taken, or None.

    `instead_of` is the first engine of the chain where another one was taken; `next_engines` may follow if the chosen
    one fails; `why` explains the choice in a sentence, `code` names why nothing was chosen.
    """

    chosen: Quote | None
    considered: tuple[Considered, ...]
    why: str
    code: str = ""
    instead_of: str | None = None
    next_engines: tuple[str, ...] = ()


def route(
    wanted: str,
    chain: Sequence[str],
    quotes: Mapping[str, Quote],
    limits: Limits,
    *,
    fallback: bool = True,
) -> Decision:
    """The engine for one clip. `wanted` is `auto` or an engine's name, and then the chain begins there."""
    tried = chain if wanted == AUTO else _from(wanted, chain)
    considered: list[Considered] = []
    for place, engine in enumerate(tried):
        quote = quotes[engine]
        code, why_not = objection(quote, limits, is_named=engine == wanted)
        considered.append(Considered(engine, quote.model, quote.microusd, code, why_not))
        if not code:
            following = tuple(tried[place + 1 :]) if fallback else ()
            instead_of = tried[0] if place else None
            return Decision(
                quote, tuple(considered), _why(quote, limits, considered), "", instead_of, following
            )
        if not fallback:
            break
    last = considered[-1]
    reasons = "; ".join(f"{seen.engine}: {seen.why_not}" for seen in considered)
    return Decision(None, tuple(considered), f"No engine may make it. {reasons}.", last.code)


def objection(quote: Quote, limits: Limits, *, is_named: bool) -> tuple[str, str]:
    """Code and words of the first rule a quote does not pass; empty when it passes all."""
    if quote.microusd is None:
        return quote.code, quote.why_not
    price = usd(quote.microusd)
    if quote.engine not in limits.engines:
        return "tier_lacks_engine", f"the tier {limits.tier} does not hold it"
    left = limits.left_microusd[quote.engine]
    if quote.microusd > left:
        return "over_daily_cap", f"{price} is more than the {usd(max(0, left))} left to spend"
    if is_named:
        return "", ""
    if limits.expected_microusd is None:
        if quote.microusd > limits.unknown_microusd:
            return "revenue_unknown", f"{price} for a niche of which no revenue is known"
    elif quote.microusd > limits.spend_share * max(0, limits.expected_microusd):
        share = f"{limits.spend_share:.0%} of the {usd(limits.expected_microusd)} a clip is expected to bring"
        return "margin_too_small", f"{price} is more than {share}"
    return "", ""


def usd(microusd: int) -> str:
    return f"{microusd / 1e6:.2f} USD"


def _from(wanted: str, chain: Sequence[str]) -> Sequence[str]:
    if wanted in chain:
        return chain[chain.index(wanted) :]
    # Whoever names an engine outside the chain of the recipe wants that one, and nothing is declared to follow it.
    return (wanted,)


def _why(quote: Quote, limits: Limits, considered: Sequence[Considered]) -> str:
    assert quote.microusd is not None
    price = "costs nothing" if quote.microusd == 0 else f"costs {usd(quote.microusd)}"
    if quote.microusd and limits.expected_microusd is not None:
        price += f" of {usd(limits.expected_microusd)} expected"
    passed = "; ".join(f"not {seen.engine}: {seen.why_not}" for seen in considered if seen.why_not)
    return f"{quote.engine} {price}" + (f"; {passed}" if passed else "") + "."
