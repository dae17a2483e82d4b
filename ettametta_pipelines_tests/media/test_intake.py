"""Intake accepts an upload once and for all, or says in its row why it does not."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ettametta_pipelines.media.contracts import SOURCE_MEDIA
from ettametta_pipelines.media.intake import (
    Upload,
    UploadRefused,
    accept_upload,
    keep_sidecar,
    parse_upload_key,
    require_accepted,
)
from ettametta_pipelines.media.probe import IntakePolicy
from ettametta_pipelines.renders.captions import from_canonical
from ettametta_pipelines.storage.objects import ObjectMissing, ObjectStore
from ettametta_pipelines_tests.media.clips import clip, cut_short

NICHES = ("cooking", "diy")
KEY = "uploads/studio/cooking/2026/11/22/My_clip.mp4"
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("clips") / "good.mp4", extra=("-movflags", "+faststart"))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


def put(store: ObjectStore, content: bytes, key: str = KEY) -> Upload:
    store.put(key, content)
    sha256 = hashlib.sha256(content).hexdigest()
    return Upload(f"studio--{sha256[:16]}", key, "studio", "cooking", sha256)


def said(store: ObjectStore, upload: Upload, sidecar: bytes) -> Upload:
    """The upload with this sidecar, as the inbox keeps it."""
    store.put(upload.object_key + ".json", sidecar)
    return replace(upload, sidecar_sha256=keep_sidecar(store, upload.object_key + ".json"))


def accept(
    store: ObjectStore, upload: Upload, tmp_path: Path, policy: IntakePolicy | None = None
) -> dict[str, object]:
    scratch = tmp_path / "scratch"
    row = accept_upload(store, upload, scratch=scratch, clock=lambda: NOON, policy=policy or IntakePolicy())
    SOURCE_MEDIA.frame([row])
    assert list(scratch.iterdir()) == [], "nothing is left behind"
    return row


def test_a_key_is_taken_apart() -> None:
    upload = parse_upload_key(KEY, NICHES)
    assert (upload.account, upload.niche, upload.day.isoformat(), upload.name) == (
        "studio", "cooking", "2026-11-22", "My_clip.mp4"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("uploads/studio/cooking/clip.mp4", "bad_upload_key"),
        ("uploads/studio/cooking/2026/13/22/clip.mp4", "bad_upload_key"),
        ("uploads/studio/cooking/2026/02/30/clip.mp4", "bad_upload_key"),
        ("uploads/studio/cooking/2026/11/22/deeper/clip.mp4", "bad_upload_key"),
        ("uploads/Studio Nine/cooking/2026/11/22/clip.mp4", "bad_account"),
        ("uploads/studio/knitting/2026/11/22/clip.mp4", "unknown_niche"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(key: str, code: str) -> None:
    with pytest.raises(UploadRefused) as caught:
        parse_upload_key(key, NICHES)
    assert caught.value.code == code
    assert caught.value.remedy


def test_an_unknown_niche_names_the_known_ones_and_keeps_the_account() -> None:
    with pytest.raises(UploadRefused, match="cooking, diy") as caught:
        parse_upload_key("uploads/studio/knitting/2026/11/22/a.mp4", NICHES)
    assert (caught.value.account, caught.value.niche) == ("studio", "knitting")


def test_a_good_upload_is_stored_under_its_content(store: ObjectStore, good: Path, tmp_path: Path) -> None:
    sidecar = b'{"title": "First", "rights": "owned", "recipe": "clean", "brief_id": "0123456789abcdef"}'
    upload = said(store, put(store, good.read_bytes()), sidecar)
    row = accept(store, upload, tmp_path)
    assert row["verdict"] == "accepted"
    assert row["object_key"] == f"media/sources/{upload.sha256}.mp4"
    assert store.get(str(row["object_key"])) == good.read_bytes()
    assert (row["title"], row["rights"], row["recipe"]) == ("First", "owned", "clean")
    assert row["brief_id"] == "0123456789abcdef"
    assert (row["width"], row["height"], row["has_audio"], row["accepted_at"]) == (640, 360, True, NOON)
    require_accepted(row)


def test_without_a_sidecar_the_title_is_the_file_name_and_rights_are_undeclared(
    store: ObjectStore, good: Path, tmp_path: Path
) -> None:
    row = accept(store, put(store, good.read_bytes()), tmp_path)
    assert (row["title"], row["rights"], row["attribution"]) == ("My clip", "undeclared", None)


def test_what_was_said_about_a_video_outlives_the_file_at_its_path(
    store: ObjectStore, good: Path, tmp_path: Path
) -> None:
    upload = said(store, put(store, good.read_bytes()), b'{"rights": "owned", "title": "Mine"}')
    store.put(KEY, b"other footage")
    store.put(KEY + ".json", b'{"rights": "licensed", "title": "Theirs"}')
    store.put(f"media/sources/{upload.sha256}.mp4", good.read_bytes())
    row = accept(store, upload, tmp_path)
    assert (row["rights"], row["title"]) == ("owned", "Mine")


def test_accepting_twice_needs_the_upload_no_more(store: ObjectStore, good: Path, tmp_path: Path) -> None:
    upload = put(store, good.read_bytes())
    first = accept(store, upload, tmp_path)
    store.delete(KEY)
    assert accept(store, upload, tmp_path) == first
    store.put(KEY, b"something else")
    assert accept(store, upload, tmp_path) == first


def test_an_upload_replaced_before_it_was_accepted_is_rejected(
    store: ObjectStore, good: Path, tmp_path: Path
) -> None:
    upload = put(store, good.read_bytes())
    store.put(KEY, good.read_bytes() + b"tail")
    row = accept(store, upload, tmp_path)
    assert (row["verdict"], row["reason_code"]) == ("rejected", "upload_changed")
    assert not list(store.list("media/"))


def test_an_upload_that_vanished_is_an_error(store: ObjectStore, good: Path, tmp_path: Path) -> None:
    upload = put(store, good.read_bytes())
    store.delete(KEY)
    with pytest.raises(ObjectMissing):
        accept(store, upload, tmp_path)


def test_bad_files_become_rows_with_a_plain_sentence(store: ObjectStore, good: Path, tmp_path: Path) -> None:
    cut = cut_short(good, tmp_path / "cut.mp4").read_bytes()
    for content, code in ((b"", "empty_file"), (b"hello", "not_a_video"), (cut, "truncated_media")):
        row = accept(store, put(store, content), tmp_path)
        assert (row["verdict"], row["reason_code"]) == ("rejected", code)
        assert str(row["reason"]).startswith("My_clip.mp4 ")
        assert "object_key" not in row
    assert not list(store.list("media/"))


def test_a_bad_sidecar_rejects_the_upload_and_names_the_file_and_key(
    store: ObjectStore, good: Path, tmp_path: Path
) -> None:
    upload = said(store, put(store, good.read_bytes()), b'{"righst": "owned"}')
    row = accept(store, upload, tmp_path)
    assert row["reason_code"] == "bad_sidecar"
    assert "My_clip.mp4.json" in str(row["reason"])
    assert "righst" in str(row["reason"])
    assert not list(store.list("media/"))


def test_a_huge_upload_is_not_even_downloaded(store: ObjectStore, good: Path, tmp_path: Path) -> None:
    row = accept(store, put(store, good.read_bytes()), tmp_path, IntakePolicy(max_bytes=1000))
    assert row["reason_code"] == "too_large_file"


def test_odd_names_are_accepted_like_any_other(store: ObjectStore, good: Path, tmp_path: Path) -> None:
    for name in ("-y.mp4", "concat:a|b.mp4", "$(id);touch x.mp4", "img%03d.mp4"):
        key = f"uploads/studio/cooking/2026/11/22/{name}"
        assert parse_upload_key(key, NICHES).name == name
        assert accept(store, put(store, good.read_bytes(), key), tmp_path)["verdict"] == "accepted"


def test_going_on_from_a_rejected_source_is_refused_with_its_reason() -> None:
    from ettametta_pipelines.failures import PermanentError

    with pytest.raises(PermanentError) as caught:
        require_accepted(
            {"verdict": "rejected", "source_id": "a--1", "reason_code": "empty_file", "reason": "Empty."}
        )
    assert caught.value.code == "empty_file"


SRT = b"1\n00:00:00,500 --> 00:00:01,500\nHello there\n\n2\n00:00:01,600 --> 00:00:01,900\nBye\n"


@pytest.mark.parametrize("name", ["My_clip.mp4.srt", "My_clip.srt"])
def test_captions_beside_an_upload_are_stored_under_their_content(
    name: str, store: ObjectStore, good: Path, tmp_path: Path
) -> None:
    store.put(KEY.replace("My_clip.mp4", name), SRT)
    row = accept(store, put(store, good.read_bytes()), tmp_path)
    assert (row["verdict"], row["captions_cues"]) == ("accepted", 2)
    stored = store.get(str(row["captions_key"]))
    assert row["captions_key"] == f"media/captions/{hashlib.sha256(stored).hexdigest()}.json"
    assert [cue.text for cue in from_canonical(stored)] == ["Hello there", "Bye"]
    assert accept(store, put(store, good.read_bytes()), tmp_path) == row


def test_the_sidecar_may_name_captions_or_hold_the_words(
    store: ObjectStore, good: Path, tmp_path: Path
) -> None:
    upload = put(store, good.read_bytes())
    store.put(KEY + ".srt", b"no captions at all, and not looked at")
    store.put(KEY.replace("My_clip.mp4", "english.vtt"), b"WEBVTT\n\n00:00.500 --> 00:01.000\nHello")
    naming = said(store, upload, b'{"captions": "english.vtt"}')
    assert accept(store, naming, tmp_path)["captions_cues"] == 1
    words = [{"word": "Hello", "start": 0.5, "end": 0.9}, {"word": "there", "start": 0.9, "end": 1.2}]
    for sidecar, file in (({"words": words}, None), ({"captions": "w.json"}, words)):
        store.put(KEY.replace("My_clip.mp4", "w.json"), json.dumps(file).encode())
        row = accept(store, said(store, upload, json.dumps(sidecar).encode()), tmp_path)
        (cue,) = from_canonical(store.get(str(row["captions_key"])))
        assert [word.text for word in cue.words] == ["Hello", "there"]


@pytest.mark.parametrize(
    ("captions", "sidecar", "named"),
    [
        (
            b"not captions",
            {},
            "My_clip.mp4.srt are not taken: line 1 belongs to no time [captions_bad_timing]",
        ),
        (b"", {}, "[captions_empty]"),
        (b"\xff" * 50, {}, "[captions_not_text]"),
        (b"x" * (2 << 20) + b"x", {}, "[captions_too_large]"),
        ("1\n00:00:00,500 --> 00:00:01,500\n你好\n".encode(), {}, "[caption_glyphs_missing]"),
        (SRT, {"words": [{"word": "a"}]}, "My_clip.mp4.json are not taken: word 1 "),
        (SRT, {"captions": "absent.vtt"}, "absent.vtt are not taken: "),
        (SRT, {"captions": "...srt"}, "...srt are not taken: "),
    ],
)
def test_bad_captions_are_named_and_the_video_goes_on_without_them(
    captions: bytes, sidecar: dict[str, object], named: str, store: ObjectStore, good: Path, tmp_path: Path
) -> None:
    store.put(KEY + ".srt", captions)
    stated = json.dumps(sidecar | {"rights": "owned"}).encode()
    row = accept(store, said(store, put(store, good.read_bytes()), stated), tmp_path)
    assert (row["verdict"], row["rights"]) == ("accepted", "owned")
    assert "captions_key" not in row
    assert named in str(row["captions_problem"])
    assert not list(store.list("media/captions/"))
