"""The mix, measured on decoded renditions: how far the bed goes down and returns, when the voice begins, how loud."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.renders.engine import RenderedFile, render
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.playback import Stretch
from ettametta_pipelines.renders.quality import Expectation, judge_rendition
from ettametta_pipelines.renders.recipe import Recipe, SpeedRamp, VoiceOver, canonical_json, render_key
from ettametta_pipelines.renders.tempo import time_map
from ettametta_pipelines.renders.voice_mix import ATTACK_S, RELEASE_S, bridged, envelope
from ettametta_pipelines.renders.voiceover import Narration, VoiceStudio, VoiceWish, mix_key, narrate
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.media.clips import clip
from ettametta_pipelines_tests.renders.frames import sound

TEXT = "Today we bake bread, slowly, with salt."
RATE = 48_000
# The voice has nothing above 11 kHz, so what is heard at the bed's pitch is the bed.
BED_HZ = 13_000
PICTURE = "testsrc2=s=320x240:r=25:d={0}"
BED = f"sine=f={BED_HZ}:d={{0}}:r=48000,volume=6dB"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> VoiceStudio:
    root = tmp_path_factory.mktemp("voices")
    return VoiceStudio(ObjectStore.from_url((root / "store").as_uri()), root / "scratch")


def spoken_over(
    source: Path, studio: VoiceStudio, tmp_path: Path, recipe: Recipe, seed: int = 1
) -> tuple[RenderedFile, Narration]:
    probe = require_probe(source)
    assert recipe.voice_over is not None
    lasts_s = time_map(recipe, seed).output_time(probe.duration_s)
    tmp_path.mkdir(exist_ok=True)
    narration = narrate(studio, VoiceWish(TEXT), recipe.voice_over, lasts_s).fetched(studio.store, tmp_path)
    (made,) = render(source, probe, recipe, ["1x1"], seed, tmp_path / "out", voice=narration)
    return made, narration


def level_db(
    samples: NDArray[np.float64], start_s: float, end_s: float, low_hz: float, high_hz: float
) -> float:
    """Power between two frequencies, in dB."""
    part = samples[round(start_s * RATE) : round(end_s * RATE)]
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2
    hertz = np.fft.rfftfreq(len(part), 1 / RATE)
    return float(10 * np.log10(power[(hertz > low_hz) & (hertz < high_hz)].sum() / len(part) ** 2 + 1e-12))


def bed_db(samples: NDArray[np.float64], start_s: float, end_s: float) -> float:
    return level_db(samples, start_s, end_s, BED_HZ - 200, BED_HZ + 200)


def voice_db(samples: NDArray[np.float64], start_s: float, end_s: float) -> float:
    return level_db(samples, start_s, end_s, 150, 4000)


def first_heard_s(samples: NDArray[np.float64], at_least: float) -> float:
    """When a level below 8 kHz is first exceeded."""
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / RATE) > 8000] = 0
    return float(np.flatnonzero(np.abs(np.fft.irfft(spectrum, len(samples))) > at_least)[0]) / RATE


@pytest.mark.parametrize("duck_db", [6.0, 18.0])
def test_the_bed_goes_down_by_what_is_asked_under_the_voice_and_comes_back(
    studio: VoiceStudio, tmp_path: Path, duck_db: float
) -> None:
    source = clip(tmp_path / "bed.mp4", picture=PICTURE.format(9), sound=BED.format(9))
    recipe = Recipe(name="v", voice_over=VoiceOver(duck_db=duck_db, start_s=2))
    made, narration = spoken_over(source, studio, tmp_path, recipe)
    assert all(finding.passed for finding in made.findings), made.findings
    samples, rate, _ = sound(made.path)
    assert rate == RATE
    start, end = narration.spoken[0][0], narration.spoken[-1][1]
    before, after = bed_db(samples, 0.2, start - ATTACK_S - 0.1), bed_db(samples, end + RELEASE_S + 0.1, 8.8)
    # In the rests between words only the bed is heard, and neither limiter nor codec moves it.
    rests = [
        (one[1] + 0.02, two[0] - 0.02)
        for one, two in zip(narration.spoken, narration.spoken[1:], strict=False)
        if two[0] - one[1] > 0.12
    ]
    assert rests
    for rest in rests:
        assert before - bed_db(samples, *rest) == pytest.approx(duck_db, abs=1.5)
    assert after == pytest.approx(before, abs=0.5)
    assert voice_db(samples, start, end) > voice_db(samples, 0.2, start - 0.3) + 30


def test_the_voice_begins_when_it_should_on_a_source_without_sound(
    studio: VoiceStudio, tmp_path: Path
) -> None:
    source = clip(tmp_path / "mute.mp4", picture=PICTURE.format(6), sound=None)
    made, narration = spoken_over(
        source, studio, tmp_path, Recipe(name="v", voice_over=VoiceOver(start_s=1.3))
    )
    assert made.probe.has_audio
    measured = {finding.name: finding for finding in made.findings}
    assert all(finding.passed for finding in made.findings), made.findings
    assert measured["loudness_on_target"].measured["lufs"] == pytest.approx(-14, abs=1)
    assert measured["true_peak_below_ceiling"].measured["true_peak_dbtp"] <= -1
    samples, _, begins = sound(made.path)
    assert first_heard_s(samples, 0.01) + begins == pytest.approx(narration.spoken[0][0], abs=0.04)


@pytest.mark.parametrize("level_db", [-6.0, 6.0])
def test_the_mix_ends_on_target_whatever_the_voices_level(
    studio: VoiceStudio, tmp_path: Path, level_db: float
) -> None:
    source = clip(
        tmp_path / "noise.mp4", picture=PICTURE.format(7), sound="anoisesrc=d=7:c=pink:a=0.2:seed=5"
    )
    made, _ = spoken_over(source, studio, tmp_path, Recipe(name="v", voice_over=VoiceOver(level_db=level_db)))
    measured = {finding.name: finding.measured for finding in made.findings}
    assert all(finding.passed for finding in made.findings), made.findings
    assert measured["loudness_on_target"]["lufs"] == pytest.approx(-14, abs=1)
    assert measured["true_peak_below_ceiling"]["true_peak_dbtp"] <= -1


def test_with_a_ramp_the_bed_follows_the_ramp_and_the_voice_stays_natural(
    studio: VoiceStudio, tmp_path: Path
) -> None:
    beeps = f"aevalsrc='if(lt(mod(t,1),0.05),0.5*sin(2*PI*{BED_HZ}*t),0)':d=9:s=48000"
    source = clip(tmp_path / "beeps.mp4", picture=PICTURE.format(9), sound=beeps)
    recipe = Recipe(
        name="v", voice_over=VoiceOver(start_s=2.5, duck_db=12), speed_ramp=SpeedRamp(period_s=16)
    )
    seed = max(range(20), key=lambda seed: abs(time_map(recipe, seed).output_time(8) - 8))
    made, narration = spoken_over(source, studio, tmp_path, recipe, seed)
    times = time_map(recipe, seed)
    assert abs(times.output_time(8) - 8) > 0.1
    samples, _, begins = sound(made.path)
    # The beeps click below their own pitch; none lies between here and the first word.
    quiet_s = 2.3
    heard_s = quiet_s + first_heard_s(samples[round(quiet_s * RATE) :], 0.01)
    assert heard_s + begins == pytest.approx(narration.spoken[0][0], abs=0.04)
    heard_until = narration.spoken[-1][1]
    assert (
        voice_db(samples, heard_until - 0.15, heard_until)
        > voice_db(samples, heard_until + 0.1, heard_until + 0.25) + 20
    )
    for second in range(1, 9):
        at = times.output_time(second)
        steps = np.arange(at - 0.2, at + 0.2, 0.005)
        levels = np.array([bed_db(samples, s - begins, s - begins + 0.01) for s in steps])
        loud = steps[levels > levels.max() - 10]
        assert (loud[0] + loud[-1] + 0.01) / 2 == pytest.approx(at + 0.025, abs=0.04)


def test_a_voice_that_has_to_hurry_begins_and_ends_when_it_should(
    studio: VoiceStudio, tmp_path: Path
) -> None:
    seconds = narrate(studio, VoiceWish(TEXT), VoiceOver(), 20).seconds
    lasts_s = 1.0 + 0.3 + seconds / 1.12
    source = clip(tmp_path / "mute.mp4", picture=PICTURE.format(f"{lasts_s:.2f}"), sound=None)
    made, narration = spoken_over(source, studio, tmp_path, Recipe(name="v", voice_over=VoiceOver(start_s=1)))
    assert narration.tempo == pytest.approx(1.12, abs=0.02)
    samples, _, begins = sound(made.path)
    assert first_heard_s(samples, 0.01) + begins == pytest.approx(narration.spoken[0][0], abs=0.04)
    silence_s = first_heard_s(samples[::-1], 0.01)
    assert len(samples) / RATE + begins - silence_s == pytest.approx(narration.spoken[-1][1], abs=0.06)


def test_the_same_voice_and_recipe_give_the_same_bytes(studio: VoiceStudio, tmp_path: Path) -> None:
    source = clip(tmp_path / "bed.mp4", picture=PICTURE.format(6), sound=BED.format(6))
    recipe = Recipe(name="v", voice_over=VoiceOver())
    one, _ = spoken_over(source, studio, tmp_path / "one", recipe)
    two, _ = spoken_over(source, studio, tmp_path / "two", recipe)
    assert one.sha256 == two.sha256


def test_the_render_key_names_the_voice_and_without_one_is_what_it_was(studio: VoiceStudio) -> None:
    plain, spoken = Recipe(name="p"), Recipe(name="p", voice_over=VoiceOver())
    assert "voice_over" not in canonical_json(plain)
    narration = narrate(studio, VoiceWish(TEXT), VoiceOver(), 20)
    voices = (
        None,
        mix_key(narration),
        mix_key(replace(narration, speech=replace(narration.speech, sha256="0"))),
    )
    keys = {render_key("a" * 64, spoken, 1, "1x1", "ffmpeg", None, voice) for voice in voices}
    louder = Recipe(name="p", voice_over=VoiceOver(level_db=1))
    keys.add(render_key("a" * 64, louder, 1, "1x1", "ffmpeg", None, mix_key(narration)))
    assert len(keys) == 4
    assert render_key("a" * 64, plain, 1, "1x1", "ffmpeg", None, None) == render_key(
        "a" * 64, plain, 1, "1x1", "ffmpeg"
    )


def test_a_rendition_in_which_the_voice_is_not_heard_fails(tmp_path: Path) -> None:
    mute = clip(
        tmp_path / "mute.mp4", picture="testsrc2=s=1080x1080:r=25:d=3", sound="anullsrc=r=48000:cl=stereo:d=3"
    )
    wanted = Expectation(FORMATS["1x1"], 3, True, spoken=((0.5, 2.5),))
    _, findings = judge_rendition(mute, wanted)
    (silence,) = [finding for finding in findings if finding.name == "no_new_silence"]
    assert not silence.passed
    assert silence.sentence == "The voice-over is not heard from 0.50 s to 2.50 s."
    assert Stretch(0.5, 2.5).middle_s == silence.look_at_s


def test_the_envelope_is_down_before_the_first_word_and_does_not_rise_in_short_rests() -> None:
    assert bridged([(1, 2), (2.8, 3), (4, 5)]) == [(1, 3), (4, 5)]
    gain = envelope([(0.1, 0.5), (3, 4), (4.5, 5)], 20, 6)
    assert len(gain) == 6000
    assert gain[100:500] == pytest.approx(0.1)
    assert gain[3000:5000] == pytest.approx(0.1)
    assert gain[[1500, 2700, 5600]] == pytest.approx(1)
    assert np.abs(np.diff(20 * np.log10(gain))).max() < 0.2
    assert gain[2875] == pytest.approx(10 ** (-10 / 20), rel=0.05)
