"""Which account may post on which channel: connecting by OAuth code, disconnecting, and asking before posting.

Called by `ettametta connect`, the gateway and the uploads. A consent under way is `consents.py`'s business; tokens are
kept and refreshed by `tokens.py`.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ettametta_pipelines.failures import FailureKind, NeedsPersonError, PermanentError, PipelineError
from ettametta_pipelines.publishing.reauth import ACTIVE, note_event, reauth_required
from ettametta_pipelines.publishing.tokens import (
    ACCESS_TOKEN_COLUMN,
    REFRESH_TOKEN_COLUMN,
    Envelope,
    RefreshingApp,
    access_token,
    not_connected,
    open_envelope,
    store_tokens,
)
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state.models import ConnectionEvent, OAuthConnection
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent
from ettametta_pipelines.vendors.oauth import TokenSet

Platform = Literal["youtube", "tiktok"]

ACCOUNT = re.compile(r"[a-z0-9-]{1,40}")
COMMAND_LINE = "command line"


class ConnectingApp(Protocol):
    """The part of a vendor's app client that connecting needs."""

    def exchange_code(self, code: str, *, redirect_uri: str = ..., code_verifier: str = ...) -> TokenSet: ...


@dataclass(frozen=True)
class Connection:
    """An account's channel on a platform, without its tokens."""

    account: str
    platform: str
    channel_id: str
    channel_title: str
    uploads_playlist: str | None
    scopes: tuple[str, ...]
    status: str
    expires_at: datetime
    connected_at: datetime
    refreshed_at: datetime | None
    refresh_expires_at: datetime | None
    refresh_due_at: datetime | None
    refresh_failures: int
    reauth_reason: str | None

    @property
    def not_granted(self) -> tuple[str, ...]:
        """Scopes that were asked for and that the person left out."""
        return tuple(scope for scope in ASKED_SCOPES[self.platform] if scope not in self.scopes)


@dataclass(frozen=True)
class ChannelIdentity:
    channel_id: str
    title: str
    uploads_playlist: str | None = None


def _youtube_identity(app: Any, tokens: TokenSet) -> ChannelIdentity:
    channel_id, title, playlist = app.channel(tokens.access_token).identity()
    return ChannelIdentity(channel_id, title, playlist)


def _tiktok_identity(app: Any, tokens: TokenSet) -> ChannelIdentity:
    return ChannelIdentity(*app.creator(tokens.access_token).identity())


IDENTITIES: dict[str, Callable[[Any, TokenSet], ChannelIdentity]] = {
    "youtube": _youtube_identity,
    "tiktok": _tiktok_identity,
}

# Scope -> what it is for, in the order asked. Whoever needs another call adds its scope here.
ASKED_SCOPES: dict[str, dict[str, str]] = {
    "youtube": {
        "https://www.googleapis.com/auth/youtube.upload": "post videos and thumbnails",
        "https://www.googleapis.com/auth/youtube.readonly": "find its own videos again and read their figures",
        "https://www.googleapis.com/auth/yt-analytics-monetary.readonly": "read what its videos earn",
    },
    "tiktok": {
        "user.info.basic": "know whose account it is",
        "video.publish": "post videos",
        "video.list": "find its own videos again and read their figures",
    },
}
# Without these the channel cannot be named or the first post fails; better to hear it when consenting.
NEEDED_SCOPES: dict[str, frozenset[str]] = {
    "youtube": frozenset(
        {
            "https://www.googleapis.com/auth/youtube.upload",
            "https://www.googleapis.com/auth/youtube.readonly",
        }
    ),
    "tiktok": frozenset({"video.publish", "user.info.basic"}),
}


def check_names(account: str, platform: str) -> None:
    """Raise PermanentError `bad_account` or `unknown_platform`."""
    if not ACCOUNT.fullmatch(account):
        raise PermanentError(
            f"{account!r} is not an account name.",
            code="bad_account",
            remedy="Use 1 to 40 lower-case letters, digits and hyphens.",
        )
    if platform not in IDENTITIES:
        raise PermanentError(
            f"{platform!r} is not a platform.",
            code="unknown_platform",
            remedy=f"Use one of {', '.join(sorted(IDENTITIES))}.",
        )


def connect(
    db: StateDatabase,
    app: ConnectingApp,
    account: str,
    platform: str,
    code: str,
    *,
    envelope: Envelope | None = None,
    actor: str = COMMAND_LINE,
    **proof: str,
) -> Connection:
    """Exchange an OAuth code and store the channel and its tokens; connecting the same channel again replaces them.

    `proof` is the redirect URI and code verifier the consent was asked with. Raises PermanentError `bad_account` or
    `unknown_platform`, NeedsPersonError `scope_missing` when the consent given does not cover posting,
    `another_channel` or `channel_taken` when it is for a channel that does not belong here, and the vendor's refusals.
    """
    check_names(account, platform)
    envelope = envelope or open_envelope(get_settings())
    tokens = app.exchange_code(code, **proof)
    scopes = tuple(filter(None, tokens.scopes)) or tuple(ASKED_SCOPES[platform])
    _check_scopes(account, platform, scopes)
    identity = IDENTITIES[platform](app, tokens)
    with db.session() as session:
        now = db.now(session)
        insert_if_absent(session, OAuthConnection, _blank(account, platform, now))
        row = session.scalars(_select(account, platform).with_for_update()).one()
        _check_identity(session, row, identity)
        row.channel_id = identity.channel_id
        row.channel_title = identity.title
        row.uploads_playlist = identity.uploads_playlist
        row.scopes = " ".join(scopes)
        row.connected_at = now
        store_tokens(row, tokens, now, envelope)
        made = _connection(row)
        left_out = f"; not granted: {', '.join(made.not_granted)}" if made.not_granted else ""
        note_event(session, row, "connected", actor=actor, detail=f"{identity.title}{left_out}", now=now)
        try:
            session.flush()
        except IntegrityError as error:
            # Both had looked before either was stored.
            raise _channel_taken(account, identity, "another account") from error
        return made


@dataclass(frozen=True)
class Disconnection:
    """What became of a channel's consent: ended at the vendor too, or, with `problem`, only here."""

    channel_title: str
    problem: str = ""


# What each vendor ends a consent by: Google by either token, TikTok by the access token alone.
REVOKED_BY = {"youtube": REFRESH_TOKEN_COLUMN, "tiktok": ACCESS_TOKEN_COLUMN}


def disconnect(
    db: StateDatabase,
    app: RefreshingApp,
    revoke: Callable[[str], None],
    account: str,
    platform: str,
    *,
    envelope: Envelope | None = None,
    actor: str = COMMAND_LINE,
) -> Disconnection:
    """End the consent at the vendor by `revoke`, then forget the tokens, also where the vendor refuses for good.

    A vendor that cannot be reached now raises its TransientError and leaves everything as it is. The lock is held over
    the call, so that no refresh brings a token to life behind it. Raises NeedsPersonError `channel_not_connected`.
    """
    envelope = envelope or open_envelope(get_settings())
    if REVOKED_BY.get(platform) == ACCESS_TOKEN_COLUMN:
        # An expired one would not be taken; without a consent there is nothing to end.
        with suppress(NeedsPersonError, PermanentError):
            access_token(db, app, account, platform, envelope=envelope)
    with db.session() as session:
        row = session.scalars(_select(account, platform).with_for_update()).one_or_none()
        if row is None:
            raise not_connected(account, platform)
        problem = _revoked(row, revoke, envelope)
        detail = f"only here: {problem}" if problem else "consent ended at the vendor too"
        note_event(session, row, "disconnected", actor=actor, detail=detail, now=db.now(session))
        session.delete(row)
        return Disconnection(row.channel_title, problem)


def events(db: StateDatabase, account: str, platform: str, *, limit: int = 50) -> list[ConnectionEvent]:
    """The audit trail of an account's channel, newest first."""
    with db.session(write=False) as session:
        query = (
            sa.select(ConnectionEvent)
            .where(ConnectionEvent.account_id == account, ConnectionEvent.platform == platform)
            .order_by(ConnectionEvent.id.desc())
            .limit(limit)
        )
        return list(session.scalars(query))


def find(db: StateDatabase, account: str, platform: str) -> Connection | None:
    """The account's channel in whatever state, if it has one."""
    with db.session(write=False) as session:
        row = session.scalars(_select(account, platform)).one_or_none()
    return _connection(row) if row else None


def require(db: StateDatabase, account: str, platform: str) -> Connection:
    """The account's active channel. Raises NeedsPersonError `channel_not_connected` or `reauth_required`."""
    with db.session(write=False) as session:
        row = session.scalars(_select(account, platform)).one_or_none()
    if row is None:
        raise not_connected(account, platform)
    if row.status != ACTIVE:
        raise reauth_required(account, platform)
    return _connection(row)


def connected(db: StateDatabase) -> list[Connection]:
    """Every connection, active or not, by account and platform."""
    with db.session(write=False) as session:
        order = (OAuthConnection.account_id, OAuthConnection.platform)
        return [_connection(row) for row in session.scalars(sa.select(OAuthConnection).order_by(*order))]


def _check_scopes(account: str, platform: str, scopes: tuple[str, ...]) -> None:
    missing = NEEDED_SCOPES[platform] - set(scopes)
    if missing:
        raise NeedsPersonError(
            f"{account} did not consent to {', '.join(sorted(missing))} on {platform}.",
            code="scope_missing",
            remedy="Connect the channel again and leave every box ticked. Nothing was stored.",
        )


def _check_identity(session: Session, row: OAuthConnection, identity: ChannelIdentity) -> None:
    """A consent may not put another channel in the place of the one an account's posts are on."""
    if row.channel_id not in ("", identity.channel_id):
        raise NeedsPersonError(
            f"{row.account_id} posts on {row.channel_title}, but the consent is for {identity.title}.",
            code="another_channel",
            remedy=f"Choose {row.channel_title} on the consent page; to change the channel, disconnect it first. "
            "Nothing was stored.",
        )
    other = session.scalar(
        sa.select(OAuthConnection.account_id).where(
            OAuthConnection.platform == row.platform,
            OAuthConnection.channel_id == identity.channel_id,
            OAuthConnection.account_id != row.account_id,
        )
    )
    if other is not None:
        raise _channel_taken(row.account_id, identity, f"the account {other}")


def _channel_taken(account: str, identity: ChannelIdentity, other: str) -> NeedsPersonError:
    return NeedsPersonError(
        f"{identity.title} is connected to {other} already.",
        code="channel_taken",
        remedy=f"Choose the channel of {account} on the consent page, or disconnect it from {other} first. "
        "Nothing was stored.",
    )


def _revoked(row: OAuthConnection, revoke: Callable[[str], None], envelope: Envelope) -> str:
    """End the consent remotely; what stood against it for good, or nothing."""
    sealed, column = row.access_token, ACCESS_TOKEN_COLUMN
    if REVOKED_BY[row.platform] == REFRESH_TOKEN_COLUMN and row.refresh_token:
        sealed, column = row.refresh_token, REFRESH_TOKEN_COLUMN
    try:
        revoke(envelope.open(sealed, account=row.account_id, platform=row.platform, column=column))
    except PipelineError as error:
        if error.kind is FailureKind.TRANSIENT:
            raise
        return error.message
    return ""


def _select(account: str, platform: str) -> sa.Select[OAuthConnection]:
    return sa.select(OAuthConnection).where(
        OAuthConnection.account_id == account, OAuthConnection.platform == platform
    )


def _blank(account: str, platform: str, now: datetime) -> dict[str, object]:
    return {
        "account_id": account, "platform": platform, "channel_id": "", "channel_title": "", "scopes": "",
        "access_token": "", "expires_at": now, "generation": 0, "status": ACTIVE, "connected_at": now,
        "updated_at": now, "refresh_failures": 0,
    }  # fmt: skip


def _connection(row: OAuthConnection) -> Connection:
    return Connection(
        account=row.account_id,
        platform=row.platform,
        channel_id=row.channel_id,
        channel_title=row.channel_title,
        uploads_playlist=row.uploads_playlist,
        scopes=tuple(row.scopes.split()),
        status=row.status,
        expires_at=row.expires_at,
        connected_at=row.connected_at,
        refreshed_at=row.refreshed_at,
        refresh_expires_at=row.refresh_expires_at,
        refresh_due_at=row.refresh_due_at,
        refresh_failures=row.refresh_failures,
        reauth_reason=row.reauth_reason,
    )
