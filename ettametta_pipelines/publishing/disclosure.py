"""What a post must declare, and whether it may be made, from the rights records of what it is made of.

Follows from lineage alone (`rights.py`), so that nobody has to remember to tick a box. Nothing is published without a
right for every input.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.publishing.rights import RightsRecord


@dataclass(frozen=True)
class RightRule:
    """What one kind of right obliges to."""

    synthetic: bool = False
    needs_attribution: bool = False


# The rights that allow publishing. What is not here does not.
RIGHTS: dict[str, RightRule] = {
    "owned": RightRule(),
    "licensed": RightRule(),
    "cc_by": RightRule(needs_attribution=True),
    "generated": RightRule(synthetic=True),
}


@dataclass(frozen=True)
class OfferRule:
    """What offering something in a post obliges to: the platforms' flags, and a line in the description."""

    line: str
    paid: bool = False
    own_brand: bool = False


# A link one earns by promotes somebody else's goods for pay; the own shop promotes the poster's own business.
OFFERS: dict[str, OfferRule] = {
    "link": OfferRule("This is an affiliate link: I earn a commission if you buy through it.", paid=True),
    "product": OfferRule("This is our own shop.", own_brand=True),
}


@dataclass(frozen=True)
class Disclosure:
    """What has to be said with a post. `credit` goes into the description word for word."""

    synthetic: bool
    credit: str | None = None
    paid: bool = False


@dataclass(frozen=True)
class Demand:
    """What is said when an input of one kind lacks its right: a failure's code, sentence and remedy.

    The texts are filled with the record's fields.
    """

    code: str
    sentence: str
    remedy: str
    uncredited: str = ""
    credit_code: str = ""
    credit_remedy: str = ""


_DECLARE = f"one of {', '.join(sorted(RIGHTS))}"
_AGAIN = "materialize source_media again, then publish."
DEMANDS: dict[str, Demand] = {
    "upload": Demand(
        "rights_undeclared",
        "Nobody has declared a right to publish {name} (rights: {right}).",
        f'Put {{{{"rights": "owned"}}}} (or {_DECLARE}) into {{name}}.json next to the upload, {_AGAIN}',
        "{name} is CC BY, but nothing says whom to credit.",
        "attribution_missing",
        f'Add "attribution": "Title by Author, CC BY 4.0" to {{name}}.json, {_AGAIN}',
    ),
    "music": Demand(
        "music_right_missing",
        "Nobody has declared a right to publish the music {name} (rights: {right}).",
        f'Put "rights" ({_DECLARE}) into "music" of the upload\'s sidecar, {_AGAIN}',
        "The music {name} is CC BY, but nothing says whom to credit.",
        "attribution_missing",
        f'Add "attribution" to "music" of the upload\'s sidecar, {_AGAIN}',
    ),
    "clip": Demand(
        "footage_right_missing",
        "The rendition shows the clip {id}, which nobody may publish (rights: {right}).",
        "Declare its right beside it in the library, or render again with other clips or with broll set to none, then "
        "publish.",
    ),
    "voice": Demand(
        "voice_right_missing",
        "Nobody has declared a right to publish the voice-over by {name} (rights: {right}).",
        "Render it again with a voice of the pipeline, or with voice_over set to none, then publish.",
    ),
    "font": Demand(
        "font_right_missing",
        "The captions are drawn in {name}, which nobody may publish (rights: {right}).",
        "Render it again with captions set to none, then publish.",
    ),
}


def disclosure_of(records: Sequence[RightsRecord], *, live: bool = False) -> Disclosure:
    """What must be declared for a rendition made of these; `live` where people will see the post.

    Credits are in the order of the records, each once; one synthetic input makes the post synthetic, one paid for
    makes it a paid promotion. Raises NeedsPersonError naming the input that may not be published, by `DEMANDS`;
    `footage_is_stand_in` for one of the sandbox's in a live post.
    """
    for record in records:
        _require_right(record)
    if live and (stand_in := next((one for one in records if one.standing == "sandbox"), None)):
        raise NeedsPersonError(
            f"The rendition shows {stand_in.id} of the sandbox, which stands in for stock footage and credits nobody "
            "real.",
            code="footage_is_stand_in",
            remedy="Set PEXELS_API_KEY and render it again, or render it with broll set to none, then publish.",
        )
    credits = dict.fromkeys(record.credit for record in records if record.credit)
    return Disclosure(
        synthetic=any(record.synthetic or RIGHTS[record.right].synthetic for record in records),
        credit="\n".join(credits) or None,
        paid=any(record.paid for record in records),
    )


def _require_right(record: RightsRecord) -> None:
    demand, rule = DEMANDS[record.kind], RIGHTS.get(record.right)
    about = record.as_dict()
    if rule is None or (rule.needs_attribution and not record.credit and not demand.uncredited):
        raise NeedsPersonError(
            demand.sentence.format_map(about), code=demand.code, remedy=demand.remedy.format_map(about)
        )
    if rule.needs_attribution and not record.credit:
        raise NeedsPersonError(
            demand.uncredited.format_map(about),
            code=demand.credit_code,
            remedy=demand.credit_remedy.format_map(about),
        )
