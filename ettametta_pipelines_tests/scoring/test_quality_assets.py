"""Months of an agency on the sandbox's ground truth, through the real tables, runs and what operators see."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from scipy.stats import spearmanr

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.orchestration.resources import LakeResource, StateResource, StoreResource
from ettametta_pipelines.scoring.blend import WEIGHTS
from ettametta_pipelines.scoring.champions import read_contest, read_decisions
from ettametta_pipelines.scoring.contracts import SCORED_CANDIDATES
from ettametta_pipelines.scoring.learning import LearnedScore, examples_of, learn, score, unseen
from ettametta_pipelines.scoring.quality_assets import QUALITY_ASSETS, score_weights
from ettametta_pipelines.scoring.quality_contracts import POST_OUTCOMES, SCORE_CHALLENGER, SCORE_QUALITY
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.tables import ParquetTables, read_table
from ettametta_pipelines_tests.scoring.world import FIRST_DAY, World, end_of

Row = dict[str, Any]

DAYS = [FIRST_DAY + timedelta(days=place) for place in range(64)]
ENLISTED, LAST = DAYS[35], DAYS[-1]


def run(day: object = None, **config: str) -> dg.ExecuteInProcessResult:
    nightly = [asset for asset in QUALITY_ASSETS if asset is not score_weights]
    return dg.materialize(
        nightly if day else [score_weights],
        partition_key=str(day) if day else None,
        run_config={"ops": {"score_weights": {"config": config}}} if config else None,
        resources={
            "tables": ParquetTables(StoreResource().open, ALL_TABLES),
            "store": StoreResource(),
            "state": StateResource(),
            "lake": LakeResource(),
        },
        raise_on_error=False,
    )


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> Row:
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        for name, field in Settings.model_fields.items():
            patch.delenv(str(field.alias or name).upper(), raising=False)
        patch.setenv("ETTAMETTA_HOME", str(tmp_path_factory.mktemp("agency")))
        patch.chdir(tmp_path_factory.mktemp("work"))
        get_settings.cache_clear()
        yield get_settings()
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def agency(home: Settings) -> World:
    """Nine posts a day for nine weeks; a challenger is enlisted in the sixth and shadows from then on."""
    niches = ["home workout", "pasta", "tiny house"]
    world = World(open_store(home), seed=5, niches=niches)
    for day in DAYS:
        world.live_through(day)
        if day == ENLISTED:
            world.write_posts()
            assert run(day).success
    world.write_posts()
    assert run(LAST).success
    return world


def outcomes(settings: Settings) -> list[Row]:
    return POST_OUTCOMES.rows(read_table(open_store(settings), POST_OUTCOMES, str(LAST)))


@pytest.mark.slow
def test_on_the_sandboxs_ground_truth_the_learned_score_beats_the_formula(
    agency: World, home: Settings
) -> None:
    known = examples_of(outcomes(home))
    learned = learn(known, ENLISTED, end_of(ENLISTED))
    assert isinstance(learned, LearnedScore)
    later = unseen(known, learned.known_until)
    assert len(later) > 150
    ranked = {
        weights.version: spearmanr(
            [score(weights, post.parts) for post in later], [post.lift for post in later]
        ).statistic
        for weights in (learned.weights, WEIGHTS)
    }
    assert ranked[learned.version] > ranked[WEIGHTS.version] + 0.05
    assert ranked[learned.version] > 0.25
    # What carries no weight in the ground truth has lost most of what the formula gave it.
    assert learned.shares["outlier"] + learned.shares["hook"] > 0.7
    assert learned.shares["velocity"] < WEIGHTS.shares["velocity"]


def test_outcomes_from_the_tables_are_those_that_happened(agency: World, home: Settings) -> None:
    stored = outcomes(home)
    happened = {row["publication_id"]: row for row in agency.outcomes(LAST)}
    assert {row["publication_id"] for row in stored} == set(happened)
    for row in stored:
        assert row["link"] == "linked"
        for name in ("status_7d", "lift_7d", "lift_24h", "hook_part", "score"):
            assert row[name] == happened[row["publication_id"]][name]


def test_the_challenger_shadows_without_moving_a_rank_and_is_then_decided_on(
    agency: World, home: Settings
) -> None:
    store = open_store(home)
    shadowed = SCORED_CANDIDATES.rows(read_table(store, SCORED_CANDIDATES, f"{DAYS[40]}|pasta"))
    scored = [row for row in shadowed if row["score"] is not None]
    assert {row["weights_version"] for row in scored} == {WEIGHTS.version}
    assert [row["score"] for row in scored] == sorted((row["score"] for row in scored), reverse=True)
    assert all(row["challenger_score"] is not None for row in scored)
    decided = SCORE_CHALLENGER.rows(read_table(store, SCORE_CHALLENGER, str(LAST)))
    test = next(row for row in decided if row["role"] == "challenger")
    assert test["version"] == scored[0]["challenger_version"]
    assert test["decision"] in ("promoted", "retired")
    assert (test["test_posts"], test["rank_correlation"] is None) == (150, False)


def test_operators_see_quality_as_table_and_plot(agency: World, home: Settings) -> None:
    seen = metadata_of(run(LAST), "score_quality")
    assert 0 < seen["rank_correlation_7d"] < 1
    assert seen["outcomes"]["7d"] > 400
    assert "outcomes missing" not in seen["quality"].split("challenger")[0]
    assert seen["plot"].startswith("![score quality](data:image/png;base64,")
    assert len(seen["plot"]) < 40_000
    rows = SCORE_QUALITY.rows(read_table(open_store(home), SCORE_QUALITY, str(LAST)))
    assert {row["niche"] for row in rows} == {"all", "home workout", "pasta", "tiny house"}
    assert all(row["n"] >= 0 and (row["value"] is not None or row["missing"] > 0) for row in rows)


def test_running_a_day_again_gives_the_same_quality_and_decides_nothing(
    agency: World, home: Settings
) -> None:
    store = open_store(home)
    before = read_table(store, SCORE_QUALITY, str(LAST)), read_table(store, SCORE_CHALLENGER, str(LAST))
    log = read_decisions(store)
    assert run(LAST).success
    assert read_table(store, SCORE_QUALITY, str(LAST)).equals(before[0])
    assert read_table(store, SCORE_CHALLENGER, str(LAST)).equals(before[1])
    assert read_decisions(store) == log


def test_an_operator_pins_weights_from_the_launchpad_and_sees_it(agency: World, home: Settings) -> None:
    pinned = run(action="pin", version=WEIGHTS.version, reason="a campaign runs")
    seen = metadata_of(pinned, "score_weights")
    assert (seen["champion"], seen["pinned"]) == (WEIGHTS.version, True)
    assert "a campaign runs" in seen["log"]
    assert read_contest(open_store(home)).pinned
    refused = run(action="unpin")
    assert not refused.success
    assert run(action="unpin", reason="it is over").success


def test_before_the_first_post_everything_says_what_is_missing(
    home: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path_factory.mktemp("empty")))
    get_settings.cache_clear()
    try:
        night = run(LAST)
        shown = run()
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
    assert metadata_of(night, "post_outcomes")["posts"] == 0
    assert metadata_of(night, "score_quality")["rank_correlation_7d"] == "20 outcomes missing"
    assert metadata_of(night, "score_challenger")["outcomes_missing"] == 100
    assert metadata_of(shown, "score_weights")["champion"] == WEIGHTS.version
