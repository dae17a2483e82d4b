"""What a browser opens on the sandboxed YouTube: watch pages, the uploaded video itself, thumbnails."""

import html

from fastapi.responses import FileResponse, HTMLResponse, Response

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.pictures import thumbnail_jpeg, to_jpeg
from ettametta_pipelines.sandbox.youtube_accounts import Accounts
from ettametta_pipelines.sandbox.youtube_catalog import Catalog
from ettametta_pipelines.sandbox.youtube_resources import THUMBNAIL_SIZES, Resources, Video
from ettametta_pipelines.sandbox.youtube_uploads import Uploads

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
video, img {{ max-width: 100%; max-height: 70vh; background: #111; }}
.note {{ background: #fff3cd; padding: .5rem 1rem; }} .facts {{ color: #555; }}
pre {{ white-space: pre-wrap; font: inherit; }}
</style></head><body>
<p class="note">Sandbox: a local stand-in for YouTube. Nothing here is on the internet.</p>
<h1>{title}</h1>{body}</body></html>
"""
_WATCH = """{screen}
<p><b>{channel}</b> <span class="facts">{facts}</span></p><pre>{description}</pre>"""


class Pages:
    """Pages over the same videos the API answers with."""

    def __init__(
        self,
        store: SandboxStore,
        accounts: Accounts,
        uploads: Uploads,
        catalog: Catalog,
        resources: Resources,
        clock: Clock,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._uploads = uploads
        self._catalog = catalog
        self._resources = resources
        self._clock = clock

    def thumbnail(self, owner_id: str, name: str) -> Response:
        """A video's or channel's picture: the uploaded one, else one drawn from its title."""
        size = THUMBNAIL_SIZES.get(name)
        title = self._title_of(owner_id)
        if size is None or title is None:
            return Response(status_code=404)
        custom = self._store.blob_path(f"youtube-thumbnail-{owner_id}")
        if custom.exists():
            from PIL import Image

            with Image.open(custom) as picture:
                data = to_jpeg(picture, size)
        else:
            data = thumbnail_jpeg(owner_id, title, size)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "max-age=3600"})

    def _title_of(self, owner_id: str) -> str | None:
        own = self._uploads.video(owner_id)
        if own is not None:
            return str(own["snippet"]["title"])
        found = self._catalog.video(owner_id, self._clock())
        if found is not None:
            return found.title
        channel = self._accounts.channel_by_id(owner_id) or self._catalog.channel(owner_id)
        return channel.title if channel else None

    def watch_page(self, video_id: str) -> Response:
        """The page behind a video's URL. Private ones open too, and say so: this is nobody's real YouTube."""
        own = self._uploads.video(video_id)
        video: Video | None = own or self._catalog.video(video_id, self._clock())
        if video is None:
            return HTMLResponse(_PAGE.format(title="Video unavailable", body=""), status_code=404)
        snippet, statistics = self._resources.snippet(video), self._resources.statistics(video)
        status = self._resources.status(video, owner=True)
        picture = html.escape(snippet["thumbnails"]["high"]["url"])
        if own is not None:
            source = html.escape(f"{self._resources.url}/media/{video_id}")
            screen = f'<video controls preload="metadata" poster="{picture}" src="{source}"></video>'
        else:
            screen = f'<img src="{picture}" alt="">'
        facts = f"{status['privacyStatus']} · {status['uploadStatus']} · {statistics['viewCount']} views"
        body = _WATCH.format(
            screen=screen,
            title=html.escape(snippet["title"]),
            channel=html.escape(snippet["channelTitle"]),
            facts=html.escape(f"{facts} · {snippet['publishedAt']}"),
            description=html.escape(snippet["description"]),
        )
        return HTMLResponse(_PAGE.format(title=html.escape(snippet["title"]), body=body))

    def media(self, video_id: str) -> Response:
        """The uploaded bytes, in ranges where a player asks for them."""
        own = self._uploads.video(video_id)
        if own is None:
            return Response(status_code=404)
        kind = own["mime"] if own["mime"].startswith("video/") else "video/mp4"
        return FileResponse(self._store.blob_path(own["blob"]), media_type=kind)
