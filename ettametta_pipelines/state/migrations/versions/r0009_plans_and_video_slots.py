"""Plans: what each account is entitled to, its video periods, and the slots its videos hold.

Revision 0009.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "entitlements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=True),
        sa.Column("subscription_id", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("tier", sa.String(), nullable=True),
        sa.Column("tier_until", INSTANT, nullable=True),
        sa.Column("next_tier", sa.String(), nullable=True),
        sa.Column("awaiting_tier", sa.String(), nullable=True),
        sa.Column("cancel_at_period_end", sa.Boolean(), nullable=False),
        sa.Column("period_start", INSTANT, nullable=True),
        sa.Column("period_end", INSTANT, nullable=True),
        sa.Column("grace_until", INSTANT, nullable=True),
        sa.Column("hold_reason", sa.String(), nullable=True),
        sa.Column("hold_until", INSTANT, nullable=True),
        sa.Column("problem", sa.String(), nullable=True),
        sa.Column("anchor_at", INSTANT, nullable=False),
        sa.Column("reads", sa.Integer(), nullable=False),
        sa.Column("applied_read", sa.Integer(), nullable=False),
        sa.Column("read_at", INSTANT, nullable=True),
        sa.Column("read_because", sa.String(), nullable=True),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entitlements")),
        sa.UniqueConstraint("mode", "account_id", name=op.f("uq_entitlements_mode_account_id")),
        sa.UniqueConstraint("mode", "customer_id", name=op.f("uq_entitlements_mode_customer_id")),
    )
    op.create_table(
        "video_periods",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("starts_at", INSTANT, nullable=False),
        sa.Column("ends_at", INSTANT, nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("reserved", sa.Integer(), nullable=False),
        sa.Column("released", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "used >= 0 AND reserved >= 0 AND released >= 0", name=op.f("ck_video_periods_not_negative")
        ),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_video_periods_has_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_video_periods")),
        sa.UniqueConstraint(
            "mode", "account_id", "starts_at", name=op.f("uq_video_periods_mode_account_id_starts_at")
        ),
    )
    op.create_table(
        "video_slots",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("period_id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("lease_until", INSTANT, nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("reserved_at", INSTANT, nullable=False),
        sa.Column("settled_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["period_id"], ["video_periods.id"], name=op.f("fk_video_slots_period_id_video_periods")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_video_slots")),
        sa.UniqueConstraint("period_id", "source_id", name=op.f("uq_video_slots_period_id_source_id")),
    )
    op.create_index(op.f("ix_video_slots_source_id"), "video_slots", ["source_id"], unique=False)
    op.create_index(
        op.f("ix_video_slots_state_video_slots_lease_until"),
        "video_slots",
        ["state", "lease_until"],
        unique=False,
    )


def downgrade() -> None:
    op.drop_table("video_slots")
    op.drop_table("video_periods")
    op.drop_table("entitlements")
