"""What channels usually reach, shared by niches and days: their recent uploads as seen at one time.

Rows are kept and handed out here; which are fresh enough and what they mean is discovery's business.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.state.models import ChannelUploads
from ettametta_pipelines.state.session import insert_if_absent

# YouTube's terms allow thirty for other people's statistics; runs come once a day.
KEPT_DAYS = 29
# SQLite takes no more parameters in one statement on older builds.
_IDS_PER_QUERY = 500


def uploads_since(
    session: Session, channel_ids: Collection[str], since: datetime
) -> dict[str, tuple[datetime, list[Any]]]:
    """Channel -> (observed at, uploads) of those seen at `since` or later."""
    ids = sorted(channel_ids)
    found: dict[str, tuple[datetime, list[Any]]] = {}
    for start in range(0, len(ids), _IDS_PER_QUERY):
        rows = session.scalars(
            sa.select(ChannelUploads).where(
                ChannelUploads.channel_id.in_(ids[start : start + _IDS_PER_QUERY]),
                ChannelUploads.observed_at >= since,
            )
        )
        found |= {row.channel_id: (row.observed_at, row.uploads) for row in rows}
    return found


def forget_uploads(session: Session, before: datetime) -> None:
    """Drop what was seen earlier: these are other people's statistics."""
    session.execute(sa.delete(ChannelUploads).where(ChannelUploads.observed_at < before))


def remember_uploads(session: Session, uploads: Mapping[str, list[Any]], observed_at: datetime) -> None:
    """Keep these in place of what was known, and drop what is older than 29 days."""
    forget_uploads(session, observed_at - timedelta(days=KEPT_DAYS))
    # In one order, so that two runs cannot wait for each other.
    for channel_id in sorted(uploads):
        row = {"channel_id": channel_id, "observed_at": observed_at, "uploads": uploads[channel_id]}
        if not insert_if_absent(session, ChannelUploads, row):
            session.execute(
                sa.update(ChannelUploads).where(ChannelUploads.channel_id == channel_id).values(row)
            )
