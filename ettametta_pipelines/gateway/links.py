"""Pages of the affiliate links: list, create, edit, retire, import. The logic is in `commerce/`.

Whose links an operator sees and changes is said in `access.py`.
"""

from collections.abc import Collection
from threading import Lock
from time import monotonic
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ettametta_pipelines.commerce import links
from ettametta_pipelines.commerce.networks import Networks, load_networks
from ettametta_pipelines.commerce.performance import codes_followed, earned_by, earnings_by_code
from ettametta_pipelines.discovery.niches import load_niches
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.gateway.access import IN_FORM, Access, about, by_id
from ettametta_pipelines.gateway.operators import Operator, OperatorsDoor, PostedForm
from ettametta_pipelines.gateway.pages import page, see
from ettametta_pipelines.gateway.redirects import FollowedLinks
from ettametta_pipelines.publishing.connections import check_names
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import AffiliateLink
from ettametta_pipelines.state.session import StateDatabase

EMPTY = {
    "label": "",
    "network": "",
    "target_url": "",
    "niches": "",
    "commission_note": "",
    "fallback_url": "",
}
SHOWN_CODES = 50
# Networks book once a day.
EARNINGS_KEPT_S = 60.0
# Links are of no platform; names of accounts are checked beside one.
ANY_PLATFORM = "youtube"


def link_routes(
    settings: Settings, db: StateDatabase, door: OperatorsDoor, access: Access, followed: FollowedLinks
) -> APIRouter:
    """`/links` and what is under it."""
    routes = APIRouter()
    a_link = by_id(
        "link_id", lambda one: links.find(db, one), lambda link: link.account_id, links.unknown_link
    )
    Admitted = Annotated[Operator, Depends(access.operator)]
    Reader = Annotated[Operator, Depends(access.reader(a_link))]
    Posted = Annotated[PostedForm, Depends(access.changer(a_link))]
    PostedNew = Annotated[PostedForm, Depends(access.changer(IN_FORM))]
    PostedFile = Annotated[PostedForm, Depends(access.changer(IN_FORM, door.file_form))]
    figures = Figures(settings, db)

    def account_of(form: PostedForm) -> str:
        account = form.fields.get("account", "").strip()
        check_names(account, ANY_PLATFORM)
        return account

    def form_page(
        operator: Operator, fields: dict[str, Any], *, status: int = 200, **values: Any
    ) -> Response:
        defaults = {"problem": None, "link": None, "account": ""}
        return page(
            "link_form.html", operator, status=status, fields=fields, networks=load_networks(settings).by_name,
            niches=load_niches(settings.niches_file), accounts=known_accounts(operator), **(defaults | values),
        )  # fmt: skip

    def known_accounts(operator: Operator) -> list[str]:
        return [account for account in links.accounts(db) if access.may(operator, account)]

    @routes.get("/links")
    def overview(operator: Admitted, account: str = "") -> Response:
        found = [
            link for link in links.listed(db)
            if access.may(operator, link.account_id) and account in ("", link.account_id)
        ]  # fmt: skip
        return page(
            "links.html", operator, rows=figures.of(found), account=account, accounts=known_accounts(operator),
            networks=load_networks(settings).by_name, url=door.url,
        )  # fmt: skip

    @routes.get("/links/new")
    def ask(operator: Admitted, account: str = "") -> Response:
        return form_page(operator, EMPTY, account=account if _is_account(account) else "")

    @routes.post("/links")
    def create(form: PostedNew) -> Response:
        try:
            account = account_of(form)
            fields = links.checked_fields(_said(form), *_vocabulary(settings))
        except PipelineError as error:
            return form_page(
                form.operator, _said(form), status=400, problem=error, account=form.fields.get("account", "")
            )
        made = links.create(db, account, fields, by=form.operator.actor)
        return see(f"/links/{made.id}")

    @routes.get("/links/import")
    def ask_for_file(operator: Admitted, account: str = "") -> Response:
        return page(
            "link_import.html", operator, account=account if _is_account(account) else "", problem=None,
            accounts=known_accounts(operator), required=links.REQUIRED, optional=links.OPTIONAL,
        )  # fmt: skip

    @routes.post("/links/import")
    def preview(form: PostedFile) -> Response:
        text = form.fields.get("file") or form.fields.get("text", "")
        try:
            account = account_of(form)
            planned = links.plan_import(db, account, text.encode(), *_vocabulary(settings))
        except PipelineError as error:
            return page(
                "link_import.html", form.operator, status=400, account=form.fields.get("account", ""), problem=error,
                accounts=known_accounts(form.operator), required=links.REQUIRED, optional=links.OPTIONAL,
            )  # fmt: skip
        return page(
            "link_preview.html", form.operator, account=account, planned=planned, text=text,
            bad=sum(line.fields is None for line in planned),
            changes=sum(line.does in ("create", "update") for line in planned),
        )  # fmt: skip

    @routes.post("/links/import/confirm")
    def import_all(form: PostedFile) -> Response:
        account = account_of(form)
        # Planned anew: what was shown may have changed since, and nothing that a form says is believed.
        planned = links.plan_import(db, account, form.fields.get("text", "").encode(), *_vocabulary(settings))
        links.carry_out(db, account, planned, by=form.operator.actor)
        followed.forget()
        return see(f"/links?account={quote(account)}")

    @routes.get("/links/{link_id}")
    def one(operator: Reader, request: Request) -> Response:
        (row,) = figures.of([about(request)])
        return page(
            "link.html", operator, row=row, codes=figures.codes(row)[:SHOWN_CODES], url=door.url,
            networks=load_networks(settings).by_name, niches=load_niches(settings.niches_file),
        )  # fmt: skip

    @routes.get("/links/{link_id}/edit")
    def ask_to_edit(operator: Reader, request: Request) -> Response:
        link = about(request)
        said = {name: getattr(link, name) or "" for name in EMPTY} | {"niches": " ".join(link.niches)}
        return form_page(operator, said, link=link, account=link.account_id)

    @routes.post("/links/{link_id}")
    def edit(form: Posted, request: Request, link_id: str) -> Response:
        link = about(request)
        try:
            fields = links.checked_fields(_said(form), *_vocabulary(settings))
        except PipelineError as error:
            return form_page(
                form.operator, _said(form), status=400, problem=error, link=link, account=link.account_id
            )
        links.edit(db, link_id, fields, by=form.operator.actor)
        followed.forget()
        return see(f"/links/{link_id}")

    @routes.get("/links/{link_id}/retire")
    def ask_to_retire(operator: Reader, request: Request) -> Response:
        return page("link_retire.html", operator, link=about(request))

    @routes.post("/links/{link_id}/retire")
    def retire(form: Posted, link_id: str) -> Response:
        links.retire(db, link_id, by=form.operator.actor)
        followed.forget()
        return see(f"/links/{link_id}")

    return routes


def _is_account(account: str) -> bool:
    try:
        check_names(account, ANY_PLATFORM)
    except PermanentError:
        return False
    return True


def _said(form: PostedForm) -> dict[str, str]:
    """Fields of the form about one link; each niche has a box of its own."""
    ticked = [name.removeprefix("niche-") for name in form.fields if name.startswith("niche-")]
    return EMPTY | form.fields | {"niches": " ".join(ticked)}


def _vocabulary(settings: Settings) -> tuple[Networks, Collection[str]]:
    return load_networks(settings), load_niches(settings.niches_file)


class Figures:
    """Clicks and commissions of links, as the pages show them."""

    def __init__(self, settings: Settings, db: StateDatabase) -> None:
        self._settings = settings
        self._db = db
        self._earned: tuple[float, dict[str, list[dict[str, object]]] | None] = (-EARNINGS_KEPT_S, None)
        self._reading = Lock()

    def of(self, found: Collection[AffiliateLink]) -> list[dict[str, Any]]:
        """One row per link: the link, its codes, the one for use outside of posts, clicks, sales and commissions."""
        codes, earnings = codes_followed(self._db, [link.id for link in found]), self._earnings()
        rows = []
        for link in found:
            of_link = [code.code for code, _ in codes[link.id]]
            rows.append(
                {
                    "link": link,
                    "codes": codes[link.id],
                    "code": of_link[0],
                    "posts": len(of_link) - 1,
                    "people": sum(clicks.people for _, clicks in codes[link.id]),
                    "machines": sum(clicks.machines for _, clicks in codes[link.id]),
                    "earned": None if earnings is None else earned_by([*of_link, link.id], earnings),
                }
            )
        return rows

    def codes(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """One row per code of a link, with its clicks and commissions, most clicked first; `row` is its of `of`."""
        earnings = self._earnings()
        rows = [
            {
                "code": code,
                "clicks": clicks,
                "earned": None if earnings is None else earned_by([code.code], earnings),
            }
            for code, clicks in row["codes"]
        ]
        return sorted(rows, key=lambda row: -row["clicks"].people)

    def _earnings(self) -> dict[str, list[dict[str, object]]] | None:
        """As read within the last minute, by one page for all: starting DuckDB takes longer than the rest of a page."""
        with self._reading:
            if monotonic() - self._earned[0] >= EARNINGS_KEPT_S:
                self._earned = (monotonic(), self._read_earnings())
            return self._earned[1]

    def _read_earnings(self) -> dict[str, list[dict[str, object]]] | None:
        """None while the lake cannot be read: the links themselves are in the state and are shown all the same."""
        from ettametta_pipelines.revenue.contracts import AFFILIATE_EARNINGS
        from ettametta_pipelines.storage.lake import open_lake

        try:
            with open_lake(self._settings, {AFFILIATE_EARNINGS.name: AFFILIATE_EARNINGS}) as lake:
                return earnings_by_code(lake)
        except PipelineError:
            return None
