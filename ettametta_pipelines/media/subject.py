"""Where the subject of the footage is, shot by shot: faces, else what moves by itself, else what stands out.

`analysis.py` shows a `Spotter` its small frames and keeps the `SubjectTrack` in the object store; `renders/framing.py`
lays a camera path through it, quality checks and thumbnails ask it too. All places are shares of the displayed
picture: 0, 0 is its top left corner.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from ettametta_pipelines.media.faces import Face, find_faces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Map = NDArray[np.floating[Any]]

Method = Literal["faces", "motion", "saliency", "none"]

REVISION = 1
# Looks a second; a face on a walk crosses a tenth of the picture in that time.
LOOKS_PER_S = 4
# Where no face is in sight, only every third look is for faces: the net is two thirds of what all looks cost.
RESTING = 3
MOST_WAITING = 8
# Below this nothing is claimed: neither does the camera move for it nor does a check count it.
CONFIDENT = 0.5

# A face is believed that is seen well once, or fairly for a while: a face-like stain seen once moves no camera.
SURE_SCORE = 0.7
FAIR_SCORE, FAIR_LOOKS = 0.5, 3
# How far a face may go between looks, in its own sizes: someone crossing the picture in a second.
LARGEST_STEP = 3.0
# A head that turns away is still where it was for this long.
LOST_AFTER_S = 1.5
# Shots in which faces are seen less than this are judged by what moves or stands out.
FACES_SHARE = 0.2
# Someone else belongs to the company when present this much, and this large, beside the main face.
COMPANY_SHARE = 0.35

# Maps of what moves and of what stands out, cells along the longer side.
CELLS = 48
# Seconds over which maps are averaged: attention does not jump with each gesture.
MAP_SPREAD_S = 0.8
# Mean change (0..255) within the moving part below which nothing moves by itself: noise, foliage.
LEAST_MOTION = 2.0
# What stands out is the weakest hint: on pictures tried it was right above this share of full clearness.
SALIENCY_TRUST = 0.8
REACH = 0.2


@dataclass(frozen=True)
class Extent:
    """A place in the picture: centre and half-extents as shares of width and height."""

    x: float
    y: float
    half_width: float
    half_height: float

    def joined(self, other: "Extent") -> "Extent":
        """The smallest extent that holds both."""
        left = min(self.x - self.half_width, other.x - other.half_width)
        right = max(self.x + self.half_width, other.x + other.half_width)
        top = min(self.y - self.half_height, other.y - other.half_height)
        bottom = max(self.y + self.half_height, other.y + other.half_height)
        return Extent((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)


@dataclass(frozen=True)
class Sighting:
    """The subject at one time. `company` holds it and everyone else who matters; alike where it is alone."""

    time_s: float
    subject: Extent
    company: Extent
    confidence: float

    @property
    def is_confident(self) -> bool:
        return self.confidence >= CONFIDENT


@dataclass(frozen=True)
class ShotTrack:
    """One shot, `start_s` to `end_s` (exclusive), and where its subject was seen. `looks` counts all looks at it."""

    start_s: float
    end_s: float
    method: Method
    looks: int
    sightings: tuple[Sighting, ...]


@dataclass(frozen=True)
class SubjectTrack:
    """The subject of a whole video of this display aspect. Shots follow each other without a gap."""

    aspect: float
    shots: tuple[ShotTrack, ...]

    def confident(self) -> list[Sighting]:
        """What may be relied on, in order of time."""
        return [s for shot in self.shots for s in shot.sightings if s.is_confident]

    def share(self, method: Method) -> float:
        """Share of all looks at which the subject was seen in this way."""
        looks = sum(shot.looks for shot in self.shots)
        seen = sum(s.is_confident for shot in self.shots if shot.method == method for s in shot.sightings)
        return seen / looks if looks else 0.0

    def shot_at(self, time_s: float) -> ShotTrack | None:
        """The shot shown at a time."""
        return next((shot for shot in reversed(self.shots) if shot.start_s <= time_s), None)

    def near(self, time_s: float) -> Sighting | None:
        """The nearest sighting in the shot shown at a time, at most a second away."""
        shot = self.shot_at(time_s)
        sightings = [s for s in shot.sightings if s.is_confident] if shot else []
        nearest = min(sightings, key=lambda s: abs(s.time_s - time_s), default=None)
        return nearest if nearest is not None and abs(nearest.time_s - time_s) <= 1.0 else None

    def as_json(self) -> bytes:
        """Numbers to a ten-thousandth, the same bytes for the same track."""
        shots = [_shot_document(shot) for shot in self.shots]
        document = {"revision": REVISION, "aspect": round(self.aspect, 6), "shots": shots}
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _shot_document(shot: ShotTrack) -> dict[str, Any]:
    rows = (
        (s.time_s, s.confidence, *asdict(s.subject).values(), *asdict(s.company).values())
        for s in shot.sightings
    )
    return {
        "start_s": round(shot.start_s, 4),
        "end_s": round(shot.end_s, 4),
        "method": shot.method,
        "looks": shot.looks,
        "sightings": [[round(number, 4) for number in row] for row in rows],
    }


def track_from_json(data: bytes) -> SubjectTrack | None:
    """The track of `as_json`; None for one that an older program wrote. Raises ValueError for anything else."""
    document = json.loads(data)
    if document["revision"] != REVISION:
        return None
    return SubjectTrack(document["aspect"], tuple(_shot_from(row) for row in document["shots"]))


def _shot_from(row: Mapping[str, Any]) -> ShotTrack:
    sightings = tuple(
        Sighting(s[0], Extent(*s[2:6]), Extent(*s[6:10]), confidence=s[1]) for s in row["sightings"]
    )
    return ShotTrack(row["start_s"], row["end_s"], row["method"], row["looks"], sightings)


@dataclass(frozen=True)
class _Look:
    """What one look at a frame found; maps are cells of 0..255. `faces` is None where nobody looked for any."""

    time_s: float
    faces: list[Face] | None
    moving: "NDArray[np.uint8]"
    standing_out: "NDArray[np.uint8]"


@dataclass
class Spotter:
    """Takes small frames a few times a second; keeps faces and two coarse maps of each.

    A thread of its own looks at them, since the net releases the interpreter: the decoder need not wait.
    """

    width: int
    height: int
    count: int = 0
    _looks: list[Future[_Look]] = field(default_factory=list)
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "spotter"))
    _previous: "Map | None" = None
    _faces_due: int = 0

    def look(self, time_s: float, picture: "NDArray[np.uint8]", luma: "NDArray[np.uint8]") -> None:
        """A frame in RGB and its brightness, both of this spotter's size."""
        if self.count >= MOST_WAITING:
            self._looks[-MOST_WAITING].result()
        self._looks.append(self._worker.submit(self._look, time_s, picture, luma))
        self.count += 1

    def _look(self, time_s: float, picture: "NDArray[np.uint8]", luma: "NDArray[np.uint8]") -> _Look:
        import numpy as np

        small = luma[::2, ::2].astype(np.float32)
        moved = np.zeros_like(small) if self._previous is None else _own_motion(self._previous, small)
        self._previous = small
        longer = max(self.width, self.height)
        cells = max(4, CELLS * self.height // longer), max(4, CELLS * self.width // longer)
        out = _unlike_the_edges(_shrink(picture.astype(np.float32), cells))
        faces = self._find_faces(picture)
        return _Look(time_s, faces, _as_bytes(_shrink(moved, cells) * 4), _as_bytes(out))

    def _find_faces(self, picture: "NDArray[np.uint8]") -> list[Face] | None:
        self._faces_due -= 1
        if self._faces_due > 0:
            return None
        faces = find_faces(picture)
        self._faces_due = 1 if faces else RESTING
        return faces

    def track(self, shot_starts_s: Sequence[float], end_s: float, aspect: float) -> SubjectTrack:
        """The subject of each shot, all of its looks considered together."""
        with self._worker:
            looks = deque(future.result() for future in self._looks)
        shots = []
        for start, end in zip(shot_starts_s, [*shot_starts_s[1:], end_s], strict=True):
            of_shot = []
            while looks and looks[0].time_s < end:
                of_shot.append(looks.popleft())
            shots.append(_shot_track(start, end, of_shot))
        return SubjectTrack(aspect, tuple(shots))


def _shot_track(start_s: float, end_s: float, looks: list[_Look]) -> ShotTrack:
    looked_for = [look for look in looks if look.faces is not None]
    faces = tuple(_follow_faces(looked_for))
    if looked_for and len(faces) >= FACES_SHARE * len(looked_for):
        return ShotTrack(start_s, end_s, "faces", len(looks), faces)
    method, sightings = _follow_maps(looks)
    return ShotTrack(start_s, end_s, method, len(looks), tuple(sightings))


# --- faces -----------------------------------------------------------------------------------------------------------


@dataclass
class _Person:
    """The same face over time within a shot."""

    seen: dict[float, Face] = field(default_factory=dict)

    @property
    def last_s(self) -> float:
        return next(reversed(self.seen))

    @property
    def weight(self) -> float:
        """How much of the viewer's attention: large, and there for long."""
        return sum(face.half_height * face.score for face in self.seen.values())

    @property
    def is_believed(self) -> bool:
        best = max(face.score for face in self.seen.values())
        return best >= SURE_SCORE or (best >= FAIR_SCORE and len(self.seen) >= FAIR_LOOKS)

    def is_there(self, time_s: float) -> bool:
        return min(self.seen) <= time_s <= self.last_s

    def distance(self, face: Face) -> float:
        """In sizes of the larger of the two faces."""
        last = self.seen[self.last_s]
        across = abs(face.x - last.x) / max(face.half_width, last.half_width) / 2
        down = abs(face.y - last.y) / max(face.half_height, last.half_height) / 2
        return max(across, down)


def _follow_faces(looks: Iterable[_Look]) -> Iterable[Sighting]:
    """The one who matters most of those present, and the company; nobody while a turned head is expected back."""
    looks = list(looks)
    people = sorted(_people(looks), key=lambda person: -person.weight)
    for look in looks:
        present = [person for person in people if person.is_there(look.time_s)]
        if not present or look.time_s not in present[0].seen:
            continue
        main = present[0]
        subject = company = _extent(main.seen[look.time_s])
        for other in present[1:]:
            if other.weight >= COMPANY_SHARE * main.weight and look.time_s in other.seen:
                company = company.joined(_extent(other.seen[look.time_s]))
        yield Sighting(look.time_s, subject, company, confidence=min(1.0, main.seen[look.time_s].score + 0.2))


def _extent(face: Face) -> Extent:
    return Extent(face.x, face.y, face.half_width, face.half_height)


def _people(looks: Sequence[_Look]) -> list[_Person]:
    """Faces linked over time, each to the nearest that is not too far and not too long ago."""
    people: list[_Person] = []
    for look in looks:
        for face in look.faces or ():
            recent = [
                p
                for p in people
                if look.time_s not in p.seen
                and look.time_s - p.last_s <= LOST_AFTER_S
                and p.distance(face) < LARGEST_STEP
            ]
            if recent:
                min(recent, key=lambda person: person.distance(face)).seen[look.time_s] = face
            else:
                people.append(_Person({look.time_s: face}))
    return [person for person in people if person.is_believed]


# --- what moves, what stands out -------------------------------------------------------------------------------------


def _follow_maps(looks: list[_Look]) -> tuple[Method, list[Sighting]]:
    """By the map that points more clearly to one place: of what moves by itself, else of what stands out."""
    import numpy as np

    if not looks:
        return "none", []
    times = np.array([look.time_s for look in looks])
    moving = np.stack([look.moving for look in looks]).astype(np.float32) / 4
    # The first look of a shot is compared with the shot before.
    moving[0] = moving[1] if len(looks) > 1 else 0
    standing_out = np.stack([look.standing_out for look in looks]).astype(np.float32)
    if float(np.percentile(moving.mean(axis=0), 98)) >= LEAST_MOTION:
        sightings = _sightings(times, moving)
        if sum(s.is_confident for s in sightings) >= len(sightings) / 2:
            return "motion", sightings
    sightings = [
        replace(s, confidence=SALIENCY_TRUST * s.confidence) for s in _sightings(times, standing_out)
    ]
    if any(s.is_confident for s in sightings):
        return "saliency", sightings
    return "none", []


def _sightings(times: "NDArray[np.float64]", maps: "Map") -> list[Sighting]:
    """One place for each look: where its neighbourhood in time has most of its mass."""
    import numpy as np

    near = np.exp(-0.5 * ((times[:, None] - times[None, :]) / MAP_SPREAD_S) ** 2)
    # What happens in the whole shot counts a little everywhere, so that a pause does not lose the one who moved.
    weights = near / near.sum(axis=1, keepdims=True) + 0.3 / len(times)
    averaged = np.tensordot(weights.astype(np.float32), maps, axes=1)
    return [_place(float(time), one) for time, one in zip(times, averaged, strict=True)]


def _place(time_s: float, attention: "Map") -> Sighting:
    """The densest place of a map. Confidence is the mass within reach of it beyond what an even map would have."""
    import numpy as np

    sharp = np.maximum(attention - np.percentile(attention, 60), 0) ** 1.5
    total = float(sharp.sum())
    if total <= 0:
        nowhere = Extent(0.5, 0.5, 0.5, 0.5)
        return Sighting(time_s, nowhere, nowhere, confidence=0.0)
    (x, half_width, across), (y, half_height, down) = (
        _densest(sharp.sum(axis=axis) / total) for axis in (0, 1)
    )
    extent = Extent(x, y, half_width, half_height)
    return Sighting(time_s, extent, extent, confidence=min(1.0, max(0.0, across * 0.75 + down * 0.25)))


def _densest(profile: "NDArray[np.float64]") -> tuple[float, float, float]:
    """Centre, half-extent and clearness (0..1) of the densest stretch of a profile that sums to one."""
    import numpy as np

    places = (np.arange(len(profile)) + 0.5) / len(profile)
    inside = np.abs(places[:, None] - places[None, :]) <= REACH
    # In doubt the middle: photographers put there what they mean.
    drawn = (inside @ profile) * (1 - 0.25 * np.abs(2 * places - 1))
    chosen = profile * inside[int(np.argmax(drawn))]
    mass = float(chosen.sum())
    centre = float((chosen * places).sum() / mass)
    spread = float((chosen * (places - centre) ** 2).sum() / mass) ** 0.5
    even = float(inside.mean(axis=1).max())
    return centre, min(0.3, max(0.03, 1.5 * spread)), max(0.0, (mass - even) / (1 - even))


def _own_motion(before: "Map", after: "Map") -> "Map":
    """Change of brightness that is not the camera's: the earlier frame is first moved by the common shift.

    Phase correlation (Kuglin and Hines 1975) finds the shift to a whole pixel.
    """
    import numpy as np

    cross = np.fft.rfft2(after) * np.conj(np.fft.rfft2(before))
    peak = np.fft.irfft2(cross / (np.abs(cross) + 1e-6), s=before.shape)
    shift = tuple(int(place) for place in np.unravel_index(int(peak.argmax()), peak.shape))
    change = np.abs(after - np.roll(before, shift, axis=(0, 1)))
    for axis, moved in enumerate(shift):
        size = before.shape[axis]
        edge = moved if moved <= size // 2 else moved - size
        wrapped = slice(0, edge) if edge > 0 else slice(size + edge, size)
        if edge:
            change[(slice(None),) * axis + (wrapped,)] = 0
    return change


def _unlike_the_edges(small: "Map") -> "Map":
    """What stands out: cells whose colour is found nowhere along the picture's edges, where backgrounds are.

    The boundary prior of Wei et al. 2012. A spectral residual (Hou and Zhang 2007) and the distance from the mean
    colour (Achanta et al. 2009) pointed at the subject in fewer of 18 pictures tried.
    """
    import numpy as np

    edges = np.concatenate((small[0], small[-1], small[:, 0], small[:, -1]))[::3]
    squares = (small**2).sum(axis=2)[:, :, np.newaxis] + (edges**2).sum(axis=1) - 2 * small @ edges.T
    apart = np.sqrt(np.maximum(squares, 0))
    nearest: Map = np.partition(apart, len(edges) // 4, axis=2)[:, :, : len(edges) // 4].mean(axis=2)
    return nearest


def _shrink(plane: "Map", cells: tuple[int, int]) -> "Map":
    """Means over cells, each of which takes its exact share of the picture whether or not that is whole pixels."""
    import numpy as np
    from PIL import Image

    if plane.ndim == 3:
        return np.stack([_shrink(plane[..., place], cells) for place in range(plane.shape[2])], axis=2)
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((cells[1], cells[0]), Image.Resampling.BOX))


def _as_bytes(plane: "Map") -> "NDArray[np.uint8]":
    import numpy as np

    return np.clip(plane, 0, 255).astype(np.uint8)


SUMMARY: dict[Method, Callable[[float], str]] = {
    "faces": lambda share: f"faces in {share:.0%} of frames",
    "motion": lambda share: f"what moves in {share:.0%}",
    "saliency": lambda share: f"what stands out in {share:.0%}",
}


def in_words(track: SubjectTrack) -> str:
    """For the operator, e.g. `faces in 82% of frames, what moves in 10%`."""
    shares = ((method, track.share(method)) for method in SUMMARY)
    return ", ".join(SUMMARY[m](share) for m, share in shares if share > 0) or "no subject found"
