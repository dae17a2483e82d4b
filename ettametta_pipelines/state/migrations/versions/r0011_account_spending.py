"""What an account spends in a month on all paid work, and whose cost each paid call is.

Revision 0011. Months are counted from the claims that are there.
"""

from collections import defaultdict
from datetime import date

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

CLAIMS = sa.table(
    "model_claims",
    sa.column("mode", sa.String),
    sa.column("account_id", sa.String),
    sa.column("day", sa.Date),
    sa.column("state", sa.String),
    sa.column("reserved_microusd", sa.BigInteger),
    sa.column("cost_microusd", sa.BigInteger),
)


def upgrade() -> None:
    with op.batch_alter_table("model_claims") as table:
        table.add_column(sa.Column("niche", sa.String(), nullable=True))
        table.add_column(sa.Column("source_id", sa.String(), nullable=True))
    spending = op.create_table(
        "account_spending",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("spent_microusd", sa.BigInteger(), nullable=False),
        sa.Column("reserved_microusd", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "spent_microusd >= 0 AND reserved_microusd >= 0", name=op.f("ck_account_spending_not_negative")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_spending")),
        sa.UniqueConstraint(
            "mode", "account_id", "month", name=op.f("uq_account_spending_mode_account_id_month")
        ),
    )
    sums: dict[tuple[str, str, date], list[int]] = defaultdict(lambda: [0, 0])
    for claim in op.get_bind().execute(sa.select(CLAIMS)):
        counted = sums[claim.mode, claim.account_id, claim.day.replace(day=1)]
        counted[0] += claim.cost_microusd or 0
        counted[1] += claim.reserved_microusd if claim.state == "reserved" else 0
    rows = [
        {
            "mode": mode,
            "account_id": account,
            "month": month,
            "spent_microusd": spent,
            "reserved_microusd": held,
        }
        for (mode, account, month), (spent, held) in sums.items()
    ]
    if rows:
        op.bulk_insert(spending, rows)


def downgrade() -> None:
    op.drop_table("account_spending")
    with op.batch_alter_table("model_claims") as table:
        table.drop_column("source_id")
        table.drop_column("niche")
