"""Thumbnails are sharp, lit and away from cuts, the same every time, and kept once."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.renders.contracts import THUMBNAILS
from ettametta_pipelines.renders.thumbnails import (
    SHAPES,
    Candidate,
    choose,
    cut_to,
    exposure_of,
    full_frame,
    obtain_thumbnails,
    scan,
    sharpness_of,
)
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.media.clips import clip, ffmpeg

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
    for candidate in scan(path, probe, tmp_path)[1::7]:
        luma = np.asarray(full_frame(path, probe, candidate.time_s, tmp_path).convert("L"), np.float64)
        frame = (luma.mean() * 219 / 255) / 2
        assert frame == pytest.approx(int(candidate.time_s * 30 + 1e-6), abs=0.6)


def test_the_upright_cut_holds_what_stands_out_and_keeps_the_middle_when_nothing_does() -> None:
    plain = np.full((360, 640, 3), 90, np.uint8)
    busy = plain.copy()
    busy[100:250, 480:600] = np.random.default_rng(2).integers(0, 255, (150, 120, 3))
    cut = np.asarray(cut_to(Image.fromarray(busy), (1080, 1920)))
    assert cut.shape == (1920, 1080, 3)
    assert cut.std() > 30
    marked = plain.copy()
    marked[:, 319:321] = 92
    even = np.asarray(cut_to(Image.fromarray(marked), (1080, 1920))).mean(axis=(0, 2))
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
