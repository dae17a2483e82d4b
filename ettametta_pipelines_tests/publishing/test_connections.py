"""Connecting channels, and asking before posting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.publishing.connections import connect, connected, require
from ettametta_pipelines.publishing.tokens import Envelope, access_token
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.oauth import TokenSet
from ettametta_pipelines_tests.publishing.conftest import Publisher


def connect_to(publisher: Publisher, account: str, platform: str, code: str | None = None) -> Any:
    app = {"youtube": publisher.youtube_app, "tiktok": publisher.tiktok_app}.get(
        platform, publisher.youtube_app
    )
    code = code or f"sandbox-{account}"
    return connect(publisher.workshop.db, app, account, platform, code, envelope=publisher.workshop.envelope)


def test_a_connected_channel_is_known_by_name_and_id(new_publisher: Callable[[], Publisher]) -> None:
    publisher = new_publisher()
    made = connect_to(publisher, "blue-kitchen", "youtube")
    assert made.channel_id.startswith("UC")
    assert made.channel_title == "Blue Kitchen"
    assert made.uploads_playlist == "UU" + made.channel_id[2:]
    assert require(publisher.workshop.db, "blue-kitchen", "youtube") == made
    tiktok = connect_to(publisher, "blue-kitchen", "tiktok")
    assert tiktok.channel_title == "Blue Kitchen"
    assert [c.platform for c in connected(publisher.workshop.db)] == ["tiktok", "youtube"]


def test_an_account_without_a_channel_says_how_to_connect_one(database: StateDatabase) -> None:
    with pytest.raises(NeedsPersonError) as failure:
        require(database, "acme", "tiktok")
    assert failure.value.code == "channel_not_connected"
    assert failure.value.remedy == "Run `ettametta connect --account acme --platform tiktok`."


@pytest.mark.parametrize("account", ["", "Acme", "a b", "a" * 41, "../x", "a_b", "acme\n"])
def test_an_account_name_that_is_no_slug_is_refused(
    new_publisher: Callable[[], Publisher], account: str
) -> None:
    with pytest.raises(PermanentError) as failure:
        connect_to(new_publisher(), account, "youtube")
    assert failure.value.code == "bad_account"


def test_an_unknown_platform_is_refused(new_publisher: Callable[[], Publisher]) -> None:
    with pytest.raises(PermanentError, match="tiktok, youtube"):
        connect_to(new_publisher(), "acme", "vimeo")


def test_a_code_the_vendor_refuses_connects_nothing(new_publisher: Callable[[], Publisher]) -> None:
    publisher = new_publisher()
    with pytest.raises(NeedsPersonError):
        connect_to(publisher, "acme", "youtube", "stolen")
    assert connected(publisher.workshop.db) == []


@dataclass
class App:
    """An app whose answers a test chooses."""

    tokens: TokenSet
    channel_id: str = "UC1"

    def exchange_code(self, code: str) -> TokenSet:
        return self.tokens

    def refresh(self, refresh_token: str) -> TokenSet:
        return TokenSet(f"refreshed with {refresh_token}", None, 3600, None, ())

    def channel(self, token: str) -> "App":
        return self

    def identity(self) -> tuple[str, str, str]:
        return self.channel_id, "Acme", "UU1"


def tokens(refresh: str | None, *scopes: str) -> TokenSet:
    return TokenSet("access", refresh, 1, None, scopes)


def test_consent_without_uploading_is_refused_when_it_is_given(
    database: StateDatabase, envelope: Envelope
) -> None:
    app = App(tokens("r", "https://www.googleapis.com/auth/youtube.readonly"))
    with pytest.raises(NeedsPersonError) as failure:
        connect(database, app, "acme", "youtube", "code", envelope=envelope)
    assert failure.value.code == "scope_missing"


def test_connecting_again_keeps_the_refresh_token_of_the_same_channel_only(
    database: StateDatabase, envelope: Envelope
) -> None:
    connect(database, App(tokens("first")), "acme", "youtube", "code", envelope=envelope)
    same = App(tokens(None))
    connect(database, same, "acme", "youtube", "code", envelope=envelope)
    assert access_token(database, same, "acme", "youtube", envelope=envelope) == "refreshed with first"
    other = App(tokens(None), channel_id="UC2")
    connect(database, other, "acme", "youtube", "code", envelope=envelope)
    with pytest.raises(NeedsPersonError):
        access_token(database, other, "acme", "youtube", envelope=envelope)


def test_connecting_again_ends_the_need_for_consent(publisher: Publisher) -> None:
    from sqlalchemy import update

    from ettametta_pipelines.state.models import OAuthConnection

    with publisher.workshop.db.session() as session:
        session.execute(update(OAuthConnection).values(status="reauth_required"))
    connect_to(publisher, "acme", "youtube")
    assert require(publisher.workshop.db, "acme", "youtube").status == "active"
