"""The discovery assets in real Dagster runs, on the sandbox, with the real Parquet tables."""

import re
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery.assets import (
    ASSETS,
    niche_trends,
    tiktok_candidates,
    trend_candidates,
    youtube_candidates,
)
from ettametta_pipelines.discovery.contracts import NICHE_TRENDS, TIKTOK_CANDIDATES, TREND_CANDIDATES
from ettametta_pipelines.orchestration import failure_policy
from ettametta_pipelines.orchestration.resources import (
    LakeResource,
    StateResource,
    StoreResource,
    TikTokResource,
    YouTubeResource,
)
from ettametta_pipelines.partitions import day_niche_key
from ettametta_pipelines.publishing.connections import connect
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.tables import ParquetTables, read_table
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.discovery.conftest import LeaveQuota

TODAY = utc_now().date().isoformat()
LIMITS = {"ops": {"youtube_candidates": {"config": {"baseline_channels": 3, "baseline_uploads": 8}}}}


def run(
    assets: list[dg.AssetsDefinition], partition: str, *, config: dict[str, Any] | None = None, **options: Any
) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        ASSETS,
        selection=assets,
        partition_key=partition,
        run_config=config,
        resources={
            "tables": ParquetTables(StoreResource().open, ALL_TABLES),
            "store": StoreResource(),
            "lake": LakeResource(),
            "state": StateResource(),
            "youtube": YouTubeResource(),
            "tiktok": TikTokResource(),
        },
        raise_on_error=False,
        **options,
    )


def discover(niche: str, day: str = TODAY, **options: Any) -> dg.ExecuteInProcessResult:
    assets = [youtube_candidates, tiktok_candidates, trend_candidates]
    return run(assets, day_niche_key(day, niche), config=LIMITS, **options)


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_a_niche_is_discovered_ranked_and_rolled_up(settings_env: Settings) -> None:
    result = discover("fitness")
    assert result.success
    store = open_store(settings_env)
    trends = read_table(store, TREND_CANDIDATES, f"{TODAY}|fitness")
    assert list(trends["rank"]) == list(range(1, len(trends) + 1))
    assert len(trends) > 20

    assert run([niche_trends], TODAY).success
    overview = read_table(store, NICHE_TRENDS, TODAY)
    assert list(overview["niche"]) == ["fitness"]
    assert overview.loc[0, "candidates"] == len(trends)
    assert overview.loc[0, "top_video_id"] == trends.loc[0, "video_id"]


def test_operators_see_counts_quota_and_pictures(settings_env: Settings) -> None:
    result = discover("fitness")
    collected = metadata_of(result, "youtube_candidates")
    assert collected["quota_search"] == 3
    assert collected["searches"] == "3 of 3"
    assert collected["vendor"].startswith("sandbox")
    assert "over the limit" in collected["left_out"]
    ranked = metadata_of(result, "trend_candidates")
    assert ranked["top_ten"].count("\n") == 11
    picture = ranked["pictures"]
    assert re.match(r"!\[8 pictures\]\(data:image/jpeg;base64,", picture)
    assert len(picture.encode()) <= 50 * 1024
    assert "No TikTok account is connected" in metadata_of(result, "tiktok_candidates")["left_out"]


def test_the_overview_takes_the_niches_there_are_and_names_the_missing(settings_env: Settings) -> None:
    for niche in ("fitness", "travel"):
        discover(niche)
    result = run([niche_trends], TODAY)
    shown = metadata_of(result, "niche_trends")
    assert shown["niches"] == 2
    assert shown["took_s"] >= 0
    assert shown["niches_missing"] == 3
    assert shown["missing"].splitlines()[0] == "- home-cooking: never run"


def test_the_overview_says_why_a_niche_is_missing(
    settings_env: Settings, leave_quota: LeaveQuota, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_policy, "MAX_WAIT_S", 0.0)
    leave_quota("search", 0)
    with dg.DagsterInstance.ephemeral() as instance:
        discover("fitness", instance=instance)
        result = run([niche_trends], TODAY, instance=instance)
    shown = metadata_of(result, "niche_trends")["missing"].splitlines()
    assert shown[:2] == ["- fitness: failure, quota\\_exhausted", "- home-cooking: never run"]
    (check,) = [
        c for c in result.get_asset_check_evaluations() if c.check_name == "every_niche_was_discovered"
    ]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN


def test_a_later_ranking_does_not_hide_why_the_night_is_missing(
    settings_env: Settings, leave_quota: LeaveQuota, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_policy, "MAX_WAIT_S", 0.0)
    leave_quota("search", 0)
    with dg.DagsterInstance.ephemeral() as instance:
        discover("fitness", instance=instance)
        tags = {"dagster/partition": f"{TODAY}|fitness", failure_policy.FAILURE_CODE_TAG: "partition_missing"}
        ranking = dg.DagsterRun("rank_trends_again", tags=tags, status=dg.DagsterRunStatus.FAILURE)
        instance.add_run(ranking)
        result = run([niche_trends], TODAY, instance=instance)
    shown = metadata_of(result, "niche_trends")["missing"].splitlines()
    assert shown[0] == "- fitness: failure, quota\\_exhausted"


def test_the_checks_of_the_night_look_at_volume_and_statistics(settings_env: Settings) -> None:
    discover("fitness")
    result = run([niche_trends], TODAY)
    passed = {c.check_name: c.passed for c in result.get_asset_check_evaluations()}
    assert passed == {
        "every_niche_was_discovered": False, "volume_follows_the_trend": True, "statistics_are_known": True,
    }  # fmt: skip
    assert "| fitness |" in metadata_of(result, "niche_trends")["overview"]


def test_an_overview_before_any_discovery_is_empty_not_an_error(settings_env: Settings) -> None:
    result = run([niche_trends], TODAY)
    assert result.success
    assert metadata_of(result, "niche_trends")["niches"] == 0


def test_a_past_day_can_be_backfilled(settings_env: Settings) -> None:
    day = (utc_now().date() - timedelta(days=30)).isoformat()
    assert discover("travel", day).success
    trends = read_table(open_store(settings_env), TREND_CANDIDATES, f"{day}|travel")
    assert len(trends) > 10
    assert (trends["age_h"] > 24 * 28).all()


def test_running_again_replaces_the_partition_with_a_new_observation(settings_env: Settings) -> None:
    store = open_store(settings_env)
    discover("fitness")
    first = read_table(store, TREND_CANDIDATES, f"{TODAY}|fitness")
    discover("fitness")
    second = read_table(store, TREND_CANDIDATES, f"{TODAY}|fitness")
    assert second["observed_at"].min() > first["observed_at"].max()
    assert not second.duplicated(["platform", "video_id"]).any()


def test_own_tiktok_posts_stand_beside_youtubes(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "niches.yaml"
    file.write_text("niches:\n  fitness: {title: Fitness, queries: [yoga], tiktok_accounts: [stretch]}\n")
    monkeypatch.setenv("ETTAMETTA_NICHES", str(file))
    get_settings.cache_clear()
    with StateResource().open() as db:
        connect(db, TikTokResource().app(), "stretch", "tiktok", "sandbox-stretch")
    days = [(utc_now().date() - timedelta(days=back)).isoformat() for back in range(2, 7)]
    for day in days:
        result = discover("fitness", day)
        assert metadata_of(result, "tiktok_candidates")["accounts_read"] == "stretch"
        posts = read_table(open_store(get_settings()), TIKTOK_CANDIDATES, f"{day}|fitness")
        if len(posts):
            trends = read_table(open_store(get_settings()), TREND_CANDIDATES, f"{day}|fitness")
            assert set(trends["platform"]) == {"youtube", "tiktok"}
            return
    pytest.fail(f"the sandbox creator has no post in {days}")


def test_a_spent_quota_fails_once_with_code_and_remedy(
    settings_env: Settings, leave_quota: LeaveQuota, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shortly before midnight Pacific the reset is near enough to be sat out; here it is always too far.
    monkeypatch.setattr(failure_policy, "MAX_WAIT_S", 0.0)
    leave_quota("search", 0)
    with dg.DagsterInstance.ephemeral() as instance:
        result = discover("fitness", instance=instance)
        assert not result.success
        failures = result.get_step_failure_events()
        assert "quota_exhausted" in str(failures[0].step_failure_data.error_display_string)


def test_a_partly_spent_quota_is_a_partial_result_that_says_so(
    settings_env: Settings, leave_quota: LeaveQuota
) -> None:
    # Five niches wait for what is left; this one's part of it is two.
    leave_quota("search", 10)
    result = discover("fitness")
    assert result.success
    assert "1 of 3 searches" in metadata_of(result, "youtube_candidates")["left_out"]


def test_a_revoked_key_fails_once_and_no_daemon_tries_again(
    settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    body = {"error": {"code": 400, "message": "API key not valid.", "errors": [{"reason": "keyInvalid"}]}}
    sandbox.fault("youtube", times=None, status=400, body=body)
    with dg.DagsterInstance.ephemeral() as instance:
        result = discover("fitness", instance=instance)
        assert not result.success
        tags = instance.get_run_by_id(result.run_id).tags  # type: ignore[union-attr]
    assert tags["ettametta/failure_code"] == "api_key_rejected"
    assert tags["dagster/max_retries"] == "0"
    assert sandbox.count("youtube", "GET", "/search") <= 3
