"""One message for many causes: the gravest first, all counted, and what is well again."""

from datetime import UTC, datetime, timedelta

import pytest

from ettametta_pipelines.operations.alert_routes import Severity, unreachable
from ettametta_pipelines.operations.alert_words import DIGEST_LINES, digest
from ettametta_pipelines.operations.findings import Finding, Occurrence
from ettametta_pipelines.settings import Settings

NOW = datetime(2026, 11, 23, 7, tzinfo=UTC)
SETTINGS = Settings(_env_file=None)


def finding(
    headline: str, severity: Severity = Severity.ERROR, *struck: str, link: str = "", niche: str | None = None
) -> Finding:
    """Struck once an account of `struck`; well again where there is none."""
    occurrences = tuple(
        Occurrence(account, NOW - timedelta(hours=1 + n), account=account, niche=niche)
        for n, account in enumerate(struck)
    )
    return Finding(
        "failed_run", headline, severity, "run", headline, f"Mend {headline}.", occurrences, link=link
    )


def test_the_gravest_cause_leads_and_what_is_well_again_ends_the_message() -> None:
    told = [
        (finding("disk full", Severity.WARNING, "acme"), "new"),
        (
            finding("key refused", Severity.CRITICAL, "acme", "beta", link="http://ui/runs", niche="travel"),
            "still",
        ),
        (finding("bucket away"), "resolved"),
    ]
    words = digest(told, SETTINGS, NOW)
    assert words.subject == "[ettametta] 2 things wrong and 1 resolved: 2 runs: key refused"
    lines = words.body.splitlines()
    assert lines[0].startswith("2 causes, 3 times in all, since Mon 23 Nov 05:00")
    assert lines.index("CRITICAL: 2 runs: key refused") < lines.index("WARNING: 1 run: disk full")
    assert "For: acme, beta · travel" in lines
    assert "See: http://ui/runs" in lines
    assert lines[-1] == "Resolved: bucket away"


def test_where_all_is_well_again_nothing_is_called_wrong() -> None:
    words = digest([(finding("bucket away"), "resolved")], SETTINGS, NOW)
    assert words.subject == "[ettametta] 1 resolved"
    assert "cause" not in words.body
    assert "Resolved: bucket away" in words.body


def test_of_very_many_causes_and_accounts_the_first_are_named_and_the_rest_counted() -> None:
    accounts = [f"account{n:02}" for n in range(30)]
    told = [(finding(f"cause {n:02}", Severity.ERROR, *accounts), "new") for n in range(DIGEST_LINES + 4)]
    text = digest(told, SETTINGS, NOW).body
    assert "cause 00" in text
    assert f"cause {DIGEST_LINES:02}" not in text
    assert "And 4 causes more, 120 times in all:" in text
    assert " more" in next(line for line in text.splitlines() if line.startswith("For: "))


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("log", ""),
        ("webhook:ops", "ETTAMETTA_ALERT_WEBHOOKS names no ops"),
        ("the team", "'the team' is neither an e-mail address nor webhook:NAME"),
        ("ops@example.com", "ops@example.com needs ETTAMETTA_SMTP_URL"),
    ],
)
def test_a_target_that_nothing_reaches_says_what_is_missing(target: str, why: str) -> None:
    assert unreachable(SETTINGS, target) == why
