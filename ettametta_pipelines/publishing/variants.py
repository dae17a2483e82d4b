"""Which variant of a channel's experiments a post gets: by a hash, so that asking twice gives the same.

The hash is as good as a coin that is thrown once per post and experiment; its probabilities are kept with the post,
because the comparison (`variant_test.py`) rests on nothing else. Words that a person wrote for one post are not
changed, and such a post is in no experiment about them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ettametta_pipelines.publishing.orders import Wishes
from ettametta_pipelines.publishing.policy import ChannelPolicy, Experiment
from ettametta_pipelines.publishing.posts import MAX_YOUTUBE_TITLE_CHARS
from ettametta_pipelines.state.models import DatabaseNow, PublicationVariant
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent


@dataclass(frozen=True)
class PostName:
    """What names one post wherever decisions, posting times and variants are kept."""

    platform: str
    account: str
    source_id: str
    intent_no: int = 1

    def columns(self) -> dict[str, object]:
        return {
            "platform": self.platform,
            "account_id": self.account,
            "content_id": self.source_id,
            "intent_no": self.intent_no,
        }


@dataclass(frozen=True)
class Assigned:
    """One variant of one experiment, with the probability of each variant it could have been."""

    experiment: str
    kind: str
    arm: str
    text: str
    shares: dict[str, float]


def assign(policy: ChannelPolicy, name: PostName, title: str, wishes: Wishes) -> list[Assigned]:
    """The post's variants, in the experiments' order. `title` is the video's own."""
    # A second post of the same video differs on purpose: by a person's words, not by chance.
    if name.intent_no != 1:
        return []
    return [
        _drawn(experiment, rules, name, title)
        for experiment, rules in sorted(policy.experiments.items())
        if _takes_part(rules, name, title, wishes)
    ]


def assign_thumbnail(policy: ChannelPolicy, name: PostName) -> list[Assigned]:
    """The style of the post's thumbnail in each experiment with thumbnails; asked when the picture is set."""
    return [
        _drawn(experiment, rules, name, "")
        for experiment, rules in sorted(policy.experiments.items())
        if rules.kind == "thumbnail"
    ]


def with_variants(wishes: Wishes, arms: Sequence[Assigned]) -> Wishes:
    """The wishes with the words of these variants in place of what nobody chose."""
    texts = {arm.kind: arm.text for arm in arms}
    return replace(
        wishes,
        title=wishes.title or texts.get("title", ""),
        description=wishes.description or texts.get("hook", ""),
    )


def record_variants(db: StateDatabase, name: PostName, arms: Sequence[Assigned]) -> None:
    """Note what the post carries, right before it is made. The first note stays."""
    with db.session() as session:
        for arm in arms:
            insert_if_absent(
                session, PublicationVariant, name.columns() | vars(arm) | {"assigned_at": DatabaseNow()}
            )


def _takes_part(rules: Experiment, name: PostName, title: str, wishes: Wishes) -> bool:
    """Whether any variant could be used: leaving out only the posts some variants do not fit would be no chance."""
    if rules.kind == "thumbnail":  # drawn when the picture is set, which the post does not wait for
        return False
    if rules.kind == "hook":
        return not wishes.description
    fits = all(
        len(_words(arm.text, title)) <= MAX_YOUTUBE_TITLE_CHARS or name.platform != "youtube"
        for arm in rules.arms.values()
    )
    return fits and not wishes.title


def _drawn(experiment: str, rules: Experiment, name: PostName, title: str) -> Assigned:
    total = sum(arm.share for arm in rules.arms.values())
    shares = {arm: rules.arms[arm].share / total for arm in sorted(rules.arms)}
    parts = (experiment, name.platform, name.account, name.source_id)
    digest = hashlib.sha256("\x1f".join(parts).encode()).digest()
    point, reached = int.from_bytes(digest[:8], "big") / 2**64, 0.0
    arm = next(iter(shares))
    for arm, share in shares.items():  # noqa: B007 (the arm reached is the one drawn)
        reached += share
        if point < reached:
            break
    return Assigned(experiment, rules.kind, arm, _words(rules.arms[arm].text, title), shares)


def _words(text: str, title: str) -> str:
    return text.replace("{title}", title).strip()
