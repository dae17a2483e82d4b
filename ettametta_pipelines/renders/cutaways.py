"""Makes clips fit to be cut in: each as a piece of exactly the frames wanted, in the format's size, rate and colours.

One short run per cutaway, from one decode for all formats, before the picture is rendered; the picture's graph then
has nothing to do but to lay the pieces over (`reel.py`). The recipe's colour and grayscale are in the pieces; zoom,
mirror, sway and glitch belong to the footage and are not. `engine.py` is the caller.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ffmpeg

from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.broll import Cutaway
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, source_options
from ettametta_pipelines.renders.formats import Format
from ettametta_pipelines.renders.graph import (
    BT2020_MATRICES,
    RenderPlan,
    color_matrix,
    crop_window,
    cut,
    scale,
    shift_colour,
    tag_colour,
    to_standard_range,
)
from ettametta_pipelines.renders.reel import SPARE_FRAMES, Reel, reel_script

# Fine enough that the second encoding shows nothing, and four times as fast as the renditions' own.
PIECE: Mapping[str, Any] = {
    "c:v": "libx264", "preset": "ultrafast", "crf": 12, "bf": 0, "threads": 1, "pix_fmt": "yuv420p",
    "fps_mode": "passthrough", "map_metadata": -1, "map_chapters": -1, "fflags": "+bitexact", "flags:v": "+bitexact",
    "f": "mp4",
}  # fmt: skip
PARALLEL = 2


def make_reels(plan: RenderPlan, workdir: Path) -> dict[str, Reel]:
    """A reel for each format of the plan, in files of `workdir`; none where the plan has no cutaways.

    Raises PipelineError by the runner's table, e.g. `decode_failed` for a clip that is damaged inside.
    """
    if not plan.cutaways:
        return {}
    with ThreadPoolExecutor(PARALLEL) as together:
        runs = [
            together.submit(_make_pieces, plan, cutaway, number, workdir)
            for number, cutaway in enumerate(plan.cutaways)
        ]
        for run in runs:
            run.result()
    slots = tuple(cutaway.slot(plan.rate) for cutaway in plan.cutaways)
    reels = {}
    for format in plan.formats:
        names = [_piece(number, format) for number in range(len(slots))]
        script = workdir / f"reel_{format.name}.txt"
        script.write_text(reel_script(names, slots, plan.rate))
        reels[format.name] = Reel(script, slots, plan.rate)
    return reels


def _piece(number: int, format: Format) -> str:
    return f"cutaway_{number:03d}_{format.name}.mp4"


def _make_pieces(plan: RenderPlan, cutaway: Cutaway, number: int, workdir: Path) -> None:
    slot = cutaway.slot(plan.rate)
    run_ffmpeg(
        piece_arguments(
            cutaway, plan, plan.formats, [workdir / _piece(number, format) for format in plan.formats],
            slot.end - slot.start + SPARE_FRAMES,
        ),
        doing="cutting a clip to size",
        workdir=workdir,
        timeout_s=120 + 20 * (cutaway.end_s - cutaway.start_s),
    )  # fmt: skip


def piece_arguments(
    cutaway: Cutaway, plan: RenderPlan, formats: Sequence[Format], targets: Sequence[Path], frames: int
) -> list[str]:
    """ffmpeg's arguments for one cutaway: from the clip's in-point, `frames` long, one output per format."""
    probe = cutaway.probe
    length_s = frames / float(plan.rate)
    source = ffmpeg.input(
        f"file:{cutaway.path.absolute()}",
        **source_options(probe),
        ss=f"{cutaway.in_s:.6f}",
        t=f"{length_s + 1:.3f}",
    )
    stream = _in_plans_colours(source[str(probe.video_index)], probe, plan)
    # The clip is long enough; at another rate its last frame may fall a fraction short of ours.
    stream = stream.filter("tpad", stop_mode="clone", stop=-1)
    branches = stream.filter_multi_output("split") if len(formats) > 1 else None
    outputs = []
    for place, (format, target) in enumerate(zip(formats, targets, strict=True)):
        branch = branches[place] if branches is not None else stream
        branch = scale(cut(branch, crop_window(probe, format.aspect, 1.0)), format.width, format.height)
        outputs.append(ffmpeg.output(branch, f"file:{target.absolute()}", **PIECE, **{"frames:v": frames}))
    arguments: list[str] = ffmpeg.merge_outputs(*outputs).get_args()
    return arguments


def _in_plans_colours(stream: Any, probe: Probe, plan: RenderPlan) -> Any:
    """Constant rate, 8 bits of limited range in the plan's own matrix, with the recipe's colour."""
    stream = stream.filter("fps", fps=str(plan.rate), start_time=0)
    if probe.is_hdr or probe.color_matrix in BT2020_MATRICES:
        stream = to_standard_range(stream, probe)
    stream = stream.filter("format", pix_fmts="yuv420p", color_ranges="tv")
    stream = tag_colour(stream, probe)
    theirs, ours = color_matrix(probe), color_matrix(plan.probe)
    if theirs != ours:
        stream = stream.filter("zscale", matrixin=ZSCALE[theirs], matrix=ZSCALE[ours])
        stream = stream.filter("format", pix_fmts="yuv420p")
    return shift_colour(tag_colour(stream, plan.probe), plan.recipe)


# zscale's names for the matrices of `graph.MATRICES`.
ZSCALE = {"bt709": "709", "bt470bg": "470bg", "smpte170m": "170m"}
