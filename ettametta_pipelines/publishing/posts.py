"""What is said with a post: its words, who may see it, what it declares; and the platforms' limits on all that.

Limits are checked here, before the ledger knows of the post: a refusal by the platform would cost an upload slot and
end the intent. Nothing is cut silently; the operator is told what to shorten.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing.disclosure import Disclosure

MAX_YOUTUBE_TITLE_CHARS = 100
MAX_YOUTUBE_DESCRIPTION_BYTES = 5000
MAX_YOUTUBE_TAGS_CHARS = 500
MAX_TIKTOK_CAPTION_UNITS = 2200
# Left free in the description for the line with the marker.
MARKER_BYTES = 40

# Who may see a post when nobody has said: only its owner.
DEFAULT_PRIVACY: Mapping[str, str] = {"youtube": "private", "tiktok": "SELF_ONLY"}
LICENSES = ("youtube", "creativeCommon")
PRIVACY_CHOICES: Mapping[str, frozenset[str]] = {
    "youtube": frozenset({"private", "unlisted", "public"}),
    "tiktok": frozenset({"SELF_ONLY", "MUTUAL_FOLLOW_FRIENDS", "FOLLOWER_OF_CREATOR", "PUBLIC_TO_EVERYONE"}),
}


@dataclass(frozen=True)
class Post:
    """One post as the operator wants it. `synthetic` declares generated footage or voice, `paid` a paid promotion.

    `own_brand` declares that it promotes the creator's own business. That, `comments` and `remixes` (duets and
    stitches) are TikTok's; `license` (youtube or creativeCommon) is YouTube's.
    """

    platform: str
    title: str
    description: str
    tags: tuple[str, ...]
    privacy: str
    made_for_kids: bool
    synthetic: bool
    paid: bool
    comments: bool = False
    remixes: bool = False
    own_brand: bool = False
    license: str = "youtube"

    def described(self, marker: str) -> str:
        """Description with the marker by which the post is found again in its last line."""
        return f"{self.description}\n\n{marker}".lstrip()


def compose_post(
    platform: str,
    disclosure: Disclosure,
    *,
    title: str,
    description: str = "",
    tags: Sequence[str] = (),
    privacy: str = "",
    made_for_kids: bool = False,
    paid: bool = False,
    comments: bool = False,
    remixes: bool = False,
    own_brand: bool = False,
    license: str = "",
) -> Post:
    """A post within the platform's limits, with what must be declared. Raises PermanentError naming what does not fit.

    An empty `privacy` means that only the owner sees it.
    """
    words = [part.strip() for part in (description, disclosure.credit or "") if part.strip()]
    post = Post(
        platform=platform,
        title=title.strip(),
        description="\n\n".join(words),
        tags=tuple(tags),
        privacy=privacy or DEFAULT_PRIVACY[platform],
        made_for_kids=made_for_kids,
        synthetic=disclosure.synthetic,
        paid=paid,
        comments=comments,
        remixes=remixes,
        own_brand=own_brand,
        license=license or LICENSES[0],
    )
    for limit in LIMITS[platform]:
        problem = limit.problem(post)
        if problem:
            raise PermanentError(
                f"The {limit.field} for {platform} {problem}.",
                code=limit.code,
                remedy=limit.remedy
                or f"Set `{limit.field}` in the publication's configuration, or correct the sidecar.",
            )
    return post


@dataclass(frozen=True)
class Limit:
    """One rule on one field. `problem` completes "The title for youtube ..."; empty when the post keeps it."""

    field: str
    code: str
    problem: Callable[[Post], str]
    remedy: str = ""


def _privacy_problem(post: Post) -> str:
    choices = PRIVACY_CHOICES[post.platform]
    return "" if post.privacy in choices else f"is {post.privacy!r}, not one of {', '.join(sorted(choices))}"


def _paid_privacy_problem(post: Post) -> str:
    if not post.paid or post.privacy != "SELF_ONLY":
        return ""
    return "is SELF_ONLY, and TikTok does not let a paid promotion be seen by its owner alone"


def _title_problem(post: Post) -> str:
    if not post.title:
        return "is empty"
    if len(post.title) > MAX_YOUTUBE_TITLE_CHARS:
        return f"has {len(post.title)} characters, more than {MAX_YOUTUBE_TITLE_CHARS}"
    return _angle_brackets(post.title)


def _description_problem(post: Post) -> str:
    size = len(post.description.encode())
    if size > MAX_YOUTUBE_DESCRIPTION_BYTES - MARKER_BYTES:
        return f"has {size} bytes with the credit, more than {MAX_YOUTUBE_DESCRIPTION_BYTES - MARKER_BYTES}"
    return _angle_brackets(post.description)


def _tags_problem(post: Post) -> str:
    size = tags_length(post.tags)
    return (
        f"have {size} characters, more than {MAX_YOUTUBE_TAGS_CHARS}" if size > MAX_YOUTUBE_TAGS_CHARS else ""
    )


def _caption_problem(post: Post) -> str:
    units = len(tiktok_caption(post).encode("utf-16-le")) // 2
    if units > MAX_TIKTOK_CAPTION_UNITS:
        return f"makes a caption of {units} UTF-16 units, more than {MAX_TIKTOK_CAPTION_UNITS}"
    return ""


def _license_problem(post: Post) -> str:
    return "" if post.license in LICENSES else f"is {post.license!r}, not one of {', '.join(LICENSES)}"


def _angle_brackets(text: str) -> str:
    return "contains < or >, which YouTube refuses" if set("<>") & set(text) else ""


# Branded content, in TikTok's content sharing guidelines. Apps it has not audited may post for the owner alone.
WHO_MAY_SEE_PAID = (
    "Set `privacy` to PUBLIC_TO_EVERYONE, FOLLOWER_OF_CREATOR or MUTUAL_FOLLOW_FRIENDS, here or for the channel in the "
    "channels file. Where TikTok offers SELF_ONLY alone, it cannot go there: decide with `platforms: [youtube]`."
)
# videos resource of the YouTube Data API; direct post reference of TikTok's content posting API.
LIMITS: Mapping[str, tuple[Limit, ...]] = {
    "youtube": (
        Limit("title", "bad_title", _title_problem),
        Limit("description", "bad_description", _description_problem),
        Limit("tags", "bad_tags", _tags_problem),
        Limit("privacy", "bad_privacy", _privacy_problem),
        Limit("license", "bad_license", _license_problem),
    ),
    "tiktok": (
        Limit("title", "bad_title", _caption_problem),
        Limit("privacy", "bad_privacy", _privacy_problem),
        Limit("privacy", "paid_promotion_private", _paid_privacy_problem, WHO_MAY_SEE_PAID),
    ),
}


def tags_length(tags: Sequence[str]) -> int:
    """Characters as YouTube counts them: a comma between tags, two quotes around a tag with a space."""
    return sum(len(tag) + 2 * (" " in tag) for tag in tags) + max(0, len(tags) - 1)


def tiktok_caption(post: Post) -> str:
    """TikTok has one text: title, description, then the tags as hashtags."""
    hashtags = " ".join(f"#{tag.replace(' ', '')}" for tag in post.tags)
    return "\n\n".join(part for part in (post.title, post.description, hashtags) if part)
