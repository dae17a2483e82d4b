"""What a post offers: in its words, with the flags it needs, fixed once, and left out where it does not fit."""

from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa

from ettametta_pipelines.commerce import links
from ettametta_pipelines.commerce.links import LinkFields
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.previews import cell
from ettametta_pipelines.publishing.admission import admitted_order
from ettametta_pipelines.publishing.approvals import APPROVE, Request, decide, propose
from ettametta_pipelines.publishing.offers import OfferBook
from ettametta_pipelines.publishing.orders import Wishes
from ettametta_pipelines.publishing.policy import ChannelPolicy
from ettametta_pipelines.publishing.posts import tiktok_caption
from ettametta_pipelines.publishing.queue_report import proposal_table
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import AffiliateLinkCode, NicheOffer
from ettametta_pipelines.state.session import StateDatabase, open_state

SOURCE = "acme--0123456789abcdef"
ROW = {"source_id": SOURCE, "account": "acme", "niche": "travel", "title": "Pack light", "rights": "owned",
       "attribution": None, "upload_key": "uploads/x.mp4", "accepted_at": None}  # fmt: skip
MADE = {
    "object_key": "media/renditions/x.mp4",
    "sha256": "ab" * 32,
    "size_bytes": 1000,
    "duration_s": 20.0,
    "fps": 30.0,
}
HOSTILE = "<b>Cubes</b> | [x](javascript:alert(1))\r\n'; DROP TABLE posts;--\u202e" + "y" * 300


@pytest.fixture
def db(settings_env: Settings) -> StateDatabase:
    return open_state(settings_env)


@pytest.fixture
def channels(settings_env: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the channel's rules; returns the settings that have them."""

    def set_rules(platform: str = "youtube", **rules: str) -> Settings:
        file = settings_env.home_dir / "channels.yaml"
        said = ", ".join(f"{name}: {value}" for name, value in ({"approval": "automatic"} | rules).items())
        file.write_text(f"channels: {{acme: {{{platform}: {{{said}}}}}}}")
        monkeypatch.setenv("ETTAMETTA_CHANNELS", str(file))
        get_settings.cache_clear()
        return get_settings()

    return set_rules


def choose(db: StateDatabase, kind: str, *, label: str = "Packing cubes", score: float = 0.8) -> str | None:
    """Make this what posts about travel offer; returns the id of a link."""
    link_id = None
    if kind == "link":
        fields = LinkFields("Cubes I use", "amazon", "https://m.example.com/cubes")
        link_id = links.create(db, "acme", fields, by="ann").id
    with db.session() as session:
        session.add(
            NicheOffer(
                account_id="acme" if link_id else "", niche="travel", kind=kind, link_id=link_id,
                product_id=None if link_id else "gid://shopify/Product/12", label=label,
                target_url=None if link_id else "https://shop.example.com/products/cubes",
                statement="As an Amazon Associate I earn from qualifying purchases." if link_id else "",
                score=score, day=date(2026, 11, 20), chosen_at=db.now(session),
            )
        )  # fmt: skip
    return link_id


def order(db: StateDatabase, settings: Settings, platform: str = "youtube", **wishes: Any) -> Any:
    return admitted_order(
        db, settings, platform, ROW, MADE, Wishes(**wishes), approve=False, run_id="run", tags={}
    )


def codes(db: StateDatabase) -> list[AffiliateLinkCode]:
    with db.session(write=False) as session:
        found = sa.select(AffiliateLinkCode).where(AffiliateLinkCode.source_id.is_not(None))
        return list(session.scalars(found.order_by(AffiliateLinkCode.platform)))


def test_nothing_is_offered_unless_the_channel_asks_for_it(db: StateDatabase, channels: Any) -> None:
    choose(db, "product")
    assert order(db, channels()).post.description == ""
    assert codes(db) == []


def test_a_product_is_offered_with_a_code_of_the_post_and_declared_as_the_own_brand(
    db: StateDatabase, channels: Any
) -> None:
    choose(db, "product")
    made = order(db, channels(offers="products"), description="How I pack")
    (code,) = codes(db)
    assert made.post.description == (
        f"How I pack\n\nAd: Packing cubes: http://127.0.0.1:8000/go/{code.code}\nThis is our own shop."
    )
    assert (made.post.own_brand, made.post.paid) == (True, False)
    assert (code.niche, code.platform, code.source_id, code.product_id, code.target_url) == (
        "travel", "youtube", SOURCE, "gid://shopify/Product/12", "https://shop.example.com/products/cubes",
    )  # fmt: skip


def test_a_link_is_a_paid_promotion_and_says_what_its_network_wants_said(
    db: StateDatabase, channels: Any
) -> None:
    choose(db, "link")
    made = order(db, channels(offers="links"))
    assert made.post.paid
    assert "I earn a commission if you buy through it." in made.post.description
    assert "As an Amazon Associate I earn from qualifying purchases." in made.post.description


def test_of_both_the_better_is_offered(db: StateDatabase, channels: Any) -> None:
    choose(db, "product", score=0.9)
    choose(db, "link", score=0.5)
    settings = channels(offers="both")
    assert order(db, settings).offer == "Packing cubes"
    assert order(db, settings, intent_no=2).offer == "Packing cubes"
    assert len({code.code for code in codes(db)}) == 2


def test_a_post_reads_the_same_whatever_is_matched_or_configured_later(
    db: StateDatabase, channels: Any
) -> None:
    choose(db, "product")
    first = order(db, channels(offers="products"))
    with db.session() as session:
        session.execute(sa.delete(NicheOffer))
    choose(db, "product", label="Something else")
    assert order(db, channels(offers="products")).post == first.post
    assert order(db, channels()).post == first.post


def test_an_approval_fixes_the_offer_and_a_retired_link_asks_for_another(
    db: StateDatabase, channels: Any
) -> None:
    link_id = choose(db, "link")
    settings = channels(offers="links", approval="manual")
    policy = ChannelPolicy(offers="links", privacy="private")
    request = Request("youtube", ROW, MADE, policy)
    with db.session(write=False) as session:
        offer = OfferBook(session, settings).offer(request.name(1), "travel", policy, live=False)
    proposal = propose(Request("youtube", ROW, MADE, policy, offer=offer), Wishes())
    decide(db, proposal, APPROVE, by="ann", run_id=None, niche="travel")
    assert order(db, settings).post == proposal.order.post
    links.retire(db, str(link_id), by="ann")
    with pytest.raises(NeedsPersonError, match="not as approved: description, paid"):
        order(db, settings)


def test_what_was_approved_without_an_offer_gets_none(db: StateDatabase, channels: Any) -> None:
    settings = channels(offers="products", approval="manual")
    policy = ChannelPolicy(offers="products", privacy="private")
    decide(db, propose(Request("youtube", ROW, MADE, policy), Wishes()), APPROVE, by="ann", run_id=None)
    choose(db, "product")
    assert order(db, settings).post.description == ""


def test_an_offer_that_does_not_fit_is_left_out_and_said_so(db: StateDatabase, channels: Any) -> None:
    choose(db, "product")
    choose(db, "link")
    words = "x" * 4900
    made = order(db, channels(offers="products"), description=words)
    assert made.post.description == words
    assert made.offer_left_out.startswith(
        "Packing cubes is left out: The description for youtube has 4978 bytes"
    )
    assert not made.post.own_brand
    shown = order(db, channels("tiktok", offers="links"), "tiktok")
    assert "SELF_ONLY" in shown.offer_left_out
    public = channels("tiktok", offers="links", privacy="PUBLIC_TO_EVERYONE")
    caption = tiktok_caption(order(db, public, "tiktok").post)
    assert len(caption.encode("utf-16-le")) // 2 <= 2200
    assert [code.platform for code in codes(db)] == ["tiktok"]


def test_a_title_from_the_shop_cannot_break_the_post_or_its_table(db: StateDatabase, channels: Any) -> None:
    choose(db, "product", label=HOSTILE)
    made = order(db, channels(offers="products"))
    offered, statement = made.post.description.split("\n")
    assert statement == "This is our own shop."
    assert not set("<>\r\u202e") & set(offered)
    assert len(offered) < 150
    policy = ChannelPolicy(offers="products", privacy="private")
    with db.session(write=False) as session:
        offer = OfferBook(session, get_settings()).offer(
            Request("youtube", ROW, MADE, policy).name(1), "travel", policy, live=False
        )
    proposal = propose(Request("youtube", ROW, MADE, policy, offer=offer), Wishes())
    table = proposal_table(proposal, ROW, None, None, policy)
    assert f"| offers | {cell(made.offer)} |" in table
    assert "](javascript" not in table


def test_on_a_live_platform_nothing_is_offered_that_nobody_could_follow(
    db: StateDatabase, channels: Any
) -> None:
    choose(db, "product")
    policy = ChannelPolicy(offers="products", privacy="private")
    settings = channels(offers="products")
    name = Request("youtube", ROW, MADE, policy).name(1)
    with db.session(write=False) as session:
        assert OfferBook(session, settings).offer(name, "travel", policy, live=True) is None
        public = settings.model_copy(update={"production_domain": "studio.example.com"})
        offer = OfferBook(session, public).offer(name, "travel", policy, live=True)
    assert offer is not None
    assert offer.url.startswith("https://studio.example.com/go/")
