"""Cutaways in the graph: each clip read once for all formats, made fit for them, and laid over at its frames.

`graph.render_arguments` opens what is shown in its part of the timeline, `graph.format_branch` lays it over a format.
The recipe's colour and grayscale are applied to clips too; zoom, mirror, sway and glitch belong to the footage and are
not. A clip is never read beyond its cutaway: what an overlay does not need yet would wait in memory.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ffmpeg

from ettametta_pipelines.renders import graph
from ettametta_pipelines.renders.broll import Slot
from ettametta_pipelines.renders.ffmpeg import size_guard, source_options

if TYPE_CHECKING:
    from ettametta_pipelines.media.probe import Probe
    from ettametta_pipelines.renders.broll import Cutaway
    from ettametta_pipelines.renders.formats import Format
    from ettametta_pipelines.renders.segments import Segment

Stream = Any  # ffmpeg-python's nodes have no types

# The end of a stream may be told a tick after its last frame, which would then never be shown.
SPARE_FRAMES = 1
# zscale's names for the matrices of `graph.MATRICES`.
ZSCALE = {"bt709": "709", "bt470bg": "470bg", "smpte170m": "170m"}


@dataclass(frozen=True)
class Showing:
    """A cutaway as a stream of the plan's rate and colours, in the clip's own size; one of them per format."""

    slot: Slot
    probe: "Probe"
    stream: Stream


def open_cutaways(
    plan: "graph.RenderPlan", formats: Sequence["Format"], segment: "Segment"
) -> dict[str, list[Showing]]:
    """The cutaways seen in a segment, for these formats by their names.

    Each is read from its own beginning, so that its frames are the same whatever part of the timeline is made.
    """
    opened: dict[str, list[Showing]] = {format.name: [] for format in formats}
    readings: Counter[tuple[Path, float]] = Counter()
    for cutaway in plan.cutaways:
        slot = cutaway.slot(plan.rate)
        if slot.end <= segment.first or slot.start >= segment.end:
            continue
        again = readings[cutaway.path, cutaway.in_s]
        readings[cutaway.path, cutaway.in_s] += 1
        stream = _in_plans_colours(_read(cutaway, slot, plan, again), cutaway.probe, plan)
        branches: Sequence[Stream] = [stream]
        if len(formats) > 1:
            split = stream.filter_multi_output("split")
            branches = [split[place] for place in range(len(formats))]
        for format, branch in zip(formats, branches, strict=True):
            opened[format.name].append(Showing(slot, cutaway.probe, branch))
    return opened


def lay_over(
    stream: Stream, showings: Sequence[Showing], plan: "graph.RenderPlan", width: int, height: int
) -> Stream:
    """The picture with cutaways filling it, to the frame; its times are absolute."""
    rate = float(plan.rate)
    for one in showings:
        cut = graph.cut(one.stream, graph.crop_window(one.probe, Fraction(width, height), 1.0))
        over = graph.tag_colour(graph.scale(cut, width, height), plan.probe)
        shown = f"between(t,{(one.slot.start - 0.5) / rate:.6f},{(one.slot.end - 0.5) / rate:.6f})"
        # Pass: with any other action the picture would last as long as the clip.
        stream = ffmpeg.filter([stream, over], "overlay", format="yuv420", eof_action="pass", enable=shown)
    return stream


def _read(cutaway: "Cutaway", slot: Slot, plan: "graph.RenderPlan", again: int) -> Stream:
    """The clip's picture from its in-point on, at the times of the rendition it is shown.

    Inputs written alike are one to ffmpeg-python: one that is read `again` has so many more noughts to its time.
    """
    frames = slot.end - slot.start + SPARE_FRAMES
    source = ffmpeg.input(
        f"file:{cutaway.path.absolute()}",
        **source_options(cutaway.probe),
        ss=f"{cutaway.in_s:.6f}" + "0" * again,
        t=f"{frames / float(plan.rate) + 0.1:.6f}",
    )
    stream = source[str(cutaway.probe.video_index)]
    stream = stream.filter("crop", **size_guard(cutaway.probe))
    stream = stream.filter("fps", fps=str(plan.rate), start_time=f"{cutaway.in_s:.6f}")
    # At another rate the last frame may fall a fraction short of ours.
    stream = stream.filter("tpad", stop_mode="clone", stop=-1).filter("trim", end_frame=frames)
    # After fps time counts frames, so this is exact.
    return stream.filter("setpts", f"PTS-STARTPTS+{slot.start}")


def _in_plans_colours(stream: Stream, probe: "Probe", plan: "graph.RenderPlan") -> Stream:
    """8 bits of limited range in the matrix of the footage, with the recipe's colour."""
    if probe.is_hdr or probe.color_matrix in graph.BT2020_MATRICES:
        stream = graph.to_standard_range(stream, probe)
    stream = stream.filter("format", pix_fmts="yuv420p", color_ranges="tv")
    stream = graph.tag_colour(stream, probe)
    theirs, ours = graph.color_matrix(probe), graph.color_matrix(plan.probe)
    if theirs != ours:
        stream = stream.filter("zscale", matrixin=ZSCALE[theirs], matrix=ZSCALE[ours])
        stream = stream.filter("format", pix_fmts="yuv420p")
    return graph.shift_colour(graph.tag_colour(stream, plan.probe), plan.recipe)
