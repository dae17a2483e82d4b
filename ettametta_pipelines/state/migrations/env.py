"""Alembic's entry point: runs the revisions on the connection that `migrations.config` was given."""

from alembic import context

from ettametta_pipelines.state.migrations import VERSION_TABLE
from ettametta_pipelines.state.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    # SQLite changes columns by copying the table.
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
