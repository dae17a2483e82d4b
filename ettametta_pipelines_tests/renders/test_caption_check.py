"""The check of captions in a finished file: each fault fails it, pictures of any kind do not."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders import caption_drawing
from ettametta_pipelines.renders.caption_check import CaptionSight, CaptionVerdict
from ettametta_pipelines.renders.captions import Cue, Word, retimed
from ettametta_pipelines.renders.engine import QualityFailure, render
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.platforms import SAFE_ZONES, Margins
from ettametta_pipelines.renders.playback import play
from ettametta_pipelines.renders.quality import RENDITION, Finding
from ettametta_pipelines.renders.recipe import Captions, Recipe, load_preset
from ettametta_pipelines_tests.media.clips import clip

CHECK = "captions_in_zone_and_on_time"
SQUARE = FORMATS["1x1"]
SAID = (Cue(0.3, 0.9, "Hello there"), Cue(1.3, 1.9, "and good bye to all of you"))
WORDS = (Word("Hello", 0.3, 0.6), Word("there", 0.6, 0.9), Word("friend", 0.9, 1.4))
SPOKEN = (Cue(0.3, 1.4, "Hello there friend", WORDS),)

FOOTAGE = {
    "white": "color=white:s=640x360:r=25:d=2.2",
    "black": "color=black:s=640x360:r=25:d=2.2,drawbox=w=8:h=8:x=20:y=20:c=white:t=fill:enable=lt(mod(n\\,4)\\,2)",
    "noise": "color=gray:s=640x360:r=25:d=2.2,noise=alls=90:allf=t",
    "moving": "testsrc2=s=640x360:r=25:d=2.2",
}


def footage(path: Path, picture: str) -> tuple[Path, Probe]:
    clip(path, picture=picture, sound=None)
    return path, require_probe(path)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Probe]:
    return footage(tmp_path_factory.mktemp("moving") / "moving.mp4", FOOTAGE["moving"])


def rendered(
    source: tuple[Path, Probe], out: Path, cues: tuple[Cue, ...], style: str = "bold_outline"
) -> tuple[Path, Finding]:
    recipe = Recipe(name="c", captions=Captions.model_validate({"style": style}))
    (made,) = render(*source, recipe, ["1x1"], 1, out, captions=cues)
    return made.path, next(finding for finding in made.findings if finding.name == CHECK)


def sight(cues: tuple[Cue, ...], frames: int, workdir: Path) -> CaptionSight:
    fonts = workdir / caption_drawing.FONTS_DIR
    fonts.mkdir(parents=True, exist_ok=True)
    (fonts / caption_drawing.FONT_FILE.name).write_bytes(caption_drawing.FONT_FILE.read_bytes())
    return CaptionSight(cues, Captions(), SQUARE, Fraction(25), frames, workdir)


def looked_at(path: Path, cues: tuple[Cue, ...], workdir: Path) -> CaptionVerdict:
    made = require_probe(path)
    looking = sight(cues, made.frames, workdir)
    shown = play(path, made, RENDITION, workdir, stills=[moment.number for moment in looking.moments()])
    return looking.judge(shown.stills)


@pytest.mark.parametrize(
    ("kind", "style"),
    [
        ("white", "plain"),
        ("white", "boxed"),
        ("black", "bold_outline"),
        ("noise", "plain"),
        ("moving", "boxed"),
    ],
)
def test_captions_are_found_over_any_picture_in_every_style(kind: str, style: str, tmp_path: Path) -> None:
    source = footage(tmp_path / "s.mp4", FOOTAGE[kind])
    recipe = Recipe(name="c", captions=Captions.model_validate({"style": style}))
    try:
        (made,) = render(*source, recipe, ["1x1"], 1, tmp_path / "o", captions=SAID)
    except QualityFailure as failure:
        pytest.fail(str(failure))
    finding = next(finding for finding in made.findings if finding.name == CHECK)
    assert finding.measured["share_found"] > 0.8
    assert finding.measured["moments"] == 10


def test_spoken_words_and_several_pages_are_found(moving: tuple[Path, Probe], tmp_path: Path) -> None:
    assert rendered(moving, tmp_path / "a", SPOKEN)[1].passed
    long = (Cue(0.1, 2.0, "a long text that does not fit on a single page of lines " * 4),)
    assert rendered(moving, tmp_path / "b", long)[1].passed


def test_without_captions_it_passes_and_says_so(moving: tuple[Path, Probe], tmp_path: Path) -> None:
    _, finding = rendered(moving, tmp_path / "a", (Cue(50, 51, "after the end"),))
    assert (finding.passed, finding.sentence) == (True, "No captions are drawn.")
    (made,) = render(*moving, Recipe(name="p"), ["1x1"], 1, tmp_path / "b")
    assert next(f for f in made.findings if f.name == CHECK).sentence == "No captions are drawn."


@pytest.mark.parametrize("by_s", [0.5, -0.25, 0.2])
def test_captions_shown_at_another_time_fail(by_s: float, moving: tuple[Path, Probe], tmp_path: Path) -> None:
    path, _ = rendered(moving, tmp_path / "o", SAID)
    assert looked_at(path, SAID, tmp_path / "w").passed
    verdict = looked_at(path, retimed(SAID, lambda at_s: at_s + by_s), tmp_path / "w")
    assert not verdict.passed
    assert verdict.look_at is not None


def test_captions_that_stay_too_long_or_come_too_early_fail(
    moving: tuple[Path, Probe], tmp_path: Path
) -> None:
    path, _ = rendered(moving, tmp_path / "o", (Cue(0.3, 1.5, "Hello there"),))
    for due in (Cue(0.3, 1.1, "Hello there"), Cue(0.7, 1.5, "Hello there")):
        verdict = looked_at(path, (due,), tmp_path / "w")
        assert not verdict.passed
        assert "where none should be" in verdict.sentence


def test_captions_that_are_missing_or_say_something_else_fail(
    moving: tuple[Path, Probe], tmp_path: Path
) -> None:
    bare = render(*moving, Recipe(name="p"), ["1x1"], 1, tmp_path / "a")[0].path
    verdict = looked_at(bare, SAID, tmp_path / "w")
    assert not verdict.passed
    assert "should be seen at 0.40 s is not" in verdict.sentence
    path, _ = rendered(moving, tmp_path / "b", SAID)
    other = (replace(SAID[0], text="Someone else"), SAID[1])
    assert not looked_at(path, other, tmp_path / "w").passed


def test_captions_outside_the_safe_zone_fail_the_render_which_shows_a_frame(
    moving: tuple[Path, Probe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    margins = Margins(top=0, bottom=4, left=0, right=0)
    monkeypatch.setattr(caption_drawing, "SAFE_ZONES", {"1x1": margins})
    with pytest.raises(QualityFailure) as caught:
        rendered(moving, tmp_path / "o", SAID)
    assert [f.name for f in caught.value.findings["1x1"] if not f.passed] == [CHECK]
    assert "outside the part that platforms keep free" in str(caught.value)
    assert ("1x1", CHECK) in caught.value.frames
    assert SAFE_ZONES["1x1"] != margins


def test_few_moments_of_many_captions_are_looked_at(tmp_path: Path) -> None:
    many = tuple(Cue(float(at), at + 0.8, f"number {at}") for at in range(900))
    moments = sight(many, 900 * 25, tmp_path).moments()
    assert len(moments) <= 15
    assert moments[0].number < 50
    assert moments[-1].number > 890 * 25
    flash = (Cue(0.5, 0.55, "a flash between two frames"),)
    assert sight(flash, 100, tmp_path).moments() == []


def test_a_ramped_rendition_shows_its_captions_when_they_are_due(
    moving: tuple[Path, Probe], tmp_path: Path
) -> None:
    recipe = load_preset("restless").model_copy(update={"captions": Captions()})
    (made,) = render(*moving, recipe, ["9x16"], 3, tmp_path / "o", captions=SAID)
    assert next(f for f in made.findings if f.name == CHECK).passed
