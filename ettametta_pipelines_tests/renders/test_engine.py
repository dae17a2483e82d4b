"""The engine, measured on decoded frames: what each treatment did, in every format, from every kind of source."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.probe import probe_file, require_probe
from ettametta_pipelines.renders.engine import (
    QualityFailure,
    RenderedFile,
    RenderProgress,
    poster,
    render,
    render_file,
)
from ettametta_pipelines.renders.formats import FORMATS, SOUND
from ettametta_pipelines.renders.plates import bar_height
from ettametta_pipelines.renders.quality import Expectation, judge_rendition
from ettametta_pipelines.renders.recipe import (
    Colour,
    Grain,
    Letterbox,
    Originality,
    Recipe,
    Vignette,
    load_preset,
)
from ettametta_pipelines.renders.sound import measure_loudness
from ettametta_pipelines_tests.media.clips import clip, cut_short, ffmpeg
from ettametta_pipelines_tests.renders.frames import luma, planes, sound

PLAIN = Recipe(name="plain")
GREY = "color=0x808080:s=1280x720:r=25:d=1"


def rendered(
    source: Path, recipe: Recipe, out: Path, formats: tuple[str, ...] = ("16x9",), seed: int = 1
) -> dict[str, RenderedFile]:
    made = render(source, require_probe(source), recipe, formats, seed, out)
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name}.mp4" for name in formats)
    return {one.format.name: one for one in made}


def only(source: Path, recipe: Recipe, out: Path, format_name: str = "16x9", seed: int = 1) -> Path:
    return rendered(source, recipe, out, (format_name,), seed)[format_name].path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A still picture without symmetry, 16:9."""
    picture = (
        "gradients=s=1280x720:r=25:d=1:c0=black:c1=white:n=2:x0=0:y0=0:x1=1279:y1=300:speed=0.00001,"
        "drawbox=x=150:y=120:w=200:h=300:c=white:t=fill,drawbox=x=900:y=500:w=60:h=90:c=black:t=fill"
    )
    return clip(tmp_path_factory.mktemp("scene") / "scene.mp4", picture=picture, sound=None)


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


def test_three_formats_have_exact_sizes_from_one_run(tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=30:d=1.2", sound="sine=d=1.2")
    made = rendered(source, load_preset("cinematic"), tmp_path / "out", ("9x16", "16x9", "1x1"))
    for name, one in made.items():
        assert (one.probe.width, one.probe.height) == (FORMATS[name].width, FORMATS[name].height)
        assert one.probe.duration_s == pytest.approx(1.2, rel=0.02)
        assert (one.probe.video_codec, one.probe.audio_codec) == ("h264", "aac")
        assert one.probe.fps == pytest.approx(30)
        assert one.sha256 == hashlib.sha256(one.path.read_bytes()).hexdigest()


def test_a_relative_directory_is_as_good_as_any(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (made,) = render(scene, require_probe(scene), PLAIN, ["1x1"], 1, Path("out"))
    assert (tmp_path / made.path).is_file()


def test_mirror_is_the_flipped_picture(scene: Path, tmp_path: Path) -> None:
    plain = luma(only(scene, PLAIN, tmp_path / "a"), limit=1)[0]
    mirrored = luma(
        only(scene, Recipe(name="m", originality=Originality(mirror=True)), tmp_path / "b"), limit=1
    )[0]
    assert correlation(mirrored, plain[:, ::-1]) > 0.999
    assert correlation(mirrored, plain) < 0.9


@pytest.mark.parametrize("zoom", [1.02, 1.05, 1.08])
def test_zoom_enlarges_by_its_factor_about_the_centre(zoom: float, tmp_path: Path) -> None:
    bars = (
        "color=black:s=1920x1080:r=25:d=1,drawbox=x=476:y=0:w=8:h=1080:c=white:t=fill,"
        "drawbox=x=1436:y=0:w=8:h=1080:c=white:t=fill"
    )
    source = clip(tmp_path / "bars.mp4", picture=bars, sound=None)
    row = (
        luma(only(source, Recipe(name="z", originality=Originality(zoom=zoom)), tmp_path / "o"), limit=1)[0][
            540
        ]
        - 16
    )
    middle = len(row) // 2
    left = float((np.arange(middle) * row[:middle]).sum() / row[:middle].sum())
    right = float((np.arange(middle, 2 * middle) * row[middle:]).sum() / row[middle:].sum())
    assert (right - left) / 960 == pytest.approx(zoom, rel=0.002)
    assert (left + right) / 2 == pytest.approx(959.5, abs=2)


def test_letterbox_bars_are_black_clean_and_as_high_as_asked(tmp_path: Path) -> None:
    source = clip(tmp_path / "grey.mp4", picture=GREY, sound=None)
    recipe = Recipe(name="l", letterbox=Letterbox(height=0.1), grain=Grain(strength=8))
    made = rendered(source, recipe, tmp_path / "out", ("9x16", "16x9", "1x1"))
    for name, one in made.items():
        frames = luma(one.path, limit=6)
        rows = frames.mean(axis=(0, 2))
        dark = rows < 40
        height = bar_height(recipe, FORMATS[name])
        assert height == pytest.approx(0.1 * FORMATS[name].height, abs=1)
        assert abs(int(dark[: len(rows) // 2].sum()) - height) <= 1
        assert abs(int(dark[len(rows) // 2 :].sum()) - height) <= 1
        assert frames[:, : height - 8].max() <= 18, "no grain on the bars"


def test_vignette_darkens_corners_by_its_strength_and_leaves_the_middle(tmp_path: Path) -> None:
    source = clip(tmp_path / "grey.mp4", picture=GREY, sound=None)
    plain = luma(only(source, PLAIN, tmp_path / "a"), limit=1)[0] - 16
    dark = (
        luma(only(source, Recipe(name="v", vignette=Vignette(strength=0.5)), tmp_path / "b"), limit=1)[0] - 16
    )
    assert dark[:4, :4].mean() / plain[:4, :4].mean() == pytest.approx(0.5, abs=0.03)
    assert dark[500:580, 900:1020].mean() == pytest.approx(plain[500:580, 900:1020].mean(), abs=0.5)
    assert dark.min() >= -1, "no blacker than black"


def test_grain_changes_with_every_frame_and_with_the_seed(tmp_path: Path) -> None:
    source = clip(tmp_path / "grey.mp4", picture=GREY, sound=None)
    grained = Recipe(name="g", grain=Grain(strength=8))
    plain, one, other = (
        luma(only(source, recipe, tmp_path / name, "1x1", seed), limit=8)[:, 400:600, 400:600]
        for name, recipe, seed in (("a", PLAIN, 1), ("b", grained, 1), ("c", grained, 2))
    )
    assert plain.std(axis=0).mean() < 0.3
    assert one.std(axis=0).mean() > 1.5
    assert one.mean() == pytest.approx(plain.mean(), abs=1)
    assert correlation(one[0] - one[0].mean(), one[1] - one[1].mean()) < 0.6
    assert correlation(one[0] - one[0].mean(), other[0] - other[0].mean()) < 0.6


def test_colour_shifts_measure_as_named(tmp_path: Path) -> None:
    source = clip(tmp_path / "c.mp4", picture="color=0x7a9a50:s=1280x720:r=25:d=1", sound=None)

    def colour(name: str, **shift: float) -> tuple[float, float, float]:
        recipe = Recipe(name="c", originality=Originality(colour=Colour(**shift)))
        y, u, v = planes(only(source, recipe, tmp_path / name, "1x1"), limit=1)[0]
        return float(y.mean()), float(u.mean()) - 128, float(v.mean()) - 128

    y, u, v = colour("plain")
    _, warm_u, warm_v = colour("warm", warmth=1.0)
    assert warm_u < u - 3
    assert warm_v > v + 2
    _, dull_u, dull_v = colour("dull", saturation=0.7)
    assert np.hypot(dull_u, dull_v) / np.hypot(u, v) == pytest.approx(0.7, abs=0.06)
    turned = colour("turned", hue_degrees=10)
    assert abs(np.degrees(np.arctan2(turned[2], turned[1]) - np.arctan2(v, u))) == pytest.approx(10, abs=2)
    bright, _, _ = colour("bright", brightness=0.06)
    assert bright - y == pytest.approx(0.06 * 255, abs=4)


@pytest.mark.parametrize(("size", "matrix"), [("1280x720", 1), ("640x360", 6)])
def test_no_treatment_converts_colours_between_matrices(size: str, matrix: int, tmp_path: Path) -> None:
    """An overlay whose plate stated no matrix once made ffmpeg convert the picture to none."""
    source = clip(tmp_path / "c.mp4", picture=f"color=0x20a040:s={size}:r=25:d=1", sound=None)
    everything = Recipe(
        name="all",
        vignette=Vignette(strength=0.3),
        letterbox=Letterbox(height=0.05),
        originality=Originality(zoom=1.05),
    )
    plain = rendered(source, PLAIN, tmp_path / "a", ("1x1",))["1x1"]
    treated = rendered(source, everything, tmp_path / "b", ("1x1",))["1x1"]
    blurred = rendered(source, Recipe(name="blur", fit="blur"), tmp_path / "c", ("1x1",))["1x1"]
    stored = planes(source, limit=1)[0]
    for one in (plain, treated, blurred):
        assert one.probe.color_matrix == matrix
        for plane, original in zip(planes(one.path, limit=1)[0], stored, strict=True):
            middle = plane[
                plane.shape[0] // 2 - 9 : plane.shape[0] // 2 + 9,
                plane.shape[1] // 2 - 9 : plane.shape[1] // 2,
            ]
            assert middle.mean() == pytest.approx(original.mean(), abs=1.5)


def test_a_blurred_fill_keeps_the_whole_picture_and_fills_the_rest(scene: Path, tmp_path: Path) -> None:
    made = rendered(scene, Recipe(name="b", fit="blur"), tmp_path / "o", ("9x16", "16x9"))
    upright, wide = luma(made["9x16"].path, limit=1)[0], luma(made["16x9"].path, limit=1)[0]
    middle = upright[656:1264]
    small = wide[: 1080 // 9 * 9].reshape(120, 9, 1920)[:, :, :1920].mean(axis=1)
    rows = np.linspace(0, middle.shape[0] - 1, 120).astype(int)
    columns = np.linspace(0, 1919, 1080).astype(int)
    assert correlation(middle[rows], small[:, columns]) > 0.98
    above, below = upright[:600], upright[1320:]
    assert above.std() > 1
    assert np.abs(np.diff(above, axis=1)).max() < 20, "blurred"
    assert below.mean() > 17


def test_the_same_inputs_give_the_same_bytes_whatever_is_rendered_along(tmp_path: Path) -> None:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=24:d=1", sound="sine=d=1")
    recipe = load_preset("vintage")
    together = rendered(source, recipe, tmp_path / "a", ("16x9", "1x1"))
    alone = rendered(source, recipe, tmp_path / "b", ("1x1",))
    assert together["1x1"].sha256 == alone["1x1"].sha256
    assert rendered(source, recipe, tmp_path / "c", ("1x1",), seed=2)["1x1"].sha256 != alone["1x1"].sha256


def flash_and_click(path: Path, *, sound_delay_s: float = 0.0) -> Path:
    """Every half second one white frame and, at the same instant, a burst of sound."""
    picture = r"color=black:s=640x360:r=30:d=3,eq=brightness=1:enable=eq(mod(n\,15)\,7)"
    burst = r"aevalsrc=if(lt(mod(t-7/30\,0.5)\,0.03)*gte(t\,7/30)\,0.8*sin(6000*t)\,0):d=3:s=48000"
    if sound_delay_s:
        plain = flash_and_click(path.with_name("plain.mp4"))
        ffmpeg(
            "-i", str(plain), "-itsoffset", str(sound_delay_s), "-i", str(plain), "-map", "0:v", "-map", "1:a",
            "-c", "copy", str(path),
        )  # fmt: skip
        return path
    return clip(path, picture=picture, sound=burst)


@pytest.mark.parametrize("delay", [0.0, 0.2])
def test_sound_and_picture_stay_together_at_every_point(delay: float, tmp_path: Path) -> None:
    source = flash_and_click(tmp_path / "source.mp4", sound_delay_s=delay)
    made = only(source, Recipe(name="s", originality=Originality(zoom=1.03)), tmp_path / "o", "1x1")
    flashes = np.flatnonzero(luma(made).mean(axis=(1, 2)) > 120) / 30
    samples, rate, first = sound(made)
    loud = np.flatnonzero(np.abs(samples) > 0.2)
    clicks = loud[np.insert(np.diff(loud) > rate // 5, 0, True)] / rate + first
    assert len(flashes) == 6
    together = min(len(flashes), len(clicks))
    assert together >= 5
    assert np.abs(clicks[:together] - delay - flashes[:together]).max() < 0.02


@pytest.mark.parametrize("level", ["0dB", "-20dB"])
def test_sound_is_brought_to_the_loudness_target(level: str, tmp_path: Path) -> None:
    source = clip(
        tmp_path / "s.mp4",
        picture="color=black:s=640x360:r=25:d=4",
        sound=f"aevalsrc=0.3*sin(900*t)*(1+sin(7*t))+0.1*sin(5000*t):d=4:s=44100,volume={level}",
    )
    made = only(source, PLAIN, tmp_path / "o", "1x1")
    loudness = measure_loudness(made, require_probe(made), tmp_path)
    assert loudness is not None
    assert loudness.lufs == pytest.approx(SOUND.target_lufs, abs=1)
    assert loudness.peak_dbtp <= -1


def test_silence_stays_silent(tmp_path: Path) -> None:
    source = clip(tmp_path / "s.mp4", sound="anullsrc=d=2")
    made = only(source, PLAIN, tmp_path / "o", "1x1")
    samples, _, _ = sound(made)
    assert np.abs(samples).max() < 1e-3


def test_progress_reaches_100(tmp_path: Path) -> None:
    source = clip(tmp_path / "s.mp4")
    seen: list[RenderProgress] = []
    render(source, require_probe(source), PLAIN, ["1x1"], 1, tmp_path / "o", progress=seen.append)
    assert seen[-1].percent == 100


def test_metadata_of_the_source_does_not_travel(tmp_path: Path) -> None:
    source = clip(tmp_path / "s.mp4", extra=("-metadata", "comment=secret-place", "-metadata", "title=x"))
    assert b"secret-place" in source.read_bytes()
    assert b"secret-place" not in only(source, PLAIN, tmp_path / "o", "1x1").read_bytes()


def test_a_source_damaged_in_the_middle_is_never_rendered_short(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=30:d=4", sound=None, extra=("-g", "10"))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 30_000] = bytes(30_000)
    path.write_bytes(data)
    probe = require_probe(path)
    with pytest.raises(PermanentError) as caught:
        render(path, probe, PLAIN, ["1x1"], 1, tmp_path / "o")
    assert caught.value.code == "decode_failed"
    assert list((tmp_path / "o").iterdir()) == []


def test_a_source_cut_after_its_probe_is_never_rendered_short(tmp_path: Path) -> None:
    whole = clip(tmp_path / "clip.mp4", extra=("-movflags", "+faststart"))
    probe = require_probe(whole)
    cut = cut_short(whole, tmp_path / "cut.mp4")
    with pytest.raises(PermanentError):
        render(cut, probe, PLAIN, ["1x1"], 1, tmp_path / "o")
    assert list((tmp_path / "o").iterdir()) == []


def test_a_rendition_that_is_too_short_fails_its_check_in_a_plain_sentence(tmp_path: Path) -> None:
    """What a lenient encoder run leaves behind: half of the video, exit status 0."""
    source = clip(tmp_path / "s.mp4", sound=None)
    made = rendered(source, PLAIN, tmp_path / "o", ("1x1",))["1x1"]
    _, findings = judge_rendition(made.path, Expectation(FORMATS["1x1"], 4.0, False))
    failed = [finding for finding in findings if not finding.passed]
    assert [finding.name for finding in failed] == ["duration_matches"]
    assert failed[0].sentence == "It lasts 2.00 s, wanted 4.00 s within 0.08 s."
    _, findings = judge_rendition(made.path, Expectation(FORMATS["9x16"], 2.0, True))
    assert {finding.name for finding in findings if not finding.passed} == {
        "exact_size", "sound_present", "sound_in_sync", "no_new_silence", "loudness_on_target",
    }  # fmt: skip
    assert "1x1: It lasts" in str(QualityFailure({"1x1": failed}))


def test_an_unreadable_rendition_fails_every_check(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"nothing")
    probe, findings = judge_rendition(path, Expectation(FORMATS["1x1"], 4.0, False))
    assert probe is None
    assert not any(finding.passed for finding in findings)


def test_a_poster_is_a_small_jpeg(scene: Path, tmp_path: Path) -> None:
    data = poster(scene, require_probe(scene), tmp_path / "scratch")
    assert data[:3] == b"\xff\xd8\xff"
    assert len(data) <= 20 * 1024
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_file_on_the_command_line_becomes_a_json_document(tmp_path: Path) -> None:
    source = clip(tmp_path / "-my clip; rm.mp4")
    document = render_file(source, "clean", ["1x1"], tmp_path / "out", seed=5)
    (output,) = document["outputs"]
    assert Path(output["path"]) == tmp_path / "out" / "my_clip_rm_1x1.mp4"
    assert (output["width"], output["height"], output["has_audio"]) == (1080, 1080, True)
    assert (document["recipe"], document["seed"]) == ("clean", 5)
    assert all(check["passed"] for check in output["checks"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["my_clip_rm_1x1.mp4"]
    assert probe_file(Path(output["path"])).accepted


@pytest.mark.parametrize(
    ("recipe", "formats", "code"),
    [
        ("clean", ["4x5"], "unknown_format"),
        ("nope", ["1x1"], "unknown_recipe"),
        ("clean", ["1x1"], "not_a_video"),
    ],
)
def test_what_cannot_be_rendered_is_refused_before_anything_is_written(
    recipe: str, formats: list[str], code: str, tmp_path: Path
) -> None:
    source = tmp_path / "note.mp4"
    source.write_text("not a video at all, only words")
    with pytest.raises(PermanentError) as caught:
        render_file(source, recipe, formats, tmp_path / "out")
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()
