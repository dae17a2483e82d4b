"""What a sandboxed TikTok creator has posted: seeded earlier posts, published uploads, and figures that grow.

Figures are functions of the post and its age, so they never fall and read the same in every process.
Called by `sandbox/tiktok.py` alone.
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

from ettametta_pipelines.sandbox.core import SandboxStore, seeded_rng

Json = dict[str, Any]

FIRST_POST_DAY = date(2026, 1, 1)
SHOWN_DAYS = 60
HALF_LIFE_H = 36.0

_CAPTIONS = (
    "Three cuts that make any clip feel faster #editing #shorts",
    "I tried the 5 am routine for a week #productivity",
    "The one light you need for night shots #filmmaking",
    "Street food you can make in ten minutes #cooking",
    "What nobody says about your first marathon #running",
    "Desk setup under 100 dollars #setup #tech",
    "Packing for a month in one small bag #travel",
    "How I learned to draw hands #art #sketch",
    "This stretch fixed my back #fitness",
    "Reading a chart in thirty seconds #finance",
    "My plant was dead, then this #gardening",
    "The song stuck in everyone's head, on a kalimba #music",
)


@lru_cache(maxsize=64)
def earlier_posts(seed: int, account: str) -> tuple[Json, ...]:
    """One post about every third day since the creator's start, oldest first, far into the future of any clock."""
    posts = []
    for offset in range(0, 3660, 3):
        rng = seeded_rng(seed, "tiktok-post", account, offset)
        day = FIRST_POST_DAY + timedelta(days=offset + rng.randrange(3))
        at = datetime.combine(day, time.min, tzinfo=UTC) + timedelta(seconds=rng.randrange(86_400))
        posts.append(
            {
                "id": str(7_400_000_000_000_000_000 + rng.randrange(10**17)),
                "account": account,
                "title": rng.choice(_CAPTIONS),
                "create_time": int(at.timestamp()),
                "duration": rng.randrange(9, 59),
                "privacy": "PUBLIC_TO_EVERYONE",
                "blob": None,
            }
        )
    return tuple(posts)


def posts_of(store: SandboxStore, seed: int, account: str, now: float) -> list[Json]:
    """All posts of a creator that exist by `now`, newest first; seeded ones of the last 60 days."""
    since = now - SHOWN_DAYS * 86_400
    posts = [post for post in earlier_posts(seed, account) if since <= post["create_time"] <= now]
    posts += [post for _, post in store.items("tiktok_post", f"{account}/")]
    return sorted(posts, key=lambda post: (post["create_time"], post["id"]), reverse=True)


def find_post(store: SandboxStore, seed: int, account: str, post_id: str, now: float) -> Json | None:
    stored = store.get("tiktok_post", f"{account}/{post_id}")
    if stored is not None:
        return stored
    seeded = (post for post in earlier_posts(seed, account) if post["create_time"] <= now)
    return next((post for post in seeded if post["id"] == post_id), None)


def video_body(post: Json, seed: int, now: float, public_url: str) -> Json:
    """The video as TikTok's display API shows it, with its figures at `now`."""
    rng = seeded_rng(seed, "tiktok-figures", post["id"])
    reach = rng.lognormvariate(8.5, 1.3)
    age_h = max(0.0, now - post["create_time"]) / 3600
    views = int(reach * (1 - 2 ** (-age_h / HALF_LIFE_H)))
    likes = int(views * rng.uniform(0.03, 0.16))
    return {
        "id": post["id"],
        "create_time": post["create_time"],
        "cover_image_url": f"{public_url}/tiktok/cover/{post['account']}/{post['id']}.jpg",
        "share_url": f"{public_url}/tiktok/@{post['account']}/video/{post['id']}",
        "video_description": post["title"],
        "duration": post["duration"],
        "height": 1920,
        "width": 1080,
        "title": post["title"],
        "embed_html": "",
        "embed_link": f"{public_url}/tiktok/@{post['account']}/video/{post['id']}",
        "like_count": likes,
        "comment_count": int(likes * rng.uniform(0.01, 0.05)),
        "share_count": int(likes * rng.uniform(0.02, 0.10)),
        "view_count": views,
    }
