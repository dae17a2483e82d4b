"""Clients of a frozen sandbox: the books as they stand at one fixed moment."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.shopify import ShopifyClient
from ettametta_pipelines.vendors.stripe import StripeClient
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc

NOW = utc("2026-11-20T12:00:00")


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def books(tmp_path: Path, clock: SetClock) -> Iterator[SandboxUnderTest]:
    with frozen_sandbox(tmp_path / "books", clock) as running:
        yield running


@pytest.fixture
def stripe(books: SandboxUnderTest, clock: SetClock) -> StripeClient:
    endpoint = VendorEndpoint("stripe", "sandbox", f"{books.url}/stripe/", "test")
    return StripeClient(endpoint, sleep=clock.sleep)


@pytest.fixture
def shopify(books: SandboxUnderTest, clock: SetClock) -> ShopifyClient:
    endpoint = VendorEndpoint("shopify", "sandbox", f"{books.url}/shopify/", "test")
    return ShopifyClient(endpoint, sleep=clock.sleep)
