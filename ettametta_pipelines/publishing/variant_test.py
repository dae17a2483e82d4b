"""Which variant is better: a test that may be looked at every day, of chance that we threw ourselves.

Each post got its variant by a coin with known probabilities (`variants.py`). If variants made no difference, the
outcome would tell nothing about the coin: given all outcomes, the coins are still fair. So a bet against each coin,
sized by the post's outcome, cannot be expected to win, and the product of such bets is an e-process: by Ville's
inequality it ever reaches 1/alpha with probability alpha at most, however often one looks. Nothing is assumed of views:
not their distribution, nor that posts are independent or the channel steady.

One e-process per variant, against the others:

    E = mean over b of product over posts of 1 + b * (got - p) / max(p, 1 - p) * tanh(lift - median of earlier lifts)

`got` is 1 for a post with the variant, else 0; `p` its probability; `lift` the natural log of its views after 24 hours
over the channel's usual, as first known (a later revision is not used: bets are not changed after the coin is seen).
The median, of outcomes known before, only makes the bets better: what all posts have in common is not bet on.
A variant wins when its E has reached variants / 0.05, so that all of them together err at most once in twenty.
Two things would spoil it: looking at outcomes before a post's variant is fixed, and leaving out posts by their variant.
"""

import math
from bisect import insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ettametta_pipelines.state.models import Publication, PublicationVariant
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

ALPHA = 0.05
# Small bets find small differences in the long run, large ones find large differences soon.
BETS = (0.05, 0.1, 0.2, 0.4, 0.8)
HORIZON = "24h"
# What a post's lift was when it was first known; later days may compare it with another usual.
FIRST_KNOWN_SQL = (
    "select publication_id, min(day) as known_on, arg_min(lift_24h, day) as lift from post_outcomes "
    "where status_24h = 'known' group by publication_id"
)


@dataclass(frozen=True)
class Throw:
    """One post: the variant it got, the probabilities of all, and its outcome."""

    arm: str
    shares: Mapping[str, float]
    lift: float


@dataclass(frozen=True)
class ArmResult:
    """One variant: `evidence` is its e-process now, `peak` its highest so far, `growth` its mean log growth a post."""

    arm: str
    posts: int
    mean_lift: float | None
    evidence: float
    peak: float
    growth: float


@dataclass(frozen=True)
class Result:
    """An experiment so far. `threshold` is what a variant's evidence must reach; `sentence` says it all plainly."""

    arms: list[ArmResult]
    threshold: float
    winner: str | None
    more_posts: int | None
    sentence: str


def compare(throws: Sequence[Throw]) -> Result:
    """The test over posts in the order in which their outcomes became known."""
    names = sorted({arm for throw in throws for arm in throw.shares})
    sizes = bet_sizes([throw.lift for throw in throws])
    arms = [_arm_result(arm, throws, sizes) for arm in names]
    threshold = max(2, len(names)) / ALPHA
    ahead = max(arms, key=lambda a: a.peak, default=None)
    won = ahead is not None and ahead.peak >= threshold
    more = None if ahead is None or won else _posts_missing(ahead, threshold)
    winner = ahead.arm if ahead is not None and won else None
    return Result(arms, threshold, winner, more, _sentence(winner, len(throws), more, arms))


def bet_sizes(lifts: Sequence[float]) -> list[float]:
    """-1 to 1 per post: how far its outcome is above or below the median of those before it."""
    before: list[float] = []
    sizes = []
    for lift in lifts:
        middle = (before[(len(before) - 1) // 2] + before[len(before) // 2]) / 2 if before else 0.0
        sizes.append(math.tanh(lift - middle))
        insort(before, lift)
    return sizes


def _arm_result(arm: str, throws: Sequence[Throw], sizes: Sequence[float]) -> ArmResult:
    logs = [0.0] * len(BETS)
    evidence = peak = 1.0
    scores = [_score(throw, arm) * size for throw, size in zip(throws, sizes, strict=True)]
    for score in scores:
        logs = [log + math.log1p(bet * score) for log, bet in zip(logs, BETS, strict=True)]
        evidence = sum(math.exp(log) for log in logs) / len(BETS)
        peak = max(peak, evidence)
    mine = [throw.lift for throw in throws if throw.arm == arm]
    growth = max(logs) / len(throws) if throws else 0.0
    return ArmResult(arm, len(mine), sum(mine) / len(mine) if mine else None, evidence, peak, growth)


def _score(throw: Throw, arm: str) -> float:
    """What a bet of one on this coin wins, -1 to 1: on average nothing. Zero where there was no coin to throw."""
    p = throw.shares.get(arm, 0.0)
    if not 0.0 < p < 1.0:
        return 0.0
    return ((throw.arm == arm) - p) / max(p, 1 - p)


def _posts_missing(ahead: ArmResult, threshold: float) -> int | None:
    """About how many posts until the threshold if things go on as so far; None when they lead nowhere."""
    # Less than this a post is noise: a hundred posts would not double the evidence.
    if ahead.growth < math.log(2) / 100 or ahead.evidence <= 0:
        return None
    return max(1, math.ceil((math.log(threshold) - math.log(ahead.evidence)) / ahead.growth))


def _sentence(winner: str | None, posts: int, more: int | None, arms: Sequence[ArmResult]) -> str:
    if winner is not None:
        found = next(a for a in arms if a.arm == winner)
        others = [a for a in arms if a.arm != winner and a.mean_lift is not None]
        if found.mean_lift is None or not others:
            return f"{winner} wins after {posts} posts."
        rest = sum((a.mean_lift or 0.0) * a.posts for a in others) / sum(a.posts for a in others)
        factor = math.exp(found.mean_lift - rest)
        return f"{winner} wins after {posts} posts: about {factor:.1f} times the views of the others."
    if more is None:
        return f"No winner yet after {posts} posts, and no sign that one is near: the variants do about the same."
    return f"No winner yet after {posts} posts; about {more} more if it goes on like this."


def variant_rows(lake: "Lake", db: StateDatabase, day: date) -> list[dict[str, Any]]:
    """Rows of `variant_results`: every variant of every experiment of every channel."""
    known = {row["publication_id"]: row for row in lake.rows(FIRST_KNOWN_SQL)}
    posts = _posts(db)
    rows: list[dict[str, Any]] = []
    for (account, platform, experiment), variants in sorted(posts.items()):
        told = [(known[post], row) for post, row in variants if post in known]
        told.sort(key=lambda pair: (pair[0]["known_on"], pair[0]["publication_id"]))
        throws = [Throw(row.arm, row.shares, outcome["lift"]) for outcome, row in told]
        result = compare(throws)
        made = [row.arm for _, row in variants]
        seen = {arm for _, row in variants for arm in row.shares}
        by_arm = {arm.arm: arm for arm in result.arms}
        for arm in sorted(seen):
            found = by_arm.get(arm, ArmResult(arm, 0, None, 1.0, 1.0, 0.0))
            rows.append(
                {
                    "day": day,
                    "account": account,
                    "platform": platform,
                    "experiment": experiment,
                    "kind": variants[-1][1].kind,
                    "arm": arm,
                    "share": variants[-1][1].shares.get(arm),
                    "posts": made.count(arm),
                    "outcomes": found.posts,
                    "mean_lift": found.mean_lift,
                    "evidence": found.evidence,
                    "peak": found.peak,
                    "threshold": result.threshold,
                    "wins": result.winner == arm,
                    "more_posts": result.more_posts,
                    "sentence": result.sentence,
                }
            )
    return rows


def _posts(
    db: StateDatabase,
) -> dict[tuple[str, str, str], list[tuple[str, PublicationVariant]]]:
    """(account, platform, experiment) -> (publication id, variant) of every post that was planned."""
    same_post = sa.and_(
        Publication.platform == PublicationVariant.platform,
        Publication.account_id == PublicationVariant.account_id,
        Publication.content_id == PublicationVariant.content_id,
        Publication.intent_no == PublicationVariant.intent_no,
    )
    found: dict[tuple[str, str, str], list[tuple[str, PublicationVariant]]] = defaultdict(list)
    with db.session(write=False) as session:
        query = sa.select(Publication.id, PublicationVariant).join(PublicationVariant, same_post)
        for publication_id, row in session.execute(query.order_by(PublicationVariant.id)):
            found[row.account_id, row.platform, row.experiment].append((publication_id, row))
    return found
