"""Ids of posts as people give them: alone, or at the end of an address as a browser shows it.

For whoever takes a person's word that a post is live: the gateway's page (`review.py`) and a run's configuration
(`delivery.py`).
"""

import re

from ettametta_pipelines.failures import PermanentError

REMOTE_IDS = {
    "youtube": re.compile(r"(?:https?://\S*(?:[?&]v=|/shorts/|youtu\.be/))?([A-Za-z0-9_-]{11})(?:[?&#]\S*)?"),
    "tiktok": re.compile(r"(?:https?://\S*/video/)?([0-9]{8,24})(?:[?#]\S*)?"),
}


def remote_id_of(platform: str, found: str) -> str:
    """The id in what a person found on the channel. Raises PermanentError `bad_post_id`."""
    match = REMOTE_IDS[platform].fullmatch(found.strip())
    if match is None:
        raise PermanentError(
            f"{found.strip()[:80]!r} is neither the id nor the address of a post on {platform}.",
            code="bad_post_id",
            remedy="Open the post on the channel and copy its address.",
        )
    return match[1]
