"""Who is told of what: the operator's alerts file, and the people the channels file names.

Light (pydantic and yaml only) and read anew at every look, so that an edit holds without a restart. A target is an
e-mail address, `webhook:NAME` for an address in ETTAMETTA_ALERT_WEBHOOKS, or `log`; none of them is a secret.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing.policy import load_channels
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.vendors.http import is_loopback

if TYPE_CHECKING:
    from ettametta_pipelines.operations.findings import Finding, Occurrence

DEFAULT_ALERTS_FILE = Path(__file__).with_name("alerts.yaml")
LOG = "log"
WEBHOOK = "webhook:"
EVERYBODY = "operators"
ADDRESS = re.compile(r"[^@\s<>,;:\"]{1,64}@[A-Za-z0-9.-]{1,250}")
NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"


class AlertsFileError(PermanentError):
    """The alerts file, or a variable it rests on, has a value that cannot be used."""


class Severity(IntEnum):
    """How urgent: a warning can wait for the day, an error cost work, critical stops posts or books."""

    WARNING = 1
    ERROR = 2
    CRITICAL = 3


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Thresholds(_Rules):
    """From what on something is worth a message."""

    failed_runs: int = Field(default=1, ge=1, le=1000)
    failed_checks: int = Field(default=1, ge=1, le=1000)
    queued_minutes: int = Field(default=45, ge=1, le=10_000)
    queued_backfill_hours: int = Field(default=12, ge=1, le=1000)
    starting_minutes: int = Field(default=10, ge=1, le=10_000)
    running_factor: float = Field(default=3.0, gt=1, le=100)
    running_minutes: int = Field(default=20, ge=1, le=10_000)
    spend_percent: int = Field(default=80, ge=1, le=100)
    quota_percent: int = Field(default=90, ge=1, le=100)


class Pace(_Rules):
    """How often one route is told."""

    again_minutes: int = Field(default=60, ge=5, le=10_080)
    remind_hours: int = Field(default=12, ge=1, le=720)
    messages_per_hour: int = Field(default=6, ge=1, le=500)
    digest_from: int = Field(default=4, ge=2, le=100)


Words = tuple[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)], ...]


class RouteRule(_Rules):
    """One entry of `routes`. An empty list takes everything."""

    to: Words = Field(min_length=1, max_length=50)
    severity: Literal["warning", "error", "critical"] = "warning"
    accounts: Words = ()
    niches: Words = ()
    platforms: Words = ()
    groups: Words = ()
    kinds: Words = ()
    again_minutes: int | None = Field(default=None, ge=5, le=10_080)
    remind_hours: int | None = Field(default=None, ge=1, le=720)
    messages_per_hour: int | None = Field(default=None, ge=1, le=500)


class AlertsFile(_Rules):
    thresholds: Thresholds = Thresholds()
    pace: Pace = Pace()
    routes: dict[Annotated[str, StringConstraints(pattern=NAME)], RouteRule] = {}


@dataclass(frozen=True)
class Route:
    """Whom, of what, how often. Empty filters take everything; a filter takes only what names a value in it."""

    name: str
    targets: tuple[str, ...]
    pace: Pace
    severity: Severity = Severity.WARNING
    accounts: frozenset[str] = frozenset()
    niches: frozenset[str] = frozenset()
    platforms: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()

    def view(self, finding: "Finding") -> "Finding | None":
        """The part of a finding this route is told of; None when it is nothing to it."""
        if finding.severity < self.severity:
            return None
        of = ((self.kinds, finding.kind), (self.groups, finding.group))
        if any(wanted and value not in wanted for wanted, value in of):
            return None
        part = finding.only(self._belongs)
        return part if part.occurrences else None

    def _belongs(self, one: "Occurrence") -> bool:
        asked = ((self.accounts, one.account), (self.niches, one.niche), (self.platforms, one.platform))
        return all(not wanted or value in wanted for wanted, value in asked)

    @property
    def again(self) -> timedelta:
        return timedelta(minutes=self.pace.again_minutes)

    @property
    def remind(self) -> timedelta:
        return timedelta(hours=self.pace.remind_hours)

    def in_words(self) -> str:
        """What the route takes, for `ettametta doctor` and the docs."""
        named = ("accounts", "niches", "platforms", "groups", "kinds")
        only = [f"{name} {', '.join(sorted(values))}" for name in named if (values := getattr(self, name))]
        if self.severity > Severity.WARNING:
            only.append(f"{self.severity.name.lower()} and above")
        return f"{self.name} → {', '.join(self.targets)}" + (f" ({'; '.join(only)})" if only else "")


@dataclass(frozen=True)
class Routing:
    """Everything the files and settings say; `problems` are names nobody can be reached by, in words."""

    routes: tuple[Route, ...]
    thresholds: Thresholds
    problems: tuple[str, ...]


def load_routing(settings: Settings) -> Routing:
    """Routes of the alerts file, or one to everybody the settings name; the channels' people; and always the log.

    Raises AlertsFileError, and ChannelsFileError for the channels file.
    """
    rules = read_rules(settings.alerts_file)
    routes = [_route(name, rule, rules.pace) for name, rule in rules.routes.items()]
    routes = routes or _everybody(settings, rules.pace)
    channels, nobody = _channel_routes(settings, routes, rules.pace)
    reachable = [*routes, *channels]
    problems = [
        f"route {route.name}: {problem}"
        for route in reachable
        for target in route.targets
        if (problem := unreachable(settings, target))
    ]
    return Routing((_log(rules.pace), *reachable), rules.thresholds, (*problems, *nobody))


def plain_routing(settings: Settings) -> Routing:
    """Routing without the files: the log, and whom the settings name. Raises AlertsFileError for the webhooks only."""
    return Routing((_log(Pace()), *_everybody(settings, Pace())), Thresholds(), ())


def _log(pace: Pace) -> Route:
    """The log holds nobody up: it is told everything, at a pace of its own."""
    return Route(LOG, (LOG,), pace.model_copy(update={"messages_per_hour": 60}))


def _everybody(settings: Settings, pace: Pace) -> list[Route]:
    """One route to everybody the settings name; none when they name nobody."""
    named = tuple(_split(settings.alert_to)) + tuple(WEBHOOK + name for name in webhooks(settings))
    return [Route(EVERYBODY, named, pace)] if named else []


def read_rules(path: Path | None) -> AlertsFile:
    """The alerts file, or the packaged one, which names no route. Raises AlertsFileError naming each bad field."""
    file = path or DEFAULT_ALERTS_FILE
    try:
        return AlertsFile(**(yaml.safe_load(file.read_text(encoding="utf-8")) or {}))
    except FileNotFoundError as error:
        raise _bad_file(file, "the file does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_file(file, f"the file cannot be read ({type(error).__name__})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _bad_file(file, f"line {line}: not valid YAML ({error.problem})") from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_url=False, include_context=False)
        ]
        raise _bad_file(file, "; ".join(problems)) from error
    except (TypeError, yaml.YAMLError) as error:
        raise _bad_file(file, "the top level must be a mapping of thresholds, pace and routes") from error


def webhooks(settings: Settings) -> Mapping[str, str]:
    """Name -> secret address of every webhook. Raises AlertsFileError `bad_alert_webhook`, never with the address."""
    named: dict[str, str] = {}
    for part in _split(settings.alert_webhooks.get_secret_value()):
        name, _, url = (piece.strip() for piece in part.partition("="))
        host = urlsplit(url).hostname
        secure = url.startswith("https://") or (url.startswith("http://") and is_loopback(url))
        if not re.fullmatch(NAME, name) or not host or not secure:
            raise AlertsFileError(
                f"ETTAMETTA_ALERT_WEBHOOKS: its entry {len(named) + 1} is not NAME=https://address.",
                code="bad_alert_webhook",
                remedy="Write it as ops=https://hooks.slack.com/services/..., with commas between several.",
            )
        named[name] = url
    return named


def unreachable(settings: Settings, target: str) -> str:
    """Why a target cannot be reached by what is configured; empty when it can."""
    if target == LOG:
        return ""
    if target.startswith(WEBHOOK):
        name = target.removeprefix(WEBHOOK)
        return "" if name in webhooks(settings) else f"ETTAMETTA_ALERT_WEBHOOKS names no {name}"
    if not ADDRESS.fullmatch(target):
        return f"{target!r} is neither an e-mail address nor webhook:NAME"
    return "" if settings.smtp_url.get_secret_value() else f"{target} needs ETTAMETTA_SMTP_URL"


def _route(name: str, rule: RouteRule, pace: Pace) -> Route:
    own = {
        field: value
        for field in ("again_minutes", "remind_hours", "messages_per_hour")
        if (value := getattr(rule, field)) is not None
    }
    return Route(
        name, rule.to, pace.model_copy(update=own), Severity[rule.severity.upper()], frozenset(rule.accounts),
        frozenset(rule.niches), frozenset(rule.platforms), frozenset(rule.groups), frozenset(rule.kinds),
    )  # fmt: skip


def _channel_routes(settings: Settings, others: list[Route], pace: Pace) -> tuple[list[Route], list[str]]:
    """A route to the people of each channel, less those another route tells of it anyway; and names without address."""
    routes, nobody = [], []
    for (account, platform), policy in load_channels(settings.channels_file).channels.items():
        own = Route(
            f"channel:{account}/{platform}",
            (),
            pace,
            accounts=frozenset({account}),
            platforms=frozenset({platform}),
        )
        told = {
            target for route in others if _tells_all(route, account, platform) for target in route.targets
        }
        named = [who for who in policy.tell if ADDRESS.fullmatch(who) or who.startswith(WEBHOOK)]
        nobody += [
            f"{own.name}: {who!r} is told by nobody, since it is no e-mail address"
            for who in policy.tell
            if who not in named
        ]
        if targets := tuple(who for who in named if who not in told):
            routes.append(replace(own, targets=targets))
    return routes, nobody


def _tells_all(route: Route, account: str, platform: str) -> bool:
    return (
        route.severity is Severity.WARNING
        and not (route.niches or route.groups or route.kinds)
        and (not route.accounts or account in route.accounts)
        and (not route.platforms or platform in route.platforms)
    )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _bad_file(file: Path, problem: str) -> AlertsFileError:
    return AlertsFileError(
        f"Alerts file {file}: {problem}.",
        code="bad_alerts_file",
        remedy=f"Correct {file.name}; docs/alerts.md shows every key. Until then everybody is told by the log alone.",
    )
