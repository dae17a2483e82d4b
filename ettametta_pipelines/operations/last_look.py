"""When somebody last looked for what is wrong: what an outside watch is told, since a daemon that is gone tells nobody.

Every look of the sensor `alerts` fills the routes' budgets of messages, and so leaves its time. Called by the gateway,
which still answers when the daemon, or the process with the definitions, does not.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from ettametta_pipelines.state.models import AlertBudget
from ettametta_pipelines.state.session import StateDatabase

# A look a minute is due; a daemon that is restarted, or a long tick of others, takes a few.
SILENT_AFTER = timedelta(minutes=10)


def last_look(db: StateDatabase) -> datetime | None:
    """None before the first one."""
    with db.session(write=False) as session:
        return session.scalar(sa.select(sa.func.max(AlertBudget.filled_at)))


def is_silent(looked: datetime | None, now: datetime) -> bool:
    """Whether looks that were made have ended; one that never began is nobody's failure yet."""
    return looked is not None and now - looked > SILENT_AFTER
