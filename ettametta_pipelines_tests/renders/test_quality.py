"""The checks of finished files: each fails on the fault it is for, alone, and good files pass them all."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.renders import playback
from ettametta_pipelines.renders.engine import QualityFailure, frame_at, render
from ettametta_pipelines.renders.formats import Format
from ettametta_pipelines.renders.framing import Framed
from ettametta_pipelines.renders.playback import PlaybackUnreadable, Stretch, play, read_events
from ettametta_pipelines.renders.quality import (
    CHECK_NAMES,
    RENDITION,
    Expectation,
    Finding,
    Footage,
    beyond,
    findings_document,
    findings_from,
    judge_rendition,
)
from ettametta_pipelines.renders.recipe import Recipe
from ettametta_pipelines.renders.sound import Loudness
from ettametta_pipelines_tests.media.clips import clip, ffmpeg

SMALL = Format("small", 320, 180, "tests")
MOVING = "testsrc2=s=320x180:r=30:d=4"
# A tone as loud as a finished rendition: -14 LUFS.
TONE = "aevalsrc=0.2*sin(6283*t)|0.2*sin(6283*t):d=4:s=48000"


def made(path: Path, picture: str = MOVING, sound: str | None = TONE) -> Path:
    return clip(path, picture=picture, sound=sound)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("good") / "good.mp4")


def judged(path: Path, source: Path, *, bars: int = 0, sound: bool = True) -> dict[str, Finding]:
    probe = require_probe(source)
    wanted = Expectation(SMALL, probe.duration_s, sound, bars, Footage(source, probe))
    _, findings = judge_rendition(path, wanted)
    assert [finding.name for finding in findings] == list(CHECK_NAMES)
    assert [entry.suffix for entry in path.parent.iterdir() if entry.is_dir()] == []
    return {finding.name: finding for finding in findings}


def failed(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if not finding.passed}


def test_a_good_file_passes_every_check_with_its_numbers(good: Path) -> None:
    findings = judged(good, good)
    assert failed(findings) == set()
    assert findings["loudness_on_target"].measured["lufs"] == pytest.approx(-14, abs=0.5)
    assert findings["true_peak_below_ceiling"].measured["true_peak_dbtp"] == pytest.approx(-13.5, abs=1)
    assert findings_from(json.loads(json.dumps(findings_document(findings.values()))))[0].passed


FAULTS = {
    "no_black_stretch": {"picture": MOVING + ",drawbox=c=black:t=fill:enable=between(t\\,1\\,2)"},
    "no_frozen_stretch": {"picture": MOVING + ",loop=loop=30:size=1:start=30,setpts=N/30/TB,trim=end=4"},
    "no_new_silence": {"sound": TONE + ",volume=0:enable=between(t\\,1\\,2)"},
}


@pytest.mark.parametrize("check", FAULTS)
def test_a_stretch_the_source_does_not_have_fails_its_check_alone_and_says_where(
    check: str, good: Path, tmp_path: Path
) -> None:
    path = made(tmp_path / "bad.mp4", **FAULTS[check])
    findings = judged(path, good)
    assert failed(findings) == {check}
    assert findings[check].look_at_s == pytest.approx(1.5, abs=0.1)
    assert findings[check].measured["longest_s"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("check", FAULTS)
def test_what_the_source_shows_itself_is_no_fault(check: str, tmp_path: Path) -> None:
    path = made(tmp_path / "same.mp4", **FAULTS[check])
    finding = judged(path, path)[check]
    assert finding.passed
    assert finding.measured["with_the_sources_own_s"] == pytest.approx(1, abs=0.1)


def test_a_still_shot_longer_than_the_sources_fails_for_the_rest(tmp_path: Path) -> None:
    frozen = MOVING + ",loop=loop={n}:size=1:start=30,setpts=N/30/TB,trim=end=4"
    source = made(tmp_path / "source.mp4", picture=frozen.format(n=20))
    longer = made(tmp_path / "longer.mp4", picture=frozen.format(n=70))
    finding = judged(longer, source)["no_frozen_stretch"]
    assert not finding.passed
    assert finding.measured["longest_s"] == pytest.approx(70 / 30 - 20 / 30 - 0.25, abs=0.15)


def test_the_pace_of_a_recipe_is_followed_back_to_the_source(tmp_path: Path) -> None:
    source = made(
        tmp_path / "source.mp4", picture=MOVING + ",drawbox=c=black:t=fill:enable=between(t\\,0.5\\,1.2)"
    )
    path = made(tmp_path / "late.mp4", picture=MOVING + ",drawbox=c=black:t=fill:enable=between(t\\,2\\,2.7)")
    probe = require_probe(source)
    wanted = Expectation(SMALL, 4.0, True, 0, Footage(source, probe))
    paced = replace(wanted, source=Footage(source, probe, source_time=lambda seconds: seconds - 1.5))
    by_name = [{f.name: f.passed for f in judge_rendition(path, w)[1]} for w in (wanted, paced)]
    assert [passed["no_black_stretch"] for passed in by_name] == [False, True]


def test_letterbox_bars_are_not_black_frames_and_hide_none(good: Path, tmp_path: Path) -> None:
    # Mostly bars, between them a narrow dark but moving picture with one bright dot.
    dark = (
        "color=0x202020:s=320x180:r=30:d=4,noise=alls=20:allf=t,drawbox=x=150:y=80:w=20:h=20:c=white:t=fill"
    )
    bars = ",drawbox=h=78:c=black:t=fill,drawbox=y=102:h=78:c=black:t=fill"
    path = made(tmp_path / "bars.mp4", picture=dark + bars)
    assert judged(path, good, bars=78)["no_black_stretch"].passed
    gap = ",drawbox=c=black:t=fill:enable=between(t\\,1\\,2)"
    assert not judged(made(tmp_path / "gap.mp4", picture=dark + bars + gap), good, bars=78)[
        "no_black_stretch"
    ].passed


def test_a_frozen_picture_under_grain_is_frozen(good: Path, tmp_path: Path) -> None:
    picture = FAULTS["no_frozen_stretch"]["picture"] + ",scale=1280:720,noise=c0s=5:c0f=t:all_seed=3"
    path = made(tmp_path / "grain.mp4", picture=picture)
    assert "no_frozen_stretch" in failed(judged(path, good))


@pytest.mark.parametrize("delay", [0.2, -0.2])
def test_sound_shifted_against_the_picture_fails_the_sync_check(
    delay: float, good: Path, tmp_path: Path
) -> None:
    path = tmp_path / "shifted.mp4"
    first, second = ("0:v", "1:a") if delay > 0 else ("1:v", "0:a")
    ffmpeg(
        "-i", str(good), "-itsoffset", str(abs(delay)), "-i", str(good), "-map", first, "-map", second,
        "-c", "copy", str(path),
    )  # fmt: skip
    finding = judged(path, good)["sound_in_sync"]
    assert not finding.passed
    assert finding.measured["start_offset_s"] == pytest.approx(delay, abs=0.03)
    assert f"{round(abs(delay) * 1000)} ms {'after' if delay > 0 else 'before'}" in finding.sentence.replace(
        "199", "200"
    )


def test_sound_that_ends_early_fails_the_sync_check(good: Path, tmp_path: Path) -> None:
    path = made(tmp_path / "early.mp4", sound=TONE.replace("d=4", "d=3.8"))
    assert "sound_in_sync" in failed(judged(path, good))


def test_a_loud_clipping_file_fails_loudness_and_true_peak(good: Path, tmp_path: Path) -> None:
    path = made(tmp_path / "loud.mp4", sound=TONE.replace("0.2*sin", "1.4*sin"))
    findings = judged(path, good)
    assert failed(findings) == {"loudness_on_target", "true_peak_below_ceiling"}
    assert findings["true_peak_below_ceiling"].measured["true_peak_dbtp"] > -1
    assert findings["loudness_on_target"].sentence.endswith("wanted -14 LUFS within 1.")


def test_a_file_too_quiet_fails_unless_the_source_could_not_be_raised_further(
    good: Path, tmp_path: Path
) -> None:
    path = made(tmp_path / "quiet.mp4", sound=TONE.replace("0.2*sin", "0.1*sin"))
    assert failed(judged(path, good)) == {"loudness_on_target"}
    probe = require_probe(good)
    for source, passes in (
        (Loudness(-40.0, -30.0), True),  # 20 dB up is -20
        (Loudness(-44.0, -30.0), True),  # louder than it had to be, quieter than the target
        (Loudness(-34.0, -20.0), False),  # 20 dB up is the target
        (Loudness(-26.0, -6.0), True),  # peaks 8 dB over the ceiling after 12 dB of gain
    ):
        wanted = Expectation(SMALL, 4.0, True, 0, Footage(good, probe, source))
        finding = next(f for f in judge_rendition(path, wanted)[1] if f.name == "loudness_on_target")
        assert finding.passed is passes, source
        assert "a source of" in finding.sentence


def test_a_silent_source_may_stay_silent_and_a_loud_one_may_not(good: Path, tmp_path: Path) -> None:
    silent = made(tmp_path / "silent.mp4", sound="anullsrc=r=48000:cl=stereo:d=4")
    assert failed(judged(silent, silent)) == set()
    assert failed(judged(silent, good)) == {"no_new_silence", "loudness_on_target"}
    mute = made(tmp_path / "mute.mp4", sound=None)
    assert failed(judged(mute, mute, sound=False)) == set()


def test_the_source_is_not_played_when_there_is_nothing_to_explain(good: Path, tmp_path: Path) -> None:
    gone = Footage(tmp_path / "gone.mp4", require_probe(good))
    assert all(f.passed for f in judge_rendition(good, Expectation(SMALL, 4.0, True, 0, gone))[1])


def test_what_cannot_be_played_to_its_end_fails_every_played_check(tmp_path: Path) -> None:
    path = clip(tmp_path / "bad.mp4", picture=MOVING, sound=TONE, extra=("-g", "10"))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(data)
    probe, findings = judge_rendition(path, Expectation(SMALL, 4.0, True))
    assert probe is not None
    by_name = {finding.name: finding for finding in findings}
    assert {"no_black_stretch", "no_frozen_stretch", "no_new_silence", "loudness_on_target"} <= failed(
        by_name
    )
    assert "cannot be played and measured to its end" in by_name["no_black_stretch"].sentence


@pytest.mark.parametrize(
    "lines",
    [
        ["lavfi.black_end=2.0"],
        ["lavfi.black_start=1.0", "lavfi.black_start=2.0"],
        ["lavfi.black_start=nan"],
        ["something else"],
    ],
)
def test_notes_that_make_no_sense_are_an_error_not_a_pass(lines: list[str]) -> None:
    with pytest.raises(PlaybackUnreadable):
        read_events(lines, 4.0)


def test_notes_become_stretches_and_an_open_one_lasts_to_the_end() -> None:
    lines = [
        "frame:75   pts:38400   pts_time:2.5", "lavfi.freezedetect.freeze_start=0", "lavfi.black_start=2.5",
        "lavfi.freezedetect.freeze_duration=0.7", "lavfi.freezedetect.freeze_end=0.7",
    ]  # fmt: skip
    assert read_events(lines, 4.0) == {"freeze": (Stretch(0, 0.7),), "black": (Stretch(2.5, 4.0),)}


def test_frames_that_were_not_shown_are_an_error(good: Path, tmp_path: Path) -> None:
    probe = replace(require_probe(good), frames=121)
    with pytest.raises(PlaybackUnreadable, match="120 frames were shown of 121"):
        play(good, probe, RENDITION, tmp_path)


def test_a_playing_without_its_summary_is_an_error(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playback, "SUMMARY", re.compile("never"))
    with pytest.raises(PlaybackUnreadable, match="loudness"):
        play(good, require_probe(good), RENDITION, tmp_path)


def test_excuses_cut_pieces_out_of_a_stretch() -> None:
    pieces = beyond(Stretch(0, 10), [Stretch(2, 3), Stretch(9.5, 12)])
    assert pieces == [Stretch(0, 1.75), Stretch(3.25, 9.25)]


def test_a_failing_render_shows_a_small_frame_of_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(tmp_path / "s.mp4", picture="testsrc2=s=320x180:r=25:d=1.2", sound=None)
    everything_is_black = replace(RENDITION, black_luma=0.99)
    monkeypatch.setattr("ettametta_pipelines.renders.quality.RENDITION", everything_is_black)
    with pytest.raises(QualityFailure) as caught:
        render(source, require_probe(source), Recipe(name="p"), ["1x1"], 1, tmp_path / "o")
    assert list((tmp_path / "o").iterdir()) == []
    assert list(caught.value.frames) == [("1x1", "no_black_stretch")]
    assert len(caught.value.frames["1x1", "no_black_stretch"]) <= 15 * 1024


def test_a_frame_is_a_small_jpeg_even_of_the_last_moment(good: Path, tmp_path: Path) -> None:
    for at_s in (0.0, 1.5, 4.0):
        data = frame_at(good, require_probe(good), at_s, tmp_path / "scratch")
        assert data[:3] == b"\xff\xd8\xff"
        assert len(data) <= 15 * 1024


UPRIGHT = Format("upright", 100, 180, "tests")
# What moves and is bright is at the edges; the middle is a still picture, or dark.
EDGES = (
    "testsrc2=s=320x180:r=30:d=4,drawbox=x=80:w=160:y=0:h=180:c={colour}:t=fill,"
    "drawbox=x=130:w=60:y=60:h=60:c={mark}:t=fill"
)


def judged_part(path: Path, source: Path, recipe: Recipe) -> set[str]:
    """Failed checks of an upright cut out of the middle of a wide source."""
    wanted = Expectation(
        UPRIGHT, 4.0, True, 0, Footage(source, require_probe(source)), framed=Framed(None, None, recipe)
    )
    return failed({finding.name: finding for finding in judge_rendition(path, wanted)[1]})


@pytest.mark.parametrize(
    ("check", "colour", "mark"),
    [("no_frozen_stretch", "gray", "white"), ("no_black_stretch", "black", "black")],
)
def test_a_part_that_stands_still_or_is_black_in_a_source_that_is_not_is_no_fault(
    check: str, colour: str, mark: str, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({"name": "part", "fit": "crop"})
    source = made(tmp_path / "source.mp4", picture=EDGES.format(colour=colour, mark=mark))
    path = made(tmp_path / "part.mp4", picture=EDGES.format(colour=colour, mark=mark) + ",crop=100:180:110:0")
    assert check not in judged_part(path, source, recipe)
    # The whole of it is shown by this one, and moves.
    whole = Recipe.model_validate({"name": "whole", "fit": "blur"})
    assert check in judged_part(path, source, whole)
    moving = made(tmp_path / "moving.mp4", picture="testsrc2=s=320x180:r=30:d=4")
    assert check in judged_part(path, moving, recipe)
