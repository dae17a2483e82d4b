"""Which video an order or commission is owed to, by a stated rule, and how amounts are divided so that sums hold.

Pure functions over plain values. An order goes to the last visit within the window that came from a post of ours
(`last_touch`), to the first, or to all alike (`linear`). What follows the order, a refund weeks later included, is
divided by the same weights over the order's running total, so that what is taken back is what was given. Which rows
these are applied to is said in `attributing.py`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from typing import Literal

from ettametta_pipelines.money import split_exactly

Rule = Literal["last_touch", "first_touch", "linear"]
# What a link to a product carries: utm_source is the platform, utm_content the source video or the code of a link.
MEDIUM = "video"
PLATFORMS = ("youtube", "tiktok")

NOT_READ = "the order was not read yet"
NOT_READY = "Shopify has not put its visits together yet"
NO_VISIT = "no visit came from a post of ours within the window"


@dataclass(frozen=True)
class Target:
    """A source video, and the platform of the post that led from it where that is known."""

    source_id: str
    platform: str | None = None


@dataclass(frozen=True)
class Touch:
    """A visit that came from a post of ours."""

    at: datetime
    target: Target


@dataclass(frozen=True)
class Policy:
    """How far back a visit counts, and which of several."""

    rule: Rule = "last_touch"
    window: timedelta = timedelta(days=30)


def source_of_code(codes: Mapping[str, tuple[str | None, str | None]]) -> dict[str, Target]:
    """Targets of the codes of redirect links, from {code: (source_id, platform)}; a code of no video has none."""
    return {code: Target(source, platform) for code, (source, platform) in codes.items() if source}


def touches(
    visits: str, ordered_at: datetime, policy: Policy, posted: Collection[Target], codes: Mapping[str, Target]
) -> list[Touch]:
    """The visits (JSON as in `shopify_orders`) that came from posts of ours within the window, oldest first.

    `posted` has a target for every video and platform it is posted on, and one without a platform. Parameters of a link
    are anybody's to write, so one that names a video nobody has posted there, by mistake or malice, is no touch.
    """
    found = []
    for text, source, medium, _campaign, content in json.loads(visits):
        at = datetime.fromisoformat(text)
        if medium != MEDIUM or not ordered_at - policy.window <= at <= ordered_at:
            continue
        platform = source if source in PLATFORMS else None
        target = codes.get(content) or Target(content, platform)
        if target in posted:
            found.append(Touch(at, target))
    return sorted(found, key=lambda touch: (touch.at, touch.target.source_id, touch.target.platform or ""))


def weights(found: Sequence[Touch], rule: Rule) -> dict[Target, int]:
    """Weight of each target, in the order of its first touch; empty without a touch."""
    if not found:
        return {}
    if rule != "linear":
        return {found[-1 if rule == "last_touch" else 0].target: 1}
    counted: dict[Target, int] = {}
    for touch in found:
        counted[touch.target] = counted.get(touch.target, 0) + 1
    return counted


def split_running(amounts: Sequence[int], weights: Sequence[int]) -> list[list[int]]:
    """For each amount its parts by `weights`, exact in every amount and in every running total.

    Divided is the running total, by largest remainder, and each amount gets the difference; so where amounts come to
    nothing, every part has come to nothing too.
    """
    so_far = [split_exactly(total, weights) for total in accumulate(amounts, initial=0)]
    return [[after - before for before, after in zip(*pair, strict=True)] for pair in pairwise(so_far)]
