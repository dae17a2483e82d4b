"""Stored partitions computed again, many in one run: one file and one materialization each, and no call."""

import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.discovery.contracts import NICHE_TRENDS, TREND_CANDIDATES, YOUTUBE_CANDIDATES
from ettametta_pipelines.orchestration.range_runs import OnePartition, each_partition
from ettametta_pipelines.scoring.contracts import CANDIDATE_ASSESSMENTS, SCORED_CANDIDATES
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.storage.tables import read_table, table_key, write_table
from ettametta_pipelines_tests.discovery.test_trends import raw

DAYS = [date(2026, 11, 3) + timedelta(days=n) for n in range(4)]
NICHE = "travel"
RESCORED = ["trend_candidates", "scored_candidates"]


def judgement(video_id: str, day: date) -> dict[str, Any]:
    return {
        "day": day, "niche": NICHE, "platform": "youtube", "video_id": video_id, "title": video_id, "rank": 1,
        "url": f"https://www.youtube.com/watch?v={video_id}", "status": "assessed", "evidence": "thumbnail",
        "hook_strength": 0.5, "hook_reason": "clear", "subjects": ["mat"], "mood": "calm", "aesthetics": 0.5,
        "safety": "safe", "provider": "gemini", "model": "m", "requested_model": "m", "prompt_version": "1",
        "prompt_tokens": 1, "output_tokens": 1, "cost_microusd": 1, "assessed_at": datetime(2026, 11, 5, tzinfo=UTC),
    }  # fmt: skip


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[Settings]:
    """Settings of an empty home on a machine whose every connection attempt is an error."""
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.alias or name).upper(), raising=False)
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()

    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a connection to {address} was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield get_settings()
    get_settings.cache_clear()


@pytest.fixture
def stored(offline: Settings) -> ObjectStore:
    """Four days of raw candidates and judgements; on the third nothing was found."""
    store = open_store(offline)
    for place, day in enumerate(DAYS):
        videos = [] if place == 2 else [f"v{n}" for n in range(5 + place)]
        found = [raw(v, day=day, niche=NICHE, views=1000 * (n + 1)) for n, v in enumerate(videos)]
        judged = [judgement(v, day) for v in videos[:3]]
        for contract, rows in ((YOUTUBE_CANDIDATES, found), (CANDIDATE_ASSESSMENTS, judged)):
            write_table(store, contract, contract.frame(rows), f"{day}|{NICHE}")
        tiktok = ALL_TABLES["tiktok_candidates"]
        write_table(store, tiktok, tiktok.empty(), f"{day}|{NICHE}")
    return store


def run_range(
    settings: Settings, instance: dg.DagsterInstance, assets: list[str], first: str, last: str
) -> dg.ExecuteInProcessResult:
    """A run of a backfill for a range of partitions, as the daemon starts it."""
    return (
        build_definitions(settings)
        .get_repository_def()
        .get_job("__ASSET_JOB")
        .execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(name) for name in assets],
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
            raise_on_error=False,
        )
    )


def test_a_range_is_ranked_and_scored_in_one_run_without_a_connection(
    offline: Settings, stored: ObjectStore
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_range(offline, instance, RESCORED, f"{DAYS[0]}|{NICHE}", f"{DAYS[-1]}|{NICHE}")
        assert result.success
        for name in RESCORED:
            events = result.asset_materializations_for_node(name)
            by_partition = {str(e.partition): e.metadata for e in events}
            assert sorted(by_partition) == [f"{day}|{NICHE}" for day in DAYS]
            counts = [by_partition[f"{day}|{NICHE}"]["dagster/partition_row_count"].value for day in DAYS]
            assert counts == [5, 6, 0, 8]
        assert by_partition[f"{DAYS[0]}|{NICHE}"]["scored"].value == 3
    for place, day in enumerate(DAYS):
        trends = read_table(stored, TREND_CANDIDATES, f"{day}|{NICHE}")
        assert list(trends["rank"]) == list(range(1, [5, 6, 0, 8][place] + 1))
        scored = read_table(stored, SCORED_CANDIDATES, f"{day}|{NICHE}")
        assert int(scored["score"].notna().sum()) == (0 if place == 2 else 3)


def test_a_range_gives_what_single_partitions_give(offline: Settings, stored: ObjectStore) -> None:
    keys = [table_key(name, f"{day}|{NICHE}") for name in RESCORED for day in DAYS]
    with dg.DagsterInstance.ephemeral() as instance:
        run_range(offline, instance, RESCORED, f"{DAYS[0]}|{NICHE}", f"{DAYS[-1]}|{NICHE}")
        together = [stored.get(key) for key in keys]
        for day in DAYS:
            assert run_range(offline, instance, RESCORED, f"{day}|{NICHE}", f"{day}|{NICHE}").success
    assert [stored.get(key) for key in keys] == together


def test_a_missing_partition_fails_the_range_by_name_and_leaves_the_others_as_they_were(
    offline: Settings, stored: ObjectStore
) -> None:
    stored.delete(table_key("youtube_candidates", f"{DAYS[1]}|{NICHE}"))
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_range(offline, instance, RESCORED[:1], f"{DAYS[0]}|{NICHE}", f"{DAYS[-1]}|{NICHE}")
        assert not result.success
        (failed,) = result.get_step_failure_events()
        told = failed.step_failure_data.user_failure_data
    assert told is not None
    assert f"{DAYS[1]}|{NICHE}" in str(told.description)
    assert not list(stored.list("tables/trend_candidates"))


def test_a_range_of_mornings_is_one_run_with_an_overview_each(offline: Settings, stored: ObjectStore) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        run_range(offline, instance, RESCORED, f"{DAYS[0]}|{NICHE}", f"{DAYS[-1]}|{NICHE}")
        result = run_range(offline, instance, ["niche_trends"], str(DAYS[0]), str(DAYS[-1]))
        assert result.success
        events = {
            str(e.partition): e.metadata for e in result.asset_materializations_for_node("niche_trends")
        }
    assert [events[str(day)]["candidates"].value for day in DAYS] == [5, 6, 0, 8]
    assert [len(read_table(stored, NICHE_TRENDS, str(day))) for day in DAYS] == [1, 1, 0, 1]


class Context:
    partition_keys = ("2026-11-03|a", "2026-11-04|a")
    run_id = "r1"

    def __init__(self) -> None:
        self.noted: dict[str, dict[str, Any]] = {}

    def add_asset_metadata(self, metadata: dict[str, Any], partition_key: str) -> None:
        self.noted[partition_key] = metadata


def test_a_check_names_the_partitions_it_failed_for() -> None:
    @each_partition(TREND_CANDIDATES)
    def body(context: OnePartition) -> dg.MaterializeResult:  # type: ignore[type-arg]
        fine = context.partition_key.startswith("2026-11-03")
        check = dg.AssetCheckResult(check_name="found", passed=fine, severity=dg.AssetCheckSeverity.WARN)
        return dg.MaterializeResult(
            value=pd.DataFrame({"x": [1]}), metadata={"run": context.run_id}, check_results=[check]
        )

    context = Context()
    result = body(context)
    (check,) = result.check_results or []
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.metadata["failed_partitions"].value == "2026-11-04|a"
    assert context.noted == {
        key: {"run": "r1", "dagster/partition_row_count": 1} for key in Context.partition_keys
    }
