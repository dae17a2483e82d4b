"""A short selection of the hostile inputs through the real upload path; `make hostile` sends all of them."""

import os
import re
from pathlib import Path

import pytest

from ettametta_pipelines.media.inbox import scan_inbox
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage import directory
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.faults import hostile
from ettametta_pipelines_tests.faults.hostile import play, play_in_bucket
from ettametta_pipelines_tests.faults.hostile_bucket import BUCKET_UPLOADS, BucketUpload
from ettametta_pipelines_tests.faults.hostile_corpus import NUMBERED, HostileUpload, corpus
from ettametta_pipelines_tests.media.hostile_files import HOSTILE_FILES

CHOSEN = {
    "concat of the file beside it", "HLS to a file as mp4", "media in the neighbour's file", "a pipe", "a folder",
    "a link to the neighbour", "a link to /dev/zero", "an upload under way", "replaced between tick and run",
    "a sidecar that names another folder", "a sidecar nested 30 000 deep",
    *(f"a good video named {name!r}" for name in ("two\nlines.mp4", "\x1b[31mred.mp4")),
}  # fmt: skip


def test_hostile_uploads_are_refused_by_name_and_the_next_good_one_is_rendered(
    settings_env: Settings,
) -> None:
    chosen = [upload for upload in corpus() if upload.what in CHOSEN]
    assert len(chosen) == len(CHOSEN)
    rows, leaked = play(settings_env.home_dir, chosen, lambda row: None)
    assert {row.upload.what: row.broken for row in rows if row.broken} == {}
    assert leaked == []
    assert rows[-1].verdict == "accepted"


# What has to be sent, by number, in the words of the list; each is in the corpus under its number.
INPUTS = {
    1: "zero bytes", 2: "ftyp only", 3: "moov missing", 4: "faststart cut at 60 %", 5: "random bytes",
    6: "400 flipped bytes", 7: "text, HTML, JSON as .mp4", 8: "zip prefix", 9: "mp4 with an HTML tail",
    10: "HLS to http", 11: "HLS to file", 12: "HLS nesting concat, crypto, subfile", 13: "ffconcat absolute",
    14: "ffconcat to the tenant beside", 15: "ffconcat address", 16: "DASH", 17: "SDP", 18: "SVG with addresses",
    19: "txt, ansi, xbin, srt", 20: "AVI with GAB2 playlist", 21: "PNG 20000x20000", 22: "12000x12000 in mov",
    23: "gap of 12 h", 24: "1000 fps", 25: "10 h in a tiny file", 26: "1x1 and odd sizes", 27: "60 and 1000 streams",
    28: "audio only", 29: "cover art only", 30: "video only", 31: "rare codecs", 32: "hostile tags and sidecars",
    33: "drawtext payloads", 34: "attachment ../../evil.ttf", 35: "ASS track with fonts",
    36: "FIFO, device, links, folder", 37: "growing file", 38: "endless body", 39: "odd keys and names", 40: "CENC",
    41: "huge and compressed index", 42: "negative and huge durations, no timescale", 43: "GIF, APNG, WebP",
    44: "tracker, chiptune", 45: "rotated, SAR 4:3", 46: "HDR10", 47: "VFR", 48: "the same bytes twice",
    49: "overwritten meanwhile", 50: "half-finished multipart",
}  # fmt: skip


def test_every_input_of_the_list_is_in_the_corpus_under_its_number() -> None:
    sent: list[HostileUpload | BucketUpload] = [*corpus(), *BUCKET_UPLOADS]
    numbers = {int(number) for each in sent for number in re.findall(r"\d+", each.number)}
    assert sorted(INPUTS) == list(range(1, 51))
    assert numbers == set(INPUTS)
    # No file is named that is not there, and none of the files that are there goes without a number.
    named = {what for whats in NUMBERED.values() for what in whats}
    assert named == set(HOSTILE_FILES)


def test_the_inputs_of_a_kind_are_all_there() -> None:
    whats: dict[str, list[str]] = {}
    sent: list[HostileUpload | BucketUpload] = [*corpus(), *BUCKET_UPLOADS]
    for each in sent:
        whats.setdefault(each.number, []).append(each.what)
    assert {"a pipe", "a folder", "a link to /dev/zero", "a hard link to the neighbour"} <= set(whats["36"])
    assert {"a body that never ends", "a body of an exabyte"} <= set(whats["38"])
    assert "an upload in parts that is never completed" in whats["50"]
    assert {"captions and titles that attack", "a caption of 10 KB"} <= set(whats["33"])


def test_floods_and_unfinished_uploads_in_a_bucket_take_nothing_and_the_next_good_one_is_rendered(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tuple(
        each for each in BUCKET_UPLOADS
        if each.number == "50" or each.in_tick or "after all" in each.what or "../../x" in each.what
    )  # fmt: skip
    monkeypatch.setattr(hostile, "BUCKET_UPLOADS", chosen)
    rows, leaked = play_in_bucket(settings_env.home_dir, lambda row: None)
    assert {row.upload.what: row.broken for row in rows if row.broken} == {}
    assert leaked == []
    assert rows[-1].verdict == "accepted"


def test_a_file_with_another_name_is_named_and_not_taken_until_it_has_one_only(
    tmp_path: Path, database: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    folder = tmp_path / "store/uploads/acme/travel/2026/11/20"
    folder.mkdir(parents=True)
    (tmp_path / "neighbour.mp4").write_bytes(b"neighbour")
    os.utime(tmp_path / "neighbour.mp4", (1, 1))
    (folder / "clip.mp4").hardlink_to(tmp_path / "neighbour.mp4")
    # Just linked, it may be one that is being created: nobody is told yet.
    scan = scan_inbox(store, database, ["travel"])
    assert (scan.arrivals, scan.refusals) == ([], [])
    monkeypatch.setattr(directory, "CREATING_S", 0.0)
    scan = scan_inbox(store, database, ["travel"])
    assert [refused.code for refused in scan.refusals] == ["not_a_regular_file"]
    assert "another name" in scan.refusals[0].message
    (tmp_path / "neighbour.mp4").unlink()
    assert len(scan_inbox(store, database, ["travel"]).arrivals) == 1
