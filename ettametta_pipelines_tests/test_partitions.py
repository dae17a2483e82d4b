"""Where days begin: by a setting, for books of years ago, within what a Dagster asset can hold."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines.settings import Settings, SettingsError, load_settings

LOADED = """
import json
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.partitions import DAY, DAY_NICHE, FIRST_DAY, NICHE
from ettametta_pipelines.settings import get_settings
import dagster as dg
graph = build_definitions(get_settings()).resolve_asset_graph()
mapping = graph.get_partition_mapping(dg.AssetKey("content_margin"), dg.AssetKey("content_costs"))
print(json.dumps({
    "first": FIRST_DAY, "day": DAY.get_first_partition_key(), "margin": mapping.start_offset,
    "niche_days": DAY_NICHE.get_partition_keys()[0].split("|")[0],
}))
"""

BOOKED_IN_ONE_RUN = """
import json
from datetime import datetime, UTC
import dagster as dg
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.revenue.affiliates import import_csv
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.lake import open_lake
from ettametta_pipelines.catalog import ALL_TABLES
settings = get_settings()
text = b"occurred_at,amount,currency,transaction_id,status\\n2025-12-01,5.00,USD,t1,approved\\n"
import_csv(open_store(settings), "awin", "2025.csv", text, timezone=settings.timezone, now=datetime.now(UTC))
with dg.DagsterInstance.ephemeral() as instance:
    done = build_definitions(settings).resolve_job_def("book_daily_revenue").execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(n) for n in (
            "stripe_raw", "stripe_ledger", "shopify_raw", "shopify_ledger", "daily_revenue", "affiliate_earnings")],
        tags={"dagster/asset_partition_range_start": "2025-12-01", "dagster/asset_partition_range_end": "2026-01-09"},
    )
    days = len(instance.get_materialized_partitions(dg.AssetKey("daily_revenue")))
with open_lake(settings, ALL_TABLES) as lake:
    sold = lake.rows("select day, amount_minor from affiliate_earnings")
    booked = lake.rows("select min(day) as first, sum(net_minor)::bigint as net from daily_revenue")
print(json.dumps([done.success, days, sold, booked], default=str))
"""


def in_a_process(program: str) -> Any:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_days_begin_where_the_setting_says_and_the_margin_follows_its_window(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_FIRST_DAY", "2019-03-31")
    monkeypatch.setenv("ETTAMETTA_MARGIN_WINDOW_DAYS", "365")
    assert in_a_process(LOADED) == {
        "first": "2019-03-31", "day": "2019-03-31", "niche_days": "2019-03-31", "margin": -364,
    }  # fmt: skip


def test_days_of_an_earlier_year_are_booked_in_one_run_with_those_of_this_one(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_FIRST_DAY", "2025-12-01")
    success, days, sold, booked = in_a_process(BOOKED_IN_ONE_RUN)
    assert (success, days) == (True, 40)
    assert sold == [{"day": "2025-12-01", "amount_minor": 500}]
    # The sandbox's ledgers begin in January 2026; before that there is nothing, and nothing is made up.
    assert booked[0]["first"] == "2026-01-01"
    assert booked[0]["net"] > 0


@pytest.mark.parametrize("value", ["2004-12-31", "2026-01-02", "yesterday"])
def test_a_first_day_that_cannot_be_is_refused_by_name(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETTAMETTA_FIRST_DAY", value)
    with pytest.raises(SettingsError, match="ETTAMETTA_FIRST_DAY"):
        load_settings()


def test_more_days_times_niches_than_an_asset_can_hold_are_refused_with_what_to_do(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    niches = tmp_path / "niches.yaml"
    lines = [f'  n{n}: {{title: N, queries: ["a b"], languages: [en], regions: [US]}}' for n in range(40)]
    niches.write_text("niches:\n" + "\n".join(lines) + "\n")
    monkeypatch.setenv("ETTAMETTA_NICHES", str(niches))
    monkeypatch.setenv("ETTAMETTA_FIRST_DAY", "2016-01-01")
    program = "import ettametta_pipelines.partitions"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "146,120 partitions" in done.stderr
    assert "Set ETTAMETTA_FIRST_DAY to 2019-02-27 or later" in done.stderr
