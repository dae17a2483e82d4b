"""`ettametta trace` ends with what a video earned and cost."""

from datetime import date
from io import StringIO

from rich.console import Console

from ettametta_pipelines.commands.trace import print_trace, trace_of
from ettametta_pipelines.revenue.margin_contracts import CONTENT_COSTS, REVENUE_ATTRIBUTION
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.parquet import write_table
from ettametta_pipelines_tests.revenue.test_costs_and_margin import cost, earned, made_after, post

DAY = date(2026, 3, 5)


def test_a_video_s_revenue_and_cost_are_traced_by_currency_and_vendor(settings_env: Settings) -> None:
    store = open_store(settings_env)
    made_after(store, "acme--1")
    ours = post(1, "cooking", "clean")
    revenue = [earned(1999, ours), earned(-500, ours), earned(7, ours, "JPY", 0), earned(99, None)]
    write_table(store, REVENUE_ATTRIBUTION, REVENUE_ATTRIBUTION.frame(revenue), DAY.isoformat())
    costs = [cost(880, "acme--1"), cost(5, "acme--2")]
    write_table(store, CONTENT_COSTS, CONTENT_COSTS.frame(costs), DAY.isoformat())
    chain = trace_of(settings_env, "acme--1")
    assert [(row["currency"], row["net_minor"], row["items"]) for row in chain["revenue"]] == [
        ("JPY", 7, 1), ("USD", 1499, 2),
    ]  # fmt: skip
    assert [row["cost_microusd"] for row in chain["costs"]] == [880]
    console = Console(record=True, width=200, file=StringIO())
    print_trace(chain, console)
    said = console.export_text()
    assert "revenue: ¥7, $14.99" in said
    assert "cost: $0.000880" in said
