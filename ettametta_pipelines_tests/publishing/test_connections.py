"""Connecting channels, and asking before posting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, TransientError
from ettametta_pipelines.publishing import connections
from ettametta_pipelines.publishing.connections import connect, connected, disconnect, events, require
from ettametta_pipelines.publishing.tokens import Envelope, access_token
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.oauth import TokenSet, open_desk
from ettametta_pipelines_tests.conftest import SandboxUnderTest
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
    assert "/accounts" in failure.value.remedy
    assert "`ettametta connect --account acme --platform tiktok`" in failure.value.remedy


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
    return TokenSet("access", refresh, 0, None, scopes)


def test_consent_without_uploading_is_refused_when_it_is_given(
    database: StateDatabase, envelope: Envelope
) -> None:
    app = App(tokens("r", "https://www.googleapis.com/auth/youtube.readonly"))
    with pytest.raises(NeedsPersonError) as failure:
        connect(database, app, "acme", "youtube", "code", envelope=envelope)
    assert failure.value.code == "scope_missing"


def test_connecting_the_same_channel_again_keeps_its_refresh_token(
    database: StateDatabase, envelope: Envelope
) -> None:
    connect(database, App(tokens("first")), "acme", "youtube", "code", envelope=envelope)
    same = App(tokens(None))
    connect(database, same, "acme", "youtube", "code", envelope=envelope)
    assert access_token(database, same, "acme", "youtube", envelope=envelope) == "refreshed with first"


def test_another_channel_does_not_take_the_place_of_the_one_that_is_connected(
    database: StateDatabase, envelope: Envelope
) -> None:
    before = connect(database, App(tokens("first")), "acme", "youtube", "code", envelope=envelope)
    with pytest.raises(NeedsPersonError) as failure:
        connect(database, App(tokens("r"), channel_id="UC2"), "acme", "youtube", "code", envelope=envelope)
    assert failure.value.code == "another_channel"
    assert require(database, "acme", "youtube") == before


def test_a_channel_belongs_to_one_account(database: StateDatabase, envelope: Envelope) -> None:
    connect(database, App(tokens("first")), "acme", "youtube", "code", envelope=envelope)
    with pytest.raises(NeedsPersonError) as failure:
        connect(database, App(tokens("first")), "beta", "youtube", "code", envelope=envelope)
    assert failure.value.code == "channel_taken"
    assert [c.account for c in connected(database)] == ["acme"]


def test_of_two_accounts_that_connect_one_channel_at_once_one_gets_it(
    database: StateDatabase, envelope: Envelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if both had looked before either was stored."""
    monkeypatch.setattr(connections, "_check_identity", lambda *_: None)
    connect(database, App(tokens("first")), "acme", "youtube", "code", envelope=envelope)
    with pytest.raises(NeedsPersonError) as failure:
        connect(database, App(tokens("first")), "beta", "youtube", "code", envelope=envelope)
    assert failure.value.code == "channel_taken"
    assert [c.account for c in connected(database)] == ["acme"]


def test_disconnecting_ends_the_consent_at_the_vendor_and_keeps_the_trail(
    publisher: Publisher, sandbox: SandboxUnderTest, settings_env: Settings
) -> None:
    db, envelope = publisher.workshop.db, publisher.workshop.envelope
    for platform, app in (("youtube", publisher.youtube_app), ("tiktok", publisher.tiktok_app)):
        revoke = open_desk(settings_env, platform).revoke
        token = access_token(db, app, "acme", platform, envelope=envelope)
        done = disconnect(db, app, revoke, "acme", platform, envelope=envelope, actor="alice")
        assert (done.channel_title, done.problem) == ("Acme", "")
        store = sandbox.server._server.config.app.state.store
        assert store.get(f"{platform}_access", token) is None
        newest = events(db, "acme", platform)[0]
        assert (newest.event, newest.actor) == ("disconnected", "alice")
    assert connected(db) == []


def test_a_vendor_that_is_away_keeps_the_channel_and_one_that_refuses_does_not(
    publisher: Publisher, sandbox: SandboxUnderTest, settings_env: Settings
) -> None:
    db, app, envelope = publisher.workshop.db, publisher.youtube_app, publisher.workshop.envelope
    revoke = open_desk(settings_env, "youtube").revoke
    sandbox.fault("youtube", path_regex="/revoke", status=503)
    with pytest.raises(TransientError):
        disconnect(db, app, revoke, "acme", "youtube", envelope=envelope)
    assert require(db, "acme", "youtube").status == "active"
    sandbox.fault("youtube", path_regex="/revoke", status=403)
    done = disconnect(db, app, revoke, "acme", "youtube", envelope=envelope)
    assert "403" in done.problem
    assert "only here" in events(db, "acme", "youtube")[0].detail
    assert [c.platform for c in connected(db)] == ["tiktok"]


def test_connecting_again_ends_the_need_for_consent(publisher: Publisher) -> None:
    from sqlalchemy import update

    from ettametta_pipelines.state.models import OAuthConnection

    with publisher.workshop.db.session() as session:
        session.execute(update(OAuthConnection).values(status="reauth_required"))
    connect_to(publisher, "acme", "youtube")
    assert require(publisher.workshop.db, "acme", "youtube").status == "active"
