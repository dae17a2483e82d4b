"""Briefs without a model: sentences of ours, filled with what is known of a candidate.

The stand-in for a night without models or money, marked `template` in every row it writes. Deterministic: the same pick
gives the same brief. It uses what a judge saw (subjects, mood) and the niche's name, never the words of a stranger's
title. Called by `briefs.py`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

PROVIDER = "template"
MODEL = "template-1"

# Mood -> render recipe; what has no mood is rendered plainly.
MOOD_RECIPES: Mapping[str, str] = {
    "calm": "cinematic",
    "cheerful": "clean",
    "cosy": "cinematic",
    "dramatic": "cinematic",
    "energetic": "punchy",
    "funny": "punchy",
    "inspiring": "cinematic",
    "neutral": "clean",
    "tense": "punchy",
}
DEFAULT_RECIPE = "clean"

_HOOKS = (
    "What nobody shows you about {subject}",
    "{Subject}: watch to the end",
    "One thing changes {subject}",
    "Before you try {subject}",
    "{Subject} in 20 seconds",
)
_TITLES = (
    "{Subject}, the short version",
    "{Subject}: what makes the difference",
    "A closer look at {subject}",
    "{Niche}: {subject} step by step",
)
_PROMPTS = {
    "cinematic": "slow push-ins, one idea per shot, light from the side, the last shot held for two seconds",
    "clean": "bright even light, hands and details in close-up, each step shown once and named on screen",
    "punchy": "quick cuts of about a second, a surprise in the first two seconds, the result shown twice",
}
_BROLL = ("close-up", "hands at work", "detail", "wide shot")


def recipe_of(mood: str | None) -> str:
    """The render recipe that fits a mood."""
    return MOOD_RECIPES.get(mood or "", DEFAULT_RECIPE)


def write_template(pick: Mapping[str, Any], niche_title: str, identity: str) -> dict[str, Any]:
    """The fields of a brief draft for one pick; `identity` (its brief_id) chooses among the sentences."""
    subjects = [str(subject) for subject in pick["subjects"] or []] or [niche_title]
    subject = subjects[0].lower() if pick["subjects"] else niche_title
    words = {"subject": subject, "Subject": subject[:1].upper() + subject[1:], "Niche": niche_title}
    recipe = recipe_of(pick["mood"])
    turn = int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16)
    others = f" with {', '.join(subjects[1:3])}" if subjects[1:] else ""
    return {
        "prompt": (
            f"An original vertical video of 15 to 30 seconds about {subject}{others}, in a {pick['mood'] or 'neutral'} "
            f"mood: {_PROMPTS[recipe]}. New footage and new words; no person, brand, logo or music of another video."
        ),
        "hook_text": _turned(_HOOKS, turn)[0].format(**words),
        "title_candidates": [title.format(**words) for title in _turned(_TITLES, turn)[:3]],
        "broll_keywords": [*subjects[:4], *(f"{subject} {view}" for view in _BROLL)],
        "hashtags": [*subjects[:4], niche_title, "shorts"],
        "recipe": recipe,
    }


def _turned(options: Sequence[str], turn: int) -> list[str]:
    start = turn % len(options)
    return [*options[start:], *options[:start]]
