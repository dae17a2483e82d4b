"""Finds, fetches and keeps the clips of cutaways: the account's own library, a folder, or Pexels.

`obtain_broll` fills the slots of a plan and pins its choice in the object store, so that a render made again shows
the same clips although a vendor's search has moved on; what could not be filled is not pinned and is tried again the
next time. Every clip passes the probe uploads pass, and none comes in without a right to use it. The library of
renditions and the command line call.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ettametta_pipelines.clock import Clock, rfc3339, utc_now
from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.media.intake import ACCOUNT, CONTENT_TYPES, fetch
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.media.rights import Rights, publishing_obstacle
from ettametta_pipelines.renders.broll import (
    BrollReport,
    Clip,
    Cutaway,
    Placed,
    Skipped,
    Slot,
    plan_slots,
)
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, size_guard, source_options
from ettametta_pipelines.renders.recipe import Broll, Recipe
from ettametta_pipelines.renders.tempo import time_map
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines.storage.objects import ObjectExists, ObjectMissing, ObjectStore
from ettametta_pipelines.untrusted import plain_text

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.pexels import PexelsClient, PexelsVideo

CLIPS = "media/broll/"
CHOICES = "broll/choices/"
USED = "broll/used/"
LIBRARY = "library/"
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm")
MAX_CLIP_BYTES = 96 << 20
MAX_SIDECAR_BYTES = 64 * 1024
# A clip an account has shown within this time is taken only when there is no other.
LATELY = timedelta(days=30)
SEARCH_SIZE = 40
# Among the best results the seed decides, so that two videos about one thing do not begin alike.
SHUFFLED = 6
TRIES_A_SLOT = 5
TRIES_A_RENDER = 12
# Left at the end of a clip, where its last frames may be missing at another rate.
CLIP_TAIL_S = 0.2
LIBRARY_LICENCE = "the account's own library"


@dataclass(frozen=True)
class BrollOrder:
    """What cutaways are wanted for. `shot_starts_s` are the source's, in its own seconds; size and rate its picture's.

    An empty `account` has no library and remembers no clips.
    """

    source_sha256: str
    duration_s: float
    rate: Fraction
    width: int
    height: int
    shot_starts_s: tuple[float, ...]
    keywords: tuple[str, ...]
    account: str = ""


@dataclass(frozen=True)
class Candidate:
    """A clip that may be had. `fetch` writes its file; `duration_s` is None where only the file can tell."""

    vendor: str
    vendor_id: str
    rights: str
    licence: str
    duration_s: float | None
    fetch: Callable[[Path], object] = field(repr=False)
    credit: str | None = None
    author: str | None = None
    author_url: str | None = None
    url: str | None = None
    standing: str = ""

    @property
    def identity(self) -> str:
        return f"{self.vendor}-{self.vendor_id}"


class Shelf(Protocol):
    """Where clips come from. `standing` tells what would give other clips, such as sandbox or live."""

    name: str
    standing: str

    def candidates(self, keyword: str) -> Sequence[Candidate]:
        """Clips for a keyword, the best first. Raises PipelineError when they cannot be looked for."""


class PexelsShelf:
    """Stock footage; turned like the source, since every format is cut from one clip as it is from the source."""

    name = "pexels"

    def __init__(self, client: "PexelsClient", width: int, height: int) -> None:
        self.standing: str = client.mode
        self._client = client
        self._shape = "square" if width == height else "landscape" if width > height else "portrait"
        short, long = 1080, 1080 if width == height else 1920
        self._needed = (long, short) if width > height else (short, long)

    def candidates(self, keyword: str) -> Sequence[Candidate]:
        page = self._client.search_videos(
            keyword, orientation=self._shape, size="medium", per_page=SEARCH_SIZE
        )
        return [self._candidate(video) for video in page.videos]

    def _candidate(self, video: "PexelsVideo") -> Candidate:
        from ettametta_pipelines.vendors.pexels import LICENCE, smallest_covering

        file = smallest_covering(video.files, *self._needed)
        assert file is not None
        name = _credited(video.photographer)
        return Candidate(
            vendor="pexels",
            vendor_id=str(video.id),
            rights="licensed",
            licence=LICENCE,
            duration_s=video.duration_s,
            fetch=lambda path: self._client.download(file, path, max_bytes=MAX_CLIP_BYTES),
            credit=f"Footage: {name} / Pexels" if name else "Footage: Pexels",
            author=name or None,
            author_url=plain_text(video.photographer_url, 300) or None,
            url=plain_text(video.url, 300) or None,
            standing=self.standing,
        )


class ClipNote(BaseModel):
    """What may be said of an own clip in `{name}.json` beside it; keys of a sidecar it may have are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    keywords: Annotated[list[str], Field(max_length=50)] = []
    rights: Rights | None = None
    attribution: Annotated[str, Field(max_length=500)] | None = None


class StoreShelf:
    """The account's own clips: objects under `library/{account}/`, each with its right declared beside it."""

    name = "library"
    standing = ""

    def __init__(self, store: ObjectStore, account: str) -> None:
        self._store = store
        self._folder = f"{LIBRARY}{account}/" if ACCOUNT.match(account) else ""
        self._clips: list[tuple[set[str], Candidate]] | None = None

    def candidates(self, keyword: str) -> Sequence[Candidate]:
        if self._clips is None:
            self._clips = list(self._read())
        return _matching(self._clips, keyword)

    def _read(self) -> Iterator[tuple[set[str], Candidate]]:
        listed = {info.key: info for info in self._store.list(self._folder)} if self._folder else {}
        for key, info in listed.items():
            beside = f"{key}.json"
            if not _is_video(key) or info.size > MAX_CLIP_BYTES or beside not in listed:
                continue
            note = _read_note(self._store.read_range(beside, 0, MAX_SIDECAR_BYTES + 1))
            # The ETag is in the id: a file replaced under the same name is another clip.
            own_id = hashlib.sha256(f"{key} {info.etag}".encode()).hexdigest()[:16]
            found = _own_candidate(note, own_id, key, partial(self._store.download, key))
            if found is not None:
                yield _words_of(note, key.removeprefix(self._folder)), found


class FolderShelf:
    """Clips in a folder of this machine, given by whoever renders, who thereby says that they may be used."""

    name = "library"
    standing = "folder"

    def __init__(self, folder: Path) -> None:
        import shutil

        if not folder.is_dir():
            raise PermanentError(
                f"{folder} is not a folder.", code="folder_not_found", remedy="Name a folder of video files."
            )
        self._clips: list[tuple[set[str], Candidate]] = []
        for path in sorted(folder.iterdir()):
            if not _is_video(path.name) or not path.is_file() or path.stat().st_size > MAX_CLIP_BYTES:
                continue
            beside = path.with_name(f"{path.name}.json")
            note = _read_note(beside.read_bytes()) if beside.is_file() else ClipNote()
            note = note if note.rights else note.model_copy(update={"rights": "owned"})
            found = _own_candidate(
                note,
                file_sha256(path)[:16],
                path.name,
                partial(shutil.copyfile, path),
            )
            if found is not None:
                self._clips.append((_words_of(note, path.name), found))

    def candidates(self, keyword: str) -> Sequence[Candidate]:
        # A folder someone points at is meant as a whole: what matches comes first, the rest follows.
        matching = _matching(self._clips, keyword)
        return [*matching, *(clip for _, clip in self._clips if clip not in matching)]


def _is_video(name: str) -> bool:
    return name.casefold().endswith(VIDEO_SUFFIXES)


def _read_note(data: bytes) -> ClipNote:
    """A note that cannot be read declares nothing, so that its clip is not used."""
    try:
        if len(data) > MAX_SIDECAR_BYTES:
            return ClipNote()
        return ClipNote.model_validate(json.loads(data.decode("utf-8-sig")))
    except (ValueError, RecursionError, ValidationError):
        return ClipNote()


def _own_candidate(
    note: ClipNote, own_id: str, name: str, fetch_it: Callable[[Path], object]
) -> Candidate | None:
    """None without a right to publish, which CC BY is only with somebody to credit."""
    attribution = _credited(note.attribution or "")
    if note.rights is None or publishing_obstacle(note.rights, attribution) is not None:
        return None
    return Candidate(
        vendor="library",
        vendor_id=own_id,
        rights=note.rights,
        licence=LIBRARY_LICENCE,
        duration_s=None,
        fetch=fetch_it,
        credit=f"Footage: {attribution}" if attribution else None,
        author=attribution or None,
        url=plain_text(name, 300),
    )


def _credited(name: str) -> str:
    """A stranger's name fit for a post: what would become a mention, a hashtag or a refusal is taken out."""
    return plain_text(name.translate(str.maketrans("<>@#", "    ")), 120)


def _words_of(note: ClipNote, name: str) -> set[str]:
    stem = str(PurePosixPath(name).with_suffix(""))
    return {word for text in (stem, *note.keywords) for word in _words(text)}


def _words(text: str) -> list[str]:
    """Words without their plural, as they are compared."""
    split = "".join(c if c.isalnum() else " " for c in plain_text(text, 300).casefold()).split()
    return [word.removesuffix("s") if len(word) > 3 else word for word in split]


def _matching(clips: Sequence[tuple[set[str], Candidate]], keyword: str) -> list[Candidate]:
    """Clips that share a word with the keyword, those with most of its words first."""
    wanted = set(_words(keyword))
    scored = [(len(wanted & words), clip) for words, clip in clips]
    return [clip for score, clip in sorted(scored, key=lambda pair: -pair[0]) if score]


def obtain_broll(
    store: ObjectStore,
    order: BrollOrder,
    recipe: Recipe,
    seed: int,
    shelves: Sequence[Shelf],
    *,
    scratch: Path,
    clock: Clock = utc_now,
) -> BrollReport:
    """Choose and keep the clips of a recipe's cutaways, or find what was chosen before.

    Where no clip can be had the recipe decides: the slot is skipped and the report says why, or the error that stood
    in the way is raised (PermanentError `broll_missing` where nothing failed and nothing was found).
    """
    if recipe.broll is None:
        return BrollReport(order.rate)
    times = time_map(recipe, seed)
    cuts = [times.output_time(start) for start in order.shot_starts_s]
    slots = plan_slots(recipe.broll, seed, times.output_time(order.duration_s), order.rate, cuts)
    allowed = [shelf for shelf in shelves if recipe.broll.source in ("any", shelf.name)]
    pin = _pin_key(order, recipe.broll, seed, slots, allowed)
    pinned = _read_pin(store, pin)
    chosen = {slot: pinned[slot] for slot in slots if slot in pinned}
    search = _Search(store, order, seed, allowed, scratch, clock, dict(chosen))
    skipped = []
    for number, slot in enumerate(slots):
        if slot not in chosen:
            found = search.fill(slot, number)
            if isinstance(found, Placed):
                chosen[slot] = found
            else:
                skipped.append((slot, found))
    if len(chosen) > len(pinned):
        chosen = _pin(store, pin, chosen)
    unfilled = [(slot, why) for slot, why in skipped if slot not in chosen]
    if unfilled and recipe.broll.missing == "fail":
        raise unfilled[0][1]
    return BrollReport(
        order.rate,
        tuple(chosen[slot] for slot in slots if slot in chosen),
        tuple(Skipped(slot, why.code, why.message) for slot, why in unfilled),
    )


def load_cutaways(store: ObjectStore, report: BrollReport, workdir: Path) -> list[Cutaway]:
    """The report's clips as local files with their probes.

    Raises PermanentError `broll_changed` when a kept clip is not what it was.
    """
    cutaways = []
    for number, placed in enumerate(report.placed):
        folder = workdir / f"clip_{number:03d}"
        folder.mkdir(parents=True)
        path = fetch(store, placed.clip.object_key, folder)
        if file_sha256(path) != placed.clip.sha256:
            raise PermanentError(
                f"The kept clip {placed.clip.object_key} has changed.",
                code="broll_changed",
                remedy="Delete that object and render again; the clip is fetched anew.",
            )
        cutaways.append(
            Cutaway(
                path=path,
                probe=require_probe(path, name=placed.clip.object_key),
                sha256=placed.clip.sha256,
                in_s=placed.in_s,
                start_s=placed.slot.start / float(report.rate),
                end_s=placed.slot.end / float(report.rate),
            )
        )
    return cutaways


def play_piece(path: Path, probe: Probe, in_s: float, length_s: float, workdir: Path) -> None:
    """Decode what is to be shown of a clip once; raises by the runner's table, e.g. `decode_failed`.

    A clip that is damaged inside passes the probe, and would end the render of the video it is shown in.
    """
    options = source_options(probe) | {"ss": f"{in_s:.6f}", "t": f"{length_s:.6f}"}
    guard = ":".join(f"{name}='{value}'" for name, value in size_guard(probe).items())
    run_ffmpeg(
        [
            *(part for name, value in options.items() for part in (f"-{name}", value)),
            "-i", f"file:{path.absolute()}", "-map", f"0:{probe.video_index}", "-vf", f"crop={guard}",
            "-f", "null", "-",
        ],
        doing="playing a clip",
        workdir=workdir,
        timeout_s=120,
    )  # fmt: skip


@dataclass
class _Search:
    """One search for the clips of one video; knows what it has used and what has failed."""

    store: ObjectStore
    order: BrollOrder
    seed: int
    shelves: Sequence[Shelf]
    scratch: Path
    clock: Clock
    taken: dict[Slot, Placed]
    found: dict[tuple[str, str], Sequence[Candidate]] = field(default_factory=dict)
    closed: dict[str, PipelineError] = field(default_factory=dict)
    failed: dict[str, PipelineError] = field(default_factory=dict)
    lately: set[str] | None = None

    def fill(self, slot: Slot, number: int) -> Placed | PipelineError:
        """A clip for a slot, or why there is none."""
        needed = (slot.end - slot.start) / float(self.order.rate) + CLIP_TAIL_S
        last: PipelineError | None = None
        for keyword, candidate in islice(self._worth_trying(number, needed), TRIES_A_SLOT):
            if len(self.failed) >= TRIES_A_RENDER:
                break
            with private_dir(self.scratch, "broll") as workdir:
                try:
                    probe, sha256 = self._fetch(candidate, workdir / "clip", needed)
                    in_s = self._in_point(sha256, slot, probe.duration_s - needed)
                    play_piece(workdir / "clip", probe, in_s, needed, workdir)
                except PipelineError as error:
                    self.failed[candidate.identity] = last = error
                    continue
                # What the object store refuses is no fault of the clip and ends the render.
                clip = self._keep(workdir / "clip", candidate, keyword, probe, sha256)
            self.taken[slot] = Placed(slot, clip, in_s)
            return self.taken[slot]
        return (
            last or next(iter([*self.closed.values(), *self.failed.values()]), None) or self._nothing_found()
        )

    def _nothing_found(self) -> PermanentError:
        searched = ", ".join(repr(word) for word in self.order.keywords[:4]) or "no keywords"
        where = " and ".join(shelf.name for shelf in self.shelves) or "no source of clips"
        return PermanentError(
            f"No clip that could be used was found in {where} for {searched}.",
            code="broll_missing",
            remedy="State other broll_keywords in the sidecar, or put clips with a declared right into library/.",
        )

    def _worth_trying(self, number: int, needed_s: float) -> Iterator[tuple[str, Candidate]]:
        """Clips for a slot, those the account has not shown lately first; each slot begins with another keyword."""
        words = self.order.keywords
        turn = (self.seed + number) % len(words) if words else 0
        for shown_lately in (False, True):
            for shelf in self.shelves:
                for keyword in (*words[turn:], *words[:turn]):
                    for candidate in self._candidates(shelf, keyword):
                        if candidate.duration_s is not None and candidate.duration_s < needed_s:
                            continue
                        if (candidate.identity in self._lately()) == shown_lately and not self._is_out(
                            candidate
                        ):
                            yield keyword, candidate

    def _candidates(self, shelf: Shelf, keyword: str) -> Sequence[Candidate]:
        key = (shelf.name, keyword)
        if key not in self.found and shelf.name not in self.closed:
            try:
                candidates = list(shelf.candidates(keyword))
            except PipelineError as error:
                # It was tried with patience there; asking for each further keyword would only add to the trouble.
                self.closed[shelf.name] = error
                return ()
            best = candidates[:SHUFFLED]
            random.Random(f"broll {self.seed} {keyword}").shuffle(best)
            self.found[key] = [*best, *candidates[SHUFFLED:]]
        return self.found.get(key, ())

    def _is_out(self, candidate: Candidate) -> bool:
        used = {placed.clip.identity for placed in self.taken.values()}
        return candidate.identity in used or candidate.identity in self.failed

    def _fetch(self, candidate: Candidate, path: Path, needed_s: float) -> tuple[Probe, str]:
        """Bring a clip here and examine it as an upload is. Raises PipelineError when it cannot be shown."""
        candidate.fetch(path)
        path.chmod(0o400)
        probe = require_probe(path, name=f"clip {candidate.identity}")
        sha256 = file_sha256(path)
        shown = sha256 in {placed.clip.sha256 for placed in self.taken.values()}
        if shown or probe.duration_s < needed_s:
            why = "is in this video already" if shown else f"is shorter than {needed_s:.1f} s"
            raise PermanentError(f"The clip {candidate.identity} {why}.", code="broll_unsuitable")
        return probe, sha256

    def _keep(self, path: Path, candidate: Candidate, keyword: str, probe: Probe, sha256: str) -> Clip:
        """Store a clip with its record, and remember for the account that it was used."""
        clip = Clip(
            sha256=sha256,
            object_key=f"{CLIPS}{sha256}.{probe.extension}",
            vendor=candidate.vendor,
            vendor_id=candidate.vendor_id,
            rights=candidate.rights,
            licence=candidate.licence,
            credit=candidate.credit,
            author=candidate.author,
            author_url=candidate.author_url,
            url=candidate.url,
            query=keyword,
            duration_s=probe.duration_s,
            fetched_at=rfc3339(self.clock()),
            standing=candidate.standing,
        )
        with suppress(ObjectExists):
            content_type = CONTENT_TYPES[probe.extension]
            self.store.put_file(clip.object_key, path, create=True, content_type=content_type)
        with suppress(ObjectExists):
            self.store.create(f"{CLIPS}{sha256}.{clip.identity}.json", _json(asdict(clip)))
        if self.order.account:
            used = {"source_sha256": self.order.source_sha256, "sha256": sha256, "at": clip.fetched_at}
            self.store.put(f"{USED}{self.order.account}/{clip.identity}.json", _json(used))
        return clip

    def _in_point(self, sha256: str, slot: Slot, latest_s: float) -> float:
        rng = random.Random(f"in-point {self.seed} {slot.start} {sha256}")
        return round(rng.uniform(0, max(0.0, latest_s)), 3)

    def _lately(self) -> set[str]:
        """Identities of clips the account has shown in other videos of late."""
        if self.lately is None:
            self.lately = set()
            if self.order.account:
                since = self.clock() - LATELY
                for info in self.store.list(f"{USED}{self.order.account}"):
                    if info.modified_at >= since:
                        self.lately.add(info.key.rsplit("/", 1)[-1].removesuffix(".json"))
        return self.lately


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def _pin_key(
    order: BrollOrder, broll: Broll, seed: int, slots: Sequence[Slot], shelves: Sequence[Shelf]
) -> str:
    """Names everything a choice follows from, but for what a vendor finds on the day."""
    decides = {
        "source": order.source_sha256,
        "account": order.account,
        "broll": broll.model_dump(mode="json", exclude={"missing"}),
        "seed": seed,
        "slots": [[slot.start, slot.end] for slot in slots],
        "rate": str(order.rate),
        "keywords": order.keywords,
        "shelves": [[shelf.name, shelf.standing] for shelf in shelves],
    }
    return f"{CHOICES}{hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]}.json"


def _read_pin(store: ObjectStore, key: str) -> dict[Slot, Placed]:
    """What was chosen before, as far as its clips are still there; a choice that cannot be read is made anew."""
    try:
        rows = json.loads(store.get(key))["cutaways"]
        placed = [Placed(Slot(r["start"], r["end"]), Clip(**r["clip"]), float(r["in_s"])) for r in rows]
    except (ObjectMissing, ValueError, KeyError, TypeError):
        return {}
    return {one.slot: one for one in placed if store.exists(one.clip.object_key)}


def _pin(store: ObjectStore, key: str, chosen: Mapping[Slot, Placed]) -> dict[Slot, Placed]:
    """Keep a choice; where another run kept one meanwhile, theirs stands and ours fills what they left open."""
    kept: dict[Slot, Placed] = {}
    try:
        store.create(key, _pin_document(chosen))
        return dict(chosen)
    except ObjectExists:
        kept = _read_pin(store, key)
    shown = {mark for one in kept.values() for mark in (one.clip.identity, one.clip.sha256)}
    ours = {
        slot: one
        for slot, one in chosen.items()
        if slot not in kept and not {one.clip.identity, one.clip.sha256} & shown
    }
    merged = kept | ours
    store.put(key, _pin_document(merged))
    return merged


def _pin_document(chosen: Mapping[Slot, Placed]) -> bytes:
    rows = [
        {"start": one.slot.start, "end": one.slot.end, "in_s": one.in_s, "clip": asdict(one.clip)}
        for one in sorted(chosen.values(), key=lambda one: one.slot.start)
    ]
    return _json({"cutaways": rows})
