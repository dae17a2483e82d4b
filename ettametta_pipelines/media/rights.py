"""The rights an uploader can declare, and what keeps footage with them from being published.

Vocabulary of the sidecar and of `source_media.rights`. What a post must disclose for each right is publishing's
work; here an operator only learns early that something is missing.
"""

from typing import Literal

Rights = Literal["owned", "licensed", "cc_by", "generated"]

UNDECLARED = "undeclared"

MEANINGS: dict[str, str] = {
    "owned": "made by the account, or made for it",
    "licensed": "used under a licence that allows this use",
    "cc_by": "Creative Commons Attribution; the credit line is published with it",
    "generated": "made by a machine; published as synthetic media",
}


def publishing_obstacle(rights: str, attribution: str | None) -> str | None:
    """Why footage with these rights could not be published now, as one sentence; None when nothing is missing."""
    if rights not in MEANINGS:
        return "No right is declared in the sidecar; it will be rendered but not published."
    if rights == "cc_by" and not attribution:
        return "CC BY footage without an attribution in the sidecar will be rendered but not published."
    return None
