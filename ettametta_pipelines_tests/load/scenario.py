"""The mixed load: what is in the state and store beforehand, who asks for what how often, what must be left of it.

The same shares stand in `k8s/k6/load_test.js`; a test compares them.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.commerce.links import LinkFields, create
from ettametta_pipelines.state.models import (
    AffiliateClick,
    AffiliateLinkCode,
    Entitlement,
    Publication,
    PublicationEvent,
    WebhookEvent,
)
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.gateway.signing import by_stripe, stripe_event
from ettametta_pipelines_tests.load.driver import Ask

# Of a hundred requests.
SHARES = {
    "webhook": 30, "go": 25, "media": 15, "posts": 8, "post": 5, "links": 5, "link": 4, "plans": 3, "readyz": 3,
    "livez": 2,
}  # fmt: skip
# Every fifth message is one that was sent before, as vendors do.
REPEATED = 0.2
POSTS, LINKS, ACCOUNTS, EARLIER_CLICKS = 300, 60, 20, 20_000
MEDIA = "media/renditions/load/9x16/film.mp4"
MEDIA_BYTES, RANGE_BYTES = 8 << 20, 256 << 10
STATES = ("PUBLISHED",) * 17 + ("NEEDS_REVIEW", "PLANNED", "PROCESSING")
# About what Stripe sends of a subscription.
FILLING = {f"field_{number}": "x" * 40 for number in range(60)}


@dataclass(frozen=True)
class Furnished:
    """What the load asks for."""

    posts: Sequence[str]
    links: Sequence[str]
    codes: Sequence[str]
    accounts: Sequence[str]


def furnish(db: StateDatabase, store: ObjectStore, *, earlier_clicks: int = EARLIER_CLICKS) -> Furnished:
    """Posts, links with clicks, accounts and a film."""
    store.put(MEDIA, random.Random(1).randbytes(MEDIA_BYTES))
    accounts = [f"account{number}" for number in range(ACCOUNTS)]
    links = [
        create(
            db, accounts[number % ACCOUNTS],
            LinkFields(
                label=f"Link {number}", network="direct", target_url=f"https://shop.example/{number}",
                niches=(), commission_note="", fallback_url=None,
            ),
            by="load",
        ).id
        for number in range(LINKS)
    ]  # fmt: skip
    with db.session() as session:
        now = db.now(session)
        codes = list(session.scalars(sa.select(AffiliateLinkCode.code).order_by(AffiliateLinkCode.code)))
        session.add_all(
            AffiliateClick(
                code=codes[number % LINKS], clicked_at=now, day=now.date(), is_bot=False, referrer_host=None
            )
            for number in range(earlier_clicks)
        )
        session.add_all(
            Entitlement(
                mode="sandbox", account_id=account, status="none", cancel_at_period_end=False, anchor_at=now, reads=0,
                applied_read=0, updated_at=now,
            )
            for account in accounts
        )  # fmt: skip
        posts = [_post(session, number, now) for number in range(POSTS)]
    return Furnished(posts, links, codes, accounts)


def _post(session: Any, number: int, now: Any) -> str:
    state, at = STATES[number % len(STATES)], now - timedelta(minutes=number)
    done = state == "PUBLISHED"
    post = Publication(
        id=f"post{number:04}", platform="youtube", account_id=f"account{number % ACCOUNTS}",
        channel_id=f"UC{number % ACCOUNTS}", content_id=f"source{number}", intent_no=1, state=state, fence=1,
        object_key=MEDIA, sha256="0" * 64, size_bytes=MEDIA_BYTES, received_bytes=MEDIA_BYTES, marker=f"m{number}",
        title=f"Film number {number}", privacy="public", attempts=1, remote_id=f"yt{number:09}" if done else None,
        url=f"https://youtu.be/yt{number:09}" if done else None, check_count=0, created_at=at, updated_at=at,
        settled_at=at if done else None,
    )  # fmt: skip
    session.add(post)
    session.flush()
    session.add_all(
        PublicationEvent(
            publication_id=post.id, at=at, from_state="PLANNED", to_state=state, fence=1, actor="load", reason="seeded",
            detail={},
        )
        for _ in range(6)
    )  # fmt: skip
    return post.id


class Mix:
    """Requests by the shares, the same for the same seed. What was taken of them must be found afterwards."""

    def __init__(self, there: Furnished, seed: int, *, slow_share: bool = False) -> None:
        self._there, self._random = there, random.Random(seed)
        self.prefix = f"evt_{seed}_{time.time_ns()}_"
        # An account's page asks Stripe; it stands in for the table of plans where the vendor is slow.
        self._slow_share = slow_share
        self.event_ids: list[str] = []
        self.clicks = 0

    def asks(self, number: int) -> Iterator[Ask]:
        """Made as they are taken: half an hour of bodies would fill the memory."""
        names = self._random.choices(list(SHARES), list(SHARES.values()), k=number)
        return map(self._ask, names)

    def _ask(self, name: str) -> Ask:
        pick, there = self._random.choice, self._there
        match name:
            case "webhook":
                return self._webhook()
            case "go":
                self.clicks += 1
                agent = f"Mozilla/5.0 (load {self.clicks})"
                return Ask(
                    name, f"/go/{pick(there.codes)}", headers={"User-Agent": agent}, wanted=frozenset({302})
                )
            case "media":
                first = self._random.randrange(0, MEDIA_BYTES - RANGE_BYTES)
                span = {"Range": f"bytes={first}-{first + RANGE_BYTES - 1}"}
                return Ask(name, f"/{MEDIA}", headers=span, wanted=frozenset({206}))
            case "plans":
                path = f"/billing/{pick(there.accounts)}" if self._slow_share else "/billing"
                return Ask("account's plan" if self._slow_share else name, path)
        paths = {
            "posts": "/publications", "post": f"/publications/{pick(there.posts)}", "links": "/links",
            "link": f"/links/{pick(there.links)}", "readyz": "/readyz", "livez": "/livez",
        }  # fmt: skip
        return Ask(name, paths[name])

    def _webhook(self) -> Ask:
        if self.event_ids and self._random.random() < REPEATED:
            event_id = self._random.choice(self.event_ids)
        else:
            event_id = f"{self.prefix}{len(self.event_ids)}"
            self.event_ids.append(event_id)
        body = stripe_event(event_id, "customer.subscription.updated", about={"id": event_id, **FILLING})
        return Ask("webhook", "/webhooks/stripe", "POST", body=body, sign=by_stripe)


def lost_messages(db: StateDatabase, mix: Mix) -> tuple[int, int]:
    """(messages that are not there, rows too many); both must be none."""
    with db.session(write=False) as session:
        rows = list(
            session.scalars(
                sa.select(WebhookEvent.event_id).where(
                    WebhookEvent.event_id.startswith(mix.prefix, autoescape=True)
                )
            )
        )
    return len(set(mix.event_ids) - set(rows)), len(rows) - len(set(rows))


def clicks(db: StateDatabase) -> int:
    with db.session(write=False) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(AffiliateClick)) or 0
