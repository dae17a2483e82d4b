"""Files as strangers send them to do harm, each with what intake must say of it.

Every row of `HOSTILE_FILES` writes one file: the same bytes each time for the same `Ground`. Those whose `code` is
None are odd but good, and have to be rendered like any other video. What is no regular file (links, pipes, devices)
and what is hostile in a name or in captions stands in the tests themselves. Builders work on bytes where they can;
ffmpeg makes the rest.
"""

import random
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ettametta_pipelines_tests.media.clips import X264, clip, cut_short, ffmpeg

CANARY = "canary-of-another-tenant-4f1d"
DIRTY_TEXT = "\x1b[31mred\x1b[0m\r\nSECOND LINE\u202etxt.exe\u0000" + "x" * 1000
SMALL = "testsrc2=s=128x96:r=25:d=1.2"


@dataclass(frozen=True)
class Ground:
    """What the files aim at: a port that nobody may call, a neighbour's video and secret nobody may read.

    `good` is a sound H.264 and AAC clip with its index in front, for files made by breaking one.
    """

    port: int
    neighbour: Path
    secret: Path
    good: Path


@dataclass(frozen=True)
class HostileFile:
    """A file under a name; `code` is the reason it is refused with, None where it has to be taken."""

    name: str
    build: Callable[[Path, Ground], object]
    code: str | None


def ground(folder: Path, port: int) -> Ground:
    """A good clip to break, and the neighbours, in a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    neighbour, secret = folder / "neighbour.mp4", folder / "secret.txt"
    good = clip(folder / "good.mp4", picture=SMALL, sound="sine=d=1.2", extra=("-movflags", "+faststart"))
    clip(neighbour, picture="color=red:s=128x96:r=25:d=1.2", extra=("-metadata", f"comment={CANARY}"))
    secret.write_text(CANARY)
    return Ground(port, neighbour, secret, good)


def written(content: bytes | str) -> Callable[[Path, Ground], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda path, ground: path.write_bytes(data)


def pointing(template: str) -> Callable[[Path, Ground], object]:
    """Text with `{port}`, `{neighbour}`, `{secret}` and `{beside}` (the neighbour's bare name) filled in."""

    def build(path: Path, ground: Ground) -> None:
        beside = path.with_name("beside.mp4")
        beside.write_bytes(ground.neighbour.read_bytes())
        aims = {"port": ground.port, "neighbour": ground.neighbour, "secret": ground.secret}
        path.write_text(template.format(beside=beside.name, **aims))

    return build


def made(*arguments: str) -> Callable[[Path, Ground], object]:
    """ffmpeg's output for these arguments; `{good}` and `{secret}` are filled in."""
    return lambda path, ground: ffmpeg(
        *(part.format(good=ground.good, secret=ground.secret) for part in arguments), str(path)
    )


def drawn(picture: str, *codec: str) -> Callable[[Path, Ground], object]:
    return made("-f", "lavfi", "-i", picture, *codec)


def altered(change: Callable[[bytes], bytes]) -> Callable[[Path, Ground], object]:
    return lambda path, ground: path.write_bytes(change(ground.good.read_bytes()))


# MP4 surgery ---------------------------------------------------------------------------------------------------


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def find_boxes(data: bytes, kind: bytes) -> list[int]:
    """Offsets of the content of boxes of this kind; good files only."""
    found, at = [], data.find(kind)
    while at >= 0:
        found.append(at + 4)
        at = data.find(kind, at + 1)
    return found


def patched(data: bytes, kind: bytes, offset: int, new: bytes, *, which: int | None = None) -> bytes:
    """The file with `new` written at an offset of the content of each box of a kind, or of the one numbered."""
    changed = bytearray(data)
    places = find_boxes(data, kind)
    for at in places if which is None else [places[which]]:
        changed[at + offset : at + offset + len(new)] = new
    return bytes(changed)


def with_moov(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A faststart file with the content of its index changed; media offsets no longer fit, which no one reaches."""
    at = data.index(b"moov") - 4
    (length,) = struct.unpack(">I", data[at : at + 4])
    return data[:at] + change(data[at : at + length]) + data[at + length :]


def with_many_tracks(data: bytes, copies: int) -> bytes:
    def repeat(moov: bytes) -> bytes:
        at = moov.index(b"trak") - 4
        (length,) = struct.unpack(">I", moov[at : at + 4])
        return box(b"moov", moov[8:] + moov[at : at + length] * copies)

    return with_index_moved(data, repeat)


def with_compressed_index(data: bytes, unpacked: int) -> bytes:
    """An index of QuickTime's compressed kind that unpacks to this many zeros."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(unpacked >> 20)) + packer.flush()
    inner = box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I", unpacked) + packed)
    return with_moov(data, lambda moov: box(b"moov", box(b"cmov", inner)))


def with_inflated_table(path: Path, ground: Ground) -> None:
    """The video's table of times grown by 100 MB of zeros, sparse on disk."""
    data = bytearray(ground.good.read_bytes())
    count = 12_500_000
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        at = data.index(kind) - 4
        (length,) = struct.unpack_from(">I", data, at)
        struct.pack_into(">I", data, at, length + 8 * count)
    (stated,) = struct.unpack_from(">I", data, at + 12)
    struct.pack_into(">I", data, at + 12, stated + count)
    with path.open("wb") as file:
        file.write(data[: at + length])
        file.seek(8 * count, 1)
        file.write(data[at + length :])


def with_edits(data: bytes, edits: list[tuple[float, int]]) -> bytes:
    """The first track with this edit list of (seconds, start in media time); -1 is an empty edit."""
    (scale,) = struct.unpack_from(">I", data, find_boxes(data, b"mvhd")[0] + 12)
    rows = b"".join(struct.pack(">IiI", round(length * scale), start, 0x10000) for length, start in edits)
    elst = box(b"edts", box(b"elst", struct.pack(">II", 0, len(edits)) + rows))

    def insert(moov: bytes) -> bytes:
        at = moov.index(b"trak") - 4
        (length,) = struct.unpack(">I", moov[at : at + 4])
        track = moov[at + 8 : at + length]
        old = track.index(b"edts") - 4
        (old_length,) = struct.unpack(">I", track[old : old + 4])
        track = box(b"trak", track[:old] + elst + track[old + old_length :])
        return box(b"moov", moov[8:at] + track + moov[at + length :])

    return with_index_moved(data, insert)


def with_index_moved(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The file with a changed index put behind its media, whose offsets therefore shift by the old index only."""
    at = data.index(b"moov") - 4
    (length,) = struct.unpack(">I", data[at : at + 4])
    moov = bytearray(change(data[at : at + length]))
    for table in find_boxes(bytes(moov), b"stco"):
        (count,) = struct.unpack_from(">I", moov, table + 4)
        for place in range(table + 8, table + 8 + 4 * count, 4):
            struct.pack_into(">I", moov, place, struct.unpack_from(">I", moov, place)[0] - length)
    return data[:at] + data[at + length :] + bytes(moov)


def huge_jpegs(path: Path, ground: Ground, *, from_frame: int, stated: bool) -> None:
    """Motion JPEG whose pictures say 12000x12000 from some frame on, and whose index says so or does not."""
    drawn("testsrc2=s=128x96:r=10:d=2", "-c:v", "mjpeg")(path, ground)
    data = bytearray(path.read_bytes())
    side = struct.pack(">HH", 12000, 12000)
    at, frame = data.find(b"\xff\xc0\x00\x11\x08"), 0
    while at >= 0:
        if frame >= from_frame:
            data[at + 5 : at + 9] = side
        at, frame = data.find(b"\xff\xc0\x00\x11\x08", at + 1), frame + 1
    if stated:
        entry = data.index(b"stsd") + 4 + 8 + 8
        data[entry + 24 : entry + 28] = side
    path.write_bytes(data)


def png_bomb() -> bytes:
    """20000x20000 pixels in 50 KB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(2501 * 1000)) for _ in range(20)) + packer.flush()
    header = struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def avi_with_playlist(port: int, secret: Path) -> bytes:
    """An AVI whose subtitle chunk (GAB2) holds a playlist: the shape of CVE-2017-9993."""
    playlist = f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/gab2\n#EXTINF:1,\nfile://{secret}\n".encode()
    gab2 = (
        b"GAB2\x00\x02\x00" + struct.pack("<I", 2) + b"x\x00" + b"\x04\x00" + struct.pack("<I", len(playlist))
    )
    chunk = b"01tx" + struct.pack("<I", len(gab2 + playlist)) + gab2 + playlist
    movi = b"LIST" + struct.pack("<I", 4 + len(chunk)) + b"movi" + chunk
    return b"RIFF" + struct.pack("<I", 4 + len(movi)) + b"AVI " + movi


def two_sizes(path: Path, first: str, second: str, codec: tuple[str, ...]) -> None:
    """One stream whose pictures change size in the middle, as calls recorded by browsers do."""
    parts = []
    for place, size in enumerate((first, second)):
        part = path.with_name(f"{path.stem}-part{place}{path.suffix}")
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d=0.6", *codec, str(part))
        parts.append(part)
    script = path.with_name("parts.txt")
    script.write_text("".join(f"file '{part.name}'\n" for part in parts))
    ffmpeg("-f", "concat", "-safe", "0", "-i", str(script), "-c", "copy", str(path))
    for leftover in (*parts, script):
        leftover.unlink()


# The files -----------------------------------------------------------------------------------------------------

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
MPD = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT2S"><Period>'
    '<AdaptationSet><Representation id="1" mimeType="video/mp4"><BaseURL>http://127.0.0.1:{port}/</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="640" height="360">'
    '<image href="http://127.0.0.1:{port}/a.png"/><image xlink:href="file://{secret}"/></svg>'
)
SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)
ASS = (
    "[Script Info]\nScriptType: v4.00+\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Evil,40\n"
    "[Events]\nFormat: Layer, Start, End, Style, Text\nDialogue: 0,0:00:00.00,0:00:02.00,Default,"
    r"{\fnEvil}SUBTITLE OF THE SOURCE" + "\n"
)
MOD = b"song".ljust(20, b"\0") + bytes(31 * 30) + b"\x01\x7f" + bytes(128) + b"M.K." + bytes(1024)
GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00;"
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x02\x00\x00\x00" + bytes(20)
SAUCE = b"\x1a" + b"SAUCE00" + b"title".ljust(121, b" ")


def _with_subtitles(path: Path, ground: Ground) -> None:
    script = path.with_name("track.ass")
    script.write_text(ASS)
    font = path.with_name("font.ttf")
    font.write_bytes(b"\x00\x01\x00\x00" + bytes(200))
    ffmpeg(
        "-i", str(ground.good), "-i", str(script), "-map", "0", "-map", "1", "-c", "copy", "-attach", str(font),
        "-metadata:s:t", "mimetype=font/ttf", "-metadata:s:t", "filename=../../evil.ttf", str(path),
    )  # fmt: skip
    script.unlink()
    font.unlink()


def _with_dirty_tags(path: Path, ground: Ground) -> None:
    tags = path.with_name("tags.txt")
    dirty = DIRTY_TEXT.replace("\0", "")
    tags.write_text(
        ";FFMETADATA1\n" + "".join(f"{key}={dirty}\\\n{dirty * 50}\n" for key in ("title", "comment"))
    )
    ffmpeg(
        "-i",
        str(ground.good),
        "-f",
        "ffmetadata",
        "-i",
        str(tags),
        "-map_metadata",
        "1",
        "-c",
        "copy",
        str(path),
    )
    tags.unlink()


def _with_cover(path: Path, ground: Ground) -> None:
    cover = path.with_name("cover.jpg")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:d=1", "-frames:v", "1", str(cover))
    ffmpeg(
        "-f", "lavfi", "-i", "sine=d=2", "-i", str(cover), "-map", "0", "-map", "1", "-c:v", "copy",
        "-disposition:v", "attached_pic", str(path),
    )  # fmt: skip
    cover.unlink()


def _encrypted(path: Path, ground: Ground) -> None:
    made("-i", "{good}", "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76" * 16,
         "-encryption_kid", "a7" * 16)(path, ground)  # fmt: skip


GAP = (
    r"testsrc2=s=64x64:r=10:d=3,setpts=if(gt(N\,10)\,PTS+43200/TB\,PTS)",
    "-fps_mode",
    "passthrough",
    *X264,
)

HOSTILE_FILES: Mapping[str, HostileFile] = {
    # Nothing, or not all of it.
    "no bytes": HostileFile("clip.mp4", written(b""), "empty_file"),
    "a type box and nothing else": HostileFile("clip.mp4", altered(lambda d: d[:32]), "truncated_media"),
    "cut before its index": HostileFile(
        "clip.mp4",
        lambda p, g: p.write_bytes((d := with_index_moved(g.good.read_bytes(), bytes))[: len(d) * 6 // 10]),
        "truncated_media",
    ),
    "cut behind its index": HostileFile("clip.mp4", lambda p, g: cut_short(g.good, p), "truncated_media"),
    "random bytes": HostileFile("clip.mp4", written(random.Random(5).randbytes(50_000)), "not_a_video"),
    # Something else by the name of a video.
    "text": HostileFile("clip.mp4", written("just some text, nothing else at all\n" * 20), "not_a_video"),
    "html": HostileFile("clip.mp4", written("<!doctype html><html></html>" * 20), "not_a_video"),
    "json": HostileFile("clip.mp4", written('{"a": 1}' * 20), "not_a_video"),
    "zip": HostileFile("clip.mp4", written(b"PK\x03\x04" + bytes(500)), "not_a_video"),
    "a video behind a zip": HostileFile(
        "clip.mp4", altered(lambda d: b"PK\x03\x04" + bytes(26) + d), "not_a_video"
    ),
    "plain text as video": HostileFile("clip.txt", written("hello\n" * 99), "not_a_video"),
    "ANSI art": HostileFile("art.ans", written(b"\x1b[31mart" * 99 + SAUCE), "not_a_video"),
    "XBIN art": HostileFile(
        "art.xb", written(b"XBIN\x1a\x50\x00\x19\x00\x10\x00" + bytes(4000)), "not_a_video"
    ),
    "subtitles": HostileFile("clip.srt", written("1\n00:00:01,000 --> 00:00:02,000\nhi\n"), "not_a_video"),
    "a still picture": HostileFile(
        "clip.mp4", written(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(500)), "not_a_video"
    ),
    "a picture of 400 megapixels": HostileFile(
        "clip.mp4", lambda p, g: p.write_bytes(png_bomb()), "not_a_video"
    ),
    "endless GIF": HostileFile("clip.gif", written(GIF), "not_a_video"),
    "endless APNG": HostileFile(
        "clip.png", drawn(SMALL, "-frames:v", "5", "-f", "apng", "-plays", "0"), "not_a_video"
    ),
    "endless WebP": HostileFile("clip.webp", written(WEBP), "unsupported_container"),
    "tracker music": HostileFile("song.mod", written(MOD), "not_a_video"),
    "chip music": HostileFile("song.sid", written(b"PSID\x00\x02\x00\x7c" + bytes(500)), "not_a_video"),
    "sound alone": HostileFile(
        "song.m4a", made("-f", "lavfi", "-i", "sine=d=2", "-c:a", "aac"), "no_video_stream"
    ),
    "MP3 with cover art": HostileFile("song.mp3", _with_cover, "not_a_video"),
    "M4A with cover art": HostileFile("song.m4a", _with_cover, "no_video_stream"),
    "AVI with a playlist for subtitles": HostileFile(
        "clip.avi", lambda p, g: p.write_bytes(avi_with_playlist(g.port, g.secret)), "unsupported_container"
    ),
    # Scripts that name other places.
    **{
        f"HLS to {what} as {suffix}": HostileFile(f"clip.{suffix}", pointing(HLS.format(aim)), "not_a_video")
        for what, aim in {
            "http": "http://127.0.0.1:{port}/a.ts",
            "a file": "file://{neighbour}",
            "a concat": "concat:http://127.0.0.1:{port}/b.ts|{secret}",
            "a subfile": "subfile,,start,0,end,100,,:{secret}",
            "a cipher": "crypto+http://127.0.0.1:{port}/c.ts",
        }.items()
        for suffix in ("mp4", "m3u8")
    },
    "HLS behind a type box": HostileFile(
        "clip.mp4",
        lambda p, g: p.write_bytes(
            box(b"ftyp", b"isom\x00\x00\x02\x00isom") + HLS.format(f"http://127.0.0.1:{g.port}/d.ts").encode()
        ),
        "truncated_media",
    ),
    "concat of a file": HostileFile(
        "clip.mp4", pointing("ffconcat version 1.0\nfile '{neighbour}'\n"), "not_a_video"
    ),
    "concat of the file beside it": HostileFile(
        "clip.mp4", pointing("ffconcat version 1.0\nfile '{beside}'\n"), "not_a_video"
    ),
    "concat of an address": HostileFile(
        "clip.mp4", pointing("ffconcat version 1.0\nfile 'http://127.0.0.1:{port}/e.mp4'\n"), "not_a_video"
    ),
    "DASH": HostileFile("clip.mpd", pointing(MPD), "not_a_video"),
    "SDP": HostileFile("clip.sdp", pointing(SDP), "not_a_video"),
    "SVG": HostileFile("clip.svg", pointing(SVG), "not_a_video"),
    "SVG as MP4": HostileFile("clip.mp4", pointing(SVG), "not_a_video"),
    # Too much of something.
    "pictures of 144 megapixels": HostileFile(
        "clip.mov", lambda p, g: huge_jpegs(p, g, from_frame=0, stated=True), "too_large_frame"
    ),
    "pictures of 144 megapixels, unsaid": HostileFile(
        "clip.mov", lambda p, g: huge_jpegs(p, g, from_frame=0, stated=False), "unreadable"
    ),
    "twelve hours of nothing": HostileFile("clip.mkv", drawn(*GAP), "broken_timestamps"),
    "1000 pictures a second": HostileFile(
        "clip.mp4", drawn("color=s=64x64:r=1000:d=2", *X264), "bad_frame_rate"
    ),
    "ten hours in few bytes": HostileFile(
        "clip.mp4", drawn("color=s=64x64:r=1/20:d=36000", *X264), "too_long"
    ),
    "1x1": HostileFile("clip.mov", drawn("color=s=1x1:r=25:d=1.2", "-c:v", "mjpeg"), "too_small_frame"),
    "33x17": HostileFile("clip.mov", drawn("color=s=33x17:r=25:d=1.2", "-c:v", "mjpeg"), "too_small_frame"),
    "8K": HostileFile("clip.mp4", drawn("color=s=8192x4320:r=5:d=1", "-c:v", "mjpeg"), "too_large_frame"),
    "60 tracks": HostileFile("clip.mp4", altered(lambda d: with_many_tracks(d, 60)), "too_many_streams"),
    "1000 tracks": HostileFile("clip.mp4", altered(lambda d: with_many_tracks(d, 1000)), "too_many_streams"),
    "an index of 100 MB": HostileFile("clip.mp4", with_inflated_table, "unreadable"),
    "an index that unpacks to 100 MB": HostileFile(
        "clip.mp4", altered(lambda d: with_compressed_index(d, 100 << 20)), "no_video_stream"
    ),
    "an edit list that plays one second 10 000 times": HostileFile(
        "clip.mp4", altered(lambda d: with_edits(d, [(1.2, 0)] * 10_000)), "too_long"
    ),
    # Clocks that lie.
    "time in no units": HostileFile(
        "clip.mp4", altered(lambda d: patched(d, b"mdhd", 12, bytes(4))), "bad_frame_rate"
    ),
    "negative length": HostileFile(
        "clip.mp4",
        altered(lambda d: patched(patched(d, b"mdhd", 16, b"\xff" * 4), b"mvhd", 16, b"\x80" + bytes(3))),
        None,
    ),
    "an endless frame": HostileFile(
        "clip.mp4",
        altered(lambda d: patched(d, b"stts", 12, struct.pack(">I", 0x7FFFFFFF), which=0)),
        "too_long",
    ),
    "an edit that starts in a far future": HostileFile(
        "clip.mp4", altered(lambda d: with_edits(d, [(20 * 3600, -1), (1.2, 0)])), "broken_timestamps"
    ),
    # Closed, or in a language not spoken here.
    "protected": HostileFile("clip.mp4", _encrypted, "encrypted"),
    "a codec nobody knows": HostileFile(
        "clip.mp4",
        altered(lambda d: d.replace(b"avc1\x00\x00\x00\x00", b"zzz1\x00\x00\x00\x00")),
        "unsupported_codec",
    ),
    "FFV1": HostileFile("clip.mkv", drawn(SMALL, "-c:v", "ffv1"), "unsupported_codec"),
    "MagicYUV": HostileFile("clip.mov", drawn(SMALL, "-c:v", "magicyuv"), "unsupported_codec"),
    "PNG in a movie": HostileFile("clip.mov", drawn(SMALL, "-c:v", "png"), "unsupported_codec"),
    # Odd, but good.
    "HTML behind the video": HostileFile(
        "clip.mp4", altered(lambda d: d + f"<script>{CANARY}".encode() * 99), None
    ),
    "tags with control characters": HostileFile("clip.mp4", _with_dirty_tags, None),
    "attachments and styled subtitles": HostileFile("clip.mkv", _with_subtitles, None),
    "no sound": HostileFile("clip.mp4", drawn(SMALL, *X264), None),
}
