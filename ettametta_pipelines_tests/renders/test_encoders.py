"""Encoders by name: what is asked for and not there is refused, `auto` takes what works, and checks stay the same."""

from dataclasses import replace
from pathlib import Path

import pytest

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.renders import encoders
from ettametta_pipelines.renders.encoders import ENCODERS, HARDWARE, X264, choose_encoder
from ettametta_pipelines.renders.engine import QualityFailure, render, render_file
from ettametta_pipelines.renders.recipe import Recipe, render_key
from ettametta_pipelines_tests.media.clips import clip

# MPEG-4 part 2 plays the hardware: another encoder of the same build, with options of its own, on every machine.
STAND_IN = replace(HARDWARE[0], codec="mpeg4", quality={"q:v": 2, "bf": 0, "profile:v": 0})
ABSENT = replace(HARDWARE[1], codec="h264_of_nowhere")


@pytest.fixture(autouse=True)
def tried_anew() -> None:
    encoders._tried.cache_clear()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "nvenc", STAND_IN)
    monkeypatch.setattr(encoders, "HARDWARE", (STAND_IN,))


def test_x264_is_always_there() -> None:
    assert choose_encoder("x264") is X264


def test_hardware_that_is_not_there_is_refused_by_name_with_what_ffmpeg_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ENCODERS, "qsv", ABSENT)
    with pytest.raises(PermanentError) as caught:
        choose_encoder("qsv")
    assert caught.value.code == "encoder_unavailable"
    assert "Unknown encoder" in caught.value.message
    assert "auto" in caught.value.remedy


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(PermanentError) as caught:
        choose_encoder("h265")
    assert caught.value.code == "unknown_encoder"
    assert "nvenc" in caught.value.remedy


def test_auto_is_x264_where_no_hardware_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "qsv", ABSENT)
    monkeypatch.setattr(encoders, "HARDWARE", (ABSENT,))
    assert choose_encoder("auto") is X264


@pytest.mark.usefixtures("stand_in")
def test_auto_is_the_hardware_that_makes_what_it_is_tried_on() -> None:
    assert choose_encoder("auto") is STAND_IN
    assert choose_encoder("nvenc") is STAND_IN


@pytest.mark.usefixtures("stand_in")
def test_hardware_that_drops_frames_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    lossy = replace(STAND_IN, quality=STAND_IN.quality | {"frames:v": 40})
    monkeypatch.setitem(ENCODERS, "nvenc", lossy)
    with pytest.raises(PermanentError, match="made 40 of 45 frames"):
        choose_encoder("nvenc")


def test_the_encoder_is_part_of_the_key() -> None:
    recipe = Recipe(name="one")
    keys = {render_key("ab" * 32, recipe, 1, "1x1", "n9", encoder=encoder) for encoder in ENCODERS.values()}
    assert len(keys) == len(ENCODERS)


@pytest.mark.usefixtures("stand_in")
def test_what_hardware_makes_passes_the_same_checks_or_is_not_kept(tmp_path: Path) -> None:
    source = tmp_path / "s.mp4"
    clip(source, picture="testsrc2=s=640x360:r=25:d=1")
    recipe, probe = Recipe(name="one"), require_probe(source)
    with pytest.raises(QualityFailure, match=r"H\.264"):
        render(source, probe, recipe, ["1x1"], 1, tmp_path / "out", encoder=choose_encoder("nvenc"))
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_the_command_line_says_which_encoder_made_it(tmp_path: Path) -> None:
    clip(tmp_path / "s.mp4", picture="testsrc2=s=640x360:r=25:d=1")
    made = render_file(tmp_path / "s.mp4", "clean", ["1x1"], tmp_path / "out", encoder="x264")
    assert made["encoder"] == "x264"
