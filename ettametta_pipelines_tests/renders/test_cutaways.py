"""Cutaways measured on decoded frames: shown to the frame, fit for the format, under everything else, sound kept."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders import segments
from ettametta_pipelines.renders.broll import Cutaway, plan_slots
from ettametta_pipelines.renders.engine import RenderedFile, render
from ettametta_pipelines.renders.formats import FORMATS, Format
from ettametta_pipelines.renders.quality import Expectation, Finding, Footage, judge_rendition
from ettametta_pipelines.renders.recipe import (
    Broll,
    Glitch,
    Grain,
    Jitter,
    Letterbox,
    Originality,
    Recipe,
    SpeedRamp,
)
from ettametta_pipelines.renders.tempo import time_map
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines_tests.media.clips import clip, ffmpeg
from ettametta_pipelines_tests.renders.frames import luma, planes, sound

SMALL = (Format("small", 320, 180, "tests"), Format("narrow", 180, 320, "tests"))
PLAIN = Recipe(name="plain")
RAMP = SpeedRamp(period_s=4)
NTSC = Fraction(30000, 1001)
BAR = "drawbox=x='mod(t*90,280)':y=0:w=16:h=ih:color=white@0.4:t=fill"


@pytest.fixture(scope="module", autouse=True)
def small_formats() -> object:
    """The engine as it is, on pictures small enough to render many of."""
    with pytest.MonkeyPatch.context() as patch:
        for format in SMALL:
            patch.setitem(FORMATS, format.name, format)
        yield


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources and clips: green footage that moves, a red clip and a blue one, moving too."""
    folder = tmp_path_factory.mktemp("material")

    def moving(
        name: str, colour: str, size: str, rate: str, seconds: float, *, sound: str | None = None
    ) -> None:
        clip(folder / name, picture=f"color={colour}:s={size}:r={rate}:d={seconds},{BAR}", sound=sound)

    moving("source.mp4", "green", "640x360", "25", 5, sound="sine=frequency=440:duration=5")
    moving("ntsc.mp4", "green", "640x360", "30000/1001", 5)
    moving("red.mp4", "red", "640x360", "50", 3)
    moving("blue.mp4", "blue", "360x640", "24", 3)
    return folder


def cutaway(path: Path, rate: Fraction, first: int, end: int, in_s: float = 0.4) -> Cutaway:
    return Cutaway(path, require_probe(path), file_sha256(path), in_s, first / float(rate), end / float(rate))


def rendered(
    source: Path, recipe: Recipe, cutaways: list[Cutaway], out: Path, name: str = "small"
) -> RenderedFile:
    (one,) = render(source, require_probe(source), recipe, [name], 1, out, cutaways=cutaways)
    return one


def colours(path: Path) -> str:
    """A letter per frame: which of the three pictures its middle shows."""
    letters = []
    for _, blue, red in planes(path):
        u, v = np.median(blue), np.median(red)
        letters.append("r" if v > 170 else "b" if u > 170 else "g" if u < 120 and v < 120 else "?")
    return "".join(letters)


def wanted(frames: int, **shown: tuple[int, int]) -> str:
    letters = ["g"] * frames
    for letter, (first, end) in shown.items():
        letters[first:end] = letter * (end - first)
    return "".join(letters)


@pytest.mark.parametrize(
    ("name", "rate", "recipe"),
    [
        ("source.mp4", Fraction(25), PLAIN),
        ("source.mp4", Fraction(25), Recipe(name="r", speed_ramp=RAMP)),
        ("ntsc.mp4", NTSC, Recipe(name="r", speed_ramp=RAMP, jitter=Jitter(), glitch=Glitch(every_s=1))),
    ],
)
def test_a_clip_is_seen_in_exactly_its_frames_and_the_source_in_all_others(
    name: str, rate: Fraction, recipe: Recipe, material: Path, tmp_path: Path
) -> None:
    cutaways = [
        cutaway(material / "red.mp4", rate, 51, 78),
        cutaway(material / "blue.mp4", rate, 95, 96 + 25),
    ]
    one = rendered(material / name, recipe, cutaways, tmp_path / "o")
    seen = colours(one.path)
    # Glitches slip the source's colours; what a clip shows they leave alone.
    if recipe.glitch:
        assert {place for place, letter in enumerate(seen) if letter == "r"} == set(range(51, 78))
        assert {place for place, letter in enumerate(seen) if letter == "b"} == set(range(95, 121))
    else:
        assert seen == wanted(len(seen), r=(51, 78), b=(95, 121))


def test_a_clip_begins_at_its_in_point(material: Path, tmp_path: Path) -> None:
    parts = "color=blue:s=320x180:r=30:d=2[a];color=red:s=320x180:r=30:d=3[b];[a][b]concat"
    path = clip(tmp_path / "late.mp4", picture=f"{parts},{BAR}", sound=None)
    for in_s, first, blue in ((2.0, 51, 0), (1.8, 51, 5), (3.5, 51, 0), (1.0, 60, 25)):
        shown = cutaway(path, Fraction(25), first, first + 27, in_s)
        seen = colours(rendered(material / "source.mp4", PLAIN, [shown], tmp_path / str(in_s)).path)
        assert seen[first : first + 27] == "b" * blue + "r" * (27 - blue)


def test_a_cutaway_at_a_cut_leaves_no_frame_of_the_new_shot_before_it(tmp_path: Path) -> None:
    parts = (
        "color=green:s=320x180:r=30000/1001:d=2.5[a];color=blue:s=320x180:r=30000/1001:d=3[b];[a][b]concat"
    )
    source = clip(tmp_path / "cut.mp4", picture=parts, sound=None)
    frames = planes(source)
    cut_s = next(place for place, (_, u, _) in enumerate(frames) if np.median(u) > 170) / float(NTSC)
    for seed in range(4):
        recipe = Recipe(name="r", speed_ramp=SpeedRamp(period_s=3))
        times = time_map(recipe, seed)
        (slot,) = plan_slots(Broll(), seed, times.output_time(5.5), NTSC, [0.0, times.output_time(cut_s)])
        (one,) = render(source, require_probe(source), recipe, ["small"], seed, tmp_path / str(seed))
        assert colours(one.path).index("b") == slot.start


def test_a_clip_may_be_shown_twice_from_the_same_point(material: Path, tmp_path: Path) -> None:
    rate = Fraction(25)
    twice = [cutaway(material / "red.mp4", rate, first, first + 20) for first in (30, 80)]
    one = rendered(material / "source.mp4", PLAIN, twice, tmp_path / "o")
    shown = colours(one.path)
    assert {place for place, letter in enumerate(shown) if letter == "r"} == {*range(30, 50), *range(80, 100)}


def test_the_same_clips_give_the_same_bytes(material: Path, tmp_path: Path) -> None:
    cutaways = [cutaway(material / "red.mp4", Fraction(25), 51, 78)]
    first, second = (
        rendered(material / "source.mp4", PLAIN, cutaways, tmp_path / name).sha256 for name in "ab"
    )
    assert first == second


def test_the_original_sound_goes_on_untouched(material: Path, tmp_path: Path) -> None:
    cutaways = [cutaway(material / "red.mp4", Fraction(25), 51, 78)]
    plain = rendered(material / "source.mp4", PLAIN, [], tmp_path / "a")
    shown = rendered(material / "source.mp4", PLAIN, cutaways, tmp_path / "b")
    assert np.array_equal(sound(plain.path)[0], sound(shown.path)[0])


def half_white(path: Path, size: str) -> Path:
    """White on the left, grey on the right, and something small that moves."""
    picture = (
        f"color=gray:s={size}:r=25:d=3,drawbox=x=0:y=0:w=iw/2:h=ih:color=white:t=fill,"
        "drawbox=x='iw*0.8+8*sin(9*t)':y=ih/2:w=12:h=12:color=white:t=fill"
    )
    return clip(path, picture=picture, sound=None)


def test_bars_and_grain_lie_over_a_clip_and_mirror_does_not_turn_it(material: Path, tmp_path: Path) -> None:
    path = half_white(tmp_path / "half.mp4", "640x360")
    recipe = Recipe(
        name="r",
        originality=Originality(mirror=True),
        letterbox=Letterbox(height=0.1),
        grain=Grain(strength=12),
    )
    one = rendered(
        material / "source.mp4", recipe, [cutaway(path, Fraction(25), 51, 78)], tmp_path / "o", "narrow"
    )
    frames = luma(one.path)[55:75]
    assert frames[:, :28].max() <= 20
    assert frames[:, 60:300, 20:70].mean() > 200
    assert frames[:, 60:300, 110:140].mean() < 160
    assert frames[:, 60:100, 110:140].std(axis=0).mean() > 1.5


def test_grayscale_takes_the_colour_out_of_a_clip_too(material: Path, tmp_path: Path) -> None:
    recipe = Recipe(name="r", grayscale=True)
    one = rendered(
        material / "source.mp4", recipe, [cutaway(material / "red.mp4", Fraction(25), 51, 78)], tmp_path / "o"
    )
    _, blue, red = planes(one.path)[60]
    assert abs(blue - 128).max() <= 1
    assert abs(red - 128).max() <= 1


def in_matrix(rgb: tuple[int, int, int], kr: float, kb: float) -> NDArray[np.float64]:
    """8-bit limited-range YUV of a colour, by ITU-R BT.601 or BT.709."""
    r, g, b = (value / 255 for value in rgb)
    y = kr * r + (1 - kr - kb) * g + kb * b
    return np.array([16 + 219 * y, 128 + 224 * (b - y) / (2 - 2 * kb), 128 + 224 * (r - y) / (2 - 2 * kr)])


BT601, BT709 = (0.299, 0.114), (0.2126, 0.0722)


def test_an_hd_clip_in_small_footage_keeps_its_colours(material: Path, tmp_path: Path) -> None:
    rgb = (200, 60, 40)
    path = tmp_path / "hd.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", "color=0xC83C28:s=1280x720:r=25:d=3,format=rgb24",
        "-vf",        "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,setparams=range=tv:colorspace=bt709",
        "-c:v", "libx264", "-crf", "4", str(path),
    )  # fmt: skip
    y, u, v = (np.median(plane) for plane in planes(path)[10])
    assert np.abs(np.array([y, u, v]) - in_matrix(rgb, *BT709)).max() < 1.5
    one = rendered(material / "source.mp4", PLAIN, [cutaway(path, Fraction(25), 60, 90)], tmp_path / "o")
    shown = np.array([np.median(plane) for plane in planes(one.path)[75]])
    assert one.probe.color_matrix == 6
    assert np.abs(shown - in_matrix(rgb, *BT601)).max() < 2.5


def test_a_ten_bit_turned_and_narrow_clip_fills_every_format(material: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", f"color=red:s=354x622:r=30:d=3,{BAR}",
        "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error",
        "-pix_fmt", "yuv420p10le", str(path),
    )  # fmt: skip
    cutaways = [cutaway(path, Fraction(25), 51, 78)]
    made = render(
        material / "source.mp4", require_probe(material / "source.mp4"), PLAIN, ["small", "narrow"], 1, tmp_path / "o",
        cutaways=cutaways,
    )  # fmt: skip
    assert [one.format.name for one in made] == ["small", "narrow"]
    for one in made:
        seen = colours(one.path)
        assert seen == wanted(len(seen), r=(51, 78))
        _, _, red = planes(one.path)[60]
        # Neither an edge of the source nor of nothing.
        assert red.min() > 135


# Segments


@pytest.mark.parametrize("recipe", [PLAIN, Recipe(name="r", speed_ramp=RAMP)])
def test_cutaways_across_the_borders_of_segments_are_seen_whole(
    recipe: Recipe, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(
        tmp_path / "keyed.mp4",
        picture=f"color=green:s=320x180:r={NTSC}:d=6,{BAR}",
        sound=None,
        extra=("-g", "15"),
    )
    shown = [
        cutaway(material / f"{colour}.mp4", NTSC, first, end)
        for colour, first, end in (("red", 25, 67), ("blue", 80, 95), ("red", 110, 140))
    ]
    shown[2] = replace(shown[2], in_s=0.9)
    whole = colours(rendered(source, recipe, shown, tmp_path / "whole").path)
    monkeypatch.setattr(segments, "TARGET_S", 0.5)
    monkeypatch.setattr(segments, "SHORTEST_S", 0.3)
    one = rendered(source, recipe, shown, tmp_path / "parts")
    # Borders lie at about 2 s and 4 s, within the first clip and the last.
    assert one.segments_made == 3
    wanted_there = list(wanted(len(whole), r=(25, 67), b=(80, 95)))
    wanted_there[110:140] = "r" * 30
    assert whole == "".join(wanted_there)
    assert colours(one.path) == whole


def test_another_clip_makes_only_the_segments_anew_that_show_it(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "TARGET_S", 1.0)
    source = clip(
        tmp_path / "keyed.mp4",
        picture=f"color=green:s=320x180:r=25:d=6,{BAR}",
        sound=None,
        extra=("-g", "25"),
    )

    class Shelf:
        source_sha256 = "ab"

        def __init__(self) -> None:
            self.keys: list[str] = []

        def find(self, format: Format, key: str) -> None:
            self.keys.append(key)

    def keys(path: Path, folder: str) -> set[str]:
        shelf = Shelf()
        moved = tmp_path / folder
        moved.mkdir()
        (moved / "clip.mp4").write_bytes(path.read_bytes())
        render(
            source, require_probe(source), PLAIN, ["small"], 1, tmp_path / f"{folder} out", shelf=shelf, workers=1,
            cutaways=[cutaway(moved / "clip.mp4", Fraction(25), 40, 75)],
        )  # fmt: skip
        return set(shelf.keys)

    red, again, blue = (
        keys(material / "red.mp4", "a"),
        keys(material / "red.mp4", "b"),
        keys(material / "blue.mp4", "c"),
    )
    assert red == again
    assert len(red) == 3
    assert len(red - blue) == len(blue - red) == 2


# Checks


def findings(
    made: Path, source: Path, cutaways: list[Cutaway], duration_s: float, probe: Probe
) -> dict[str, Finding]:
    footage = Footage(source, probe, cutaways=cutaways)
    _, found = judge_rendition(made, Expectation(FORMATS["small"], duration_s, False, source=footage))
    return {finding.name: finding for finding in found}


@pytest.mark.parametrize(("picture", "check"), [("black", "no_black_stretch"), ("gray", "no_frozen_stretch")])
def test_a_black_or_still_clip_is_its_own_excuse_and_the_sources_stillness_is_none(
    picture: str, check: str, material: Path, tmp_path: Path
) -> None:
    dull = clip(tmp_path / "dull.mp4", picture=f"color={picture}:s=320x180:r=25:d=3", sound=None)
    shown = cutaway(dull, Fraction(25), 60, 100)
    one = rendered(material / "source.mp4", PLAIN, [shown], tmp_path / "o")
    assert all(finding.passed for finding in one.findings)

    # The same picture where a moving clip should be shown is a fault, even over footage that is as dull itself.
    still = clip(tmp_path / "still.mp4", picture=f"color={picture}:s=320x180:r=25:d=5", sound=None)
    lively = clip(tmp_path / "lively.mp4", picture="testsrc2=s=320x180:r=25:d=3", sound=None)
    moving = replace(shown, path=lively, probe=require_probe(lively), sha256=file_sha256(lively))
    found = findings(still, still, [moving], 5.0, require_probe(still))
    assert not found[check].passed
    assert found[check].measured["longest_s"] == pytest.approx(1.6, abs=0.05)
    assert findings(still, still, [], 5.0, require_probe(still))[check].passed
