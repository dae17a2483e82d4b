"""Posts of ours with what is known of the rendition that was posted: format, recipe, filters, niche.

Read from the publication ledger and the tables of media and renders. Called by `attributing.py` and `margin.py`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ettametta_pipelines.publishing.ledger import ON_THE_PLATFORM
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

FORMATS = ("9x16", "16x9", "1x1")
# Every recipe has these; a part that one may do without is a filter.
NO_FILTERS = frozenset({"version", "fit", "originality"})
_RENDITIONS = " union all by name ".join(
    f"select object_key, recipe_name, recipe_json from rendition_{name}"  # noqa: S608
    for name in FORMATS
)


@dataclass(frozen=True)
class Post:
    """One post that is or was on a platform. `recipe` is None where the file has been rendered anew since."""

    publication_id: str
    source_id: str
    account: str
    platform: str
    channel_id: str
    remote_id: str | None
    published_at: datetime
    niche: str | None = None
    format: str | None = None
    recipe: str | None = None
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Posts:
    """All posts, and every source video there is with its account and niche."""

    all: Sequence[Post] = ()
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)

    def of(self, source_id: str, platform: str | None) -> Post | None:
        """The newest post of a source on a platform; without a platform its only post, where it has one."""
        found = [post for post in self.all if post.source_id == source_id]
        if platform is None:
            return found[0] if len(found) == 1 else None
        there = [post for post in found if post.platform == platform]
        return max(there, key=lambda post: (post.published_at, post.publication_id), default=None)

    def by_id(self, publication_id: str | None) -> Post | None:
        return next((post for post in self.all if post.publication_id == publication_id), None)


def load_posts(db: StateDatabase, lake: "Lake") -> Posts:
    """Everything that was ever published, oldest first."""
    with db.session(write=False) as session:
        rows = session.scalars(
            sa.select(Publication)
            .where(Publication.state.in_(sorted(ON_THE_PLATFORM)))
            .order_by(Publication.created_at, Publication.id)
        ).all()
    sources = {
        row["source_id"]: (row["account"], row["niche"])
        for row in lake.rows("select source_id, account, niche from source_media")
    }
    rendered = {row["object_key"]: row for row in lake.rows(_RENDITIONS)}
    return Posts([_post(row, sources, rendered) for row in rows], sources)


def _post(row: Publication, sources: dict[str, tuple[str, str]], rendered: dict[str, dict[str, Any]]) -> Post:
    made = rendered.get(row.object_key)
    parts = PurePosixPath(row.object_key).parts
    return Post(
        publication_id=row.id,
        source_id=row.content_id,
        account=row.account_id,
        platform=row.platform,
        channel_id=row.channel_id,
        remote_id=row.remote_id,
        published_at=row.settled_at or row.created_at,
        niche=sources[row.content_id][1] if row.content_id in sources else None,
        format=next((name for name in FORMATS if name in parts), None),
        recipe=made["recipe_name"] if made else None,
        filters=filters_of(made["recipe_json"]) if made else (),
    )


def filters_of(recipe_json: str) -> tuple[str, ...]:
    """Names of the parts a recipe has beyond what every recipe has."""
    recipe = json.loads(recipe_json)
    return tuple(sorted(name for name, part in recipe.items() if part and name not in NO_FILTERS))
