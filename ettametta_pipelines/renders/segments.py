"""Segments: a rendition's timeline in pieces, each encoded on its own and joined without encoding again.

What happens in one piece does not touch the others: a changed caption costs one piece, a long source no more memory
than a short one, and several can be made side by side. The cuts follow from the source and the recipe alone, so the
bytes do not depend on who made which piece when. `engine.py` renders them, `library.py` keeps what they were.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ettametta_pipelines.renders.tempo import TimeMap

# Long enough that starting ffmpeg and draining its encoders does not count, short enough that one is little.
TARGET_S = 6.0
# The last one may not be a sliver.
SHORTEST_S = 2.0
# How near to the border between two frames a keyframe may lie before rounding could go either way.
ROUNDING_MARGIN = 0.05
JOIN_LIST = "join.ffconcat"


@dataclass(frozen=True)
class Segment:
    """Frames `first` to `end` (exclusive) of a rendition; decoding begins at `entry_s` of the source, None is 0."""

    index: int
    first: int
    end: int
    entry_s: float | None = None

    @property
    def frames(self) -> int:
        return self.end - self.first


@dataclass(frozen=True)
class MadeSegment:
    """A segment as a finished rendition holds it; the same key means the same bytes of video."""

    key: str
    first: int
    end: int


def plan_segments(
    frame_count: int, rate: Fraction, times: TimeMap, entry_points_s: Sequence[float]
) -> list[Segment]:
    """Cuts at the first keyframe `TARGET_S` or more after the last cut; one segment where the source has none."""
    cuts: list[tuple[int, float | None]] = [(0, None)]
    for entry_s in entry_points_s:
        exact = times.output_time(entry_s) * float(rate)
        first = round(exact)
        if abs(exact - first) > 0.5 - ROUNDING_MARGIN:
            continue
        long_enough = first - cuts[-1][0] >= TARGET_S * rate
        if long_enough and frame_count - first >= SHORTEST_S * rate:
            cuts.append((first, entry_s))
    ends = [*(first for first, _ in cuts[1:]), frame_count]
    return [
        Segment(index, first, end, entry_s)
        for index, ((first, entry_s), end) in enumerate(zip(cuts, ends, strict=True))
    ]


def segment_key(arguments: Sequence[str], workdir: Path, names: Mapping[str, str]) -> str:
    """32 hex digits of everything ffmpeg is given for one segment of one format.

    `names` replaces what differs from place to place (the source's path) by what does not (its hash); files in
    `workdir` that the arguments name count with their content.
    """
    text = "\n".join(arguments)
    for path, stands_for in names.items():
        text = text.replace(path, stands_for)
    text = text.replace(f"{workdir}/", "")
    digest = hashlib.sha256(text.encode())
    for file in sorted(workdir.iterdir()):
        if file.is_file() and file.name in text:
            digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:32]


def write_join_list(workdir: Path, pieces: Sequence[tuple[Path, int]], rate: Fraction, name: str) -> str:
    """A list for ffmpeg's concat demuxer of files in `workdir` and their lengths in frames; returns its name."""
    lines = ["ffconcat version 1.0"]
    for path, frames in pieces:
        lines += [f"file {path.name}", f"duration {float(frames / rate):.6f}"]
    listing = f"{name}.{JOIN_LIST}"
    (workdir / listing).write_text("\n".join([*lines, ""]))
    return listing


def join_arguments(listing: str, sound: Path | None, target: Path) -> list[str]:
    """Segments one after another and the sound beside them, nothing of it encoded again."""
    # The segments' headers are the same; left to itself the demuxer would write them into every keyframe.
    arguments = ["-f", "concat", "-safe", "1", "-auto_convert", "0", "-i", listing]
    if sound is not None:
        arguments += ["-protocol_whitelist", "file", "-f", "mov", "-i", f"file:{sound}"]
    arguments += ["-map", "0:v"] + (["-map", "1:a"] if sound is not None else [])
    return [
        *arguments, "-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact",
        "-movflags", "+faststart", "-f", "mp4", f"file:{target}",
    ]  # fmt: skip


def cut_arguments(rendition: Path, made: MadeSegment, rate: Fraction, target: Path) -> list[str]:
    """One segment out of a finished rendition, as it was before it was joined."""
    begin_s = made.first / float(rate)
    shift = f"round({begin_s:.9f}/TB)"
    # Looked for a quarter frame late, since a keyframe's own time may be rounded up.
    return [
        "-copyts", "-protocol_whitelist", "file", "-f", "mov", "-ss", f"{begin_s + 0.25 / rate:.6f}",
        "-i", f"file:{rendition}", "-map", "0:v", "-c", "copy", "-frames:v", str(made.end - made.first),
        "-bsf:v", f"setts=pts=PTS-{shift}:dts=DTS-{shift}", "-avoid_negative_ts", "disabled",
        "-map_metadata", "-1", "-fflags", "+bitexact", "-f", "mp4", f"file:{target}",
    ]  # fmt: skip


def segments_document(sha256: str, made: Sequence[MadeSegment]) -> bytes:
    """JSON of what the rendition with this hash is made of."""
    rows = [[segment.key, segment.first, segment.end] for segment in made]
    return json.dumps({"sha256": sha256, "segments": rows}).encode()


def segments_from(document: bytes) -> tuple[str, list[MadeSegment]]:
    """The inverse of `segments_document`; raises ValueError, KeyError or TypeError for anything else."""
    read = json.loads(document)
    rows = [MadeSegment(str(key), int(first), int(end)) for key, first, end in read["segments"]]
    return str(read["sha256"]), rows
