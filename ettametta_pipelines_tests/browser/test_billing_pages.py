"""A person in a browser buys a plan, ends it, stays, and looks at the portal; Stripe is the sandbox, over HTTP."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.webhook_effects import apply_inbox
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.servers import in_thread

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def gateway(settings_env: Settings) -> Iterator[str]:
    """Address of a gateway that serves on a free port."""
    from ettametta_pipelines.gateway.app import create_gateway

    with in_thread(lambda url: create_gateway(settings_env, url=url), lifespan="off") as server:
        yield server.url


@pytest.fixture
def hear(gateway: str, sandbox: SandboxUnderTest, settings_env: Settings) -> Callable[[], int]:
    """Let Stripe tell the gateway what happened, and the inbox be worked off; how many messages had an effect."""

    def do() -> int:
        sent = sandbox.http.post("/_control/webhooks/stripe", json={"url": f"{gateway}/webhooks/stripe"})
        assert set(sent.raise_for_status().json().values()) <= {200}
        worked, _ = apply_inbox(settings_env, open_state(settings_env))
        assert (worked.failed, worked.parked) == ([], [])
        return sum(n for (_, _, outcome), n in worked.outcomes.items() if outcome == "applied")

    return do


def test_a_person_buys_a_plan_ends_it_stays_and_opens_the_portal(
    page: "Page", gateway: str, hear: Callable[[], int]
) -> None:
    page.goto(gateway)
    page.get_by_role("link", name="Plans").click()
    assert page.get_by_role("row", name="Creator").first.get_by_text("$29.00").is_visible()
    page.get_by_label("Account").fill("acme")
    page.get_by_role("button", name="Open").click()
    page.get_by_role("heading", name="Plan of acme").wait_for()

    page.get_by_role("button", name="Buy Creator").click()
    page.get_by_role("heading", name="Sandbox checkout, open: 29.00 USD a month").wait_for()
    page.get_by_role("button", name="Pay", exact=True).click()
    page.wait_for_url(f"{gateway}/billing/acme?from=checkout")
    assert page.locator("#tier").inner_text() == "Creator"
    assert page.get_by_text("paid", exact=True).is_visible()
    assert hear() == 0, "coming back had read Stripe; the messages found nothing to change"

    page.get_by_role("link", name="Upgrade to Empire …").click()
    page.get_by_role("button", name="Upgrade and pay").click()
    page.wait_for_url(f"{gateway}/billing/acme")
    assert page.locator("#tier").inner_text() == "Empire"

    page.get_by_role("link", name="End the plan …").click()
    page.get_by_role("heading", name="End the plan of acme?").wait_for()
    page.get_by_role("button", name="End it").click()
    assert page.locator("#next").inner_text() == "Free"
    page.get_by_role("button", name="Keep Empire").click()
    page.get_by_role("link", name="End the plan …").wait_for()
    assert page.locator("#next").count() == 0

    page.get_by_role("button", name="Invoices and card …").click()
    page.get_by_role("button", name="Cancel at the period's end").click()
    page.get_by_role("heading", name="Changed.").wait_for()
    assert hear() == 1, "what was done at Stripe reaches us by its message alone"
    page.get_by_role("link", name="Back to the seller").click()
    page.wait_for_url(f"{gateway}/billing/acme")
    assert page.locator("#next").inner_text() == "Free"


def test_the_plan_pages_are_read_by_keyboard_on_a_phone(page: "Page", gateway: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/billing", "/billing/acme"):
        page.goto(gateway + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.get_by_role("heading", level=1).count() == 1
        unnamed = page.evaluate(
            "[...document.querySelectorAll('main input:not([type=hidden])')].filter(i => !i.labels.length).length"
        )
        assert unnamed == 0
    page.get_by_role("button", name="Buy Creator").focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Sandbox checkout").wait_for()
