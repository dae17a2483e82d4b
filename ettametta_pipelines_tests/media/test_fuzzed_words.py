"""Whatever strangers write beside a video or into its name: taken or refused in our own words, nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.intake import UploadRefused, parse_upload_key
from ettametta_pipelines.media.sidecar import SidecarInvalid, parse_sidecar, title_from_name
from ettametta_pipelines.renders.captions import PROBLEMS, CaptionsInvalid, parse_captions
from ettametta_pipelines.storage.addressing import check_key, is_key
from ettametta_pipelines.storage.notifications import created_keys
from ettametta_pipelines.untrusted import plain_text
from ettametta_pipelines_tests.fuzz import FRAGMENTS, misfitting, spoilt, tried

pytestmark = pytest.mark.fuzz

SIDECAR = {
    "title": "Knives", "rights": "owned", "recipe": "clean", "words": [{"word": "a", "start": 0, "end": 1}],
    "broll_keywords": ["a", "b"], "language": "en", "brief_id": "0123456789abcdef", "paid_promotion": True,
    "music": {"title": "Song", "rights": "licensed", "licence": "x"},
}  # fmt: skip
SRT = b"1\n00:00:00,300 --> 00:00:01,100\n<i>It's</i> here\n\n2\n00:00:01,200 --> 00:00:02,000\nTwo\nlines &amp; more\n"
VTT = b"WEBVTT\n\nNOTE x\n\nid\n00:00.300 --> 00:01.100 align:start\n<v Ann>It's</v> <00:00.500>here\n"
WORDS = [{"word": "one", "start": 0.1, "end": 0.5}, {"word": "two.", "start": 0.5, "end": 0.9}]
KEY = b"uploads/acme/travel/2026/11/20/clip one.mp4"
RECORD = {
    "Records": [
        {
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "b"}, "object": {"key": "p/uploads/a+b%20c.mp4"}},
        }
    ]
}
EVENT = {"detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": {"key": "p/x.mp4"}}}
TOPIC = {"Type": "Notification", "Message": json.dumps(RECORD)}


def is_storable(text: str | None) -> bool:
    """Whether any database and any file takes it."""
    return text is None or ("\0" not in text and text.encode("utf-8", "replace").decode() == text)


@tried(120)
@given(data=spoilt([json.dumps(SIDECAR).encode()]) | misfitting([SIDECAR]))
def test_a_sidecar_is_read_or_refused_in_one_readable_sentence(data: bytes) -> None:
    try:
        sidecar = parse_sidecar(data)
    except SidecarInvalid as refusal:
        said = str(refusal)
        assert said.isprintable()
        assert len(said) < 5_000
    else:
        texts = [
            sidecar.title,
            sidecar.captions,
            sidecar.recipe,
            sidecar.brief_id,
            *(sidecar.broll_keywords or []),
        ]
        assert all(map(is_storable, texts))
        json.dumps(sidecar.words).encode()


@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000, "1e999999"])
def test_a_number_of_thousands_of_digits_in_a_sidecar_is_refused(number: str) -> None:
    with pytest.raises(SidecarInvalid):
        parse_sidecar(b'{"title": %s}' % number.encode())


@tried(120)
@given(
    made=st.tuples(spoilt([SRT]), st.just("a.srt"))
    | st.tuples(spoilt([VTT]), st.just("a.vtt"))
    | st.tuples(spoilt([json.dumps(WORDS).encode()]), st.just("a.json"))
    | st.tuples(spoilt([SRT, VTT]), st.sampled_from(["a", "a.mp4", "a.SRT"]))
)
def test_captions_become_cues_in_order_or_a_known_problem(made: tuple[bytes, str]) -> None:
    try:
        cues = parse_captions(*made)
    except CaptionsInvalid as refusal:
        code = refusal.code
        assert code in PROBLEMS
        return
    assert cues
    before = 0.0
    for cue in cues:
        assert before <= cue.start_s < cue.end_s <= 24 * 3600
        assert cue.text.strip()
        assert is_storable(cue.text)
        before = cue.end_s


@tried(120)
@given(name=spoilt([KEY]))
def test_an_upload_key_is_taken_apart_or_refused(name: bytes) -> None:
    key = name.decode("utf-8", "surrogateescape")
    if not is_key(key):
        with pytest.raises(PermanentError) as failure:
            check_key(key)
        assert str(failure.value).isprintable()
    try:
        upload = parse_upload_key(key, ["travel"])
    except UploadRefused as refusal:
        code = refusal.code
        assert code in ("bad_upload_key", "bad_account", "unknown_niche")
    else:
        assert (upload.niche, "/" in upload.name) == ("travel", False)
        assert is_storable(title_from_name(upload.name)) or not is_key(key)


@tried(120)
@given(
    body=spoilt([json.dumps(d).encode() for d in (RECORD, EVENT, TOPIC)]) | misfitting([RECORD, EVENT, TOPIC])
)
def test_a_notification_yields_keys_or_says_that_it_is_none(body: bytes) -> None:
    try:
        keys = list(created_keys(body.decode("utf-8", "replace"), "b", "p/"))
    except ValueError as odd:
        kind = type(odd)
        assert kind is not ValueError, "an unreadable one is told by a class of its own"
    else:
        assert all(isinstance(key, str) for key in keys)


@tried(120)
@given(text=st.text(st.characters(), max_size=200), limit=st.integers(1, 60))
def test_plain_text_is_one_visible_line_and_stays_as_it_is(text: str, limit: int) -> None:
    line = plain_text(text, limit)
    assert len(line) <= limit
    assert is_storable(line)
    assert len(line.splitlines()) <= 1
    assert plain_text(line, limit) == line


def test_every_fragment_alone_is_refused_everywhere() -> None:
    for fragment in FRAGMENTS:
        if fragment != b"{}":
            with pytest.raises(SidecarInvalid):
                parse_sidecar(fragment)
        for name in ("a.srt", "a.vtt", "a.json"):
            with pytest.raises(CaptionsInvalid):
                parse_captions(fragment, name)
