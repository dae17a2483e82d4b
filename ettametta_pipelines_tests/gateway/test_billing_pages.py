"""The plan pages: behind the door, for one account at a time, and every refusal a sentence with its remedy."""

import re
from collections.abc import Callable

import httpx
import pytest
import sqlalchemy as sa

from ettametta_pipelines.billing.tiers import Feature
from ettametta_pipelines.gateway.billing import FEATURE_WORDS
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import Entitlement
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.gateway.conftest import URL, Browser, browser_at


def words(answer: httpx.Response) -> str:
    """The page as read: without tags, spaces collapsed."""
    return " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())


def post(browser: Browser, path: str, **fields: str) -> httpx.Response:
    return browser.post(path, csrf=browser.csrf("/billing"), **fields)


def buy(browser: Browser, account: str = "acme", tier: str = "creator", *, pay: bool = True) -> str:
    """Through the checkout, as a customer; where its page sends the browser."""
    answer = post(browser, f"/billing/{account}/checkout", tier=tier)
    assert answer.status_code == 303, answer.text
    if not pay:
        return answer.headers["location"]
    with httpx.Client(trust_env=False) as vendor:
        paid = vendor.post(answer.headers["location"], data={"action": "pay"})
    return paid.headers["location"]


def test_an_account_buys_upgrades_ends_and_stays(browser: Browser) -> None:
    assert "Empire never subscribed" in words(browser.get("/billing/acme"))
    back = buy(browser)
    assert back == f"{URL}/billing/acme?from=checkout"
    assert "Plan Creator paid" in words(browser.get(back.removeprefix(URL)))
    question = words(browser.get("/billing/acme/upgrade/empire"))
    assert "The card on file is charged at once for the rest of the month" in question
    assert "costs $99.00 a month from then on" in question
    assert post(browser, "/billing/acme/change", tier="empire").headers["location"] == "/billing/acme"
    assert "Plan Empire paid" in words(browser.get("/billing/acme"))
    assert "Empire stays until" in words(browser.get("/billing/acme/cancel/free"))
    post(browser, "/billing/acme/change", tier="free")
    ended = words(browser.get("/billing/acme"))
    assert "Then Free from" in ended
    assert "Keep Empire" in ended
    post(browser, "/billing/acme/resume")
    assert "Then Free" not in words(browser.get("/billing/acme"))
    post(browser, "/billing/acme/change", tier="creator")
    assert "Then Creator from" in words(browser.get("/billing/acme"))
    post(browser, "/billing/acme/change", tier="empire")
    assert "Then Creator" not in words(browser.get("/billing/acme"))
    assert "acme" in words(browser.get("/billing"))


def test_an_upgrade_sent_twice_from_one_page_is_charged_once(
    browser: Browser, sandbox: SandboxUnderTest
) -> None:
    buy(browser)
    once = re.findall(
        r'name="once" value="([0-9a-f]{32})"', browser.get("/billing/acme/upgrade/empire").text
    )[0]
    for _ in range(2):
        assert post(browser, "/billing/acme/change", tier="empire", once=once).status_code == 303
    answer = sandbox.http.get("/stripe/v1/invoices", headers={"Authorization": "Bearer sk_test_x"})
    assert [invoice["billing_reason"] for invoice in answer.json()["data"]].count("subscription_update") == 1


def test_looking_at_an_account_makes_none(
    browser: Browser, db: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    assert browser.get("/billing/nobody").status_code == 200
    assert browser.get("/billing/nobody/cancel/free").headers["location"] == "/billing/nobody"
    with db.session(write=False) as session:
        assert session.scalars(sa.select(Entitlement)).all() == []
    assert sandbox.count("stripe", "POST", "/") == 0


def test_what_a_form_says_of_customers_and_prices_is_not_believed(browser: Browser) -> None:
    buy(browser, "acme")
    buy(browser, "beta", "empire")
    post(browser, "/billing/acme/change", tier="free", account="beta", customer="cus_x", subscription="sub_x")
    assert "Then Free" in words(browser.get("/billing/acme"))
    assert "Then Free" not in words(browser.get("/billing/beta"))


@pytest.mark.parametrize(
    "path", ["checkout", "portal", "change", "resume"]
)  # fmt: skip
def test_a_form_from_elsewhere_is_refused(browser: Browser, sandbox: SandboxUnderTest, path: str) -> None:
    for wrong in ({"csrf": "0" * 64}, {"origin": "https://evil.example"}):
        fields = {"csrf": browser.csrf("/billing"), **wrong}
        answer = browser.post(f"/billing/acme/{path}", tier="creator", **fields)
        assert answer.status_code == 403
    assert sandbox.requests("stripe") == []


def test_the_pages_are_closed_to_whoever_does_not_come_through_the_door(settings_env: Settings) -> None:
    stranger = browser_at(settings_env, peer="203.0.113.7")
    for path in ("/billing", "/billing/acme", "/billing/acme/upgrade/empire"):
        assert stranger.get(path).status_code == 403


@pytest.mark.parametrize(
    ("path", "fields", "status", "said"),
    [
        (
            "acme/checkout",
            {"tier": "gold"},
            404,
            "There is no tier 'gold'; there are free, creator, empire. Use one",
        ),
        ("acme/checkout", {"tier": "free"}, 400, "Free cannot be bought"),
        ("Acme!/checkout", {"tier": "creator"}, 404, "is not an account's name. Use 1 to 40"),
        ("acme/portal", {}, 409, "acme is no customer at Stripe yet. Buy a tier first, on its plan page"),
        (
            "acme/change",
            {"tier": "empire"},
            409,
            "acme has no subscription that could be changed. Buy a tier",
        ),
        ("acme/resume", {}, 409, "acme has no subscription"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_in_words(
    browser: Browser, path: str, fields: dict[str, str], status: int, said: str
) -> None:
    answer = post(browser, f"/billing/{path}", **fields)
    assert answer.status_code == status
    assert said in words(answer).replace("&#39;", "'")


def test_the_plan_of_an_account_that_is_not_theirs_is_closed_to_an_operator(
    monkeypatch: pytest.MonkeyPatch, settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    monkeypatch.setenv("ETTAMETTA_PROXY_USER_HEADER", "X-User")
    monkeypatch.setenv("ETTAMETTA_OPERATOR_ACCOUNTS", "ann@example.com=acme,root@example.com=*")
    get_settings.cache_clear()
    ann, root = (
        browser_at(get_settings(), **{"x-user": name}) for name in ("ann@example.com", "root@example.com")
    )
    buy(root, "beta")
    asked = len(sandbox.requests("stripe"))
    for path in ("/billing/beta", "/billing/beta/cancel/free"):
        answer = ann.get(path)
        assert (answer.status_code, "Creator" in answer.text) == (403, False)
    for path in ("checkout", "portal", "change", "resume"):
        assert post(ann, f"/billing/beta/{path}", tier="free").status_code == 403
    assert len(sandbox.requests("stripe")) == asked
    assert "beta" not in words(ann.get("/billing"))
    assert "Not your account" in words(ann.get("/billing/beta"))
    assert ann.get("/billing/acme").status_code == 200
    assert "beta" in words(root.get("/billing"))


def test_a_second_purchase_is_refused_while_the_first_runs(browser: Browser) -> None:
    buy(browser)
    answer = post(browser, "/billing/acme/checkout", tier="empire")
    assert answer.status_code == 409
    assert "acme has a subscription already" in words(answer)


def test_the_portal_is_the_accounts_own_and_leads_back(browser: Browser) -> None:
    buy(browser)
    answer = post(browser, "/billing/acme/portal")
    assert answer.status_code == 303
    with httpx.Client(trust_env=False) as vendor:
        assert f'href="{URL}/billing/acme"' in vendor.get(answer.headers["location"]).text


def test_coming_back_without_having_paid_says_that_nothing_is_confirmed(browser: Browser) -> None:
    buy(browser, pay=False)
    assert "Stripe has not confirmed a payment yet" in words(browser.get("/billing/acme?from=checkout"))


def test_while_stripe_is_away_the_page_shows_what_was_kept_and_says_so(
    browser: Browser, sandbox: SandboxUnderTest
) -> None:
    buy(browser)
    browser.get("/billing/acme")
    sandbox.fault("stripe", action="status", status=401, times=None, body={"error": {"message": "no"}})
    shown = browser.get("/billing/acme")
    assert shown.status_code == 200
    assert "Stripe could not be read, so this is how it was kept at" in words(shown)
    assert "Plan Creator" in words(shown)


def test_a_browser_may_follow_a_form_to_stripe(
    browser: Browser, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f" {sandbox.url} " in browser.get("/billing").headers["content-security-policy"].replace(";", " ")
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_x")
    get_settings.cache_clear()
    policy = browser_at(get_settings()).get("/billing").headers["content-security-policy"]
    assert "https://checkout.stripe.com https://billing.stripe.com" in policy


def test_a_checkout_at_another_address_is_reached_by_a_link(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ettametta_pipelines.gateway.billing.stripe_origins", lambda settings: [])
    answer = post(browser, "/billing/acme/checkout", tier="creator")
    assert answer.status_code == 200
    assert re.search(r'<a class="button" href="http://127.0.0.1:\d+/stripe/pay/cs_test_', answer.text)


def test_what_is_wrong_with_a_payment_is_said_on_the_page(
    browser: Browser, sandbox: SandboxUnderTest, make_overdue: Callable[[], None]
) -> None:
    buy(browser)
    make_overdue()
    shown = words(browser.get("/billing/acme"))
    assert "The last payment failed. The plan stays until" in shown


@pytest.fixture
def make_overdue(sandbox: SandboxUnderTest) -> Callable[[], None]:
    """Let a month pass whose renewal is refused."""

    def do() -> None:
        key = {"Authorization": "Bearer sk_test_x"}
        (customer,) = (
            row["customer"]
            for row in sandbox.http.get("/stripe/v1/checkout/sessions", headers=key).json()["data"]
        )
        card = {"invoice_settings[default_payment_method]": "pm_card_chargeCustomerFail"}
        sandbox.http.post(f"/stripe/v1/customers/{customer}", data=card, headers=key).raise_for_status()
        sandbox.advance(days=31)

    return do


def test_every_feature_a_tier_can_hold_has_its_words() -> None:
    assert set(FEATURE_WORDS) == set(Feature)
