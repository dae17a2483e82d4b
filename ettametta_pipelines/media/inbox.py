"""The inbox: what lies under `uploads/`, where to look for what is new in it, and how a file gets there.

The upload sensor calls `scan_inbox`; `ettametta upload` and the demo call `drop_upload`. A look costs what is new,
not what lies there: a queue's notices or the folders of the last days, and of everything else a part in each tick
(the sweep). What is found is taken in by `arrivals.py`; judging the content of a file is intake's work (`intake.py`).
"""

import json
import mimetypes
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from time import monotonic
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import Clock, business_day_of, utc_now
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.media.arrivals import (
    PARALLEL_READS,
    SETTLE,
    Arrival,
    InboxScan,
    TakeIn,
    Trouble,
    hash_object,
    head_or_none,
    source_id_of,
)
from ettametta_pipelines.media.intake import ACCOUNT, parse_upload_key
from ettametta_pipelines.media.sidecar import (
    SUFFIX,
    WORDS_SUFFIX,
    SidecarInvalid,
    is_captions,
    parse_sidecar,
)
from ettametta_pipelines.renders.captions import read_captions_file
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.addressing import is_key, key_problem
from ettametta_pipelines.storage.notifications import NotificationQueue
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectStore

__all__ = [
    "SETTLE", "Arrival", "InboxScan", "Position", "Trouble", "drop_upload", "hash_object", "scan_inbox",
    "source_id_of",
]  # fmt: skip

UPLOADS_PREFIX = "uploads/"
# Keys are dated where the uploader is: any day that is today somewhere, and two more for uploads that take long.
HOT_DAYS = 3
ACTIVE_FOR = timedelta(days=1)
# Requests of one tick that look for news; folders that had any lately and new accounts come first, the others in turn.
LISTINGS = 120
NEW_ACCOUNTS = 20
KEYS_PER_FOLDER = 2_000
PARALLEL_LISTINGS = 8
SWEEP_KEYS = 20_000
SWEEP_BATCH = 1_000
SWEEP_SECONDS = 8.0
# An inbox that is swept within one tick is swept often, a larger one each night.
SMALL_SWEEP_EVERY = timedelta(minutes=10)
NIGHT_BEGINS = timedelta(hours=1)
AWAY_FOR = timedelta(hours=12)
ODD_NAMED = 50


@dataclass
class Position:
    """Where looking goes on: what the sensor's cursor holds.

    Nothing hangs on it but work: what is known of uploads is in the state database, so that losing or resetting it,
    or two daemons that take turns with it, only has the sweep begin again.
    """

    account: str = ""
    folders: dict[str, str] = field(default_factory=dict)
    ticked_at: datetime | None = None
    sweep_at: str = ""
    sweep_began: datetime | None = None
    sweep_ended: datetime | None = None
    swept: int = 0

    @classmethod
    def load(cls, cursor: str | None) -> "Position":
        """The position a cursor holds; the beginning for none, or one that is not ours."""
        from pydantic import TypeAdapter

        try:
            return TypeAdapter(cls).validate_json(cursor or "{}")
        except ValueError:
            return cls()

    def dump(self) -> str:
        return json.dumps(asdict(self), default=lambda instant: instant.isoformat())

    def sweep_is_due(self, now: datetime, timezone: ZoneInfo) -> bool:
        if self.sweep_began is None or self.sweep_ended is None:
            return True
        if self.ticked_at is not None and now - self.ticked_at > AWAY_FOR:
            return True
        if self.swept <= SWEEP_KEYS and now - self.sweep_ended >= SMALL_SWEEP_EVERY:
            return True
        nights = [business_day_of(at - NIGHT_BEGINS, timezone) for at in (self.sweep_began, now)]
        return nights[0] < nights[1]


def drop_upload(
    store: ObjectStore,
    file: Path,
    *,
    account: str,
    niche: str,
    niches: Collection[str],
    day: date,
    stated: Mapping[str, str | None],
    captions: Path | None = None,
) -> str:
    """Put a local file under `uploads/` as a user would, its sidecar and captions first; returns the object key.

    `stated` holds the sidecar's keys (title, rights, attribution, recipe); where none is given, a sidecar left over
    from an earlier file of that name is removed, since it speaks of other footage. Raises PermanentError
    `file_not_found` or `bad_sidecar`, CaptionsInvalid for captions that intake would not take, or UploadRefused as the
    sensor would.
    """
    if not file.is_file():
        raise PermanentError(
            f"{file} is not a file that can be uploaded.", code="file_not_found", remedy="Check the path."
        )
    if file.name.endswith(SUFFIX):
        raise PermanentError(
            f"{file.name} has the name of a sidecar, not of a video.",
            code="not_a_video",
            remedy="Upload the video; title and rights are options of the command.",
        )
    folder = f"{UPLOADS_PREFIX}{account}/{niche}/{day:%Y/%m/%d}"
    parse_upload_key(f"{folder}/{file.name}", niches)
    key = _free_key(store, folder, file)
    said = {name: value for name, value in stated.items() if value is not None}
    if captions is not None:
        read_captions_file(captions)
        # Word timings are JSON, as the sidecar is, so they have a name of their own and the sidecar states all.
        suffix = captions.suffix.lower()
        said["captions"] = key.rsplit("/", 1)[-1] + (WORDS_SUFFIX if suffix == SUFFIX else suffix)
    sidecar = json.dumps(said).encode()
    try:
        parse_sidecar(sidecar)
    except SidecarInvalid as error:
        raise PermanentError(
            f"What is said about {file.name} cannot be used: {error}.",
            code="bad_sidecar",
            remedy="Correct the option and upload again.",
        ) from error
    if captions is not None:
        store.put_file(f"{folder}/{said['captions']}", captions)
    if said:
        store.put(key + SUFFIX, sidecar, content_type="application/json")
    else:
        store.delete(key + SUFFIX)
    store.put_file(key, file, create=True, content_type=mimetypes.guess_type(file.name)[0])
    return key


def _free_key(store: ObjectStore, folder: str, file: Path) -> str:
    """A key nothing lies under yet: an upload that was not looked at must not be replaced by its namesake."""
    names = chain([file.name], (f"{file.stem}-{number}{file.suffix}" for number in count(2)))
    return next(key for name in names if not store.exists(key := f"{folder}/{name}"))


def scan_inbox(
    store: ObjectStore,
    state: StateDatabase,
    niches: Collection[str],
    *,
    position: Position | None = None,
    queue: NotificationQueue | None = None,
    clock: Clock = utc_now,
    timezone: ZoneInfo = ZoneInfo("UTC"),
    max_arrivals: int = 100,
    max_bytes: int = 4 << 30,
) -> InboxScan:
    """Record new uploads in the seen-table, up to `max_arrivals` objects or `max_bytes` read.

    News is what the `queue` tells or, without one, what a listing of the last days' folders shows; the sweep, a part
    of it in a call, goes through everything. `position` is moved on. An upload is new again when its bytes change or
    its sidecar or captions do. A key outside the layout, an unknown niche or a file over the size limit is recorded as
    refused, with its reason; an unknown niche is looked at again once it exists. Unfinished files wait for the next
    look, and one that cannot be read does not hold up the others.
    """
    position = position or Position()
    now = clock()
    desk = TakeIn(store, state, niches, now, max_arrivals=max_arrivals, max_bytes=max_bytes)
    if queue is None or not _take_notices(desk, store, queue, max_arrivals):
        _look_at_news(desk, store, state, position, now)
    if position.sweep_at or position.sweep_is_due(now, timezone):
        _sweep(desk, store, position, now)
    position.ticked_at = now
    return desk.scan


def _take_notices(desk: TakeIn, store: ObjectStore, queue: NotificationQueue, most: int) -> bool:
    """Take in what the queue tells of; False when it cannot be read, and listing has to do."""
    try:
        notices = queue.receive(most)
        done = [notice for notice in notices if not notice.is_poison]
        keys = dict.fromkeys(key for notice in done for key in notice.keys if key.startswith(UPLOADS_PREFIX))
        left = _take_keys(desk, store, list(keys))
        for notice in notices:
            if notice.is_poison:
                fate = (
                    "it is taken off the queue" if notice.given_up else "it is left for the dead-letter queue"
                )
                desk.scan.failures.append(
                    Trouble(f"message {notice.message_id}", "poison_message", f"It {notice.problem}; {fate}.")
                )
        # Only now: whatever ends this tick before, its messages come again.
        queue.take_off([n for n in notices if n.given_up or not (n.is_poison or left.intersection(n.keys))])
    except PipelineError as error:
        desk.scan.notes.append(f"The folders of the last days were listed instead: {error}")
        return False
    return True


def _take_keys(desk: TakeIn, store: ObjectStore, keys: Sequence[str]) -> set[str]:
    """Take in the uploads these objects are or speak of; the keys that have to be told of again."""
    odd = [(key, problem) for key in keys if (problem := key_problem(key)) and not key.endswith("/")]
    if odd:
        desk.name_odd(odd)
    valid = [key for key in keys if is_key(key)]
    videos = dict.fromkeys(
        key.removesuffix(SUFFIX) for key in valid if not is_captions(key) and not key.endswith("/")
    )
    wanted = dict.fromkeys([*valid, *(name for key in videos for name in (key, key + SUFFIX))])
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        there = dict(zip(wanted, pool.map(partial(head_or_none, store), wanted), strict=True))
    failed_before = len(desk.scan.failures)
    desk.take([info for info in there.values() if info is not None], listed=False)
    untaken = {trouble.object_key for trouble in desk.scan.failures[failed_before:]} | set(desk.untaken)
    return {key for key in valid if key in untaken or key.removesuffix(SUFFIX) in untaken}


def _look_at_news(
    desk: TakeIn, store: ObjectStore, state: StateDatabase, position: Position, now: datetime
) -> None:
    """List the last days of every folder, or of as many as a tick's requests allow."""
    odd: list[tuple[str, str]] = []
    found_names, stray = store.folders(UPLOADS_PREFIX)
    names = _usable(found_names, odd)
    _take_in_batches(desk, stray)
    first_day = (now - timedelta(days=HOT_DAYS)).date()
    with ThreadPoolExecutor(PARALLEL_LISTINGS) as pool:

        def list_folder(folder: str) -> list[ObjectInfo]:
            start = position.folders.get(folder, f"{folder}{first_day:%Y/%m/%d}")
            listed = store.list(folder, after=start, odd=lambda *found: odd.append(found))
            return list(islice(listed, KEYS_PER_FOLDER))

        folders = _usable(_folders_to_list(desk, store, state, position, now, names, pool), odd)
        found = dict(zip(folders, pool.map(list_folder, folders), strict=True))
    # Of all folders together: a few new files in each would be as many transactions and waits for the store.
    _take_in_batches(desk, chain.from_iterable(found.values()))
    held_up = {folder for folder in found if any(key.startswith(folder) for key in desk.deferred)}
    for folder in found.keys() - held_up:
        position.folders.pop(folder, None)
        if len(found[folder]) == KEYS_PER_FOLDER:
            position.folders[folder] = found[folder][-1].key
    desk.name_odd(odd[:ODD_NAMED])


def _usable(folders: Iterable[str], odd: list[tuple[str, str]]) -> list[str]:
    """The folders whose names can begin a key; one that cannot must not keep the others from being looked at."""
    problems = {folder: key_problem(folder.removesuffix("/")) for folder in folders}
    odd += [(folder, problem) for folder, problem in problems.items() if problem]
    return [folder for folder, problem in problems.items() if not problem]


def _folders_to_list(
    desk: TakeIn,
    store: ObjectStore,
    state: StateDatabase,
    position: Position,
    now: datetime,
    names: Sequence[str],
    pool: ThreadPoolExecutor,
) -> list[str]:
    """Folders of account and niche: those with news of the last day, those of new accounts, then the others in turn."""
    accounts = [name.removeprefix(UPLOADS_PREFIX).rstrip("/") for name in names]
    with state.session(write=False) as session:
        active = uploads.active_folders(session, now - ACTIVE_FOR, limit=LISTINGS // 2)
        fresh = set(accounts) - uploads.accounts_seen(session, accounts)
    wanted = dict.fromkeys(f"{UPLOADS_PREFIX}{account}/{niche}/" for account, niche in active)
    fresh_first = sorted(
        fresh, key=lambda account: (not ACCOUNT.match(account), account <= position.account, account)
    )
    in_turn = sorted(set(accounts) - fresh, key=lambda account: (account <= position.account, account))
    left = LISTINGS - len(wanted)
    order = [*fresh_first[:NEW_ACCOUNTS], *in_turn, *fresh_first[NEW_ACCOUNTS:]]
    for start in range(0, len(order), PARALLEL_LISTINGS):
        some = order[start : start + PARALLEL_LISTINGS]
        if left < len(some):
            position.account = order[start - 1] if start else position.account
            return list(wanted)
        for niches, stray in pool.map(lambda account: store.folders(f"{UPLOADS_PREFIX}{account}"), some):
            _take_in_batches(desk, stray)
            wanted |= dict.fromkeys(niches)
            left -= 1 + len(niches)
    position.account = ""
    return list(wanted)


def _sweep(desk: TakeIn, store: ObjectStore, position: Position, now: datetime) -> None:
    """Go through a part of everything: what no notice and no listing of the last days has shown."""
    if not position.sweep_at:
        position.sweep_began, position.sweep_ended, position.swept = now, None, 0
    odd: list[tuple[str, str]] = []
    listed = store.list(UPLOADS_PREFIX, after=position.sweep_at or None, odd=lambda *found: odd.append(found))
    swept, at_end, started = 0, True, monotonic()
    for batch in in_batches(listed, SWEEP_BATCH):
        put_off = desk.take(batch)
        taken = batch if put_off is None else [info for info in batch if info.key < put_off]
        swept += len(taken)
        position.sweep_at = taken[-1].key if taken else position.sweep_at
        if put_off is not None or swept >= SWEEP_KEYS or monotonic() - started > SWEEP_SECONDS:
            at_end = False
            break
    desk.name_odd(odd[:ODD_NAMED])
    position.swept += swept
    if at_end:
        position.sweep_at, position.sweep_ended = "", now
    else:
        desk.scan.notes.append(f"The sweep of everything goes on after {position.swept:,} objects.")


def _take_in_batches(desk: TakeIn, objects: Iterable[ObjectInfo]) -> None:
    for batch in in_batches(objects, SWEEP_BATCH):
        desk.take(batch)


def in_batches(objects: Iterable[ObjectInfo], size: int) -> Iterator[list[ObjectInfo]]:
    """Objects in key order, about `size` at a time, an upload never parted from its sidecar and captions.

    Those are `clip.*` of the same folder, which follow each other. Only a name without a dot may have its sidecar in
    the batch after, where it is told as what it is all the same.
    """
    batch: list[ObjectInfo] = []
    for info in objects:
        if len(batch) >= size and (_group(info.key) != _group(batch[-1].key) or len(batch) >= 2 * size):
            yield batch
            batch = []
        batch.append(info)
    if batch:
        yield batch


def _group(key: str) -> tuple[str, str]:
    folder, _, name = key.rpartition("/")
    return folder, name.split(".", 1)[0]
