"""Uploads: the captions they came with, whether their run was seen; source videos that were archived.

Revision 0016.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
OPEN = sa.text("settled_at IS NULL AND status = 'accepted'")


def upgrade() -> None:
    for name in ("captions_key", "captions_etag", "captions_sha256"):
        op.add_column("uploads", sa.Column(name, sa.String(), nullable=True))
    op.add_column("uploads", sa.Column("settled_at", INSTANT, nullable=True))
    # Older ones had every tick since to get their run; whose run was deleted since must not run again.
    uploads = sa.table("uploads", sa.column("settled_at", INSTANT), sa.column("seen_at", INSTANT))
    op.execute(
        sa.update(uploads)
        .where(uploads.c.seen_at < datetime.now(UTC) - timedelta(days=1))
        .values(settled_at=uploads.c.seen_at)
    )
    op.create_index(op.f("ix_uploads_account_id"), "uploads", ["account_id"], unique=False)
    op.create_index(op.f("ix_uploads_captions_key"), "uploads", ["captions_key"], unique=False)
    op.create_index(
        "ix_uploads_open", "uploads", ["seen_at"], unique=False, sqlite_where=OPEN, postgresql_where=OPEN
    )
    op.create_table(
        "archived_sources",
        sa.Column("source_id", sa.String(), nullable=False),
        sa.Column("archived_at", INSTANT, nullable=False),
        sa.Column("restored_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_archived_sources")),
    )


def downgrade() -> None:
    op.drop_table("archived_sources")
    for name in ("ix_uploads_open", "ix_uploads_captions_key", "ix_uploads_account_id"):
        op.drop_index(name, table_name="uploads")
    for name in ("settled_at", "captions_sha256", "captions_etag", "captions_key"):
        op.drop_column("uploads", name)
