"""The probe takes what can be rendered and refuses everything else with a stable code; hostile files are next door."""

from pathlib import Path

import pytest

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.probe import IntakePolicy, Probe, ProbeVerdict, probe_file
from ettametta_pipelines_tests.media.clips import X264, clip, cut_short, ffmpeg


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("clips") / "good.mp4")


@pytest.fixture(scope="module")
def faststart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("clips") / "fast.mp4", extra=("-movflags", "+faststart"))


def probed(path: Path) -> Probe:
    verdict = probe_file(path)
    assert verdict.accepted, verdict.reason
    assert verdict.probe is not None
    return verdict.probe


def refused(path: Path, code: str) -> ProbeVerdict:
    verdict = probe_file(path)
    assert (verdict.accepted, verdict.reason_code) == (False, code), verdict.reason
    assert path.name in str(verdict.reason)
    assert verdict.remedy
    return verdict


def test_a_good_video_is_described(good: Path) -> None:
    probe = probed(good)
    assert (probe.container, probe.video_codec, probe.audio_codec) == ("mov", "h264", "aac")
    assert (probe.width, probe.height, probe.frames) == (640, 360, 60)
    assert probe.fps == pytest.approx(30)
    assert probe.duration_s == pytest.approx(2, abs=0.01)
    assert probe.has_audio
    assert not probe.variable_rate
    assert not probe.is_hdr
    assert probe.bit_depth == 8


def test_a_verdict_is_one_json_object_and_one_line(good: Path, tmp_path: Path) -> None:
    document = probe_file(good).as_dict()
    assert document["verdict"] == "accepted"
    assert document["probe"]["width"] == 640
    assert "640x360" in probe_file(good).summary
    bad = tmp_path / "note.mp4"
    bad.write_text("hello")
    document = probe_file(bad).as_dict()
    assert (document["verdict"], document["reason_code"], document["probe"]) == (
        "rejected",
        "not_a_video",
        None,
    )


def test_a_missing_file_is_an_error_not_a_verdict(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="There is no file") as caught:
        probe_file(tmp_path / "absent.mp4")
    assert caught.value.code == "file_not_found"


def test_a_faststart_mp4_that_lost_its_end_is_cut_short(faststart: Path, tmp_path: Path) -> None:
    """It plays to the cut and claims its full length; ffmpeg renders it short and exits 0."""
    verdict = refused(cut_short(faststart, tmp_path / "cut.mp4"), "truncated_media")
    assert "bytes are missing" in str(verdict.reason)


def test_a_cut_mp4_whose_media_box_runs_to_the_end_is_found_by_its_samples(
    faststart: Path, tmp_path: Path
) -> None:
    data = bytearray(faststart.read_bytes())
    at = data.index(b"mdat")
    data[at - 4 : at] = bytes(4)
    whole, cut = tmp_path / "open.mp4", tmp_path / "open_cut.mp4"
    whole.write_bytes(data)
    probed(whole)
    refused(cut_short(whole, cut), "truncated_media")


@pytest.mark.parametrize("suffix", ["mkv", "frag.mp4"])
def test_cut_matroska_and_fragmented_files_are_found(suffix: str, tmp_path: Path) -> None:
    extra = ("-movflags", "frag_keyframe+empty_moov", "-g", "15") if suffix == "frag.mp4" else ()
    whole = clip(tmp_path / f"whole.{suffix}", extra=extra)
    probed(whole)
    refused(cut_short(whole, tmp_path / f"cut.{suffix}"), "truncated_media")


NOT_VIDEOS: dict[str, tuple[bytes, str]] = {
    "flv": (b"FLV\x01\x05\x00\x00\x00\x09" + bytes(500), "unsupported_container"),
    "box without room": (b"\x00\x00\x00\x10ftypisom" + bytes(4) + b"\x00\x00\x00\x03moov" + bytes(9), "unreadable"),
    "empty matroska": (b"\x1a\x45\xdf\xa3", "unreadable"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_what_is_no_video_is_refused_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    content, code = NOT_VIDEOS[name]
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    refused(path, code)


REFUSED_CLIPS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "half a second": ("h.mp4", ("-f", "lavfi", "-i", "testsrc2=s=320x240:d=0.5", *X264), "too_short"),
    "a frame a minute": (
        "g.mp4",
        ("-f", "lavfi", "-i", "color=s=64x64:r=1/60:d=600", *X264),
        "broken_timestamps",
    ),
}


@pytest.mark.parametrize("name", REFUSED_CLIPS)
def test_videos_outside_the_policy_are_refused_with_their_reason(name: str, tmp_path: Path) -> None:
    file, arguments, code = REFUSED_CLIPS[name]
    path = tmp_path / file
    ffmpeg(*arguments, str(path))
    refused(path, code)


def test_a_file_over_the_size_limit_is_not_read(good: Path) -> None:
    verdict = probe_file(good, policy=IntakePolicy(max_bytes=1000))
    assert verdict.reason_code == "too_large_file"


def test_a_phones_rotation_is_applied_to_width_and_height(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "upright.mp4"
    ffmpeg("-display_rotation", "90", "-i", str(good), "-c", "copy", str(path))
    probe = probed(path)
    assert (probe.width, probe.height) == (360, 640)
    assert probe.rotation % 180 == 90


def test_pixels_that_are_not_square_are_reported(tmp_path: Path) -> None:
    path = clip(tmp_path / "wide.mp4", picture="testsrc2=s=640x480:d=2,setsar=4/3")
    probe = probed(path)
    assert probe.sample_aspect == (4, 3)
    assert probe.display_aspect == pytest.approx(16 / 9)


def test_a_clip_trimmed_without_encoding_starts_where_its_edit_list_says(tmp_path: Path) -> None:
    whole = clip(tmp_path / "whole.mp4", picture="testsrc2=s=320x240:r=30:d=4", sound="sine=d=4")
    trimmed = tmp_path / "trimmed.mp4"
    ffmpeg("-ss", "1", "-i", str(whole), "-c", "copy", str(trimmed))
    assert probed(trimmed).duration_s == pytest.approx(3, abs=0.05)


def test_ten_bits_and_hdr_are_seen(tmp_path: Path) -> None:
    path = clip(
        tmp_path / "hlg.mov",
        sound=None,
        codec=("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params",
               "log-level=none:colorprim=9:transfer=18:colormatrix=9", "-tag:v", "hvc1"),
    )  # fmt: skip
    probe = probed(path)
    assert (probe.bit_depth, probe.is_hdr, probe.has_audio) == (10, True, False)


def test_uneven_frames_are_seen(tmp_path: Path) -> None:
    picture = r"testsrc2=s=320x240:r=30:d=3,select=not(between(mod(n\,10)\,3\,5))"
    path = clip(tmp_path / "vfr.mp4", picture=picture, sound=None, extra=("-fps_mode", "vfr"))
    probe = probed(path)
    assert probe.variable_rate
    assert probe.fps == pytest.approx(21, abs=1)
