"""The sandbox's ground truth: what its audience likes about our own posts.

A post's views follow from the video it was made after, which its description links (`watch?v=...`): the hook of that
video's title, and how far that video itself stood above its channel's usual. Velocity, likes and looks carry no
weight of their own, on purpose: a formula that counts them can be beaten, and a learned score must find that out. A
post without a link is judged by the hook of its own title. What luck adds is said in `youtube_uploads.py`.
"""

import math
import re

from ettametta_pipelines.sandbox.gemini_judge import hook_of_title

HOOK_WEIGHT = 4.0
PULL_WEIGHT = 0.5
USUAL_HOOK = 0.15

_LINK = re.compile(r"watch\?v=([A-Za-z0-9_-]{11})")


def made_after(description: str) -> str | None:
    """Id of the first video a description links."""
    found = _LINK.search(description)
    return found[1] if found else None


def appeal(title: str, pull: float = 1.0) -> float:
    """Factor on the views of a post made after a video of this title and pull (views against its channel's usual)."""
    return math.exp(HOOK_WEIGHT * (hook_of_title(title) - USUAL_HOOK) + PULL_WEIGHT * math.log(pull))
