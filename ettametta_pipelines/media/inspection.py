"""The inspector: reads one media file and prints what it found as JSON. Runs only as a confined child of `probe.py`.

It imports the standard library and PyAV, nothing of the product, and judges nothing: facts and the class of the
first error go out, policy and words are `probe.py`'s. The container is chosen by magic bytes, never by guessing
among all demuxers, so playlists and text never reach code that opens other files.
"""

import json
import os
import struct
import sys
from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, Any

import av
from av.video.codeccontext import VideoCodecContext

# First bytes -> what the file is. Offsets matter: MP4 and QuickTime carry their type at byte 4.
MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
MATROSKA_MAGIC = b"\x1a\x45\xdf\xa3"
OTHER_CONTAINERS = (
    (0, b"RIFF", "AVI or WAV"),
    (0, b"FLV", "Flash video"),
    (0, b"OggS", "Ogg"),
    (0, b"\x30\x26\xb2\x75", "Windows Media"),
    (0, b"\x00\x00\x01\xba", "MPEG program stream"),
    (0, b"\x47\x40", "MPEG transport stream"),
)
STILL_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"crx ")
TOP_LEVEL_BOXES = frozenset(
    (*MOV_BOXES, b"moof", b"mfra", b"meta", b"uuid", b"sidx", b"styp", b"udta", b"pdin", b"emsg", b"pnot")
)
TRACK_BOXES = frozenset((b"moov", b"trak", b"mdia", b"minf", b"stbl"))
MATROSKA_SEGMENT = 0x18538067
UNKNOWN_SIZE = -1

MAX_STREAMS_READ = 64
ENTRY_SPACING_S = 2.0
SEEKS_TRIED = 8


class Found(Exception):
    """The file cannot be used; `code` is one of the reason codes of `probe.py`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def container_of(head: bytes) -> str:
    """`mov` or `matroska` by the first bytes; raises Found for everything else."""
    if head[4:8] in MOV_BOXES:
        if head[4:8] == b"ftyp" and head[8:12] in STILL_IMAGE_BRANDS:
            raise Found("not_a_video", "a still image")
        return "mov"
    if head.startswith(MATROSKA_MAGIC):
        return "matroska"
    for offset, magic, name in OTHER_CONTAINERS:
        if head[offset : offset + len(magic)] == magic:
            raise Found("unsupported_container", name)
    raise Found("not_a_video")


def boxes(file: IO[bytes], start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte of the content and stated end of each box between two offsets of an MP4."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(16)
        length, kind = struct.unpack(">I4s", header[:8])
        inner = start + 8
        if length == 1 and len(header) == 16:
            length, inner = struct.unpack(">Q", header[8:])[0], start + 16
        elif length == 0:
            length = end - start
        yield kind, inner, start + length
        if start + length < inner:
            return
        start += length


def walk_boxes(file: IO[bytes], size: int) -> None:
    """Check that an MP4's top-level boxes lie inside the file and that index and media are there.

    A faststart file cut short still has its whole index and plays to the cut without an error; only the stated end
    of its last box tells. Bytes after the last known box are somebody's tail and do no harm.
    """
    seen = set()
    for kind, inner, stop in boxes(file, 0, size):
        if kind not in TOP_LEVEL_BOXES:
            break
        if stop < inner:
            raise Found("unreadable", "a box is smaller than its own header")
        if stop > size:
            raise Found("truncated_media", f"{stop - size} bytes are missing at its end")
        seen.add(kind)
    if b"moov" not in seen:
        raise Found("truncated_media", "its index (moov) is missing")
    if not seen & {b"mdat", b"moof"}:
        raise Found("truncated_media", "its media data (mdat) is missing")


def is_encrypted(file: IO[bytes], start: int, end: int, depth: int = 0) -> bool:
    """Whether a sample description of an MP4 says `encv` or `enca` (common encryption)."""
    for kind, inner, stop in boxes(file, start, end):
        if kind == b"stsd":
            if any(entry in (b"encv", b"enca") for entry, _, _ in boxes(file, inner + 8, min(stop, end))):
                return True
        elif (
            kind in TRACK_BOXES
            and depth < len(TRACK_BOXES)
            and is_encrypted(file, inner, min(stop, end), depth + 1)
        ):
            return True
    return False


def read_vint(file: IO[bytes], *, keep_marker: bool) -> int:
    """One EBML variable-length integer at the file's position; -1 for the reserved 'unknown size'."""
    first = file.read(1)
    if not first or first[0] == 0:
        raise Found("unreadable", "an EBML number is malformed")
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    value = int.from_bytes(first + rest, "big")
    mask = (1 << 7 * length) - 1
    if keep_marker:
        return value
    return UNKNOWN_SIZE if value & mask == mask else value & mask


def walk_segment(file: IO[bytes], size: int) -> None:
    """Check that a Matroska file's segment lies inside the file; live recordings state no size."""
    file.seek(0)
    for _ in range(8):
        element = read_vint(file, keep_marker=True)
        length = read_vint(file, keep_marker=False)
        if element == MATROSKA_SEGMENT:
            missing = file.tell() + length - size
            if length != UNKNOWN_SIZE and missing > 0:
                raise Found("truncated_media", f"{missing} bytes are missing")
            return
        if length == UNKNOWN_SIZE:
            break
        file.seek(length, os.SEEK_CUR)
    raise Found("truncated_media", "it ends before its first segment")


STRUCTURE = {"mov": walk_boxes, "matroska": walk_segment}


def open_container(path: str, form: str, codecs: list[str]) -> Any:
    options = {
        "protocol_whitelist": "file",
        "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
        "codec_whitelist": ",".join(codecs),
        "max_streams": str(MAX_STREAMS_READ),
        "probesize": "5000000",
        "analyzeduration": "5000000",
    }
    try:
        return av.open(f"file:{path}", format=form, options=options, metadata_errors="replace")
    except av.MemoryError as error:
        raise Found("too_many_streams", "more than its reader accepts") from error
    except (av.FFmpegError, ValueError) as error:
        raise Found("unreadable", type(error).__name__) from error


def pick_streams(container: Any) -> tuple[Any, Any]:
    """The video stream (cover art does not count) and the audio stream or None, by the container's defaults."""
    videos = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not videos:
        raise Found("no_video_stream")
    audios = list(container.streams.audio)
    default = av.stream.Disposition.default
    video = next((s for s in videos if s.disposition & default), videos[0])
    audio = next((s for s in audios if s.disposition & default), audios[0] if audios else None)
    return video, audio


def codec_of(stream: Any) -> str | None:
    """Name of a stream's decoder; None where there is no stream, or it is in a codec unknown or not allowed."""
    context = stream.codec_context if stream is not None else None
    return context.name if context is not None else None


def decode(context: VideoCodecContext, packet: Any) -> Any:
    """The first frame a packet (None: the end) brings out of the decoder, or None if it needs more."""
    try:
        return next(iter(context.decode(packet)), None)
    except (av.FFmpegError, ValueError) as error:
        raise Found("unreadable", f"its first frames cannot be decoded ({type(error).__name__})") from error


def check_samples_inside(streams: list[Any], size: int) -> None:
    """Check that every sample an MP4's index names lies inside the file, whatever its boxes state."""
    last = max((e.pos + e.size for stream in streams for e in stream.index_entries), default=0)
    if last > size:
        raise Found("truncated_media", f"{last - size} bytes are missing at its end")


class Clockwork:
    """Timestamps of one stream, in its time base, collected while its packets pass by."""

    def __init__(self) -> None:
        self.times = array("q")
        self.ends: int | None = None
        self.damaged = 0
        self.entries = array("q")

    def add(self, packet: Any) -> None:
        self.damaged += packet.is_corrupt
        stamp = packet.pts if packet.pts is not None else packet.dts
        # Packets an edit list cuts away are decoded but never shown.
        if stamp is None or packet.is_discard:
            return
        end = stamp + (packet.duration or 0)
        self.times.append(stamp)
        # Where a later packet is shown before a keyframe, decoding cannot begin there (an open group of pictures).
        while self.entries and stamp < self.entries[-1]:
            self.entries.pop()
        if packet.is_keyframe:
            self.entries.append(stamp)
        self.ends = end if self.ends is None else max(self.ends, end)


def demux(container: Any, video: Any, audio: Any) -> tuple[dict[int, Clockwork], Any]:
    """Read every packet of both streams once; returns their clocks and the first picture."""
    streams = [video] if audio is None else [video, audio]
    clocks = {stream.index: Clockwork() for stream in streams}
    picture = None
    try:
        for packet in container.demux(streams):
            if packet.size == 0:
                continue
            clocks[packet.stream_index].add(packet)
            if picture is None and packet.stream_index == video.index:
                picture = decode(video.codec_context, packet)
    except av.FFmpegError as error:
        raise Found("truncated_media", f"reading stopped early ({type(error).__name__})") from error
    picture = picture or decode(video.codec_context, None)
    if picture is None:
        raise Found("unreadable", "no frame of it can be decoded")
    return clocks, picture


def inspect(path: str, codecs: list[str]) -> dict[str, Any]:
    """Facts of one file as a JSON-able dict; raises Found."""
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        form = container_of(file.read(32))
        STRUCTURE[form](file, size)
        if form == "mov" and is_encrypted(file, 0, size):
            raise Found("encrypted")
    with open_container(path, form, codecs) as container:
        video, audio = pick_streams(container)
        facts: dict[str, Any] = {
            "container": form,
            "stream_count": len(container.streams),
            "video_codec": codec_of(video),
            "video_index": video.index,
            "audio_codec": codec_of(audio),
            "audio_index": audio.index if audio is not None else None,
            "stated_duration_s": container.duration / av.time_base if container.duration else None,
        }
        # Sizes and codecs are policy; a hopeless file is not read any further.
        if facts["video_codec"] not in codecs or (audio is not None and facts["audio_codec"] not in codecs):
            return facts
        facts |= {
            "coded_width": video.codec_context.width,
            "coded_height": video.codec_context.height,
            "audio_channels": audio.codec_context.channels if audio is not None else 0,
        }
        if facts["coded_width"] * facts["coded_height"] > 64_000_000:
            return facts
        if form == "mov":
            check_samples_inside([video] if audio is None else [video, audio], size)
        clocks, picture = demux(container, video, audio)
        facts |= time_facts(container, video, audio, clocks)
        facts |= picture_facts(video, picture)
        facts["entry_points_s"] = reachable_entries(path, form, codecs, video.index, clocks[video.index])
    return facts


def reachable_entries(
    path: str, form: str, codecs: list[str], video_index: int, clock: Clockwork
) -> list[float]:
    """Times at which decoding can begin, at least `ENTRY_SPACING_S` apart; none where seeking misses one tried.

    The file is opened afresh: a container read to its end knows places that one just opened would miss.
    """
    with open_container(path, form, codecs) as container:
        video = container.streams[video_index]
        origin = (container.start_time or 0) / av.time_base
        found: list[tuple[int, float]] = []
        for stamp in clock.entries:
            at_s = float(stamp * video.time_base) - origin
            if at_s - (found[-1][1] if found else 0.0) >= ENTRY_SPACING_S:
                found.append((stamp, at_s))
        tried = found[:: -(-len(found) // SEEKS_TRIED) or 1]
        if not all(seek_lands(container, video, stamp) for stamp, _ in tried):
            return []
    return [at_s for _, at_s in found]


def seek_lands(container: Any, video: Any, stamp: int) -> bool:
    """Whether seeking to a keyframe's time leads to that keyframe."""
    try:
        container.seek(stamp, stream=video)
        return bool(next(packet.pts for packet in container.demux(video) if packet.size) == stamp)
    except (av.FFmpegError, StopIteration):
        return False


def time_facts(container: Any, video: Any, audio: Any, clocks: dict[int, Clockwork]) -> dict[str, Any]:
    """Frame count, end on the common time line, frame rate and gaps, from the packets themselves."""
    clock, base = clocks[video.index], video.time_base
    if clock.ends is None:
        raise Found("unreadable", "its video stream has no frames")
    times = sorted(clock.times)
    steps = sorted(later - earlier for earlier, later in pairwise(times) if later > earlier)
    middle = steps[len(steps) // 2] if steps else 0
    span = float((times[-1] - times[0]) * base)
    # All times count from the earliest start of any stream, as ffmpeg's output does.
    origin = (container.start_time or 0) / av.time_base
    sound = clocks[audio.index] if audio is not None else None
    return {
        "frames": len(times),
        "duration_s": float(max(clock.ends, times[-1] + middle) * base) - origin,
        "fps": len(steps) / span if span > 0 else float(video.average_rate or 0),
        "clock_starts_s": origin,
        "starts_s": float(times[0] * base) - origin,
        "longest_gap_s": float(steps[-1] * base) if steps else 0.0,
        "variable_rate": bool(steps) and steps[-1] - steps[0] > max(0.2 * middle, 2),
        "damaged_packets": clock.damaged,
        "audio_packets": len(sound.times) if sound is not None else 0,
        "audio_duration_s": float(sound.ends * audio.time_base) - origin
        if sound is not None and sound.ends is not None
        else 0.0,
        "audio_starts_s": float(min(sound.times) * audio.time_base) - origin
        if sound is not None and sound.times
        else 0.0,
    }


def picture_facts(video: Any, frame: Any) -> dict[str, Any]:
    """Geometry and colour as the decoder gives them."""
    context = video.codec_context
    aspect = video.sample_aspect_ratio or context.sample_aspect_ratio
    return {
        "frame_width": frame.width,
        "frame_height": frame.height,
        "rotation": frame.rotation % 360,
        "sample_aspect": [aspect.numerator, aspect.denominator] if aspect else [1, 1],
        "pixel_format": frame.format.name,
        "bit_depth": max(component.bits for component in frame.format.components),
        "full_range": int(frame.color_range) == 2 or frame.format.name.startswith("yuvj"),
        "color_matrix": int(frame.colorspace),
        "color_transfer": int(frame.color_trc),
        "color_primaries": int(frame.color_primaries),
    }


def main() -> None:
    path, codecs = sys.argv[1], sys.argv[2].split(",")
    av.logging.set_level(av.logging.PANIC)
    try:
        answer = inspect(path, codecs)
    except Found as found:
        answer = {"error": found.code, "detail": found.detail}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
