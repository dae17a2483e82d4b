"""The routes of alerts tried and shown: for `ettametta alert-test` and `ettametta doctor`."""

from dataclasses import dataclass
from datetime import timedelta

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import NeedsPersonError, PipelineError
from ettametta_pipelines.operations import outbox
from ettametta_pipelines.operations.alert_routes import load_routing
from ettametta_pipelines.operations.alert_words import PREFIX
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import AlertMessage
from ettametta_pipelines.state.session import open_state


@dataclass(frozen=True)
class Tried:
    """One target of one route; `problem` is empty when it took the message."""

    route: str
    target: str
    problem: str


def send_test(settings: Settings, only: str | None = None) -> list[Tried]:
    """A test message to every target of every route, or of one, at once and past the outbox.

    Raises AlertsFileError, ChannelsFileError, and NeedsPersonError `unknown_alert_route`.
    """
    routing, senders, now = load_routing(settings), outbox.open_senders(settings), utc_now()
    chosen = [route for route in routing.routes if only in (None, route.name)]
    if not chosen:
        raise NeedsPersonError(
            f"No route is called {only!r}.",
            code="unknown_alert_route",
            remedy=f"There are {', '.join(route.name for route in routing.routes)}.",
        )
    tried = []
    for number, (route, target) in enumerate((r, t) for r in chosen for t in r.targets):
        message = AlertMessage(
            id=number, route=route.name, target=target, severity="WARNING", created_at=now,
            subject=f"{PREFIX} Test: nothing is wrong",
            body=f"Test of the route {route.in_words()}\nAlerts that reach you look like this.\nSee: {settings.ui_url}",
        )  # fmt: skip
        try:
            senders[outbox.transport_of(target)](message)
        except PipelineError as error:
            tried.append(Tried(route.name, target, str(error)))
        else:
            tried.append(Tried(route.name, target, ""))
    return tried


def describe(settings: Settings) -> str:
    """Every route in words, and that the mail server answers. Raises PipelineError for what does not work."""
    routing = load_routing(settings)
    if routing.problems:
        raise NeedsPersonError(
            f"{'; '.join(routing.problems)}.",
            code="alert_target_unreachable",
            remedy="Correct the alerts file, the channels file or the variable; docs/alerts.md has all of them.",
        )
    said = [route.in_words() for route in routing.routes]
    if len(said) == 1:
        said.append("nobody else is told: set ETTAMETTA_ALERT_TO or ETTAMETTA_ALERT_WEBHOOKS")
    if server := outbox.mail_server(settings):
        said.append(server.check())
    if lost := outbox.parked(open_state(settings), utc_now() - timedelta(days=7)):
        said.append(
            f"{len(lost)} messages of the last 7 days could not be delivered, the last: {lost[-1].error}"
        )
    return "; ".join(said)
