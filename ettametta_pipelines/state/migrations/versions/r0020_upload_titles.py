"""Uploads know the title their sidecar states, so that a run is named by it from its first second.

Revision 0020.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("title", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("uploads", "title")
