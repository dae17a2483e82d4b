"""Alerts in words, for somebody at seven in the morning: what failed, for whom, since when, how often, what to do.

Plain text of short lines, read alike in a mail, a chat and a log. Text from outside is made one harmless line, and
whatever looks like a secret, or is one of the settings', is taken out. Called by `alerting.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from ettametta_pipelines.operations.findings import Finding, Occurrence, accounts_of
from ettametta_pipelines.redaction import redact, secrets_of
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.untrusted import plain_text

LISTED = 5
DIGEST_LINES = 20
PREFIX = "[ettametta]"


@dataclass(frozen=True)
class Words:
    """One message: a subject of one line, and its text."""

    subject: str
    body: str


def told(finding: Finding, news: str, settings: Settings, now: datetime) -> Words:
    """The message about one finding; `news` is new, more, still or resolved."""
    zone, clean = settings.timezone, cleaner(settings)
    if news == "resolved":
        since = min((one.at for one in finding.occurrences), default=now)
        lines = [f"Resolved: {_headline(finding)}", f"Since: {when(since, zone)}, for {ago(now - since)}"]
        return Words(
            clean(f"{PREFIX} Resolved: {_headline(finding)}", 180),
            "\n".join(clean(line, 600) for line in lines),
        )
    open_ones = finding.open
    first, last = open_ones[0].at, open_ones[-1].at
    how_often = count(len(open_ones), finding.noun)
    if len(open_ones) > 1:
        how_often += f", the last {when(last, zone)}"
    lines = [
        f"{SAID[news]}{_headline(finding)}",
        f"For: {_whom(open_ones)}",
        f"Since: {when(first, zone)}, {ago(now - first)} ago",
        f"How often: {how_often}",
        f"Do: {finding.remedy}",
        *([f"See: {finding.link}"] if finding.link else []),
        *_listed(open_ones),
    ]
    subject = f"{PREFIX} {SAID[news]}{_counted(finding)}"
    return Words(clean(subject, 180), "\n".join(clean(line, 600) for line in lines))


SAID = {"new": "", "more": "More: ", "still": "Still: "}


def digest(told_of: Sequence[tuple[Finding, str]], settings: Settings, now: datetime) -> Words:
    """One message for many causes at once, the gravest first; every one is counted, the first twenty are named."""
    clean = cleaner(settings)
    resolved = [finding for finding, news in told_of if news == "resolved"]
    wrong = sorted(
        (finding for finding, news in told_of if news != "resolved"),
        key=lambda finding: (-finding.severity, -len(finding.open), finding.fingerprint),
    )
    lines = []
    if wrong:
        struck = sum(len(finding.open) for finding in wrong)
        lines = [
            f"{count(len(wrong), 'cause')}, {struck} times in all, since {when(_first(wrong), settings.timezone)}"
        ]
    for finding in wrong[:DIGEST_LINES]:
        lines += ["", f"{finding.severity.name}: {_counted(finding)}", f"For: {_whom(finding.open)}"]
        lines += [f"Do: {finding.remedy}", *([f"See: {finding.link}"] if finding.link else [])]
    if left := wrong[DIGEST_LINES:]:
        lines += ["", f"And {count(len(left), 'cause')} more, {sum(len(f.open) for f in left)} times in all:"]
        lines.append(f"{settings.ui_url}/assets/operations_overview")
    if resolved:
        lines += ["", f"Resolved: {'; '.join(_headline(finding) for finding in resolved[:DIGEST_LINES])}"]
    wrong_now = f"{count(len(wrong), 'thing')} wrong" if wrong else ""
    well_now = f"{len(resolved)} resolved" if resolved else ""
    gravest = f": {_headline(wrong[0])}" if wrong else ""
    subject = f"{PREFIX} {' and '.join(filter(None, (wrong_now, well_now)))}{gravest}"
    return Words(clean(subject, 180), "\n".join(clean(line, 900) for line in lines))


def cleaner(settings: Settings) -> Callable[[str, int], str]:
    """Makes text one visible line of a length, without secrets."""
    secrets = secrets_of(settings)

    def clean(text: str, limit: int) -> str:
        return plain_text(redact(text, secrets), limit)

    return clean


def count(number: int, noun: str) -> str:
    """`1 run`, `40 runs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "es" if noun.endswith(("s", "x")) else "s")


def when(instant: datetime, zone: ZoneInfo) -> str:
    """`Mon 23 Nov 02:14 (Europe/Berlin)`."""
    return f"{instant.astimezone(zone):%a %d %b %H:%M} ({zone.key})"


def ago(span: timedelta) -> str:
    """`4 h 46 min`, the two largest units."""
    minutes = max(0, int(span.total_seconds() // 60))
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _counted(finding: Finding) -> str:
    return f"{count(len(finding.open), finding.noun)}: {finding.headline}"


def _headline(finding: Finding) -> str:
    return _counted(finding) if finding.open else finding.headline


def _first(findings: Iterable[Finding]) -> datetime:
    return min(finding.open[0].at for finding in findings)


def _whom(struck: Sequence[Occurrence]) -> str:
    """Accounts, niches and platforms in a few words."""
    named = [", ".join(accounts_of(struck)[:LISTED]) or "no account in particular"]
    if more := len(accounts_of(struck)) - LISTED:
        named[0] += f" and {more} more" if more > 0 else ""
    for values in ({one.niche for one in struck}, {one.platform for one in struck}):
        if said := sorted(value for value in values if value):
            named.append(", ".join(said[:LISTED]) + ("…" if len(said) > LISTED else ""))
    return " · ".join(named)


def _listed(struck: Sequence[Occurrence]) -> list[str]:
    """The newest occurrences with their pages; what is said alike of several is said once."""
    named = [one for one in reversed(struck) if one.what or one.link]
    if not named:
        return []
    shown = [f"- {one.what or one.subject}" + (f" {one.link}" if one.link else "") for one in named[:LISTED]]
    lines = [line for line, _ in Counter(shown).items()]
    return ["", *lines, *([f"- and {len(struck) - LISTED} more"] if len(struck) > LISTED else [])]
