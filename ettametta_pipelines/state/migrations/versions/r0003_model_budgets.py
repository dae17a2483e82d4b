"""Budgets of models' answers: what a day has cost, and the claim behind every paid question.

Revision 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "model_spending",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("spent_microusd", sa.BigInteger(), nullable=False),
        sa.Column("reserved_microusd", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "spent_microusd >= 0 AND reserved_microusd >= 0", name=op.f("ck_model_spending_not_negative")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_spending")),
        sa.UniqueConstraint("mode", "account_id", "day", name=op.f("uq_model_spending_mode_account_id_day")),
    )
    op.create_table(
        "model_claims",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reserved_microusd", sa.BigInteger(), nullable=False),
        sa.Column("cost_microusd", sa.BigInteger(), nullable=True),
        sa.Column("reason_code", sa.String(), nullable=True),
        sa.Column("claimed_at", INSTANT, nullable=False),
        sa.Column("closed_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_claims")),
    )
    op.create_index(
        op.f("ix_model_claims_day_model_claims_state"), "model_claims", ["day", "state"], unique=False
    )


def downgrade() -> None:
    op.drop_table("model_claims")
    op.drop_table("model_spending")
