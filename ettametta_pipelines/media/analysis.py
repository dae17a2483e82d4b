"""Looks at an accepted video once: shots, brightness, motion, the subject, a contact sheet, a fingerprint, loudness.

One decode onto small frames by ffmpeg in confinement; numpy sees only those. The `media_analysis` asset calls
`analyse` and keeps its answer, renders take the loudness from there.
"""

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.media import fingerprint
from ettametta_pipelines.media.intake import fetch
from ettametta_pipelines.media.pictures import jpeg_within
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.media.resemblance import keep_fingerprint
from ettametta_pipelines.media.stills import Candidate, StillScorer, as_words
from ettametta_pipelines.media.subject import LOOKS_PER_S, Spotter, SubjectTrack, in_words
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, size_guard, source_options
from ettametta_pipelines.renders.formats import output_rate
from ettametta_pipelines.renders.sound import Loudness, measure_loudness
from ettametta_pipelines.storage.objects import ObjectStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image as Pictures

    Plane = NDArray[np.uint8]

LONG_SIDE = 320
MAX_RATE = 30
SHEET_COLUMNS, SHEET_ROWS = 4, 3
SHEET_BUDGET = 36 * 1024

# A cut stands out twice: above what any motion reaches, and above its own neighbourhood. On the real clips at hand
# motion stays under 0.07 of this measure and cuts between scenes start at 0.17.
CUT_DISTANCE = 0.11
CUT_OVER_NEIGHBOURS = 3.0
NEIGHBOURS = 6
SHORTEST_SHOT_S = 0.3


@dataclass(frozen=True)
class Analysis:
    """What was seen. Shot starts in seconds, first 0.0; luma and motion 0..1; loudness None when silent.

    `thumbs` are the raw grey pictures a fingerprint is made of.
    """

    duration_s: float
    shot_starts_s: list[float]
    mean_luma: float
    mean_motion: float
    loudness: Loudness | None
    subject: SubjectTrack
    contact_sheet: bytes
    thumbs: bytes
    stills: list[Candidate]
    frames: int
    seconds: float


def analyse(source: Path, probe: Probe, workdir: Path) -> Analysis:
    """Analyse an accepted local file. Raises PipelineError by the runner's table, e.g. `decode_failed`."""
    started = time.monotonic()
    width, height = small_size(probe)
    rate = min(output_rate(probe.fps, variable=probe.variable_rate), Fraction(MAX_RATE))
    watcher = Watcher(width, height, rate, round(probe.duration_s * rate))
    options = source_options(probe) | {
        "t": f"{probe.duration_s + 1:.3f}",
        "skip_loop_filter": "all",
        "threads": "2",
    }
    guard = ":".join(f"{name}='{value}'" for name, value in size_guard(probe).items())
    shrink = f"scale={width}:{height}:flags=fast_bilinear"
    with ThreadPoolExecutor(1) as beside:
        loudness = beside.submit(measure_loudness, source.absolute(), probe, workdir)
        run_ffmpeg(
            [
                *(part for name, value in options.items() for part in (f"-{name}", value)),
                "-i", f"file:{source.absolute()}", "-map", f"0:{probe.video_index}", "-an", "-sn", "-dn",
                "-vf", f"crop={guard},fps={rate}:start_time=0,{shrink},format=yuv420p",
                "-frames:v", str(max(1, watcher.expected_frames)), "-f", "rawvideo", "pipe:1",
            ],
            doing="looking at the footage",
            workdir=workdir,
            timeout_s=60 + 2 * probe.duration_s,
            on_stdout=watcher.take,
        )  # fmt: skip
    shot_starts_s = watcher.shot_starts()
    return Analysis(
        duration_s=probe.duration_s,
        shot_starts_s=shot_starts_s,
        mean_luma=watcher.mean_luma,
        mean_motion=watcher.mean_motion,
        loudness=loudness.result(),
        subject=watcher.spotter.track(shot_starts_s, probe.duration_s, float(probe.display_aspect)),
        contact_sheet=watcher.contact_sheet(),
        thumbs=bytes(watcher.sampler.thumbs),
        stills=watcher.scorer.candidates,
        frames=watcher.frames,
        seconds=time.monotonic() - started,
    )


def analyse_source(
    store: ObjectStore, source_id: str, object_key: str, *, scratch: Path
) -> tuple[dict[str, Any], bytes]:
    """Analyse a stored source, keep its contact sheet and its subject's track; returns the row and the sheet.

    Raises PermanentError with the probe's reason code when the stored object is no longer good.
    """
    with private_dir(scratch, "analysis") as workdir:
        path = fetch(store, object_key, workdir)
        seen = analyse(path, require_probe(path, name=object_key), workdir)
    sheet_key = f"media/analysis/{source_id}/contact_sheet.jpg"
    store.put(sheet_key, seen.contact_sheet, content_type="image/jpeg")
    samples = fingerprint.samples_of(seen.thumbs)
    subject_key = f"media/analysis/{source_id}/subject.json"
    store.put(subject_key, seen.subject.as_json(), content_type="application/json")
    row = {
        "source_id": source_id,
        "shot_count": len(seen.shot_starts_s),
        "shot_starts_s": [f"{start:.3f}" for start in seen.shot_starts_s],
        "mean_shot_s": seen.duration_s / len(seen.shot_starts_s),
        "mean_luma": seen.mean_luma,
        "mean_motion": seen.mean_motion,
        "loudness_lufs": seen.loudness.lufs if seen.loudness else None,
        "true_peak_dbtp": seen.loudness.peak_dbtp if seen.loudness else None,
        "subject_key": subject_key,
        "subject_seen": in_words(seen.subject),
        "faces_share": seen.subject.share("faces"),
        "contact_sheet_key": sheet_key,
        "contact_sheet_bytes": len(seen.contact_sheet),
        "fingerprint_key": keep_fingerprint(store, source_id, samples),
        "fingerprint_digest": fingerprint.digest(samples),
        "stills": as_words(seen.stills),
        "frames_analysed": seen.frames,
        "analysis_seconds": seen.seconds,
    }
    return row, seen.contact_sheet


def small_size(probe: Probe) -> tuple[int, int]:
    """Even size with square pixels, the longer side 320."""
    aspect = probe.display_aspect
    if aspect >= 1:
        return LONG_SIDE, max(16, 2 * round(LONG_SIDE / aspect / 2))
    return max(16, 2 * round(LONG_SIDE * aspect / 2)), LONG_SIDE


@dataclass
class Watcher:
    """Takes raw yuv420p frames as they are decoded; keeps one number per frame and a dozen pictures."""

    width: int
    height: int
    rate: Fraction
    expected_frames: int
    frames: int = 0
    luma_sum: float = 0.0
    motion_sum: float = 0.0
    distances: list[float] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    pending: bytearray = field(default_factory=bytearray)
    previous: "tuple[Plane, NDArray[np.float64]] | None" = None
    spotter: Spotter = field(init=False)
    sampler: fingerprint.Sampler = field(init=False)
    scorer: StillScorer = field(init=False)

    def __post_init__(self) -> None:
        self.spotter = Spotter(self.width, self.height)
        self.sampler = fingerprint.Sampler(self.rate)
        self.scorer = StillScorer(self.rate, float(self.expected_frames / self.rate))

    @property
    def frame_bytes(self) -> int:
        return self.width * self.height * 3 // 2

    @property
    def mean_luma(self) -> float:
        """16 is black and 235 white in limited range."""
        return min(1.0, max(0.0, (self.luma_sum / max(1, self.frames) - 16) / 219))

    @property
    def mean_motion(self) -> float:
        return self.motion_sum / max(1, self.frames - 1)

    def take(self, chunk: bytes) -> None:
        self.pending += chunk
        while len(self.pending) >= self.frame_bytes:
            self._look_at(bytes(self.pending[: self.frame_bytes]))
            del self.pending[: self.frame_bytes]

    def _look_at(self, frame: bytes) -> None:
        import numpy as np

        whole = np.frombuffer(frame, np.uint8, self.width * self.height).reshape(self.height, self.width)
        luma = whole[::2, ::2]
        chroma = np.frombuffer(frame, np.uint8, offset=self.width * self.height)
        tones = _histogram(luma, chroma)
        self.luma_sum += float(luma.mean())
        if self.previous is not None:
            change = float(np.abs(luma.astype(np.int16) - self.previous[0]).mean()) / 255
            self.motion_sum += change
            # A cut changes both what is where and how much of each tone there is; a pan only the first, a flash
            # mostly the second.
            difference = float(np.abs(tones - self.previous[1]).sum()) / 2
            self.distances.append((change * difference) ** 0.5)
        self.previous = (luma, tones)
        if len(self.kept) < SHEET_COLUMNS * SHEET_ROWS and self.frames >= self._sheet_frame(len(self.kept)):
            self.kept.append(frame)
        self.sampler.look_at(self.frames, luma)
        self.scorer.look(self.frames, whole)
        if self.frames * LOOKS_PER_S >= self.spotter.count * self.rate:
            picture = np.asarray(self._picture(frame))
            self.spotter.look(float(self.frames / self.rate), picture, whole)
        self.frames += 1

    def _sheet_frame(self, place: int) -> int:
        """Frame of a cell: the middle of its equal share of the video."""
        return int((place + 0.5) * self.expected_frames / (SHEET_COLUMNS * SHEET_ROWS))

    def shot_starts(self) -> list[float]:
        """Start times in seconds. A cut must exceed its neighbours, so that shaky footage is not cut to pieces."""
        starts = [0.0]
        around: deque[float] = deque(self.distances[:NEIGHBOURS], maxlen=2 * NEIGHBOURS + 1)
        for place, distance in enumerate(self.distances):
            if place + NEIGHBOURS < len(self.distances):
                around.append(self.distances[place + NEIGHBOURS])
            others = (sum(around) - distance) / max(1, len(around) - 1)
            at = float((place + 1) / self.rate)
            stands_out = distance > CUT_DISTANCE and distance > CUT_OVER_NEIGHBOURS * others
            if stands_out and at - starts[-1] >= SHORTEST_SHOT_S:
                starts.append(at)
        return starts

    def contact_sheet(self) -> bytes:
        """Evenly spaced frames, four across, as a JPEG of at most 36 KB."""
        from PIL import Image

        cell_width = 200 if self.width >= self.height else 112
        cell = (cell_width, max(2, round(cell_width * self.height / self.width)))
        rows = -(-len(self.kept) // SHEET_COLUMNS) or 1
        sheet = Image.new("RGB", (SHEET_COLUMNS * (cell[0] + 4) - 4, rows * (cell[1] + 4) - 4), "white")
        for place, frame in enumerate(self.kept):
            across, down = place % SHEET_COLUMNS, place // SHEET_COLUMNS
            sheet.paste(self._picture(frame).resize(cell), (across * (cell[0] + 4), down * (cell[1] + 4)))
        return jpeg_within(sheet, SHEET_BUDGET)

    def _picture(self, frame: bytes) -> "Pictures.Image":
        """yuv420p of limited range as an RGB image."""
        import numpy as np
        from PIL import Image

        size, quarter = self.width * self.height, self.width * self.height // 4
        luma = np.frombuffer(frame, np.uint8, size).astype(np.float32)
        full = np.clip((luma - 16) * (255 / 219), 0, 255).astype(np.uint8)
        planes = [Image.frombytes("L", (self.width, self.height), full.tobytes())]
        for start in (size, size + quarter):
            half = Image.frombytes("L", (self.width // 2, self.height // 2), frame[start : start + quarter])
            planes.append(half.resize((self.width, self.height)))
        return Image.merge("YCbCr", planes).convert("RGB")


def _histogram(luma: "Plane", chroma: "Plane") -> "NDArray[np.float64]":
    """Shares of 32 luma and 16 chroma tones, summing to one."""
    import numpy as np

    tones = np.bincount(luma.ravel() >> 3, minlength=32) / luma.size
    hues = np.bincount(chroma >> 4, minlength=16) / chroma.size
    return np.concatenate((tones, hues)) / 2
