"""Odd but good sources: whatever a camera, a phone or a browser made, the rendition has the right size, length,
orientation, colours and sync.

Every source shows the same picture: four patches of known colour, and in the middle a box that turns white at the
very moment a tone begins. Colours are compared as RGB, so that a wrong matrix, range or transfer shows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.renders import segments
from ettametta_pipelines.renders.engine import render
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.graph import RenderPlan
from ettametta_pipelines.renders.recipe import Colour, Originality, Recipe
from ettametta_pipelines_tests.media.clips import X264, clip, ffmpeg
from ettametta_pipelines_tests.renders.frames import frames_of, sound

PLAIN = Recipe(name="plain")
# Top left, top right, bottom left, bottom right.
PATCHES = {(0, 0): (192, 48, 32), (0, 1): (32, 160, 64), (1, 0): (40, 64, 200), (1, 1): (208, 192, 48)}
EVENT_S = 0.6
LENGTH_S = 1.2
TONE = f"aevalsrc=0.5*sin(6000*t)*gte(t\\,{EVENT_S}):d={LENGTH_S}:s=48000"
MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}

HEVC_10 = (
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-crf",
    "16",
    "-tag:v",
    "hvc1",
    "-x265-params",
    "log-level=none",
)
H264_10 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "16", "-profile:v", "high10")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-crf", "20", "-svtav1-params", "tune=0")
VP8 = ("-c:v", "libvpx", "-b:v", "3M", "-deadline", "realtime", "-cpu-used", "8")
VP9 = ("-c:v", "libvpx-vp9", "-b:v", "3M", "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "0")
BT709 = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
TAG_709 = ("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709", "-color_range", "tv")
HDR = (
    "setparams=color_primaries=bt709:color_trc=bt709:colorspace=gbr:range=pc,zscale=t=linear:npl=203,format=gbrpf32le,"
    "zscale=p=bt2020:t={}:m=bt2020nc:r=tv:npl=203,format=yuv420p10le"
)


@dataclass(frozen=True)
class Odd:
    """One source. `stored` turns the RGB patches into what is encoded; `rework` makes the final file of a first one.

    `event_s` and `length_s` are what the rendition must show; `aspect` is the shape as shown.
    """

    size: str = "640x360"
    rate: str = "25"
    stored: str = "format=yuv420p"
    codec: tuple[str, ...] = X264
    sound: str | None = TONE
    extra: tuple[str, ...] = ()
    file: str = "odd.mp4"
    rework: Callable[[Path, Path], object] | None = None
    length_s: float = LENGTH_S
    event_s: float = EVENT_S
    sound_event_s: float | None = None
    fps: float | None = 25
    colour_within: float = 8
    recipe: Recipe = PLAIN


def marked(*marks: str) -> Callable[[Path, Path], object]:
    """A copy whose header says how to turn the picture."""
    return lambda first, path: ffmpeg(*marks, "-i", str(first), "-c", "copy", str(path))


def copied(*arguments: str, before: tuple[str, ...] = ()) -> Callable[[Path, Path], object]:
    return lambda first, path: ffmpeg(*before, "-i", str(first), "-c", "copy", *arguments, str(path))


def delayed(stream: str, other: str, by_s: float) -> Callable[[Path, Path], object]:
    def rework(first: Path, path: Path) -> None:
        ffmpeg(
            "-itsoffset", str(by_s), "-i", str(first), "-i", str(first), "-map", f"0:{stream}", "-map", f"1:{other}",
            "-c", "copy", str(path),
        )  # fmt: skip

    return rework


def tone(length_s: float) -> str:
    return TONE.replace(f"d={LENGTH_S}", f"d={length_s}")


COLOURFUL = Recipe(name="colourful", originality=Originality(colour=Colour(warmth=0.5, saturation=1.1)))
UNEVEN = r"select=not(between(mod(n\,10)\,1\,3)),format=yuv420p"

ODD_SOURCES: dict[str, Odd] = {
    "a phone's uneven frames": Odd(rate="30", stored=UNEVEN, extra=("-fps_mode", "vfr"), fps=None),
    "turned by 90 degrees": Odd(stored="transpose=1,format=yuv420p", rework=marked("-display_rotation", "90")),
    "turned by 180 degrees": Odd(
        stored="hflip,vflip,format=yuv420p", rework=marked("-display_rotation", "180")
    ),
    "turned by 270 degrees": Odd(stored="transpose=2,format=yuv420p", rework=marked("-display_rotation", "270")),
    "flipped": Odd(stored="hflip,format=yuv420p", rework=marked("-display_hflip")),
    "flipped and turned": Odd(
        stored="vflip,transpose=1,format=yuv420p", rework=marked("-display_rotation", "90", "-display_vflip")
    ),
    "turned, with pixels not square": Odd(
        size="480x640", stored="transpose=1,setsar=4/3,format=yuv420p", rework=marked("-display_rotation", "90")
    ),
    "10-bit H.264": Odd(stored="format=yuv420p10le", codec=H264_10),
    "10-bit HEVC": Odd(stored="format=yuv420p10le", codec=HEVC_10),
    "HDR10": Odd(
        stored=HDR.format("smpte2084"), codec=(*HEVC_10[:-1], "log-level=none:hdr10=1"), colour_within=24
    ),
    "HLG": Odd(stored=HDR.format("arib-std-b67"), codec=HEVC_10, colour_within=24),
    "full range": Odd(stored="scale=out_range=full,format=yuvj420p"),
    "full range without its old pixel format": Odd(
        stored="scale=out_color_matrix=bt709:out_range=full,format=yuv420p,setparams=range=pc:colorspace=bt709",
        extra=("-color_range", "pc"),
    ),
    "BT.601 as HD": Odd(
        size="1280x720",
        stored="scale=out_color_matrix=bt601,format=yuv420p,setparams=colorspace=smpte170m",
        extra=("-colorspace", "smpte170m"),
    ),
    "BT.709 as SD": Odd(stored=f"{BT709},setparams=colorspace=bt709", extra=TAG_709),
    "HD that says nothing": Odd(size="1280x720", stored=f"{BT709},setparams=colorspace=unknown"),
    "odd sides": Odd(size="853x479", stored="format=yuv444p", recipe=COLOURFUL, colour_within=30),
    "the smallest picture": Odd(size="64x64", recipe=PLAIN, colour_within=14),
    "4K": Odd(size="3840x2160", rate="25", stored=BT709, extra=TAG_709, sound=None),
    "pixels not square": Odd(size="480x360", stored="setsar=4/3,format=yuv420p"),
    "interlaced": Odd(stored="interlace=lowpass=off,format=yuv420p", rate="50", extra=("-flags", "+ildct+ilme")),
    "one channel of 8 kHz": Odd(extra=("-ac", "1", "-ar", "8000")),
    "six channels": Odd(sound=TONE.replace(":d=", "|0|0|0|0|0:c=5.1:d=")),
    "no sound": Odd(sound=None),
    "sound that starts late": Odd(rework=delayed("a", "v", 0.3), sound_event_s=0.9),
    "a picture that starts late": Odd(rework=delayed("v", "a", 0.3), sound_event_s=0.6, event_s=0.9, length_s=1.5),
    "sound half as long": Odd(sound=tone(0.8)),
    "sound twice as long": Odd(sound=tone(2.4)),
    "23.976 a second": Odd(rate="24000/1001", fps=23.976, length_s=1.21),
    "50 a second": Odd(rate="50", fps=50),
    "59.94 a second": Odd(rate="60000/1001", fps=59.94, length_s=1.2),
    "120 a second": Odd(rate="120", fps=60),
    "8 a second": Odd(rate="8", fps=24, length_s=1.25, event_s=0.625),
    "the policy's shortest": Odd(stored="format=yuv420p,trim=end=1", sound=tone(1), length_s=1),
    "an edit list": Odd(rework=copied(before=("-ss", "0.2")), length_s=1, event_s=0.4, extra=("-g", "50")),
    "a clock that starts late": Odd(rework=copied("-output_ts_offset", "5"), file="odd.mkv"),
    "B-frames and open groups": Odd(
        codec=("-c:v", "libx264", "-preset", "veryfast", "-crf", "16", "-bf", "3", "-g", "12", "-x264-params",
               "open-gop=1:b-adapt=0")
    ),
    "AV1 in WebM": Odd(codec=AV1, extra=("-c:a", "libopus"), file="odd.webm", colour_within=14),
    "VP9 in WebM": Odd(codec=VP9, extra=("-c:a", "libopus"), file="odd.webm", colour_within=14),
    "VP8 in WebM": Odd(codec=VP8, extra=("-c:a", "libvorbis"), file="odd.webm", colour_within=14),
    "Matroska": Odd(file="odd.mkv"),
    "ProRes": Odd(
        codec=("-c:v", "prores_ks", "-profile:v", "0"), stored="format=yuv422p10le", file="odd.mov",
        extra=("-c:a", "pcm_s16le"),
    ),
    "Motion JPEG": Odd(
        codec=("-c:v", "mjpeg", "-q:v", "2"), stored="scale=out_range=full,format=yuvj420p", file="odd.mov"
    ),
}  # fmt: skip


def odd_source(odd: Odd, folder: Path) -> Path:
    boxes = [
        f"drawbox=x={x}*iw/2:y={y}*ih/2:w=iw/2+1:h=ih/2+1:c=0x{r:02x}{g:02x}{b:02x}:t=fill"
        for (y, x), (r, g, b) in PATCHES.items()
    ]
    middle = "drawbox=x=iw*0.42:y=ih*0.42:w=iw*0.16:h=ih*0.16:t=fill"
    boxes += [f"{middle}:c=black", rf"{middle}:c=white:enable=gte(t\,{EVENT_S - 0.001})"]
    black = f"color=black:s={odd.size}:r={odd.rate}:d={LENGTH_S},format=gbrp"
    picture = f"{black},{','.join(boxes)},format=gbrp,{odd.stored}"
    first = folder / (f"first-{odd.file}" if odd.rework else odd.file)
    clip(first, picture=picture, sound=odd.sound, codec=odd.codec, extra=odd.extra)
    if odd.rework is None:
        return first
    odd.rework(first, folder / odd.file)
    return folder / odd.file


def rgb(pixel: tuple[float, ...], matrix: int) -> tuple[float, float, float]:
    """8-bit RGB of a limited-range pixel."""
    red_weight, blue_weight = MATRICES[matrix]
    y, u, v = (pixel[0] - 16) / 219, (pixel[1] - 128) / 224, (pixel[2] - 128) / 224
    red, blue = y + 2 * (1 - red_weight) * v, y + 2 * (1 - blue_weight) * u
    green = (y - red_weight * red - blue_weight * blue) / (1 - red_weight - blue_weight)
    return 255 * red, 255 * green, 255 * blue


def watched(path: Path, matrix: int) -> tuple[dict[tuple[int, int], tuple[float, float, float]], list[bool]]:
    """The patches of the last frame of a square rendition as RGB, and whether the box was lit in each frame."""
    lit, stored = [], None
    for stored in frames_of(path):
        lit.append(float(stored[0][530:550, 530:550].mean()) > 120)
    assert stored is not None
    patches = {}
    for row, column in PATCHES:
        # Between the middle and what a square keeps of a wide picture.
        y, x = int(540 + (row - 0.5) * 500), int(540 + (column - 0.5) * 640)
        luma = stored[0][y - 20 : y + 20, x - 20 : x + 20]
        chroma = (plane[y // 2 - 10 : y // 2 + 10, x // 2 - 10 : x // 2 + 10] for plane in stored[1:])
        patches[row, column] = rgb((float(luma.mean()), *(float(plane.mean()) for plane in chroma)), matrix)
    return patches, lit


@pytest.mark.parametrize("name", ODD_SOURCES)
def test_an_odd_source_renders_right(name: str, tmp_path: Path) -> None:
    odd = ODD_SOURCES[name]
    source = odd_source(odd, tmp_path)
    (made,) = render(source, require_probe(source), odd.recipe, ["1x1"], 1, tmp_path / "out")
    probe = made.probe
    assert (probe.width, probe.height) == (FORMATS["1x1"].width, FORMATS["1x1"].height)
    assert probe.duration_s == pytest.approx(odd.length_s, abs=1.01 / probe.fps)
    assert not probe.variable_rate
    if odd.fps is not None:
        assert probe.fps == pytest.approx(odd.fps, abs=0.01)
    patches, lit = watched(made.path, probe.color_matrix)
    for place, wanted in PATCHES.items():
        assert patches[place] == pytest.approx(wanted, abs=odd.colour_within), place
    seen_s = lit.index(True) / probe.fps
    assert lit == [False] * lit.index(True) + [True] * lit[lit.index(True) :].count(True)
    assert seen_s == pytest.approx(odd.event_s, abs=1.01 / min(25, probe.fps))
    assert probe.has_audio == (odd.sound is not None)
    if odd.sound is not None:
        samples, rate, first = sound(made.path)
        heard_s = float(np.argmax(np.abs(samples) > 0.1)) / rate + first
        assert heard_s == pytest.approx(odd.sound_event_s or seen_s, abs=0.04)


# Which tenths of a second the box is lit in: no shift of it looks like itself.
LIT = "lt(mod(floor(10*t+0.001)*7919+floor(t)*31,13),6)"
KEYFRAMES = ("-force_key_frames", "expr:gte(t,n_forced)")
LONG_SOURCES: dict[str, Odd] = {
    "open groups": Odd(
        codec=(
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-bf",
            "3",
            "-g",
            "25",
            "-x264-params",
            "open-gop=1",
        ),
    ),
    "an edit list": Odd(extra=KEYFRAMES, rework=copied(before=("-ss", "0.3")), event_s=-0.3),
    "a clock that starts late": Odd(extra=KEYFRAMES, rework=copied("-output_ts_offset", "5"), file="odd.mkv"),
    "a picture that starts late": Odd(extra=KEYFRAMES, rework=delayed("v", "a", 0.3), event_s=0.3),
    "a phone's uneven frames": Odd(rate="30", stored=UNEVEN, extra=("-fps_mode", "vfr", *KEYFRAMES)),
    "turned by 90 degrees": Odd(
        stored="transpose=1,format=yuv420p", extra=KEYFRAMES, rework=marked("-display_rotation", "90")
    ),
    "29.97 a second": Odd(rate="30000/1001", extra=KEYFRAMES),
    "fragments": Odd(extra=("-movflags", "frag_keyframe+empty_moov", *KEYFRAMES)),
    "VP9 in WebM": Odd(codec=VP9, extra=("-c:a", "libopus", *KEYFRAMES), file="odd.webm"),
}


@pytest.mark.parametrize("name", LONG_SOURCES)
def test_an_odd_source_made_in_segments_shows_every_moment_in_its_time(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = LONG_SOURCES[name]
    monkeypatch.setattr(segments, "TARGET_S", 1.0)
    monkeypatch.setattr(segments, "SHORTEST_S", 0.5)
    first = tmp_path / f"first-{odd.file}"
    box = f"drawbox=x=iw*0.4:y=ih*0.4:w=iw*0.2:h=ih*0.2:t=fill:c=white:enable={LIT}".replace(",", r"\,")
    picture = f"color=0x404040:s=320x180:r={odd.rate}:d=3.6,{box},{odd.stored}"
    clip(first, picture=picture, sound="sine=d=3.6", codec=odd.codec, extra=odd.extra)
    source = tmp_path / odd.file
    (odd.rework or copied())(first, source)
    probe = require_probe(source)
    plan = RenderPlan(source, probe, PLAIN, 1, [FORMATS["1x1"]])
    (made,) = render(source, probe, PLAIN, ["1x1"], 1, tmp_path / "out")
    shift = odd.event_s if odd.event_s != EVENT_S else 0.0
    # Half an output frame and a source frame; where frames are missing the one before stands for them.
    grain = 0.14 if probe.variable_rate else 0.045
    lit = [float(y[530:550, 530:550].mean()) > 120 for y, _, _ in frames_of(made.path)]
    assert len(lit) == plan.frame_count
    wrong = [
        frame
        for frame, seen in enumerate(lit)
        if seen
        not in {is_lit(frame / made.probe.fps - shift + edge) for edge in (-grain, -grain / 2, 0.0, 0.045)}
    ]
    assert wrong == []
    assert made.probe.duration_s == pytest.approx(probe.duration_s, abs=1.01 / made.probe.fps)
    # Where decoding cannot begin in the middle, the whole is one segment.
    assert len(plan.segments) == (1 if name == "a picture that starts late" else 2)


def is_lit(seconds: float) -> bool:
    """`LIT` at a time of the source."""
    seconds = max(0.0, seconds)
    return (math.floor(10 * seconds + 0.001) * 7919 + math.floor(seconds) * 31) % 13 < 6


@pytest.mark.parametrize("fit", ["crop", "blur"])
def test_colours_of_odd_sides_are_shifted_to_the_very_edge(fit: str, tmp_path: Path) -> None:
    """Half a chroma sample hangs over an odd edge; a filter that rounds down would leave a stripe of old colour."""
    flat = "color=0x6a8a40:s=642x482:r=25:d=1,format=yuv444p,crop=641:481:exact=1"
    source = clip(tmp_path / "odd.mp4", picture=flat, sound=None)
    everything = Colour(hue_degrees=10, saturation=0.75, contrast=1.1, brightness=0.03, warmth=1.0)
    recipe = Recipe(name="shifted", fit=fit, originality=Originality(mirror=True, colour=everything))  # type: ignore[arg-type]
    (made,) = render(source, require_probe(source), recipe, ["16x9"], 1, tmp_path / "out")
    _, blue, red = next(frames_of(made.path))
    assert (np.ptp(blue), np.ptp(red)) <= (1, 1)
