"""Connecting an account's channel from the command line and the demo, in the sandbox without a consent page."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.orchestration.resources import TikTokResource, YouTubeResource
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state

if TYPE_CHECKING:
    from ettametta_pipelines.publishing.connections import ConnectingApp, Connection

APPS: "dict[str, Callable[[], ConnectingApp]]" = {
    "youtube": YouTubeResource().app,
    "tiktok": TikTokResource().app,
}
VENDOR_OF = {"youtube": "google", "tiktok": "tiktok"}


def connect_platform(settings: Settings, account: str, platform: str, code: str | None) -> "Connection":
    """Connect by OAuth code; in the sandbox, which has no consent page, the code may be left out.

    Raises PermanentError `unknown_platform`, NeedsPersonError `consent_needed` for a live vendor without a code, and
    what `publishing.connections.connect` raises.
    """
    from ettametta_pipelines.publishing.connections import connect

    if platform not in APPS:
        raise PermanentError(
            f"{platform!r} is not a platform videos are published to.",
            code="unknown_platform",
            remedy=f"Use one of {', '.join(sorted(APPS))}.",
        )
    if code is None:
        if settings.endpoint(VENDOR_OF[platform]).mode == "live":
            raise NeedsPersonError(
                f"{platform} is live, so {account} has to consent on its own page first.",
                code="consent_needed",
                remedy=f"Connect it in a browser at {settings.gateway_url}/accounts, where the gateway runs.",
            )
        code = f"sandbox-{account}"
    return connect(open_state(settings), APPS[platform](), account, platform, code)
