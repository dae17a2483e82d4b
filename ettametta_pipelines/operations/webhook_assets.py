"""The webhooks in the Dagster UI: what vendors told, what never arrived and was fetched, what waits for a person."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dagster as dg

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.operations.contracts import WEBHOOK_MESSAGES
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import StateResource, StripeResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.previews import cell, markdown_table
from ettametta_pipelines.settings import Settings, get_settings

SHOWN_DAYS = 30
CHECKS = {
    "nothing_is_parked": "Every message could be applied.",
    "events_arrive": "No event of Stripe's had to be fetched because it never arrived.",
    "store_tells_us": "Shopify has all of our subscriptions.",
}


@table_asset(
    WEBHOOK_MESSAGES,
    group_name="operations",
    kinds={"stripe", "shopify", "python"},
    check_specs=[
        dg.AssetCheckSpec(name, asset="webhook_messages", description=means) for name, means in CHECKS.items()
    ],
    description="""
What Stripe, Shopify, TikTok and the render node told, by kind of message; kinds without an effect are counted only. The
sensor `webhook_inbox` applies messages every 15 seconds. Every run of this first asks Stripe for the events of the last
29 days and puts those that never arrived into the inbox (*recovered*), and makes Shopify subscriptions again that
Shopify deleted, as it does when our endpoint was down for four hours (*subscribed_again*).

**If it fails:** the state database did not answer; messages wait at the vendors meanwhile. A vendor that does not
answer only fails its check. Messages under *parked* failed too often: mend what their problem says, then let them be
tried again with `ettametta retry-webhooks`.
""",
)
def webhook_messages(
    context: dg.AssetExecutionContext, state: StateResource, stripe: StripeResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.billing.hearing import catch_up
    from ettametta_pipelines.state import inbox
    from ettametta_pipelines.webhook_effects import effect_of

    settings, now = get_settings(), utc_now()
    with failure_policy(context):
        db = state.open()
        heard = {source for source in ("stripe", "shopify") if inbox.newest_arrival(db, source)}
        recovered, no_events = _tried(lambda: catch_up(db, stripe.billing(), now), 0)
        again, no_store = _tried(lambda: _subscribe_again(settings), [])
        found = inbox.overview(db, now - timedelta(days=SHOWN_DAYS))
        parked = inbox.parked(db)
    # A sandbox tells nothing by itself, and before the first message there was nobody to miss one.
    if recovered and "stripe" in heard and settings.endpoint("stripe").mode == "live":
        no_events = f"{recovered} events had not arrived and were fetched; look at the endpoint in Stripe's dashboard."
    if again and "shopify" in heard:
        no_store = (
            f"Shopify had deleted the subscriptions to {', '.join(again)}: our endpoint was down for hours."
        )
    total = sum(kind.parked for kind in found)
    problems = {
        "nothing_is_parked": f"{total} messages are parked." if total else "",
        "events_arrive": no_events,
        "store_tells_us": no_store,
    }
    rows = [
        vars(kind) | {"has_effect": effect_of(kind.source, kind.kind) is not None, "observed_at": now}
        for kind in found
    ]
    return dg.MaterializeResult(
        value=WEBHOOK_MESSAGES.frame(rows),
        metadata={
            "received": sum(kind.received for kind in found),
            "waiting": sum(kind.waiting for kind in found),
            "recovered": recovered,
            "subscribed_again": ", ".join(again) or "none",
            "parked": dg.MetadataValue.md(_parked_table(parked)),
            "kinds": dg.MetadataValue.md(_kinds_table(rows)),
            "endpoint": f"{settings.gateway_url}/webhooks/",
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=name,
                passed=not problem,
                severity=dg.AssetCheckSeverity.WARN,
                description=problem or None,
            )
            for name, problem in problems.items()
        ],
    )


def _tried(act: Callable[[], Any], otherwise: Any) -> tuple[Any, str]:
    """What an act came to, or why it could not be done: one vendor that is away must not hide the rest."""
    try:
        return act(), ""
    except PipelineError as error:
        return otherwise, str(error)


def _subscribe_again(settings: Settings) -> list[str]:
    """Topics that had to be subscribed to. Nothing is asked of a live store before its messages can be read here."""
    from ettametta_pipelines.vendors.shopify_webhooks import ShopifyWebhooks, subscribe_missing

    endpoint = settings.endpoint("shopify")
    if endpoint.mode == "live" and not (settings.shopify_client_secret and settings.production_domain):
        return []
    return subscribe_missing(ShopifyWebhooks(endpoint), f"{settings.gateway_url}/webhooks/shopify")


def _parked_table(parked: list[Any]) -> str:
    lines = [
        [
            cell(event.source), cell(event.kind), cell(event.event_id), f"{event.received_at:%Y-%m-%d %H:%M}",
            str(event.attempts), cell(event.problem, limit=300),
        ]
        for event in parked
    ]  # fmt: skip
    return markdown_table(["Source", "Kind", "Message", "Came", "Tries", "Problem"], lines)


def _kinds_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        [
            cell(row["source"]), cell(row["kind"]), "yes" if row["has_effect"] else "–", f"{row['received']:,}",
            str(row["waiting"]), str(row["parked"]), f"{row['newest_at']:%Y-%m-%d %H:%M}",
        ]
        for row in rows
    ]  # fmt: skip
    return markdown_table(["Source", "Kind", "Has an effect", "Messages", "Wait", "Parked", "Newest"], lines)


WEBHOOK_ASSETS = [webhook_messages]
