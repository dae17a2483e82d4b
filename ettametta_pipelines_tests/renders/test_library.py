"""The library renders what is missing, once, and keeps nothing that failed a check."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.imprint import Imprint
from ettametta_pipelines.media.subject import Extent, ShotTrack, Sighting, SubjectTrack
from ettametta_pipelines.renders.caption_drawing import CaptionReport
from ettametta_pipelines.renders.captions import Cue, canonical_bytes
from ettametta_pipelines.renders.library import (
    Rendition,
    RenditionOrder,
    imprint_key,
    obtain_renditions,
    report_key,
    segments_key,
)
from ettametta_pipelines.renders.recipe import Captions, Grain, Recipe, SpeedRamp, VoiceOver
from ettametta_pipelines.renders.tempo import rendered_duration
from ettametta_pipelines.renders.voiceover import VoiceWish
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.media.clips import clip

SOURCE_ID = "studio--0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


@pytest.fixture
def order(store: ObjectStore, tmp_path: Path) -> RenditionOrder:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=25:d=1.2", sound="sine=d=1.2")
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    key = f"media/sources/{sha256}.mp4"
    store.put_file(key, source)
    return RenditionOrder(SOURCE_ID, key, sha256, 1.2, True, Recipe(name="plain"), 1, None)


def obtain(store: ObjectStore, order: RenditionOrder, tmp_path: Path, *formats: str) -> dict[str, Rendition]:
    scratch = tmp_path / "scratch"
    made = {r.format.name: r for r in obtain_renditions(store, order, formats, scratch=scratch)}
    assert list(scratch.iterdir()) == []
    return made


def test_what_exists_is_not_rendered_again(store: ObjectStore, order: RenditionOrder, tmp_path: Path) -> None:
    first = obtain(store, order, tmp_path, "1x1")["1x1"]
    assert first.rendered
    assert first.object_key == f"media/renditions/{SOURCE_ID}/1x1/{first.render_key}.mp4"
    assert hashlib.sha256(store.get(first.object_key)).hexdigest() == first.sha256
    again = obtain(store, order, tmp_path, "16x9", "1x1")
    assert (again["1x1"].rendered, again["16x9"].rendered) == (False, True)
    assert again["1x1"].sha256 == first.sha256
    assert again["1x1"].poster[:2] == b"\xff\xd8"
    imprint = Imprint.from_bytes(store.get(imprint_key(first.object_key)))
    assert len(imprint.marks)
    assert len(imprint.course) == 6


def test_a_ramped_rendition_is_found_again_though_it_is_not_as_long_as_its_source(
    store: ObjectStore, order: RenditionOrder, tmp_path: Path
) -> None:
    ramped = Recipe(name="ramped", speed_ramp=SpeedRamp())
    seed = max(range(20), key=lambda seed: rendered_duration(ramped, seed, order.duration_s))
    order = replace(order, recipe=ramped, seed=seed)
    first = obtain(store, order, tmp_path, "1x1")["1x1"]
    assert first.probe.duration_s > order.duration_s + 0.03
    again = obtain(store, order, tmp_path, "1x1")["1x1"]
    assert (again.rendered, again.sha256) == (False, first.sha256)


def test_another_recipe_or_seed_lies_beside_the_first(
    store: ObjectStore, order: RenditionOrder, tmp_path: Path
) -> None:
    first = obtain(store, order, tmp_path, "1x1")["1x1"]
    other = obtain(
        store, replace(order, recipe=Recipe(name="plain", grain=Grain(strength=3))), tmp_path, "1x1"
    )["1x1"]
    assert other.rendered
    assert other.object_key != first.object_key
    assert store.exists(first.object_key)


def test_another_text_is_another_rendition_of_the_same_picture(
    store: ObjectStore, order: RenditionOrder, tmp_path: Path
) -> None:
    spoken = Recipe(name="spoken", voice_over=VoiceOver(start_s=0))
    order = replace(order, recipe=spoken)
    silent = obtain(store, order, tmp_path, "1x1")["1x1"]
    one, two = (
        obtain(store, replace(order, voice=VoiceWish(text)), tmp_path, "1x1")["1x1"]
        for text in ("Yes.", "No.")
    )
    assert len({silent.render_key, one.render_key, two.render_key}) == 3
    assert one.voice is not None
    parts = [json.loads(store.get(segments_key(made.object_key)))["segments"] for made in (silent, one, two)]
    assert parts[0] == parts[1] == parts[2]
    assert not obtain(store, replace(order, voice=VoiceWish("Yes.")), tmp_path, "1x1")["1x1"].rendered


def test_a_stored_rendition_that_was_damaged_is_made_again(
    store: ObjectStore, order: RenditionOrder, tmp_path: Path
) -> None:
    first = obtain(store, order, tmp_path, "1x1")["1x1"]
    store.put(first.object_key, store.get(first.object_key)[:5000])
    again = obtain(store, order, tmp_path, "1x1")["1x1"]
    assert again.rendered
    assert again.sha256 == first.sha256
    assert hashlib.sha256(store.get(first.object_key)).hexdigest() == first.sha256


@pytest.mark.parametrize("report", [b"{}", b"no json", b'{"revision": 1}', None])
def test_a_rendition_nothing_vouches_for_is_made_and_checked_again(
    report: bytes | None, store: ObjectStore, order: RenditionOrder, tmp_path: Path
) -> None:
    first = obtain(store, order, tmp_path, "1x1")["1x1"]
    key = report_key(first.object_key)
    vouched = store.get(key)
    if report is None:
        store.delete(key)
    else:
        store.put(key, report)
    again = obtain(store, order, tmp_path, "1x1")["1x1"]
    assert again.rendered
    assert store.get(key) == vouched
    found = obtain(store, order, tmp_path, "1x1")["1x1"]
    assert not found.rendered
    assert [f.name for f in found.findings] == [f.name for f in again.findings]


def test_a_failed_render_stores_nothing(store: ObjectStore, order: RenditionOrder, tmp_path: Path) -> None:
    before = [info.key for info in store.list("media/")]
    store.put(order.source_key, b"\x00\x00\x00\x18ftypisom" + bytes(100))
    with pytest.raises(PermanentError) as caught:
        obtain(store, order, tmp_path, "1x1")
    assert caught.value.code == "truncated_media"
    assert [info.key for info in store.list("media/")] == before
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_subject_at_the_side_is_another_rendition_only_where_it_moves_the_camera(
    store: ObjectStore, order: RenditionOrder, tmp_path: Path
) -> None:
    def seen_at(x: float) -> RenditionOrder:
        extent = Extent(x, 0.5, 0.05, 0.1)
        seen = tuple(Sighting(place / 4, extent, extent, 0.9) for place in range(4))
        key = f"media/analysis/{SOURCE_ID}/subject_{x}.json"
        store.put(key, SubjectTrack(16 / 9, (ShotTrack(0.0, 1.2, "faces", 4, seen),)).as_json())
        return replace(order, subject_key=key)

    without = obtain(store, order, tmp_path, "16x9", "1x1")
    middle = obtain(store, seen_at(0.5), tmp_path, "16x9", "1x1")
    assert [r.rendered for r in middle.values()] == [False, False]
    side = obtain(store, seen_at(0.2), tmp_path, "16x9", "1x1")
    assert [side[name].rendered for name in ("16x9", "1x1")] == [False, True]
    assert side["1x1"].render_key != without["1x1"].render_key
    assert side["1x1"].path is not None
    assert not obtain(store, seen_at(0.2), tmp_path, "1x1")["1x1"].rendered


def test_a_changed_caption_is_rendered_anew_and_an_unchanged_one_is_found(
    store: ObjectStore, order: RenditionOrder, tmp_path: Path
) -> None:
    def captioned(text: str) -> RenditionOrder:
        data = canonical_bytes([Cue(0.2, 0.8, text)])
        key = f"media/captions/{hashlib.sha256(data).hexdigest()}.json"
        store.put(key, data)
        return replace(order, recipe=Recipe(name="plain", captions=Captions()), captions_key=key)

    first = obtain(store, captioned("Hello"), tmp_path, "1x1")["1x1"]
    assert (first.rendered, first.captions) == (True, CaptionReport(1, 0, ""))
    again = obtain(store, captioned("Hello"), tmp_path, "1x1")["1x1"]
    assert (again.rendered, again.captions, again.sha256) == (False, first.captions, first.sha256)
    other = obtain(store, captioned("Hullo"), tmp_path, "1x1")["1x1"]
    assert other.rendered
    assert other.render_key != first.render_key
    silent = replace(captioned("Hullo"), recipe=order.recipe)
    assert obtain(store, silent, tmp_path, "1x1")["1x1"].captions is None
