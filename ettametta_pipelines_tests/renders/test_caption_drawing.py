"""Captions measured on decoded frames: inside the safe zone, on time, and no text read as an instruction."""

import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders import caption_drawing
from ettametta_pipelines.renders.caption_drawing import (
    STYLES,
    TYPE_SIZES,
    drawing_key,
    escaped,
    examine,
    face,
    pages,
    script,
)
from ettametta_pipelines.renders.captions import (
    MAX_CUE_CHARACTERS,
    CaptionsInvalid,
    Cue,
    Word,
    parse_captions,
    parse_words,
)
from ettametta_pipelines.renders.engine import render, render_file
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.platforms import SAFE_ZONES
from ettametta_pipelines.renders.recipe import Captions, Recipe, render_key
from ettametta_pipelines_tests.media.clips import clip
from ettametta_pipelines_tests.renders.caption_frames import (
    caption_paint,
    outside_zone,
    paint_box,
    shown_spans,
)
from ettametta_pipelines_tests.renders.frames import planes

RATE = 25
ALL = tuple(FORMATS)
PLAIN = Recipe(name="plain")
LONG = "The quick brown fox jumps over the lazy dog, Žluťoučký kůň, Съешь ещё этих булок, Ωμέγα and goes on"


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Probe]:
    path = tmp_path_factory.mktemp("flat") / "flat.mp4"
    clip(path, picture=f"color=0x5a7a9a:s=640x360:r={RATE}:d=2", sound=None)
    return path, require_probe(path)


@pytest.fixture(scope="module")
def bare(flat: tuple[Path, Probe], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The flat clip rendered without captions, by format."""
    made = render(*flat, PLAIN, ALL, 1, tmp_path_factory.mktemp("bare"))
    return {one.format.name: one.path for one in made}


def drawn(
    flat: tuple[Path, Probe], out: Path, cues: tuple[Cue, ...], formats: tuple[str, ...] = ALL, **look: str
) -> dict[str, Path]:
    recipe = Recipe(name="c", captions=Captions.model_validate(look))
    made = render(*flat, recipe, formats, 1, out, captions=cues)
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name}.mp4" for name in formats)
    return {one.format.name: one.path for one in made}


def said(text: str) -> tuple[Cue, ...]:
    return parse_captions(f"1\n00:00:00,000 --> 00:00:02,000\n{text}\n".encode(), "a.srt")


@pytest.mark.parametrize(
    ("style", "position"), [("bold_outline", "bottom"), ("boxed", "bottom"), ("plain", "top")]
)
def test_captions_stay_in_the_safe_zone_of_every_format_and_are_on_time_to_the_frame(
    style: str, position: str, flat: tuple[Path, Probe], bare: dict[str, Path], tmp_path: Path
) -> None:
    times = ((0.2, 0.8), (1.32, 1.9))
    cues = tuple(Cue(start, end, LONG[: 60 if place else 40]) for place, (start, end) in enumerate(times))
    for name, path in drawn(flat, tmp_path / "o", cues, style=style, position=position).items():
        paint = caption_paint(path, bare[name])
        assert outside_zone(paint, name) == 0, name
        spans = shown_spans(paint)
        assert len(spans) == 2, name
        for (first, after), (start, end) in zip(spans, times, strict=True):
            assert abs(first - start * RATE) <= 1
            assert abs(after - end * RATE) <= 1


def test_positions_are_where_they_say(
    flat: tuple[Path, Probe], bare: dict[str, Path], tmp_path: Path
) -> None:
    middles = {}
    for position in ("top", "middle", "bottom"):
        path = drawn(flat, tmp_path / position, said("Here"), ("1x1",), position=position)["1x1"]
        left, top, right, bottom = paint_box(caption_paint(path, bare["1x1"])[:1])
        assert abs((left + right) / 2 - 540) < 8
        middles[position] = (top + bottom) / 2 / 1080
    assert middles["top"] < 0.2 < 0.45 < middles["middle"] < 0.55 < 0.8 < middles["bottom"]


def test_the_word_being_said_stands_out(flat: tuple[Path, Probe], tmp_path: Path) -> None:
    spoken = [
        {"word": word, "start": 0.4 * n, "end": 0.4 * n + 0.3} for n, word in enumerate(("One", "two", "six"))
    ]
    path = drawn(flat, tmp_path / "o", parse_words(spoken), ("16x9",))["16x9"]
    centres = []
    for place in (2, 14, 24):
        _, u, _ = planes(path)[place]
        # Nothing else on the frame is yellow: far less blue than the flat colour.
        centres.append(float(np.flatnonzero((u < 80).any(axis=0)).mean()))
    assert centres[0] + 40 < centres[1] < centres[2] - 40


HOSTILE = [
    r"{\an8}up", r"{\pos(1,1)}x", r"a\Nb", r"\{\an8}", r"{\p1}m 0 0 l 999 0 999 999{\p0}", "':textfile=/etc/passwd",
    "%{localtime}", "],movie=x", "a,b;c[d]", r"{\fs900}big", "}{", "\\", r"C:\new\hello", "{", "Dialogue: 0",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_one_dialogue_line_without_instructions(text: str) -> None:
    (cue,) = said(text)
    (line,) = [
        line
        for line in script([cue], Captions(), FORMATS["16x9"]).split("\n")
        if line.startswith("Dialogue:")
    ]
    shown = line.split(",,0,0,0,,", 1)[1]
    place, body = shown.split("}", 1)
    assert re.fullmatch(r"\{\\pos\(\d+,\d+\)", place)
    left = body.replace("\\{", "").replace("\\}", "").replace("\\\u2060", "")
    assert not set(left) & set("{}\\")
    assert body.replace("\\{", "{").replace("\\}", "}").replace("\u2060", "") == text


def test_hostile_text_is_drawn_as_it_stands(
    flat: tuple[Path, Probe], bare: dict[str, Path], tmp_path: Path
) -> None:
    """One line each, where captions belong, as wide as its characters: nothing moved, grew or went missing."""
    texts = [r"{\an8}up", r"a\Nb\h\n", r"{\fs900}big", r"%{localtime}", "':textfile=x"]
    cues = tuple(Cue(0.4 * place, 0.4 * place + 0.36, text) for place, text in enumerate(texts))
    paint = caption_paint(drawn(flat, tmp_path / "o", cues, ("16x9",))["16x9"], bare["16x9"])
    assert outside_zone(paint, "16x9") == 0
    height = TYPE_SIZES["16x9"].line_height
    for place, text in enumerate(texts):
        left, top, right, bottom = paint_box(paint[round(RATE * (0.4 * place + 0.2))][np.newaxis])
        assert bottom - top < 1.4 * height, text
        expected = face().width(text, height) / caption_drawing.WIDTH_TOLERANCE + 2 * 0.085 * height
        assert right - left == pytest.approx(expected, rel=0.06), text


def test_emoji_are_left_out_and_reported_and_the_words_stay(flat: tuple[Path, Probe]) -> None:
    cues = said("Yes 😀👍🏽 we can\u202e \u200b")
    report = examine(Captions(), cues, 2.0)
    assert report is not None
    assert (report.drawn, report.left_out) == (1, "🏽👍😀")
    text = script(cues, Captions(), FORMATS["9x16"])
    assert "Yes we can" in text
    assert not set(text) & set("😀👍🏽\u202e\u200b")


@pytest.mark.parametrize("text", ["שלום עולם", "你好", "مرحبا"])
def test_a_caption_of_which_no_letter_can_be_drawn_fails_before_the_render(
    text: str, flat: tuple[Path, Probe], tmp_path: Path
) -> None:
    with pytest.raises(CaptionsInvalid) as caught:
        drawn(flat, tmp_path / "o", said(text))
    assert caught.value.code == "caption_glyphs_missing"
    assert text in caught.value.message


def test_a_font_that_cannot_be_read_is_a_clear_failure(
    flat: tuple[Path, Probe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (None, b"", b"OTTO" + os.urandom(2000)):
        broken = tmp_path / "broken.otf"
        if content is not None:
            broken.write_bytes(content)
        monkeypatch.setattr(caption_drawing, "FONT_FILE", broken)
        face.cache_clear()
        caption_drawing._measure.cache_clear()
        with pytest.raises(PermanentError) as caught:
            drawn(flat, tmp_path / "o", said("Hello"))
        assert caught.value.code == "caption_font_unreadable"
    monkeypatch.undo()
    face.cache_clear()
    caption_drawing._measure.cache_clear()
    assert "Ж" in face().characters


characters = st.characters(codec="utf-8", exclude_categories=("C", "Z")) | st.sampled_from(" WMij{}\\\n")
texts = st.text(characters, min_size=1, max_size=MAX_CUE_CHARACTERS)


@settings(max_examples=60)
@given(texts, st.sampled_from(list(FORMATS.values())), st.sampled_from(list(STYLES)))
def test_no_line_of_any_text_is_wider_or_page_higher_than_the_safe_zone(
    text: str, format: object, style: str
) -> None:
    look = Captions.model_validate({"style": style})
    size = TYPE_SIZES[format.name]  # type: ignore[attr-defined]
    left, top, right, bottom = SAFE_ZONES[format.name].box(format)  # type: ignore[attr-defined, arg-type]
    shown = pages(Cue(1.0, 3.0, text), look, format)  # type: ignore[arg-type]
    reach = 2 * STYLES[style].reach * size.line_height
    for page in shown:
        assert len(page.lines) <= size.max_lines
        assert len(page.lines) * size.line_height + reach <= bottom - top
        for line in page.lines:
            assert face().width(" ".join(line), size.line_height) + reach <= right - left
    if shown:
        assert (shown[0].start_s, shown[-1].end_s) == (1.0, pytest.approx(3.0))
    assert "".join(t for p in shown for line in p.lines for t in line) == "".join(
        character for character in text if character in face().characters and not character.isspace()
    )


def test_a_long_cue_is_shown_in_pages_in_time_with_its_words() -> None:
    spoken = tuple(Word(f"word{n}", 0.2 * n, 0.2 * n + 0.2) for n in range(20))
    cue = Cue(0.0, 4.0, " ".join(word.text for word in spoken), spoken)
    shown = pages(cue, Captions(), FORMATS["9x16"])
    assert len(shown) > 1
    for page, following in pairwise(shown):
        assert following.words is not None
        assert page.end_s == following.start_s == following.words[0].start_s


def test_a_word_without_a_glyph_among_timed_words_is_passed_over() -> None:
    spoken = (Word("😀", 0.0, 0.5), Word("fine", 0.5, 1.0))
    (page,) = pages(Cue(0.0, 1.0, "😀 fine", spoken), Captions(), FORMATS["1x1"])
    assert page.lines == (("fine",),)
    assert pages(Cue(0.0, 1.0, "😀", spoken[:1]), Captions(), FORMATS["1x1"]) == []


def test_lines_are_even_and_the_authors_own_breaks_are_kept() -> None:
    (page,) = pages(Cue(0, 1, "one two three four five six seven eight"), Captions(), FORMATS["1x1"])
    lengths = [len(" ".join(line)) for line in page.lines]
    assert max(lengths) - min(lengths) <= 6
    (page,) = pages(Cue(0, 1, "- Who?\n- Me."), Captions(), FORMATS["1x1"])
    assert page.lines == (("-", "Who?"), ("-", "Me."))


def test_an_escaped_backslash_has_no_power() -> None:
    assert escaped(r"\N{\b1}") == "\\\u2060N\\{\\\u2060b1\\}"


def test_a_changed_caption_changes_the_render_key_and_an_unchanged_one_does_not() -> None:
    recipe = Recipe(name="c", captions=Captions())

    def key(cues: tuple[Cue, ...], recipe: Recipe = recipe) -> str:
        return render_key("ab" * 32, recipe, 1, "9x16", "n9", drawing_key(recipe.captions, cues))

    assert key(said("Hello")) == key(said(" Hello "))
    assert len({key(said("Hello")), key(said("hello")), key(())}) == 3
    assert key(said("Hello"), PLAIN) == key((), PLAIN), "captions no one asks for re-render nothing"
    boxed = Recipe(name="c", captions=Captions(style="boxed"))
    assert key(said("Hello"), boxed) != key(said("Hello"))


def test_the_same_captions_give_the_same_bytes_and_only_in_the_picture_asked_for(
    flat: tuple[Path, Probe], bare: dict[str, Path], tmp_path: Path
) -> None:
    one = drawn(flat, tmp_path / "a", said("Hello"), ("1x1",))["1x1"].read_bytes()
    assert drawn(flat, tmp_path / "b", said("Hello"), ("1x1",))["1x1"].read_bytes() == one
    (without,) = render(*flat, PLAIN, ["1x1"], 1, tmp_path / "c", captions=said("Hello"))
    assert without.path.read_bytes() == bare["1x1"].read_bytes()


def test_a_caption_file_given_by_hand_is_drawn_and_reported(flat: tuple[Path, Probe], tmp_path: Path) -> None:
    captions = tmp_path / "my captions.srt"
    captions.write_text("1\n00:00:00,000 --> 00:00:01,000\nHi 😀\n\n2\n00:01:00,000 --> 00:01:01,000\nLate\n")
    document = render_file(flat[0], "clean", ["1x1"], tmp_path / "o", captions=captions)
    assert document["captions"] == {"drawn": 1, "after_end": 1, "left_out": "😀"}
    assert '"style":"bold_outline"' in document["recipe_json"]
    captions.write_text("nonsense")
    with pytest.raises(CaptionsInvalid, match=r"my captions\.srt cannot be used: line 1"):
        render_file(flat[0], "clean", ["1x1"], tmp_path / "o", captions=captions)
    with pytest.raises(CaptionsInvalid, match="cannot be read"):
        render_file(flat[0], "clean", ["1x1"], tmp_path / "o", captions=tmp_path / "absent.srt")
