"""Every hostile input as an upload: what is dropped where, and what has to become of it. No running; no files at rest.

The files are those of `media/hostile_files.py` with what only an inbox can meet: names that are commands, links and
pipes, content that changes under its name, captions and sidecars that attack. `hostile.py` sends them through.
"""

import os
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ettametta_pipelines.media.sidecar import is_captions
from ettametta_pipelines_tests.media.clips import X264, ffmpeg
from ettametta_pipelines_tests.media.hostile_files import (
    HOSTILE_FILES,
    Ground,
    altered,
    box,
    drawn,
    find_boxes,
    huge_jpegs,
    made,
    two_sizes,
    with_edits,
    with_index_moved,
)

TAKEN = "accepted"
NOT_TAKEN = "no source"

ODD_NAMES = (
    "-y.mp4", "-vf x.mp4", "http:x.mp4", "concat:a|b.mp4", "img%03d.mp4", "$(id).mp4", ";touch x.mp4", "..mp4",
    "'\"`.mp4", "%2e%2e%2f.mp4", "\U0001f600\u202egpj.mp4", "a\\b.mp4", "[0:v]movie=x.mp4",
    "x" * 200 + ".mp4", "y" * 251 + ".mp4", "{name}.mp4",
    "<img src=x onerror=alert(1)>.mp4", "'; DROP TABLE uploads;--.mp4", "\x1b[31mred.mp4", "two\nlines.mp4",
)  # fmt: skip
# What the store will not have as a key (control characters), and what has the name of a copy under way.
UNUSABLE_NAMES = frozenset(
    name for name in ODD_NAMES if name.startswith(".") or any(ord(letter) < 32 for letter in name)
)


@dataclass(frozen=True)
class HostileUpload:
    """One row of the table. `place` writes into the folder of an account; the first name in `allowed` is expected.

    `after_tick` runs between the sensor's tick and the run, as a client that goes on writing would.
    """

    number: str
    what: str
    file: str
    place: Callable[[Path, Ground], object]
    allowed: tuple[str, ...]
    after_tick: Callable[[Path], object] | None = None


def _good(path: Path, ground: Ground, mark: str = "") -> None:
    """The good clip with a free box of its own at the end: as good, with another hash."""
    path.write_bytes(ground.good.read_bytes() + box(b"free", mark.encode()))


def _flipped(seed: int, count: int) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        rng, changed = random.Random(seed), bytearray(data)
        for _ in range(count):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)

    return flip


def _elsewhere(path: Path, ground: Ground) -> None:
    """A movie whose media, its index says, lies in the neighbour's file: QuickTime's alias reference."""
    target = str(ground.neighbour).encode()
    record = (
        struct.pack(">hH", 2, len(target)) + target + b"\0" * (len(target) % 2) + struct.pack(">hH", -1, 0)
    )
    alias = bytes(10) + bytes([3]) + b"vol".ljust(27, b"\0") + bytes(12) + bytes([1]) + b"x".ljust(63, b"\0")
    alias += bytes(16) + struct.pack(">hh", 1, 1) + bytes(16) + record
    entry = box(b"alis", bytes(4) + alias)
    data = ground.good.read_bytes()

    def point(moov: bytes) -> bytes:
        return _grown(
            moov, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), box(b"url ", b"\0\0\0\1"), entry
        )

    path.write_bytes(with_index_moved(data, point))


def _grown(moov: bytes, parents: tuple[bytes, ...], old: bytes, new: bytes) -> bytes:
    """The index with the first `old` replaced by `new`, and the boxes around it as much longer."""
    changed = bytearray(moov)
    for kind in parents:
        at = moov.index(kind) - 4
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", moov, at)[0] + len(new) - len(old))
    at = moov.index(old)
    return bytes(changed[:at]) + new + bytes(changed[at + len(old) :])


def _nested(depth: int) -> bytes:
    boxes = b""
    for _ in range(depth):
        boxes = box(b"moov", boxes)
    return box(b"ftyp", b"isom\x00\x00\x02\x00isom") + boxes + box(b"mdat", bytes(64))


def _turned(path: Path, ground: Ground) -> None:
    straight = path.with_name("straight.mp4")
    drawn("testsrc2=s=160x120:r=25:d=1.2", "-vf", "setsar=4/3", *X264)(straight, ground)
    ffmpeg("-display_rotation", "90", "-i", str(straight), "-c", "copy", str(path))
    straight.unlink()


HDR10 = (
    "-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-preset", "ultrafast", "-x265-params",
    "log-level=error:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc", "-tag:v", "hvc1",
)  # fmt: skip
VARIABLE = (r"testsrc2=s=128x96:r=50:d=2,select=gt(mod(n\,7)\,2)", "-fps_mode", "passthrough", *X264)

# What the table of files lacks: number in the list of inputs, words, file name, builder, what may become of it.
MORE_FILES: tuple[tuple[str, str, str, Callable[[Path, Ground], object], tuple[str, ...]], ...] = (
    (
        "6",
        "400 flipped bytes",
        "clip.mp4",
        altered(_flipped(3, 400)),
        ("not_a_video", "unreadable", "truncated_media", "decode_failed", TAKEN),
    ),
    (
        "6",
        "two flipped bytes of media",
        "clip.mp4",
        altered(lambda d: d[: d.index(b"mdat") + 400] + b"\0\xff" + d[d.index(b"mdat") + 402 :]),
        ("decode_failed", "unreadable", TAKEN),
    ),
    ("45", "turned by 90 degrees, pixels 4:3", "clip.mp4", _turned, (TAKEN,)),
    ("46", "HDR10, ten bits", "clip.mp4", drawn("testsrc2=s=128x96:r=25:d=1.2", *HDR10), (TAKEN,)),
    (
        "47",
        "a variable frame rate",
        "clip.mp4",
        made("-f", "lavfi", "-i", VARIABLE[0], "-f", "lavfi", "-i", "sine=d=2", *VARIABLE[1:]),
        (TAKEN,),
    ),
    (
        "22",
        "pictures that turn huge on the way",
        "clip.mov",
        lambda p, g: huge_jpegs(p, g, from_frame=5, stated=False),
        ("picture_size_changes", "decode_failed", "unreadable"),
    ),
    (
        "+",
        "a picture that changes its size",
        "clip.mkv",
        lambda p, g: two_sizes(p, "320x180", "160x90", X264),
        ("picture_size_changes",),
    ),
    (
        "+",
        "media in the neighbour's file",
        "clip.mov",
        _elsewhere,
        ("unreadable", "truncated_media", "no_video_stream"),
    ),
    (
        "+",
        "5000 boxes in one another",
        "clip.mp4",
        lambda p, g: p.write_bytes(_nested(5000)),
        ("unreadable", "no_video_stream", "truncated_media"),
    ),
    (
        "+",
        "a box that says it is 16 exabytes",
        "clip.mp4",
        altered(lambda d: d + struct.pack(">I4sQ", 1, b"mdat", 2**64 - 9)),
        ("truncated_media", "unreadable"),
    ),
    (
        "+",
        "an edit list that repeats itself",
        "clip.mp4",
        altered(lambda d: with_edits(d, [(0.4, 0)] * 4)),
        (TAKEN,),
    ),
    (
        "+",
        "MPEG transport stream",
        "clip.ts",
        made("-i", "{good}", "-c", "copy", "-f", "mpegts"),
        ("unsupported_container",),
    ),
    ("+", "Ogg", "clip.ogv", lambda p, g: p.write_bytes(b"OggS" + bytes(900)), ("unsupported_container",)),
    (
        "+",
        "Windows Media",
        "clip.wmv",
        lambda p, g: p.write_bytes(b"\x30\x26\xb2\x75" + bytes(900)),
        ("unsupported_container",),
    ),
    ("+", "a program", "clip.mp4", lambda p, g: p.write_bytes(b"\x7fELF" + bytes(900)), ("not_a_video",)),
    (
        "+",
        "a shell script",
        "clip.mp4",
        lambda p, g: p.write_bytes(b"#!/bin/sh\ntouch owned\n" * 40),
        ("not_a_video",),
    ),
    (
        "+",
        "Matroska header and noise",
        "clip.mkv",
        lambda p, g: p.write_bytes(b"\x1a\x45\xdf\xa3" + random.Random(7).randbytes(4000)),
        ("unreadable", "truncated_media", "not_a_video"),
    ),
    (
        "42",
        "sample sizes of 4 GB",
        "clip.mp4",
        altered(lambda d: _huge_samples(d)),
        ("truncated_media", "unreadable"),
    ),
)


def _huge_samples(data: bytes) -> bytes:
    at = find_boxes(data, b"stsz")[0]
    return data[: at + 4] + b"\xff\xff\xff\xf0" + data[at + 8 :]


CAPTIONS = "\n".join(
    f"{n}\n00:00:00,{n}00 --> 00:00:00,{n}90\n{text}\n"
    for n, text in enumerate(
        ("':textfile=/etc/passwd", "%{localtime}", "],movie=http\\\\://127.0.0.1:{port}/x[v]", "it's 'unbalanced",
         r"{\an8}{\p1}m 0 0", "a;touch x", "[0:v]null", "\U0001f600\u202eevil"), start=1,
    )
)  # fmt: skip


def _captioned(path: Path, ground: Ground) -> None:
    _good(path, ground, "captions")
    path.with_name(path.name + ".srt").write_text(CAPTIONS.replace("{port}", str(ground.port)))
    path.with_name(path.name + ".json").write_text(
        '{"title": "<script>alert(1)</script>|[x](javascript:1)\\r\\n\\u001b[31m", "rights": "owned",'
        ' "recipe": "punchy"}'
    )


def _long_captioned(path: Path, ground: Ground) -> None:
    _good(path, ground, "long captions")
    path.with_name(path.name + ".srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,900\n" + "':textfile=/etc/passwd %{pts} " * 350
    )


def _bad_sidecar(path: Path, ground: Ground, said: str) -> None:
    _good(path, ground, said[:20])
    path.with_name(path.name + ".json").write_text(said)


def _twice(path: Path, ground: Ground) -> None:
    _good(path, ground, "twice")
    path.with_name("again.mp4").write_bytes(path.read_bytes())


def _linked(path: Path, ground: Ground, target: str) -> None:
    path.symlink_to(ground.neighbour if target == "neighbour" else target)


SPECIALS: tuple[HostileUpload, ...] = (
    HostileUpload("33", "captions and titles that attack", "clip.mp4", _captioned, (TAKEN,)),
    HostileUpload(
        "32",
        "a sidecar that is no JSON",
        "clip.mp4",
        partial(_bad_sidecar, said="{{{" * 999),
        ("bad_sidecar",),
    ),
    HostileUpload(
        "32",
        "a sidecar nested 30 000 deep",
        "clip.mp4",
        partial(_bad_sidecar, said="[" * 30_000),
        ("bad_sidecar",),
    ),
    HostileUpload(
        "32",
        "a sidecar that names another folder",
        "clip.mp4",
        partial(_bad_sidecar, said='{"captions": "../../../secret.srt"}'),
        ("bad_sidecar",),
    ),
    HostileUpload("36", "a pipe", "clip.mp4", lambda p, g: os.mkfifo(p), (NOT_TAKEN,)),
    HostileUpload(
        "36", "a link to the neighbour", "clip.mp4", partial(_linked, target="neighbour"), (NOT_TAKEN,)
    ),
    HostileUpload(
        "36", "a link to /dev/zero", "clip.mp4", partial(_linked, target="/dev/zero"), (NOT_TAKEN,)
    ),
    HostileUpload("36", "a folder", "clip.mp4", lambda p, g: p.mkdir(), (NOT_TAKEN,)),
    HostileUpload(
        "36",
        "a hard link to the neighbour",
        "clip.mp4",
        lambda p, g: p.hardlink_to(g.neighbour),
        (NOT_TAKEN,),
    ),
    HostileUpload("33", "a caption of 10 KB", "clip.mp4", _long_captioned, (TAKEN,)),
    HostileUpload("50", "an upload under way", "clip.mp4.part", partial(_good, mark="part"), (NOT_TAKEN,)),
    HostileUpload("48", "the same bytes twice", "clip.mp4", _twice, (TAKEN,)),
    HostileUpload(
        "49",
        "replaced between tick and run",
        "clip.mp4",
        partial(_good, mark="before"),
        ("upload_changed",),
        lambda p: p.write_bytes(b"other"),
    ),
    HostileUpload(
        "37",
        "growing between tick and run",
        "clip.mp4",
        partial(_good, mark="grows"),
        ("upload_changed",),
        lambda p: p.write_bytes(p.read_bytes() + bytes(4096)),
    ),
)


# What must be sent, by number, and the files above that are it; 33, 36 and on stand with their numbers where they are.
NUMBERED: Mapping[int, tuple[str, ...]] = {
    1: ("no bytes",),
    2: ("a type box and nothing else",),
    3: ("cut before its index",),
    4: ("cut behind its index",),
    5: ("random bytes",),
    7: ("text", "html", "json"),
    8: ("zip", "a video behind a zip"),
    9: ("HTML behind the video",),
    10: ("HLS to http as mp4", "HLS to http as m3u8"),
    11: ("HLS to a file as mp4", "HLS to a file as m3u8"),
    12: ("HLS to a concat as mp4", "HLS to a subfile as mp4", "HLS to a cipher as mp4", "HLS to a concat as m3u8",
         "HLS to a subfile as m3u8", "HLS to a cipher as m3u8", "HLS behind a type box"),
    13: ("concat of a file",),
    14: ("concat of the file beside it",),
    15: ("concat of an address",),
    16: ("DASH",),
    17: ("SDP",),
    18: ("SVG", "SVG as MP4"),
    19: ("plain text as video", "ANSI art", "XBIN art", "subtitles"),
    20: ("AVI with a playlist for subtitles",),
    21: ("a picture of 400 megapixels", "a still picture"),
    22: ("pictures of 144 megapixels", "pictures of 144 megapixels, unsaid", "8K"),
    23: ("twelve hours of nothing", "an edit that starts in a far future"),
    24: ("1000 pictures a second",),
    25: ("ten hours in few bytes", "an edit list that plays one second 10 000 times"),
    26: ("1x1", "33x17"),
    27: ("60 tracks", "1000 tracks"),
    28: ("sound alone",),
    29: ("MP3 with cover art", "M4A with cover art"),
    30: ("no sound",),
    31: ("FFV1", "MagicYUV", "PNG in a movie", "a codec nobody knows"),
    32: ("tags with control characters",),
    34: ("attachments and styled subtitles",),
    35: ("attachments and styled subtitles",),
    40: ("protected",),
    41: ("an index of 100 MB", "an index that unpacks to 100 MB"),
    42: ("time in no units", "negative length", "an endless frame"),
    43: ("endless GIF", "endless APNG", "endless WebP"),
    44: ("tracker music", "chip music"),
}  # fmt: skip


def corpus() -> Iterator[HostileUpload]:
    """All of it, files first."""
    for what, file in HOSTILE_FILES.items():
        # What has the name of captions waits for its video.
        code = NOT_TAKEN if is_captions(file.name) else file.code or TAKEN
        number = ", ".join(str(number) for number, whats in NUMBERED.items() if what in whats) or "+"
        yield HostileUpload(number, what, file.name, file.build, (code,))
    for number, what, name, build, allowed in MORE_FILES:
        yield HostileUpload(number, what, name, build, allowed)
    yield from SPECIALS
    for name in ODD_NAMES:
        allowed = (NOT_TAKEN,) if name in UNUSABLE_NAMES else (TAKEN,)
        yield HostileUpload(
            "39", f"a good video named {name[:30]!r}", name, partial(_good, mark=name), allowed
        )


def good_clip(path: Path, ground: Ground, mark: str) -> None:
    """A good video nobody sent before."""
    _good(path, ground, mark)
