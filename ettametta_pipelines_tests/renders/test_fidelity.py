"""The check that the file shows what was encoded: it fails on every broken encode and passes good ones."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders.encoders import X264
from ettametta_pipelines.renders.engine import _make, _prepare, render
from ettametta_pipelines.renders.fidelity import (
    EncodingVerdict,
    Reference,
    compare,
    judge_encoding,
    plan_windows,
)
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.graph import RenderPlan
from ettametta_pipelines.renders.playback import play
from ettametta_pipelines.renders.quality import RENDITION
from ettametta_pipelines.renders.recipe import Grain, Recipe, load_preset, preset_names
from ettametta_pipelines_tests.media.clips import clip, ffmpeg

SQUARE = FORMATS["1x1"]
# Colours, edges and motion everywhere; keyframes, so that there is more than one segment's worth of places.
PICTURE = "testsrc2=s=640x360:r=25:d=2.4,hue=s=0.7"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Probe]:
    path = tmp_path_factory.mktemp("source") / "source.mp4"
    clip(path, picture=PICTURE, sound=None, extra=("-g", "25"))
    return path, require_probe(path)


def planned(source: tuple[Path, Probe], recipe: Recipe, workdir: Path) -> tuple[RenderPlan, Path]:
    """A render up to the judging: its plan and the finished square file."""
    workdir.mkdir(exist_ok=True)
    plan = _prepare(*source, recipe, [SQUARE], 7, (), None, None, workdir)
    return plan, _make(plan, workdir, None, None, None, 1).outputs["1x1"]


def verdict_on(path: Path, reference: Reference, workdir: Path) -> EncodingVerdict:
    made = require_probe(path)
    shown = play(path, made, RENDITION, workdir, stills=reference.numbers)
    return judge_encoding(reference, SQUARE, made, shown.stills)


@pytest.fixture(scope="module")
def good(
    source: tuple[Path, Probe], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Reference, Path]:
    workdir = tmp_path_factory.mktemp("good")
    plan, path = planned(source, load_preset("clean"), workdir)
    return path, Reference(plan, workdir), workdir


def test_a_good_file_passes_with_its_numbers(good: tuple[Path, Reference, Path]) -> None:
    verdict = verdict_on(*good)
    assert verdict.passed, verdict.sentence
    assert verdict.measured["ssim"] > 0.98
    assert verdict.measured["tone_shift"] < 0.8
    assert verdict.measured["out_of_place"] == 0
    assert verdict.measured["frames"] >= 8


# A stated matrix keeps ffmpeg from converting on its own.
TAGS = ("-colorspace", "smpte170m", "-color_primaries", "smpte170m", "-color_trc", "smpte170m")
FAULTS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "coarse": ("null", ("-crf", "45"), "differ"),
    "matrix": ("scale=in_color_matrix=bt601:out_color_matrix=bt709,setparams=colorspace=smpte170m", (), "differ"),
    "range": ("lutyuv=y=clip((val-16)*255/219\\,0\\,255)", (), "differ"),
    "green": ("lutyuv=u=0:v=0", (), "differ"),
    "shifted": ("crop=iw-8:ih-8:8:8,scale=1080:1080", (), "differ"),
    "swapped": ("shuffleframes=1 0", (), "belong there"),
    "late": ("tpad=start=1:start_mode=clone", (), "belong there"),
    "the end": ("gblur=sigma=20:enable=gte(n\\,50)", (), "differ"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_encode_fails_and_says_how_and_where(
    fault: str, good: tuple[Path, Reference, Path], tmp_path: Path
) -> None:
    path, reference, workdir = good
    chain, coder, word = FAULTS[fault]
    bad = tmp_path / "bad.mp4"
    frames = str(reference.plan.frame_count)
    ffmpeg(
        "-i", str(path), "-vf", chain, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "16", *coder, *TAGS,
        "-frames:v", frames, str(bad),
    )  # fmt: skip
    verdict = verdict_on(bad, reference, workdir)
    assert not verdict.passed
    assert word in verdict.sentence
    assert verdict.look_at in reference.numbers


def test_colours_tagged_with_another_matrix_fail(good: tuple[Path, Reference, Path], tmp_path: Path) -> None:
    path, reference, workdir = good
    bad = tmp_path / "bad.mp4"
    tag = "h264_metadata=matrix_coefficients=1"
    ffmpeg("-i", str(path), "-c", "copy", "-bsf:v", tag, "-color_primaries", "bt709", str(bad))
    made = replace(require_probe(bad), color_matrix=1)
    shown = play(bad, made, RENDITION, workdir, stills=reference.numbers)
    verdict = judge_encoding(reference, SQUARE, made, shown.stills)
    assert not verdict.passed
    assert "tagged" in verdict.sentence


def test_an_encoder_that_is_too_coarse_fails_the_render(
    source: tuple[Path, Probe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(X264.quality, "crf", 45)
    plan, path = planned(source, load_preset("noir"), tmp_path / "w")
    assert not verdict_on(path, Reference(plan, tmp_path / "w"), tmp_path).passed


@pytest.mark.parametrize("preset", [*preset_names(), "grain"])
def test_every_preset_and_the_heaviest_grain_are_encoded_faithfully(preset: str, tmp_path: Path) -> None:
    heavy = Recipe(name="grain", grain=Grain(strength=20))
    clip(tmp_path / "s.mp4", picture=PICTURE.replace("d=2.4", "d=1.2"), sound=None)
    source = tmp_path / "s.mp4", require_probe(tmp_path / "s.mp4")
    plan, path = planned(source, heavy if preset == "grain" else load_preset(preset), tmp_path / "w")
    verdict = verdict_on(path, Reference(plan, tmp_path / "w"), tmp_path)
    assert verdict.passed, verdict.sentence


ODD: dict[str, Callable[[Path], Path]] = {
    "noise uses up the bit rate": lambda path: clip(
        path, picture="testsrc2=s=640x360:r=30:d=1.2,noise=alls=60:allf=t", sound=None
    ),
    "frames come unevenly": lambda path: clip(
        path,
        picture="testsrc2=s=640x360:r=30:d=1.4,select=not(eq(mod(n\\,7)\\,3)+eq(mod(n\\,5)\\,1))",
        sound=None,
        extra=("-fps_mode", "vfr"),
    ),
    "picture starts late": lambda path: clip(
        path, picture="testsrc2=s=640x360:r=25:d=1.2,setpts=PTS+0.4/TB", sound="sine=d=1.6"
    ),
    "sixty frames": lambda path: clip(path, picture="testsrc2=s=640x360:r=60:d=1.2", sound=None),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_sources_are_encoded_faithfully(kind: str, tmp_path: Path) -> None:
    path = ODD[kind](tmp_path / "odd.mp4")
    plan, made = planned((path, require_probe(path)), load_preset("restless"), tmp_path / "w")
    verdict = verdict_on(made, Reference(plan, tmp_path / "w"), tmp_path)
    assert verdict.passed, verdict.sentence


def test_windows_are_few_inside_the_video_and_near_keyframes(source: tuple[Path, Probe]) -> None:
    long = replace(
        source[1], duration_s=3600.0, entry_points_s=tuple(float(at) for at in range(10, 3600, 10))
    )
    plan = RenderPlan(source[0], long, load_preset("vhs"), 7, [SQUARE])
    windows = plan_windows(plan)
    assert len(windows) == 3
    for window in windows:
        assert 0 <= window.first < window.end <= plan.frame_count
        around = plan.segments[window.index]
        assert around.first <= window.first < window.end <= around.end
        begun = plan.time_map.output_time(window.entry_s or 0.0) * float(plan.rate)
        assert begun - 1 <= window.first <= begun + 2.1 * plan.rate + 2
    without = replace(long, entry_points_s=())
    assert len(plan_windows(RenderPlan(source[0], without, Recipe(name="p"), 7, [SQUARE]))) == 2


def test_a_frame_is_out_of_place_only_where_the_picture_moves(
    good: tuple[Path, Reference, Path],
) -> None:
    _, reference, _ = good
    stills = reference.stills(SQUARE)
    turned = {number: stills.get(number + 1, still) for number, still in stills.items()}
    assert any(one.out_of_place for one in compare(turned, stills))
    first = next(iter(stills.values()))
    still = dict.fromkeys(stills, first)
    assert not any(one.out_of_place for one in compare(still, still))


def test_a_render_carries_the_finding_for_each_format(source: tuple[Path, Probe], tmp_path: Path) -> None:
    made = render(*source, load_preset("clean"), ["9x16", "1x1"], 1, tmp_path / "o")
    assert [one.format.name for one in made] == ["9x16", "1x1"]
    for one in made:
        finding = next(f for f in one.findings if f.name == "encoding_faithful")
        assert finding.passed
        assert finding.measured["ssim"] > 0.98
