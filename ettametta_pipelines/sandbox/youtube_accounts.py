"""Who may ask the sandboxed YouTube: its token endpoint, the channels behind it, and the daily quota.

Codes come from the consent page (`consent_pages.py`); the code `sandbox-<account>` works without it and stands for a
person who consented to everything. Either makes a channel for its account. Quotas are counted per project, bucket and
Pacific day, as Google counts them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fastapi.responses import JSONResponse, Response

from ettametta_pipelines.clock import Clock, pacific_quota_day
from ettametta_pipelines.sandbox.consent_pages import ConsentPage, base64url_sha256
from ettametta_pipelines.sandbox.core import SandboxStore, seeded_rng
from ettametta_pipelines.sandbox.google_requests import BAD_CREDENTIALS, NO_CALLER, ApiMethod, GoogleRefusal

ACCESS_LIFETIME = timedelta(seconds=3599)
GRANTED_SCOPES = (
    "https://www.googleapis.com/auth/youtube.upload",
    "https://www.googleapis.com/auth/youtube.readonly",
    "https://www.googleapis.com/auth/youtube.force-ssl",
    "https://www.googleapis.com/auth/yt-analytics-monetary.readonly",
)
SCOPE_WORDS = {
    GRANTED_SCOPES[0]: "Manage your YouTube videos",
    GRANTED_SCOPES[1]: "View your YouTube account",
    GRANTED_SCOPES[
        2
    ]: "See, edit, and permanently delete your YouTube videos, ratings, comments and captions",
    "https://www.googleapis.com/auth/yt-analytics.readonly": "View YouTube Analytics reports for your content",
    "https://www.googleapis.com/auth/yt-analytics-monetary.readonly": "View monetary YouTube Analytics reports",
}
BUCKET_LIMITS = {"search": 100, "videos_insert": 100, "batch_get_stats": 10_000, "units": 10_000}

_CODE = re.compile(r"sandbox-(?P<account>[a-z0-9-]{1,40})")
_KEY = re.compile(r"[A-Za-z0-9._-]{8,}")
_URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class OwnChannel:
    """Channel of a connected account."""

    account: str
    id: str
    title: str
    created_at: datetime

    @property
    def uploads_playlist(self) -> str:
        return "UU" + self.id[2:]


@dataclass(frozen=True)
class Caller:
    """Who asks: with a key only (`channel` None) or on behalf of a channel."""

    channel: OwnChannel | None = None
    scopes: frozenset[str] = frozenset()


class Accounts:
    """Connected accounts and their tokens, in the sandbox's store."""

    def __init__(self, store: SandboxStore, clock: Clock, seed: int, *, url: str = "") -> None:
        self._store = store
        self._clock = clock
        self._seed = seed
        self.consent_page = ConsentPage(
            "YouTube", store, clock, seed, "client_id", " ", SCOPE_WORDS, base64url_sha256, "4/0A", issuer=url
        )

    def token(self, form: Mapping[str, str]) -> Response:
        """Answer of the token endpoint to a decoded form, successes and Google's flat errors alike."""
        if not form.get("client_id") or not form.get("client_secret"):
            return _flat_error(401, "invalid_client", "The OAuth client was not found.")
        match form.get("grant_type"):
            case "authorization_code":
                return self._exchange(form)
            case "refresh_token":
                return self._refresh(form.get("refresh_token", ""))
            case other:
                return _flat_error(400, "unsupported_grant_type", f"Invalid grant_type: {other or ''}")

    def revoke(self, token: str) -> Response:
        """Revoke the whole grant a token belongs to, as Google does for either kind of token."""
        for kind in ("youtube_access", "youtube_refresh"):
            grant = self._store.get(kind, token)
            if grant is not None:
                for other in ("youtube_access", "youtube_refresh"):
                    for key, value in self._store.items(other):
                        if value["account"] == grant["account"]:
                            self._store.delete(other, key)
                return JSONResponse({})
        return _flat_error(400, "invalid_token", "Token expired or revoked")

    def _exchange(self, form: Mapping[str, str]) -> Response:
        match = _CODE.fullmatch(form.get("code", ""))
        grant = {"account": match["account"]} if match else self.consent_page.redeem(form)
        if isinstance(grant, str):
            return _flat_error(400, "invalid_grant", grant)
        account = grant["account"]
        self._make_channel(account)
        refresh_token = f"1//sandbox-{self._secret('refresh', account)}"
        self._store.put("youtube_refresh", refresh_token, grant)
        return JSONResponse(self._issue(grant) | {"refresh_token": refresh_token})

    def _refresh(self, refresh_token: str) -> Response:
        grant = self._store.get("youtube_refresh", refresh_token)
        if grant is None:
            return _flat_error(400, "invalid_grant", "Token has been expired or revoked.")
        return JSONResponse(self._issue(grant))

    def _issue(self, grant: Mapping[str, Any]) -> dict[str, Any]:
        account = grant["account"]
        access_token = f"ya29.sandbox-{self._secret('access', account)}"
        expires_at = self._clock() + ACCESS_LIFETIME
        self._store.put("youtube_access", access_token, {**grant, "expires_at": expires_at.isoformat()})
        return {
            "access_token": access_token,
            "expires_in": int(ACCESS_LIFETIME.total_seconds()),
            "scope": " ".join(grant.get("scopes", GRANTED_SCOPES)),
            "token_type": "Bearer",
        }

    def _secret(self, kind: str, account: str) -> str:
        number = self._store.counter(f"youtube_{kind}_tokens")
        rng = seeded_rng(self._seed, kind, account, number)
        return "".join(rng.choices(_URL_SAFE, k=40))

    def _make_channel(self, account: str) -> None:
        rng = seeded_rng(self._seed, "own channel", account)
        created = {
            "account": account,
            "id": "UC" + "".join(rng.choices(_URL_SAFE, k=22)),
            "title": account.replace("-", " ").title(),
            "created_at": self._clock().isoformat(),
        }
        if self._store.insert("youtube_channel", account, created):
            self._store.put("youtube_channel_by_id", created["id"], {"account": account})

    def channel_of(self, account: str) -> OwnChannel | None:
        stored = self._store.get("youtube_channel", account)
        if stored is None:
            return None
        return OwnChannel(**stored | {"created_at": datetime.fromisoformat(stored["created_at"])})

    def channel_by_id(self, channel_id: str) -> OwnChannel | None:
        known = self._store.get("youtube_channel_by_id", channel_id)
        return self.channel_of(known["account"]) if known else None

    def channel_by_handle(self, handle: str) -> OwnChannel | None:
        return self.channel_of(handle.removeprefix("@"))

    def caller(self, method: ApiMethod, *, authorization: str | None, key: str | None) -> Caller:
        """Who asks, if they may ask for this method at all; a token outweighs a key."""
        if authorization is not None:
            return self._token_holder(method, authorization)
        if key is None:
            raise GoogleRefusal(403, "forbidden", NO_CALLER)
        if not _KEY.fullmatch(key):
            reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
            raise GoogleRefusal(
                400,
                "badRequest",
                "API key not valid. Please pass a valid API key.",
                details=[reason | {"domain": "googleapis.com"}],
            )
        return Caller()

    def _token_holder(self, method: ApiMethod, authorization: str) -> Caller:
        scheme, _, token = authorization.partition(" ")
        grant = self._store.get("youtube_access", token) if scheme.lower() == "bearer" else None
        if grant is None or datetime.fromisoformat(grant["expires_at"]) <= self._clock():
            raise unauthorized()
        scopes = frozenset(grant.get("scopes", GRANTED_SCOPES))
        if not scopes & method.scopes:
            reason = {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
            }
            raise GoogleRefusal(
                403,
                "insufficientPermissions",
                "Request had insufficient authentication scopes.",
                details=[reason],
            )
        return Caller(self.channel_of(grant["account"]), scopes)

    def spend_quota(self, bucket: str, cost: int) -> None:
        """Count a call; refusal 403 `quotaExceeded` beyond the bucket's limit of the Pacific day."""
        used = self._store.counter(f"youtube_quota:{bucket}:{pacific_quota_day(self._clock())}", cost)
        if used > BUCKET_LIMITS[bucket]:
            raise GoogleRefusal(
                403,
                "quotaExceeded",
                'The request cannot be completed because you have exceeded your <a href="/youtube/v3/getting-started'
                '#quota">quota</a>.',
                domain="youtube.quota",
            )


def unauthorized(*, missing: bool = False) -> GoogleRefusal:
    """401 for a token that is wrong or expired, or (`missing`) for a method that needs one."""
    reason = "required" if missing else "authError"
    return GoogleRefusal(401, reason, BAD_CREDENTIALS, location="Authorization", location_type="header")


def _flat_error(status: int, error: str, description: str) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": description}, status_code=status)
