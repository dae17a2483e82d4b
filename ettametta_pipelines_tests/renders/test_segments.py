"""Segments: the cuts are sound, nobody sees them, and what did not change is not rendered again."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders.caption_drawing import TYPE_SIZES, TypeSize
from ettametta_pipelines.renders.captions import Cue
from ettametta_pipelines.renders.engine import RenderedFile, render
from ettametta_pipelines.renders.formats import FORMATS, Format
from ettametta_pipelines.renders.graph import RenderPlan
from ettametta_pipelines.renders.platforms import SAFE_ZONES, Margins
from ettametta_pipelines.renders.recipe import (
    Captions,
    Glitch,
    Grain,
    Jitter,
    Recipe,
    SpeedRamp,
    Vignette,
)
from ettametta_pipelines.renders.segments import (
    SHORTEST_S,
    TARGET_S,
    MadeSegment,
    plan_segments,
    segments_document,
    segments_from,
)
from ettametta_pipelines.renders.tempo import TimeMap, time_map
from ettametta_pipelines_tests.media.clips import clip
from ettametta_pipelines_tests.renders.frames import luma

BITS = 10
# Ten bars across the picture are the frame's number in binary.
NUMBERED = (
    "color=s=320x180:r={rate}:d=15,format=gray,"
    f"geq=lum='if(mod(floor(N/pow(2,floor({BITS}*X/W))),2),220,40)',format=yuv420p"
)
GROUPS = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "12", "-g", "60", "-keyint_min", "60")
SOUND = "aevalsrc=exprs='0.3*sin(600*t)*(1+0.5*sin(3*t))':d=15"
# Without a speed ramp: the sound's time stretcher does not always give the same samples.
BUSY = Recipe(
    name="busy",
    jitter=Jitter(strength=0.004),
    grain=Grain(strength=5),
    glitch=Glitch(every_s=3),
    vignette=Vignette(strength=0.3),
    captions=Captions(),
)
RAMPED = Recipe(name="ramped", speed_ramp=SpeedRamp())
CUES = tuple(Cue(at, at + 1.2, f"words at {at}", ()) for at in range(1, 14, 2))


@pytest.fixture(scope="module", autouse=True)
def small_formats() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FORMATS, "16x9", Format("16x9", 320, 180, "tests"))
        patch.setitem(FORMATS, "1x1", Format("1x1", 180, 180, "tests"))
        for name in ("16x9", "1x1"):
            patch.setitem(TYPE_SIZES, name, TypeSize(line_height=14, max_lines=2))
            patch.setitem(SAFE_ZONES, name, Margins(top=10, bottom=20, left=20, right=20))
        yield


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("numbered") / "numbered.mp4"
    return clip(path, picture=NUMBERED.format(rate=25), sound=SOUND, codec=GROUPS)


def one_file(
    source: Path, probe: Probe, recipe: Recipe, out: Path, cues: Sequence[Cue] = (), **options: object
) -> RenderedFile:
    (made,) = render(source, probe, recipe, ["16x9"], 5, out, captions=cues, **options)  # type: ignore[arg-type]
    return made


def numbers(path: Path) -> list[int]:
    """The number each frame of a rendition shows."""
    bars = luma(path)[:, 60:120].mean(axis=1).reshape(-1, BITS, 320 // BITS)
    on = bars[:, :, 8:24].mean(axis=2) > 128
    return [int(number) for number in on @ (1 << np.arange(BITS))]


@given(
    frames=st.integers(1, 30_000),
    rate=st.sampled_from([Fraction(24), Fraction(30000, 1001), Fraction(60)]),
    gaps=st.lists(st.floats(0.4, 40), max_size=60),
    seed=st.none() | st.integers(0, 9),
)
def test_segments_cover_every_frame_once_and_none_is_a_sliver(
    frames: int, rate: Fraction, gaps: list[float], seed: int | None
) -> None:
    times = TimeMap() if seed is None else time_map(RAMPED, seed)
    entries = [float(at) for at in np.cumsum(gaps)]
    made = plan_segments(frames, rate, times, entries)
    assert [made[0].first, *(segment.end for segment in made)] == [
        *(segment.first for segment in made),
        frames,
    ]
    assert [segment.index for segment in made] == list(range(len(made)))
    if len(made) > 1:
        assert all(segment.frames >= TARGET_S * rate for segment in made[:-1])
        assert made[-1].frames >= SHORTEST_S * rate
    for segment in made[1:]:
        assert segment.entry_s in entries
        assert round(times.output_time(segment.entry_s) * rate) == segment.first


VFR = ("-vf", "select='mod(n,7)*mod(n,11)',setpts=PTS+0.4/TB*gt(T\\,9)", "-fps_mode", "vfr")


@pytest.mark.parametrize(
    ("name", "rate", "extra", "recipe"),
    [
        ("plain.mp4", "25", (), Recipe(name="plain")),
        ("ramped.mp4", "30000/1001", (), RAMPED),
        ("uneven.mp4", "30", VFR, RAMPED),
        ("uneven.mkv", "30", VFR, Recipe(name="plain")),
        ("late.mp4", "24", ("-vf", "setpts=PTS+0.73/TB"), Recipe(name="plain")),
        ("open.mp4", "25", ("-x264-params", "open-gop=1:bframes=3:b-adapt=0"), Recipe(name="plain")),
    ],
)
def test_every_frame_is_where_it_is_without_segments(
    name: str, rate: str, extra: tuple[str, ...], recipe: Recipe, tmp_path: Path
) -> None:
    source = clip(tmp_path / name, picture=NUMBERED.format(rate=rate), sound=SOUND, codec=GROUPS, extra=extra)
    probe = require_probe(source)
    whole = one_file(source, replace(probe, entry_points_s=()), recipe, tmp_path / "whole")
    cut = one_file(source, probe, recipe, tmp_path / "cut")
    if name != "open.mp4":
        assert len(RenderPlan(source, probe, recipe, 5, []).segments) >= 2
    assert numbers(cut.path) == numbers(whole.path)
    assert max(numbers(cut.path)) > 12 * Fraction(rate)
    assert cut.probe.duration_s == whole.probe.duration_s
    assert cut.probe.audio_duration_s == whole.probe.audio_duration_s


def test_decoding_never_begins_inside_an_open_group_of_pictures(tmp_path: Path) -> None:
    options = "open-gop=1:bframes=3:b-adapt=0:keyint=50:min-keyint=50:scenecut=0"
    # A Matroska file marks recovery points as keyframes, an MP4 does not.
    source = clip(
        tmp_path / "open.mkv", picture="testsrc2=s=320x180:r=25:d=8", sound=None,
        codec=("-c:v", "libx264", "-x264-params", options),
    )  # fmt: skip
    assert require_probe(source).entry_points_s == ()


def test_the_bytes_do_not_depend_on_how_many_segments_are_made_at_once(
    numbered: Path, tmp_path: Path
) -> None:
    probe = require_probe(numbered)
    hashes = {
        one_file(numbered, probe, BUSY, tmp_path / str(workers), CUES, workers=workers).sha256
        for workers in (1, 3)
    }
    assert len(hashes) == 1


class Shelf:
    """Renditions made in this test."""

    source_sha256 = "ab" * 32

    def __init__(self) -> None:
        self.have: dict[tuple[str, str], tuple[Path, MadeSegment]] = {}

    def keep(self, made: RenderedFile) -> None:
        for segment in made.segments:
            self.have[made.format.name, segment.key] = (made.path, segment)

    def find(self, format: Format, key: str) -> tuple[Path, MadeSegment] | None:
        return self.have.get((format.name, key))


def test_a_changed_caption_renders_its_segment_again_and_no_other(numbered: Path, tmp_path: Path) -> None:
    probe, shelf = require_probe(numbered), Shelf()
    changed = (*CUES[:-1], replace(CUES[-1], text="other words"))
    first = one_file(numbered, probe, BUSY, tmp_path / "first", CUES, shelf=shelf)
    assert first.segments_made == len(first.segments) == 2
    shelf.keep(first)
    patched = one_file(numbered, probe, BUSY, tmp_path / "patched", changed, shelf=shelf)
    assert patched.segments_made == 1
    assert patched.segments[0] == first.segments[0]
    anew = one_file(numbered, probe, BUSY, tmp_path / "anew", changed)
    assert patched.sha256 == anew.sha256
    assert patched.sha256 != first.sha256


def test_what_is_unchanged_comes_off_the_shelf_byte_for_byte(numbered: Path, tmp_path: Path) -> None:
    probe, shelf = require_probe(numbered), Shelf()
    first = one_file(numbered, probe, BUSY, tmp_path / "first", CUES, shelf=shelf)
    shelf.keep(first)
    again = one_file(numbered, probe, BUSY, tmp_path / "again", CUES, shelf=shelf)
    assert (again.segments_made, again.sha256) == (0, first.sha256)


@pytest.mark.parametrize(
    "change",
    [{"seed": 6}, {"recipe": BUSY.model_copy(update={"grain": Grain(strength=6)})}, {"sha": "cd" * 32}],
)
def test_another_seed_recipe_or_source_takes_nothing_from_the_shelf(
    change: dict[str, object], numbered: Path, tmp_path: Path
) -> None:
    probe, shelf = require_probe(numbered), Shelf()
    (first,) = render(numbered, probe, BUSY, ["1x1"], 5, tmp_path / "first", shelf=shelf)
    shelf.keep(first)
    shelf.source_sha256 = str(change.get("sha", shelf.source_sha256))
    recipe = change.get("recipe", BUSY)
    assert isinstance(recipe, Recipe)
    seed = int(str(change.get("seed", 5)))
    (other,) = render(numbered, probe, recipe, ["1x1"], seed, tmp_path / "other", shelf=shelf)
    assert other.segments_made == 2


def test_the_list_of_segments_survives_being_written_down() -> None:
    made = [MadeSegment("ab" * 16, 0, 180), MadeSegment("cd" * 16, 180, 333)]
    assert segments_from(segments_document("ef" * 32, made)) == ("ef" * 32, made)


def test_a_failing_segment_ends_the_others_and_leaves_nothing(numbered: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    data = bytearray(numbered.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = b"\xff" * 4000
    damaged.write_bytes(data)
    out = tmp_path / "out"
    with pytest.raises(Exception, match="damaged") as caught:
        one_file(damaged, require_probe(damaged), BUSY, out, workers=2)
    assert caught.value.code == "decode_failed"  # type: ignore[attr-defined]
    assert list(out.iterdir()) == []
