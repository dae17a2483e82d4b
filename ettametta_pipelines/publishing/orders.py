"""From the tables of a source video to an order that can be posted: the file, the words, the right to publish."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ettametta_pipelines.publishing.delivery import Order, Rendition
from ettametta_pipelines.publishing.disclosure import OFFERS, disclosure_of
from ettametta_pipelines.publishing.offers import Offer
from ettametta_pipelines.publishing.posts import compose_post
from ettametta_pipelines.publishing.rights import rights_of
from ettametta_pipelines.renders.platforms import require_fit


@dataclass(frozen=True)
class Wishes:
    """What an operator may choose for one post; the field names are those of the run configuration.

    `paid_promotion` and `synthetic_media` add to what lineage declares and take nothing from it.
    """

    title: str = ""
    description: str = ""
    tags: Sequence[str] = ()
    privacy: str = ""
    license: str = ""
    made_for_kids: bool = False
    paid_promotion: bool = False
    synthetic_media: bool = False
    own_brand: bool = False
    allow_comments: bool = False
    allow_remixes: bool = False
    intent_no: int = 1
    live_remote_id: str = ""

    def to_keep(self) -> dict[str, Any]:
        """What another run of the same intent has to be configured with; a person's word about it is said once."""
        return asdict(self) | {"tags": list(self.tags), "live_remote_id": ""}


def order_for(
    platform: str,
    source: Mapping[str, Any],
    rendition: Mapping[str, Any],
    wishes: Wishes,
    *,
    request_id: str | None = None,
    live: bool = False,
    offer: Offer | None = None,
) -> Order:
    """What to post, from one row of `source_media` and one of `rendition_9x16`; `live` where people will see it.

    An `offer` is said in the description and declared. Raises NeedsPersonError without a right to publish every input,
    PermanentError for words beyond the platform's limits or a video it would refuse.
    """
    disclosure = disclosure_of(rights_of(rendition, source), live=live)
    disclosure = replace(disclosure, synthetic=disclosure.synthetic or wishes.synthetic_media)
    rule = OFFERS[offer.kind] if offer else None
    said = [wishes.description.strip(), offer.text if offer else ""]
    post = compose_post(
        platform,
        disclosure,
        title=wishes.title or source["title"],
        description="\n\n".join(filter(None, said)),
        tags=wishes.tags,
        privacy=wishes.privacy,
        made_for_kids=wishes.made_for_kids,
        paid=wishes.paid_promotion or disclosure.paid or bool(rule and rule.paid),
        own_brand=wishes.own_brand or bool(rule and rule.own_brand),
        license=wishes.license,
        comments=wishes.allow_comments,
        remixes=wishes.allow_remixes,
    )
    require_fit(
        platform,
        float(rendition["duration_s"]),
        fps=rendition.get("fps"),
        size_bytes=int(rendition["size_bytes"]),
    )
    return Order(
        account=source["account"],
        post=post,
        rendition=Rendition(
            source_id=source["source_id"],
            object_key=rendition["object_key"],
            sha256=rendition["sha256"],
            size_bytes=int(rendition["size_bytes"]),
            duration_s=float(rendition["duration_s"]),
        ),
        intent_no=wishes.intent_no,
        live_remote_id=wishes.live_remote_id.strip(),
        request_id=request_id,
        wishes=wishes.to_keep(),
        offer=offer.label if offer else "",
    )
