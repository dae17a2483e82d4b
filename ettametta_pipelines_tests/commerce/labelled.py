"""The labelled set of niches and products, and how well a ranking does on it."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ettametta_pipelines.commerce.likeness import STOP_WORDS, Text, likenesses


@cache
def labelled() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("labelled_matches.yaml").read_text())


def product_ids() -> list[str]:
    return list(labelled()["products"])


def niches() -> list[dict[str, Any]]:
    return labelled()["niches"]


def held_out() -> list[int]:
    """Places of the niches nothing was tuned on."""
    return list(range(1, len(niches()), 2))


def texts() -> tuple[list[Text], list[Text]]:
    """(niches, products) as the asset hands them over: of a brief its keywords and hashtags."""
    products = [
        Text(title, f"{kind} {tags}", said) for title, kind, tags, said in labelled()["products"].values()
    ]
    asked = [
        Text(" . ".join([n["niche"], *n["queries"]]), " ".join([*n["keywords"], *n["tags"]]))
        for n in niches()
    ]
    return asked, products


@cache
def by_model() -> list[list[float]]:
    return [[likeness.score for likeness in row] for row in likenesses(*texts())]


@cache
def by_keywords() -> list[list[float]]:
    """The baseline: how many words both have."""

    def words(text: Text) -> set[str]:
        found = re.findall(r"\w+", " ".join([text.heading, text.keywords, text.body]).lower())
        return set(found) - STOP_WORDS

    asked, products = texts()
    return [[float(len(words(niche) & words(product))) for product in products] for niche in asked]


def measured(scores: Sequence[Sequence[float]], places: Sequence[int]) -> dict[str, float]:
    """Precision at 1 and 3 (of as many as suit, where fewer than 3 do) and mean reciprocal rank.

    Over the niches that something suits. Ties are ordered by product id, which knows nothing.
    """
    sums = {"p_at_1": 0.0, "p_at_3": 0.0, "mrr": 0.0}
    counted = 0
    for place in places:
        suits = set(niches()[place]["suits"])
        if not suits:
            continue
        ranked = sorted(zip(scores[place], product_ids(), strict=True), key=lambda pair: (-pair[0], pair[1]))
        right = [name in suits for _, name in ranked]
        counted += 1
        sums["p_at_1"] += right[0]
        sums["p_at_3"] += sum(right[:3]) / min(3, len(suits))
        sums["mrr"] += 1 / (1 + right.index(True))
    return {name: round(value / counted, 3) for name, value in sums.items()}
