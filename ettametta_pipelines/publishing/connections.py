"""Which account may post on which channel: connecting by OAuth code, and asking before posting.

Called by `ettametta connect`, the OAuth callbacks and the uploads. Tokens are kept and refreshed by `tokens.py`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import sqlalchemy as sa

from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.publishing.tokens import (
    ACTIVE,
    Envelope,
    not_connected,
    open_envelope,
    reauth_required,
    store_tokens,
)
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state.models import OAuthConnection
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent
from ettametta_pipelines.vendors.oauth import TokenSet

Platform = Literal["youtube", "tiktok"]

ACCOUNT = re.compile(r"[a-z0-9-]{1,40}")


class ConnectingApp(Protocol):
    """The part of a vendor's app client that connecting needs."""

    def exchange_code(self, code: str) -> TokenSet: ...


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


@dataclass(frozen=True)
class ChannelIdentity:
    channel_id: str
    title: str
    uploads_playlist: str | None = None


def _youtube_identity(app: Any, tokens: TokenSet) -> ChannelIdentity:
    channel_id, title, playlist = app.channel(tokens.access_token).identity()
    return ChannelIdentity(channel_id, title, playlist)


def _tiktok_identity(app: Any, tokens: TokenSet) -> ChannelIdentity:
    user = app.creator(tokens.access_token).user_info()
    return ChannelIdentity(user.open_id, user.display_name)


IDENTITIES: dict[str, Callable[[Any, TokenSet], ChannelIdentity]] = {
    "youtube": _youtube_identity,
    "tiktok": _tiktok_identity,
}

# Without these the first post fails; better to hear it when consenting.
NEEDED_SCOPES: dict[str, frozenset[str]] = {
    "youtube": frozenset({"https://www.googleapis.com/auth/youtube.upload"}),
    "tiktok": frozenset({"video.publish", "user.info.basic"}),
}


def connect(
    db: StateDatabase,
    app: ConnectingApp,
    account: str,
    platform: str,
    code: str,
    *,
    envelope: Envelope | None = None,
) -> Connection:
    """Exchange an OAuth code and store the channel and its tokens; connecting again replaces them.

    Raises PermanentError `bad_account` or `unknown_platform`, NeedsPersonError `scope_missing` when the consent given
    does not cover posting, and the vendor's refusals.
    """
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
    envelope = envelope or open_envelope(get_settings())
    tokens = app.exchange_code(code)
    _check_scopes(account, platform, tokens)
    identity = IDENTITIES[platform](app, tokens)
    with db.session() as session:
        now = db.now(session)
        insert_if_absent(session, OAuthConnection, _blank(account, platform, now))
        row = session.scalars(_select(account, platform).with_for_update()).one()
        if row.channel_id != identity.channel_id:
            # Another channel's refresh token would be worse than none.
            row.refresh_token = row.refresh_expires_at = None
        row.channel_id = identity.channel_id
        row.channel_title = identity.title
        row.uploads_playlist = identity.uploads_playlist
        row.scopes = " ".join(tokens.scopes)
        row.connected_at = now
        store_tokens(row, tokens, now, envelope)
        session.flush()
        return _connection(row)


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


def _check_scopes(account: str, platform: str, tokens: TokenSet) -> None:
    # RFC 6749: a vendor may leave the scopes out when they are the ones asked for.
    missing = NEEDED_SCOPES[platform] - set(tokens.scopes) if tokens.scopes else frozenset()
    if missing:
        raise NeedsPersonError(
            f"{account} did not consent to {', '.join(sorted(missing))} on {platform}.",
            code="scope_missing",
            remedy=f"Run `ettametta connect --account {account} --platform {platform}` and leave every box ticked.",
        )


def _select(account: str, platform: str) -> sa.Select[OAuthConnection]:
    return sa.select(OAuthConnection).where(
        OAuthConnection.account_id == account, OAuthConnection.platform == platform
    )


def _blank(account: str, platform: str, now: datetime) -> dict[str, object]:
    return {
        "account_id": account, "platform": platform, "channel_id": "", "channel_title": "", "scopes": "",
        "access_token": "", "expires_at": now, "generation": 0, "status": ACTIVE, "connected_at": now,
        "updated_at": now,
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
    )
