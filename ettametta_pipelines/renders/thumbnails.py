"""Title pictures: the best frames of a source video, chosen by measure, cut to two shapes, plain and with the title.

The analysis has scored frames (`media/stills.py`); where an older one has not, one decode onto small frames does. Only
the chosen ones are decoded in full. The `thumbnails` asset calls `obtain_thumbnails`. Source and title alone decide
everything, so the same give the same pictures.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.analysis import small_size
from ettametta_pipelines.media.faces import find_faces
from ettametta_pipelines.media.intake import fetch
from ettametta_pipelines.media.pictures import jpeg_within
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.media.stills import MAX_FRAMES, Candidate, exposure_of, looks_per_s, sharpness_of
from ettametta_pipelines.media.subject import Extent, SubjectTrack
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, source_options
from ettametta_pipelines.renders.title_cards import STYLES, draw_title, drawable_title
from ettametta_pipelines.storage.objects import ObjectStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

SHAPES = {"16x9": (1280, 720), "9x16": (1080, 1920)}
COUNT = 3
# YouTube takes thumbnails up to 2 MB.
BUDGET = 1_900_000
# Within this of a cut, frames may hold a dissolve or a flash.
CUT_MARGIN_S = 0.5
SALIENCY_SIDE = 64
FACES_SIDE = 640
PLAIN = "plain"
# How much a subject in the frame counts beside sharpness and light: a face, so much more when large, and all else.
FACE_BONUS, LARGE_FACE_BONUS, OTHER_BONUS = 1.0, 0.8, 0.15
LARGE_FACE = 0.2


@dataclass(frozen=True)
class Thumbnail:
    """One stored picture: its table row, its bytes, and whether this call stored it."""

    row: dict[str, Any]
    jpeg: bytes
    new: bool


def obtain_thumbnails(
    store: ObjectStore,
    source_id: str,
    source_key: str,
    shot_starts_s: Sequence[float],
    *,
    scratch: Path,
    subject: SubjectTrack | None = None,
    title: str = "",
    scored: Sequence[Candidate] = (),
) -> list[Thumbnail]:
    """Choose, cut and keep the pictures of a stored source, best first, each in every shape, plain and titled.

    `scored` are its frames as the analysis scored them; without any the source is looked at here.
    A title of which the font has no letter is not drawn. Raises PermanentError with the probe's code when the stored
    object is no longer good, or by the runner's table.
    """
    words, kept = drawable_title(title), []
    with private_dir(scratch, "thumbnails") as workdir:
        path = fetch(store, source_key, workdir)
        probe = require_probe(path, name=source_key)
        chosen = choose(scored or scan(path, probe, workdir), shot_starts_s, probe.duration_s, subject)
        for rank, candidate in enumerate(chosen, start=1):
            picture = full_frame(path, probe, candidate.time_s, workdir)
            around = subject_in(picture, candidate.time_s, subject)
            for shape, size in SHAPES.items():
                part, at_top = cut_to(picture, size, around)
                variants = {PLAIN: part}
                for style in STYLES if words else ():
                    variants[style] = draw_title(part, words, style, shape, at_top=at_top)
                for variant, drawn in variants.items():
                    jpeg = jpeg_within(drawn, BUDGET)
                    kept.append(_keep(store, source_id, rank, shape, variant, candidate, jpeg))
    return kept


def subject_in(picture: "Image", time_s: float, subject: SubjectTrack | None) -> Extent | None:
    """Where the subject is in a full frame: its largest face, else what the analysis saw there."""
    import numpy as np

    small = picture.copy()
    small.thumbnail((FACES_SIDE, FACES_SIDE))
    shot = subject.shot_at(time_s) if subject else None
    if shot is not None and shot.method == "faces":
        faces = find_faces(np.asarray(small))
        largest = max(faces, key=lambda face: face.half_height * face.score, default=None)
        if largest is not None:
            return Extent(largest.x, largest.y, largest.half_width, largest.half_height)
    sighting = subject.near(time_s) if subject else None
    return sighting.subject if sighting else None


def _keep(
    store: ObjectStore, source_id: str, rank: int, shape: str, variant: str, candidate: Candidate, jpeg: bytes
) -> Thumbnail:
    sha256 = hashlib.sha256(jpeg).hexdigest()
    named = f"{rank}_{shape}" if variant == PLAIN else f"{rank}_{shape}_{variant}"
    key = f"media/thumbnails/{source_id}/{named}_{sha256[:16]}.jpg"
    new = not store.exists(key)
    if new:
        store.put(key, jpeg, content_type="image/jpeg")
    width, height = SHAPES[shape]
    row = {
        "source_id": source_id,
        "rank": rank,
        "shape": shape,
        "variant": variant,
        "object_key": key,
        "sha256": sha256,
        "time_s": candidate.time_s,
        "sharpness": candidate.sharpness,
        "exposure": candidate.exposure,
        "width": width,
        "height": height,
    }
    return Thumbnail(row, jpeg, new)


def scan(path: Path, probe: Probe, scratch: Path) -> list[Candidate]:
    """Score up to 600 evenly spaced frames, eight a second at most; one decode."""
    width, height = small_size(probe)
    rate = looks_per_s(probe.duration_s)
    scorer = Scorer(width, height, rate)
    options = source_options(probe) | {"t": f"{probe.duration_s:.3f}", "threads": "2"}
    run_ffmpeg(
        [
            *(part for name, value in options.items() for part in (f"-{name}", value)),
            "-i", f"file:{path.absolute()}", "-map", f"0:{probe.video_index}", "-an", "-sn", "-dn",
            # Rounding up shows at each instant the last frame before it, which `full_frame` finds again.
            "-vf", f"fps={rate}:start_time=0:round=up,scale={width}:{height}:flags=area,format=gray",
            "-frames:v", str(MAX_FRAMES), "-f", "rawvideo", "pipe:1",
        ],
        doing="looking for thumbnails",
        workdir=scratch,
        timeout_s=60 + 2 * probe.duration_s,
        on_stdout=scorer.take,
    )  # fmt: skip
    return scorer.candidates


@dataclass
class Scorer:
    """Takes raw grey frames as they are decoded, keeps one candidate for each."""

    width: int
    height: int
    rate: Fraction
    candidates: list[Candidate] = field(default_factory=list)
    pending: bytearray = field(default_factory=bytearray)

    def take(self, chunk: bytes) -> None:
        import numpy as np

        self.pending += chunk
        size = self.width * self.height
        while len(self.pending) >= size:
            luma = np.frombuffer(bytes(self.pending[:size]), np.uint8).reshape(self.height, self.width)
            del self.pending[:size]
            at_s = float(len(self.candidates) / self.rate)
            self.candidates.append(Candidate(at_s, sharpness_of(luma), exposure_of(luma)))


def choose(
    candidates: Sequence[Candidate],
    shot_starts_s: Iterable[float],
    duration_s: float,
    subject: SubjectTrack | None = None,
) -> list[Candidate]:
    """The best frames, best first, spread over the video; fewer than three only when there are fewer frames.

    Where the subject is known, frames that show it win, with a large face above all.
    """
    if not candidates:
        raise PermanentError(
            "No frame of the source could be looked at.",
            code="no_frames",
            remedy="Export the source again as MP4 with H.264 video and upload it again.",
        )
    edges = sorted({*shot_starts_s, 0.0, duration_s})
    typical = sorted(candidate.sharpness for candidate in candidates)[len(candidates) // 2] + 1.0

    def score(candidate: Candidate) -> float:
        away = min(1.0, min(abs(candidate.time_s - edge) for edge in edges) / CUT_MARGIN_S)
        # Twice as sharp is better, ten times is mostly gravel and leaves.
        crisp = candidate.sharpness / (candidate.sharpness + typical)
        return crisp * candidate.exposure * (0.25 + 0.75 * away) * _appeal(candidate.time_s, subject)

    ranked = sorted(candidates, key=lambda c: (-score(c), c.time_s))
    chosen = ranked[:1]
    spacing = max(1.0, duration_s / 8)
    while len(chosen) < min(COUNT, len(candidates)):
        fitting = (c for c in ranked if all(abs(c.time_s - other.time_s) >= spacing for other in chosen))
        found = next((c for c in fitting if c not in chosen), None)
        if found is not None:
            chosen.append(found)
        elif spacing > 0.01:
            spacing /= 2
        else:
            break
    return chosen


def _appeal(time_s: float, subject: SubjectTrack | None) -> float:
    """1 without a subject, most for a large face."""
    sighting, shot = (subject.near(time_s), subject.shot_at(time_s)) if subject else (None, None)
    if sighting is None or shot is None:
        return 1.0
    if shot.method != "faces":
        return 1 + OTHER_BONUS * sighting.confidence
    size = min(1.0, sighting.subject.half_height / LARGE_FACE)
    return 1 + (FACE_BONUS + LARGE_FACE_BONUS * size) * sighting.confidence


def full_frame(path: Path, probe: Probe, time_s: float, scratch: Path) -> "Image":
    """The frame shown at a time, whole, upright, with square pixels, highlights of HDR rolled off."""
    import ffmpeg
    from PIL import Image

    from ettametta_pipelines.renders.graph import BT2020_MATRICES, tag_colour, to_standard_range

    # The last frame at or before the instant starts less than one frame earlier.
    start_s = max(0.0, time_s - 0.98 / probe.fps)
    stream = ffmpeg.input(f"file:{path.absolute()}", **source_options(probe), ss=f"{start_s:.6f}")
    stream = stream[str(probe.video_index)]
    if probe.is_hdr or probe.color_matrix in BT2020_MATRICES:
        stream = to_standard_range(stream, probe)
    stream = tag_colour(stream.filter("format", pix_fmts="yuv420p", color_ranges="tv"), probe)
    width = max(2, round(probe.height * probe.display_aspect))
    stream = stream.filter("scale", w=width, h=probe.height, flags="bicubic").filter("setsar", sar=1)
    # Packing it as PNG would take a third of the time that finding it takes.
    output = stream.output("pipe:1", **{"frames:v": 1, "c:v": "ppm", "f": "image2pipe", "pix_fmt": "rgb24"})
    ppm = bytearray()
    run_ffmpeg(
        output.get_args(), doing="taking a thumbnail", workdir=scratch, timeout_s=60, on_stdout=ppm.extend
    )
    with Image.open(BytesIO(ppm)) as image:
        return image.convert("RGB")


def cut_to(image: "Image", size: tuple[int, int], around: Extent | None = None) -> tuple["Image", bool]:
    """The part of an image of this shape that shows the subject, at this size, and whether its top is free for words.

    Without a subject it is the part that stands out most, in favour of the middle: what differs in colour from the
    whole picture's mean (Achanta et al. 2009), since grass and leaves have more detail than most subjects.
    """
    import numpy as np
    from PIL import Image

    width, height = size
    scale = min(image.width / width, image.height / height)
    across, down = min(image.width, round(width * scale)), min(image.height, round(height * scale))
    if around is not None:
        left = _centred(around.x * image.width, image.width, across)
        top = _centred(around.y * image.height, image.height, down)
    else:
        small = image.convert("YCbCr").resize((SALIENCY_SIDE, SALIENCY_SIDE), Image.Resampling.BOX)
        colours = np.asarray(small, np.float64)
        standing_out = ((colours - colours.mean(axis=(0, 1))) ** 2).sum(axis=2) ** 0.5
        left = _best_offset(standing_out.sum(axis=0), image.width, across)
        top = _best_offset(standing_out.sum(axis=1), image.height, down)
    part = image.crop((left, top, left + across, top + down))
    free_top = around is not None and around.y * image.height - top > 0.55 * down
    return part.resize(size, Image.Resampling.LANCZOS), free_top


def _centred(middle: float, length: int, window: int) -> int:
    return min(max(0, round(middle - window / 2)), length - window)


def _best_offset(profile: "NDArray[np.float64]", length: int, window: int) -> int:
    """Where a window of this length, both in pixels, holds most of what stands out along one side."""
    import numpy as np

    if window >= length:
        return 0
    span = max(1, round(len(profile) * window / length))
    sums = np.convolve(profile, np.ones(span), "valid") + 1e-6
    places = np.arange(len(sums)) / max(1, len(sums) - 1)
    # Subjects are mostly near the middle; the sides have to stand out by half as much again.
    best = int(np.argmax(sums * (1 - 0.35 * np.abs(2 * places - 1))))
    return round(float(places[best]) * (length - window))
