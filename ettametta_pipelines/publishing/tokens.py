"""Tokens of connected channels: encrypted at rest, refreshed by one worker at a time.

Here are the envelope that every stored secret goes into and the way to a valid access token. Connecting a channel
is `connections.py`'s business. TikTok's refresh token dies with its first use, so two refreshes at once, or a new
pair that is used before it is stored, would lock the account out.
"""

import json
import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy.orm import Session

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import OAuthConnection
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.oauth import TokenSet

ACTIVE = "active"
REAUTH_REQUIRED = "reauth_required"
ACCESS_TOKEN_COLUMN = "oauth_connections.access_token"
REFRESH_TOKEN_COLUMN = "oauth_connections.refresh_token"
# A token handed out must outlive the chunk it is used for.
EXPIRY_MARGIN = timedelta(minutes=5)
# What opening a stored secret says that cannot be opened with the keys there are.
KEY_UNKNOWN = "encryption_key_unknown"
MISPLACED = "ciphertext_misplaced"
LOST_SECRET_CODES = frozenset({KEY_UNKNOWN, MISPLACED})
# What vendors say when a refresh token is dead for good.
DEAD_GRANT_CODES = frozenset({"invalid_grant", "tiktok_invalid_grant"})


class RefreshingApp(Protocol):
    """The part of a vendor's app client that tokens need."""

    def refresh(self, refresh_token: str) -> TokenSet: ...


class Envelope:
    """Encrypts secrets for the state database, each bound to where it is stored.

    A ciphertext copied to another account, platform or column does not open there. The first key encrypts; all of
    them decrypt, so a key is rotated by putting the new one in front.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise PermanentError(
                "An encryption key is not 32 bytes in URL-safe base64.",
                code="bad_encryption_key",
                remedy="Make one with `python -c 'from cryptography.fernet import Fernet; "
                "print(Fernet.generate_key().decode())'` and put it in ETTAMETTA_ENCRYPTION_KEYS.",
            ) from error

    def seal(self, secret: str, *, account: str, platform: str, column: str) -> str:
        content = json.dumps([account, platform, column, secret])
        return self._fernet.encrypt(content.encode()).decode()

    def open(self, ciphertext: str, *, account: str, platform: str, column: str) -> str:
        """The secret. Raises NeedsPersonError for an unknown key, PermanentError when it was moved here."""
        try:
            content = json.loads(self._fernet.decrypt(ciphertext.encode()))
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


def open_envelope(settings: Settings) -> Envelope:
    """Envelope with the keys of ETTAMETTA_ENCRYPTION_KEYS, else with the key file under the home, made on first use."""
    configured = settings.encryption_keys.get_secret_value()
    keys = [key.strip() for key in configured.split(",") if key.strip()]
    return Envelope(keys or [_key_file(settings.home_dir / "secrets" / "encryption.key")])


def _key_file(path: Path) -> str:
    """Read the key, making it first if there is none; of several processes that make one, all use the same."""
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
    return path.read_text().strip()


def access_token(
    db: StateDatabase,
    app: RefreshingApp,
    account: str,
    platform: str,
    *,
    envelope: Envelope | None = None,
    rejected: str | None = None,
) -> str:
    """A token that is valid for the next minutes, refreshed and stored first if need be.

    `rejected` is a token the vendor has just refused with 401: it is not handed out again. Raises NeedsPersonError
    `channel_not_connected` or `reauth_required`.
    """
    envelope = envelope or open_envelope(get_settings())
    with db.session(write=False) as session:
        row = _connection(session, account, platform)
        token = _usable(row, db.now(session), envelope, rejected)
    if token is not None:
        return token
    # The lock (the row on Postgres, the database on SQLite) is held over the call on purpose: whoever comes second
    # waits and then finds the new token.
    with db.session() as session:
        row = _connection(session, account, platform, lock=True)
        now = db.now(session)
        token = _usable(row, now, envelope, rejected) or _refresh(row, now, app, envelope)
    if token is None:
        raise reauth_required(account, platform)
    return token


def store_tokens(row: OAuthConnection, tokens: TokenSet, now: datetime, envelope: Envelope) -> None:
    """Put a fresh pair into a connection; a vendor that sends no refresh token keeps the former one valid."""
    where = {"account": row.account_id, "platform": row.platform}
    row.access_token = envelope.seal(tokens.access_token, column=ACCESS_TOKEN_COLUMN, **where)
    row.expires_at = now + timedelta(seconds=tokens.expires_in_s)
    if tokens.refresh_token is not None:
        row.refresh_token = envelope.seal(tokens.refresh_token, column=REFRESH_TOKEN_COLUMN, **where)
        lifetime = tokens.refresh_expires_in_s
        row.refresh_expires_at = None if lifetime is None else now + timedelta(seconds=lifetime)
    row.generation += 1
    row.status = ACTIVE
    row.updated_at = now


def reauth_required(account: str, platform: str) -> NeedsPersonError:
    return NeedsPersonError(
        f"{account}'s consent to post on {platform} has ended.",
        code=REAUTH_REQUIRED,
        remedy=f"Run `ettametta connect --account {account} --platform {platform}` and give consent again.",
    )


def not_connected(account: str, platform: str) -> NeedsPersonError:
    return NeedsPersonError(
        f"{account} has no channel connected on {platform}.",
        code="channel_not_connected",
        remedy=f"Run `ettametta connect --account {account} --platform {platform}`.",
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
    if row.expires_at <= now + EXPIRY_MARGIN:
        return None
    token = envelope.open(
        row.access_token, account=row.account_id, platform=row.platform, column=ACCESS_TOKEN_COLUMN
    )
    return None if token == rejected else token


def _refresh(row: OAuthConnection, now: datetime, app: RefreshingApp, envelope: Envelope) -> str | None:
    """New access token, the pair put into `row`; None, and the row marked, when consent has ended.

    A dead grant needs no second look at the row: it is locked, so nobody else can have rotated the token meanwhile.
    """
    expired = row.refresh_expires_at is not None and row.refresh_expires_at <= now
    if row.refresh_token is not None and not expired:
        old = envelope.open(
            row.refresh_token, account=row.account_id, platform=row.platform, column=REFRESH_TOKEN_COLUMN
        )
        try:
            tokens = app.refresh(old)
        except PipelineError as error:
            if error.code not in DEAD_GRANT_CODES:
                raise
        else:
            store_tokens(row, tokens, now, envelope)
            return tokens.access_token
    row.status = REAUTH_REQUIRED
    row.updated_at = now
    return None
