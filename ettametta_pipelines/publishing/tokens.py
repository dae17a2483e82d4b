"""Tokens of connected channels: encrypted at rest, refreshed by one worker at a time.

Here are the envelope that every stored secret goes into and the way to a valid access token. Connecting a channel
is `connections.py`'s business, renewing pairs before they run out `refreshing.py`'s, moving secrets to a new key
`keys.py`'s. TikTok's refresh token dies with its first use, so two refreshes at once, or a new pair that is used
before it is stored, would lock the account out.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy.orm import Session

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.publishing.reauth import (
    ACTIVE,
    REAUTH_REQUIRED,
    end_consent,
    raise_alerts,
    reauth_required,
)
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import OAuthConnection
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.oauth import TokenSet

__all__ = ["ACTIVE", "REAUTH_REQUIRED", "reauth_required"]

ACCESS_TOKEN_COLUMN = "oauth_connections.access_token"
REFRESH_TOKEN_COLUMN = "oauth_connections.refresh_token"
# A token handed out must outlive the chunk it is used for; of a short life, a fifth is kept back.
EXPIRY_MARGIN = timedelta(minutes=5)
MARGIN_SHARE = 0.2
# A pair is renewed somewhere in this part of its life, each channel at its own point.
RENEWED_FROM, RENEWED_UNTIL = 0.5, 0.7
# What opening a stored secret says that cannot be opened with the keys there are.
KEY_UNKNOWN = "encryption_key_unknown"
MISPLACED = "ciphertext_misplaced"
LOST_SECRET_CODES = frozenset({KEY_UNKNOWN, MISPLACED})
# What vendors say when a refresh token is dead for good.
DEAD_GRANT_CODES = frozenset({"invalid_grant", "tiktok_invalid_grant"})
# The database went away while it held the lock over the call.
DATABASE_AWAY = frozenset({"state_unavailable", "state_locked"})
STORE_AGAIN_WAITS_S = (0.2, 1.0, 3.0, 8.0)

# The access token to go on with, or None where the pair has to be renewed.
Judge = Callable[[OAuthConnection, datetime], str | None]


class RefreshingApp(Protocol):
    """The part of a vendor's app client that tokens need."""

    def refresh(self, refresh_token: str) -> TokenSet: ...


class Envelope:
    """Encrypts secrets for the state database, each bound to where it is stored.

    A ciphertext copied to another account, platform or column does not open there. The first key encrypts; all of
    them decrypt, so a key is rotated by putting the new one in front. In front of a ciphertext stands the id of its
    key; older ones, which have none, open as well.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernets = {key_id_of(key): Fernet(key) for key in keys}
        except ValueError as error:
            raise PermanentError(
                "An encryption key is not 32 bytes in URL-safe base64.",
                code="bad_encryption_key",
                remedy="Make one with `python -c 'from cryptography.fernet import Fernet; "
                "print(Fernet.generate_key().decode())'` and put it in ETTAMETTA_ENCRYPTION_KEYS.",
            ) from error
        self._fernet = MultiFernet(list(self._fernets.values()))

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of the keys, the one that encrypts first."""
        return tuple(self._fernets)

    def seal(self, secret: str, *, account: str, platform: str, column: str) -> str:
        content = json.dumps([account, platform, column, secret])
        return self._sealed(content.encode())

    def open(self, ciphertext: str, *, account: str, platform: str, column: str) -> str:
        """The secret. Raises NeedsPersonError for an unknown key, PermanentError when it was moved here."""
        try:
            content = json.loads(self._fernet.decrypt(_body(ciphertext)))
        except InvalidToken as error:
            raise NeedsPersonError(
                f"{column} of {account} on {platform} was encrypted with a key that is not configured.",
                code=KEY_UNKNOWN,
                remedy="Put the former key behind the new one in ETTAMETTA_ENCRYPTION_KEYS, or connect again.",
            ) from error
        if content[:3] != [account, platform, column]:
            raise PermanentError(
                f"What is stored in {column} of {account} on {platform} belongs elsewhere.",
                code=MISPLACED,
                remedy="Somebody copied rows by hand: connect the channel again.",
            )
        return str(content[3])

    def key_id(self, ciphertext: str) -> str | None:
        """Id of the key a ciphertext is under; None when it is none of ours."""
        for key_id, fernet in self._fernets.items():
            try:
                fernet.decrypt(_body(ciphertext))
            except InvalidToken:
                continue
            return key_id
        return None

    def resealed(self, ciphertext: str) -> str:
        """The same secret, bound to the same place, under the first key. Raises InvalidToken for an unknown key."""
        return self._sealed(self._fernet.decrypt(_body(ciphertext)))

    def _sealed(self, content: bytes) -> str:
        return f"{self.key_ids[0]}.{self._fernet.encrypt(content).decode()}"


def key_id_of(key: str) -> str:
    """A name for a key that gives nothing of it away."""
    return hashlib.sha256(key.encode()).hexdigest()[:8]


def _body(ciphertext: str) -> bytes:
    return ciphertext.rpartition(".")[2].encode()


def open_envelope(settings: Settings) -> Envelope:
    """Envelope with the keys of ETTAMETTA_ENCRYPTION_KEYS, else with the key file under the home, made on first use."""
    configured = settings.encryption_keys.get_secret_value()
    keys = [key.strip() for key in configured.split(",") if key.strip()]
    return Envelope(keys or _key_file(key_file(settings)))


def key_file(settings: Settings) -> Path:
    """Where the keys are, one a line, when ETTAMETTA_ENCRYPTION_KEYS names none."""
    return settings.home_dir / "secrets" / "encryption.key"


def _key_file(path: Path) -> list[str]:
    """Read the keys, making one first if there is none; of several processes that make one, all use the same."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
            file.flush()
            os.fsync(file.fileno())
        try:
            # Linking fails where a complete file is already there; renaming would replace another process's key.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    if path.stat().st_mode & 0o077:
        raise NeedsPersonError(
            f"The encryption key {path} can be read by other users.",
            code="key_file_exposed",
            remedy=f"Run `chmod 600 {path}`; if others had access, connect the channels again with a new key.",
        )
    return path.read_text().split()


def access_token(
    db: StateDatabase,
    app: RefreshingApp,
    account: str,
    platform: str,
    *,
    envelope: Envelope | None = None,
    rejected: str | None = None,
    channel_id: str | None = None,
) -> str:
    """A token that is valid for the next minutes, refreshed and stored first if need be.

    `rejected` is a token the vendor has just refused with 401: it is not handed out again. With `channel_id` only that
    channel's is. Raises NeedsPersonError `channel_not_connected`, `reauth_required` or `another_channel_connected`.
    """
    envelope = envelope or open_envelope(get_settings())

    def usable(row: OAuthConnection, now: datetime) -> str | None:
        if channel_id not in (None, row.channel_id):
            raise another_channel_connected(account, platform, str(channel_id), row.channel_title)
        return _usable(row, now, envelope, rejected)

    with db.session(write=False) as session:
        row = _connection(session, account, platform)
        token = usable(row, db.now(session))
    return token or renewed(db, app, account, platform, usable, envelope=envelope)


def not_due(envelope: Envelope) -> Judge:
    """Judge for renewing ahead of time: the token stays while its pair is young."""

    def judge(row: OAuthConnection, now: datetime) -> str | None:
        due = row.refresh_due_at is None or row.refresh_due_at <= now
        return None if due else _usable(row, now, envelope, None)

    return judge


def renewed(
    db: StateDatabase,
    app: RefreshingApp,
    account: str,
    platform: str,
    judge: Judge,
    *,
    envelope: Envelope,
) -> str:
    """What `judge` finds once this worker holds the channel, else the token of a new pair.

    The lock (the row on Postgres, the database on SQLite) is held over the call on purpose: whoever comes second
    waits and then finds the new token. Raises NeedsPersonError when consent has ended.
    """
    renewal = _Renewal(app, envelope)
    try:
        with db.session() as session:
            row = _connection(session, account, platform, lock=True)
            token = judge(row, db.now(session)) or renewal.make(session, row, db.now(session))
    except TransientError as error:
        if error.code not in DATABASE_AWAY:
            raise
        # The lock went with the connection to the database.
        token = renewal.store_again(db, account, platform)
        if token is None:
            raise
    if token is None:
        raise_alerts(db)
        raise reauth_required(account, platform)
    return token


@dataclass
class _Renewal:
    """One refresh under the lock, and what is left of it should the lock be lost before it is stored."""

    app: RefreshingApp
    envelope: Envelope
    generation: int = -1
    channel_id: str = ""
    answer: TokenSet | None = None

    def make(self, session: Session, row: OAuthConnection, now: datetime) -> str | None:
        """New access token, the pair put into `row`; None, and the row marked, when consent has ended."""
        expired = row.refresh_expires_at is not None and row.refresh_expires_at <= now
        self.generation, self.channel_id = row.generation, row.channel_id
        if row.refresh_token is None or expired:
            reason = "the refresh token ran out" if expired else "there is no refresh token"
        else:
            try:
                self.answer = self.app.refresh(
                    _open(row, row.refresh_token, REFRESH_TOKEN_COLUMN, self.envelope)
                )
            except PipelineError as error:
                if error.code not in DEAD_GRANT_CODES:
                    raise
                # The row is locked, so nobody else can have rotated the token; if the lock is lost, this mark is too.
                reason = "the vendor refused the refresh token"
            else:
                store_tokens(row, self.answer, now, self.envelope)
                return self.answer.access_token
        end_consent(session, row, reason, actor="token refresh", now=now)
        return None

    def store_again(self, db: StateDatabase, account: str, platform: str) -> str | None:
        """After a lost lock: the pair of whoever renewed meanwhile, else ours, stored at last. None without either.

        TikTok's old refresh token is dead by now: a new pair that is not stored would cost the consent.
        """
        for wait in STORE_AGAIN_WAITS_S:
            time.sleep(wait)
            try:
                with db.session() as session:
                    row, now = _connection(session, account, platform, lock=True), db.now(session)
                    if row.channel_id != self.channel_id:
                        return None
                    if row.generation != self.generation:
                        return _usable(row, now, self.envelope, None)
                    if self.answer is None:
                        return None
                    store_tokens(row, self.answer, now, self.envelope)
                return self.answer.access_token
            except TransientError as error:
                if error.code not in DATABASE_AWAY:
                    raise
        return None


def store_tokens(row: OAuthConnection, tokens: TokenSet, now: datetime, envelope: Envelope) -> None:
    """Put a fresh pair into a connection; a vendor that sends no refresh token keeps the former one valid."""
    where = {"account": row.account_id, "platform": row.platform}
    row.previous_access_token = row.access_token or None
    row.previous_refresh_token = row.refresh_token
    row.access_token = envelope.seal(tokens.access_token, column=ACCESS_TOKEN_COLUMN, **where)
    life = timedelta(seconds=tokens.expires_in_s)
    row.expires_at = now + life
    if tokens.refresh_token is not None:
        row.refresh_token = envelope.seal(tokens.refresh_token, column=REFRESH_TOKEN_COLUMN, **where)
        lifetime = tokens.refresh_expires_in_s
        row.refresh_expires_at = None if lifetime is None else now + timedelta(seconds=lifetime)
    row.generation += 1
    row.refreshed_at = now
    row.refresh_due_at = now + life * _point_of_life(row)
    row.refresh_failures = 0
    row.status = ACTIVE
    row.reauth_reason = row.alerted_at = None
    row.updated_at = now


def _point_of_life(row: OAuthConnection) -> float:
    """When this pair is renewed, as a share of its life: spread over channels, so that they do not all ask at once."""
    digest = hashlib.sha256(f"{row.account_id}/{row.platform}/{row.generation}".encode()).digest()
    return RENEWED_FROM + (RENEWED_UNTIL - RENEWED_FROM) * int.from_bytes(digest[:4]) / 2**32


def not_connected(account: str, platform: str) -> NeedsPersonError:
    return NeedsPersonError(
        f"{account} has no channel connected on {platform}.",
        code="channel_not_connected",
        remedy="Connect it on the gateway's page /accounts "
        f"(in the sandbox also `ettametta connect --account {account} --platform {platform}`).",
    )


def another_channel_connected(
    account: str, platform: str, channel_id: str, connected_title: str
) -> NeedsPersonError:
    return NeedsPersonError(
        f"{account} is connected to {connected_title} on {platform} now, and this post belongs to the channel "
        f"{channel_id}, which it was connected to before.",
        code="another_channel_connected",
        remedy="Connect the former channel again to carry on there, or settle the post on the gateway's page Posts.",
    )


def _connection(session: Session, account: str, platform: str, *, lock: bool = False) -> OAuthConnection:
    query = sa.select(OAuthConnection).where(
        OAuthConnection.account_id == account, OAuthConnection.platform == platform
    )
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise not_connected(account, platform)
    if row.status == REAUTH_REQUIRED:
        raise reauth_required(account, platform)
    return row


def _usable(row: OAuthConnection, now: datetime, envelope: Envelope, rejected: str | None) -> str | None:
    if row.expires_at <= now + _margin(row):
        return None
    token = _open(row, row.access_token, ACCESS_TOKEN_COLUMN, envelope)
    return None if token == rejected else token


def _margin(row: OAuthConnection) -> timedelta:
    if row.refreshed_at is None:
        return EXPIRY_MARGIN
    return min(EXPIRY_MARGIN, (row.expires_at - row.refreshed_at) * MARGIN_SHARE)


def _open(row: OAuthConnection, ciphertext: str, column: str, envelope: Envelope) -> str:
    return envelope.open(ciphertext, account=row.account_id, platform=row.platform, column=column)
