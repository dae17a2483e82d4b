"""Connecting and disconnecting a channel in a browser, from the form to the vendor's page and back."""

from urllib.parse import parse_qs, quote_plus, urlsplit

import httpx
import pytest
import sqlalchemy as sa

from ettametta_pipelines.publishing.connections import connected, events, find
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import OAuthConsent
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.gateway.conftest import URL, Browser, browser_at

PLATFORMS = pytest.mark.parametrize("platform", ["youtube", "tiktok"])


@PLATFORMS
def test_a_channel_is_connected_in_a_browser(browser: Browser, db: StateDatabase, platform: str) -> None:
    answer = browser.connect("acme", platform)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/accounts/acme/{platform}")
    channel = find(db, "acme", platform)
    assert channel is not None
    assert (channel.channel_title, channel.status, channel.not_granted) == ("Acme", "active", ())
    assert [(e.event, e.actor) for e in events(db, "acme", platform)] == [
        ("connected", "operator at this machine (gateway)")
    ]
    page = browser.get(f"/accounts/acme/{platform}").text
    assert "Acme" in page
    assert "connected" in page


@PLATFORMS
def test_the_consent_page_is_asked_with_pkce_and_the_configured_address(
    browser: Browser, platform: str
) -> None:
    query = {
        name: values[0] for name, values in parse_qs(urlsplit(browser.ask("acme", platform)).query).items()
    }
    assert query["redirect_uri"] == f"{URL}/oauth/{platform}"
    assert query["code_challenge_method"] == "S256"
    assert len(query["code_challenge"]) == {"youtube": 43, "tiktok": 64}[platform]
    assert len(query["state"]) >= 22
    # Without these Google sends a refresh token once and never again.
    assert platform == "tiktok" or (query["access_type"], query["prompt"]) == ("offline", "consent")


def test_the_redirect_address_is_that_of_the_production_domain_whatever_the_host_header_says(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.settings import get_settings

    monkeypatch.setenv("PRODUCTION_DOMAIN", "studio.example.com")
    monkeypatch.setenv("ETTAMETTA_PROXY_USER_HEADER", "X-Auth-Request-User")
    get_settings.cache_clear()
    url = "https://studio.example.com"
    browser = browser_at(get_settings(), url=url, peer="10.0.0.7", **{"x-auth-request-user": "alice"})
    csrf = browser.csrf()
    cookie = browser.client.cookies.jar
    assert [(c.name, c.secure, c.path) for c in cookie] == [("__Host-ettametta", True, "/")]
    answer = browser.post("/accounts/connect", origin=url, csrf=csrf, account="acme", platform="youtube")
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query["redirect_uri"] == ["https://studio.example.com/oauth/youtube"]
    assert browser.get("/accounts", host="evil.example.com").status_code == 421


def replayed(browser: Browser, settings: Settings) -> httpx.Response:
    address = browser.consent(browser.ask("acme", "youtube"), account="acme", deny=True)
    browser.come_back(address)
    return browser.come_back(address)


def from_another_browser(browser: Browser, settings: Settings) -> httpx.Response:
    address = browser.consent(browser.ask("acme", "youtube"), account="acme")
    other = browser_at(settings)
    other.get("/accounts")
    return other.come_back(address)


def without_a_cookie(browser: Browser, settings: Settings) -> httpx.Response:
    address = browser.consent(browser.ask("acme", "youtube"), account="acme")
    return browser_at(settings).come_back(address)


def too_late(browser: Browser, settings: Settings) -> httpx.Response:
    from datetime import timedelta

    from ettametta_pipelines.state.session import open_state

    address = browser.consent(browser.ask("acme", "youtube"), account="acme")
    with open_state(settings).session() as session:
        for row in session.scalars(sa.select(OAuthConsent)):
            row.expires_at -= timedelta(minutes=10)
    return browser.come_back(address)


def without_a_state(browser: Browser, settings: Settings) -> httpx.Response:
    return browser.get("/oauth/youtube?code=sandbox-acme")


def at_another_vendor(browser: Browser, settings: Settings) -> httpx.Response:
    address = browser.consent(browser.ask("acme", "youtube"), account="acme")
    return browser.come_back(address.replace("/oauth/youtube", "/oauth/tiktok"))


def by_another_issuer(browser: Browser, settings: Settings) -> httpx.Response:
    address = browser.consent(browser.ask("acme", "youtube"), account="acme")
    return browser.come_back(address.replace("iss=", "iss=https%3A%2F%2Fevil.example.com&x="))


@pytest.mark.parametrize(
    "abuse",
    [
        replayed,
        from_another_browser,
        without_a_cookie,
        too_late,
        without_a_state,
        at_another_vendor,
        by_another_issuer,
    ],
    ids=lambda abuse: abuse.__name__,
)
def test_t8_an_answer_that_was_not_asked_for_here_and_now_is_refused_and_stores_nothing(
    browser: Browser, settings_env: Settings, db: StateDatabase, sandbox: SandboxUnderTest, abuse: object
) -> None:
    answer = abuse(browser, settings_env)  # type: ignore[operator]
    assert answer.status_code == 400
    assert connected(db) == []
    assert sandbox.count("youtube", "POST", "/token") == 0


def test_t9_two_tabs_whose_answers_are_swapped_bind_no_channel_to_the_other_account(
    browser: Browser, db: StateDatabase
) -> None:
    answers = {a: browser.consent(browser.ask(a, "youtube"), account=a) for a in ("acme", "beta")}
    codes = {account: parse_qs(urlsplit(address).query)["code"][0] for account, address in answers.items()}
    for account, other in (("acme", "beta"), ("beta", "acme")):
        swapped = answers[account].replace(quote_plus(codes[account]), quote_plus(codes[other]))
        assert swapped != answers[account]
        assert browser.come_back(swapped).status_code == 400
    assert connected(db) == []
    # Signing in to the other channel in each tab: the second account does not get the first one's channel.
    assert browser.connect("acme", "youtube", channel="beta").status_code == 303
    refused = browser.connect("beta", "youtube", channel="beta")
    assert refused.status_code == 400
    assert "connected to the account acme already" in refused.text
    assert [(c.account, c.channel_title) for c in connected(db)] == [("acme", "Beta")]


@PLATFORMS
def test_connecting_again_takes_no_other_channel_until_the_first_is_disconnected(
    browser: Browser, db: StateDatabase, platform: str
) -> None:
    browser.connect("acme", platform)
    refused = browser.connect("acme", platform, channel="elsewhere")
    assert refused.status_code == 400
    assert "acme posts on Acme, but the consent is for Elsewhere" in refused.text
    assert browser.post(f"/accounts/acme/{platform}/disconnect").status_code == 303
    assert browser.connect("acme", platform, channel="elsewhere").status_code == 303
    assert [c.channel_title for c in connected(db)] == ["Elsewhere"]


def test_a_scope_posting_needs_is_named_when_it_was_unticked(browser: Browser, db: StateDatabase) -> None:
    refused = browser.connect("acme", "tiktok", without="video.publish")
    assert refused.status_code == 400
    assert "video.publish" in refused.text
    assert connected(db) == []


def test_a_scope_posting_can_do_without_is_named_on_the_channels_page(
    browser: Browser, db: StateDatabase
) -> None:
    for scope in ("youtube.upload", "youtube.readonly"):
        refused = browser.connect("acme", "youtube", without=scope)
        assert (refused.status_code, f"auth/{scope}" in refused.text) == (400, True)
    assert browser.connect("acme", "tiktok", without="video.list").status_code == 303
    page = browser.get("/accounts/acme/tiktok").text
    assert "Not granted" in page
    assert "find its own videos again" in page
    assert "not everything granted" in browser.get("/accounts").text


def test_declining_connects_nothing_and_says_so(browser: Browser, db: StateDatabase) -> None:
    answer = browser.come_back(browser.consent(browser.ask("acme", "tiktok"), account="acme", deny=True))
    assert answer.status_code == 400
    assert "access_denied" in answer.text
    assert connected(db) == []


def test_disconnecting_asks_first_and_says_when_the_vendor_kept_the_consent(
    browser: Browser, db: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    browser.connect("acme", "youtube")
    assert "Disconnect Acme?" in browser.get("/accounts/acme/youtube/disconnect").text
    sandbox.fault("youtube", path_regex="/revoke", status=403)
    answer = browser.post("/accounts/acme/youtube/disconnect")
    assert "Disconnected here only" in answer.text
    assert connected(db) == []


def test_a_form_from_elsewhere_changes_nothing(browser: Browser, db: StateDatabase) -> None:
    browser.connect("acme", "youtube")
    for csrf, origin in (
        ("", URL),
        ("0" * 64, URL),
        (browser.csrf(), "https://evil.example.com"),
        (browser.csrf(), "null"),
    ):
        answer = browser.post("/accounts/acme/youtube/disconnect", csrf=csrf, origin=origin)
        assert answer.status_code == 403
    no_origin = browser.client.post("/accounts/acme/youtube/disconnect", data={"csrf": browser.csrf()})
    assert no_origin.status_code == 403
    assert len(connected(db)) == 1


@pytest.mark.parametrize(
    ("peer", "headers", "status"),
    [
        ("10.0.0.9", {}, 403),
        ("127.0.0.1", {"x-forwarded-for": "203.0.113.9"}, 403),
        ("127.0.0.1", {"host": "evil.example.com"}, 421),
        ("127.0.0.1", {"host": "localhost:8000"}, 307),
        ("127.0.0.1", {}, 200),
    ],
)
def test_without_a_proxy_the_pages_answer_this_machine_alone(
    settings_env: Settings, peer: str, headers: dict[str, str], status: int
) -> None:
    assert browser_at(settings_env, peer=peer, **headers).get("/accounts").status_code == status


def test_behind_a_proxy_nobody_is_let_in_without_a_name(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.settings import get_settings

    monkeypatch.setenv("PRODUCTION_DOMAIN", "studio.example.com")
    get_settings.cache_clear()
    url = "https://studio.example.com"
    # A domain, but no proxy that authenticates: closed, even to the proxy on this machine.
    assert browser_at(get_settings(), url=url).get("/").status_code == 403
    monkeypatch.setenv("ETTAMETTA_PROXY_USER_HEADER", "X-User")
    get_settings.cache_clear()
    assert browser_at(get_settings(), url=url, peer="10.0.0.9").get("/").status_code == 403
    shown = browser_at(get_settings(), url=url, peer="10.0.0.9", **{"x-user": "<b>alice</b>"}).get("/")
    assert shown.status_code == 200
    assert "&lt;b&gt;alice&lt;/b&gt;" in shown.text


def test_pages_carry_the_headers_that_keep_them_to_themselves(browser: Browser) -> None:
    for path in ("/", "/accounts", "/publications", "/nothing", "/accounts/acme/vimeo"):
        headers = browser.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "script" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    cookie = browser_at_cookie(browser)
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def browser_at_cookie(browser: Browser) -> str:
    browser.client.cookies.clear()
    return browser.get("/").headers["set-cookie"]
