"""One meaning of `VendorEndpoint.max_retries` in every client: retries after the first attempt."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import TransientError
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.vendors.gemini import GeminiClient
from ettametta_pipelines.vendors.shopify import ShopifyClient
from ettametta_pipelines.vendors.stripe import StripeClient
from ettametta_pipelines.vendors.tiktok import TikTokApp
from ettametta_pipelines.vendors.youtube import YouTubeApp, YouTubeData
from ettametta_pipelines_tests.conftest import SandboxUnderTest

Read = Callable[[VendorEndpoint], object]


def ledger_days(endpoint: VendorEndpoint) -> object:
    now = utc_now()
    return list(StripeClient(endpoint).balance_transactions(now - timedelta(days=1), now))


# A repeatable read of each client; `google` is the OAuth app, whose tokens come from YouTube's sandbox.
READS: dict[str, Read] = {
    "youtube": lambda endpoint: YouTubeData(endpoint).channels(["UC1"]),
    "google": lambda endpoint: YouTubeApp(endpoint, f"{endpoint.base_url}token").refresh("1//x"),
    "gemini": lambda endpoint: GeminiClient(endpoint, "gemini-3.5-flash-lite").count_tokens("x"),
    "tiktok": lambda endpoint: TikTokApp(endpoint).creator("act.x").user_info(),
    "stripe": ledger_days,
    "shopify": lambda endpoint: ShopifyClient(endpoint).shop(),
}


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("vendor", READS)
def test_a_read_is_sent_once_and_then_as_often_as_retries_are_allowed(
    vendor: str, retries: int, sandbox: SandboxUnderTest, settings_env: Settings
) -> None:
    asked = "youtube" if vendor == "google" else vendor
    now_again = {"Retry-After": "0"}
    busy = {"error": {"code": "internal_error", "message": "busy", "status": "UNAVAILABLE"}}
    body = busy if vendor == "tiktok" else "busy"
    # A wait of zero is asked for where the client reads the header, so that nothing here sleeps long.
    sandbox.fault(asked, times=None, status=503, body=body, headers=now_again)
    endpoint = replace(settings_env.endpoint(vendor), max_retries=retries)
    with pytest.raises(TransientError):
        READS[vendor](endpoint)
    assert len(sandbox.requests(asked)) == 1 + retries
