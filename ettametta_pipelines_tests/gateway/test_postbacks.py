"""Affiliate networks' postbacks: believed for their token, stored once, booked in the network's last word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import WebhookEvent
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.lake import open_lake
from ettametta_pipelines.webhook_effects import apply_inbox
from ettametta_pipelines_tests.gateway.conftest import Browser, browser_at

TOKEN = "a-token-of-the-network-impact"
SALE = {
    "transaction_id": "t1", "amount": "12.34", "currency": "usd", "occurred_at": "2026-11-01T12:00:00Z",
    "status": "pending", "link": "bcdfghjkmn",
}  # fmt: skip
NETWORKS = """
networks:
  impact:
    title: impact.com
    postback: {transaction_id: ActionId, amount: Payout, occurred_at: EventDate, link: SubId1,
               statuses: {Locked: approved}}
  awin: {title: Awin}
"""


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch, settings_env: Settings) -> Callable[..., Browser]:
    def restart(**variables: str) -> Browser:
        for name, value in (
            {"ETTAMETTA_POSTBACK_TOKENS": f"impact={TOKEN},awin={TOKEN[::-1]}"} | variables
        ).items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        return browser_at(get_settings())

    return restart


def call(browser: Browser, network: str = "impact", token: str = TOKEN, **said: str) -> Any:
    return browser.client.get(f"/postbacks/{network}", params=SALE | {"token": token} | said)


def stored(db: StateDatabase) -> list[WebhookEvent]:
    with db.session(write=False) as session:
        return list(session.scalars(sa.select(WebhookEvent).order_by(WebhookEvent.id)))


def kept() -> list[tuple[Any, ...]]:
    with open_lake(get_settings(), ALL_TABLES) as lake:
        rows = lake.rows("select * from affiliate_raw order by received_at, status")
    return [(r["network"], r["transaction_id"], r["amount_minor"], r["status"], r["link_id"]) for r in rows]


def test_a_call_is_stored_without_its_token_and_booked_once(
    gateway: Callable[..., Browser], db: StateDatabase
) -> None:
    browser = gateway()
    assert call(browser, email="buyer@example.com").json() == {"stored": True}
    assert call(browser).json() == {"stored": False}
    (row,) = stored(db)
    assert (row.source, row.kind) == ("postback", "impact")
    assert TOKEN not in row.body
    assert "buyer" not in row.body
    assert apply_inbox(get_settings(), db)[0].parked == []
    assert call(browser, status="approved").json() == {"stored": True}
    apply_inbox(get_settings(), db)
    assert kept() == [
        ("impact", "t1", 1234, "pending", "bcdfghjkmn"), ("impact", "t1", 1234, "approved", "bcdfghjkmn"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("network", "token"),
    [
        ("impact", ""), ("impact", TOKEN[:-1]), ("impact", TOKEN + "x"), ("impact", TOKEN[::-1]), ("awin", TOKEN),
        ("cj", TOKEN), ("nobody", TOKEN), ("impact", "tök"),
    ],
)  # fmt: skip
def test_without_the_networks_own_token_nothing_is_stored(
    gateway: Callable[..., Browser], db: StateDatabase, network: str, token: str
) -> None:
    answer = call(gateway(), network, token)
    assert (answer.status_code, answer.json()["error"]) == (403, "wrong_token")
    assert stored(db) == []


def test_where_no_token_is_set_nobody_is_believed(settings_env: Settings, db: StateDatabase) -> None:
    for token in ("", "None"):
        assert call(browser_at(settings_env), token=token).status_code == 403


def test_while_a_token_is_replaced_both_are_taken_and_a_short_one_never(
    gateway: Callable[..., Browser],
) -> None:
    browser = gateway(ETTAMETTA_POSTBACK_TOKENS=f"impact={TOKEN},impact=the-new-token-of-impact")
    assert call(browser).status_code == 200
    assert call(browser, token="the-new-token-of-impact").status_code == 200
    for bad in ("impact=short", "impact", f"={TOKEN}"):
        with pytest.raises(ValidationError, match="20 characters"):
            Settings(ETTAMETTA_POSTBACK_TOKENS=bad)


def test_a_networks_own_names_and_words_are_read_from_the_query_a_form_and_json(
    gateway: Callable[..., Browser], db: StateDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "networks.yaml"
    file.write_text(NETWORKS)
    browser = gateway(ETTAMETTA_NETWORKS=str(file))
    for number, (how, payout) in enumerate((("params", "0.5"), ("data", "0.50"), ("json", 0.5))):
        sale = {
            "token": TOKEN, "ActionId": f"a{number}", "Payout": payout, "currency": "KWD", "status": "LOCKED",
            "EventDate": "1793534400", "SubId1": "code",
        }  # fmt: skip
        answer = browser.client.request("POST", "/postbacks/impact", **{how: sale})
        assert answer.status_code == 200, answer.text
    apply_inbox(get_settings(), db)
    assert sorted(kept()) == [("impact", f"a{number}", 500, "approved", "code") for number in range(3)]


@pytest.mark.parametrize(
    "said", [{"amount": "12,34"}, {"currency": "XQQ"}, {"occurred_at": ""}, {"status": "paid"}]
)
def test_what_cannot_be_booked_is_answered_and_parked_with_its_reason(
    gateway: Callable[..., Browser], db: StateDatabase, said: dict[str, str]
) -> None:
    assert call(gateway(), **said).json() == {"stored": True}
    with db.session() as session:
        session.execute(sa.update(WebhookEvent).values(attempts=2))
    worked, _ = apply_inbox(get_settings(), db)
    assert "cannot be booked" in worked.parked[0]
    assert kept() == []


def test_what_is_no_call_is_refused(gateway: Callable[..., Browser], db: StateDatabase) -> None:
    browser = gateway()
    assert call(browser, transaction_id=" ").status_code == 400
    assert call(browser, link="x" * 501).status_code == 400
    big = browser.client.post("/postbacks/impact", content=b"x" * 1_000_001)
    assert big.status_code == 413
    nested = {"token": TOKEN, **SALE, "transaction_id": ["t1"]}
    assert browser.client.post("/postbacks/impact", content=json.dumps(nested), headers={
        "content-type": "application/json"
    }).status_code == 400  # fmt: skip
    halves = b'{"token": "\\ud800", "transaction_id": "\\ud800"}'
    answer = browser.client.post(
        "/postbacks/impact", content=halves, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 403
    assert stored(db) == []
