"""The connected channels in the Dagster UI: their tokens renewed, their standing shown. Thin: logic is beside."""

from typing import Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import StateResource, TikTokResource, YouTubeResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.previews import cell, markdown_table
from ettametta_pipelines.publishing.contracts import CONNECTED_CHANNELS
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.contracts import plain_rows

CONSENT_CHECK = "every_consent_stands"
RENEWED_CHECK = "every_token_renewed"


@table_asset(
    CONNECTED_CHANNELS,
    group_name="publishing",
    kinds={"youtube", "tiktok"},
    check_specs=[
        dg.AssetCheckSpec(
            CONSENT_CHECK,
            asset="connected_channels",
            description="No channel waits for its owner's consent.",
        ),
        dg.AssetCheckSpec(
            RENEWED_CHECK,
            asset="connected_channels",
            description="Every token that was due was renewed.",
        ),
    ],
)
def connected_channels(
    context: dg.AssetExecutionContext,
    state: StateResource,
    youtube: YouTubeResource,
    tiktok: TikTokResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Every connected channel: whose it is, what it may, how long its tokens live, whether consent still stands.

    Why: tokens are renewed here at 50 to 70 % of their life, so that no post meets an expired one. Channels are
    connected and disconnected on the gateway's page `/accounts`; TikTok's word that an authorization was removed takes
    effect through the sensor `webhook_inbox`.

    When it fails: the check `every_consent_stands` names channels whose consent has ended; their posts stop until they
    are connected again. `every_token_renewed` names channels whose vendor did not answer; the old tokens stay, and it
    is tried again after five minutes, then less often.
    """
    with failure_policy(context, op_retries=0):
        from ettametta_pipelines.publishing.refreshing import channel_rows, refresh_due
        from ettametta_pipelines.publishing.tokens import open_envelope

        started = utc_now()
        db = state.open()
        renewals = refresh_due(
            db, {"youtube": youtube.app(), "tiktok": tiktok.app()}, open_envelope(get_settings())
        )
        frame = CONNECTED_CHANNELS.frame(channel_rows(db, utc_now()))
        ended = frame[frame["state"] != "active"]
        return dg.MaterializeResult(
            value=frame,
            metadata={
                "preview": dg.MetadataValue.md(_overview(frame)),
                "channels": len(frame),
                "renewed": renewals.renewed,
                "consent_ended": len(ended),
                "vendor_youtube": get_settings().endpoint("google").standing,
                "vendor_tiktok": get_settings().endpoint("tiktok").standing,
                "took_s": (utc_now() - started).total_seconds(),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=CONSENT_CHECK,
                    passed=ended.empty,
                    description="; ".join(_in_words(row) for row in plain_rows(ended)) or None,
                ),
                dg.AssetCheckResult(
                    check_name=RENEWED_CHECK,
                    passed=not renewals.problems,
                    severity=dg.AssetCheckSeverity.WARN,
                    description="; ".join(renewals.problems) or None,
                ),
            ],
        )


def _in_words(row: dict[str, Any]) -> str:
    page = f"{get_settings().gateway_url}/accounts/{row['account']}/{row['platform']}"
    return f"{row['account']} on {row['platform']}: {row['reason']}. Connect it again at {page}"


def _overview(frame: pd.DataFrame) -> str:
    return markdown_table(
        ("account", "channel", "platform", "state", "token until", "last refresh", "not granted"),
        [
            [
                cell(row["account"]),
                cell(row["channel_title"]),
                cell(row["platform"]),
                cell(row["state"]),
                *(
                    cell(row[name] and f"{row[name]:%Y-%m-%d %H:%M} UTC")
                    for name in ("token_expires_at", "last_refresh_at")
                ),
                cell(row["not_granted"] or "–"),
            ]
            for row in plain_rows(frame)
        ],
    )


ASSETS = [connected_channels]
