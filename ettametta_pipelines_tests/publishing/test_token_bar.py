"""The bar for tokens, one test or more a number: what must hold when workers race, die, are refused or are watched.

T1 eight processes, one refresh. T2 a stale token in hand. T3 killed after the vendor rotated. T4 the vendor fails.
T5 consent is gone. T6 no new refresh token. T7 short lives. T10 nothing readable in the database. T11 keys rotate under
traffic. T12 nothing in the logs. T13 clocks apart. T8 and T9 are about browsers: `gateway/test_accounts.py`.
"""

import hashlib
import logging
import multiprocessing
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError
from ettametta_pipelines.publishing import keys
from ettametta_pipelines.publishing.connections import connect, events, require
from ettametta_pipelines.publishing.refreshing import count_due, refresh_due
from ettametta_pipelines.publishing.tokens import Envelope, access_token, key_id_of
from ettametta_pipelines.settings import Settings, VendorEndpoint, load_settings
from ettametta_pipelines.state.models import Base, OAuthConnection
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.vendors.oauth import TokenSet
from ettametta_pipelines.vendors.tiktok import TikTokApp
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)
from ettametta_pipelines_tests.publishing import token_worker
from ettametta_pipelines_tests.publishing.conftest import ACCOUNT, Publisher, TikTokSeen, padded
from ettametta_pipelines_tests.publishing.test_tokens import expire, token_of


def run_workers(
    count: int, url: str, sandbox: SandboxUnderTest, key: str, *, killed: bool = False
) -> tuple[list[int | None], list[str]]:
    """Exit codes of so many real processes that ask at the same time, and what they got."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([token_worker.__name__])
    party, said = context.Barrier(count), context.SimpleQueue()
    arguments = (url, f"{sandbox.url}/tiktok/", key, ACCOUNT, killed, party, said)
    workers = [context.Process(target=token_worker.ask, args=arguments) for _ in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    got = []
    while not said.empty():
        got.append(said.get())
    return [worker.exitcode for worker in workers], got


def refreshes(sandbox: SandboxUnderTest) -> int:
    return sandbox.count("tiktok", "POST", "/token/")


@pytest.fixture
def key() -> str:
    return Fernet.generate_key().decode()


@pytest.fixture
def keyed(new_publisher: Callable[[], Publisher], key: str) -> Publisher:
    """A worker whose key the test knows, connected on TikTok and YouTube."""
    made = new_publisher().with_(envelope=Envelope([key]))
    for platform, app in (("youtube", made.youtube_app), ("tiktok", made.tiktok_app)):
        connect(
            made.workshop.db, app, ACCOUNT, platform, f"sandbox-{ACCOUNT}", envelope=made.workshop.envelope
        )
    return made


def row_of(db: StateDatabase, platform: str) -> OAuthConnection:
    with db.session(write=False) as session:
        return session.scalars(sa.select(OAuthConnection).where(OAuthConnection.platform == platform)).one()


def alerts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def forget_grants(sandbox: SandboxUnderTest, platform: str) -> None:
    store = sandbox.server._server.config.app.state.store
    for kind in (f"{platform}_refresh", f"{platform}_access"):
        for token, _ in store.items(kind):
            store.delete(kind, token)


def test_t1_eight_processes_with_one_expired_rotating_token_refresh_it_once(
    keyed: Publisher,
    key: str,
    sandbox: SandboxUnderTest,
    database_url: str,  # noqa: F811
) -> None:
    expire(keyed.workshop.db, expires_at=timedelta(0))
    asked = refreshes(sandbox)
    codes, tokens = run_workers(8, database_url, sandbox, key)
    assert (codes, len(tokens), len(set(tokens))) == ([0] * 8, 8, 1)
    assert refreshes(sandbox) == asked + 1


def test_t2_a_worker_with_a_stale_token_in_hand_takes_the_stored_one(
    keyed: Publisher, sandbox: SandboxUnderTest
) -> None:
    stale = token_of(keyed, "tiktok")
    fresh = token_of(keyed, "tiktok", rejected=stale)
    asked = refreshes(sandbox)
    assert token_of(keyed, "tiktok", rejected=stale) == fresh
    assert refreshes(sandbox) == asked


@pytest.mark.postgres
def test_t2_a_worker_that_lost_its_lock_over_the_call_uses_what_another_stored_meanwhile(
    postgres: object, keyed: Publisher, new_publisher: Callable[[], Publisher], key: str
) -> None:
    db = keyed.workshop.db
    if db.dialect != "postgresql":
        pytest.skip("SQLite's lock cannot be lost while its process lives")
    other = new_publisher().with_(envelope=Envelope([key]))
    expire(db, expires_at=timedelta(0))
    stored = []

    class Slow:
        def refresh(self, refresh_token: str) -> TokenSet:
            end_other_connections(other.workshop.db)
            stored.append(token_of(other, "tiktok"))
            raise NeedsPersonError("spent", code="tiktok_invalid_grant")

    assert access_token(db, Slow(), ACCOUNT, "tiktok", envelope=keyed.workshop.envelope) == stored[0]
    assert require(db, ACCOUNT, "tiktok").status == "active"


@pytest.mark.postgres
def test_a_new_pair_is_stored_although_the_database_went_away_during_the_call(
    postgres: object, keyed: Publisher, new_publisher: Callable[[], Publisher], key: str
) -> None:
    db = keyed.workshop.db
    if db.dialect != "postgresql":
        pytest.skip("SQLite's lock cannot be lost while its process lives")
    other = new_publisher().with_(envelope=Envelope([key]))
    expire(db, expires_at=timedelta(0))

    class Cut(TikTokApp):
        def refresh(self, refresh_token: str) -> TokenSet:
            tokens = super().refresh(refresh_token)
            end_other_connections(other.workshop.db)
            return tokens

    token = access_token(
        db, Cut(keyed.tiktok_app._endpoint), ACCOUNT, "tiktok", envelope=keyed.workshop.envelope
    )
    assert token_of(other, "tiktok") == token
    expire(other.workshop.db, expires_at=timedelta(0))
    assert token_of(other, "tiktok") != token


def end_other_connections(db: StateDatabase) -> None:
    with db.session() as session:
        session.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def test_t3_killed_after_the_vendor_rotated_ends_in_one_alert_and_no_loop(
    keyed: Publisher,
    key: str,
    sandbox: SandboxUnderTest,
    database_url: str,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    db = keyed.workshop.db
    expire(db, expires_at=timedelta(0))
    assert run_workers(1, database_url, sandbox, key, killed=True) == ([-9], [])
    asked = refreshes(sandbox)
    for _ in range(3):
        with pytest.raises(NeedsPersonError) as failure:
            token_of(keyed, "tiktok")
        assert failure.value.code == "reauth_required"
        refresh_due(db, {"tiktok": keyed.tiktok_app, "youtube": keyed.youtube_app}, keyed.workshop.envelope)
    assert refreshes(sandbox) == asked + 1
    assert len(alerts(caplog)) == 1
    assert [event.event for event in events(db, ACCOUNT, "tiktok")] == ["consent_ended", "connected"]


def test_t4_a_vendor_that_fails_costs_no_pair_and_is_left_alone_for_longer_each_time(
    keyed: Publisher, sandbox: SandboxUnderTest, settings_env: Settings
) -> None:
    db, envelope = keyed.workshop.db, keyed.workshop.envelope
    before = row_of(db, "tiktok")
    hasty = TikTokApp(
        VendorEndpoint("tiktok", "sandbox", settings_env.endpoint("tiktok").base_url, "test", timeout_s=0.5)
    )
    apps = {"tiktok": hasty, "youtube": keyed.youtube_app}
    sandbox.fault("tiktok", path_regex="/token/", status=500)
    sandbox.fault("tiktok", path_regex="/token/", action="delay", delay_s=1.0, after=1)
    waits = []
    for _ in range(2):
        expire(db, refresh_due_at=timedelta(0))
        assert len(refresh_due(db, apps, envelope).problems) == 1
        row = row_of(db, "tiktok")
        assert (row.access_token, row.refresh_token, row.status) == (
            before.access_token, before.refresh_token, "active",
        )  # fmt: skip
        assert row.refresh_due_at is not None
        with db.session(write=False) as session:
            waits.append((row.refresh_due_at - db.now(session)).total_seconds())
    assert 4 * 60 < waits[0] < 6 * 60 < 9 * 60 < waits[1] < 11 * 60
    assert count_due(db) == 0


def test_t5_without_consent_nothing_is_posted_and_nothing_asked_again(
    keyed: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    forget_grants(sandbox, "tiktok")
    order = keyed.order("tiktok", padded(video, 100_000))
    codes = []
    for _ in range(3):
        with pytest.raises(NeedsPersonError) as failure:
            keyed.to_tiktok(order)
        codes.append(failure.value.code)
    assert codes == ["reauth_required"] * 3
    assert (tiktok_seen.inits, tiktok_seen.puts) == (0, 0)
    assert refreshes(sandbox) == 2  # once to connect, once to learn that it is over


def test_t6_an_answer_without_a_refresh_token_keeps_the_old_one(keyed: Publisher) -> None:
    sealed = row_of(keyed.workshop.db, "youtube").refresh_token
    expire(keyed.workshop.db, expires_at=timedelta(0))
    token_of(keyed, "youtube")
    assert row_of(keyed.workshop.db, "youtube").refresh_token == sealed


@pytest.mark.parametrize("life", [300, 7200, 86_400])
def test_t7_a_life_of_any_length_is_renewed_between_half_and_four_fifths_and_used_meanwhile(
    keyed: Publisher, life: int
) -> None:
    db, envelope, asked = keyed.workshop.db, keyed.workshop.envelope, []

    class App:
        def refresh(self, refresh_token: str) -> TokenSet:
            asked.append(refresh_token)
            return TokenSet(f"access-{len(asked)}", f"refresh-{len(asked)}", life, 86_400, ())

    expire(db, expires_at=timedelta(0))
    tokens = {access_token(db, App(), ACCOUNT, "tiktok", envelope=envelope) for _ in range(5)}
    assert (tokens, len(asked)) == ({"access-1"}, 1)
    row = row_of(db, "tiktok")
    assert row.refreshed_at is not None
    assert row.refresh_due_at is not None
    assert 0.5 <= (row.refresh_due_at - row.refreshed_at) / timedelta(seconds=life) <= 0.8


def test_a_pair_is_renewed_ahead_of_time_once_it_is_due_and_the_one_before_is_kept(
    keyed: Publisher, sandbox: SandboxUnderTest
) -> None:
    db, envelope = keyed.workshop.db, keyed.workshop.envelope
    apps = {"tiktok": keyed.tiktok_app, "youtube": keyed.youtube_app}
    assert (count_due(db), refresh_due(db, apps, envelope).renewed) == (0, 0)
    before = row_of(db, "tiktok")
    expire(db, refresh_due_at=timedelta(0))
    assert (count_due(db), refresh_due(db, apps, envelope).renewed, count_due(db)) == (2, 2, 0)
    after = row_of(db, "tiktok")
    assert after.generation == before.generation + 1
    assert after.previous_refresh_token == before.refresh_token
    assert after.previous_access_token == before.access_token


def tokens_issued(sandbox: SandboxUnderTest) -> list[str]:
    store = sandbox.server._server.config.app.state.store
    kinds = ("youtube_access", "youtube_refresh", "tiktok_access", "tiktok_refresh")
    return [token for kind in kinds for token, _ in store.items(kind)]


def test_t10_a_dump_of_the_database_holds_no_token(
    keyed: Publisher, sandbox: SandboxUnderTest, tmp_path: Path
) -> None:
    db = keyed.workshop.db
    issued = set(tokens_issued(sandbox))
    expire(db, expires_at=timedelta(0))
    for platform in ("youtube", "tiktok"):
        token_of(keyed, platform)
    issued |= set(tokens_issued(sandbox))
    dump = b"".join(file.read_bytes() for file in tmp_path.glob("state.db*"))
    with db.session(write=False) as session:
        for table in Base.metadata.sorted_tables:
            dump += repr(session.execute(sa.select(table)).all()).encode()
    assert len(issued) >= 6
    assert ACCOUNT.encode() in dump, "the dump does not show the connections"
    assert not [token for token in issued if token.encode() in dump]


def test_t11_keys_rotate_under_traffic_without_an_error(
    keyed: Publisher, key: str, new_publisher: Callable[[], Publisher]
) -> None:
    new = Fernet.generate_key().decode()
    both = Envelope([new, key])
    # Half of the workers still seal with the old key, as they do until each has been restarted.
    envelopes = [Envelope([key, new]), both]
    stop, errors = threading.Event(), []

    def work(worker: Publisher) -> None:
        while not stop.is_set():
            try:
                expire(worker.workshop.db, expires_at=timedelta(0))
                token_of(worker, "youtube")
            except (PipelineError, AssertionError) as error:
                errors.append(error)

    threads = [
        threading.Thread(target=work, args=(new_publisher().with_(envelope=envelope),))
        for envelope in envelopes
    ]
    for thread in threads:
        thread.start()
    for _ in range(5):
        keys.rotate(keyed.workshop.db, both)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    keys.rotate(keyed.workshop.db, both)
    found = keys.usage(keyed.workshop.db, both)
    assert found[key_id_of(key)] == 0
    assert found[key_id_of(new)] >= 6
    assert token_of(keyed.with_(envelope=Envelope([new])), "tiktok").startswith("act.")


def test_t11_a_rotation_that_breaks_off_is_finished_by_the_next(
    keyed: Publisher, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Envelope([Fernet.generate_key().decode(), key])
    calls = []

    def dies(self: Envelope, ciphertext: str) -> str:
        calls.append(ciphertext)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return resealed(self, ciphertext)

    resealed = Envelope.resealed
    monkeypatch.setattr(Envelope, "resealed", dies)
    with pytest.raises(KeyboardInterrupt):
        keys.rotate(keyed.workshop.db, both)
    partly = keys.usage(keyed.workshop.db, both)
    assert all(partly.values())
    done = keys.rotate(keyed.workshop.db, both)
    assert (done.already, done.unreadable) == (partly[both.key_ids[0]], 0)
    assert keys.rotate(keyed.workshop.db, both).moved == 0


def test_t11_the_key_file_gets_a_new_key_and_loses_the_old_one_only_when_it_is_unused(
    settings_env: Settings,
) -> None:
    from ettametta_pipelines.commands.channels import connect_platform
    from ettametta_pipelines.publishing.tokens import key_file, open_envelope

    connect_platform(settings_env, ACCOUNT, "tiktok", None)
    db = open_state(settings_env)
    keys.add_key(settings_env)
    with pytest.raises(NeedsPersonError) as failure:
        keys.drop_old_keys(settings_env, db)
    assert failure.value.code == "old_keys_in_use"
    assert keys.rotate(db, open_envelope(settings_env)).moved == 2
    assert keys.drop_old_keys(settings_env, db) == 1
    assert key_file(settings_env).stat().st_mode & 0o077 == 0
    assert access_token(db, TikTokApp(settings_env.endpoint("tiktok")), ACCOUNT, "tiktok").startswith("act.")


def test_t11_keys_of_the_environment_are_not_changed_by_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path))
    monkeypatch.setenv("ETTAMETTA_ENCRYPTION_KEYS", key)
    with pytest.raises(NeedsPersonError) as failure:
        keys.add_key(load_settings())
    assert failure.value.code == "keys_in_environment"
    assert key not in str(failure.value)


def test_t11_a_secret_from_before_keys_had_names_opens_and_is_moved(key: str) -> None:
    where = {"account": ACCOUNT, "platform": "tiktok", "column": "c"}
    unnamed = Envelope([key]).seal("s3cret", **where).partition(".")[2]
    both = Envelope([Fernet.generate_key().decode(), key])
    assert both.open(unnamed, **where) == "s3cret"
    moved = both.resealed(unnamed)
    assert (both.key_id(unnamed), both.key_id(moved)) == (key_id_of(key), both.key_ids[0])
    with pytest.raises(PermanentError):
        both.open(moved, **where | {"column": "elsewhere"})


def test_t12_logs_at_debug_hold_no_token(
    keyed: Publisher, sandbox: SandboxUnderTest, caplog: pytest.LogCaptureFixture, video: bytes
) -> None:
    for name in ("", "httpx", "httpcore", "urllib3", "googleapiclient", "sqlalchemy.engine"):
        caplog.set_level(logging.DEBUG, logger=name)
    issued = set(tokens_issued(sandbox))
    expire(keyed.workshop.db, expires_at=timedelta(0))
    assert keyed.to_youtube(keyed.order("youtube", padded(video, 100_000))).posted
    assert keyed.to_tiktok(keyed.order("tiktok", padded(video, 100_001))).posted
    forget_grants(sandbox, "tiktok")
    issued |= set(tokens_issued(sandbox))
    with pytest.raises(NeedsPersonError):
        token_of(keyed, "tiktok", rejected=token_of(keyed, "tiktok"))
    said = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert len(caplog.records) > 50
    assert not [token for token in issued if token in said]


@pytest.mark.parametrize("ahead_s", [-300, 300])
def test_t13_a_vendor_whose_clock_is_five_minutes_off_costs_one_refresh_at_most(
    keyed: Publisher, sandbox: SandboxUnderTest, video: bytes, ahead_s: int
) -> None:
    db = keyed.workshop.db
    # By the vendor's clock the token ends when it says; by ours five minutes later, or five minutes before.
    sandbox.advance(seconds=3600)
    with db.session() as session:
        for row in session.scalars(sa.select(OAuthConnection)):
            row.expires_at = db.now(session) + timedelta(seconds=ahead_s + 1)
    asked = sandbox.count("youtube", "POST", "/token")
    assert keyed.to_youtube(keyed.order("youtube", padded(video, 100_000))).posted
    assert sandbox.count("youtube", "POST", "/token") == asked + 1


def test_sealed_values_say_which_key_they_are_under(key: str) -> None:
    sealed = Envelope([key]).seal("s3cret", account="a", platform="p", column="c")
    assert sealed.startswith(hashlib.sha256(key.encode()).hexdigest()[:8] + ".")
