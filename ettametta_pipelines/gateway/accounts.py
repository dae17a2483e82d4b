"""Pages of the channels: connect, see how they stand, disconnect. The logic is in `publishing/`."""

from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.gateway.access import IN_FORM, IN_PATH, Access
from ettametta_pipelines.gateway.operators import Operator, OperatorsDoor, PostedForm
from ettametta_pipelines.gateway.pages import page, see
from ettametta_pipelines.publishing import connections, consents
from ettametta_pipelines.publishing.connections import ASKED_SCOPES, ConnectingApp
from ettametta_pipelines.publishing.tokens import RefreshingApp, not_connected, open_envelope
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.oauth import RULES, open_desk


class App(ConnectingApp, RefreshingApp, Protocol):
    """A vendor's app client as both halves of this page need it."""


def account_routes(settings: Settings, db: StateDatabase, door: OperatorsDoor, access: Access) -> APIRouter:
    """`/accounts` and the way back from a vendor's consent page, `/oauth/{platform}`."""
    routes = APIRouter()
    Admitted = Annotated[Operator, Depends(access.operator)]
    Reader = Annotated[Operator, Depends(access.reader(IN_PATH))]
    Starts = Annotated[PostedForm, Depends(access.changer(IN_FORM))]
    Posted = Annotated[PostedForm, Depends(access.changer(IN_PATH))]

    def standings() -> dict[str, str]:
        return {platform: settings.endpoint(rules.vendor).standing for platform, rules in RULES.items()}

    @routes.get("/accounts")
    def channels(operator: Admitted) -> Response:
        return page(
            "channels.html",
            operator,
            channels=[one for one in connections.connected(db) if access.may(operator, one.account)],
            standings=standings(),
            scopes=ASKED_SCOPES,
        )

    @routes.post("/accounts/connect")
    def start(form: Starts) -> Response:
        account, platform = form.fields.get("account", "").strip(), form.fields.get("platform", "")
        connections.check_names(account, platform)
        return see(
            consents.begin(
                db,
                open_desk(settings, platform),
                account,
                platform,
                browser=form.operator.browser,
                redirect_uri=f"{door.url}/oauth/{platform}",
                actor=form.operator.actor,
                envelope=open_envelope(settings),
            )
        )

    @routes.get("/oauth/{platform}")
    def come_back(operator: Admitted, platform: str, request: Request) -> Response:
        answer = request.query_params
        envelope = open_envelope(settings)
        consent = consents.claim(
            db, answer.get("state", ""), browser=operator.browser, platform=platform, envelope=envelope
        )
        # The consent was asked in this browser; meanwhile somebody else may sit there.
        access.check(operator, consent.account)
        if answer.get("iss") not in (None, open_desk(settings, platform).issuer):
            raise PermanentError(
                "The answer came from another provider than the one that was asked.",
                code=consents.CONSENT_INVALID,
                remedy="Connect the channel again. Nothing was stored.",
            )
        if "code" not in answer:
            raise NeedsPersonError(
                f"No consent was given for {consent.account} ({answer.get('error', 'no code')[:60]}).",
                code="consent_declined",
                remedy="Connect the channel again and allow access. Nothing was stored.",
            )
        connections.connect(
            db,
            _app(platform),
            consent.account,
            platform,
            answer["code"],
            envelope=envelope,
            actor=operator.actor,
            **consent.proof,
        )
        return see(f"/accounts/{consent.account}/{platform}")

    @routes.get("/accounts/{account}/{platform}")
    def channel(operator: Reader, account: str, platform: str) -> Response:
        connections.check_names(account, platform)
        return page(
            "channel.html",
            operator,
            account=account,
            platform=platform,
            channel=connections.find(db, account, platform),
            events=connections.events(db, account, platform),
            scopes=ASKED_SCOPES[platform],
            standing=standings()[platform],
        )

    @routes.get("/accounts/{account}/{platform}/disconnect")
    def ask_to_disconnect(operator: Reader, account: str, platform: str) -> Response:
        connections.check_names(account, platform)
        found = connections.find(db, account, platform)
        if found is None:
            raise not_connected(account, platform)
        return page("disconnect.html", operator, channel=found)

    @routes.post("/accounts/{account}/{platform}/disconnect")
    def disconnect(form: Posted, account: str, platform: str) -> Response:
        connections.check_names(account, platform)
        done = connections.disconnect(
            db,
            _app(platform),
            open_desk(settings, platform).revoke,
            account,
            platform,
            envelope=open_envelope(settings),
            actor=form.operator.actor,
        )
        if not done.problem:
            return see(f"/accounts/{account}/{platform}")
        return page(
            "message.html",
            form.operator,
            title="Disconnected here only",
            message=f"{done.channel_title} is disconnected and its tokens are deleted, but the vendor did not end the "
            f"consent: {done.problem}",
            remedy="Have its owner remove this app in the account's security settings.",
        )

    return routes


def _app(platform: str) -> App:
    from ettametta_pipelines.commands.channels import APPS

    return APPS[platform]()  # type: ignore[return-value]
