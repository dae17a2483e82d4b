"""How today's searches are shared: per niche how many, and which of its searches bring most. Pure and deterministic.

A search is one query in one region and language. Shares go by weight and by what a niche's searches brought lately;
within a niche, by expected yield and by how long a search has not been made. Numbers and reasons come back together,
since an operator reads both. Who holds the bucket and remembers what was made is `search_desk.py`, the only caller.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from math import ceil
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from ettametta_pipelines.discovery.niches import Niche

# What is remembered of earlier searches; older nights say little about what is new tonight.
HISTORY_DAYS = 28
# An outlier is what discovery is for; as many ordinary new videos count as much.
OUTLIER_WORTH = 5.0
# So many searches of average yield are assumed before any: one lucky or empty night decides nothing.
PRIOR_SEARCHES = 3
# A niche's yield moves its share by at most this much: weight is the operator's word, yield only advice.
YIELD_SWING = 0.5
# Days without a search until its expected yield counts twice.
STALENESS_DAYS = 4
# Later days than this many back are news and draw on the niche's share; earlier ones are backfill.
NEWS_DAYS = 2


@dataclass(frozen=True)
class PlannedSearch:
    query: str
    region: str | None
    language: str | None

    def __str__(self) -> str:
        market = " ".join(part for part in (self.region, self.language) if part)
        return f"query: {self.query}" + (f" ({market})" if market else "")


@dataclass(frozen=True)
class PastSearch:
    """One search that was made for `day`, and what it brought. `outliers` is None while not known.

    Staleness goes by `day`: a backfill of last month does not make tonight's search any fresher.
    """

    niche: str
    search: PlannedSearch
    day: date
    quota_day: date
    new: int
    outliers: int | None

    @property
    def worth(self) -> float:
        return self.new + OUTLIER_WORTH * (self.outliers or 0)


@dataclass(frozen=True)
class Choice:
    """A possible search, what it is expected to be worth now, and why it stands where it does."""

    search: PlannedSearch
    score: float
    reason: str
    parked_for: date | None = None


def possible_searches(niche: "Niche") -> list[PlannedSearch]:
    """Every query in the first region and language, then in the next."""
    regions: Sequence[str | None] = niche.regions or (None,)
    languages: Sequence[str | None] = niche.languages or (None,)
    return [PlannedSearch(q, r, lang) for r, lang, q in product(regions, languages, niche.queries)]


def wanted_searches(niche: "Niche", per_weight: int) -> int:
    """Searches a niche would make on one day if quota were no matter: `per_weight` times its weight, at least one."""
    return min(len(possible_searches(niche)), max(1, round(per_weight * niche.weight)))


def night_shares(
    niches: Mapping[str, "Niche"],
    history: Iterable[PastSearch],
    *,
    today: date,
    searches: int,
    per_weight: int,
) -> dict[str, int]:
    """Niche -> how many of `searches` it may make tonight; never more in all, never more than it wants.

    By weight times lately proven yield (0.5 to 1.5), in whole searches; odd ones go to who has none yet, then to who
    has waited longest, then to the larger claim. Only days before `today` count, so every run of one day works out
    the same shares, whoever has run before it.
    """
    past: dict[str, list[PastSearch]] = {}
    for made in history:
        if made.quota_day < today:
            past.setdefault(made.niche, []).append(made)
    mean = _mean_worth([p for searches_ in past.values() for p in searches_])
    claims = {s: niche.weight * _yield_factor(past.get(s, []), mean) for s, niche in niches.items()}
    wants = {slug: wanted_searches(niche, per_weight) for slug, niche in niches.items()}
    last = {slug: max((p.day for p in past.get(slug, [])), default=date.min) for slug in niches}
    shares = dict.fromkeys(niches, 0)
    left = min(searches, sum(wants.values()))
    while left > 0:
        open_ = [slug for slug in niches if shares[slug] < wants[slug]]
        whole = sum(claims[slug] for slug in open_)
        exact = {slug: left * claims[slug] / whole for slug in open_}
        given = {slug: min(int(exact[slug]), wants[slug] - shares[slug]) for slug in open_}
        if not any(given.values()):
            # Among equals the day decides, so that the odd ones go round.
            order = sorted(
                open_, key=lambda s: (shares[s] > 0, last[s], -exact[s], crc32(f"{today} {s}".encode()))
            )
            given = dict.fromkeys(order[:left], 1)
        for slug, amount in given.items():
            shares[slug] += amount
        left -= sum(given.values())
    return shares


def rank_searches(
    niche: "Niche",
    history: Iterable[PastSearch],
    parked: Mapping[PlannedSearch, date],
    *,
    today: date,
) -> list[Choice]:
    """Every possible search, the one to make first in front.

    Parked ones lead, oldest first. The others go by expected yield, raised the longer a search was not made;
    what was never made counts as made `HISTORY_DAYS` ago, so it comes up soon.
    """
    own = [p for p in history if p.niche == niche.slug]
    mean = _mean_worth(own) or 1.0
    choices = []
    for search in possible_searches(niche):
        made = [p for p in own if p.search == search]
        expected = _mean(made, of=mean)
        days = min(((today - p.day).days for p in made), default=HISTORY_DAYS)
        if search in parked:
            reason = f"parked for {parked[search]} when the quota was spent"
        elif not made:
            reason = "not made in the last four weeks"
        else:
            reason = f"{expected:.1f} expected of {len(made)} made, the last for {_days_ago(days)}"
        score = expected * (1 + days / STALENESS_DAYS)
        choices.append(Choice(search, score, reason, parked.get(search)))
    return sorted(choices, key=lambda c: (c.parked_for or date.max, -c.score))


def allowance(
    slug: str,
    *,
    shares: Mapping[str, int],
    spent: Mapping[str, int],
    left: int,
    rerun_reserve: int,
    is_news: bool,
) -> int:
    """How many searches this run may book now, `spent` being what each niche has booked today.

    News draws on what its niche has left of its share, scaled down (rounded up) where the bucket no longer covers
    all that niches wait for. A niche that has used it up (a re-run) and a backfill take only what no niche is still
    waiting for; a backfill leaves the re-runs' reserve alone too.
    """
    waiting = {s: max(0, share - spent.get(s, 0)) for s, share in shares.items()}
    own = waiting.get(slug, 0)
    all_waiting = sum(waiting.values())
    if is_news and own:
        return min(own, ceil(left * own / all_waiting))
    if is_news:
        return max(0, min(shares.get(slug, 0) or 1, left - all_waiting))
    return max(0, left - all_waiting - rerun_reserve)


def _yield_factor(own: Sequence[PastSearch], mean: float) -> float:
    if mean == 0:
        return 1.0
    return min(max(_mean(own, of=mean) / mean, 1 - YIELD_SWING), 1 + YIELD_SWING)


def _mean_worth(past: Sequence[PastSearch]) -> float:
    return sum(p.worth for p in past) / len(past) if past else 0.0


def _mean(past: Sequence[PastSearch], *, of: float) -> float:
    """Mean worth, drawn towards `of` by a few assumed searches."""
    return (sum(p.worth for p in past) + PRIOR_SEARCHES * of) / (len(past) + PRIOR_SEARCHES)


def _days_ago(days: int) -> str:
    return "today" if days <= 0 else "yesterday" if days == 1 else f"{days} days ago"
