"""Quota as an inventory: leases, buckets the vendor closed, searches made and parked, shared channel uploads.

Revision 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
SEARCH = ("niche", "day", "query", "region", "language")


def upgrade() -> None:
    with op.batch_alter_table("api_quota") as table:
        table.add_column(sa.Column("closed_at", INSTANT, nullable=True))
    op.create_table(
        "quota_leases",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("vendor", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("quota_day", sa.Date(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("unspent", sa.Integer(), nullable=False),
        sa.Column("spent", sa.Integer(), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quota_leases")),
    )
    op.create_index(op.f("ix_quota_leases_quota_day"), "quota_leases", ["quota_day"])
    op.create_table(
        "searches_made",
        sa.Column("id", sa.Integer(), nullable=False),
        *_search_columns(),
        sa.Column("quota_day", sa.Date(), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.Column("new", sa.Integer(), nullable=False),
        sa.Column("outliers", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches_made")),
    )
    op.create_index(op.f("ix_searches_made_quota_day"), "searches_made", ["quota_day"])
    op.create_table(
        "parked_searches",
        sa.Column("id", sa.Integer(), nullable=False),
        *_search_columns(),
        sa.Column("parked_on", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_parked_searches")),
        sa.UniqueConstraint(*SEARCH, name=op.f(f"uq_parked_searches_{'_'.join(SEARCH)}")),
    )
    op.create_table(
        "channel_uploads",
        sa.Column("channel_id", sa.String(), nullable=False),
        sa.Column("observed_at", INSTANT, nullable=False),
        sa.Column("uploads", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("channel_id", name=op.f("pk_channel_uploads")),
    )


def _search_columns() -> list[sa.Column[object]]:
    return [sa.Column(name, sa.Date() if name == "day" else sa.String(), nullable=False) for name in SEARCH]


def downgrade() -> None:
    for name in ("channel_uploads", "parked_searches", "searches_made", "quota_leases"):
        op.drop_table(name)
    with op.batch_alter_table("api_quota") as table:
        table.drop_column("closed_at")
