"""The look back: what a channel has posted is found in other clothes, named with its link, and stops nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ettametta_pipelines.media.imprint import Imprint
from ettametta_pipelines.publishing.connections import connect, disconnect
from ettametta_pipelines.publishing.evidence import gather
from ettametta_pipelines.publishing.posted_before import LookBack, look_back, obtain_imprint
from ettametta_pipelines.renders.library import imprint_key
from ettametta_pipelines_tests.media.clips import ffmpeg
from ettametta_pipelines_tests.media.scenes import film
from ettametta_pipelines_tests.publishing.conftest import ACCOUNT, Publisher

NEW = "acme--fedcba9876543210"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A film, the same mirrored and faster, and another."""
    folder = tmp_path_factory.mktemp("films")
    one = film(folder / "one.mp4", 1, seconds=5, size=(360, 640))
    again = folder / "again.mp4"
    ffmpeg("-i", str(one), "-vf", "hflip,setpts=PTS/1.1", "-af", "atempo=1.1", "-threads", "1", str(again))
    other = film(folder / "other.mp4", 2, seconds=5, size=(360, 640))
    return {path.stem: path.read_bytes() for path in (one, again, other)}


@pytest.fixture
def posted(publisher: Publisher, films: dict[str, bytes], tmp_path: Path) -> Publisher:
    """A worker whose channel has posted `one`, with its imprint kept beside it."""
    order = publisher.order("youtube", films["one"], title="Knife skills")
    publisher.to_youtube(order)
    obtain_imprint(publisher.workshop.store, order.rendition.object_key, scratch=tmp_path)
    return publisher


def seen(
    publisher: Publisher, data: bytes, scratch: Path, platform: str = "youtube", source: str = NEW
) -> LookBack:
    key = f"media/renditions/{source}/9x16/new.mp4"
    publisher.workshop.store.put(key, data)
    return look_back(
        publisher.workshop.db, publisher.workshop.store, platform, ACCOUNT, source, key, scratch=scratch
    )


def test_a_mirrored_and_faster_copy_names_the_post_its_link_and_the_kind(
    posted: Publisher, films: dict[str, bytes], tmp_path: Path
) -> None:
    found = seen(posted, films["again"], tmp_path)
    (post,) = found.found
    assert (post.likeness.kind, post.title) == ("mirrored picture and sound", "Knife skills")
    assert post.url is not None
    assert post.url in found.in_words
    assert not found.is_clean


def test_other_footage_is_not_warned_of(posted: Publisher, films: dict[str, bytes], tmp_path: Path) -> None:
    found = seen(posted, films["other"], tmp_path)
    assert (found.is_clean, found.compared) == (True, 1)
    assert "None of 1" in found.in_words


def test_only_the_channels_own_posts_of_other_sources_are_looked_at(
    posted: Publisher, films: dict[str, bytes], tmp_path: Path
) -> None:
    assert seen(posted, films["again"], tmp_path, platform="tiktok").compared == 0
    own = seen(posted, films["again"], tmp_path, source="acme--0123456789abcdef")
    assert (own.compared, own.is_clean) == (0, True)


def test_a_post_without_an_imprint_is_counted_and_said(
    posted: Publisher, films: dict[str, bytes], tmp_path: Path
) -> None:
    store = posted.workshop.store
    (key,) = [info.key for info in store.list("media/renditions/") if info.key.endswith(".imprint")]
    store.put(key, b"of another revision")
    found = seen(posted, films["again"], tmp_path)
    assert (found.found, found.compared, found.unknown) == ((), 0, 1)
    assert "1 earlier posts have no imprint" in found.in_words


def test_what_cannot_be_compared_is_a_warning_and_not_a_failure(posted: Publisher, tmp_path: Path) -> None:
    found = seen(posted, b"no video at all", tmp_path)
    assert not found.is_clean
    assert "could not be compared" in found.in_words


def test_an_imprint_is_taken_once_and_kept_beside_the_rendition(
    posted: Publisher, films: dict[str, bytes], tmp_path: Path
) -> None:
    store, key = posted.workshop.store, "media/renditions/x/9x16/y.mp4"
    store.put(key, films["other"])
    first = obtain_imprint(store, key, scratch=tmp_path)
    store.put(key, b"gone")
    again = obtain_imprint(store, key, scratch=tmp_path)
    assert (first.marks == again.marks).all()
    assert np.array_equal(Imprint.from_bytes(store.get(imprint_key(key))).course, first.course)


def test_evidence_shows_rights_as_a_table_that_strangers_text_cannot_break(
    posted: Publisher, films: dict[str, bytes], tmp_path: Path
) -> None:
    order = posted.order("youtube", films["other"])
    order = replace(order, rendition=replace(order.rendition, source_id=NEW))
    source = {
        "source_id": NEW, "account": ACCOUNT, "upload_key": "uploads/a|b.mp4", "rights": "cc_by",
        "attribution": "A [b](http://c) | d",
    }  # fmt: skip
    evidence = gather(posted.workshop, order, {}, source, scratch=tmp_path)
    header, _, row = evidence.rights_table.splitlines()
    assert header == "| input | what | right | credit | licence | evidence | declared by | standing |"
    assert row.replace("\\|", "").count("|") == header.count("|")
    assert "](http" not in row
    assert evidence.look_back.compared == 1


def test_what_a_channel_posted_for_another_account_counts_and_what_another_channel_did_not(
    posted: Publisher, films: dict[str, bytes], tmp_path: Path
) -> None:
    db, app, envelope = posted.workshop.db, posted.youtube_app, posted.workshop.envelope
    disconnect(db, app, lambda _: None, ACCOUNT, "youtube", envelope=envelope)
    assert seen(posted, films["again"], tmp_path).compared == 1
    connect(db, app, "beta", "youtube", f"sandbox-{ACCOUNT}", envelope=envelope)
    connect(db, app, ACCOUNT, "youtube", "sandbox-elsewhere", envelope=envelope)
    found = {
        account: look_back(
            db, posted.workshop.store, "youtube", account, NEW, f"media/renditions/{NEW}/9x16/new.mp4",
            scratch=tmp_path,
        ).compared
        for account in ("beta", ACCOUNT)
    }  # fmt: skip
    assert found == {"beta": 1, ACCOUNT: 0}
