"""Schema revisions of the state database, and the move to the newest one.

Alembic is configured here in code, so that the package needs no ini file and no URL leaves the settings. Called by
`StateDatabase.migrate` only, with a connection that holds the lock. Whoever changes `models.py` adds a file under
`versions` (the last one shows how) and raises HEAD.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ettametta_pipelines.failures import PermanentError

if TYPE_CHECKING:
    from alembic.config import Config

# Known without importing Alembic, which costs every process that opens the state a third of a second.
HEAD = "0023"
VERSION_TABLE = "alembic_version"


def config(connection: sa.Connection) -> "Config":
    """Alembic's configuration for one open connection, whose transaction Alembic then works in."""
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    settings.attributes["connection"] = connection
    return settings


def upgrade(connection: sa.Connection) -> None:
    """Apply every revision the database lacks, within the connection's transaction.

    Raises PermanentError `state_newer_than_code` when the database is at a revision this version does not know.
    """
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(config(connection), "head")
    except CommandError as error:
        raise PermanentError(
            f"The state database cannot be brought to revision {HEAD}: {error}.",
            code="state_newer_than_code",
            remedy="Run the newest version of ettametta_pipelines this database was used with.",
        ) from error
