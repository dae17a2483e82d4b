"""What our own variants brought a post, taken off before the score is judged by it.

A title that wins its experiment moves views by luck of a coin we threw, which the score of the candidate could not have
known. Only experiments that have a winner (`variant_results`) are counted out: a difference that may be chance would
put noise in the place of noise. Pure but for the one query; called by `quality_assets.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.scoring.outcomes import HORIZONS, KNOWN
from ettametta_pipelines.state.models import Publication, PublicationVariant
from ettametta_pipelines.state.session import StateDatabase

Row = dict[str, Any]
# Account, platform and name of an experiment; and with the variant.
Experiment = tuple[str, str, str]
Variant = tuple[str, str, str, str]

# A variant's mean over fewer posts is left alone.
FEWEST_POSTS = 5


def decided(results: Iterable[Mapping[str, Any]]) -> frozenset[Experiment]:
    """Experiments with a winner, from rows of `variant_results`."""
    return frozenset((row["account"], row["platform"], row["experiment"]) for row in results if row["wins"])


def variants_of(db: StateDatabase, experiments: frozenset[Experiment]) -> dict[str, list[Variant]]:
    """Publication id -> the variants it was posted with, of these experiments."""
    if not experiments:
        return {}
    same_post = sa.and_(
        Publication.platform == PublicationVariant.platform,
        Publication.account_id == PublicationVariant.account_id,
        Publication.content_id == PublicationVariant.content_id,
        Publication.intent_no == PublicationVariant.intent_no,
    )
    found: dict[str, list[Variant]] = defaultdict(list)
    with db.session(write=False) as session:
        query = sa.select(Publication.id, PublicationVariant).join(PublicationVariant, same_post)
        for publication_id, row in session.execute(query.order_by(PublicationVariant.id)):
            if (row.account_id, row.platform, row.experiment) in experiments:
                found[publication_id].append((row.account_id, row.platform, row.experiment, row.arm))
    return dict(found)


def without_variants(outcomes: Sequence[Row], carried: Mapping[str, Sequence[Variant]]) -> list[Row]:
    """The outcomes with lifts less what their variants brought: a variant's mean lift over its experiment's mean."""
    effects = {horizon.name: _effects(outcomes, carried, horizon.name) for horizon in HORIZONS}
    return [
        row
        | {
            f"lift_{name}": row[f"lift_{name}"]
            - sum(effect.get(variant, 0.0) for variant in carried.get(row["publication_id"], ()))
            for name, effect in effects.items()
            if row[f"lift_{name}"] is not None
        }
        for row in outcomes
    ]


def _effects(
    outcomes: Sequence[Row], carried: Mapping[str, Sequence[Variant]], horizon: str
) -> dict[Variant, float]:
    lifts: dict[Variant, list[float]] = defaultdict(list)
    for row in outcomes:
        if row[f"status_{horizon}"] == KNOWN:
            for variant in carried.get(row["publication_id"], ()):
                lifts[variant].append(row[f"lift_{horizon}"])
    enough = {variant: seen for variant, seen in lifts.items() if len(seen) >= FEWEST_POSTS}
    of_experiment: dict[Experiment, list[float]] = defaultdict(list)
    for variant, seen in enough.items():
        of_experiment[variant[:3]] += seen
    return {
        variant: sum(seen) / len(seen) - sum(of_experiment[variant[:3]]) / len(of_experiment[variant[:3]])
        for variant, seen in enough.items()
    }
