"""What vendors tell of consents on their own: TikTok's `authorization.removed`.

Google sends nothing of the kind to apps like ours; there the next refresh finds out. Called when the inbox is worked
off (`webhook_effects.py`).
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.publishing.reauth import end_consent, raise_alerts
from ettametta_pipelines.state.models import OAuthConnection
from ettametta_pipelines.state.session import StateDatabase

# Reasons of TikTok's webhook reference.
REASONS = {
    1: "the person disconnected the app in TikTok",
    2: "the TikTok account was deleted",
    3: "the age of the person changed",
    4: "the TikTok account was banned",
    5: "the authorization was revoked by us",
}


def authorization_removed(db: StateDatabase, body: Mapping[str, Any]) -> str:
    """Stop the channel the message is about; returns in words what was done.

    Messages come late and twice: one from before the present consent is about an older one.
    """
    with db.session() as session:
        row = session.scalars(
            sa.select(OAuthConnection)
            .where(
                OAuthConnection.platform == "tiktok", OAuthConnection.channel_id == str(body["user_openid"])
            )
            .with_for_update()
        ).one_or_none()
        if row is None:
            return "no such channel is connected"
        if datetime.fromtimestamp(int(body["create_time"]), UTC) < row.connected_at.replace(microsecond=0):
            return "older than the present consent"
        reason = f"TikTok says: {_reason(body)}"
        end_consent(session, row, reason, actor="TikTok webhook", now=db.now(session))
    raise_alerts(db)
    return reason


def _reason(body: Mapping[str, Any]) -> str:
    try:
        content = json.loads(body.get("content") or "{}")
    except ValueError:
        content = {}
    number: Any = content.get("reason") if isinstance(content, dict) else None
    return REASONS.get(number, "the authorization was removed")
