"""Analysis finds the cuts, the loudness and a dozen pictures, in one look at small frames."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.analysis import SHEET_BUDGET, analyse, analyse_source
from ettametta_pipelines.media.contracts import MEDIA_ANALYSIS
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.media.subject import in_words, track_from_json
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.media.clips import clip, ffmpeg

THREE_SHOTS = (
    "testsrc2=s=640x360:r=30:d=1.5[a];mandelbrot=s=640x360:r=30,trim=duration=1,setpts=PTS-STARTPTS[b];"
    "gradients=s=640x360:r=30:c0=orange:c1=navy:n=2:seed=1:speed=0.02,trim=duration=1.5,setpts=PTS-STARTPTS[c];"
    "[a][b][c]concat=n=3,format=yuv420p"
)


def test_shots_start_where_the_footage_is_cut(tmp_path: Path) -> None:
    path = clip(tmp_path / "shots.mp4", picture=THREE_SHOTS, sound=None)
    seen = analyse(path, require_probe(path), tmp_path)
    assert seen.shot_starts_s == pytest.approx([0, 1.5, 2.5], abs=0.034)
    assert seen.frames == 120


def test_a_moving_picture_without_cuts_is_one_shot(tmp_path: Path) -> None:
    path = clip(tmp_path / "one.mp4", picture="mandelbrot=s=640x360:r=30,trim=duration=2", sound=None)
    assert analyse(path, require_probe(path), tmp_path).shot_starts_s == [0.0]


def test_a_flash_of_one_frame_is_no_new_shot_every_time(tmp_path: Path) -> None:
    flash = r"testsrc2=s=320x240:r=30:d=2,eq=brightness=0.9:enable=eq(n\,30)"
    path = clip(tmp_path / "flash.mp4", picture=flash, sound=None)
    assert len(analyse(path, require_probe(path), tmp_path).shot_starts_s) <= 2


def test_loudness_is_measured_and_silence_is_none(tmp_path: Path) -> None:
    tone = clip(tmp_path / "tone.mp4", sound="sine=frequency=1000:duration=2,volume=-14dB")
    loudness = analyse(tone, require_probe(tone), tmp_path).loudness
    assert loudness is not None
    # lavfi's sine peaks 18.06 dB below full scale, 3.01 dB above its mean power; two channels share that power.
    assert loudness.lufs == pytest.approx(-18.06 - 3.01 - 14, abs=0.3)
    for sound in (None, "anullsrc=d=2"):
        path = clip(tmp_path / "quiet.mp4", sound=sound)
        assert analyse(path, require_probe(path), tmp_path).loudness is None


@pytest.mark.parametrize("size", ["640x360", "360x640"])
def test_the_contact_sheet_is_a_small_jpeg_of_twelve_frames(size: str, tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", picture=f"testsrc2=s={size}:r=30:d=2,noise=alls=40:allf=t", sound=None)
    sheet = analyse(path, require_probe(path), tmp_path).contact_sheet
    assert len(sheet) <= SHEET_BUDGET
    with Image.open(BytesIO(sheet)) as image:
        assert image.format == "JPEG"
        cell = (image.width / 4) / (image.height / 3)
    width, height = map(int, size.split("x"))
    assert cell == pytest.approx(width / height, rel=0.1)


def test_colours_of_the_contact_sheet_are_the_footages(tmp_path: Path) -> None:
    path = clip(tmp_path / "red.mp4", picture="color=red:s=640x360:r=30:d=1.2", sound=None)
    with Image.open(BytesIO(analyse(path, require_probe(path), tmp_path).contact_sheet)) as image:
        red, green, blue = image.convert("RGB").getpixel((50, 50))  # type: ignore[misc]
    assert red > 200
    assert max(green, blue) < 40


def test_brightness_and_motion_are_shares(tmp_path: Path) -> None:
    white = clip(tmp_path / "white.mp4", picture="color=white:s=320x240:r=30:d=1.2", sound=None)
    seen = analyse(white, require_probe(white), tmp_path)
    assert seen.mean_luma == pytest.approx(1, abs=0.02)
    assert seen.mean_motion == pytest.approx(0, abs=0.002)


def test_footage_damaged_in_the_middle_is_an_error_not_a_short_answer(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=30:d=4", sound=None, extra=("-g", "10"))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 30_000] = bytes(30_000)
    path.write_bytes(data)
    probe = require_probe(path)
    with pytest.raises(PermanentError) as caught:
        analyse(path, probe, tmp_path)
    assert caught.value.code == "decode_failed"


def test_the_row_and_the_sheet_are_kept_in_the_store(tmp_path: Path) -> None:
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    path = clip(tmp_path / "clip.mp4")
    store.put_file("media/sources/abc.mp4", path)
    row, sheet = analyse_source(store, "studio--abc", "media/sources/abc.mp4", scratch=tmp_path / "scratch")
    MEDIA_ANALYSIS.frame([row])
    assert row["shot_starts_s"] == ["0.000"]
    assert store.get(row["contact_sheet_key"]) == sheet
    assert row["subject_key"] == "media/analysis/studio--abc/subject.json"
    track = track_from_json(store.get(row["subject_key"]))
    assert track is not None
    assert in_words(track) == row["subject_seen"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_rotated_footage_is_seen_upright(tmp_path: Path) -> None:
    flat, upright = clip(tmp_path / "flat.mp4", sound=None), tmp_path / "upright.mp4"
    ffmpeg("-display_rotation", "90", "-i", str(flat), "-c", "copy", str(upright))
    with Image.open(BytesIO(analyse(upright, require_probe(upright), tmp_path).contact_sheet)) as image:
        assert image.height > image.width
