"""Has this channel posted something like it? A rendition's imprint beside those of the channel's earlier posts.

It warns and stops nothing: whether a resemblance is meant is for a person to say. The same source or file is not asked
about here, since the ledger's unique key does not let it be posted twice. Called by the publication assets, and
wherever a post is shown to be approved.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.media.imprint import Imprint, Likeness, compare, imprint_of
from ettametta_pipelines.media.intake import fetch
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.publishing.connections import find
from ettametta_pipelines.publishing.ledger import IN_DOUBT, ON_THE_PLATFORM
from ettametta_pipelines.renders.library import imprint_key
from ettametta_pipelines.renders.quality import RENDITION_POLICY
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.object_errors import ObjectMissing
from ettametta_pipelines.storage.objects import ObjectStore

# The newest posts of a channel that are looked at: about two seconds' work.
MOST_POSTS = 2000
READERS = 16


@dataclass(frozen=True)
class EarlierPost:
    """A post of the channel that a rendition resembles."""

    source_id: str
    title: str
    url: str | None
    posted_at: datetime | None
    likeness: Likeness

    @property
    def in_words(self) -> str:
        when = f" of {self.posted_at:%Y-%m-%d}" if self.posted_at else ""
        where = f", {self.url}" if self.url else ""
        return f"{self.likeness.kind}: “{self.title}”{when} ({self.source_id}{where})"


@dataclass(frozen=True)
class LookBack:
    """What was found: posts that resemble it, nearest first; how many were compared, and how many have no imprint.

    `problem` says why nothing could be compared.
    """

    found: tuple[EarlierPost, ...] = ()
    compared: int = 0
    unknown: int = 0
    problem: str | None = None

    @property
    def is_clean(self) -> bool:
        return not self.found and self.problem is None

    @property
    def in_words(self) -> str:
        """One or more sentences for the check."""
        if self.problem is not None:
            return f"It could not be compared with the channel's earlier posts: {self.problem}"
        left = f" {self.unknown} earlier posts have no imprint and were not compared." if self.unknown else ""
        if not self.compared:
            return f"There is no earlier post of the channel to compare it with.{left}"
        if not self.found:
            return f"None of {self.compared} earlier posts of the channel resembles it.{left}"
        named = "; ".join(post.in_words for post in self.found[:5])
        more = f"; and {len(self.found) - 5} more" if len(self.found) > 5 else ""
        asked = "Publish it all the same if that is meant."
        return f"The channel has posted something like it: {named}{more}. {asked}{left}"


def look_back(
    db: StateDatabase,
    store: ObjectStore,
    platform: str,
    account: str,
    source_id: str,
    object_key: str,
    *,
    scratch: Path,
) -> LookBack:
    """Which earlier posts of the account's channel on a platform a rendition resembles.

    The channel counts, whichever accounts posted on it; where none is connected, the account's own posts do. Posts
    that may have been made count as made. A rendition from before imprints were kept is played once to take it.
    """
    earlier = _earlier_posts(db, platform, account, source_id)
    with ThreadPoolExecutor(READERS) as readers:
        imprints = list(readers.map(lambda post: _kept(store, post.object_key), earlier))
    known = [(post, kept) for post, kept in zip(earlier, imprints, strict=True) if kept is not None]
    if not known:
        return LookBack(unknown=len(earlier))
    try:
        own = obtain_imprint(store, object_key, scratch=scratch)
    except PipelineError as error:
        # A warning that cannot be given must not stop a post; that it could not be given is the warning.
        return LookBack(unknown=len(earlier), problem=error.message)
    found = [
        EarlierPost(post.content_id, post.title, post.url, post.settled_at, likeness)
        for (post, _), likeness in zip(known, compare(own, [kept for _, kept in known]), strict=True)
        if likeness.resembles
    ]
    found.sort(key=lambda post: (-post.likeness.picture.marks, -post.likeness.sound.likeness))
    return LookBack(tuple(found), len(known), len(earlier) - len(known))


def obtain_imprint(store: ObjectStore, object_key: str, *, scratch: Path) -> Imprint:
    """The imprint kept beside a rendition; taken now and kept where there is none."""
    kept = _kept(store, object_key)
    if kept is not None:
        return kept
    with private_dir(scratch, "imprint") as workdir:
        path = fetch(store, object_key, workdir)
        made = imprint_of(path, require_probe(path, name=object_key, policy=RENDITION_POLICY), workdir)
    store.put(imprint_key(object_key), made.to_bytes(), content_type="application/octet-stream")
    return made


def _earlier_posts(db: StateDatabase, platform: str, account: str, source_id: str) -> Sequence[Publication]:
    """The channel's posts of other sources, newest first, each source once."""
    channel = find(db, account, platform)
    with db.session(write=False) as session:
        rows = session.scalars(
            sa.select(Publication)
            .where(
                Publication.platform == platform,
                Publication.channel_id == channel.channel_id
                if channel
                else Publication.account_id == account,
                Publication.content_id != source_id,
                Publication.state.in_([*ON_THE_PLATFORM, *IN_DOUBT]),
            )
            .order_by(Publication.created_at.desc())
            .limit(MOST_POSTS)
        ).all()
    return list({row.content_id: row for row in reversed(rows)}.values())[::-1]


def _kept(store: ObjectStore, object_key: str) -> Imprint | None:
    """None too for one of an older revision: it says nothing any more."""
    try:
        return Imprint.from_bytes(store.get(imprint_key(object_key)))
    except (ObjectMissing, ValueError):
        return None
