"""What the UI shows: everything loads, loads light, and each asset tells an operator what it is."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.definitions import defs

EXPECTED_ASSETS = {
    "discovery": {
        "youtube_candidates",
        "tiktok_candidates",
        "trend_candidates",
        "niche_trends",
        "video_snapshots",
        "quarantined_candidates",
        "statistics_retention",
    },
    "scoring": {
        "candidate_assessments",
        "scored_candidates",
        "creative_briefs",
        "source_assessments",
        "post_outcomes",
        "score_quality",
        "score_challenger",
        "score_weights",
    },
    "media": {"source_media", "media_analysis"},
    "renders": {"rendition_9x16", "rendition_16x9", "rendition_1x1", "thumbnails", "recipe_trials"},
    "publishing": {
        "youtube_publications",
        "youtube_thumbnails",
        "tiktok_publications",
        "publication_metrics",
        "connected_channels",
        "publish_queue",
        "publication_approvals",
        "publication_analytics",
        "variant_results",
    },
    "operations": {
        "api_quota_usage", "table_packs", "webhook_messages", "operations_overview", "video_catalog",
        "storage_lifecycle", "storage_inventory", "archived_videos", "pruned_history",
    },
    "revenue": {
        "stripe_raw", "shopify_raw", "stripe_ledger", "shopify_ledger", "daily_revenue", "ledger_reconciliation",
        "affiliate_raw", "affiliate_earnings", "youtube_revenue", "shopify_orders", "content_costs",
        "revenue_attribution", "content_margin",
    },
    "billing": {"account_entitlements", "video_slots"},
    "commerce": {"shopify_products", "affiliate_links", "product_matches"},
    "synthesis": {"synthesis_plans", "synthesized_clips"},
}  # fmt: skip

HEAVY = (
    "googleapiclient", "google.genai", "google.auth", "openai", "stripe", "shopify", "boto3", "botocore", "kubernetes",
    "duckdb", "av", "torch", "obstore", "PIL", "fastapi", "httpx", "alembic", "imageio_ffmpeg", "ffmpeg",
)  # fmt: skip


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return defs()


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> list[dg.AssetSpec]:
    return list(definitions.resolve_all_asset_specs())


def test_definitions_are_loadable(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_the_asset_graph_is_the_one_operators_know(specs: list[dg.AssetSpec]) -> None:
    found: dict[str, set[str]] = {}
    for spec in specs:
        found.setdefault(str(spec.group_name), set()).add(spec.key.to_user_string())
    assert found == EXPECTED_ASSETS


def test_every_asset_says_what_it_is_who_owns_it_and_what_to_do_when_it_fails(
    specs: list[dg.AssetSpec],
) -> None:
    assert specs
    for spec in specs:
        name = spec.key.to_user_string()
        assert spec.owners == [f"team:{spec.group_name}"], name
        assert 1 <= len(spec.kinds) <= 3, name
        assert spec.description, name
        assert len(spec.description) > 120, name
        assert "fail" in spec.description.lower(), f"{name} does not say what to do when it fails"
        assert "dagster/column_schema" in spec.metadata, name


def test_every_asset_has_a_table_contract_with_described_columns(specs: list[dg.AssetSpec]) -> None:
    assert {spec.key.to_user_string() for spec in specs} == set(ALL_TABLES)
    for contract in ALL_TABLES.values():
        assert contract.description
        assert set(contract.key) <= {column.name for column in contract.columns}
        assert all(column.description for column in contract.columns), contract.name


def test_jobs_and_schedules_keep_their_names(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert jobs == {
        "nightly_discovery", "niche_overview", "ingest_upload", "publish_video",
        "refresh_publication_metrics", "book_daily_revenue", "quota_usage",
        "take_video_snapshots", "rank_trends_again", "delete_old_statistics",
        "calibrate_score",
        "pack_tables",
        "reconcile_plans", "return_video_slots",
        "apply_storage_lifecycle", "count_storage", "archive_videos", "prune_history", "estimate_backfill",
        "check_channels", "catch_up_webhooks",
        "plan_publishing", "decide_publication", "read_publication_analytics", "compare_variants",
        "morning_page", "catalog_videos", "try_recipe",
        "read_shop", "match_products",
        "read_youtube_revenue", "book_late_commissions",
        "synthesize_clips", "synthesize_from_prompt",
    }  # fmt: skip
    schedules = {s.name: s.cron_schedule for s in repository.schedule_defs}
    assert schedules == {
        "nightly_discovery": "0 2 * * *",
        "morning_overview": "0 5 * * *",
        "hourly_publication_metrics": "15 * * * *",
        "nightly_books": "30 3 * * *",
        "late_commissions": "20 3 * * *",
        "recent_books": "20 6,9,12,15,18,21 * * *",
        "hourly_quota_usage": "50 * * * *",
        "parked_searches": "20 0 * * *",
        "hourly_snapshots": "40 * * * *",
        "morning_ranking": "50 4 * * *",
        "daily_statistics_retention": "20 6 * * *",
        "nightly_calibration": "30 1 * * *",
        "nightly_packing": "30 6 * * *",
        "nightly_plans": "10 3 * * *",
        "nightly_webhooks": "45 2 * * *",
        "hourly_video_slots": "5 * * * *",
        "keep_channels_connected": "*/5 * * * *",
        "half_hourly_publish_queue": "*/30 * * * *",
        "daily_publication_analytics": "0 7 * * *",
        "daily_youtube_revenue": "30 7 * * *",
        "nightly_variant_results": "45 1 * * *",
        "morning_page": "30 6 * * *",
        "half_hourly_catalog": "20,50 * * * *",
        "nightly_shop": "15 4 * * *",
        "morning_matches": "40 4 * * *",
        "publication_followup": "*/10 * * * *",
        "clip_followup": "*/10 * * * *",
        "nightly_clips": "35 3-9 * * *",
        "nightly_storage_inventory": "40 5 * * *",
        "nightly_storage_lifecycle": "55 5 * * *",
        "weekly_archiving": "15 4 * * 0",
        "weekly_pruning": "25 5 * * 0",
    }
    assert all(s.default_status is dg.DefaultScheduleStatus.RUNNING for s in repository.schedule_defs)
    assert sorted(s.name for s in repository.sensor_defs) == [
        "alerts", "automation", "gpu_pod_janitor", "ordered_posts", "publish_sensor", "queue_aging", "upload_sensor",
        "webhook_inbox",
    ]  # fmt: skip


def test_loading_definitions_imports_no_sdk_driver_or_media_library() -> None:
    program = (
        "import json, sys; import ettametta_pipelines.definitions as d; d.defs();"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_resources_have_no_configuration_that_could_show_a_secret(definitions: dg.Definitions) -> None:
    assert definitions.resources
    for name, resource in definitions.resources.items():
        assert not getattr(type(resource), "model_fields", {}), name


def test_the_workspace_file_names_this_module_and_works_uninstalled() -> None:
    root = Path(__file__).resolve().parent.parent
    (entry,) = yaml.safe_load((root / "workspace.yaml").read_text())["load_from"]
    assert entry["python_module"]["module_name"] == "ettametta_pipelines.definitions"
    assert entry["python_module"]["working_directory"] == "."


def test_the_instance_file_is_valid_and_sends_nothing_home(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parent.parent
    (tmp_path / "dagster.yaml").write_bytes((root / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
