"""Which way of counting views a counter stands for, so that figures of different eras never meet.

YouTube has changed what a view is twice: Shorts count every start or replay since 2025-03-31, all formats count the
start of playback since 2026-08-27 (revision history of the Data API). Instants and lengths in, a name out. Asked by
`trends.py` and by whoever makes a baseline.
"""

from datetime import UTC, datetime

SHORTS_COUNT_STARTS = datetime(2025, 3, 31, tzinfo=UTC)
ALL_COUNT_STARTS = datetime(2026, 8, 27, tzinfo=UTC)
# Shorts may be three minutes long since October 2024, and the API does not name the format.
SHORT_UP_TO_S = 180.0

OTHER_PLATFORMS = "platform-default"
UNKNOWN_FORMAT = "youtube-unknown-format"
STRADDLES = "youtube-across-a-change"


def counting_version(
    platform: str, published_at: datetime, observed_at: datetime, duration_s: float | None
) -> str:
    """Name of the rule under which all views of a video between publication and observation were counted.

    `youtube-across-a-change` where the rule changed in between: such a counter compares with no other. A video of
    unknown length from between the two changes is `youtube-unknown-format`, for it may or may not be a Short.
    """
    if platform != "youtube":
        return OTHER_PLATFORMS
    first, last = (_rule(instant, duration_s) for instant in (published_at, observed_at))
    return first if first == last else STRADDLES


def is_comparable(version: str) -> bool:
    """Whether counters of this version may be set beside each other."""
    return version not in (STRADDLES, UNKNOWN_FORMAT)


def _rule(at: datetime, duration_s: float | None) -> str:
    if at >= ALL_COUNT_STARTS:
        return "youtube-starts-2026-08"
    if at < SHORTS_COUNT_STARTS:
        return "youtube-watched"
    if duration_s is None:
        return UNKNOWN_FORMAT
    return "youtube-shorts-starts-2025-03" if duration_s <= SHORT_UP_TO_S else "youtube-watched"
