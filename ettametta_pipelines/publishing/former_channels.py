"""A video's post on a channel its account is no longer connected to, before one is made on the channel it has now.

The ledger's key is the channel, so that to the ledger a new channel has no post of anything. Without this, whatever
runs a publication again after somebody connected another channel (the follow-up, a backfill) would post there what
nobody approved for it. Called by `delivery.deliver` alone.
"""

import sqlalchemy as sa

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.publishing.ledger import BEFORE_THE_LAST_BYTE, Intent, Ledger, State
from ettametta_pipelines.publishing.witness import testimony_of
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore

CHANNEL_REPLACED = "channel_replaced"


def leave_former_channels(db: StateDatabase, store: ObjectStore, ledger: Ledger, intent: Intent) -> None:
    """Settle what never left for a former channel; raise NeedsPersonError `posted_on_another_channel` for the rest.

    Raises PublicationBusy while a worker is at it. Nothing to do for an account that has always had its channel.
    """
    for row in _elsewhere(db, intent):
        if row.state not in BEFORE_THE_LAST_BYTE or testimony_of(store, row) is not None:
            raise _posted_there(row, intent)
        with ledger.claimed(row.id) as claim:
            ledger.advance(
                claim,
                State.FAILED_DEFINITE,
                reason=CHANNEL_REPLACED,
                detail={"now_on": intent.channel_id},
                error_code=CHANNEL_REPLACED,
                error_message="The account was connected to another channel before anything was posted on this one.",
            )


def _elsewhere(db: StateDatabase, intent: Intent) -> list[Publication]:
    with db.session(write=False) as session:
        return list(
            session.scalars(
                sa.select(Publication).where(
                    Publication.platform == intent.platform,
                    Publication.account_id == intent.account,
                    Publication.content_id == intent.content_id,
                    Publication.intent_no == intent.intent_no,
                    Publication.channel_id != intent.channel_id,
                    Publication.state != State.FAILED_DEFINITE,
                )
            )
        )


def _posted_there(row: Publication, intent: Intent) -> NeedsPersonError:
    return NeedsPersonError(
        f"{row.content_id} went to the channel {row.channel_id} on {row.platform} ({row.state}), which "
        f"{row.account_id} is no longer connected to.",
        code="posted_on_another_channel",
        remedy=f"If it shall be posted on the channel connected now as well, order it with `intent_no: "
        f"{intent.intent_no + 1}`. If that one was connected by mistake, connect the former channel again.",
    )
