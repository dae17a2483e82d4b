"""The revenue assets in real Dagster runs, on real tables in a directory, against the sandbox over HTTP."""

import random
from collections.abc import Iterator
from typing import Any

import dagster as dg
import httpx
import pandas as pd
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.orchestration.failure_policy import FAILURE_CODE_TAG, FAILURE_KIND_TAG
from ettametta_pipelines.orchestration.resources import (
    LakeResource,
    ShopifyResource,
    StateResource,
    StoreResource,
    StripeResource,
    YouTubeResource,
)
from ettametta_pipelines.revenue.assets import ASSETS
from ettametta_pipelines.revenue.contracts import (
    BUSINESS_COLUMNS,
    DAILY_REVENUE,
    SHOPIFY_LEDGER,
    STRIPE_LEDGER,
)
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.storage.lake import open_lake
from ettametta_pipelines.storage.tables import ParquetTables, read_table
from ettametta_pipelines_tests.conftest import SandboxUnderTest

DAYS = ["2026-03-07", "2026-03-08", "2026-03-09"]
PAYOUT_TUESDAY = "2026-03-10"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def book(instance: dg.DagsterInstance, day: str, *, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
    store = StoreResource()
    return dg.materialize(
        ASSETS,
        partition_key=day,
        instance=instance,
        raise_on_error=raise_on_error,
        resources={
            "store": store,
            "tables": ParquetTables(store.open, ALL_TABLES),
            "stripe": StripeResource(),
            "shopify": ShopifyResource(),
            "youtube": YouTubeResource(),
            "state": StateResource(),
            "lake": LakeResource(),
        },
    )


def stored(day: str) -> dict[str, pd.DataFrame]:
    """The business columns of the three tables of a day."""
    store = StoreResource().open()
    tables = {c.name: read_table(store, c, day) for c in (STRIPE_LEDGER, SHOPIFY_LEDGER, DAILY_REVENUE)}
    return {name: frame[[c for c in frame.columns if c in BUSINESS_COLUMNS or name == "daily_revenue"]]
            for name, frame in tables.items()}  # fmt: skip


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_a_day_is_booked_and_shown_to_the_operator(
    settings_env: Settings, instance: dg.DagsterInstance
) -> None:
    result = book(instance, PAYOUT_TUESDAY)
    shown = metadata_of(result, "daily_revenue")
    assert shown["net_USD"].startswith("$")
    assert isinstance(shown["net_minor_USD"], int)
    assert "| stripe | $" in shown["preview"]
    assert metadata_of(result, "stripe_raw")["is_closed"]
    assert metadata_of(result, "stripe_ledger")["rows_without_payout"] == 0
    evaluations = result.get_asset_check_evaluations()
    assert len(evaluations) >= 20
    assert [e.check_name for e in evaluations if not e.passed] == []
    mart = stored(PAYOUT_TUESDAY)["daily_revenue"]
    assert (mart["transfers_minor"] < 0).any()
    assert (mart["net_minor"] == mart["gross_minor"] - mart["fee_minor"]).all()


def test_the_lake_shows_what_was_booked(settings_env: Settings, instance: dg.DagsterInstance) -> None:
    book(instance, DAYS[0])
    with open_lake(settings_env, ALL_TABLES) as lake:
        rows = lake.query(
            "select source, sum(net_minor)::bigint as net from daily_revenue group by source order by source"
        )
    assert rows["source"].to_list() == ["shopify", "stripe"]


def test_booking_again_and_in_any_order_gives_the_same_tables(
    settings_env: Settings, instance: dg.DagsterInstance
) -> None:
    for day in DAYS:
        book(instance, day)
    in_order = {day: stored(day) for day in DAYS}
    shuffled = list(DAYS)
    random.Random(3).shuffle(shuffled)
    for day in shuffled:
        book(instance, day)
    for day in DAYS:
        for name, frame in stored(day).items():
            pd.testing.assert_frame_equal(frame, in_order[day][name])


def test_days_are_cut_at_the_operators_midnights(
    settings_env: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_BUSINESS_TIMEZONE", "America/Los_Angeles")
    get_settings.cache_clear()
    book(instance, "2026-03-08")
    ledger = stored("2026-03-08")["stripe_ledger"]
    assert set(ledger["business_timezone"]) == {"America/Los_Angeles"}
    # 23 hours: the night the clocks go forward.
    assert ledger["occurred_at"].min() >= pd.Timestamp("2026-03-08T08:00:00Z")
    assert ledger["occurred_at"].max() < pd.Timestamp("2026-03-09T07:00:00Z")


def test_an_unknown_category_is_kept_but_stops_the_mart(
    settings_env: Settings, instance: dg.DagsterInstance, sandbox: SandboxUnderTest
) -> None:
    headers = {"Authorization": "Bearer sandbox-key"}
    url = f"{sandbox.url}/stripe/v1/balance_transactions"
    window = {"created[gte]": "1772841600", "created[lt]": "1772928000", "limit": "100"}
    listing = httpx.get(url, params=window, headers=headers).raise_for_status().json()
    listing["data"][0] |= {"reporting_category": "loan_from_mars", "type": "loan"}
    sandbox.fault("stripe", path_regex="balance_transactions", status=200, body=listing)
    result = book(instance, DAYS[0], raise_on_error=False)
    assert not result.success
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed]
    assert [e.check_name for e in failed] == ["categories_are_known"]
    assert "loan_from_mars" in (failed[0].description or "")
    assert not result.asset_materializations_for_node("daily_revenue")
    store = StoreResource().open()
    assert "unclassified" in set(read_table(store, STRIPE_LEDGER, DAYS[0])["booking_class"])


def test_a_refused_key_fails_once_with_code_and_remedy_and_stands_nowhere(
    settings_env: Settings,
    instance: dg.DagsterInstance,
    sandbox: SandboxUnderTest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    canary = "sk_live_" + "c4n4ry" * 5
    monkeypatch.setenv("STRIPE_SECRET_KEY", canary)
    monkeypatch.setenv("STRIPE_BASE_URL", f"{sandbox.url}/stripe")
    get_settings.cache_clear()
    result = book(instance, DAYS[0], raise_on_error=False)
    assert not result.success
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[FAILURE_CODE_TAG] == "stripe_unauthorized"
    assert run.tags[FAILURE_KIND_TAG] == "needs_person"
    assert sandbox.count("stripe", "GET", "balance_transactions") == 1
    everything = "".join(str(entry) for entry in instance.all_logs(result.run_id))
    assert "stripe_unauthorized" in everything
    assert canary not in everything
    assert canary[8:30] not in everything
