"""The inspector says in its cage what it says outside: the cage takes rights away and changes no answer.

The files here are ones we made; strangers' files meet the inspector in the cage alone (`test_hostile_files.py`).
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ettametta_pipelines.confinement.running import Limits, run_confined
from ettametta_pipelines.media import inspection
from ettametta_pipelines.media.probe import CODEC_WHITELIST, INSPECTOR
from ettametta_pipelines_tests.media.clips import X264, clip, cut_short, ffmpeg
from ettametta_pipelines_tests.media.test_probe import NOT_VIDEOS

ROOM = Limits(wall_s=120, cpu_s=120, memory_bytes=3 << 30, file_bytes=0)
LONG = "testsrc2=s=160x120:r=25:d=6"


def cut(name: str, share: float = 0.6, **how: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return cut_short(clip(folder / f"whole.{name}", **how), folder / f"cut.{name}", share)  # type: ignore[arg-type]

    return make


def raw(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "raw.mp4").write_bytes(content)
        return folder / "raw.mp4"

    return make


def made(name: str, *arguments: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        ffmpeg(*arguments, str(folder / name))
        return folder / name

    return make


def _with_a_cover(folder: Path) -> Path:
    film, cover = clip(folder / "film.mp4"), folder / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:d=1", "-frames:v", "1", str(cover))
    return made("cover.mp4", "-i", str(film), "-i", str(cover), "-map", "0", "-map", "1", "-c", "copy",
                "-disposition:v:1", "attached_pic")(folder)  # fmt: skip


def _open_box(folder: Path) -> Path:
    """A media box that says it runs to the end of the file, which ends early."""
    data = bytearray(clip(folder / "whole.mp4", extra=("-movflags", "+faststart")).read_bytes())
    at = data.index(b"mdat")
    data[at - 4 : at] = bytes(4)
    return raw(bytes(data[: int(len(data) * 0.7)]))(folder)


def _large_box(folder: Path) -> Path:
    """A size in eight bytes, as files of more than 4 GiB have it."""
    data = clip(folder / "whole.mp4", extra=("-movflags", "+faststart")).read_bytes()
    tail = (1).to_bytes(4, "big") + b"free" + (24).to_bytes(8, "big") + bytes(8)
    return raw(data + tail + b"somebody's tail")(folder)


def _damaged(folder: Path) -> Path:
    data = bytearray(clip(folder / "whole.mp4", sound=None).read_bytes())
    at = data.index(b"mdat") + 4
    data[at : at + 3000] = bytes(3000)
    return raw(bytes(data))(folder)


FILES: dict[str, tuple[Callable[[Path], Path], str | None]] = {
    "with sound": (made("a.mp4", "-f", "lavfi", "-i", LONG, "-f", "lavfi", "-i", "sine=d=6", "-g", "50", *X264), None),
    "silent": (made("a.mp4", "-f", "lavfi", "-i", LONG, *X264), None),
    "matroska": (made("a.mkv", "-f", "lavfi", "-i", LONG, "-g", "50", *X264), None),
    "a live recording": (made("a.mkv", "-f", "lavfi", "-i", LONG, *X264, "-live", "1"), None),
    "in fragments": (made("a.mp4", "-f", "lavfi", "-i", LONG, *X264, "-movflags", "frag_keyframe+empty_moov"), None),
    "with a cover": (_with_a_cover, None),
    "with a tail": (_large_box, None),
    "of one frame": (made("a.mp4", "-f", "lavfi", "-i", LONG, "-frames:v", "1", *X264), None),
    "in a codec of no list": (made("a.mkv", "-f", "lavfi", "-i", LONG, "-c:v", "ffv1"), None),
    "encrypted": (
        made("a.mp4", "-f", "lavfi", "-i", LONG, *X264, "-encryption_scheme", "cenc-aes-ctr",
             "-encryption_key", "0" * 32, "-encryption_kid", "1" * 32),
        "encrypted",
    ),
    "sound alone": (made("a.mp4", "-f", "lavfi", "-i", "sine=d=2"), "no_video_stream"),
    "a fast start cut short": (cut("mp4", extra=("-movflags", "+faststart")), "truncated_media"),
    "an index cut off": (cut("mp4"), "truncated_media"),
    "an open box cut short": (_open_box, "truncated_media"),
    "a matroska cut short": (cut("mkv"), "truncated_media"),
    "frames of nothing": (_damaged, "unreadable"),
    "an index alone": (raw(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\0\x08moov"), "truncated_media"),
    "media without an index": (raw(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\0\x10mdatabcdefgh"), "truncated_media"),
    "an empty index": (
        raw(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\0\x08moov\0\0\0\x10mdatabcdefgh"), "no_video_stream",
    ),
    "a photograph": (raw(b"\0\0\0\x18ftypheic" + bytes(40)), "not_a_video"),
    "text": (raw(b"hello, this is no film at all"), "not_a_video"),
    "a matroska without a segment": (raw(b"\x1a\x45\xdf\xa3\x81\0" + b"\xec\x81\0" * 8), "truncated_media"),
    "a matroska of unknown size": (raw(b"\x1a\x45\xdf\xa3\xff" + bytes(20)), "truncated_media"),
    **{name: (raw(content), code) for name, (content, code) in NOT_VIDEOS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_cage_changes_no_answer(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, code = FILES[name]
    arguments = [str(make(tmp_path)), ",".join(CODEC_WHITELIST)]
    monkeypatch.setattr(sys, "argv", ["inspection.py", *arguments])
    inspection.main()
    outside = json.loads(capsys.readouterr().out)
    caged = run_confined(
        Path(sys.executable), ["-I", "-B", str(INSPECTOR), *arguments], limits=ROOM, workdir=Path("/")
    )
    assert outside == json.loads(caged.stdout)
    assert outside.get("error") == code
