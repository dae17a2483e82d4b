"""What a post offers: a product of the shop or an affiliate link, said in words that do not change any more.

Which one suits a niche is decided elsewhere and lies in the state (`niche_offers`). A post's offer is drawn up when
the post is composed, and kept with a code of its own when the post is approved or admitted to be made: from then on it
reads the same, whatever is matched later, and a post that was approved or begun without an offer gets none. Only a
link that was retired is dropped, and then the post is another one than was approved. Called by `approvals.py`,
`admission.py` and `backlog.py`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.link_codes import ALPHABET, CODE_CHARS
from ettametta_pipelines.publishing.disclosure import OFFERS
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import (
    AffiliateLink,
    AffiliateLinkCode,
    NicheOffer,
    Publication,
    PublicationDecision,
)
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent
from ettametta_pipelines.untrusted import plain_text

if TYPE_CHECKING:
    from ettametta_pipelines.publishing.policy import ChannelPolicy
    from ettametta_pipelines.publishing.variants import PostName

MAX_LABEL_CHARS = 80
# What a channel's `offers` allows.
KINDS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "products": ("product",),
    "links": ("link",),
    "both": ("product", "link"),
}


@dataclass(frozen=True)
class Offer:
    """What one post offers. `kind` is one of `disclosure.OFFERS`; `url` is the gateway's redirect by `code`."""

    kind: str
    label: str
    url: str
    statement: str
    code: str
    link_id: str | None = None
    product_id: str | None = None
    target_url: str | None = None

    @property
    def text(self) -> str:
        """The lines in the description: it begins with what it is, and says what the poster has from it."""
        said = " ".join(filter(None, [OFFERS[self.kind].line, self.statement]))
        return f"Ad: {self.label}: {self.url}\n{said}"


class OfferBook:
    """Offers by post, as the state has them at one time. Read whole, since the queue asks for every post."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._gateway = settings.gateway_url
        # A link to this machine is of use to nobody else.
        self._is_public = bool(settings.production_domain)
        self._active = set(
            session.scalars(sa.select(AffiliateLink.id).where(AffiliateLink.status == "active"))
        )
        self._chosen: dict[tuple[str, str], list[NicheOffer]] = {}
        for row in session.scalars(sa.select(NicheOffer).order_by(NicheOffer.score.desc(), NicheOffer.id)):
            self._chosen.setdefault((row.account_id, row.niche), []).append(row)
        kept = sa.select(AffiliateLinkCode).where(AffiliateLinkCode.source_id.is_not(None))
        self._kept = {
            (row.platform, row.account_id, row.source_id, row.intent_no): row for row in session.scalars(kept)
        }
        approved = PublicationDecision.decision == "approve"
        self._settled = {
            tuple(row)
            for table, which in ((Publication, sa.true()), (PublicationDecision, approved))
            for row in session.execute(
                sa.select(table.platform, table.account_id, table.content_id, table.intent_no).where(which)
            )
        }

    def offer(self, name: "PostName", niche: str, policy: "ChannelPolicy", *, live: bool) -> Offer | None:
        """What this post offers; None where it offers nothing. `live` posts offer only what people can follow."""
        key = (name.platform, name.account, name.source_id, name.intent_no)
        kept = self._kept.get(key)
        if kept is not None:
            gone = kept.link_id is not None and kept.link_id not in self._active
            return None if gone or kept.words is None else Offer(**kept.words)
        if key in self._settled or (live and not self._is_public):
            return None
        rows = [*self._chosen.get((name.account, niche), ()), *self._chosen.get(("", niche), ())]
        wanted = [row for row in rows if row.kind in KINDS[policy.offers] and self._may_be_offered(row)]
        if not wanted:
            return None
        best = max(wanted, key=lambda row: (row.score, row.kind))
        code = _code_of(name, best.link_id or best.product_id or "")
        return Offer(
            kind=best.kind, label=_label(best.label), url=f"{self._gateway}/go/{code}", statement=best.statement,
            code=code, link_id=best.link_id, product_id=best.product_id, target_url=best.target_url,
        )  # fmt: skip

    def _may_be_offered(self, row: NicheOffer) -> bool:
        return row.link_id is None or row.link_id in self._active


def _label(text: str) -> str:
    """One line that a platform takes; a shop's title may hold anything, and angle brackets are refused."""
    return plain_text(text.replace("<", " ").replace(">", " "), MAX_LABEL_CHARS)


def _code_of(name: "PostName", item: str) -> str:
    """The code of a post: the same each time the post is composed, before anything is kept."""
    parts = (name.platform, name.account, name.source_id, str(name.intent_no), item)
    number = int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:16], "big")
    letters = []
    for _ in range(CODE_CHARS):
        number, place = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[place])
    return "".join(letters)


def keep_offer(
    db: StateDatabase, session: Session, name: "PostName", niche: str, offer: Offer | None
) -> None:
    """Fix what the post offers, once; its code leads somewhere from now on."""
    if offer is None:
        return
    row: dict[str, Any] = {
        "code": offer.code, "account_id": name.account, "link_id": offer.link_id, "product_id": offer.product_id,
        "target_url": offer.target_url, "niche": niche, "source_id": name.source_id, "platform": name.platform,
        "intent_no": name.intent_no, "words": asdict(offer), "created_at": db.now(session),
    }  # fmt: skip
    insert_if_absent(session, AffiliateLinkCode, row)
