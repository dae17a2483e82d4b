"""Encryption keys: which secret is under which, and moving them all to the first one.

`SEALED` names every column that holds a sealed secret; a new one is added here. Rotation may be broken off and run
again at any time, while workers read and write. Called by `ettametta keys`.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.fernet import Fernet

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.publishing.tokens import Envelope, key_file, key_id_of, open_envelope
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import OAuthConnection, OAuthConsent, Publication
from ettametta_pipelines.state.session import StateDatabase

SEALED: tuple[sa.orm.InstrumentedAttribute[Any], ...] = (
    OAuthConnection.access_token,
    OAuthConnection.refresh_token,
    OAuthConnection.previous_access_token,
    OAuthConnection.previous_refresh_token,
    OAuthConsent.code_verifier,
    Publication.handle,
)
UNREADABLE = "unreadable"
BATCH = 200


@dataclass(frozen=True)
class Rotation:
    """What a rotation did: secrets moved to the first key, already there, and under no key that is configured."""

    moved: int
    already: int
    unreadable: int


def usage(db: StateDatabase, envelope: Envelope) -> dict[str, int]:
    """Key id -> secrets under it, every configured key included; `unreadable` for those under none of them."""
    found = Counter(dict.fromkeys(envelope.key_ids, 0))
    for column in SEALED:
        for batch in _batches(db, column):
            found.update(envelope.key_id(sealed) or UNREADABLE for _, sealed in batch)
    return dict(found)


def rotate(db: StateDatabase, envelope: Envelope) -> Rotation:
    """Seal every secret under the first key. What a worker writes meanwhile is left as that worker wrote it."""
    counts: Counter[str] = Counter()
    for column in SEALED:
        for batch in _batches(db, column):
            outdated = []
            for key, sealed in batch:
                under = envelope.key_id(sealed)
                counts["already"] += under == envelope.key_ids[0]
                counts["unreadable"] += under is None
                if under not in (None, envelope.key_ids[0]):
                    outdated.append((key, sealed))
            counts["moved"] += _move(db, column, outdated, envelope)
    return Rotation(counts["moved"], counts["already"], counts["unreadable"])


def _batches(db: StateDatabase, column: sa.orm.InstrumentedAttribute[Any]) -> Iterator[list[tuple[Any, str]]]:
    """(primary key, ciphertext) of every row that has one, some at a time, each in a short transaction of its own."""
    key = _primary_key(column)
    after: Any = None
    while True:
        query = sa.select(key, column).where(column.is_not(None), column != "").order_by(key).limit(BATCH)
        if after is not None:
            query = query.where(key > after)
        with db.session(write=False) as session:
            rows = [(row[0], str(row[1])) for row in session.execute(query)]
        if not rows:
            return
        yield rows
        after = rows[-1][0]


def _move(
    db: StateDatabase,
    column: sa.orm.InstrumentedAttribute[Any],
    outdated: list[tuple[Any, str]],
    envelope: Envelope,
) -> int:
    """Replace each ciphertext where it still stands; returns how many.

    One transaction for each: with several rows held, whoever holds one and waits for another would be waited for.
    """
    key = _primary_key(column)
    moved = 0
    for value, sealed in outdated:
        with db.session() as session:
            changed = session.execute(
                sa.update(column.class_)
                .where(key == value, column == sealed)
                .values({column.key: envelope.resealed(sealed)})
                .returning(key)
                .execution_options(synchronize_session=False)
            ).first()
        moved += changed is not None
    return moved


def _primary_key(column: sa.orm.InstrumentedAttribute[Any]) -> sa.Column[Any]:
    key: sa.Column[Any] = sa.inspect(column.class_).primary_key[0]
    return key


def add_key(settings: Settings) -> str:
    """Put a new key in front of the key file's; returns its id. Raises NeedsPersonError where the environment rules."""
    path = _own_key_file(settings)
    new = Fernet.generate_key().decode()
    _write(path, [new, *path.read_text().split()])
    return key_id_of(new)


def drop_old_keys(settings: Settings, db: StateDatabase) -> int:
    """Remove every key but the first from the key file; returns how many.

    Raises NeedsPersonError `old_keys_in_use` while a secret is under one of them.
    """
    path = _own_key_file(settings)
    first, *old = path.read_text().split()
    in_use = sum(usage(db, open_envelope(settings)).get(key_id_of(key), 0) for key in old)
    if in_use:
        raise NeedsPersonError(
            f"{in_use} secrets are still under an old key.",
            code="old_keys_in_use",
            remedy="Run `ettametta keys rotate` first.",
        )
    _write(path, [first])
    return len(old)


def _own_key_file(settings: Settings) -> Path:
    if settings.encryption_keys.get_secret_value():
        raise NeedsPersonError(
            "The keys are those of ETTAMETTA_ENCRYPTION_KEYS, which this command cannot change.",
            code="keys_in_environment",
            remedy="Put the new key in front of the old ones there, separated by a comma, and restart.",
        )
    open_envelope(settings)
    return key_file(settings)


def _write(path: Path, keys: list[str]) -> None:
    draft = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(keys) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
