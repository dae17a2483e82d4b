"""Sandbox of Pexels' API: search for videos and photos, one video, and the files themselves.

Every query finds the same videos on every machine: ids, names and pictures follow from its words. Files are drawn by
ffmpeg's generators when first asked for and kept in the sandbox's home. A query in whose words no vowel stands finds
nothing, and the third video of every search is the first one uploaded again under another id.
"""

import asyncio
import hashlib
import io
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg
from ettametta_pipelines.sandbox.core import SandboxStore, seeded_rng

Json = dict[str, Any]

KEY = re.compile(r"[A-Za-z0-9-]{16,80}")
MONTHLY_LIMIT = 20_000
MAX_PER_PAGE = 80
RATE = 25
# Width and height of the files of a landscape video, by quality.
QUALITIES = {"sd": (640, 360), "hd": (1280, 720), "uhd": (1920, 1080)}
SHAPES = ("landscape", "portrait", "square")
NAMES = (
    "Ada Lindqvist", "Bashir Okonjo", "Chiara Fontana", "Dmitri Halvorsen", "Elena Marchetti", "Farid Castellanos",
    "Greta Sørensen", "Hiro Nakadai",
)  # fmt: skip
VOWEL = re.compile(r"[aeiouy]|[^\x00-\x7f]", re.IGNORECASE)


def router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """`/pexels/v1/videos/...` and the files under `/pexels/video-files/`."""
    api = APIRouter()
    drawing = asyncio.Lock()

    @api.get("/v1/videos/search")
    async def search(request: Request) -> Response:
        refusal = _refusal(request)
        if refusal is not None:
            return refusal
        asked = request.query_params
        query = " ".join(asked.get("query", "").casefold().split())
        if not query:
            return JSONResponse({"status": 400, "code": "Bad Request", "error": "No query given"}, 400)
        page, per_page = _number(asked, "page", 1), min(_number(asked, "per_page", 15), MAX_PER_PAGE)
        shape = asked.get("orientation", "")
        found = find_videos(query, shape if shape in SHAPES else None, seed, public_url)
        shown = found[(page - 1) * per_page : page * per_page]
        body: Json = {
            "page": page, "per_page": per_page, "videos": shown, "total_results": len(found),
            "url": f"https://www.pexels.com/search/videos/{query.replace(' ', '%20')}/",
        }  # fmt: skip
        for video in shown:
            store.put("pexels_video", str(video["id"]), video)
        if page * per_page < len(found):
            following = urlencode({**asked, "page": page + 1})
            body["next_page"] = f"{public_url}/pexels/v1/videos/search?{following}"
        return JSONResponse(body, headers=_limits(store, clock()))

    @api.get("/v1/search")
    async def search_photos(request: Request) -> Response:
        refusal = _refusal(request)
        if refusal is not None:
            return refusal
        asked = request.query_params
        query, shape = (
            " ".join(asked.get("query", "").casefold().split()),
            asked.get("orientation", "landscape"),
        )
        per_page = min(_number(asked, "per_page", 15), MAX_PER_PAGE)
        photos = find_photos(query, shape, seed, public_url)[:per_page]
        body = {"page": 1, "per_page": per_page, "photos": photos, "total_results": len(photos)}
        return JSONResponse(body, headers=_limits(store, clock()))

    @api.get("/photos/{picture}/{size}.jpeg")
    async def photo(picture: str, size: str) -> Response:
        wanted = re.fullmatch(r"(\d{3,4})x(\d{3,4})", size)
        if not re.fullmatch(r"[0-9a-f]{12}", picture) or wanted is None:
            return Response("Not Found", 404)
        sides = int(wanted[1]), int(wanted[2])
        return Response(await asyncio.to_thread(draw_photo, picture, sides), media_type="image/jpeg")

    @api.get("/v1/videos/videos/{video_id}")
    async def one(video_id: str, request: Request) -> Response:
        refusal, video = _refusal(request), store.get("pexels_video", video_id)
        if refusal is not None:
            return refusal
        if video is None:
            return JSONResponse({"status": 404, "code": "Not Found"}, 404)
        return JSONResponse(video, headers=_limits(store, clock()))

    @api.get("/video-files/{picture}/{name}")
    async def file(picture: str, name: str) -> Response:
        wanted = re.fullmatch(r"(\d{2,4})_(\d{2,4})_(\d{1,2})s\.mp4", name)
        if not re.fullmatch(r"[0-9a-f]{12}", picture) or wanted is None:
            return Response("Not Found", 404)
        path = store.blob_path(f"pexels_{picture}_{name}")
        async with drawing:
            if not path.is_file():
                width, height, duration = map(int, wanted.groups())
                await asyncio.to_thread(draw_clip, path, picture, width, height, duration)
        return FileResponse(path, media_type="video/mp4")

    return api


def _refusal(request: Request) -> Response | None:
    if KEY.fullmatch(request.headers.get("authorization", "")):
        return None
    return JSONResponse({"status": 401, "code": "Unauthorized"}, 401)


def _number(asked: Mapping[str, str], name: str, default: int) -> int:
    value = asked.get(name, "")
    return max(1, int(value)) if value.isdecimal() else default


def _limits(store: SandboxStore, now: datetime) -> dict[str, str]:
    """Rate limit headers: requests of the calendar month."""
    used = store.counter(f"pexels_requests_{now:%Y-%m}")
    following = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = following.replace(year=now.year + now.month // 12, month=now.month % 12 + 1)
    return {
        "X-Ratelimit-Limit": str(MONTHLY_LIMIT),
        "X-Ratelimit-Remaining": str(max(0, MONTHLY_LIMIT - used)),
        "X-Ratelimit-Reset": str(int(following.timestamp())),
    }


def find_videos(query: str, shape: str | None, seed: int, public_url: str) -> list[Json]:
    """What a query finds, best first; with an orientation only such videos."""
    if not any(VOWEL.search(word) for word in query.split()):
        return []
    total = seeded_rng(seed, "pexels", query).randint(18, 34)
    return [_video(query, place, shape or "landscape", seed, public_url) for place in range(total)]


def _video(query: str, place: int, shape: str, seed: int, public_url: str) -> Json:
    rng = seeded_rng(seed, "pexels", query, shape, place)
    video_id = rng.randint(1_000_000, 29_999_999)
    original = 0 if place == 2 else place
    picture = hashlib.sha256(f"{seed} {query} {shape} {original}".encode()).hexdigest()[:12]
    duration = seeded_rng(picture).randint(5, 9)
    name = rng.choice(NAMES)
    handle = name.casefold().replace(" ", "-").replace("ø", "o")
    page = f"https://www.pexels.com/video/{re.sub(r'[^a-z0-9]+', '-', query)}-{video_id}/"
    sizes = {quality: _shaped(size, shape) for quality, size in QUALITIES.items()}
    files: list[Json] = [
        {
            "id": video_id * 10 + number, "quality": quality, "file_type": "video/mp4", "width": width,
            "height": height, "fps": float(RATE),
            "link": f"{public_url}/pexels/video-files/{picture}/{width}_{height}_{duration}s.mp4",
        }
        for number, (quality, (width, height)) in enumerate(sizes.items())
    ]  # fmt: skip
    files.append(
        {
            "id": video_id * 10 + 9, "quality": "hls", "file_type": "video/mp4", "width": None, "height": None,
            "fps": None, "link": f"{public_url}/pexels/video-files/{picture}/playlist.m3u8",
        }
    )  # fmt: skip
    width, height = list(sizes.values())[-1]
    return {
        "id": video_id, "width": width, "height": height, "duration": duration, "url": page,
        "image": f"https://images.pexels.com/videos/{video_id}/preview.jpeg", "full_res": None, "tags": [],
        "user": {"id": rng.randint(1000, 999_999), "name": name, "url": f"https://www.pexels.com/@{handle}"},
        "video_files": files, "video_pictures": [],
    }  # fmt: skip


def find_photos(query: str, shape: str, seed: int, public_url: str) -> list[Json]:
    """Photos a query finds; drawn when they are fetched, the same for the same words."""
    if not any(VOWEL.search(word) for word in query.split()):
        return []
    photos = []
    for place in range(8):
        rng = seeded_rng(seed, "pexels photo", query, shape, place)
        name, number = rng.choice(NAMES), rng.randint(1_000_000, 29_999_999)
        width, height = (1300, 1880) if shape == "portrait" else (1880, 1300)
        picture = hashlib.sha256(f"{seed} photo {query} {place}".encode()).hexdigest()[:12]
        link = f"{public_url}/pexels/photos/{picture}/{width}x{height}.jpeg"
        photos.append(
            {
                "id": number, "width": width * 3, "height": height * 3, "photographer": name, "alt": query,
                "url": f"https://www.pexels.com/photo/{re.sub(r'[^a-z0-9]+', '-', query)}-{number}/",
                "photographer_url": f"https://www.pexels.com/@{number % 999_999}", "src": {"large2x": link},
            }
        )  # fmt: skip
    return photos


def draw_photo(picture: str, size: tuple[int, int]) -> bytes:
    """Ridges behind one another under a sky with a sun, in colours of their own for every picture."""
    import colorsys

    from PIL import Image, ImageDraw

    rng = seeded_rng("pexels photo", picture)
    width, height = size
    hue = rng.random()

    def colour(shift: float, saturation: float, value: float) -> tuple[int, ...]:
        return tuple(round(255 * part) for part in colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value))

    sky = Image.linear_gradient("L").resize(size)
    photo = Image.composite(
        Image.new("RGB", size, colour(0.1, 0.35, 1.0)), Image.new("RGB", size, colour(0, 0.6, 0.6)), sky
    )
    pen = ImageDraw.Draw(photo)
    x, y, reach = (
        rng.randint(width // 5, width * 4 // 5),
        rng.randint(height // 6, height // 2),
        min(size) // 9,
    )
    pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour(0.15, 0.2, 1.0))
    for depth in range(6):
        crest, step = height * (0.42 + 0.09 * depth), max(6, width // (18 + 14 * depth))
        points, level = [(0, height)], crest
        for across in range(0, width + step, step):
            level = crest + (level - crest) * 0.7 + rng.uniform(-1, 1) * height * 0.035
            points.append((across, round(level)))
        pen.polygon(
            [*points, (width, height)], fill=colour(-0.02 * depth, 0.4 + 0.06 * depth, 0.62 - 0.09 * depth)
        )
        for _ in range(40 * depth):
            left, top = rng.randint(0, width), rng.randint(round(crest + height * 0.04), height)
            pen.line(
                (left, top, left, top - rng.randint(6, 14 + 6 * depth)), fill=colour(-0.1, 0.5, 0.3), width=3
            )
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _shaped(size: tuple[int, int], shape: str) -> tuple[int, int]:
    wide, high = size
    return {"portrait": (high, wide), "square": (high, high)}.get(shape, (wide, high))


def draw_clip(path: Path, picture: str, width: int, height: int, duration_s: int) -> None:
    """Slowly turning colours with two bars of light that pass, drawn small and enlarged: a second or two of work."""
    rng = seeded_rng("pexels clip", picture)
    colours = ":".join(f"c{number}=0x{rng.randrange(0x303030, 0xFFFFFF):06x}" for number in range(3))
    small_width, small_height = (max(2, side // 4 * 2) for side in (width, height))
    bars = ",".join(
        f"drawbox=x='mod(t*{rng.randint(60, 160)}+{rng.randint(0, 300)},{small_width})':y=0:"
        f"w={small_width // rng.randint(8, 16)}:h={small_height}:color=white@{rng.uniform(0.12, 0.3):.2f}:t=fill"
        for _ in range(2)
    )
    graph = (
        f"gradients=s={small_width}x{small_height}:r={RATE}:d={duration_s}:{colours}:n=3:seed={rng.randint(1, 9999)}:"
        f"speed=0.03,{bars},scale={width}:{height}:flags=bilinear,format=yuv420p,"
        "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    )
    with private_dir(path.parent, ".clip") as workdir:
        made = workdir / "clip.mp4"
        run_ffmpeg(
            [
                "-filter_complex", f"{graph}[v]", "-map", "[v]", "-t", str(duration_s),
                "-c:v", "libx264", "-preset", "ultrafast", "-crf", "23", "-threads", "1",
                "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart", "-f", "mp4",
                f"file:{made}",
            ],
            doing="drawing a stock clip",
            workdir=workdir,
            timeout_s=120,
        )  # fmt: skip
        made.replace(path)
