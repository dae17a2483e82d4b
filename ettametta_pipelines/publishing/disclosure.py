"""What a post must declare, from where its footage comes from: rights, attribution, synthetic media.

Follows from lineage alone, so that nobody has to remember to tick a box. Nothing is published without a right.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ettametta_pipelines.failures import NeedsPersonError


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
class Disclosure:
    """What has to be said with a post. `credit` goes into the description word for word."""

    synthetic: bool
    credit: str | None = None


def disclosure_for(
    rights: str, attribution: str | None, *, upload_key: str, voice_json: str | None = None
) -> Disclosure:
    """What must be declared for footage with these rights and a voice-over as `rendition.voice_json` describes it.

    Raises NeedsPersonError `rights_undeclared` when there is no right to publish, `attribution_missing` when CC BY
    footage does not say whom to credit.
    """
    rule = RIGHTS.get(rights)
    sidecar = f"{upload_key}.json"
    if rule is None:
        raise NeedsPersonError(
            f"Nobody has declared a right to publish {upload_key} (rights: {rights}).",
            code="rights_undeclared",
            remedy=f'Put {{"rights": "owned"}} (or one of {", ".join(sorted(RIGHTS))}) into {sidecar} next to the '
            "upload, materialize source_media again, then publish.",
        )
    credit = (attribution or "").strip() or None
    if rule.needs_attribution and credit is None:
        raise NeedsPersonError(
            f"{upload_key} is CC BY, but nothing says whom to credit.",
            code="attribution_missing",
            remedy=f'Add "attribution": "Title by Author, CC BY 4.0" to {sidecar}, materialize source_media again, '
            "then publish.",
        )
    # A voice-over that does not say what it is counts as synthetic.
    spoken = voice_json is not None and json.loads(voice_json).get("synthetic") is not False
    return Disclosure(synthetic=rule.synthetic or spoken, credit=credit)


def with_footage(disclosure: Disclosure, rendition: Mapping[str, Any], *, live: bool = False) -> Disclosure:
    """What must be declared besides for the clips a rendition cuts away to, by its row's `broll_json`.

    Each clip's credit line is added once; one generated clip makes the video synthetic. Raises NeedsPersonError
    `footage_right_missing` for a clip without a right to publish it, `footage_is_stand_in` for one of the sandbox's
    in a `live` post.
    """
    clips = json.loads(rendition.get("broll_json") or "{}").get("cutaways", [])
    for clip in clips:
        rule = RIGHTS.get(clip["rights"])
        if rule is None or (rule.needs_attribution and not clip["credit"]):
            raise NeedsPersonError(
                f"The rendition shows the clip {clip['vendor']} {clip['vendor_id']}, which nobody may publish (rights: "
                f"{clip['rights']}).",
                code="footage_right_missing",
                remedy="Render it again with other clips, or with broll set to none, then publish.",
            )
    if live and any(clip["standing"] == "sandbox" for clip in clips):
        raise NeedsPersonError(
            "The rendition shows clips of the sandbox, which stand in for stock footage and credit nobody real.",
            code="footage_is_stand_in",
            remedy="Set PEXELS_API_KEY and render it again, or render it with broll set to none, then publish.",
        )
    credits = dict.fromkeys(clip["credit"] for clip in clips if clip["credit"])
    return Disclosure(
        synthetic=disclosure.synthetic or any(RIGHTS[clip["rights"]].synthetic for clip in clips),
        credit="\n".join([*filter(None, [disclosure.credit]), *credits]) or None,
    )
