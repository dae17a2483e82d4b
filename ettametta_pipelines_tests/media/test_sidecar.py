"""The sidecar says what a video is; what it misspells is refused, never passed over."""

import json

import pytest

from ettametta_pipelines.media.rights import publishing_obstacle
from ettametta_pipelines.media.sidecar import (
    MAX_BYTES,
    Sidecar,
    SidecarInvalid,
    parse_sidecar,
    title_from_name,
)


def test_every_key_may_be_left_out() -> None:
    sidecar = parse_sidecar(b"{}")
    assert sidecar.declared_rights == "undeclared"
    assert sidecar.title_for("my_trip-2.MP4") == "my trip 2"


def test_a_full_sidecar_is_read() -> None:
    stated = {
        "title": "Ünser  Ausflug",
        "rights": "cc_by",
        "attribution": "A by B, CC BY 4.0",
        "recipe": "clean",
    }
    sidecar = parse_sidecar(b"\xef\xbb\xbf" + json.dumps(stated).encode())
    assert sidecar == Sidecar(
        title="Ünser Ausflug", rights="cc_by", attribution="A by B, CC BY 4.0", recipe="clean"
    )


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"not json", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[1]", "not a JSON object"),
        (
            b'{"righst": "owned"}',
            "'righst' is not a key it may have (title, rights, attribution, recipe, captions, words, "
            "broll_keywords, voice_over, language, brief_id, music, sponsor, paid_promotion)",
        ),
        (b'{"rights": "mine"}', "rights: "),
        (b'{"title": 7}', "title: "),
        (b'{"title": "\\u202e \\u200b"}', "title: has no visible text"),
        (b'{"recipe": "../../etc/passwd"}', "recipe: "),
        (b'{"captions": "../other/a.srt"}', "captions: "),
        (b'{"captions": "a.ass"}', "captions: "),
        (b'{"broll_keywords": " , "}', "broll_keywords: "),
        (b'{"broll_keywords": ["a", 7]}', "broll_keywords: "),
        (b'{"broll_keywords": ["a\\n", "\\u200b"]}', "broll_keywords: has no visible text"),
        (json.dumps({"broll_keywords": "x" * 41}).encode(), "broll_keywords: "),
        (json.dumps({"broll_keywords": ["x"] * 13}).encode(), "broll_keywords: "),
        (json.dumps({"voice_over": "x" * 5_001}).encode(), "voice_over: "),
        (b'{"voice_over": "\\u200b"}', "voice_over: has no visible text"),
        (b'{"language": "English"}', "language: "),
        (b'{"captions": "a.srt", "words": []}', "state captions or words, not both"),
        (json.dumps({"title": "x" * 101}).encode(), "title: "),
        (b" " * (MAX_BYTES + 1), "more than"),
        (b"[" * 60_000, "not JSON"),
    ],
)
def test_what_cannot_be_used_is_named(content: bytes, named: str) -> None:
    with pytest.raises(SidecarInvalid) as caught:
        parse_sidecar(content)
    assert named in str(caught.value)


def test_keywords_of_cutaways_may_be_a_list_or_a_line() -> None:
    for stated in ('["knives", "red onions"]', '"knives, red  onions,"'):
        sidecar = parse_sidecar(f'{{"broll_keywords": {stated}}}'.encode())
        assert sidecar.broll_keywords == ["knives", "red onions"]


def test_control_and_direction_characters_do_not_reach_the_title() -> None:
    sidecar = parse_sidecar(json.dumps({"title": "a\r\n\x1b[31mb\u202egnp.exe"}).encode())
    assert sidecar.title == "a [31mb gnp.exe"


def test_titles_are_made_from_odd_names_too() -> None:
    assert title_from_name("___.mp4") == "Untitled"
    assert len(title_from_name("x" * 250 + ".mp4")) == 100


def test_an_operator_is_told_what_keeps_footage_from_being_published() -> None:
    assert publishing_obstacle("owned", None) is None
    assert publishing_obstacle("cc_by", "A by B") is None
    assert "attribution" in str(publishing_obstacle("cc_by", None))
    assert "No right is declared" in str(publishing_obstacle("undeclared", None))
