"""How often a vendor's message was tried, when it is tried next, and why it was set aside.

Revision 0010.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("webhook_events", sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("webhook_events", sa.Column("due_at", INSTANT, nullable=True))
    op.add_column("webhook_events", sa.Column("parked_at", INSTANT, nullable=True))
    op.add_column("webhook_events", sa.Column("problem", sa.String(), nullable=True))


def downgrade() -> None:
    for name in ("problem", "parked_at", "due_at", "attempts"):
        op.drop_column("webhook_events", name)
