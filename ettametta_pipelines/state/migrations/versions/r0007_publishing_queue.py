"""The publishing queue: people's decisions on posts, posting times taken, and variants assigned.

Revision 0007.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def _post_columns() -> list[sa.Column[object]]:
    """What names one post in each of these tables."""
    return [
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("content_id", sa.String(), nullable=False),
        sa.Column("intent_no", sa.Integer(), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "publication_decisions",
        *_post_columns(),
        sa.Column("decision", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("content_hash", sa.String(), nullable=False),
        sa.Column("post", sa.JSON(), nullable=False),
        sa.Column("wishes", sa.JSON(), nullable=False),
        sa.Column("arms", sa.JSON(), nullable=False),
        sa.Column("not_before", INSTANT, nullable=True),
        sa.Column("comment", sa.String(), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("decided_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publication_decisions")),
    )
    op.create_index(
        op.f("ix_publication_decisions_content_id_publication_decisions_platform"),
        "publication_decisions",
        ["content_id", "platform"],
    )
    op.create_table(
        "publication_slots",
        *_post_columns(),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("slot_at", INSTANT, nullable=False),
        sa.Column("run_key", sa.String(), nullable=False),
        sa.Column("taken_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publication_slots")),
        sa.UniqueConstraint(
            "platform", "account_id", "slot_at", name=op.f("uq_publication_slots_platform_account_id_slot_at")
        ),
        sa.UniqueConstraint(
            "platform",
            "account_id",
            "content_id",
            "intent_no",
            "attempt",
            name=op.f("uq_publication_slots_platform_account_id_content_id_intent_no_attempt"),
        ),
    )
    op.create_index(op.f("ix_publication_slots_taken_at"), "publication_slots", ["taken_at"])
    op.create_table(
        "publication_variants",
        *_post_columns(),
        sa.Column("experiment", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("shares", sa.JSON(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("assigned_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publication_variants")),
        sa.UniqueConstraint(
            "platform",
            "account_id",
            "content_id",
            "intent_no",
            "experiment",
            name=op.f("uq_publication_variants_platform_account_id_content_id_intent_no_experiment"),
        ),
    )


def downgrade() -> None:
    op.drop_table("publication_variants")
    op.drop_table("publication_slots")
    op.drop_table("publication_decisions")
