"""Are the captions in the finished file, where and when they should be? Measured on its own frames.

For a few captions the letters are painted once more, alone on black and on white: what comes out tells which pixels
they own and which colours those may have. The file must show exactly that while the caption lasts, and not before or
after. `quality.py` asks; how captions are drawn is `caption_drawing.py`'s.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ettametta_pipelines.renders.caption_drawing import FONTS_DIR, drawable, pages, script
from ettametta_pipelines.renders.captions import Cue
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg
from ettametta_pipelines.renders.formats import Format
from ettametta_pipelines.renders.platforms import SAFE_ZONES
from ettametta_pipelines.renders.stills import SHRINK, STILL_CHAIN, Stills

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ettametta_pipelines.renders.recipe import Captions

    Plane = NDArray[np.int16]
    Mask = NDArray[np.bool_]

# Captions looked at: the first, the last and one between.
LOOKED_AT = 3
TOLERANCE_S = 0.1
# What is shown for less may fall between two frames.
LEAST_FRAMES = 3
# How far a pixel may be from the colour it should have (of 255): coding rings around letters.
COLOUR_TOLERANCE = 36
# Shares of a caption's pixels in their colours, over presets, styles and clips at hand: 1.00 while it is shown (0.85
# over noise that uses up the bit rate), 0.16 or less where it is not.
SHOWN_SHARE = 0.75
# Luma of letters and of what is behind them; fewer pixels than these say nothing.
BRIGHT, DARK = 150, 110
LEAST_PIXELS = 40
# Paint thinner than this (of 255) is the rim of a smoothed edge.
LEAST_PAINT = 12


@dataclass(frozen=True)
class Moment:
    """A frame to look at: whether a caption is seen there, and the frame whose letters it is compared with."""

    number: int
    shown: bool
    like: int


@dataclass(frozen=True)
class CaptionVerdict:
    """`moments` is how many frames were looked at, `share` the least share of letters found while they are shown."""

    passed: bool
    sentence: str
    moments: int = 0
    share: float = 1.0
    look_at: int | None = None


@dataclass(frozen=True)
class CaptionSight:
    """The captions one rendition must show; times of cues are the rendition's. `workdir` has the fonts."""

    cues: Sequence[Cue]
    settings: "Captions"
    format: Format
    rate: Fraction
    frame_count: int
    workdir: Path

    def moments(self) -> list[Moment]:
        """Frames at both edges and in the middle of a few captions, and beside them where nothing else is shown."""
        end_s = float(self.frame_count / self.rate)
        seen = [
            replace(cue, end_s=min(cue.end_s, end_s))
            for cue in self.cues
            if (end_s - cue.start_s) * self.rate >= LEAST_FRAMES and drawable(cue.text)
        ]
        places = sorted({0, len(seen) // 2, len(seen) - 1}) if seen else []
        return [moment for place in places[:LOOKED_AT] for moment in self._moments_of(seen, place)]

    def _moments_of(self, cues: Sequence[Cue], place: int) -> Iterator[Moment]:
        page, *more = pages(cues[place], self.settings, self.format)
        rate, tolerance = float(self.rate), max(TOLERANCE_S, float(1 / self.rate))
        if (page.end_s - page.start_s) * rate < LEAST_FRAMES:
            return
        following = [more[0].start_s] if more else [cue.start_s for cue in cues[place + 1 : place + 2]]
        before = cues[place - 1].end_s if place else -math.inf
        after = following[0] if following else math.inf
        first, last = _within(page.start_s + tolerance, page.end_s - tolerance, rate)
        if first > last:
            first = last = round((page.start_s + page.end_s) / 2 * rate)
        last = min(last, self.frame_count - 1)
        first = min(first, last)
        for number in sorted({first, (first + last) // 2, last}):
            yield Moment(number, True, number)
        # One frame more away from what is shown before and after, whose own edges are as uncertain.
        early, late = (
            math.floor((page.start_s - tolerance) * rate),
            math.ceil((page.end_s + tolerance) * rate),
        )
        if early >= 0 and early - 1 > before * rate:
            yield Moment(early, False, first)
        if late < self.frame_count and late + 1 < after * rate:
            yield Moment(late, False, last)

    def judge(self, stills: Stills) -> CaptionVerdict:
        """The verdict from the file's frames, those of `moments` among them.

        Raises PipelineError by the runner's table.
        """
        moments = self.moments()
        if not moments:
            return CaptionVerdict(True, "No captions are drawn.")
        painted = self._paint(sorted({moment.like for moment in moments}))
        least = 1.0
        for moment in moments:
            letters = painted[moment.like]
            at_s = float(moment.number / self.rate)
            if letters.reaches_beyond(SAFE_ZONES[self.format.name].box(self.format)):
                sentence = (
                    f"The caption at {at_s:.2f} s is painted outside the part that platforms keep free."
                )
                return CaptionVerdict(False, sentence, len(moments), 0.0, moment.number)
            share = letters.share_in(stills[moment.number].luma) if moment.number in stills else 0.0
            if moment.shown:
                least = min(least, share)
            if moment.shown and share < SHOWN_SHARE:
                sentence = (
                    f"The caption that should be seen at {at_s:.2f} s is not: "
                    f"{100 * share:.0f} % of its pixels are in their colours."
                )
                return CaptionVerdict(False, sentence, len(moments), least, moment.number)
            if not moment.shown and letters.telling and share >= SHOWN_SHARE:
                sentence = f"A caption is seen at {at_s:.2f} s, where none should be."
                return CaptionVerdict(False, sentence, len(moments), least, moment.number)
        sentence = f"Captions are in their place and on time at the {len(moments)} moments looked at."
        return CaptionVerdict(True, sentence, len(moments), least)

    def _paint(self, numbers: Sequence[int]) -> "dict[int, Letters]":
        """The letters of these frames, by number, painted by libass on black and on white."""
        import numpy as np

        times = [float(number / self.rate) for number in numbers]
        near = [cue for cue in self.cues if any(cue.start_s - 1 < at_s < cue.end_s + 1 for at_s in times)]
        name = f"check_{self.format.name}.ass"
        (self.workdir / name).write_text(script(near, self.settings, self.format), encoding="utf-8")
        # One frame for each time: the expression looks its time up by the frame's place.
        clock = "+".join(f"eq(N,{place})*{at_s:.6f}" for place, at_s in enumerate(times))
        size = f"{self.format.width}x{self.format.height}"
        chain = f"setpts='({clock})/TB',format=yuv420p,ass={name}:fontsdir={FONTS_DIR},{STILL_CHAIN},extractplanes=y"
        graph = ";".join(f"color={colour}:s={size}:r=25,{chain}[{colour}]" for colour in ("black", "white"))
        data = bytearray()
        run_ffmpeg(
            [
                "-filter_complex", f"{graph};[black][white]hstack", "-frames:v", str(len(times)),
                "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1",
            ],
            doing="painting captions to compare with",
            workdir=self.workdir,
            timeout_s=60,
            on_stdout=data.extend,
        )  # fmt: skip
        across, down = self.format.width // SHRINK, self.format.height // SHRINK
        frames = np.frombuffer(bytes(data), np.uint8).reshape(-1, down, 2 * across).astype(np.int16)
        return {
            number: Letters(frame[:, :across], frame[:, across:])
            for number, frame in zip(numbers, frames, strict=True)
        }


def _within(start_s: float, end_s: float, rate: float) -> tuple[int, int]:
    """First and last frame between two times."""
    return math.ceil(start_s * rate), math.floor(end_s * rate)


@dataclass(frozen=True)
class Letters:
    """Luma of painted letters over black and over white; between the two lies what the picture may show there."""

    on_black: "Plane"
    on_white: "Plane"

    @property
    def _groups(self) -> "list[Mask]":
        """Pixels of the letters, and of the edge or box around them, where there are enough to tell."""
        found = [self.on_black >= BRIGHT, self.on_white <= DARK]
        return [group for group in found if int(group.sum()) >= LEAST_PIXELS]

    @property
    def telling(self) -> bool:
        """Whether the letters are both bright and dark: else a plain wall might pass for them."""
        return len(self._groups) == 2

    def share_in(self, luma: "NDArray[np.uint8]") -> float:
        """The share of pixels in their colours, of the letters or what is around them, whichever is less."""
        fits = (luma >= self.on_black - COLOUR_TOLERANCE) & (luma <= self.on_white + COLOUR_TOLERANCE)
        return min((float(fits[group].mean()) for group in self._groups), default=0.0)

    def reaches_beyond(self, box: tuple[int, int, int, int]) -> bool:
        """Whether any paint lies outside a box of the frame's own pixels."""
        import numpy as np

        left, top, right, bottom = box
        painted = (self.on_black > 16 + LEAST_PAINT) | (self.on_white < 235 - LEAST_PAINT)
        inside = np.zeros_like(painted)
        inside[top // SHRINK : math.ceil(bottom / SHRINK), left // SHRINK : math.ceil(right / SHRINK)] = True
        return bool((painted & ~inside).any())
