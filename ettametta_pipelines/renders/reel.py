"""The reel: all cutaways of one format as a single input of the graph, laid over the picture at their times.

Each cutaway is a piece of its own, made fit beforehand (`cutaways.py`); a script of the concat demuxer lines them up
with the pauses between them. One input however many cutaways there are: an input each cost 30 MB of queues and ran
into the limit of open files. `graph.py` calls `lay_reel`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from ettametta_pipelines.renders.broll import Slot

Stream = Any  # ffmpeg-python's nodes have no types

# The end of a stream may be told a tick after its last frame, which would then never be shown.
SPARE_FRAMES = 1
REEL_DEMUXERS = "concat,mov,mp4,m4a,3gp,3g2,mj2"


@dataclass(frozen=True)
class Reel:
    """`script` names one piece per slot; time in it starts with the first slot."""

    script: Path
    slots: tuple[Slot, ...]
    rate: Fraction

    def second(self, frame: float) -> float:
        return frame / float(self.rate)


def reel_script(pieces: Sequence[str], slots: Sequence[Slot], rate: Fraction) -> str:
    """A concat script; `pieces` are names beside it, each `SPARE_FRAMES` longer than its slot.

    A piece counts as lasting until the next one begins.
    """
    ends = [*(slot.start for slot in slots[1:]), slots[-1].end]
    lines = ["ffconcat version 1.0"]
    for name, slot, end in zip(pieces, slots, ends, strict=True):
        lines += [f"file {name}", f"duration {(end - slot.start) / float(rate):.6f}"]
    return "\n".join(lines) + "\n"


def lay_reel(
    stream: Stream,
    reel: Reel | None,
    tag: Callable[[Stream], Stream],
    window: tuple[float, float] | None = None,
) -> Stream:
    """The picture with the cutaways over it, to the frame; `tag` states colours as the picture's own do.

    With `window`, seconds of the rendition [from, to), only what is shown in it is read; the picture's times are
    absolute there too. A window without cutaways leaves the stream as it is.
    """
    slots = _within(reel, window) if reel is not None else ()
    if reel is None or not slots:
        return stream
    begin = reel.second(reel.slots[0].start)
    # Sought in the pause before a piece: within a piece the demuxer finds only what comes after it.
    skip = reel.second(slots[0].start - 0.5) - begin if slots[0] != reel.slots[0] else 0.0
    seek = {"ss": f"{skip:.6f}"} if skip > 0 else {}
    source = ffmpeg.input(
        f"file:{reel.script}", f="concat", protocol_whitelist="file", format_whitelist=REEL_DEMUXERS,
        codec_whitelist="h264", threads=1, itsoffset=f"{begin + skip:.6f}",
        t=f"{reel.second(slots[-1].end) - begin - skip + 1:.3f}", **seek,
    )  # fmt: skip
    # A quarter frame early: times are rounded to microseconds, and a frame that came late would show the one before.
    early = reel.second(0.25)
    over = tag(source["v:0"]).filter("setpts", f"PTS-{early:.6f}/TB")
    shown = "+".join(
        f"between(t,{reel.second(slot.start - 0.5):.6f},{reel.second(slot.end - 0.5):.6f})" for slot in slots
    )
    # Pass: with any other action the picture would last as long as the reel.
    return ffmpeg.filter([stream, over], "overlay", format="yuv420", eof_action="pass", enable=shown)


def _within(reel: Reel, window: tuple[float, float] | None) -> tuple[Slot, ...]:
    if window is None:
        return reel.slots
    begin, end = window
    return tuple(
        slot
        for slot in reel.slots
        if reel.second(slot.end - 0.5) > begin and reel.second(slot.start - 0.5) < end
    )
