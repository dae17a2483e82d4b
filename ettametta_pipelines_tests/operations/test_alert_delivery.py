"""From the outbox to mailboxes and webhooks: really sent, once, whatever dies or refuses in between."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.operations import outbox
from ettametta_pipelines.operations.alert_check import describe, send_test
from ettametta_pipelines.operations.alert_routes import AlertsFileError, load_routing
from ettametta_pipelines.settings import Settings, SettingsError, get_settings, load_settings
from ettametta_pipelines.state.models import AlertMessage
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.operations.receivers import (
    HookDesk,
    MailDesk,
    mail_server,
    make_certificate,
    webhook,
)

DIES_AFTER_SENDING = """
import os, signal, sys
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.operations import outbox
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state.session import StateDatabase
outbox._settle = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
outbox.deliver(StateDatabase(sys.argv[1]), outbox.open_senders(get_settings()), utc_now)
"""


@dataclass
class House:
    """Settings that lead to a mail server and a webhook of this test."""

    mail: MailDesk
    hook: HookDesk
    environment: dict[str, str]
    patch: pytest.MonkeyPatch

    def settings(self, **more: str) -> Settings:
        for name, value in {**self.environment, **more}.items():
            self.patch.setenv(name, value)
        get_settings.cache_clear()
        return get_settings()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[House]:
    mail, hook = MailDesk(), HookDesk()
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.alias or name).upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    with mail_server(mail) as port, webhook(hook) as address:
        environment = {
            "ETTAMETTA_HOME": str(tmp_path / "home"),
            "ETTAMETTA_SMTP_URL": f"smtp://127.0.0.1:{port}",
            "ETTAMETTA_ALERT_FROM": "ettametta@example.com",
            "ETTAMETTA_ALERT_WEBHOOKS": f"ops={address}",
        }
        yield House(mail, hook, environment, monkeypatch)
    get_settings.cache_clear()


def put(
    db: StateDatabase, *targets: str, subject: str = "[ettametta] 3 failed runs: <!channel> & more"
) -> None:
    now = utc_now() - timedelta(seconds=1)
    with db.session() as session:
        for target in targets:
            session.add(
                AlertMessage(
                    route="desk", target=target, severity="ERROR", subject=subject, body="For: acme\nDo: nothing",
                    created_at=now, due_at=now, attempts=0,
                )
            )  # fmt: skip


def deliver(db: StateDatabase, settings: Settings, *, later: timedelta = timedelta(0)) -> outbox.Delivered:
    return outbox.deliver(db, outbox.open_senders(settings), lambda: utc_now() + later)


def outstanding(db: StateDatabase) -> list[str]:
    return [message.target for message in outbox.waiting(db)]


def test_a_message_arrives_by_mail_by_webhook_and_in_the_log(
    house: House, database: StateDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    put(database, "anna@example.com", "webhook:ops", "log")
    assert deliver(database, house.settings()) == outbox.Delivered(sent=3)
    (mail,) = house.mail.mails
    assert (mail["To"], mail["From"], mail["Auto-Submitted"]) == (
        "anna@example.com", "ettametta@example.com", "auto-generated",
    )  # fmt: skip
    assert mail["Subject"] == "[ettametta] 3 failed runs: <!channel> & more"
    assert mail.get_content().splitlines() == ["For: acme", "Do: nothing"]
    assert house.hook.texts == [
        "*[ettametta] 3 failed runs: &lt;!channel&gt; &amp; more*\nFor: acme\nDo: nothing"
    ]
    assert "For: acme | Do: nothing" in caplog.text
    assert deliver(database, house.settings()).sent == 0


def test_a_server_that_wants_encryption_and_a_login_gets_both(house: House, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    desk = MailDesk()
    with mail_server(desk, certificate=certificate, password="p@ss/word") as port:
        address = f"smtp://desk:p%40ss%2Fword@127.0.0.1:{port}"
        named = {"ETTAMETTA_SMTP_URL": address, "ETTAMETTA_ALERT_TO": "anna@example.com"}
        trusting = house.settings(**named, SSL_CERT_FILE=str(certificate))
        assert [one.problem for one in send_test(trusting, "operators")] == ["", ""]
        assert desk.encrypted == [True]
        doubting = house.settings(**named, SSL_CERT_FILE=str(tmp_path / "nobody.pem"))
        assert "SSLCertVerificationError" in send_test(doubting, "operators")[0].problem
        named["ETTAMETTA_SMTP_URL"] = address.replace("p%40ss", "nope")
        wrong = house.settings(**named, SSL_CERT_FILE=str(certificate))
        problem = send_test(wrong, "operators")[0].problem
    assert "[mail_login_refused]" in problem
    assert "nope" not in problem
    assert len(desk.mails) == 1


def test_a_dead_mail_server_costs_one_timeout_and_holds_up_neither_webhooks_nor_the_log(
    house: House, database: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as silent:
        # Connects and never says a word.
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings = house.settings(ETTAMETTA_SMTP_URL=f"smtp://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("ettametta_pipelines.vendors.alert_senders.TIMEOUT_S", 0.3)
        put(database, *[f"person{n}@example.com" for n in range(20)], "webhook:ops", "log")
        done = deliver(database, settings)
    assert (done.sent, done.failed, done.parked, done.waiting) == (2, 1, 0, 20)
    assert len(house.hook.texts) == 1
    deliver(database, house.settings(**house.environment), later=timedelta(minutes=5))
    assert len(house.mail.mails) == 20
    assert outstanding(database) == []


def test_a_message_nobody_takes_is_parked_and_the_others_go_on(house: House, database: StateDatabase) -> None:
    house.mail.refused = {"gone@example.com"}
    house.mail.later = {"full@example.com"}
    put(database, "gone@example.com", "anna@example.com", "full@example.com")
    done = deliver(database, house.settings())
    assert (done.sent, done.parked, done.failed) == (1, 1, 1)
    (parked,) = outbox.parked(database, utc_now() - timedelta(hours=1))
    assert parked.error is not None
    assert "550 no such mailbox" in parked.error
    assert outstanding(database) == ["full@example.com"]
    assert deliver(database, house.settings(), later=timedelta(hours=25)).parked == 1


def test_a_webhook_that_was_revoked_keeps_its_messages_for_a_new_address(
    house: House, database: StateDatabase
) -> None:
    house.hook.statuses = [404, 200]
    put(database, "webhook:ops", "webhook:ops")
    done = deliver(database, house.settings())
    assert (done.sent, done.failed, done.waiting) == (0, 1, 2)
    (failed, _) = outbox.waiting(database)
    assert "ETTAMETTA_ALERT_WEBHOOKS" in str(failed.error)
    assert "hook-secret-93" not in str(failed.error)
    deliver(database, house.settings(), later=timedelta(minutes=2))
    assert len(house.hook.texts) == 2


def test_a_process_that_dies_between_sending_and_settling_leads_to_one_repeated_message_and_no_lost_one(
    house: House, database: StateDatabase, database_url: str
) -> None:
    put(database, "webhook:ops")
    put(database, "webhook:ops", subject="the other")
    settings = house.settings()
    died = subprocess.run([sys.executable, "-c", DIES_AFTER_SENDING, database_url], check=False)
    assert died.returncode == -signal.SIGKILL
    # Within the lease the message is the dead process's; the other one is not held up.
    assert deliver(database, settings).sent == 1
    deliver(database, settings, later=outbox.LEASE + timedelta(seconds=5))
    assert sorted("3 failed" in text for text in house.hook.texts) == [False, True, True]
    assert outstanding(database) == []


def test_a_message_that_kills_its_process_each_time_is_parked(
    house: House, database: StateDatabase, database_url: str
) -> None:
    put(database, "webhook:ops")
    house.settings()
    subprocess.run([sys.executable, "-c", DIES_AFTER_SENDING, database_url], check=False)
    with database.session() as session:
        # As the third of such deaths leaves it, minutes later.
        died = {"attempts": AlertMessage.attempts + outbox.MAX_DEATHS - 1, "lease_until": utc_now()}
        session.execute(sa.update(AlertMessage).values(died))
    assert deliver(database, house.settings(), later=timedelta(seconds=1)).sent == 0
    (parked,) = outbox.parked(database, utc_now() - timedelta(hours=1))
    assert parked.error == "the process that sent it died each time"


def test_without_a_file_the_people_of_the_settings_are_told_and_without_those_the_log_alone(
    house: House,
) -> None:
    routes = load_routing(house.settings(ETTAMETTA_ALERT_TO="anna@example.com, bo@example.com")).routes
    assert [(r.name, r.targets) for r in routes] == [
        ("log", ("log",)), ("operators", ("anna@example.com", "bo@example.com", "webhook:ops")),
    ]  # fmt: skip
    alone = house.settings(ETTAMETTA_ALERT_TO="", ETTAMETTA_ALERT_WEBHOOKS="", ETTAMETTA_SMTP_URL="")
    assert [route.name for route in load_routing(alone).routes] == ["log"]
    assert "ETTAMETTA_ALERT_TO" in describe(alone)


def test_people_a_channel_names_are_told_of_it_once(house: House, tmp_path: Path) -> None:
    channels, alerts = tmp_path / "channels.yaml", tmp_path / "alerts.yaml"
    channels.write_text(
        "channels: {acme: {youtube: {tell: [anna@example.com, zoe@example.com]}, tiktok: {tell: [Bob]}}}"
    )
    alerts.write_text(
        "routes: {desk: {to: [anna@example.com]}, money: {to: [zoe@example.com], groups: [revenue]}}"
    )
    routing = load_routing(house.settings(ETTAMETTA_CHANNELS=str(channels), ETTAMETTA_ALERTS=str(alerts)))
    assert [(r.name, r.targets) for r in routing.routes][3:] == [
        ("channel:acme/youtube", ("zoe@example.com",))
    ]
    assert routing.problems == (
        "channel:acme/tiktok: 'Bob' is told by nobody, since it is no e-mail address",
    )
    with pytest.raises(NeedsPersonError, match="'Bob'"):
        describe(get_settings())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes: {desk: {to: []}}", r"routes.desk.to"),
        ("routes: {desk: {to: [a@b.c], severty: error}}", r"routes.desk.severty"),
        ("thresholds: {spend_percent: 0}", r"thresholds.spend_percent"),
        ("routes: [", r"line 1: not valid YAML"),
        ("- desk", r"must be a mapping"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(
    house: House, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "alerts.yaml").write_text(text)
    with pytest.raises(AlertsFileError, match=said):
        load_routing(house.settings(ETTAMETTA_ALERTS=str(tmp_path / "alerts.yaml")))


@pytest.mark.parametrize(
    "hooks", ["ops=http://hooks.example.com/x", "https://hooks.example.com/secret-1", "Ops=https://x"]
)
def test_a_webhook_is_named_and_encrypted_and_its_address_is_not_repeated(house: House, hooks: str) -> None:
    with pytest.raises(AlertsFileError) as refused:
        load_routing(house.settings(ETTAMETTA_ALERT_WEBHOOKS=hooks))
    assert "secret-1" not in str(refused.value)


def test_a_mail_server_without_encryption_is_not_used_beyond_this_machine(house: House) -> None:
    with pytest.raises(SettingsError, match="ETTAMETTA_SMTP_URL"):
        house.settings(ETTAMETTA_SMTP_URL="http://mail.example.com")
    assert load_settings is not None


def test_the_test_command_and_doctor_say_what_works(house: House) -> None:
    settings = house.settings(ETTAMETTA_ALERT_TO="anna@example.com")
    assert [(t.target, t.problem) for t in send_test(settings)] == [
        ("log", ""), ("anna@example.com", ""), ("webhook:ops", ""),
    ]  # fmt: skip
    assert "operators → anna@example.com, webhook:ops" in describe(settings)
    assert "takes mail from ettametta@example.com" in describe(settings)
    with pytest.raises(NeedsPersonError, match="No route is called 'nobody'"):
        send_test(settings, "nobody")
