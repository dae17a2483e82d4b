"""The scoring assets in real Dagster runs, from discovered trends to briefs, on the sandbox."""

from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery.assets import ASSETS as DISCOVERY
from ettametta_pipelines.discovery.assets import tiktok_candidates, trend_candidates, youtube_candidates
from ettametta_pipelines.discovery.contracts import TREND_CANDIDATES
from ettametta_pipelines.orchestration.resources import (
    JudgesResource,
    LakeResource,
    StateResource,
    StoreResource,
    TikTokResource,
    YouTubeResource,
)
from ettametta_pipelines.partitions import day_niche_key
from ettametta_pipelines.scoring.assets import (
    ASSETS,
    candidate_assessments,
    creative_briefs,
    scored_candidates,
)
from ettametta_pipelines.scoring.contracts import CANDIDATE_ASSESSMENTS, CREATIVE_BRIEFS, SCORED_CANDIDATES
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.tables import ParquetTables, read_table, table_key, write_table
from ettametta_pipelines_tests.conftest import SandboxUnderTest

PARTITION = day_niche_key(utc_now().date().isoformat(), "home-cooking")


def run(
    assets: list[dg.AssetsDefinition], ops: dict[str, dict[str, Any]] | None = None
) -> dg.ExecuteInProcessResult:
    config = {"ops": {name: {"config": values} for name, values in (ops or {}).items()}}
    return dg.materialize(
        [*DISCOVERY, *ASSETS],
        selection=assets,
        partition_key=PARTITION,
        run_config=config,
        resources={
            "tables": ParquetTables(StoreResource().open, ALL_TABLES),
            "store": StoreResource(),
            "state": StateResource(),
            "lake": LakeResource(),
            "youtube": YouTubeResource(),
            "tiktok": TikTokResource(),
            "judges": JudgesResource(),
        },
        raise_on_error=False,
    )


@pytest.fixture
def discovered(settings_env: Settings) -> Settings:
    limits = {
        "youtube_candidates": {"searches": 1, "baseline_channels": 3},
        "trend_candidates": {"preview_pictures": 0},
    }
    assert run([youtube_candidates, tiktok_candidates, trend_candidates], limits).success
    return settings_env


def score(**assessment: Any) -> dg.ExecuteInProcessResult:
    return run(
        [candidate_assessments, scored_candidates, creative_briefs],
        {
            "candidate_assessments": {"top": 4, "models": ["gemini"], **assessment},
            "creative_briefs": {"top": 2, "models": ["gemini"]},
        },
    )


def stored(settings: Settings, contract: TableContract) -> pd.DataFrame:
    return read_table(open_store(settings), contract, PARTITION)


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def test_trends_become_judgements_scores_and_briefs(discovered: Settings) -> None:
    result = score()
    assert result.success
    assert len(stored(discovered, CANDIDATE_ASSESSMENTS)) == 4
    scores = stored(discovered, SCORED_CANDIDATES)
    assert len(scores) == len(stored(discovered, TREND_CANDIDATES))
    assert scores["score"].dropna().is_monotonic_decreasing
    assert set(scores.loc[scores["score"].isna(), "excluded"]) <= {"not_judged", "unsafe"}
    briefs = stored(discovered, CREATIVE_BRIEFS)
    assert list(briefs["video_id"]) == list(scores["video_id"][:2])


def test_operators_see_cost_provider_and_what_to_make(discovered: Settings) -> None:
    result = score()
    judged = metadata_of(result, "candidate_assessments")
    assert judged["vendor"].startswith("sandbox")
    assert judged["cost_usd"] > 0
    assert judged["cost_microusd"] == stored(discovered, CANDIDATE_ASSESSMENTS)["cost_microusd"].sum()
    assert "gemini" in judged["judgements"]
    assert len(judged["pictures"].encode()) <= 50 * 1024
    assert "velocity" in metadata_of(result, "scored_candidates")["weights"]
    for asset in ("candidate_assessments", "scored_candidates", "creative_briefs"):
        assert metadata_of(result, asset)["took_s"] >= 0
    assert "#" in metadata_of(result, "creative_briefs")["what_to_make"]


def test_running_again_asks_nobody_and_says_so(discovered: Settings, sandbox: SandboxUnderTest) -> None:
    score()
    asked = sandbox.count("gemini", "POST", ":generateContent")
    before = stored(discovered, CREATIVE_BRIEFS)
    again = score()
    assert sandbox.count("gemini", "POST", ":generateContent") == asked
    judged, written = metadata_of(again, "candidate_assessments"), metadata_of(again, "creative_briefs")
    assert (judged["reused"], judged["cost_microusd"]) == (4, 0)
    assert (written["reused"], written["cost_microusd"]) == (2, 0)
    pd.testing.assert_frame_equal(stored(discovered, CREATIVE_BRIEFS), before)


def test_asking_again_can_be_ordered(discovered: Settings) -> None:
    score()
    assert metadata_of(score(ask_again=True), "candidate_assessments")["reused"] == 0


def test_a_failed_judgement_is_a_row_and_only_it_is_asked_again(
    discovered: Settings, sandbox: SandboxUnderTest
) -> None:
    blocked = {"candidates": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    sandbox.fault("gemini", path_regex=":generateContent", after=1, status=200, body=blocked)
    first = score()
    assert first.success
    assert metadata_of(first, "candidate_assessments")["failures"] == {"gemini_blocked": 1}
    again = metadata_of(score(), "candidate_assessments")
    assert (again["reused"], again["failed"]) == (3, 0)


def test_without_gemini_the_run_fails_unless_heuristics_are_allowed(
    discovered: Settings, sandbox: SandboxUnderTest
) -> None:
    blocked = {"candidates": [], "promptFeedback": {"blockReason": "OTHER"}}
    sandbox.fault("gemini", path_regex=":generateContent", times=None, status=200, body=blocked)
    assert not score().success
    allowed = score(fallback="heuristics")
    assert allowed.success
    assert metadata_of(allowed, "candidate_assessments")["judged_by_fallback"] == 4
    scores = stored(discovered, SCORED_CANDIDATES)
    assert "safety_unjudged" in set(scores["excluded"])
    assert scores["score"].isna().all()
    assert stored(discovered, CREATIVE_BRIEFS).empty


def test_a_day_without_candidates_passes_through_empty(
    settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    write_table(open_store(settings_env), TREND_CANDIDATES, TREND_CANDIDATES.empty(), PARTITION)
    assert score().success
    assert stored(settings_env, CREATIVE_BRIEFS).empty
    assert sandbox.requests("gemini") == []


def test_a_partition_whose_stored_table_is_corrupt_is_made_again(
    discovered: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    score()
    store = open_store(discovered)
    for contract in (CANDIDATE_ASSESSMENTS, CREATIVE_BRIEFS):
        store.put(table_key(contract.name, PARTITION), b"garbage")
    again = score()
    assert again.success
    assert metadata_of(again, "candidate_assessments")["reused"] == 0
    assert metadata_of(again, "creative_briefs")["reused"] == 0
    assert len(stored(discovered, CREATIVE_BRIEFS)) == 2
    assert "candidate_assessments cannot be used" in capfd.readouterr().err


BLOCKED = {"candidates": [], "promptFeedback": {"blockReason": "OTHER"}}


def test_openai_and_groq_judge_where_gemini_does_not_and_are_named(
    discovered: Settings, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("gemini", path_regex=":generateContent", times=None, status=200, body=BLOCKED)
    busy = {"error": {"message": "slow", "type": "tokens", "code": "rate_limit_exceeded"}}
    sandbox.fault("openai", times=None, after=2, status=429, body=busy, headers={"Retry-After": "300"})
    result = score(models=["gemini", "openai", "groq"])
    assert result.success
    told = metadata_of(result, "candidate_assessments")
    assert told["judged_by"] == {"openai": 2, "groq": 2}
    assert told["links_left"] == "gemini: gemini_blocked (4), openai: rate_limited (2)"
    assert "gemini gemini-3.5-flash-lite" in told["vendor"]
    rows = stored(discovered, CANDIDATE_ASSESSMENTS)
    assert set(rows["model"]) == {"gpt-6-luna", "qwen/qwen3.8-27b"}
    assert (rows["cost_usd"] > 0).all()


def test_a_spent_budget_asks_nobody_says_so_and_leaves_the_day_to_heuristics_and_template(
    discovered: Settings, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_ACCOUNT_MODEL_BUDGET_USD", "0.001")
    get_settings.cache_clear()
    result = score(models=["gemini", "openai", "groq"], account="acme")
    assert result.success
    told = metadata_of(result, "candidate_assessments")
    assert told["failures"] == {"budget_spent": 4}
    assert told["budget"].startswith("0.0000 of 0.0010 USD by account acme")
    assert all(sandbox.requests(name) == [] for name in ("gemini", "openai", "groq"))
    allowed = score(fallback="heuristics", account="acme")
    assert metadata_of(allowed, "candidate_assessments")["judged_by"] == {"heuristics": 4}
    written = run(
        [scored_candidates, creative_briefs],
        {
            "scored_candidates": {"allow_unjudged": True},
            "creative_briefs": {"top": 2, "account": "acme"},
        },
    )
    assert metadata_of(written, "creative_briefs")["by_template"] == 2
    briefs = stored(discovered, CREATIVE_BRIEFS)
    assert set(briefs["written_by"]) == {"template"}
    assert set(briefs["reason_code"]) == {"budget_spent"}
