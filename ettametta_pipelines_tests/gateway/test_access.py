"""Every route against everybody who may ask: operators of the account, of another, of none, nobody, this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi.dependencies.models import Dependant

from ettametta_pipelines.billing.report import account_rows
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.commands.channels import connect_platform
from ettametta_pipelines.commerce import links
from ettametta_pipelines.gateway.access import Rule
from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.publishing.connections import require
from ettametta_pipelines.publishing.ledger import Intent, Ledger
from ettametta_pipelines.publishing.tokens import open_envelope
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.gateway.conftest import URL, Browser, browser_at
from ettametta_pipelines_tests.gateway.test_links import make

OPERATORS = "ann@example.com=acme,bob@example.com=beta,root@example.com=*"
SECRET_WORDS = ("Acmes own", "acme--", "Acme")


@dataclass(frozen=True)
class Row:
    """One route: its rule, and what the operator of acme gets."""

    method: str
    path: str
    rule: Rule
    owner: int = 200
    fields: tuple[tuple[str, str], ...] = ()


FORM = (
    ("account", "acme"),
    ("label", "New"),
    ("network", "impact"),
    ("target_url", "https://m.example.com/"),
)
PUBLIC, SIGNED, OPERATOR, ACCOUNT = Rule.PUBLIC, Rule.SIGNED, Rule.OPERATOR, Rule.ACCOUNT
TABLE = (
    Row("GET", "/livez", PUBLIC),
    Row("GET", "/readyz", PUBLIC),
    Row("GET", "/watchz", PUBLIC, 503),
    Row("GET", "/gateway.css", PUBLIC),
    Row("GET", "/icon.svg", PUBLIC),
    Row("GET", "/go/{code}", PUBLIC, 404),
    Row("GET", "/media/{path:path}", SIGNED, 403),
    Row("POST", "/webhooks/{name}", SIGNED, 404),
    Row("GET", "/postbacks/{network}", SIGNED, 403),
    Row("POST", "/postbacks/{network}", SIGNED, 403),
    Row("GET", "/metrics", Rule.MACHINES),
    Row("GET", "/", OPERATOR),
    Row("GET", "/publications", OPERATOR),
    Row("GET", "/publications/{publication_id}", ACCOUNT),
    # Both get as far as what they say: a post that only waits cannot be answered for.
    Row("POST", "/publications/{publication_id}/live", ACCOUNT, 400),
    Row("POST", "/publications/{publication_id}/again", ACCOUNT, 400),
    Row("GET", "/accounts", OPERATOR),
    Row("POST", "/accounts/connect", ACCOUNT, 303, (("account", "acme"), ("platform", "youtube"))),
    Row("GET", "/oauth/{platform}", OPERATOR, 400),
    Row("GET", "/accounts/{account}/{platform}", ACCOUNT),
    Row("GET", "/accounts/{account}/{platform}/disconnect", ACCOUNT),
    Row("GET", "/links", OPERATOR),
    Row("GET", "/links/new", OPERATOR),
    Row("POST", "/links", ACCOUNT, 303, FORM),
    Row("GET", "/links/import", OPERATOR),
    Row("POST", "/links/import", ACCOUNT, 400, FORM),
    Row("POST", "/links/import/confirm", ACCOUNT, 400, FORM),
    Row("GET", "/links/{link_id}", ACCOUNT),
    Row("GET", "/links/{link_id}/edit", ACCOUNT),
    Row("POST", "/links/{link_id}", ACCOUNT, 303, FORM),
    Row("GET", "/links/{link_id}/retire", ACCOUNT),
    Row("GET", "/billing", OPERATOR),
    Row("POST", "/billing", ACCOUNT, 303, (("account", "acme"),)),
    Row("GET", "/billing/{account}", ACCOUNT),
    Row("POST", "/billing/{account}/checkout", ACCOUNT, 303, (("tier", "creator"),)),
    Row("POST", "/billing/{account}/portal", ACCOUNT, 303),
    Row("GET", "/billing/{account}/{question}/{tier}", ACCOUNT, 200),
    Row("POST", "/billing/{account}/change", ACCOUNT, 409, (("tier", "creator"),)),
    Row("POST", "/billing/{account}/resume", ACCOUNT, 409),
    # Last, since they end things.
    Row("POST", "/links/{link_id}/retire", ACCOUNT, 303),
    Row("POST", "/accounts/{account}/{platform}/disconnect", ACCOUNT, 303),
)
POSTS_OF_PAGES = [row for row in TABLE if row.method == "POST" and row.rule is ACCOUNT]


def name_of(row: Row) -> str:
    return f"{row.method} {row.path}"


def routes_of(settings: Settings) -> Iterator[Any]:
    """Every route as it answers, with the dependencies of the routers around it."""
    for route in create_gateway(settings).routes:
        # Routers that were included stand in the list as they are.
        inner = getattr(route, "effective_route_contexts", None)
        yield from inner() if inner else [route]


def rules_of(dependant: Dependant) -> set[Rule]:
    own = {rule} if (rule := getattr(dependant.call, "rule", None)) else set()
    return own.union(*(rules_of(part) for part in dependant.dependencies))


def test_every_route_names_one_rule_and_stands_in_the_table(settings_env: Settings) -> None:
    found: dict[tuple[str, str], Any] = {}
    for route in routes_of(settings_env):
        rules = rules_of(route.dependant) if hasattr(route, "dependant") else set()
        for method in set(getattr(route, "methods", None) or {"any"}) - {"HEAD"}:
            found[method, route.path] = next(iter(rules)) if len(rules) == 1 else rules
    assert found == {(row.method, row.path): row.rule for row in TABLE}


@dataclass
class Agency:
    """Something of everything, of the account acme."""

    settings: Settings
    ids: dict[str, str]

    def browser(self, name: str = "") -> Browser:
        return browser_at(self.settings, peer="10.0.0.9", **({"x-user": name} if name else {}))

    def ask(self, browser: Browser, row: Row, *, ids: dict[str, str] | None = None) -> httpx.Response:
        path = row.path.replace("{path:path}", "{path}").format(**(ids or self.ids))
        if row.method == "GET":
            return browser.get(path)
        csrf = browser.csrf() if row.rule is ACCOUNT and "x-user" in browser.headers else "0" * 64
        return browser.post(path, csrf=csrf, **dict(row.fields))


@pytest.fixture
def agency(settings_env: Settings, db: StateDatabase, monkeypatch: pytest.MonkeyPatch) -> Agency:
    connect_platform(settings_env, "acme", "youtube", None)
    link, _ = make(db, label="Acmes own")
    channel = require(db, "acme", "youtube").channel_id
    ledger = Ledger(db, open_envelope(settings_env), clock=utc_now, owner="run 1")
    post = ledger.plan(
        Intent("youtube", "acme", channel, f"acme--{1:016x}", "m.mp4", "ab", 9, "Acmes own", "private")
    )
    monkeypatch.setenv("ETTAMETTA_PROXY_USER_HEADER", "X-User")
    monkeypatch.setenv("ETTAMETTA_OPERATOR_ACCOUNTS", OPERATORS)
    get_settings.cache_clear()
    ids = {
        "publication_id": post.id, "link_id": link.id, "account": "acme", "platform": "youtube", "name": "nobody",
        "network": "impact", "code": "nosuchcode", "path": "renditions/x.mp4", "question": "upgrade", "tier": "creator",
    }  # fmt: skip
    return Agency(get_settings(), ids)


# Of things that are not there, in the place of acme's.
NOTHING = {"publication_id": "0" * 32, "link_id": "f" * 16, "account": "acnothing"}


def same_words(answer: httpx.Response, ids: dict[str, str]) -> str:
    text = answer.text
    for name in NOTHING:
        text = text.replace(ids[name], name)
    return text


def test_of_every_route_each_gets_what_the_table_says(agency: Agency, db: StateDatabase) -> None:
    ann, bob = agency.browser("ann@example.com"), agency.browser("bob@example.com")
    others = {"bob": bob, "unlisted": agency.browser("carol@example.com")}
    wrong: list[Any] = []
    for row in TABLE:
        if row.rule is ACCOUNT:
            expected = 404 if "_id}" in row.path else 403
            for name, browser in others.items():
                answer = agency.ask(browser, row)
                said = [word for word in SECRET_WORDS if word in answer.text]
                if answer.status_code != expected or (said and expected == 404):
                    wrong.append((name_of(row), name, answer.status_code, said))
                nothing = agency.ids | NOTHING
                fields = tuple((n, v.replace("acme", NOTHING["account"])) for n, v in row.fields)
                missing = agency.ask(browser, Row(row.method, row.path, row.rule, 0, fields), ids=nothing)
                if missing.status_code != answer.status_code or (
                    same_words(missing, nothing) != same_words(answer, agency.ids)
                ):
                    wrong.append(
                        (name_of(row), name, "tells what exists", answer.text[-300:], missing.text[-300:])
                    )
        if row.rule in (ACCOUNT, OPERATOR):
            status = agency.ask(agency.browser(), row).status_code
            wrong += [(name_of(row), "nobody", status)] if status != 403 else []
        if row.rule is OPERATOR and row.owner == 200:
            seen = agency.ask(bob, row).text
            wrong += [(name_of(row), "shows", word) for word in SECRET_WORDS if word in seen]
        status = agency.ask(ann, row).status_code
        wrong += [(name_of(row), "ann", status)] if status != row.owner else []
    assert wrong == [], "\n".join(map(str, wrong))
    assert [row["account"] for row in account_rows(db, _plans(agency.settings))] == ["acme"]
    assert links.listed(db), "what bob tried changed nothing before ann did"


def _plans(settings: Settings) -> Any:
    from ettametta_pipelines.billing.tiers import open_plans

    return open_plans(settings)


def test_lists_show_an_operator_what_is_theirs(agency: Agency) -> None:
    paths = ("/publications", "/accounts", "/links")
    shown = {
        name: [agency.browser(f"{name}@example.com").get(path).text for path in paths]
        for name in ("ann", "bob", "root")
    }
    for name, pages in shown.items():
        assert ["cme" in page.replace("acme beta", "") for page in pages] == [name != "bob"] * 3, name
    assert "<dt>Channels</dt><dd>1</dd>" in agency.browser("ann@example.com").get("/").text
    assert "<dt>Channels</dt><dd>0</dd>" in agency.browser("bob@example.com").get("/").text


def test_a_consent_cannot_be_finished_by_who_may_not_about_its_account(
    agency: Agency, db: StateDatabase
) -> None:
    ann = agency.browser("ann@example.com")
    address = ann.consent(ann.ask("acme", "tiktok"), account="acme")
    # The same browser, with its cookie, under another name.
    ann.headers["x-user"] = "bob@example.com"
    assert ann.come_back(address).status_code == 403


def test_without_a_proxy_this_machine_is_every_accounts_operator_and_no_other_is_any(
    settings_env: Settings, db: StateDatabase
) -> None:
    pages = [row.path for row in TABLE if row.rule is OPERATOR and "{" not in row.path]
    here, elsewhere = browser_at(settings_env), browser_at(settings_env, peer="10.0.0.9")
    assert {path: here.get(path).status_code for path in pages} == dict.fromkeys(pages, 200)
    assert {path: elsewhere.get(path).status_code for path in pages} == dict.fromkeys(pages, 403)


@pytest.mark.parametrize(
    ("origin", "with_token"), [("https://evil.example.com", True), ("null", True), (URL, False)]
)
def test_no_form_is_taken_from_elsewhere(agency: Agency, origin: str, with_token: bool) -> None:
    ann = agency.browser("ann@example.com")
    csrf = ann.csrf() if with_token else ann.csrf()[::-1]
    taken = []
    for row in POSTS_OF_PAGES:
        path = row.path.format(**agency.ids)
        answer = ann.post(path, origin=origin, csrf=csrf, **dict(row.fields))
        taken += [name_of(row)] if answer.status_code != 403 or "Form refused" not in answer.text else []
    assert taken == []


def test_the_token_of_one_browser_is_worth_nothing_in_another(agency: Agency) -> None:
    one, two = agency.browser("ann@example.com"), agency.browser("ann@example.com")
    assert two.post("/billing", csrf=one.csrf(), account="acme").status_code == 403
