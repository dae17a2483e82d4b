"""Affiliate links, the codes of the redirect, its clicks, and what posts of a niche offer.

Revision 0012.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "affiliate_links",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("network", sa.String(), nullable=False),
        sa.Column("target_url", sa.String(), nullable=False),
        sa.Column("fallback_url", sa.String(), nullable=True),
        sa.Column("commission_note", sa.String(), nullable=False),
        sa.Column("niches", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("edited_at", INSTANT, nullable=True),
        sa.Column("edited_by", sa.String(), nullable=True),
        sa.Column("retired_at", INSTANT, nullable=True),
        sa.Column("retired_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_affiliate_links")),
    )
    op.create_index(
        op.f("ix_affiliate_links_account_id_affiliate_links_status"),
        "affiliate_links",
        ["account_id", "status"],
    )
    _create_codes()
    op.create_table(
        "affiliate_clicks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("clicked_at", INSTANT, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("is_bot", sa.Boolean(), nullable=False),
        sa.Column("referrer_host", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_affiliate_clicks")),
    )
    op.create_index(
        op.f("ix_affiliate_clicks_code_affiliate_clicks_day"), "affiliate_clicks", ["code", "day"]
    )
    op.create_index(op.f("ix_affiliate_clicks_day"), "affiliate_clicks", ["day"])
    op.create_table(
        "niche_offers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("niche", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("link_id", sa.String(), nullable=True),
        sa.Column("product_id", sa.String(), nullable=True),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("target_url", sa.String(), nullable=True),
        sa.Column("statement", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("chosen_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_niche_offers")),
        sa.UniqueConstraint(
            "account_id", "niche", "kind", name=op.f("uq_niche_offers_account_id_niche_kind")
        ),
    )


def _create_codes() -> None:
    op.create_table(
        "affiliate_link_codes",
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("link_id", sa.String(), nullable=True),
        sa.Column("product_id", sa.String(), nullable=True),
        sa.Column("target_url", sa.String(), nullable=True),
        sa.Column("niche", sa.String(), nullable=True),
        sa.Column("source_id", sa.String(), nullable=True),
        sa.Column("platform", sa.String(), nullable=True),
        sa.Column("intent_no", sa.Integer(), nullable=True),
        sa.Column("words", sa.JSON(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_affiliate_link_codes")),
        sa.ForeignKeyConstraint(
            ["link_id"],
            ["affiliate_links.id"],
            name=op.f("fk_affiliate_link_codes_link_id_affiliate_links"),
        ),
        sa.UniqueConstraint(
            "account_id",
            "source_id",
            "platform",
            "intent_no",
            name=op.f("uq_affiliate_link_codes_account_id_source_id_platform_intent_no"),
        ),
        sa.CheckConstraint(
            "(link_id IS NULL) <> (product_id IS NULL)", name=op.f("ck_affiliate_link_codes_of_one_thing")
        ),
    )
    op.create_index(op.f("ix_affiliate_link_codes_link_id"), "affiliate_link_codes", ["link_id"])
    op.create_index(op.f("ix_affiliate_link_codes_product_id"), "affiliate_link_codes", ["product_id"])


def downgrade() -> None:
    op.drop_table("niche_offers")
    op.drop_table("affiliate_clicks")
    op.drop_table("affiliate_link_codes")
    op.drop_table("affiliate_links")
