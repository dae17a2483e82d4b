"""What the sandboxed YouTube answers with: video, channel and playlist item resources, part by part.

One shape for the catalogue's videos and for the accounts' own; counters are strings and may be missing, as Google's.
"""

import base64
import html
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from ettametta_pipelines.clock import Clock, rfc3339
from ettametta_pipelines.sandbox import audience
from ettametta_pipelines.sandbox.core import seeded_rng
from ettametta_pipelines.sandbox.youtube_accounts import Accounts, OwnChannel
from ettametta_pipelines.sandbox.youtube_catalog import (
    Catalog,
    CatalogChannel,
    CatalogVideo,
    Statistics,
    display_words,
)
from ettametta_pipelines.sandbox.youtube_uploads import Uploads, is_public, view_statistics

# name -> (width, height)
THUMBNAIL_SIZES = {
    "default": (120, 90),
    "medium": (320, 180),
    "high": (480, 360),
    "standard": (640, 480),
    "maxres": (1280, 720),
}

Video = CatalogVideo | dict[str, Any]


class Resources:
    """Builds resources; `url` is where the sandboxed YouTube itself is reached."""

    def __init__(
        self, accounts: Accounts, uploads: Uploads, catalog: Catalog, *, url: str, clock: Clock, seed: int
    ) -> None:
        self._accounts = accounts
        self._catalog = catalog
        self._uploads = uploads
        self.url = url
        self._clock = clock
        self._seed = seed

    def video(self, video: Video, parts: Iterable[str], *, owner: bool = False) -> dict[str, Any]:
        """Video resource with the named parts; those the sandbox has nothing for are left out."""
        video_id = id_of(video)
        shapes: dict[str, Callable[[], dict[str, Any]]] = {
            "snippet": lambda: self.snippet(video),
            "contentDetails": lambda: self._content_details(video),
            "statistics": lambda: self.statistics(video),
            "status": lambda: self.status(video, owner=owner),
            "player": lambda: {
                "embedHtml": f'<iframe src="{html.escape(self.watch_url(video_id))}"></iframe>'
            },
        }
        if not isinstance(video, CatalogVideo):
            for part in ("paidProductPlacementDetails", "localizations", "recordingDetails", "brandPartner"):
                if part in video:
                    shapes[part] = lambda part=part: video[part]  # type: ignore[misc]
            if owner:
                shapes["processingDetails"] = lambda: {"processingStatus": video["processing"]}
        base = {"kind": "youtube#video", "etag": etag(video_id), "id": video_id}
        return base | {part: shapes[part]() for part in parts if part in shapes}

    def published_at(self, video: Video) -> str:
        return rfc3339(video.published_at) if isinstance(video, CatalogVideo) else video["published_at"]

    def snippet(self, video: Video) -> dict[str, Any]:
        if isinstance(video, CatalogVideo):
            return {
                "publishedAt": rfc3339(video.published_at),
                "channelId": video.channel.id,
                "title": video.title,
                "description": video.description,
                "thumbnails": self.thumbnails(video.id),
                "channelTitle": video.channel.title,
                "tags": video.tags,
                "categoryId": video.channel.category_id,
                "liveBroadcastContent": "none",
                "localized": {"title": video.title, "description": video.description},
            }
        channel = self._accounts.channel_of(video["account"])
        assert channel is not None
        sent = video["snippet"]
        return {
            "publishedAt": video["published_at"],
            "channelId": channel.id,
            "description": "",
            "categoryId": "22",
            **sent,
            "thumbnails": self.thumbnails(video["id"]),
            "channelTitle": channel.title,
            "liveBroadcastContent": "none",
            "localized": {"title": sent["title"], "description": sent.get("description", "")},
        }

    def _content_details(self, video: Video) -> dict[str, Any]:
        if isinstance(video, CatalogVideo):
            return {
                "duration": iso_duration(video.duration_s),
                "dimension": "2d",
                "definition": "hd",
                "caption": "false",
                "licensedContent": True,
                "contentRating": {},
                "projection": "rectangular",
            }
        facts = video.get("facts", {})
        # Before processing is done YouTube knows no duration either.
        return {
            "duration": iso_duration(round(facts.get("duration_s", 0))),
            "dimension": "2d",
            "definition": "hd" if min(facts.get("width", 0), facts.get("height", 0)) >= 720 else "sd",
            "caption": "false",
            "licensedContent": False,
            "contentRating": {},
            "projection": "rectangular",
            "hasCustomThumbnail": bool(video.get("has_custom_thumbnail")),
        }

    def statistics(self, video: Video) -> dict[str, Any]:
        now = self._clock()
        if isinstance(video, CatalogVideo):
            counted = video.statistics(now)
        else:
            counted = Statistics(*self.own_statistics(video, now))
        counters = {"viewCount": counted.views, "likeCount": counted.likes, "favoriteCount": 0}
        counters["commentCount"] = counted.comments
        return {name: str(value) for name, value in counters.items() if value is not None}

    def own_statistics(self, video: dict[str, Any], now: datetime) -> tuple[int, int, int]:
        """(views, likes, comments) of an account's own video at an instant."""
        snippet = video.get("snippet", {})
        linked = audience.made_after(snippet.get("description", ""))
        example = self._catalog.video(linked, now) if linked else None
        if example is None:
            appeal = audience.appeal(snippet.get("title", ""))
        else:
            appeal = audience.appeal(example.title, example.pull)
        return view_statistics(video, now, self._seed, appeal)

    def status(self, video: Video, *, owner: bool) -> dict[str, Any]:
        if isinstance(video, CatalogVideo):
            license_name = "creativeCommon" if video.is_creative_commons else "youtube"
            return {
                "uploadStatus": "processed",
                "privacyStatus": "public",
                "license": license_name,
                "embeddable": True,
                "publicStatsViewable": True,
                "madeForKids": False,
            }
        states: dict[str, dict[str, Any]] = {
            "processing": {"uploadStatus": "uploaded"},
            "succeeded": {"uploadStatus": "processed"},
            "failed": {"uploadStatus": "failed", "failureReason": "invalidFile"},
        }
        status = dict(video["status"])
        if is_public(video, self._clock()):
            status["privacyStatus"] = "public"
            status.pop("publishAt", None)
        status |= states[video["processing"]] | {"madeForKids": bool(status.get("selfDeclaredMadeForKids"))}
        if not owner:
            for name in ("publishAt", "selfDeclaredMadeForKids"):
                status.pop(name, None)
        return status

    def channel(self, channel: CatalogChannel | OwnChannel, parts: Iterable[str]) -> dict[str, Any]:
        now = self._clock()
        if isinstance(channel, CatalogChannel):
            uploads = channel.newest_number(now) + 1
            handle, country, started = channel.handle, channel.country, channel.started_at
            views = int(uploads * channel.baseline_views * 1.3)
            hidden, subscribers = channel.hides_subscribers, _three_digits(channel.subscribers)
            about = f"All about {display_words(channel.subject)}."
        else:
            mine = self._uploads.videos_of(channel.account)
            uploads = sum(is_public(video, now) for video in mine)
            handle, country, started = f"@{channel.account}", "US", channel.created_at
            views = sum(self.own_statistics(video, now)[0] for video in mine)
            hidden, subscribers = False, int(views * 0.01)
            about = ""
        statistics: dict[str, Any] = {
            "viewCount": str(views),
            "hiddenSubscriberCount": hidden,
            "videoCount": str(uploads),
        }
        if not hidden:
            statistics["subscriberCount"] = str(subscribers)
        shapes: dict[str, Any] = {
            "snippet": {
                "title": channel.title,
                "description": about,
                "customUrl": handle,
                "publishedAt": rfc3339(started),
                "thumbnails": self.thumbnails(channel.id),
                "localized": {"title": channel.title, "description": about},
                "country": country,
            },
            "contentDetails": {"relatedPlaylists": {"likes": "", "uploads": channel.uploads_playlist}},
            "statistics": statistics,
            "status": {"privacyStatus": "public", "isLinked": True, "longUploadsStatus": "allowed"},
        }
        base = {"kind": "youtube#channel", "etag": etag(channel.id), "id": channel.id}
        return base | {part: shapes[part] for part in parts if part in shapes}

    def thumbnails(self, owner_id: str) -> dict[str, Any]:
        return {
            name: {"url": f"{self.url}/vi/{owner_id}/{name}.jpg", "width": width, "height": height}
            for name, (width, height) in THUMBNAIL_SIZES.items()
        }

    def playlist_item(
        self, playlist: str, position: int, video: Video, parts: Iterable[str]
    ) -> dict[str, Any]:
        video_id = id_of(video)
        snippet = self.snippet(video)
        privacy = (
            "public" if isinstance(video, CatalogVideo) else self.status(video, owner=True)["privacyStatus"]
        )
        shapes: dict[str, Any] = {
            "snippet": {
                **{name: snippet[name] for name in ("publishedAt", "channelId", "title", "description")},
                "thumbnails": snippet["thumbnails"],
                "channelTitle": snippet["channelTitle"],
                "playlistId": playlist,
                "position": position,
                "resourceId": {"kind": "youtube#video", "videoId": video_id},
                "videoOwnerChannelTitle": snippet["channelTitle"],
                "videoOwnerChannelId": snippet["channelId"],
            },
            "contentDetails": {"videoId": video_id, "videoPublishedAt": snippet["publishedAt"]},
            "status": {"privacyStatus": privacy},
        }
        base = {"kind": "youtube#playlistItem", "etag": etag(playlist, video_id)}
        item_id = base64.urlsafe_b64encode(f"{playlist}.{video_id}".encode()).decode().rstrip("=")
        return base | {"id": item_id} | {part: shapes[part] for part in parts if part in shapes}

    def watch_url(self, video_id: str) -> str:
        return f"{self.url}/watch?v={video_id}"


def id_of(video: Video) -> str:
    return video.id if isinstance(video, CatalogVideo) else str(video["id"])


def etag(*parts: object) -> str:
    return base64.urlsafe_b64encode(seeded_rng("etag", *parts).randbytes(20)).decode().rstrip("=")


def iso_duration(seconds: int) -> str:
    """ISO 8601 as YouTube writes it: `PT1H2M3S`, days only when there are any, `P0D` for nothing."""
    if seconds <= 0:
        return "P0D"
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    clock = "".join(f"{value}{unit}" for value, unit in ((hours, "H"), (minutes, "M"), (rest, "S")) if value)
    return "P" + (f"{days}D" if days else "") + (f"T{clock}" if clock else "")


def _three_digits(value: int) -> int:
    """Subscribers as the API shows them: rounded down to three significant digits."""
    step: int = 10 ** max(0, len(str(value)) - 3)
    return value // step * step
