"""What the vendors' OAuth has in common: the answer of a token endpoint, the consent page's address, revoking.

Exchanging and refreshing are done by the vendors' own clients; storing and rotating tokens is `publishing/`'s business.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from ettametta_pipelines.failures import FailureKind
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.vendors.http import ErrorRule, http_client, raise_for_vendor, send, vendor_error

# What vendors say of a token that is dead already: the consent has ended, which is what was wanted.
DEAD_TOKENS = frozenset({"invalid_token", "invalid_grant", "access_token_invalid"})


@dataclass(frozen=True)
class TokenSet:
    """Tokens of one connected account; `repr` hides them.

    `expires_in_s` and `refresh_expires_in_s` count from the moment of the answer. `refresh_token` is None when the
    vendor keeps the old one valid. `subject` is the vendor's id of the account (TikTok `open_id`) where it gives one.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_in_s: int
    refresh_expires_in_s: int | None
    scopes: tuple[str, ...]
    subject: str | None = None


def _base64url_challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _hex_challenge(verifier: str) -> str:
    return hashlib.sha256(verifier.encode()).hexdigest()


@dataclass(frozen=True)
class ConsentRules:
    """How one vendor is asked for consent.

    `challenge` turns a PKCE verifier into the S256 challenge: RFC 7636 says base64url, TikTok's Login Kit says hex.
    `*_path` are below the sandbox; the live addresses are settings.
    """

    vendor: str
    client_name: str
    client_secret_name: str
    scope_separator: str
    challenge: Callable[[str], str]
    authorize_path: str
    revoke_path: str
    issuer: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


RULES: Mapping[str, ConsentRules] = {
    "youtube": ConsentRules(
        "google", "client_id", "client_secret", " ", _base64url_challenge, "o/oauth2/v2/auth", "revoke",
        issuer="https://accounts.google.com",
        # Without `prompt` Google sends a refresh token with the first consent only.
        extra={"access_type": "offline", "prompt": "consent"},
    ),
    "tiktok": ConsentRules(
        "tiktok", "client_key", "client_secret", ",", _hex_challenge, "v2/auth/authorize/", "v2/oauth/revoke/"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class ConsentDesk:
    """Where consent to one vendor is given and taken back. `issuer` is what its answers may name as their origin."""

    rules: ConsentRules
    endpoint: VendorEndpoint
    authorize_url: str
    revoke_url: str
    issuer: str

    def page(self, *, redirect_uri: str, state: str, verifier: str, scopes: Iterable[str]) -> str:
        """Address a person is sent to in order to consent."""
        query = {
            self.rules.client_name: self._client_id,
            "response_type": "code",
            "redirect_uri": redirect_uri,
            "scope": self.rules.scope_separator.join(scopes),
            "state": state,
            "code_challenge": self.rules.challenge(verifier),
            "code_challenge_method": "S256",
            **self.rules.extra,
        }
        return f"{self.authorize_url}?{urlencode(query)}"

    def revoke(self, token: str) -> None:
        """End the consent a token belongs to. A token that is dead already is no failure.

        At Google this ends everything the same Google user consented to for this app, other channels included.
        """
        vendor, doing = self.rules.vendor.title(), "end a consent"
        form = {"token": token}
        if self.rules.vendor == "tiktok":
            form |= {
                self.rules.client_name: self._client_id,
                self.rules.client_secret_name: self.endpoint.secret("tiktok_client_secret"),
            }
        with http_client(self.endpoint) as http:
            response = send(http, "POST", self.revoke_url, vendor=vendor, doing=doing, data=form)
        try:
            answer = response.json() if response.content else {}
        except ValueError:
            answer = {}
        reason = str(answer.get("error") or "") if isinstance(answer, dict) else ""
        if reason in DEAD_TOKENS:
            return
        raise_for_vendor(response, vendor=vendor, doing=doing, reason=reason)
        # TikTok says no with HTTP 200 as well.
        if reason:
            rules = {
                reason: ErrorRule(
                    FailureKind.PERMANENT, "revoke_refused", "Revoke it on the vendor's own page."
                )
            }
            raise vendor_error(vendor, doing, status=response.status_code, reason=reason, rules=rules)

    @property
    def _client_id(self) -> str:
        return self.endpoint.secret(f"{self.rules.vendor}_{self.rules.client_name}")


def open_desk(settings: Settings, platform: str) -> ConsentDesk:
    """The consent desk of `youtube` or `tiktok` as configured: live, or the sandbox's."""
    rules = RULES[platform]
    endpoint = settings.endpoint(rules.vendor)
    if endpoint.mode == "live":
        authorize = {"google": settings.google_authorize_url, "tiktok": settings.tiktok_authorize_url}
        revoke = {"google": settings.google_revoke_url, "tiktok": endpoint.base_url + rules.revoke_path}
        return ConsentDesk(rules, endpoint, authorize[rules.vendor], revoke[rules.vendor], rules.issuer)
    base = endpoint.base_url
    return ConsentDesk(
        rules, endpoint, base + rules.authorize_path, base + rules.revoke_path, base.rstrip("/")
    )
