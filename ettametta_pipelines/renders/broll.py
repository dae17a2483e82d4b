"""B-roll as data: when a video cuts away, from which words footage is sought, and what is known of each clip used.

Pure functions and records. Where clips come from is `broll_clips.py`'s, how they get into the picture
`cutaways.py`'s. The recipe's part is `recipe.Broll`.
"""

import hashlib
import json
import math
import random
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.recipe import Broll
from ettametta_pipelines.untrusted import plain_text

# Raised whenever the same clips at the same times would give other pictures: part of the render key where there are
# cutaways.
CUTAWAY_REVISION = 1

# The hook has to be the footage itself, and the end belongs to it too.
HOOK_S = 2.0
TAIL_S = 1.5
MIN_LENGTH_S = 1.0
# So much of the footage itself is seen between two cutaways.
MIN_APART_S = 1.5
# An end this near to a cut goes to the cut, since a shot of a few frames is seen as a fault.
SNAP_S = 0.5
MAX_CUTAWAYS = 40
MAX_KEYWORDS = 12
MAX_KEYWORD_CHARS = 40

# Words a title has and no footage shows; in the languages most uploads come in.
_EMPTY_WORDS = re.compile(
    "about|after|and|are|best|but|das|der|des|die|does|ein|eine|est|for|from|get|has|have|how|into|its|just|las|les|los"
    "|made|make|mein|mit|more|most|music|new|not|one|our|part|que|short|shorts|sur|that|the|this|tips|und|une|untitled"
    "|use|video|vlog|von|was|what|when|why|will|with|you|your"
    # What cameras call their files.
    "|clip|dji|dsc|export|final|gopro|img|mov|mvi|pxl|vid"
)


@dataclass(frozen=True)
class Slot:
    """A time to be filled, in frames of the rendition; `end` is the first frame of the source again."""

    start: int
    end: int


@dataclass(frozen=True)
class Clip:
    """Footage kept in the object store, and the right to use it.

    `credit` is the line a post has to carry, or None; `standing` is `sandbox` where it stands in for stock footage.
    """

    sha256: str
    object_key: str
    vendor: str
    vendor_id: str
    rights: str
    licence: str
    credit: str | None
    author: str | None
    author_url: str | None
    url: str | None
    query: str
    duration_s: float
    fetched_at: str
    standing: str = ""

    @property
    def identity(self) -> str:
        return f"{self.vendor}-{self.vendor_id}"


@dataclass(frozen=True)
class Placed:
    """A clip at its place: shown from `in_s` of the clip on for as long as the slot lasts."""

    slot: Slot
    clip: Clip
    in_s: float


@dataclass(frozen=True)
class Skipped:
    """A slot that stayed as it was, and why."""

    slot: Slot
    code: str
    reason: str


@dataclass(frozen=True)
class BrollReport:
    """What became of the wish for cutaways; `rate` turns frames into seconds of the rendition."""

    rate: Fraction
    placed: tuple[Placed, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def digest(self) -> str | None:
        """Names what is shown when, for the render key; None where nothing is."""
        if not self.placed:
            return None
        shown = [[p.clip.sha256, p.in_s, p.slot.start, p.slot.end] for p in self.placed]
        return hashlib.sha256(json.dumps([CUTAWAY_REVISION, shown]).encode()).hexdigest()[:32]

    @property
    def credits(self) -> tuple[str, ...]:
        """Credit lines in the order of their first appearance, each once."""
        return tuple(dict.fromkeys(p.clip.credit for p in self.placed if p.clip.credit))

    @property
    def in_words(self) -> str:
        """One sentence for the rendition's page."""
        if not self.placed and not self.skipped:
            return "none: the video is too short for a cutaway"
        reasons = "; ".join(dict.fromkeys(skip.reason for skip in self.skipped))
        if not self.placed:
            return f"skipped: {reasons}"
        shown = f"{len(self.placed)} cutaway" + "s" * (len(self.placed) > 1)
        return f"{shown}, {len(self.skipped)} skipped: {reasons}" if self.skipped else shown

    def document(self) -> dict[str, Any]:
        """JSON-able: `cutaways` with their clips and times, `skipped` with their reasons."""
        return {
            "cutaways": [self._times(p.slot) | {"in_s": p.in_s, **asdict(p.clip)} for p in self.placed],
            "skipped": [self._times(s.slot) | {"code": s.code, "reason": s.reason} for s in self.skipped],
        }

    def _times(self, slot: Slot) -> dict[str, float]:
        start, end = (round(float(frame / self.rate), 3) for frame in (slot.start, slot.end))
        return {"start_s": start, "end_s": end}


@dataclass(frozen=True)
class Cutaway:
    """A clip on this machine, ready to be cut in: shown from `in_s` on, at absolute seconds of the rendition."""

    path: Path
    probe: Probe
    sha256: str
    in_s: float
    start_s: float
    end_s: float

    def slot(self, rate: Fraction) -> Slot:
        return Slot(round(self.start_s * rate), round(self.end_s * rate))


def plan_slots(
    broll: Broll, seed: int, duration_s: float, rate: Fraction, boundaries_s: Sequence[float]
) -> tuple[Slot, ...]:
    """When a rendition of this length cuts away: in order, apart from each other, the same for the same seed.

    `boundaries_s` are cuts of the source in seconds of the rendition. Cutaways begin at cuts, so that the eye is
    interrupted once and not twice; where there is no cut to begin at they are spread evenly.
    """
    frames = max(1, round(duration_s * rate))
    first, last = math.ceil(HOOK_S * rate), min(frames, math.floor((duration_s - TAIL_S) * rate))
    shortest = math.ceil(MIN_LENGTH_S * rate)
    budget = math.floor(broll.share * frames)
    cuts = sorted({round(cut * rate) for cut in boundaries_s if cut > 0})
    starts = [cut for cut in cuts if first <= cut <= last - shortest]
    rng = random.Random(f"broll {seed}")
    every = max(broll.every_s, (last - first) / float(rate) / MAX_CUTAWAYS) * float(rate)
    slots: list[Slot] = []
    target = min(first + rng.uniform(0, 0.5) * every, max(first, last - shortest))
    earliest = first
    while budget >= shortest and len(slots) < MAX_CUTAWAYS:
        start = _start_at(starts, round(target), earliest, last - shortest)
        if start is None:
            break
        wanted = min(round(rng.uniform(0.85, 1) * broll.length_s * rate), budget)
        end = _end_at(cuts, start + shortest, start + max(shortest, wanted), round(SNAP_S * rate))
        end = min(end, last, start + budget)
        slots.append(Slot(start, end))
        budget -= end - start
        earliest = max(end + math.ceil(MIN_APART_S * rate), round(start + 0.5 * every))
        target = start + rng.uniform(0.75, 1.25) * every
    return tuple(slots)


def _start_at(starts: list[int], target: int, earliest: int, latest: int) -> int | None:
    """The cut that is nearest to the target; the target itself where there are no cuts. None when too late."""
    if not starts:
        return start if (start := max(earliest, target)) <= latest else None
    possible = starts[bisect_left(starts, earliest) :]
    return min(possible, key=lambda cut: abs(cut - target), default=None)


def _end_at(cuts: list[int], soonest: int, end: int, snap: int) -> int:
    """The cut within reach of the end, so that no sliver of a shot is left on either side of it."""
    near = [cut for cut in cuts if abs(cut - end) <= snap and cut >= soonest]
    return min(near, key=lambda cut: abs(cut - end), default=end)


def keywords_for(stated: Iterable[str], title: str, niche: str) -> tuple[str, ...]:
    """What to search for, best first: the words stated with the video; without any, its title's and its niche's.

    A title is taken as one phrase of its first four telling words; names of files (`IMG_2034`) tell nothing.
    """
    words = [plain_text(word, MAX_KEYWORD_CHARS) for word in stated]
    if not any(words):
        telling = [
            word
            for word in re.findall(r"[^\W_]{3,}", title.casefold())
            if not _EMPTY_WORDS.fullmatch(word) and not re.search(r"\d", word)
        ]
        words = [plain_text(" ".join(telling[:4]), MAX_KEYWORD_CHARS), niche.replace("-", " ")]
    return tuple(dict.fromkeys(word for word in words if word))[:MAX_KEYWORDS]


def split_keywords(text: str) -> list[str]:
    """`knife skills, onions` as a list; raises nothing, an empty text gives an empty list."""
    return [word for part in text.split(",") if (word := plain_text(part, MAX_KEYWORD_CHARS))]
