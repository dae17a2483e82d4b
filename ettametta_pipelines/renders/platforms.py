"""Where renditions go: what each platform takes, and which part of the picture its own controls leave free.

One table for all who ask: the engine before it renders for a platform, publishing before it posts, captions for the
part of a format that every platform shows, and `ettametta platforms`. Limits on words are publishing's.
"""

from dataclasses import asdict, dataclass
from typing import Any

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.renders.formats import FORMATS, Format
from ettametta_pipelines.untrusted import plain_text

GB, MB = 1_000_000_000, 1_000_000
# 23.976 frames a second is what platforms mean by 24.
RATE_TOLERANCE = 0.03


@dataclass(frozen=True)
class Margins:
    """Pixels at the edges of a format that a platform covers with its own controls."""

    top: int
    bottom: int
    left: int
    right: int

    def box(self, format: Format) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what stays free; right and bottom are the first outside."""
        return self.left, self.top, format.width - self.right, format.height - self.bottom


@dataclass(frozen=True)
class Platform:
    """One place to post to. Zero and None stand for no limit that is stated anywhere.

    `sources` are the pages the figures come from, the platform's own or such as pass its figures on. `guesses` are the
    columns for which it states nothing: what others found or advise, and never a reason to refuse a video.
    """

    name: str
    format: str
    margins: Margins
    sources: tuple[str, ...]
    guesses: frozenset[str]
    shortest_s: float = 0.0
    longest_s: float | None = None
    max_bytes: int | None = None
    max_kbps: int | None = None
    fps: tuple[float, float] = (0.0, 60.0)
    loudness_lufs: float = -14.0
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for the command line."""
        return asdict(self) | {"guesses": sorted(self.guesses)}


PLATFORMS: dict[str, Platform] = {
    row.name: row
    for row in (
        Platform(
            "youtube",
            "16x9",
            # Title-safe edges, and below them the progress bar with its buttons.
            margins=Margins(top=65, bottom=119, left=192, right=192),
            longest_s=12 * 3600,
            max_bytes=256 * GB,
            guesses=frozenset(("margins", "fps", "loudness_lufs")),
            sources=(
                "https://support.google.com/youtube/answer/71673",
                "https://docs.getlate.dev/resources/media-guidelines/youtube",
            ),
            note="Channels without a verified telephone number: 15 minutes.",
        ),
        Platform(
            "youtube_shorts",
            "9x16",
            # The title, the channel and its button below; the column of buttons at the right.
            margins=Margins(top=288, bottom=480, left=48, right=120),
            longest_s=180,
            max_bytes=256 * GB,
            guesses=frozenset(("margins", "fps", "loudness_lufs")),
            sources=(
                "https://www.ayrshare.com/docs/media-guidelines/youtube",
                "https://www.youraithumbnailgenerator.com/guides/youtube-shorts-safe-zones-complete-guide",
            ),
            note="Longer upright videos are posted as ordinary videos.",
        ),
        Platform(
            "tiktok",
            "9x16",
            margins=Margins(top=150, bottom=440, left=60, right=150),
            longest_s=600,
            max_bytes=4 * GB,
            fps=(23, 60),
            guesses=frozenset(("margins", "loudness_lufs")),
            sources=(
                "https://developers.tiktok.com/doc/content-posting-api-media-transfer-guide",
                "https://adfuseai.com/blog/tiktok-ad-sizes-specs-guide",
            ),
            note="Each creator has a limit of their own, which is asked for before every post.",
        ),
        Platform(
            "instagram_reels",
            "9x16",
            # Meta's figures for Reels: 14 % above, 35 % below, 6 % at either side.
            margins=Margins(top=269, bottom=672, left=65, right=65),
            shortest_s=3,
            longest_s=900,
            max_bytes=300 * MB,
            max_kbps=25_000,
            fps=(23, 60),
            guesses=frozenset(("loudness_lufs",)),
            sources=(
                "https://help.swat.io/en/articles/11663331-instagram-reels-format-requirements",
                "https://www.ayrshare.com/docs/media-guidelines/instagram",
                "https://houseofmarketers.com/guide-to-safe-zones-tiktok-facebook-instagram-stories-reels/",
            ),
        ),
        Platform(
            "instagram_feed",
            "1x1",
            margins=Margins(top=64, bottom=108, left=64, right=64),
            shortest_s=3,
            longest_s=900,
            max_bytes=300 * MB,
            max_kbps=25_000,
            fps=(23, 60),
            guesses=frozenset(("margins", "loudness_lufs")),
            sources=(
                "https://help.swat.io/en/articles/11663331-instagram-reels-format-requirements",
                "https://www.imagefactory.co.kr/en/guides/instagram-story-ad-text-safe-zone",
            ),
            note="Videos of every shape are posted as reels; the feed shows them square or upright.",
        ),
        Platform(
            "facebook_reels",
            "9x16",
            margins=Margins(top=269, bottom=672, left=65, right=65),
            shortest_s=3,
            longest_s=90,
            fps=(24, 60),
            guesses=frozenset(("loudness_lufs",)),
            sources=(
                "https://developers.facebook.com/docs/video-api/guides/reels-publishing",
                "https://houseofmarketers.com/guide-to-safe-zones-tiktok-facebook-instagram-stories-reels/",
            ),
        ),
        Platform(
            "facebook_feed",
            "1x1",
            margins=Margins(top=76, bottom=108, left=86, right=86),
            longest_s=4 * 3600,
            max_bytes=10 * GB,
            guesses=frozenset(("margins", "fps", "loudness_lufs")),
            sources=("https://www.ayrshare.com/docs/media-guidelines/facebook-pages",),
        ),
    )
}


def table_rows() -> list[tuple[str, ...]]:
    """The table in words, headings first; a figure the platform does not state itself is marked by a tilde."""
    rows: list[tuple[str, ...]] = [
        (
            "platform",
            "format",
            "length",
            "largest file",
            "bit rate",
            "frames a second",
            "loudness",
            "covered pixels",
            "note",
        )
    ]
    for row in PLATFORMS.values():
        mark = {
            column: "~" if column in row.guesses else "" for column in ("fps", "loudness_lufs", "margins")
        }
        edges = row.margins
        rows.append(
            (
                row.name,
                row.format,
                _range(row.shortest_s, row.longest_s),
                _size(row.max_bytes),
                f"{row.max_kbps / 1000:g} Mbit/s" if row.max_kbps else "",
                f"{mark['fps']}{row.fps[0]:g} to {row.fps[1]:g}"
                if row.fps[0]
                else f"{mark['fps']}to {row.fps[1]:g}",
                f"{mark['loudness_lufs']}{row.loudness_lufs:g} LUFS",
                f"{mark['margins']}top {edges.top}, bottom {edges.bottom}, left {edges.left}, right {edges.right}",
                row.note,
            )
        )
    return rows


def _range(shortest_s: float, longest_s: float | None) -> str:
    return (f"{shortest_s:g} s to " if shortest_s else "to ") + (_length(longest_s) if longest_s else "any")


def _length(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:g} h"
    return f"{seconds / 60:g} min" if seconds >= 120 else f"{seconds:g} s"


def _size(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / GB:g} GB" if count >= GB else f"{count / MB:g} MB"


def choose_platform(name: str) -> Platform:
    """A row by name; raises PermanentError `unknown_platform` naming them all."""
    if name not in PLATFORMS:
        raise PermanentError(
            f"There is no platform {plain_text(name, 60)!r}.",
            code="unknown_platform",
            remedy=f"Use one of {', '.join(PLATFORMS)}.",
        )
    return PLATFORMS[name]


def free_of_controls(format: Format) -> Margins:
    """What no platform of this format covers; the sides are equal, so that captions stay in the middle."""
    rows = [row.margins for row in PLATFORMS.values() if row.format == format.name]
    sides = max(max(row.left, row.right) for row in rows)
    return Margins(max(row.top for row in rows), max(row.bottom for row in rows), sides, sides)


# What lies inside these is seen on every platform of the table.
SAFE_ZONES: dict[str, Margins] = {format.name: free_of_controls(format) for format in FORMATS.values()}


def require_fit(
    platform: str, duration_s: float, *, fps: float | None = None, size_bytes: int | None = None
) -> None:
    """Refuses a video the platform would refuse; what is None is not known yet.

    Raises PermanentError `unknown_platform`, `video_too_long`, `video_too_short`, `video_too_large`,
    `bit_rate_too_high` or `frame_rate_refused`, by what the platform itself states.
    """
    row = choose_platform(platform)
    kbps = None if size_bytes is None else 8 * size_bytes / duration_s / 1000
    # A last frame may reach past the limit; platforms count whole seconds.
    too_long = row.longest_s is not None and duration_s >= row.longest_s + 1
    slowest, fastest = row.fps
    problems = (
        ("longest_s", too_long, "video_too_long", f"lasts {duration_s:.1f} s", f"at most {row.longest_s or 0:g} s"),
        (
            "shortest_s", duration_s < row.shortest_s,
            "video_too_short", f"lasts {duration_s:.1f} s", f"at least {row.shortest_s:g} s",
        ),
        (
            "max_bytes", size_bytes is not None and row.max_bytes is not None and size_bytes > row.max_bytes,
            "video_too_large", f"has {(size_bytes or 0) / MB:.0f} MB", f"at most {(row.max_bytes or 0) / MB:.0f} MB",
        ),
        (
            "max_kbps", kbps is not None and row.max_kbps is not None and kbps > row.max_kbps,
            "bit_rate_too_high", f"has {kbps or 0:.0f} kbit/s", f"at most {row.max_kbps or 0} kbit/s",
        ),
        (
            "fps", fps is not None and not slowest - RATE_TOLERANCE <= fps <= fastest + RATE_TOLERANCE,
            "frame_rate_refused", f"has {fps or 0:.2f} frames a second", f"{slowest:g} to {fastest:g}",
        ),
    )  # fmt: skip
    for column, broken, code, is_so, allowed in problems:
        if broken and column not in row.guesses:
            raise PermanentError(
                f"The video {is_so}; {platform} takes {allowed}.", code=code, remedy=REMEDIES[code]
            )


REMEDIES: dict[str, str] = {
    "video_too_long": "Cut it, or choose another platform; `ettametta platforms` lists what each takes.",
    "video_too_short": "Choose another platform; `ettametta platforms` lists what each takes.",
    "video_too_large": "Cut it, or choose a recipe with less grain.",
    "bit_rate_too_high": "Choose a recipe with less grain.",
    "frame_rate_refused": "Export the source with 24 to 60 frames a second.",
}
