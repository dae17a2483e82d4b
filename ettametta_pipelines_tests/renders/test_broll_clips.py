"""Clips are found, kept and pinned; what cannot be had is named; none comes in without a right or twice."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines.failures import PermanentError, PipelineError, TransientError
from ettametta_pipelines.renders.broll import BrollReport
from ettametta_pipelines.renders.broll_clips import (
    BrollOrder,
    FolderShelf,
    PexelsShelf,
    Shelf,
    StoreShelf,
    load_cutaways,
    obtain_broll,
)
from ettametta_pipelines.renders.recipe import Broll, Recipe
from ettametta_pipelines.sandbox import pexels as sandbox_pexels
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.vendors.pexels import PexelsClient
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.media.clips import clip

RECIPE = Recipe(name="story", broll=Broll(every_s=5, length_s=2, share=0.5))
VIDEO, PAGE = {"content-type": "video/mp4"}, {"content-type": "text/html"}
ORDER = BrollOrder(
    "ab" * 32, 24.0, Fraction(25), 1280, 720, (0.0, 4.0, 9.0, 15.0), ("ocean", "surf"), "studio"
)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


Stock = Callable[[], Shelf]


@pytest.fixture
def stock(sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> Stock:
    """Stock footage over HTTP, its files small so that they are drawn at once."""
    monkeypatch.setattr(sandbox_pexels, "QUALITIES", {"sd": (160, 90), "hd": (320, 180)})

    def shelf() -> Shelf:
        where = VendorEndpoint("pexels", "sandbox", f"{sandbox.url}/pexels/", "test")
        return PexelsShelf(PexelsClient(where, sleep=lambda seconds: None), 1280, 720)

    return shelf


@pytest.fixture
def obtain(store: ObjectStore, tmp_path: Path) -> Callable[..., BrollReport]:
    def run(
        shelves: Sequence[Shelf], order: BrollOrder = ORDER, recipe: Recipe = RECIPE, seed: int = 1
    ) -> BrollReport:
        report = obtain_broll(store, order, recipe, seed, shelves, scratch=tmp_path / "scratch")
        assert not list(tmp_path.glob("scratch/*"))
        return report

    return run


Obtain = Callable[..., BrollReport]


def own_clip(store: ObjectStore, name: str, colour: str, tmp_path: Path, **note: Any) -> None:
    made = clip(tmp_path / "own.mp4", picture=f"color={colour}:s=320x180:r=25:d=4", sound=None)
    store.put_file(f"library/studio/{name}", made)
    if note:
        store.put(f"library/studio/{name}.json", json.dumps(note).encode())


def test_clips_are_kept_with_their_origin_and_never_twice_in_a_video(
    obtain: Obtain, stock: Stock, store: ObjectStore, tmp_path: Path
) -> None:
    report = obtain([stock()])
    assert len(report.placed) >= 2
    assert report.skipped == ()
    assert len({p.clip.vendor_id for p in report.placed}) == len(report.placed)
    assert len({p.clip.sha256 for p in report.placed}) == len(report.placed)
    assert {p.clip.query for p in report.placed} == {"ocean", "surf"}
    for placed in report.placed:
        assert placed.clip.object_key == f"media/broll/{placed.clip.sha256}.mp4"
        assert (placed.clip.rights, placed.clip.licence) == ("licensed", "Pexels License")
        assert placed.clip.credit == f"Footage: {placed.clip.author} / Pexels"
        record = json.loads(
            store.get(f"media/broll/{placed.clip.sha256}.pexels-{placed.clip.vendor_id}.json")
        )
        assert record["url"].startswith("https://www.pexels.com/video/")
        assert record["fetched_at"].endswith("Z")
        assert placed.in_s + (placed.slot.end - placed.slot.start) / 25 < placed.clip.duration_s
    cutaways = load_cutaways(store, report, tmp_path / "work")
    assert [(c.start_s, c.end_s) for c in cutaways] == [
        (p.slot.start / 25, p.slot.end / 25) for p in report.placed
    ]
    store.put(report.placed[0].clip.object_key, b"something else")
    with pytest.raises(PermanentError) as changed:
        load_cutaways(store, report, tmp_path / "again")
    assert changed.value.code == "broll_changed"


def test_the_same_footage_under_two_ids_is_shown_once(
    obtain: Obtain, stock: Stock, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sandbox_pexels.find_videos

    def only_reuploads(*arguments: Any) -> list[Any]:
        videos = found(*arguments)
        return [videos[0], videos[2]]

    monkeypatch.setattr(sandbox_pexels, "find_videos", only_reuploads)
    report = obtain([stock()], replace(ORDER, keywords=("ocean",)))
    assert len(report.placed) == 1
    assert {skip.code for skip in report.skipped} == {"broll_unsuitable"}


def test_a_choice_stays_although_the_search_changes_and_asks_nobody_again(
    obtain: Obtain, stock: Stock, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = obtain([stock()])
    asked = len(sandbox.requests("pexels"))
    monkeypatch.setattr(sandbox_pexels, "find_videos", lambda *arguments: [])
    again = obtain([stock()])
    assert again == first
    assert len(sandbox.requests("pexels")) == asked
    other_seed = obtain([stock()], seed=2)
    assert other_seed.placed == ()
    assert other_seed.in_words == (
        "skipped: No clip that could be used was found in pexels for 'ocean', 'surf'."
    )


def test_another_video_of_the_account_shows_other_clips(obtain: Obtain, stock: Stock) -> None:
    first = obtain([stock()])
    second = obtain([stock()], replace(ORDER, source_sha256="cd" * 32))
    assert not {p.clip.identity for p in first.placed} & {p.clip.identity for p in second.placed}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"status": 429}, "pexels_rate_limited"),
        ({"status": 500}, "pexels_unavailable"),
        ({"path_regex": "/video-files/", "status": 500}, "pexels_unavailable"),
        (
            {"path_regex": "/video-files/", "status": 200, "body": "<html>", "headers": PAGE},
            "pexels_file_refused",
        ),
        (
            {"path_regex": "/video-files/", "status": 200, "body": "....ftypisom....", "headers": VIDEO},
            "truncated_media",
        ),
    ],
    ids=["429", "500", "file 500", "html", "truncated"],
)  # fmt: skip
def test_clips_that_cannot_be_had_are_skipped_by_name_and_tried_again_the_next_time(
    fault: dict[str, Any], code: str, obtain: Obtain, stock: Stock, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("pexels", times=None, **fault)
    report = obtain([stock()])
    assert report.placed == ()
    assert {skip.code for skip in report.skipped} == {code}
    assert report.in_words.startswith("skipped: ")
    assert report.digest is None
    sandbox.clear_faults()
    healed = obtain([stock()])
    assert healed.skipped == ()
    assert healed.digest is not None


def test_a_clip_damaged_inside_is_found_out_before_it_is_kept(
    obtain: Obtain, store: ObjectStore, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    made = clip(folder / "surf.mp4", picture="testsrc2=s=320x180:r=25:d=4", sound=None)
    data = bytearray(made.read_bytes())
    middle = data.index(b"mdat") + 8
    for place in range(middle + 2000, len(data) - 4000, 97):
        data[place] ^= 0xFF
    made.write_bytes(data)
    report = obtain([FolderShelf(folder)], replace(ORDER, keywords=("surf",)))
    assert report.placed == ()
    assert {skip.code for skip in report.skipped} == {"decode_failed"}
    assert not list(store.list("media/"))


def test_what_was_filled_stays_when_the_rest_is_filled_later(
    obtain: Obtain, stock: Stock, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("pexels", path_regex="/video-files/", after=1, times=None, status=404)
    partly = obtain([stock()])
    assert len(partly.placed) == 1
    assert partly.skipped
    sandbox.clear_faults()
    whole = obtain([stock()])
    assert whole.placed[0] == partly.placed[0]
    assert len(whole.placed) == len(partly.placed) + len(partly.skipped)
    assert whole.digest != partly.digest


def test_a_recipe_may_end_the_render_instead_by_the_kind_of_failure(
    obtain: Obtain, stock: Stock, sandbox: SandboxUnderTest
) -> None:
    strict = Recipe(name="s", broll=Broll(every_s=5, length_s=2, share=0.5, missing="fail"))
    with pytest.raises(PermanentError) as nothing:
        obtain([stock()], replace(ORDER, keywords=("xkcd",)), strict)
    assert nothing.value.code == "broll_missing"
    sandbox.fault("pexels", times=None, status=429)
    with pytest.raises(TransientError):
        obtain([stock()], recipe=strict)


def test_the_accounts_own_clips_come_first_and_only_with_a_right(
    obtain: Obtain, stock: Stock, store: ObjectStore, tmp_path: Path
) -> None:
    own_clip(store, "big_waves-1.mp4", "red", tmp_path, rights="owned", keywords=["ocean"])
    own_clip(store, "ocean.mp4", "blue", tmp_path)
    own_clip(store, "surfing.mp4", "green", tmp_path, keywords=["surf"])
    own_clip(store, "surfers.mp4", "white", tmp_path, rights="cc_by", keywords=["surf"])
    own_clip(
        store, "surf ride.mp4", "yellow", tmp_path, rights="cc_by", attribution="Surf <b> @ by B, CC BY 4.0"
    )
    library = Recipe(name="l", broll=Broll(every_s=5, length_s=2, share=0.5, source="library"))
    report = obtain([StoreShelf(store, "studio"), stock()], recipe=library)
    assert {p.clip.url for p in report.placed} == {
        "library/studio/big_waves-1.mp4",
        "library/studio/surf ride.mp4",
    }
    assert {p.clip.credit for p in report.placed} == {None, "Footage: Surf b by B, CC BY 4.0"}
    assert {p.clip.licence for p in report.placed} == {"the account's own library"}
    mixed = obtain(
        [StoreShelf(store, "studio"), stock()], replace(ORDER, source_sha256="cd" * 32, account="")
    )
    assert [p.clip.vendor for p in mixed.placed][:2] == ["library", "library"]
    assert {p.clip.vendor for p in mixed.placed[2:]} <= {"pexels"}
    assert StoreShelf(store, "../studio").candidates("ocean") == []


def test_a_folder_gives_all_its_clips_those_that_match_first(obtain: Obtain, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, colour in (("a hill.mp4", "red"), ("surf.mp4", "blue")):
        clip(folder / name, picture=f"color={colour}:s=320x180:r=25:d=4", sound=None)
    (folder / "notes.txt").write_text("no clip")
    (folder / "broken.mp4").write_text("no clip either")
    assert [c.url for c in FolderShelf(folder).candidates("surf")] == ["surf.mp4", "a hill.mp4", "broken.mp4"]
    report = obtain([FolderShelf(folder)], replace(ORDER, keywords=("surf",)))
    assert sorted(str(p.clip.url) for p in report.placed) == ["a hill.mp4", "surf.mp4"]
    assert {p.clip.rights for p in report.placed} == {"owned"}
    with pytest.raises(PipelineError, match="not a folder"):
        FolderShelf(tmp_path / "absent")
