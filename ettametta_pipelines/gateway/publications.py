"""Pages of the posts: what waits, what went out, each with its trail, and the two answers to one that is in doubt."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.gateway.access import Access, by_id
from ettametta_pipelines.gateway.cache import ReadCache
from ettametta_pipelines.gateway.operators import Operator, PostedForm
from ettametta_pipelines.gateway.pages import page, see
from ettametta_pipelines.operations.last_look import is_silent, last_look
from ettametta_pipelines.publishing import connections, review
from ettametta_pipelines.publishing.ledger import IN_DOUBT
from ettametta_pipelines.publishing.reauth import ACTIVE
from ettametta_pipelines.publishing.tokens import open_envelope
from ettametta_pipelines.publishing.what_now import what_now
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore

LISTED, RECENT = 100, 50
# A file of the lake, written anew every few minutes.
PLANNED_KEPT_S = 15.0


def publication_routes(
    settings: Settings, db: StateDatabase, store: ObjectStore, access: Access, cache: ReadCache
) -> APIRouter:
    """`/` and `/publications`."""
    routes = APIRouter()
    a_post = by_id("publication_id", lambda one: review.account_of(db, one), str, review.unknown_publication)
    Admitted = Annotated[Operator, Depends(access.operator)]
    Reader = Annotated[Operator, Depends(access.reader(a_post))]
    Posted = Annotated[PostedForm, Depends(access.changer(a_post))]

    def reviewer(form: PostedForm) -> review.Reviewer:
        return review.Reviewer(db, open_envelope(settings), settings, form.operator.actor)

    @routes.get("/")
    def index(operator: Admitted) -> Response:
        channels = [one for one in connections.connected(db) if access.may(operator, one.account)]
        counts = review.counted(db, accounts=access.accounts_of(operator))
        looked = last_look(db)
        return page(
            "index.html",
            operator,
            silent_since=looked if is_silent(looked, utc_now()) else None,
            ui_url=settings.ui_url,
            channels=len(channels),
            stopped=[channel for channel in channels if channel.status != ACTIVE],
            in_review=sum(counts.get(state, 0) for state in review.NEEDING_A_PERSON),
            under_way=sum(counts.get(state, 0) for state in review.UNDER_WAY),
            published=counts.get("PUBLISHED", 0),
        )

    @routes.get("/publications")
    def posts(operator: Admitted) -> Response:
        accounts = access.accounts_of(operator)
        planned = cache.read_here("planned", "posts", PLANNED_KEPT_S, lambda: planned_posts(store))
        in_review, under_way, recent = review.lists(
            db,
            (review.NEEDING_A_PERSON, LISTED),
            (review.UNDER_WAY, LISTED),
            (review.DONE, RECENT),
            accounts=accounts,
        )
        # The queue is half an hour old at times; what has begun since does not wait any more.
        begun = {
            (one.platform, one.account_id, one.content_id, one.intent_no)
            for one in (*in_review, *under_way, *recent)
        }
        return page(
            "posts.html",
            operator,
            in_review=in_review,
            planned=[
                row
                for row in planned
                if access.may(operator, row["account"])
                and (row["platform"], row["account"], row["source_id"], row["intent_no"]) not in begun
            ],
            under_way=under_way,
            recent=recent,
            recent_limit=RECENT,
        )

    @routes.get("/publications/{publication_id}")
    def post(operator: Reader, publication_id: str) -> Response:
        told = review.history(db, publication_id)
        return page(
            "post.html",
            operator,
            post=told,
            advice=what_now(told["state"], told["error_code"], told["intent_no"]),
            may_declare_live=told["state"] in IN_DOUBT,
            may_post_again=told["state"] == "NEEDS_REVIEW",
        )

    @routes.post("/publications/{publication_id}/live")
    def declare_live(form: Posted, publication_id: str) -> Response:
        reviewer(form).declare_live(publication_id, form.fields.get("found", ""))
        return see(f"/publications/{publication_id}")

    @routes.post("/publications/{publication_id}/again")
    def post_again(form: Posted, publication_id: str) -> Response:
        if form.fields.get("looked") != "yes":
            raise NeedsPersonError(
                "The box that says that you looked at the channel is not ticked.",
                code="not_confirmed",
                remedy="Look at the channel, private posts included, then tick it. Nothing was changed.",
            )
        ordered = reviewer(form).post_again(publication_id)
        return see(f"/publications/{ordered.id}")

    return routes


def planned_posts(store: ObjectStore) -> list[dict[str, Any]]:
    """Rows of `publish_queue` as it was last looked at, the next post first; none before the first look."""
    from ettametta_pipelines.publishing.queue_contracts import PUBLISH_QUEUE
    from ettametta_pipelines.storage.parquet import PartitionMissing, read_table

    try:
        rows = PUBLISH_QUEUE.rows(read_table(store, PUBLISH_QUEUE, None))
    except PartitionMissing:
        return []
    # As a cache keeps them.
    return [
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
        for row in rows
    ]
