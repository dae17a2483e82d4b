"""Thumbnails are sharp, lit and away from cuts, the same every time, and kept once."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.faces import find_faces
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.media.stills import Candidate, exposure_of, sharpness_of
from ettametta_pipelines.media.subject import Extent, ShotTrack, Sighting, SubjectTrack
from ettametta_pipelines.renders.contracts import THUMBNAILS
from ettametta_pipelines.renders.thumbnails import (
    SHAPES,
    choose,
    cut_to,
    full_frame,
    obtain_thumbnails,
    scan,
    subject_in,
)
from ettametta_pipelines.renders.title_cards import STYLES, ZONES, draw_title, drawable_title
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.media.clips import clip, ffmpeg
from ettametta_pipelines_tests.media.people import backdrop, with_person

# Sharp and lit from 1.5 to 2.5 s; blurred before, dark after.
MIXED = (
    "mandelbrot=s=640x360:r=30,trim=duration=4,setpts=PTS-STARTPTS,eq=brightness=0.2,"
    "gblur=sigma=6:enable=lt(t\\,1.5),eq=brightness=-0.7:enable=gt(t\\,2.5)"
)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("mixed") / "mixed.mp4", picture=MIXED, sound=None)


def test_sharp_and_lit_frames_win_over_blurred_and_dark_ones(mixed: Path, tmp_path: Path) -> None:
    candidates = scan(mixed, require_probe(mixed), tmp_path)
    assert len(candidates) == 32
    best = choose(candidates, [0.0], 4.0)[0]
    assert 1.5 <= best.time_s <= 2.5
    blurred, dark = candidates[4], candidates[28]
    assert best.sharpness > 3 * blurred.sharpness
    assert best.exposure > 2 * dark.exposure


def test_frames_beside_a_cut_are_passed_over_and_the_chosen_are_spread() -> None:
    candidates = [Candidate(time / 8, 100.0 + (time == 16), 0.8) for time in range(96)]
    chosen = choose(candidates, [0.0, 2.0], 12.0)
    assert len(chosen) == 3
    assert all(abs(c.time_s - edge) >= 0.5 for c in chosen for edge in (0, 2, 12))
    times = sorted(c.time_s for c in chosen)
    assert min(np.diff(times)) >= 1.5


def test_a_very_short_video_still_has_three_and_one_without_frames_is_refused() -> None:
    assert len(choose([Candidate(t / 8, 50.0, 0.5) for t in range(8)], [0.0], 1.0)) == 3
    with pytest.raises(PermanentError) as caught:
        choose([], [0.0], 1.0)
    assert caught.value.code == "no_frames"


def test_measures_are_of_what_they_name() -> None:
    noise = np.random.default_rng(1).integers(60, 200, (90, 160)).astype(np.uint8)
    flat = np.full((90, 160), 128, np.uint8)
    assert sharpness_of(noise) > 1000
    assert sharpness_of(flat) == 0
    assert exposure_of(flat) == pytest.approx(1, abs=0.01)
    assert exposure_of(np.zeros_like(flat)) == 0
    assert exposure_of(np.full_like(flat, 255)) == 0


def test_the_frame_taken_is_the_frame_that_was_scored(tmp_path: Path) -> None:
    path = clip(tmp_path / "count.mp4", picture="color=black:s=320x180:r=30:d=3,geq=lum=16+N*2:cb=128:cr=128")
    probe = require_probe(path)
    candidates = scan(path, probe, tmp_path)[1::7]
    assert candidates
    for candidate in candidates:
        luma = np.asarray(full_frame(path, probe, candidate.time_s, tmp_path).convert("L"), np.float64)
        frame = (luma.mean() * 219 / 255) / 2
        assert frame == pytest.approx(int(candidate.time_s * 30 + 1e-6), abs=0.6)


def test_the_upright_cut_holds_what_stands_out_and_keeps_the_middle_when_nothing_does() -> None:
    plain = np.full((360, 640, 3), 90, np.uint8)
    busy = plain.copy()
    busy[100:250, 480:600] = np.random.default_rng(2).integers(0, 255, (150, 120, 3))
    cut = np.asarray(cut_to(Image.fromarray(busy), (1080, 1920))[0])
    assert cut.shape == (1920, 1080, 3)
    assert cut.std() > 30
    marked = plain.copy()
    marked[:, 319:321] = 92
    even = np.asarray(cut_to(Image.fromarray(marked), (1080, 1920))[0]).mean(axis=(0, 2))
    assert int(even.argmax()) == pytest.approx(540, abs=20)


def test_pictures_are_kept_once_and_come_out_the_same_again(mixed: Path, tmp_path: Path) -> None:
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    store.put_file("media/sources/abc.mp4", mixed)

    def obtain() -> list[tuple[str, bool]]:
        kept = obtain_thumbnails(
            store, "studio--abc", "media/sources/abc.mp4", [0.0], scratch=tmp_path / "scratch"
        )
        THUMBNAILS.frame([t.row for t in kept])
        for t in kept:
            assert hashlib.sha256(store.get(t.row["object_key"])).hexdigest() == t.row["sha256"]
            assert t.row["sha256"][:16] in t.row["object_key"]
            with Image.open(BytesIO(t.jpeg)) as image:
                assert (image.format, image.size) == ("JPEG", SHAPES[t.row["shape"]])
        assert list((tmp_path / "scratch").iterdir()) == []
        return [(t.row["object_key"], t.new) for t in kept]

    first, second = obtain(), obtain()
    assert [key for key, _ in first] == [key for key, _ in second]
    assert [new for _, new in first + second] == [True] * 6 + [False] * 6


def test_pictures_are_of_frames_the_analysis_has_scored_where_it_has(mixed: Path, tmp_path: Path) -> None:
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    store.put_file("media/sources/abc.mp4", mixed)
    scored = [Candidate(0.5, 10.0, 0.5), Candidate(2.0, 100.0, 0.5), Candidate(3.5, 10.0, 0.5)]
    kept = obtain_thumbnails(
        store, "studio--abc", "media/sources/abc.mp4", [0.0], scratch=tmp_path / "scratch", scored=scored
    )
    assert [t.row["time_s"] for t in kept if t.row["shape"] == "16x9"] == [2.0, 0.5, 3.5]


def face_track(x: float, *, from_s: float, to_s: float, half: float = 0.1) -> SubjectTrack:
    extent = Extent(x, 0.4, half, half)
    times = np.arange(from_s, to_s, 0.25)
    seen = tuple(Sighting(float(t), extent, extent, 0.9) for t in times)
    return SubjectTrack(16 / 9, (ShotTrack(0.0, 12.0, "faces", 48, seen),))


def test_a_frame_with_a_face_wins_over_one_as_good_without_and_a_large_face_over_a_small_one() -> None:
    candidates = [Candidate(time / 8, 100.0, 0.8) for time in range(96)]
    assert 5 <= choose(candidates, [0.0], 12.0, face_track(0.5, from_s=6, to_s=8))[0].time_s <= 9
    small = face_track(0.5, from_s=2, to_s=4, half=0.03).shots[0].sightings
    large = face_track(0.5, from_s=8, to_s=10, half=0.2).shots[0].sightings
    both = SubjectTrack(16 / 9, (ShotTrack(0.0, 12.0, "faces", 48, small + large),))
    assert 7 <= choose(candidates, [0.0], 12.0, both)[0].time_s <= 11


@pytest.mark.parametrize("x", [0.1, 0.3, 0.8])
def test_the_upright_cut_is_centred_on_the_face_that_is_in_the_frame(x: float) -> None:
    picture = Image.fromarray(with_person(backdrop(1280, 720), x, 0.4, 0.1))
    # The track is a quarter second old: the face itself counts.
    around = subject_in(picture, 7.0, face_track(x + 0.08, from_s=6, to_s=8))
    assert around is not None
    part, at_top = cut_to(picture, SHAPES["9x16"], around)
    (face,) = find_faces(np.asarray(part.resize((180, 320))))
    wanted = max(0.0, (x - (9 / 16) ** 2 / 2) / (1 - (9 / 16) ** 2)) if x < 0.2 else 0.5
    assert face.x == pytest.approx(0.32 if x < 0.2 else wanted, abs=0.06)
    assert not at_top


TITLES = {
    "short": "Wake up!",
    "long": "Ten seconds of Brussels: the cyclist nobody noticed, and the man who did and told everyone",
    "one endless word": "Donaudampfschifffahrtsgesellschaftskapitaensmuetzenabzeichen" * 2,
}


@pytest.mark.parametrize("words", TITLES)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_title_stays_in_its_zone_and_stands_out_from_black_white_and_noise(
    words: str, style: str, shape: str
) -> None:
    width, height = SHAPES[shape]
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    for background in (np.zeros_like(noise), np.full_like(noise, 255), noise):
        plain = Image.fromarray(background)
        for at_top in (True, False):
            drawn = np.asarray(draw_title(plain, drawable_title(TITLES[words]), style, shape, at_top=at_top))
            changed = (drawn != background).any(axis=2)
            bright = (np.abs(drawn.astype(int) - (255, 230, 0)) < 4).all(axis=2) & changed
            if style == "headline":
                bright = (drawn > 250).all(axis=2)
                if background.min() == 0 and background.max() == 0:
                    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
                else:
                    continue
            else:
                rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            zone = ZONES[shape]
            assert columns[0] >= zone.sides * width - 1
            assert columns[-1] <= (1 - zone.sides) * width + 1
            assert rows[0] >= zone.top * height - 1
            assert rows[-1] <= (1 - zone.bottom) * height + 1
            assert (rows.mean() < height / 2) == at_top


def test_a_headline_is_read_on_white_since_letters_are_edged_and_what_is_behind_is_darker() -> None:
    white = Image.new("RGB", SHAPES["16x9"], "white")
    drawn = np.asarray(draw_title(white, "Read me", "headline", "16x9", at_top=False).convert("L"))
    letters = drawn > 250
    letters[: 720 // 2] = False
    around = drawn[np.flatnonzero(letters.any(axis=1))[0] - 20 : 640, 64:1216]
    assert (around < 40).mean() > 0.02
    assert np.median(around) < 130
    assert drawn[:200].min() > 240


def test_what_the_font_has_not_is_left_out_of_a_title_and_one_of_nothing_else_is_not_drawn() -> None:
    assert drawable_title("Wake 😀 up\n now") == "Wake up now"
    assert drawable_title("😀 日本") == ""
    assert drawable_title("") == ""


def test_titled_pictures_lie_beside_the_plain_ones(mixed: Path, tmp_path: Path) -> None:
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    store.put_file("media/sources/abc.mp4", mixed)
    kept = obtain_thumbnails(
        store, "studio--abc", "media/sources/abc.mp4", [0.0], scratch=tmp_path / "scratch", title="Wake up!"
    )
    THUMBNAILS.frame([t.row for t in kept])
    assert [t.row["variant"] for t in kept[:3]] == ["plain", "headline", "block"]
    assert len({t.row["object_key"] for t in kept}) == len(kept) == 18
    plain = obtain_thumbnails(
        store, "studio--abc", "media/sources/abc.mp4", [0.0], scratch=tmp_path / "scratch", title="日本"
    )
    assert [t.row["variant"] for t in plain] == ["plain"] * 6
    assert not any(t.new for t in plain)


def test_a_rotated_source_gives_upright_pictures(mixed: Path, tmp_path: Path) -> None:
    upright = tmp_path / "upright.mp4"
    ffmpeg("-display_rotation", "90", "-i", str(mixed), "-c", "copy", str(upright))
    image = full_frame(upright, require_probe(upright), 1.0, tmp_path)
    assert image.size == (360, 640)


def test_a_source_damaged_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=30:d=4", sound=None, extra=("-g", "10"))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 30_000] = bytes(30_000)
    path.write_bytes(data)
    with pytest.raises(PermanentError) as caught:
        scan(path, require_probe(path), tmp_path)
    assert caught.value.code == "decode_failed"
