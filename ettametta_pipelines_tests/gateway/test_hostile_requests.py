"""Headers that answers carry, and requests made to mislead: hosts, paths, forwarding headers, bodies."""

import pytest

from ettametta_pipelines.gateway.operators import HTTPS_ONLY
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines_tests.gateway.conftest import URL, Browser, browser_at
from ettametta_pipelines_tests.gateway.test_links import PERSON, TARGET, make

EVIL = "evil.example.com"
ON_EVERY_PAGE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
NAMING_A_HOST = {
    "x-forwarded-host": EVIL,
    "x-forwarded-proto": "http",
    "x-forwarded-prefix": f"//{EVIL}",
    "x-original-url": f"//{EVIL}/",
    "x-rewrite-url": "/publications",
    "x-host": EVIL,
    "forwarded": f"host={EVIL}",
}
KEY = "media/renditions/demo--0123456789abcdef/9x16/abc.mp4"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("GET", "/go/nosuchcode", {}, 404),
        ("GET", "/readyz", {}, 200),
        ("POST", "/webhooks/nobody", {}, 404),
        ("POST", "/webhooks/stripe", {"content-length": "9999999"}, 413),
        ("POST", "/links", {"content-length": "x"}, 413),
        ("DELETE", "/links", {}, 405),
    ],
)
def test_every_answer_carries_the_headers_even_what_is_refused_before_a_route(
    settings_env: Settings, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = browser_at(settings_env).client.request(method, path, headers=headers)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in ON_EVERY_PAGE} == ON_EVERY_PAGE
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not set(HTTPS_ONLY) & set(answer.headers), "only where the gateway is reached by https"


def test_behind_a_domain_browsers_are_told_to_stay_with_https(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRODUCTION_DOMAIN", "studio.example.com")
    monkeypatch.setenv("ETTAMETTA_PROXY_USER_HEADER", "X-User")
    get_settings.cache_clear()
    browser = browser_at(get_settings(), url="https://studio.example.com", **{"x-user": "ann"})
    page = browser.get("/")
    assert page.headers["strict-transport-security"].startswith("max-age=31536000")
    cookie = page.headers["set-cookie"]
    assert cookie.startswith("__Host-")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "strict-transport-security" in browser.get("/media/x.mp4").headers


def test_a_film_is_what_its_type_says_and_nothing_a_browser_guesses(settings_env: Settings) -> None:
    open_store(settings_env).put(KEY, b"<script>alert(1)</script>")
    answer = browser_at(settings_env).get(f"/{KEY}")
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == (
        "video/mp4",
        "nosniff",
    )
    assert "immutable" in answer.headers["cache-control"]


def test_no_answer_sends_a_browser_to_the_host_that_a_request_names(settings_env: Settings) -> None:
    client = browser_at(settings_env).client
    for path in ("/links/", "/accounts/", "/go/abc/", f"//{EVIL}", f"//{EVIL}/..", "/\\evil"):
        for host in (EVIL, "127.0.0.1:8000", f"127.0.0.1:8000@{EVIL}"):
            answer = client.get(path, headers={"host": host})
            assert EVIL not in answer.headers.get("location", ""), (path, host, answer.status_code)


def test_a_link_leads_where_it_is_stored_whatever_headers_and_query_say(
    settings_env: Settings, db: StateDatabase
) -> None:
    _, code = make(db)
    browser = browser_at(settings_env, peer="203.0.113.7", **PERSON)
    plain = browser.get(f"/go/{code}")
    said = browser.client.get(
        f"/go/{code}?url=https://{EVIL}&next=//{EVIL}&target={EVIL}",
        headers={**PERSON, **NAMING_A_HOST, "host": EVIL},
    )
    assert said.status_code == plain.status_code == 302
    assert said.headers["location"] == plain.headers["location"]
    assert said.headers["location"].startswith(TARGET)
    # Nothing in between keeps an answer, so none can be kept that somebody else's headers changed.
    assert said.headers["cache-control"] == "no-store"
    gone = browser.client.get("/go/nosuchcode", headers={**PERSON, **NAMING_A_HOST, "host": EVIL})
    assert EVIL not in gone.text + str(gone.headers)


@pytest.mark.parametrize("path", ["/", "/links", "/billing", "/accounts"])
def test_a_page_names_no_host_that_a_request_names(settings_env: Settings, path: str) -> None:
    at_home = browser_at(settings_env).client
    forwarded = {name: value for name, value in NAMING_A_HOST.items() if name.startswith("x-")}
    answer = at_home.get(path, headers=forwarded)
    assert (answer.status_code, EVIL in answer.text) == (403, False), (
        "through a proxy we know nothing of: nobody"
    )
    assert EVIL not in at_home.get(path, headers={"x-host": EVIL, "x-original-url": f"//{EVIL}"}).text


OUT_OF_THE_TREE = (
    "..%2fstate/state.db", "%2e%2e/%2e%2e/state/state.db", "..\\..\\state\\state.db", "%5c..%5cstate", "....//state",
    "%00.mp4", "renditions/%2e%2e/%2e%2e/uploads/x.mp4", "/etc/passwd", "renditions/../../../etc/passwd",
    "%252e%252e/uploads/x.mp4", "renditions/\u2025/x",
)  # fmt: skip


def test_no_path_leads_out_of_the_media_tree(settings_env: Settings) -> None:
    store = open_store(settings_env)
    store.put("uploads/x.mp4", b"untrusted")
    store.put(KEY, b"film")
    client = browser_at(settings_env).client
    answers = {path: client.get(f"/media/{path}") for path in OUT_OF_THE_TREE}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(
        OUT_OF_THE_TREE, 404
    )
    assert not any(said in answer.content for answer in answers.values() for said in (b"untrusted", b"root:"))


def test_a_form_of_any_shape_is_refused_and_breaks_nothing(browser: Browser) -> None:
    browser.get("/")
    odd = b"--x\r\nContent-Disposition: form-data; name*=utf-8''%ff\r\n\r\n\xff\r\n--x--"
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=x",
        "x/y",
    ):
        for path in ("/links", "/links/import"):
            answer = browser.client.post(path, content=odd, headers={"content-type": kind, "origin": URL})
            assert answer.status_code == 403, (kind, path)


@pytest.mark.parametrize(
    "path", ["/links", "/webhooks/stripe", "/postbacks/impact", "/go/nosuchcode", "/links/import"]
)
def test_every_kind_of_route_is_limited_in_rate(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("ETTAMETTA_REQUESTS_A_SECOND", "0.01")
    get_settings.cache_clear()
    client = browser_at(get_settings(), peer="203.0.113.9").client
    statuses = [client.post(path).status_code for _ in range(2)]
    assert statuses[-1] == 429
