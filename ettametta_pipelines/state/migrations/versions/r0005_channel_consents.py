"""Channels: consents under way, the pair before the last, when a pair is renewed, the trail of acts, webhooks.

Revision 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
ADDED = (
    sa.Column("previous_access_token", sa.String(), nullable=True),
    sa.Column("previous_refresh_token", sa.String(), nullable=True),
    sa.Column("refreshed_at", INSTANT, nullable=True),
    sa.Column("refresh_due_at", INSTANT, nullable=True),
    sa.Column("refresh_failures", sa.Integer(), nullable=False, server_default="0"),
    sa.Column("reauth_reason", sa.String(), nullable=True),
    sa.Column("alerted_at", INSTANT, nullable=True),
)


def upgrade() -> None:
    with op.batch_alter_table("oauth_connections") as table:
        for column in ADDED:
            table.add_column(column.copy())
    with op.batch_alter_table("oauth_connections") as table:
        table.alter_column("refresh_failures", server_default=None, existing_type=sa.Integer())
    op.create_table(
        "connection_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("channel_id", sa.String(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_events")),
    )
    op.create_index(
        op.f("ix_connection_events_account_id_connection_events_platform"),
        "connection_events",
        ["account_id", "platform"],
        unique=False,
    )
    op.create_table(
        "oauth_consents",
        sa.Column("state_sha256", sa.String(), nullable=False),
        sa.Column("browser_sha256", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("code_verifier", sa.String(), nullable=False),
        sa.Column("redirect_uri", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("state_sha256", name=op.f("pk_oauth_consents")),
    )
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("handled_at", INSTANT, nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
        sa.UniqueConstraint("source", "event_id", name=op.f("uq_webhook_events_source_event_id")),
    )
    op.create_index(op.f("ix_webhook_events_handled_at"), "webhook_events", ["handled_at"], unique=False)


def downgrade() -> None:
    op.drop_table("webhook_events")
    op.drop_table("oauth_consents")
    op.drop_table("connection_events")
    with op.batch_alter_table("oauth_connections") as table:
        for column in ADDED:
            table.drop_column(column.name)
