"""What an intent was asked for, and what is set on a post after it was published.

Revision 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("publications", sa.Column("wishes", sa.JSON(), nullable=True))
    op.create_index(op.f("ix_publications_state"), "publications", ["state"], unique=False)
    op.create_table(
        "publication_extras",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("publication_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("object_key", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("tried_at", INSTANT, nullable=False),
        sa.Column("done_at", INSTANT, nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["publication_id"],
            ["publications.id"],
            name=op.f("fk_publication_extras_publication_id_publications"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publication_extras")),
        sa.UniqueConstraint("publication_id", "kind", name=op.f("uq_publication_extras_publication_id_kind")),
    )


def downgrade() -> None:
    op.drop_table("publication_extras")
    op.drop_index(op.f("ix_publications_state"), table_name="publications")
    op.drop_column("publications", "wishes")
