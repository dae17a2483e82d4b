"""Pages of the affiliate links, and the redirect: who may do what, where one is sent, what is counted."""

import re
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ettametta_pipelines.commerce import clicks as clicks_module
from ettametta_pipelines.commerce import links
from ettametta_pipelines.commerce.links import LinkFields
from ettametta_pipelines.gateway import redirects as redirects_module
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import AffiliateClick, AffiliateLink, AffiliateLinkCode
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.gateway.conftest import URL, Browser, browser_at

PERSON = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}
TARGET = "https://merchant.example.com/shoes?ref=me"
FORM = {"account": "acme", "label": "Trail shoes", "network": "impact", "target_url": TARGET}


def make(db: StateDatabase, account: str = "acme", **changes: Any) -> tuple[AffiliateLink, str]:
    fields = LinkFields(**({"label": "Trail shoes", "network": "impact", "target_url": TARGET} | changes))
    link = links.create(db, account, fields, by="ann")
    return link, links.codes_of(db, [link.id])[link.id][0].code


def eventually(look: Callable[[], Any]) -> Any:
    """What `look` says as soon as it says anything; clicks are noted behind the answer."""
    until = time.monotonic() + 90
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError("nothing was seen in 90 seconds")


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a look-up may take longer than a follower is let wait; that is no matter of these tests."""
    monkeypatch.setattr(redirects_module, "LOOK_UP_S", 60.0)


def stored(db: StateDatabase) -> list[AffiliateClick]:
    with db.session(write=False) as session:
        return list(session.scalars(sa.select(AffiliateClick).order_by(AffiliateClick.id)))


def every_link(db: StateDatabase) -> list[str]:
    return [link.label for link in links.listed(db)]


def test_a_link_is_created_edited_and_retired_with_the_name_of_who_did_it(
    browser: Browser, db: StateDatabase
) -> None:
    made = browser.post("/links", **FORM, **{"niche-fitness": "yes", "niche-travel": "yes"})
    assert made.status_code == 303, made.text
    (link,) = links.listed(db)
    assert (link.niches, link.created_by) == (["fitness", "travel"], "operator at this machine (gateway)")
    assert browser.post(f"/links/{link.id}", **(FORM | {"label": "Road shoes"})).status_code == 303
    assert every_link(db) == ["Road shoes"]
    assert "Retire Road shoes?" in browser.get(f"/links/{link.id}/retire").text
    browser.post(f"/links/{link.id}/retire")
    link = links.find(db, link.id)
    assert (link.status, link.retired_by) == ("retired", "operator at this machine (gateway)")
    refused = browser.post(f"/links/{link.id}", **FORM)
    assert refused.status_code == 400
    assert "is retired" in refused.text


BAD = {
    "javascript": {"target_url": "javascript:alert(1)"},
    "password": {"target_url": "https://user:pw@merchant.example.com/"},
    "empty name": {"label": "\u200b "},
    "long name": {"label": "x" * 81},
    "network": {"network": "nobody"},
    "niche": {"niche-knitting": "yes"},
    "account": {"account": "../etc"},
}


def test_what_cannot_be_kept_is_said_beside_what_was_written(browser: Browser, db: StateDatabase) -> None:
    for name, fields in BAD.items():
        answer = browser.post("/links", **(FORM | fields))
        assert (answer.status_code, 'role="alert"' in answer.text) == (400, True), name
    assert links.listed(db) == []


def test_hostile_names_are_shown_as_text(browser: Browser, db: StateDatabase) -> None:
    label = '"><script>alert(1)</script>{{ 1234*4321 }}'
    link, _ = make(db, label=label, commission_note="<img src=x onerror=alert(1)>")
    for path in ("/links", f"/links/{link.id}", f"/links/{link.id}/edit", f"/links/{link.id}/retire"):
        page = browser.get(path).text
        assert "<script>" not in page
        assert "<img" not in page
        assert "5332114" not in page


def test_a_host_in_other_letters_is_shown_in_both(browser: Browser, db: StateDatabase) -> None:
    browser.post("/links", **(FORM | {"target_url": "https://pаypal.com/"}))
    assert "xn--pypal-4ve.com (in letters: pаypal.com)" in browser.get("/links").text


def test_a_form_from_elsewhere_changes_no_link(browser: Browser, db: StateDatabase) -> None:
    link, _ = make(db)
    for path in ("/links", f"/links/{link.id}", f"/links/{link.id}/retire", "/links/import/confirm"):
        for csrf, origin in (("0" * 64, URL), (browser.csrf(), "https://evil.example.com")):
            answer = browser.post(path, csrf=csrf, origin=origin, **(FORM | {"label": "Mine", "text": "x"}))
            assert answer.status_code == 403
    assert (every_link(db), links.find(db, link.id).status) == (["Trail shoes"], "active")


@pytest.fixture
def ann(settings_env: Settings, monkeypatch: pytest.MonkeyPatch) -> Browser:
    """An operator who may see the account acme alone."""
    monkeypatch.setenv("ETTAMETTA_PROXY_USER_HEADER", "X-User")
    monkeypatch.setenv("ETTAMETTA_OPERATOR_ACCOUNTS", "ann@example.com=acme,root@example.com=*")
    get_settings.cache_clear()
    return browser_at(get_settings(), **{"x-user": "ann@example.com"})


def test_another_accounts_link_is_like_one_that_does_not_exist(ann: Browser, db: StateDatabase) -> None:
    mine, _ = make(db)
    other, _ = make(db, "beta", label="Betas secret")
    shown = ann.get("/links").text
    assert mine.label in shown
    assert "Betas secret" not in shown
    assert ann.get(f"/links/{mine.id}").status_code == 200
    for path in (f"/links/{other.id}", f"/links/{other.id}/edit", f"/links/{other.id}/retire"):
        answer = ann.get(path)
        assert (answer.status_code, "Betas" in answer.text) == (404, False)
    csrf = ann.csrf("/links/new")
    assert ann.post(f"/links/{other.id}", csrf=csrf, **FORM).status_code == 404
    assert ann.post(f"/links/{other.id}/retire", csrf=csrf).status_code == 404
    assert ann.post("/links", csrf=csrf, **(FORM | {"account": "beta"})).status_code == 403
    text = f"label,network,target_url\nX,impact,{TARGET}"
    assert ann.post("/links/import/confirm", csrf=csrf, account="beta", text=text).status_code == 403
    assert sorted(every_link(db)) == ["Betas secret", "Trail shoes"]
    root = browser_at(get_settings(), **{"x-user": "root@example.com"})
    assert "Betas secret" in root.get("/links").text


CSV = """label,network,target_url,niches
Trail shoes,impact,https://merchant.example.com/shoes?ref=me,fitness travel
"Pan, cast iron",amazon,https://shop.example.org/pan,home-cooking
"""


def upload(browser: Browser, data: bytes) -> Any:
    return browser.client.post(
        "/links/import",
        data={"csrf": browser.csrf(), "account": "acme"},
        files={"file": ("links.csv", data, "text/csv")},
        headers=browser.headers | {"origin": URL},
    )


def test_an_import_shows_first_what_it_does_and_then_does_it(browser: Browser, db: StateDatabase) -> None:
    make(db)
    preview = upload(browser, CSV.encode())
    assert "changes it" in preview.text
    assert "creates it" in preview.text
    assert links.listed(db)[0].niches == []
    done = browser.post("/links/import/confirm", account="acme", text=CSV)
    assert done.headers["location"] == "/links?account=acme"
    assert every_link(db) == ["Pan, cast iron", "Trail shoes"]
    assert "is here already" in upload(browser, CSV.encode()).text


def test_a_file_with_one_bad_line_imports_nothing(browser: Browser, db: StateDatabase) -> None:
    text = (
        CSV
        + "Bad,impact,ftp://merchant.example.com/x,\nTwice,awin,https://shop.example.org/pan,\nShort,awin\n"
    )
    shown = upload(browser, text.encode()).text
    assert "Nothing can be imported yet" in shown
    assert "does not begin with https://" in shown
    assert "stands in line 3 already" in shown
    assert "another number of fields" in shown
    answer = browser.post("/links/import/confirm", account="acme", text=text)
    assert answer.status_code == 400
    assert "line 4, 5, 6" in answer.text
    assert links.listed(db) == []


NO_FILES = [
    b"name,url\nx,y", b"", CSV.encode("utf-16"), "label,network,target_url\nGrün".encode("latin-1"),
    CSV.encode() + b"x" * 300_000, b'label,network,target_url\n"open',
]  # fmt: skip


def test_what_is_no_such_file_is_refused_whole(browser: Browser, db: StateDatabase) -> None:
    for data in NO_FILES:
        answer = upload(browser, data)
        assert (answer.status_code, "cannot be imported" in answer.text) == (400, True), data[:40]
    assert links.listed(db) == []


def test_a_follower_is_sent_to_the_stored_target_with_our_code(browser: Browser, db: StateDatabase) -> None:
    _, code = make(db)
    for path in (f"/go/{code}", f"/go/{code}?url=https://evil.example.com&subId1=evil"):
        answer = browser.get(path, **PERSON)
        assert answer.status_code == 302
        assert answer.headers["location"] == f"{TARGET}&subId1={code}"
        assert answer.headers["cache-control"] == "no-store"
        assert "set-cookie" not in answer.headers


def test_a_follower_of_an_own_shops_link_carries_utm_parameters(
    settings_env: Settings, db: StateDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "networks.yaml"
    file.write_text("shop_hosts: [shop.example.org]\nnetworks: {own: {title: Our own shop}}")
    monkeypatch.setenv("ETTAMETTA_NETWORKS", str(file))
    get_settings.cache_clear()
    link, _ = make(db, network="own", target_url="https://shop.example.org/mug?utm_source=old&variant=2")
    with db.session() as session:
        session.add(
            AffiliateLinkCode(
                code="postpost22", account_id="acme", link_id=link.id, niche="home-cooking", platform="youtube",
                source_id="acme--0123456789abcdef", intent_no=1, created_at=db.now(session),
            )
        )  # fmt: skip
    assert browser_at(get_settings()).get("/go/postpost22", **PERSON).headers["location"] == (
        "https://shop.example.org/mug?variant=2&utm_source=youtube&utm_medium=video&utm_campaign=home-cooking"
        "&utm_content=acme--0123456789abcdef"
    )


def test_an_unknown_code_leads_nowhere(browser: Browser, db: StateDatabase) -> None:
    for code in ("zzzzzzzzzz", "../../etc/passwd", "x", "https:%2F%2Fevil.example.com", "a" * 400):
        assert browser.get(f"/go/{code}", **PERSON).status_code == 404
    assert stored(db) == []


def test_a_retired_link_leads_to_its_fallback_or_says_that_it_has_ended(
    browser: Browser, db: StateDatabase
) -> None:
    ended, code = make(db)
    moved, other = make(db, target_url="https://x.example.com/1", fallback_url="https://x.example.com/all")
    assert browser.get(f"/go/{code}", **PERSON).status_code == 302
    for link in (ended, moved):
        browser.post(f"/links/{link.id}/retire")
    answer = browser.get(f"/go/{code}", **PERSON)
    assert (answer.status_code, "offer has ended" in answer.text) == (410, True)
    assert browser.get(f"/go/{other}", **PERSON).headers["location"] == "https://x.example.com/all"


MACHINES = {
    "crawler": {"user-agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
    "preview": {"user-agent": "WhatsApp/2.23"},
    "prefetch": PERSON | {"sec-purpose": "prefetch;prerender"},
    "picture": PERSON | {"sec-fetch-dest": "image"},
    "library": {"user-agent": "python-requests/2.34"},
    "nobody": {"user-agent": ""},
}


def test_machines_are_sent_on_and_not_counted(browser: Browser, db: StateDatabase) -> None:
    link, code = make(db)
    for name, headers in MACHINES.items():
        assert browser.get(f"/go/{code}", **headers).status_code == 302, name
    assert browser.client.head(f"/go/{code}", headers=PERSON).headers["location"] == f"{TARGET}&subId1={code}"
    rows = eventually(lambda: len(stored(db)) == len(MACHINES) + 1 and stored(db))
    assert all(row.is_bot for row in rows)
    page = browser.get(f"/links/{link.id}").text
    assert re.search(r"<dt>Clicks</dt><dd>0</dd>", page)
    assert f"<dt>Requests of machines</dt><dd>{len(rows)}</dd>" in page


def test_a_click_keeps_the_referrers_host_and_nothing_that_tells_who_it_was(
    browser: Browser, db: StateDatabase
) -> None:
    _, code = make(db)
    browser.get(f"/go/{code}", **PERSON, referer="https://www.youtube.com/watch?v=secret&t=1")
    browser.get(f"/go/{code}", **PERSON, referer="https://[::bad")
    first, second = eventually(lambda: len(stored(db)) == 2 and stored(db))
    assert (first.code, first.is_bot, first.referrer_host) == (code, False, "www.youtube.com")
    assert second.referrer_host is None
    assert {column.name for column in AffiliateClick.__table__.columns} == {
        "id", "code", "clicked_at", "day", "is_bot", "referrer_host"
    }  # fmt: skip
    with db.session(write=False) as session:
        assert abs((db.now(session) - first.clicked_at).total_seconds()) < 60


def test_who_follows_the_same_link_on_and_on_is_counted_a_few_times(
    browser: Browser, db: StateDatabase
) -> None:
    _, code = make(db)
    for _ in range(8):
        assert browser.get(f"/go/{code}", **PERSON).status_code == 302
    rows = eventually(lambda: len(stored(db)) == 8 and stored(db))
    assert sum(not row.is_bot for row in rows) == clicks_module.CLICKS_A_MINUTE


def test_whoever_tries_codes_out_is_turned_away_and_turns_nobody_else_away(
    settings_env: Settings, db: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks_module, "BURST", 3.0)
    monkeypatch.setattr(clicks_module, "RATE", 0.0)
    (_, known), (_, other) = make(db), make(db, target_url="https://merchant.example.com/other")
    browser = browser_at(settings_env)
    assert browser.get(f"/go/{known}", **PERSON).status_code == 302
    answers = [browser.get(f"/go/zzzzzzzzz{n}", **PERSON) for n in (2, 3, 4)]
    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert answers[-1].headers["retry-after"]
    assert browser.get(f"/go/{known}", **PERSON).status_code == 302
    monkeypatch.setattr("ettametta_pipelines.commerce.clicks.FRESH_S", 0.0)
    assert browser.get(f"/go/{known}", **PERSON).status_code == 302
    assert browser.get(f"/go/{other}", **PERSON).status_code == 429


def test_a_database_that_cannot_write_holds_no_follower_up_and_loses_no_click(
    browser: Browser, db: StateDatabase, settings_env: Settings
) -> None:
    _, code = make(db)
    blocker = sqlite3.connect(settings_env.database_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        assert browser.get(f"/go/{code}", **PERSON).status_code == 302
    assert stored(db) == []
    blocker.execute("ROLLBACK")
    assert len(eventually(lambda: len(stored(db)) == 3 and stored(db))) == 3
    blocker.close()


def test_with_the_database_gone_a_code_followed_before_still_works_and_another_says_503(
    browser: Browser, db: StateDatabase, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks_module, "FRESH_S", 0.0)
    (_, known), (_, unknown) = make(db), make(db, target_url="https://merchant.example.com/other")
    assert browser.get(f"/go/{known}", **PERSON).status_code == 302
    eventually(lambda: stored(db))
    file = Path(settings_env.database_url.removeprefix("sqlite:///"))
    db.close()
    for part in file.parent.glob(f"{file.name}*"):
        part.rename(part.with_name(f"away-{part.name}"))
    file.mkdir()
    assert browser.get(f"/go/{known}", **PERSON).status_code == 302
    answer = browser.get(f"/go/{unknown}", **PERSON)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    file.rmdir()
    for part in file.parent.glob("away-*"):
        part.rename(part.with_name(part.name.removeprefix("away-")))
    assert len(eventually(lambda: len(stored(db)) == 2 and stored(db))) == 2


def test_a_look_up_that_hangs_is_answered_with_503_and_not_waited_for(
    browser: Browser, db: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, code = make(db)
    released = threading.Event()
    monkeypatch.setattr(redirects_module, "LOOK_UP_S", 0.05)
    monkeypatch.setattr(clicks_module.Redirects, "find", lambda *_: released.wait(90) and None)
    try:
        answer = browser.get(f"/go/{code}", **PERSON)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert not released.is_set()
    finally:
        released.set()


def test_earnings_stand_beside_the_clicks_of_the_code_that_made_them(
    browser: Browser, db: StateDatabase, settings_env: Settings
) -> None:
    from ettametta_pipelines.revenue.contracts import AFFILIATE_EARNINGS
    from ettametta_pipelines.storage.objects import open_store
    from ettametta_pipelines.storage.tables import write_table
    from ettametta_pipelines_tests.commerce.rows import earning

    link, code = make(db)
    rows = [
        earning(code, 1234), earning(code, 500, status="pending"), earning(code, 9900, status="declined"),
        earning("elsewhere", 1),
    ]  # fmt: skip
    write_table(open_store(settings_env), AFFILIATE_EARNINGS, AFFILIATE_EARNINGS.frame(rows), "2026-11-20")
    for path in ("/links", f"/links/{link.id}"):
        page = browser.get(path).text
        assert "$12.34" in page
        assert "$5.00 pending" in page
        assert "$99" not in page
