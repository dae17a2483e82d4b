"""Who is told what and when: grouping, patience, reminders, resolutions, storms; on both databases."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from ettametta_pipelines.operations.alert_routes import Pace, Route, Routing, Severity, Thresholds
from ettametta_pipelines.operations.alerting import Noted, note
from ettametta_pipelines.operations.findings import Finding, Looked, Occurrence
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import Alert, AlertMessage
from ettametta_pipelines.state.session import StateDatabase

START = datetime(2026, 11, 23, 6, tzinfo=UTC)
DESK = Route("desk", ("desk@example.com",), Pace())
ROUTING = Routing((DESK,), Thresholds(), ())
SETTINGS = Settings(_env_file=None, ETTAMETTA_BUSINESS_TIMEZONE="Europe/Berlin")


def open_alerts(db: StateDatabase, route: str) -> list[Alert]:
    """What is wrong now as one route knows it, gravest first."""
    with db.session(write=False) as session:
        query = sa.select(Alert).where(Alert.route == route, Alert.closed_at.is_(None))
        return sorted(session.scalars(query), key=lambda row: (-Severity[row.severity], row.opened_at))


def runs(
    number: int, cause: str = "gemini_unavailable", account: str = "acme", at: datetime = START
) -> Finding:
    struck = tuple(
        Occurrence(f"{cause}-{n}", at + timedelta(seconds=n), f"video {n}", account, "cooking", "youtube")
        for n in range(number)
    )
    return Finding(
        "failed_run", cause, Severity.ERROR, "failed run", "candidate_assessments: Gemini does not answer",
        "Nothing: it is tried tonight.", struck, "scoring", "http://ui/runs",
    )  # fmt: skip


def look(db: StateDatabase, *findings: Finding, after: float = 0, routing: Routing = ROUTING) -> Noted:
    """One look, so many minutes after the start."""
    kinds = frozenset({"failed_run", "reauth"})
    return note(db, routing, Looked(START + timedelta(minutes=after), findings, kinds), SETTINGS)


def messages(db: StateDatabase) -> list[AlertMessage]:
    with db.session(write=False) as session:
        return list(session.scalars(sa.select(AlertMessage).order_by(AlertMessage.id)))


def reauth() -> Finding:
    struck = (Occurrence("acme/youtube", START, "consent revoked", "acme", None, "youtube"),)
    return Finding(
        "reauth", "acme/youtube", Severity.CRITICAL, "channel", "must be connected again", "Connect.", struck
    )


def test_forty_runs_that_failed_for_one_cause_are_one_message(database: StateDatabase) -> None:
    look(database, runs(40), after=1)
    (mail,) = messages(database)
    assert mail.subject == "[ettametta] 40 failed runs: candidate_assessments: Gemini does not answer"
    assert "For: acme · cooking · youtube" in mail.body
    assert "Since: Mon 23 Nov 07:00 (Europe/Berlin), 1 min ago" in mail.body
    assert "Do: Nothing: it is tried tonight." in mail.body
    assert "See: http://ui/runs" in mail.body
    assert "and 35 more" in mail.body


def test_the_same_cause_is_told_again_only_after_a_while_and_with_its_growth(database: StateDatabase) -> None:
    look(database, runs(3))
    look(database, runs(9), after=10)
    assert len(messages(database)) == 1
    look(database, runs(12), after=61)
    assert messages(database)[-1].subject.startswith("[ettametta] More: 12 failed runs")


def test_what_lasts_is_told_again_twice_a_day(database: StateDatabase) -> None:
    for minutes in range(0, 25 * 60, 30):
        look(database, reauth(), after=minutes)
    assert [m.subject.split(": ")[0] for m in messages(database)] == [
        "[ettametta] 1 channel",
        *["[ettametta] Still"] * 2,
    ]


def test_who_was_told_hears_that_it_is_over_and_who_was_not_hears_nothing(database: StateDatabase) -> None:
    look(database, reauth())
    look(database, after=30)
    assert [m.subject for m in messages(database)][-1] == "[ettametta] Resolved: must be connected again"
    assert open_alerts(database, "desk") == []
    strict = replace(ROUTING, thresholds=Thresholds(failed_runs=5))
    look(database, runs(2), after=40, routing=strict)
    look(database, after=50, routing=strict)
    assert len(messages(database)) == 2


def test_failures_that_were_repaired_are_resolved_and_those_of_yesterday_only_fade(
    database: StateDatabase,
) -> None:
    look(database, runs(2, "repaired"), runs(2, "old"))
    mended = replace(runs(2, "repaired"), occurrences=tuple(
        replace(one, repaired=True) for one in runs(2, "repaired").occurrences
    ))  # fmt: skip
    look(database, mended, after=90)
    assert [m.subject.startswith("[ettametta] Resolved") for m in messages(database)] == [False, False, True]
    assert open_alerts(database, "desk") == []


def test_what_comes_and_goes_does_not_flood_anybody(database: StateDatabase) -> None:
    for minutes in range(60):
        look(database, *([reauth()] if minutes % 2 == 0 else []), after=minutes)
    assert len(messages(database)) <= 3


def test_a_storm_of_five_hundred_failures_is_a_handful_of_messages_that_count_them_all(
    database: StateDatabase,
) -> None:
    causes = [f"cause_{n}" for n in range(50)]
    for second in range(0, 60, 5):
        by_now = (second // 5 + 1) * 500 // 12
        shares = [by_now // 50 + (n < by_now % 50) for n in range(50)]
        storm = [runs(share, cause) for cause, share in zip(causes, shares, strict=True) if share]
        look(database, *storm, after=second / 60)
    look(database, *[runs(10, cause) for cause in causes], after=70)
    sent = messages(database)
    assert len(sent) <= 4
    assert "50 causes, 500 times in all" in sent[-1].body
    assert "And 30 causes more, 300 times in all" in sent[-1].body
    assert sum(alert.told for alert in open_alerts(database, "desk")) == 500


def test_a_route_out_of_messages_is_told_later_and_of_everything(database: StateDatabase) -> None:
    tight = Routing((replace(DESK, pace=Pace(messages_per_hour=1)),), Thresholds(), ())
    look(database, runs(1, "first"), routing=tight)
    noted = look(database, runs(1, "first"), runs(2, "second"), after=5, routing=tight)
    assert (noted.messages, noted.waiting) == (0, 1)
    look(database, runs(1, "first"), runs(2, "second"), after=61, routing=tight)
    assert "2 failed runs" in messages(database)[-1].body
    assert len(messages(database)) == 2


def test_the_end_of_an_alert_waits_for_a_message_too(database: StateDatabase) -> None:
    tight = Routing((replace(DESK, pace=Pace(messages_per_hour=1)),), Thresholds(), ())
    look(database, reauth(), routing=tight)
    look(database, after=5, routing=tight)
    assert len(open_alerts(database, "desk")) == 1
    look(database, after=65, routing=tight)
    assert messages(database)[-1].subject.startswith("[ettametta] Resolved")
    assert open_alerts(database, "desk") == []


def test_a_kind_that_could_not_be_looked_at_is_not_taken_for_well(database: StateDatabase) -> None:
    look(database, reauth())
    note(database, ROUTING, Looked(START + timedelta(minutes=5), (), frozenset({"failed_run"})), SETTINGS)
    assert len(open_alerts(database, "desk")) == 1


@pytest.mark.parametrize(
    ("route", "subjects"),
    [
        (replace(DESK, accounts=frozenset({"beta"})), ["2 failed runs"]),
        (replace(DESK, groups=frozenset({"revenue"})), []),
        (replace(DESK, kinds=frozenset({"reauth"})), ["1 channel"]),
        (replace(DESK, severity=Severity.CRITICAL), ["1 channel"]),
        (replace(DESK, platforms=frozenset({"tiktok"})), []),
        (replace(DESK, niches=frozenset({"cooking"}), accounts=frozenset({"acme"})), ["3 failed runs"]),
    ],
)
def test_a_route_is_told_of_what_belongs_to_it(
    database: StateDatabase, route: Route, subjects: list[str]
) -> None:
    shared = runs(3)
    shared = replace(shared, occurrences=(*shared.occurrences, *(
        replace(one, subject=f"beta-{one.subject}", account="beta") for one in shared.occurrences[:2]
    )))  # fmt: skip
    look(database, shared, reauth(), routing=Routing((route,), Thresholds(), ()))
    assert [m.subject.removeprefix("[ettametta] ").split(":")[0] for m in messages(database)] == subjects


def test_secrets_and_markup_from_outside_do_not_reach_a_message(database: StateDatabase) -> None:
    settings = Settings(
        _env_file=None, ETTAMETTA_SMTP_URL="smtp://desk:pass-word-77@mail.example.com", gemini_api_key="gk-secret-12345"
    )  # fmt: skip
    struck = (Occurrence("1", START, "clip\nSubject: forged ?key=abcdefgh1 gk-secret-12345", "acme"),)
    leaky = Finding(
        "failed_run", "x", Severity.ERROR, "failed run", "Authorization: Bearer abcdefghijk pass-word-77",
        "Look at https://user:hunter2@host/", struck,
    )  # fmt: skip
    note(database, ROUTING, Looked(START, (leaky,), frozenset({"failed_run"})), settings)
    (mail,) = messages(database)
    said = mail.subject + mail.body
    for secret in ("gk-secret-12345", "pass-word-77", "abcdefghijk", "hunter2", "abcdefgh1"):
        assert secret not in said
    assert "\nSubject: forged" not in mail.body
    assert "\n" not in mail.subject


def test_two_daemons_looking_at_once_tell_once(open_database) -> None:  # type: ignore[no-untyped-def]
    import threading

    databases = [open_database() for _ in range(4)]
    threads = [threading.Thread(target=look, args=(db, runs(5), reauth())) for db in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(messages(databases[0])) == 2
