"""Pages of the plans: what is sold, how an account stands, and buying, changing, ending. The logic is in `billing/`.

Which customer, subscription and price a form is about is looked up by the account, never taken from the form. Whose
plan an operator sees and changes is said in `access.py`. Stripe is read again each time an account's page is shown, so
that whoever comes back from its checkout sees what is true there.
"""

from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import uuid4

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ettametta_pipelines.billing import desk
from ettametta_pipelines.billing.entitlements import GIVING
from ettametta_pipelines.billing.report import account_rows
from ettametta_pipelines.billing.tiers import Feature, Plans, open_plans
from ettametta_pipelines.failures import NeedsPersonError, PipelineError
from ettametta_pipelines.gateway.access import IN_FORM, IN_PATH, Access
from ettametta_pipelines.gateway.operators import Operator, OperatorsDoor, PostedForm
from ettametta_pipelines.gateway.pages import page, see
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state

# Stripe's own addresses of the checkout and the portal.
LIVE_ORIGINS = ("https://checkout.stripe.com", "https://billing.stripe.com")
FEATURE_WORDS = {
    Feature.FULL_DISCOVERY: "all searches",
    Feature.STUDIO_VOICE: "studio voice",
    Feature.ENGINE_VEO: "clips by Veo",
    Feature.ENGINE_SILICONFLOW: "clips by Wan",
    Feature.ENGINE_GPU: "clips on a GPU",
}
# What a button on an account's page asks for -> how its question is put.
QUESTIONS = ("upgrade", "downgrade", "cancel")


def stripe_origins(settings: Settings) -> list[str]:
    """Where a form may lead: browsers hold the redirects that follow a form to that."""
    try:
        endpoint = settings.endpoint("stripe")
    except PipelineError:
        return []
    address = urlsplit(endpoint.base_url)
    ours = f"{address.scheme}://{address.netloc}"
    return [ours] if endpoint.mode == "sandbox" else [*LIVE_ORIGINS, ours]


def billing_routes(settings: Settings, door: OperatorsDoor, access: Access) -> APIRouter:
    """`/billing` and `/billing/{account}`."""
    routes = APIRouter()
    Admitted = Annotated[Operator, Depends(access.operator)]
    Chosen = Annotated[PostedForm, Depends(access.changer(IN_FORM))]
    # Those who may about the account in the address.
    OwnRead = Annotated[Operator, Depends(access.reader(IN_PATH))]
    OwnPosted = Annotated[PostedForm, Depends(access.changer(IN_PATH))]

    def address(account: str) -> str:
        return f"/billing/{account}"

    @routes.get("/billing")
    def plans_page(operator: Admitted) -> Response:
        plans = open_plans(settings)
        return page(
            "plans.html",
            operator,
            tiers=[_shown(plans, slug) for slug in plans.table.tiers],
            default=plans.default.title,
            accounts=[
                row | {"tier": plans.tier(row["tier"])}
                for row in account_rows(open_state(settings), plans)
                if access.may(operator, row["account"])
            ],
            standing=settings.endpoint("stripe").standing,
        )

    @routes.post("/billing")
    def choose_account(form: Chosen) -> Response:
        account = form.fields.get("account", "").strip()
        desk.check_account(account)
        return see(address(account))

    @routes.get("/billing/{account}")
    def account_page(operator: OwnRead, account: str, request: Request) -> Response:
        answer, problem = desk.as_kept(settings, account), None
        if answer is not None:
            try:
                answer = desk.do_for_account(settings, account)
            except PipelineError as error:
                problem = error
        plans = open_plans(settings)
        row = answer.row if answer else None
        return page(
            "plan.html",
            operator,
            account=account,
            row=row,
            tier=plans.tier(row["tier"]) if row else plans.default,
            titles={slug: tier.title for slug, tier in plans.table.tiers.items()},
            free=plans.free,
            runs=bool(row and row["status"] in GIVING),
            choices=_choices(plans, row),
            problem=problem,
            is_back=request.query_params.get("from") == "checkout",
            once=uuid4().hex,
            standing=settings.endpoint("stripe").standing,
        )

    @routes.post("/billing/{account}/checkout")
    def buy(form: OwnPosted, account: str) -> Response:
        back = f"{door.url}{address(account)}?from=checkout"
        return _leave(form, account, ("checkout", form.fields.get("tier", "")), back)

    @routes.post("/billing/{account}/portal")
    def portal(form: OwnPosted, account: str) -> Response:
        return _leave(form, account, ("portal", ""), f"{door.url}{address(account)}")

    def _leave(form: PostedForm, account: str, asked: tuple[str, str], back: str) -> Response:
        """Send the browser to a page of Stripe's; where its policy would hold it back, by a link."""
        answer = desk.do_for_account(settings, account, [asked], back=back)
        target = answer.pages.get(asked[0])
        if target is None:
            raise NeedsPersonError(
                "Stripe gave no address to go on at.", code="no_page", remedy="Try again; nothing was sold."
            )
        parts = urlsplit(target)
        if f"{parts.scheme}://{parts.netloc}" in stripe_origins(settings):
            return see(target)
        return page("leave.html", form.operator, target=target, account=account)

    @routes.get("/billing/{account}/{question}/{tier}")
    def ask(operator: OwnRead, account: str, question: str, tier: str) -> Response:
        plans, answer = open_plans(settings), desk.as_kept(settings, account)
        if answer is None or question not in QUESTIONS:
            return see(address(account))
        wanted = plans.tier(tier)
        return page(
            "plan_change.html",
            operator,
            account=account,
            row=answer.row,
            now=plans.tier(answer.row["tier"]),
            wanted=wanted,
            price=plans.table.price(wanted),
            question=question,
            once=uuid4().hex,
        )

    @routes.post("/billing/{account}/change")
    def change(form: OwnPosted, account: str) -> Response:
        desk.do_for_account(settings, account, [("change", form.fields.get("tier", ""))], key=_key(form))
        return see(address(account))

    @routes.post("/billing/{account}/resume")
    def resume(form: OwnPosted, account: str) -> Response:
        desk.do_for_account(settings, account, [("resume", "")], key=_key(form))
        return see(address(account))

    return routes


def _key(form: PostedForm) -> str:
    """One page's button pressed twice is one wish, one charge: what the page was given goes to Stripe as the key."""
    once = form.fields.get("once", "")
    return f"{once}-{form.fields.get('tier', '')}" if once.isalnum() and len(once) == 32 else ""


def _shown(plans: Plans, slug: str) -> dict[str, Any]:
    tier = plans.tier(slug)
    extras = [FEATURE_WORDS[feature] for feature in Feature if feature in tier.features]
    extras += ["goes first"] if tier.run_priority else []
    return {
        "title": tier.title, "price": plans.table.price(tier), "videos": tier.videos, "fair_use": tier.fair_use,
        "extras": extras or ["basic discovery"],
    }  # fmt: skip


def _choices(plans: Plans, row: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The tiers an account may go to, each with what its button does."""
    runs = row is not None and row["status"] in GIVING
    now = plans.rank(row["tier"]) if row else plans.rank(plans.default.slug)
    choices = []
    for slug, tier in plans.table.tiers.items():
        if tier is plans.free or (runs and plans.rank(slug) == now):
            continue
        does = ("upgrade" if plans.rank(slug) > now else "downgrade") if runs else "checkout"
        choices.append({"slug": slug, "does": does} | _shown(plans, slug))
    return choices
