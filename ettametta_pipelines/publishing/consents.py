"""A consent under way: from the moment a person is sent to the vendor until they come back.

The state that travels through the browser is random, works once, for ten minutes, for one vendor and in the browser it
was made for; the database keeps only its hash. What comes back is exchanged by `connections.connect`. Called by the
gateway.
"""

import hashlib
import secrets
from dataclasses import dataclass

import sqlalchemy as sa

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing.connections import ASKED_SCOPES, check_names
from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.state.models import DatabaseNow, OAuthConsent
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.oauth import ConsentDesk

LIFE_S = 600.0
STATE_BYTES = 32
# RFC 7636 takes 43 to 128 characters; these are 64.
VERIFIER_BYTES = 48
CONSENT_INVALID = "consent_invalid"


@dataclass(frozen=True)
class Consent:
    """What was asked for, once it has been answered: for which account, and the proof its code is exchanged with."""

    account: str
    platform: str
    actor: str
    redirect_uri: str
    code_verifier: str

    @property
    def proof(self) -> dict[str, str]:
        return {"redirect_uri": self.redirect_uri, "code_verifier": self.code_verifier}


def begin(
    db: StateDatabase,
    desk: ConsentDesk,
    account: str,
    platform: str,
    *,
    browser: str,
    redirect_uri: str,
    actor: str,
    envelope: Envelope,
) -> str:
    """Address of the vendor's consent page for this account, and for the browser session `browser` alone."""
    check_names(account, platform)
    state, verifier = secrets.token_urlsafe(STATE_BYTES), secrets.token_urlsafe(VERIFIER_BYTES)
    state_sha256 = _sha256(state)
    sealed = envelope.seal(verifier, account=account, platform=platform, column=_column(state_sha256))
    with db.session() as session:
        session.execute(sa.delete(OAuthConsent).where(OAuthConsent.expires_at < DatabaseNow()))
        session.execute(
            sa.insert(OAuthConsent).values(
                state_sha256=state_sha256, browser_sha256=_sha256(browser), account_id=account, platform=platform,
                code_verifier=sealed, redirect_uri=redirect_uri, actor=actor, expires_at=DatabaseNow(LIFE_S),
            )
        )  # fmt: skip
    return desk.page(redirect_uri=redirect_uri, state=state, verifier=verifier, scopes=ASKED_SCOPES[platform])


def claim(db: StateDatabase, state: str, *, browser: str, platform: str, envelope: Envelope) -> Consent:
    """The consent this state was made for, which it then no longer is. One statement decides.

    Raises PermanentError `consent_invalid` for a state that is unknown, used, too old, of another vendor or of another
    browser. Which of these it is, is not told: a stranger would learn from it.
    """
    state_sha256 = _sha256(state)
    with db.session() as session:
        row = session.execute(
            sa.delete(OAuthConsent)
            .where(
                OAuthConsent.state_sha256 == state_sha256,
                OAuthConsent.browser_sha256 == _sha256(browser),
                OAuthConsent.platform == platform,
                OAuthConsent.expires_at > DatabaseNow(),
            )
            .returning(
                OAuthConsent.account_id,
                OAuthConsent.actor,
                OAuthConsent.redirect_uri,
                OAuthConsent.code_verifier,
            )
            .execution_options(synchronize_session=False)
        ).one_or_none()
    if row is None:
        raise PermanentError(
            "This consent was not asked for here, was answered before, or is older than ten minutes.",
            code=CONSENT_INVALID,
            remedy="Connect the channel again from the page Channels, in one browser.",
        )
    account, actor, redirect_uri, sealed = row
    verifier = envelope.open(sealed, account=account, platform=platform, column=_column(state_sha256))
    return Consent(account, platform, actor, redirect_uri, verifier)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _column(state_sha256: str) -> str:
    return f"oauth_consents.code_verifier/{state_sha256}"
