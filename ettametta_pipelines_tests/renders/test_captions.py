"""Caption files of strangers: read whole into plain cues, or refused with a code and the place."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.renders.captions import (
    MAX_BYTES,
    PROBLEMS,
    CaptionsInvalid,
    Cue,
    canonical_bytes,
    captions_digest,
    clean_line,
    from_canonical,
    parse_captions,
    parse_words,
    retimed,
)

TWO = "1\n00:00:01,000 --> 00:00:02,500\nHello\nworld\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n"


def srt(text: str) -> tuple[Cue, ...]:
    return parse_captions(text.encode(), "a.srt")


def vtt(text: str) -> tuple[Cue, ...]:
    return parse_captions(text.encode(), "a.vtt")


def words(*rows: tuple[str, float, float]) -> list[dict[str, Any]]:
    return [{"word": word, "start": start, "end": end} for word, start, end in rows]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_srt_is_read_whatever_its_line_ends_and_encoding(ending: str, encoding: str) -> None:
    cues = parse_captions(TWO.replace("\n", ending).encode(encoding), "Clip.SRT")
    assert cues == (Cue(1.0, 2.5, "Hello\nworld"), Cue(3.0, 4.0, "Bye"))


def test_srt_as_programs_really_write_it_is_read() -> None:
    text = (
        "\n\n00:01,5 --> 0:00:02.250 X1:40\n<i>No</i> <font color='red'>counter</font>\n\nafter a gap\n\n\n"
        "7\n00:00:05,000 --> 00:00:06,000\n<b>Seven</b>\n\n8\n00:00:07,000 --> 00:00:08,000\n \n"
    )
    assert srt(text) == (Cue(1.5, 2.25, "No counter\nafter a gap"), Cue(5.0, 6.0, "Seven"))


def test_vtt_is_read_without_its_notes_styles_settings_and_tags() -> None:
    text = (
        "WEBVTT - title\nKind: captions\n\nNOTE --> this is none\n00:09.000 --> 00:10.000\n\nSTYLE\n::cue {}\n\n"
        "intro\n00:01.000 --> 00:02.000 align:start position:10%\n<v Ann>Fish &amp; <c.loud>chips</c>\n\n"
        "01:00:00.000 --> 01:00:01.000\n1 &lt; 2 <00:00:01.500>now\n"
    )
    assert vtt(text) == (Cue(1.0, 2.0, "Fish & chips"), Cue(3600.0, 3601.0, "1 < 2 now"))


def test_overlapping_captions_follow_one_another_and_simultaneous_ones_are_one() -> None:
    text = (
        "1\n00:00:03,000 --> 00:00:09,000\nlate\n\n2\n00:00:01,000 --> 00:00:04,000\nearly\n\n"
        "3\n00:00:03,000 --> 00:00:05,000\ntoo\n"
    )
    assert srt(text) == (Cue(1.0, 3.0, "early"), Cue(3.0, 9.0, "late\ntoo"))


@pytest.mark.parametrize(
    ("data", "name", "code", "named"),
    [
        (b"", "a.srt", "captions_empty", "no text"),
        (b"1\n00:00:01,000 --> 00:00:02,000\n\n", "a.srt", "captions_empty", "no text"),
        (b"hello there", "a.srt", "captions_bad_timing", "line 1 "),
        (b"1\n00:00:01,000 --> soon\nx", "a.srt", "captions_bad_timing", "line 2 "),
        (b"1\n00:00:02,000 --> 00:00:01,000\nx", "a.srt", "captions_bad_timing", "line 2 "),
        (b"1\n00:00:01,000 --> 999:00:01,000\nx", "a.srt", "captions_bad_timing", "line 2 "),
        ("1\n00:00:01,000 --> 00:00:02,000\nfa\xe7ade".encode("latin-1"), "a.srt", "captions_not_text", "byte 34"),
        (b"\x7fELF\0\0\0", "a.srt", "captions_not_text", "NUL"),
        (b"\xff\xfe\x00", "a.srt", "captions_not_text", "UTF-8"),
        (TWO.encode(), "a.vtt", "captions_unknown_format", "WEBVTT"),
        (TWO.encode(), "a.ass", "captions_unknown_format", ".srt, .vtt, .json"),
        (b"x" * (MAX_BYTES + 1), "a.srt", "captions_too_large", "bytes"),
        (b"\n" * 70_000, "a.srt", "captions_too_large", "lines"),
        (b"1\n00:00:01,000 --> 00:00:02,000\n" + b"x" * 10_240, "a.srt", "captions_too_large", "line 3"),
        (b"1\n00:00:01,000 --> 00:00:02,000\n" + b"word " * 150, "a.srt", "captions_too_large", "749 characters"),
        (b"00:01.000 --> 00:02.000\nx\n\n" * 10_001, "a.srt", "captions_too_large", "10000"),
        (b"[", "a.json", "captions_bad_words", "JSON"),
        (b"[" * 100_000, "a.json", "captions_bad_words", "JSON"),
        (b"1" * 10_000, "a.json", "captions_bad_words", "JSON"),
        (b"{}", "a.json", "captions_bad_words", "list"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_a_code_and_the_place(
    data: bytes, name: str, code: str, named: str
) -> None:
    with pytest.raises(CaptionsInvalid) as caught:
        parse_captions(data, name)
    assert caught.value.code == code
    assert named in caught.value.message
    assert caught.value.remedy == PROBLEMS[code]
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "item",
    [
        "word", {"word": "a"}, {"word": 1, "start": 0, "end": 1}, {"word": "a", "start": "0", "end": 1},
        {"word": "a", "start": True, "end": 1}, {"word": "a", "start": 2, "end": 1},
        {"word": "a", "start": -1, "end": 1}, {"word": "a", "start": 0, "end": float("nan")},
        {"word": "a", "start": 0, "end": 10**400}, {"word": "a" * 61, "start": 0, "end": 1},
        {"word": "a", "start": 0, "end": 1, "speaker": 1},
    ],
)  # fmt: skip
def test_a_bad_word_is_named_by_its_number(item: Any) -> None:
    with pytest.raises(CaptionsInvalid, match="word 2") as caught:
        parse_words([*words(("fine", 0, 0.5)), item])
    assert caught.value.code == "captions_bad_words"


def test_words_out_of_order_are_refused() -> None:
    with pytest.raises(CaptionsInvalid, match="word 2 begins before"):
        parse_words(words(("b", 1, 2), ("a", 0, 0.5)))


def test_words_become_lines_at_pauses_sentences_and_lengths_people_can_read() -> None:
    spoken = words(
        ("One", 0.0, 0.2), ("two.", 0.3, 0.6), ("After", 0.7, 0.9), ("pause", 2.0, 2.2),
        *((f"word{n:02}", 3 + 0.1 * n, 3.1 + 0.1 * n) for n in range(8)),
    )  # fmt: skip
    cues = parse_words(spoken)
    assert [cue.text for cue in cues] == [
        "One two.", "After", "pause", "word00 word01 word02 word03", "word04 word05 word06 word07",
    ]  # fmt: skip
    assert (cues[0].start_s, cues[0].end_s) == (0.0, 0.7), "held until the next line, which follows closely"
    assert [word.text for word in cues[0].words] == ["One", "two."]


def test_no_control_or_direction_character_survives() -> None:
    assert clean_line("a\r\n\x1b[31mb\u202egnp.exe\u200b\u2066\ufeff\ue000x\ud800") == "a [31mbgnp.exex"
    assert clean_line("e" + "\u0301" * 50) == "\xe9\u0301\u0301", "no tower of accents"
    assert clean_line("co\xadoperate") == "cooperate"


def test_canonical_bytes_are_the_same_for_the_same_captions_of_any_file() -> None:
    from_vtt = vtt("WEBVTT\n\n00:01.000 --> 00:02.500\nHello\nworld\n\n00:03.000 --> 00:04.000\nBye")
    assert canonical_bytes(srt(TWO)) == canonical_bytes(from_vtt)
    assert captions_digest(srt(TWO)) != captions_digest(srt(TWO.replace("Bye", "bye")))
    assert captions_digest(srt(TWO)) != captions_digest(srt(TWO.replace("04,000", "04,001")))


def test_canonical_bytes_give_the_cues_back() -> None:
    spoken = parse_words(words(("Žluť", 0.1, 0.35), ("{x}", 0.4, 0.9)))
    assert from_canonical(canonical_bytes(spoken)) == spoken
    assert from_canonical(canonical_bytes(srt(TWO))) == srt(TWO)


def test_captions_follow_a_picture_whose_speed_was_changed() -> None:
    spoken = retimed(parse_words(words(("a", 1, 2))), lambda seconds: seconds / 2)
    assert (spoken[0].start_s, spoken[0].end_s, spoken[0].words[0].end_s) == (0.5, 1.0, 1.0)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    refused = []
    another = b"\n\n00:03.0 --> 00:04.0\nThen\n"
    for name, head, tail in (
        ("a.srt", b"", b""),
        ("a.srt", b"00:01.0 --> 00:02.0\nFirst\n", another),
        ("a.vtt", b"WEBVTT\n\n", another),
        ("a.json", b"", b""),
    ):
        try:
            cues = parse_captions(head + data + tail, name)
        except CaptionsInvalid as invalid:
            refused.append(invalid.code)
        else:
            assert all(cue.start_s < cue.end_s and cue.text for cue in cues)
            assert all(before.end_s <= after.start_s for before, after in pairwise(cues))
    assert set(refused) <= set(PROBLEMS)
