"""GPU time by clip, and the index by which posts of the last day are counted.

Revision 0022.
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0020"
branch_labels = None
depends_on = None

SETTLED = "ix_publications_state_publications_settled_at"


def upgrade() -> None:
    op.create_table(
        "gpu_clips",
        sa.Column("request_key", sa.String(), nullable=False),
        sa.Column("engine", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("gpu_ms", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("request_key", name=op.f("pk_gpu_clips")),
    )
    op.create_index(op.f("ix_gpu_clips_made_at"), "gpu_clips", ["made_at"], unique=False)
    op.create_index(op.f(SETTLED), "publications", ["state", "settled_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f(SETTLED), "publications")
    op.drop_table("gpu_clips")
