"""What of a render node's clips was handed out, so that old ones can be removed.

Revision 0023.
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("told_at", "cleared_at"):
        op.add_column("render_jobs", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "render_fetches",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("request_key", sa.String(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["render_jobs.id"], name=op.f("fk_render_fetches_job_id_render_jobs")
        ),
        sa.PrimaryKeyConstraint("job_id", "request_key", name=op.f("pk_render_fetches")),
    )


def downgrade() -> None:
    op.drop_table("render_fetches")
    for name in ("cleared_at", "told_at"):
        op.drop_column("render_jobs", name)
