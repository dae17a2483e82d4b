"""Variants with a winner are taken off the outcomes before the score is judged, and only they."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.orchestration.resources import LakeResource, StateResource, StoreResource
from ettametta_pipelines.publishing.figures_contracts import VARIANT_RESULTS
from ettametta_pipelines.scoring.quality_assets import LESS_VARIANTS, post_outcomes, score_quality
from ettametta_pipelines.scoring.quality_contracts import POST_OUTCOMES, SCORE_QUALITY
from ettametta_pipelines.scoring.variant_effects import decided, variants_of, without_variants
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import DatabaseNow, Publication, PublicationVariant
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.parquet import read_table, write_table
from ettametta_pipelines.storage.tables import ParquetTables

Row = dict[str, Any]

DAY = date(2026, 11, 1)
TITLES = ("acme", "youtube", "question-title")
GAIN = {"plain": 0.0, "question": 1.5}


def posts(count: int = 120) -> list[tuple[Row, str]]:
    """Outcomes that follow the score, with noise and what the title brought; each with its title."""
    rng = random.Random(3)
    made = []
    for number in range(count):
        arm, score = rng.choice(sorted(GAIN)), rng.random()
        lift = score + rng.gauss(0, 0.2) + GAIN[arm]
        row: Row = dict.fromkeys(c.name for c in POST_OUTCOMES.columns) | {
            "day": DAY, "publication_id": f"p{number}", "source_id": f"acme--{number}", "platform": "youtube",
            "account": "acme", "channel_id": "UC1", "privacy": "public", "link": "linked", "niche": "pasta",
            "published_at": datetime(2026, 8, 1, tzinfo=UTC) + timedelta(hours=6 * number),
            "score": score, "weights_version": "stated-1",
            "status_24h": "known", "lift_24h": lift, "status_7d": "known" if number % 2 else "too_young",
            "lift_7d": lift if number % 2 else None,
        }  # fmt: skip
        made.append((row, arm))
    return made


def carried(made: list[tuple[Row, str]]) -> dict[str, list[tuple[str, str, str, str]]]:
    return {row["publication_id"]: [(*TITLES, arm)] for row, arm in made}


def test_what_a_title_brought_is_gone_and_nothing_else() -> None:
    made = posts()
    less = without_variants([row for row, _ in made], carried(made))
    moved = [before["lift_24h"] - after["lift_24h"] for (before, _), after in zip(made, less, strict=True)]
    by_arm = {
        arm: {round(m, 9) for m, (_, got) in zip(moved, made, strict=True) if got == arm} for arm in GAIN
    }
    assert [len(found) for found in by_arm.values()] == [1, 1]
    assert by_arm["question"].pop() - by_arm["plain"].pop() == pytest.approx(1.5, abs=0.2)
    assert sum(moved) == pytest.approx(0.0, abs=1e-9)
    assert all(row["lift_7d"] is None for row in less if row["status_7d"] != "known")


def test_posts_of_no_experiment_and_variants_of_a_handful_of_posts_stay_as_they_are() -> None:
    made = posts(8)
    few = carried(made[:4])
    rows = [row for row, _ in made]
    assert without_variants(rows, few) == rows
    assert without_variants(rows, {}) == rows


def test_an_experiment_counts_once_it_has_a_winner() -> None:
    rows = [
        {"account": "acme", "platform": "youtube", "experiment": name, "wins": wins}
        for name, wins in (("a", False), ("a", True), ("b", False))
    ]
    assert decided(rows) == {("acme", "youtube", "a")}


def keep(db: StateDatabase, made: list[tuple[Row, str]]) -> None:
    """The ledger's rows and variants of these posts."""
    with db.session() as session:
        now = db.now(session)
        for row, arm in made:
            same: Row = {
                "platform": "youtube", "account_id": "acme", "content_id": row["source_id"], "intent_no": 1
            }  # fmt: skip
            session.add(
                Publication(
                    **same, id=row["publication_id"], channel_id="UC1", state="PUBLISHED", fence=1,
                    object_key="k", sha256="s", size_bytes=1, received_bytes=1, marker="m", title="t",
                    privacy="public", attempts=1, check_count=0, created_at=now, updated_at=now,
                )
            )  # fmt: skip
            session.add(
                PublicationVariant(
                    **same, experiment=TITLES[2], kind="title", arm=arm, text="", assigned_at=DatabaseNow(),
                    shares={"plain": 0.5, "question": 0.5},
                )
            )  # fmt: skip


def test_variants_are_those_of_the_post_itself(database: StateDatabase) -> None:
    made = posts(3)
    keep(database, made)
    assert variants_of(database, frozenset({TITLES})) == carried(made)
    assert variants_of(database, frozenset({("acme", "youtube", "another")})) == {}
    assert variants_of(database, frozenset()) == {}


def judged(settings: Settings, *, wins: bool) -> tuple[Row, list[Row]]:
    """What an operator sees, and the table."""
    store, made = open_store(settings), posts()
    write_table(store, POST_OUTCOMES, POST_OUTCOMES.frame([row for row, _ in made]), str(DAY))
    result: Row = dict.fromkeys(c.name for c in VARIANT_RESULTS.columns) | {
        "day": DAY, "account": "acme", "platform": "youtube", "experiment": TITLES[2], "kind": "title",
        "arm": "question", "posts": 60, "outcomes": 60, "evidence": 50.0, "peak": 50.0, "threshold": 40.0,
        "wins": wins, "sentence": "",
    }  # fmt: skip
    write_table(store, VARIANT_RESULTS, VARIANT_RESULTS.frame([result]), None)
    if wins:
        keep(open_state(settings), made)
    done = dg.materialize(
        [post_outcomes, score_quality],
        selection=[score_quality],
        partition_key=str(DAY),
        resources={
            "lake": LakeResource(),
            "tables": ParquetTables(StoreResource().open, ALL_TABLES),
            "store": StoreResource(),
            "state": StateResource(),
        },
    )
    (event,) = done.asset_materializations_for_node("score_quality")
    seen = {name: value.value for name, value in event.metadata.items()}
    return seen, SCORE_QUALITY.rows(read_table(store, SCORE_QUALITY, str(DAY)))


def test_a_winner_makes_the_score_be_judged_without_what_it_brought(settings_env: Settings) -> None:
    seen, rows = judged(settings_env, wins=True)
    found = {
        row["scorer"]: row["value"]
        for row in rows
        if (row["niche"], row["horizon"], row["measure"]) == ("all", "24h", "rank_correlation")
    }
    assert found["champion"] < 0.5 < 0.7 < found[LESS_VARIANTS]
    assert seen["less_variants"] == "120 posts of experiments with a winner"
    assert "less_variants" in seen["quality"]


def test_without_a_winner_the_score_is_judged_as_ever(settings_env: Settings) -> None:
    seen, rows = judged(settings_env, wins=False)
    assert {row["scorer"] for row in rows} == {"champion", "challenger"}
    assert seen["less_variants"] == "no winner yet"
