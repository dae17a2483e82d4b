"""From recipe to ffmpeg arguments: one decode, one common chain, one branch per format.

Everything stays in yuv420p: a single trip through RGB costs more than all treatments together. Speed, mirror, colour
and glitch run once on the source's frames; crop and scale are one step per format; grain and plate come after. All
values in the graph are numbers of ours; no text from outside ever enters it. `engine.py` is the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import ffmpeg

from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.media.subject import SubjectTrack
from ettametta_pipelines.renders import cutaways as cutting
from ettametta_pipelines.renders.broll import Cutaway
from ettametta_pipelines.renders.caption_drawing import FONTS_DIR
from ettametta_pipelines.renders.encoders import X264, Encoder
from ettametta_pipelines.renders.ffmpeg import size_guard, source_options
from ettametta_pipelines.renders.formats import Format, output_rate
from ettametta_pipelines.renders.framing import SAME_SHAPE, CropPath, Following, plan_paths
from ettametta_pipelines.renders.glitch import SLICERS, Burst, plan_bursts, script_name
from ettametta_pipelines.renders.jitter import margin, reach, sway
from ettametta_pipelines.renders.recipe import Colour, Recipe
from ettametta_pipelines.renders.segments import Segment, plan_segments
from ettametta_pipelines.renders.tempo import TimeMap, time_map
from ettametta_pipelines.renders.voiceover import Narration

Stream = Any  # ffmpeg-python's nodes have no types

# zscale counts in whole numbers, the same on every kind of processor, and is twice as fast as scale here.
SCALER = "bicubic"
SHRINKER = "area+accurate_rnd+bitexact"
BLUR_DIVISOR = 10
BLUR_SIGMA = 2.5

# ITU-T H.273 matrix codes a file may carry, as ffmpeg names them. 0 and 2 say nothing; what applies then is a
# convention of players: HD is BT.709, everything smaller BT.601.
MATRICES = {1: "bt709", 5: "bt470bg", 6: "smpte170m"}
BT2020_MATRICES = frozenset((9, 10))
# ITU-R BT.2408: reference white is 203 cd/m2; highlights up to 5 times that keep their drawing.
HDR_WHITE_NITS = 203
HDR_PEAK = 5
UNSTATED = frozenset((0, 2, 3))
HD_HEIGHT = 720

# Seeking goes to the keyframe at or before the time asked for, which a file may state a little early or late.
ENTRY_MARGIN_S = 0.001


@dataclass(frozen=True)
class Window:
    """A part of the source's stored pixels, all of it even: chroma keeps its place, and zscale takes nothing else."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class RenderPlan:
    """Everything one render needs. What was made beforehand is named as it lies in the directory ffmpeg runs in.

    `plates` are by format, `captions` scripts by format and segment; most segments may have none. `subject` is where
    the camera looks in formats that show only a part; `voice` is heard, not seen: it changes no segment.
    """

    source: Path
    probe: Probe
    recipe: Recipe
    seed: int
    formats: Sequence[Format]
    plates: Mapping[str, str] = field(default_factory=dict)
    captions: Mapping[tuple[str, int], str] = field(default_factory=dict)
    subject: SubjectTrack | None = None
    voice: Narration | None = None
    cutaways: Sequence[Cutaway] = ()
    encoder: Encoder = X264

    @property
    def has_sound(self) -> bool:
        return self.probe.has_audio or self.voice is not None

    @property
    def rate(self) -> Fraction:
        return output_rate(self.probe.fps, variable=self.probe.variable_rate)

    @cached_property
    def time_map(self) -> TimeMap:
        """Source seconds to seconds of the outputs."""
        return time_map(self.recipe, self.seed)

    @property
    def duration_s(self) -> float:
        """Length every output must have."""
        return self.time_map.output_time(self.probe.duration_s)

    @property
    def frame_count(self) -> int:
        """Frames of every output: its length at its rate."""
        return max(1, round(self.duration_s * self.rate))

    @cached_property
    def bursts(self) -> tuple[Burst, ...]:
        """When the picture is glitched, and how; the same in every format."""
        return plan_bursts(
            self.recipe.glitch, self.seed, self.frame_count, self.rate, self.probe.width, self.probe.height
        )

    @cached_property
    def framing(self) -> dict[str, CropPath]:
        """Camera paths of the formats that do not stay in the centre."""
        return plan_paths(self.subject, self.recipe, self.formats)

    @cached_property
    def segments(self) -> list[Segment]:
        return plan_segments(self.frame_count, self.rate, self.time_map, self.probe.entry_points_s)

    @property
    def times_of_segments(self) -> list[tuple[float, float]]:
        """Start and end of each segment in seconds of the rendition."""
        return [(float(s.first / self.rate), float(s.end / self.rate)) for s in self.segments]

    def bursts_in(self, segment: Segment) -> tuple[Burst, ...]:
        return tuple(
            burst for burst in self.bursts if burst.first < segment.end and burst.end > segment.first
        )


def crop_window(probe: Probe, aspect: Fraction | None, zoom: float) -> Window:
    """The centred window of this display aspect (None: the source's own), made smaller by the zoom."""
    pixel = Fraction(*probe.sample_aspect)
    wanted = aspect or probe.display_aspect
    if probe.display_aspect > wanted:
        width, height = probe.height * wanted / pixel, Fraction(probe.height)
    else:
        width, height = Fraction(probe.width), probe.width * pixel / wanted
    # The shorter side first: what it is rounded by, the longer one follows.
    if width <= height:
        across = _even(float(width) / zoom, probe.width)
        down = _even(float(across * height / width), probe.height)
    else:
        down = _even(float(height) / zoom, probe.height)
        across = _even(float(down * width / height), probe.width)
    return Window((probe.width - across) // 4 * 2, (probe.height - down) // 4 * 2, across, down)


def _even(length: float, most: int) -> int:
    return max(2, min(most // 2 * 2, 2 * round(length / 2)))


def fitted_size(probe: Probe, format: Format) -> tuple[int, int]:
    """The largest even size of the source's shape inside a format."""
    if probe.display_aspect > format.aspect:
        return format.width, 2 * round(format.width / probe.display_aspect / 2)
    return 2 * round(format.height * probe.display_aspect / 2), format.height


def render_arguments(plan: RenderPlan, segment: Segment, outputs: Mapping[str, Path]) -> list[str]:
    """ffmpeg's arguments for one segment: input, graph and one output for each format `outputs` names.

    Inside the graph times are those of the whole rendition; in each output they begin at 0.
    """
    formats = [format for format in plan.formats if format.name in outputs]
    made = []
    for format, stream in zip(formats, segment_pictures(plan, segment, formats), strict=True):
        stream = stream.filter("setpts", f"round(PTS-{float(segment.first / plan.rate):.9f}/TB)")
        if plan.encoder.upload:
            stream = stream.filter("format", pix_fmts=plan.encoder.pixel_format).filter("hwupload")
        made.append(ffmpeg.output(stream, f"file:{outputs[format.name]}", **output_options(plan, segment)))
    arguments: list[str] = ffmpeg.merge_outputs(*made).get_args()
    return ["-copyts", "-start_at_zero", *plan.encoder.device, *arguments]


def segment_pictures(plan: RenderPlan, segment: Segment, formats: Sequence[Format]) -> list[Stream]:
    """The finished picture of a segment in each format, in the time of the whole rendition, before its encoder."""
    picture = common_chain(source_picture(plan, segment), plan, segment)
    branches = picture.filter_multi_output("split") if len(formats) > 1 else [picture]
    showings = cutting.open_cutaways(plan, formats, segment)
    return [
        format_branch(branches[n], plan, format, segment, showings[format.name])
        for n, format in enumerate(formats)
    ]


def source_picture(plan: RenderPlan, segment: Segment) -> Stream:
    """The source from the segment's entry on; what comes before its first frame is dropped by `fps`.

    Reading ends when every encoder has its frames.
    """
    options: dict[str, str | None] = {**source_options(plan.probe)}
    if segment.entry_s is not None:
        options |= {"ss": f"{segment.entry_s + ENTRY_MARGIN_S:.6f}", "noaccurate_seek": None}
    return ffmpeg.input(f"file:{plan.source}", **options)[str(plan.probe.video_index)]


def common_chain(stream: Stream, plan: RenderPlan, segment: Segment) -> Stream:
    """What all formats share: constant rate, 8 bits of limited range, mirror, colour and glitch."""
    probe = plan.probe
    stream = stream.filter("crop", **size_guard(probe))
    if not plan.time_map.is_identity:
        # A file may count time in whole frames, which would round every moved frame back into its place.
        stream = stream.filter("settb", "1/90000").filter("setpts", f"({plan.time_map.expression('T')})/TB")
    # From the segment's own first frame on: at 0 a picture that starts after its sound keeps that distance.
    start = f"{float(segment.first / plan.rate):.6f}"
    stream = stream.filter("fps", fps=str(plan.rate), start_time=start)
    if probe.is_hdr or probe.color_matrix in BT2020_MATRICES:
        stream = to_standard_range(stream, probe)
    stream = stream.filter("format", pix_fmts="yuv420p", color_ranges="tv")
    stream = tag_colour(stream, probe)
    if plan.recipe.originality.mirror:
        stream = stream.filter("hflip")
    stream = shift_colour(stream, plan.recipe)
    return tear(stream, segment) if plan.bursts_in(segment) else stream


def tear(stream: Stream, segment: Segment) -> Stream:
    """The filters of the glitch, switched on and off by the segment's script in the working directory."""
    stream = stream.filter("sendcmd", filename=script_name(segment))
    for name in ("pixelize", "chromashift", *SLICERS):
        stream = stream.filter(name, enable=0)
    return stream


def to_standard_range(stream: Stream, probe: Probe) -> Stream:
    """BT.2020 to BT.709, with HDR highlights rolled off instead of clipped.

    Below 60 % of reference white, brightness is kept as it is. Half-tagged files are common and zscale refuses to
    guess: what is not stated counts as BT.2020.
    """
    guesses = {}
    if probe.color_matrix in UNSTATED:
        guesses["colorspace"] = "bt2020nc"
    if probe.color_primaries in UNSTATED:
        guesses["color_primaries"] = "bt2020"
    if probe.color_transfer in UNSTATED:
        guesses["color_trc"] = "bt2020-10"
    if guesses:
        stream = stream.filter("setparams", **guesses)
    if probe.is_hdr:
        stream = stream.filter("zscale", transfer="linear", npl=HDR_WHITE_NITS)
        stream = stream.filter("format", pix_fmts="gbrpf32le")
        stream = stream.filter("zscale", primaries="bt709")
        stream = stream.filter("tonemap", tonemap="mobius", param=0.6, desat=0, peak=HDR_PEAK)
    return stream.filter("zscale", transfer="bt709", matrix="bt709", primaries="bt709", range="tv")


def color_matrix(probe: Probe) -> str:
    """The matrix the 8-bit picture is in, as the outputs state it."""
    if probe.is_hdr or probe.color_matrix in BT2020_MATRICES:
        return "bt709"
    assumed = "bt709" if min(probe.width, probe.height) >= HD_HEIGHT else "smpte170m"
    return MATRICES.get(probe.color_matrix, assumed)


def tag_colour(stream: Stream, probe: Probe) -> Stream:
    """State range, matrix, primaries and transfer.

    Every input of an overlay must state the same: where one says nothing, ffmpeg converts the other to 'unknown',
    which changes colours and takes five times as long as the overlay itself.
    """
    matrix = color_matrix(probe)
    transfer = "bt709" if matrix == "bt709" else "smpte170m"
    return stream.filter(
        "setparams", range="tv", colorspace=matrix, color_primaries=matrix, color_trc=transfer
    )


def shift_colour(stream: Stream, recipe: Recipe) -> Stream:
    """Colour and tone; in grayscale what turns colours is left out, since none is left to turn."""
    colour = recipe.originality.colour
    if recipe.grayscale:
        colour = Colour(contrast=colour.contrast, brightness=colour.brightness)
    tone = {
        "saturation": (colour.saturation, 1.0),
        "contrast": (colour.contrast, 1.0),
        "brightness": (colour.brightness, 0.0),
        # On planes of chroma a gamma bends neutral grey towards a tint: warmth without leaving YUV. Less of red than
        # of blue makes the tint golden; equal parts make it pink.
        "gamma_r": (1 + 0.08 * colour.warmth, 1.0),
        "gamma_b": (1 - 0.12 * colour.warmth, 1.0),
    }
    changed = {name: f"{value:.5g}" for name, (value, neutral) in tone.items() if value != neutral}
    if changed:
        stream = stream.filter("eq", **changed)
    if colour.hue_degrees:
        stream = stream.filter("hue", h=f"{colour.hue_degrees:.5g}")
    if recipe.grayscale:
        # Not eq: it ends at 127 instead of 128 and leaves the last column of an odd width in colour.
        stream = stream.filter("hue", s=0)
    return stream


def format_branch(
    stream: Stream, plan: RenderPlan, format: Format, segment: Segment, showings: Sequence["cutting.Showing"]
) -> Stream:
    """Fill one format and cut away; then grain, then the plate, so that letterbox bars stay clean."""
    zoom = plan.recipe.originality.zoom or 1.0
    other_shape = abs(float(plan.probe.display_aspect / format.aspect) - 1) > SAME_SHAPE
    if plan.recipe.fit == "blur" and other_shape:
        stream = fill_with_blur(stream, plan, format, zoom)
    else:
        stream = fill_by_crop(stream, plan, format, zoom, segment)
    stream = cutting.lay_over(stream, showings, plan, format.width, format.height)
    if plan.recipe.grain is not None:
        # Of the seeds noise offers only all_seed has an effect. Each segment has its own, or grain would repeat.
        seed = (plan.seed + segment.index) % 2**31
        stream = stream.filter("noise", c0s=plan.recipe.grain.strength, c0f="t", all_seed=seed)
    plate = plan.plates.get(format.name)
    if plate is not None:
        black = ffmpeg.input(
            f"file:{plate}",
            f="rawvideo",
            pixel_format="yuva420p",
            video_size=(format.width, format.height),
            framerate=str(plan.rate),
        )
        stream = ffmpeg.filter([stream, tag_colour(black["v:0"], plan.probe)], "overlay", format="yuv420")
    return draw_captions(stream, plan.captions.get((format.name, segment.index)))


def draw_captions(stream: Stream, script: str | None) -> Stream:
    """Captions above everything else; their words are in the script, never in the graph."""
    return stream if script is None else stream.filter("ass", filename=script, fontsdir=FONTS_DIR)


def fill_by_crop(stream: Stream, plan: RenderPlan, format: Format, zoom: float, segment: Segment) -> Stream:
    if format.name in plan.framing:
        return follow(stream, plan, format, zoom, segment)
    return show(stream, plan, format.aspect, zoom, format.width, format.height)


def fill_with_blur(stream: Stream, plan: RenderPlan, format: Format, zoom: float) -> Stream:
    """The whole picture in the middle, over an enlarged and blurred copy of itself, which never sways."""
    copies = stream.filter_multi_output("split")
    behind = cut(copies[0], crop_window(plan.probe, format.aspect, 1.0))
    small = (format.width // BLUR_DIVISOR // 2 * 2, format.height // BLUR_DIVISOR // 2 * 2)
    behind = behind.filter("scale", w=small[0], h=small[1], flags=SHRINKER).filter("gblur", sigma=BLUR_SIGMA)
    # Darker while it is small, where it costs nothing: the eye then goes to the middle.
    behind = behind.filter("eq", brightness=-0.06, saturation=0.9)
    behind = scale(behind, format.width, format.height)
    width, height = fitted_size(plan.probe, format)
    front = show(copies[1], plan, None, zoom, width, height)
    x, y = (format.width - width) // 4 * 2, (format.height - height) // 4 * 2
    return ffmpeg.filter([behind, front], "overlay", x=x, y=y, format="yuv420")


def show(
    stream: Stream, plan: RenderPlan, aspect: Fraction | None, zoom: float, width: int, height: int
) -> Stream:
    """The centre of the source at this size; with jitter a part of it that sways within a margin."""
    jitter = plan.recipe.jitter
    if jitter is None:
        return scale(cut(stream, crop_window(plan.probe, aspect, zoom)), width, height)
    edge, far = margin(jitter, width, height), reach(jitter, width, height)
    wide, high = width + 2 * edge, height + 2 * edge
    stream = scale(cut(stream, crop_window(plan.probe, Fraction(wide, high), zoom)), wide, high)
    x, y = (axis.expression(edge, far) for axis in sway(jitter, plan.seed))
    return stream.filter("crop", w=width, h=height, x=x, y=y, exact=1)


def follow(stream: Stream, plan: RenderPlan, format: Format, zoom: float, segment: Segment) -> Stream:
    """The part of the source the format's path leads through, at its size; jitter sways on top.

    The offsets along the path are in files, being too long for a command line; `framing_scripts` are their contents.
    """
    window, wide, high, following = _following(plan, format, zoom)
    first, second = script_names(format, segment)
    jitter = plan.recipe.jitter
    across, down = sway(jitter, plan.seed) if jitter else (None, None)
    if following.path.axis == "x":
        y = down.expression(*_edges(plan, format)) if down else 0
        stream = stream.filter("crop", w=following.cut, h=window.height, y=window.y, exact=1, **{"/x": first})
        stream = scale(stream, following.scaled, high)
        return stream.filter("crop", w=format.width, h=format.height, y=y, exact=1, **{"/x": second})
    x = across.expression(*_edges(plan, format)) if across else 0
    stream = stream.filter("crop", w=window.width, h=following.cut, x=window.x, exact=1, **{"/y": first})
    stream = scale(stream, wide, following.scaled)
    return stream.filter("crop", w=format.width, h=format.height, x=x, exact=1, **{"/y": second})


def script_names(format: Format, segment: Segment) -> tuple[str, str]:
    """The files with a segment's offsets of the first and the second crop, in the directory ffmpeg runs in."""
    stem = f"framing_{format.name}_{segment.index}"
    return f"{stem}_first.txt", f"{stem}_second.txt"


def framing_scripts(plan: RenderPlan, segment: Segment) -> dict[str, str]:
    """What these files hold, by name."""
    scripts: dict[str, str] = {}
    during = (float(segment.first / plan.rate), float(segment.end / plan.rate))
    for format in plan.formats:
        if format.name not in plan.framing:
            continue
        *_, following = _following(plan, format, plan.recipe.originality.zoom or 1.0)
        second, jitter = following.second_crop(during), plan.recipe.jitter
        if jitter is not None:
            axis = sway(jitter, plan.seed)[following.path.axis == "y"]
            second = f"({second})+{axis.expression(*_edges(plan, format))}"
        scripts |= zip(script_names(format, segment), (following.first_crop(during), second), strict=True)
    return scripts


def _edges(plan: RenderPlan, format: Format) -> tuple[int, float]:
    """Margin and reach of the recipe's jitter."""
    jitter, size = plan.recipe.jitter, (format.width, format.height)
    return (margin(jitter, *size), reach(jitter, *size)) if jitter else (0, 0.0)


def _following(plan: RenderPlan, format: Format, zoom: float) -> tuple[Window, int, int, Following]:
    """The window, the size it is brought to, and how the path leads it."""
    edge, _ = _edges(plan, format)
    wide, high = format.width + 2 * edge, format.height + 2 * edge
    window = crop_window(plan.probe, Fraction(wide, high), zoom)
    path = plan.framing[format.name]
    sideways = path.axis == "x"
    following = Following(
        path=path,
        length=plan.probe.width if sideways else plan.probe.height,
        window=window.width if sideways else window.height,
        target=wide if sideways else high,
        mirrored=sideways and plan.recipe.originality.mirror,
        times=plan.time_map,
        rate=plan.rate,
    )
    return window, wide, high, following


def cut(stream: Stream, window: Window) -> Stream:
    return stream.filter("crop", w=window.width, h=window.height, x=window.x, y=window.y, exact=1)


def scale(stream: Stream, width: int, height: int) -> Stream:
    return stream.filter("zscale", w=width, h=height, filter=SCALER).filter("setsar", sar=1)


def output_options(plan: RenderPlan, segment: Segment) -> dict[str, Any]:
    """Options of every output: encoder, length, nothing of the source's metadata."""
    return {
        **plan.encoder.options(plan.rate),
        "frames:v": segment.frames,
        "fps_mode": "passthrough",
        "map_metadata": -1,
        "map_chapters": -1,
        "fflags": "+bitexact",
        "flags:v": "+bitexact",
        "f": "mp4",
    }
