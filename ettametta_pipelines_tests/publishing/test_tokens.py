"""Tokens: bound ciphertexts, one refresher at a time, dead grants."""

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from ettametta_pipelines.failures import NeedsPersonError, OutcomeUnknownError, PermanentError
from ettametta_pipelines.publishing.connections import require
from ettametta_pipelines.publishing.tokens import Envelope, access_token, open_envelope
from ettametta_pipelines.settings import load_settings
from ettametta_pipelines.state.models import OAuthConnection
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.oauth import TokenSet
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)
from ettametta_pipelines_tests.publishing.conftest import ACCOUNT, Publisher

HERE = {"account": "acme", "platform": "youtube", "column": "oauth_connections.access_token"}


def test_what_is_sealed_opens_where_it_was_sealed_for(envelope: Envelope) -> None:
    sealed = envelope.seal("s3cret", **HERE)
    assert "s3cret" not in sealed
    assert envelope.open(sealed, **HERE) == "s3cret"


@pytest.mark.parametrize("moved", [{"account": "other"}, {"platform": "tiktok"}, {"column": "elsewhere"}])
def test_a_ciphertext_that_was_moved_does_not_open(envelope: Envelope, moved: dict[str, str]) -> None:
    with pytest.raises(PermanentError) as failure:
        envelope.open(envelope.seal("s3cret", **HERE), **(HERE | moved))
    assert failure.value.code == "ciphertext_misplaced"


def test_keys_are_rotated_by_putting_the_new_one_in_front() -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    sealed = Envelope([old]).seal("s3cret", **HERE)
    assert Envelope([new, old]).open(sealed, **HERE) == "s3cret"
    with pytest.raises(NeedsPersonError) as failure:
        Envelope([new]).open(sealed, **HERE)
    assert failure.value.code == "encryption_key_unknown"


def test_a_key_that_is_none_is_named_without_being_shown() -> None:
    with pytest.raises(PermanentError) as failure:
        Envelope(["hunter2"])
    assert failure.value.code == "bad_encryption_key"
    assert "hunter2" not in str(failure.value)


def test_the_key_file_is_made_once_by_many_and_readable_by_its_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path))
    monkeypatch.delenv("ETTAMETTA_ENCRYPTION_KEYS", raising=False)
    settings = load_settings()
    barrier = Barrier(8)

    def seal(_: int) -> tuple[Envelope, str]:
        barrier.wait()
        envelope = open_envelope(settings)
        return envelope, envelope.seal("s3cret", **HERE)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(seal, range(8)))
    assert {envelope.open(sealed, **HERE) for envelope, _ in made for _, sealed in made} == {"s3cret"}
    (file,) = (tmp_path / "secrets").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    file.chmod(0o644)
    with pytest.raises(NeedsPersonError) as failure:
        open_envelope(settings)
    assert failure.value.code == "key_file_exposed"


def test_configured_keys_make_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = f" {Fernet.generate_key().decode()} , {Fernet.generate_key().decode()}"
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path))
    monkeypatch.setenv("ETTAMETTA_ENCRYPTION_KEYS", keys)
    open_envelope(load_settings())
    assert list(tmp_path.iterdir()) == []


def expire(database: StateDatabase, **columns: timedelta) -> None:
    with database.session() as session:
        for row in session.scalars(sa.select(OAuthConnection)):
            for name, ago in columns.items():
                setattr(row, name, database.now(session) - ago)


def token_of(publisher: Publisher, platform: str, **options: str) -> str:
    app = {"youtube": publisher.youtube_app, "tiktok": publisher.tiktok_app}[platform]
    workshop = publisher.workshop
    return access_token(workshop.db, app, ACCOUNT, platform, envelope=workshop.envelope, **options)


def test_a_valid_token_is_used_without_asking(publisher: Publisher, sandbox: SandboxUnderTest) -> None:
    asked = sandbox.count("tiktok", "POST", "/token/")
    assert token_of(publisher, "tiktok") == token_of(publisher, "tiktok")
    assert sandbox.count("tiktok", "POST", "/token/") == asked


def test_eight_workers_with_an_expired_token_refresh_it_once(
    publisher: Publisher, new_publisher: Callable[[], Publisher], sandbox: SandboxUnderTest
) -> None:
    """TikTok's refresh token dies with its first use: a second refresh would end the consent."""
    expire(publisher.workshop.db, expires_at=timedelta(0))
    asked = sandbox.count("tiktok", "POST", "/token/")
    workers = [new_publisher() for _ in range(8)]
    barrier = Barrier(8)

    def ask(worker: Publisher) -> str:
        barrier.wait()
        return token_of(worker, "tiktok")

    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(ask, workers))
    assert len(tokens) == 1
    assert sandbox.count("tiktok", "POST", "/token/") == asked + 1
    expire(publisher.workshop.db, expires_at=timedelta(0))
    assert token_of(publisher, "tiktok") not in tokens


def test_a_refused_token_is_not_handed_out_again(publisher: Publisher) -> None:
    refused = token_of(publisher, "youtube")
    fresh = token_of(publisher, "youtube", rejected=refused)
    assert fresh != refused
    assert token_of(publisher, "youtube", rejected=refused) == fresh


def test_a_vendor_that_sends_no_new_refresh_token_keeps_the_old_one(publisher: Publisher) -> None:
    for _ in range(2):
        expire(publisher.workshop.db, expires_at=timedelta(0))
        assert token_of(publisher, "youtube").startswith("ya29.")


@pytest.mark.parametrize("platform", ["youtube", "tiktok"])
def test_a_consent_that_ended_is_remembered_and_asks_for_a_person(
    publisher: Publisher, sandbox: SandboxUnderTest, platform: str
) -> None:
    store = sandbox.server._server.config.app.state.store
    for key, _ in store.items(f"{platform}_refresh"):
        store.delete(f"{platform}_refresh", key)
    expire(publisher.workshop.db, expires_at=timedelta(0))
    for _ in range(2):
        with pytest.raises(NeedsPersonError) as failure:
            token_of(publisher, platform)
        assert failure.value.code == "reauth_required"
        assert f"ettametta connect --account {ACCOUNT} --platform {platform}" in failure.value.remedy
    with pytest.raises(NeedsPersonError, match="consent"):
        require(publisher.workshop.db, ACCOUNT, platform)


def test_a_refresh_token_past_its_end_is_not_tried(publisher: Publisher, sandbox: SandboxUnderTest) -> None:
    asked = sandbox.count("tiktok", "POST", "/token/")
    expire(publisher.workshop.db, expires_at=timedelta(0), refresh_expires_at=timedelta(0))
    with pytest.raises(NeedsPersonError):
        token_of(publisher, "tiktok")
    assert sandbox.count("tiktok", "POST", "/token/") == asked


def test_a_lost_answer_to_a_refresh_does_not_end_the_consent(
    publisher: Publisher, sandbox: SandboxUnderTest
) -> None:
    expire(publisher.workshop.db, expires_at=timedelta(0))
    sandbox.fault("tiktok", path_regex="/token/", action="drop_before")
    with pytest.raises(OutcomeUnknownError):
        token_of(publisher, "tiktok")
    assert token_of(publisher, "tiktok").startswith("act.")


def test_the_new_pair_is_stored_before_it_is_used(publisher: Publisher, database: StateDatabase) -> None:
    expire(publisher.workshop.db, expires_at=timedelta(0))
    before = require(database, ACCOUNT, "youtube").expires_at

    class App:
        def refresh(self, refresh_token: str) -> TokenSet:
            return TokenSet("new-access", "new-refresh", 3600, None, ())

    workshop = publisher.workshop
    token = access_token(workshop.db, App(), ACCOUNT, "youtube", envelope=workshop.envelope)
    assert token == "new-access"
    assert require(database, ACCOUNT, "youtube").expires_at > before
