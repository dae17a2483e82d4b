"""The blended score, its parts and who is excluded."""

import math
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.scoring.blend import WEIGHTS, Weights, score_candidates
from ettametta_pipelines.scoring.contracts import SCORED_CANDIDATES

Row = dict[str, Any]


def candidate(video_id: str, **changes: Any) -> Row:
    row = {
        "day": date(2026, 11, 22), "niche": "fitness", "platform": "youtube", "video_id": video_id,
        "url": f"https://www.youtube.com/watch?v={video_id}", "title": video_id, "rank": 1, "views": 1000,
        "view_velocity_per_hour": 100.0, "outlier_ratio": 1.0, "engagement_rate": 0.05, "thumbnail_url": None,
    }  # fmt: skip
    return row | changes


def assessment(video_id: str, **changes: Any) -> Row:
    row = {
        "platform": "youtube", "video_id": video_id, "status": "assessed", "reason": None, "hook_strength": 0.5,
        "hook_reason": "clear", "subjects": ["mat"], "mood": "calm", "aesthetics": 0.5, "safety": "safe",
        "safety_reason": None,
    }  # fmt: skip
    return row | changes


def test_rows_fit_the_contract_and_are_ranked_best_first() -> None:
    rows = score_candidates(
        [
            candidate("a", rank=1),
            candidate("b", rank=2, view_velocity_per_hour=900.0),
            candidate("c", rank=3),
        ],
        [assessment("a"), assessment("b"), assessment("c", safety="unsafe", safety_reason="a fight")],
    )
    frame = SCORED_CANDIDATES.frame(rows)
    assert list(frame["video_id"]) == ["b", "a", "c"]
    assert list(frame["score_rank"].dropna()) == [1, 2]


@pytest.mark.parametrize(
    ("judged", "code", "said"),
    [
        (None, "not_judged", "ranked below"),
        (
            assessment("a", status="failed", reason="cut answer", safety=None),
            "judgement_failed",
            "cut answer",
        ),
        (assessment("a", safety="unsafe", safety_reason="a fight"), "unsafe", "a fight"),
        (assessment("a", safety="unjudged"), "safety_unjudged", "heuristic"),
    ],
)
def test_a_candidate_not_judged_safe_has_no_score_and_says_why(
    judged: Row | None, code: str, said: str
) -> None:
    (row,) = score_candidates([candidate("a")], [judged] if judged else [])
    assert row["score"] is None
    assert row["score_rank"] is None
    assert row["excluded"] == code
    assert said in row["excluded_reason"]


def test_candidates_only_a_heuristic_saw_score_when_the_run_allows_it() -> None:
    seen = assessment("a", safety="unjudged", hook_strength=None)
    (row,) = score_candidates([candidate("a")], [seen], allow_unjudged=True)
    assert row["score"] == pytest.approx(0.5)
    assert row["neutral_parts"] == ["hook"]


def test_an_unknown_part_stays_empty_is_named_and_counts_as_the_middle() -> None:
    rows = score_candidates(
        [candidate("known", outlier_ratio=9.0, rank=1), candidate("unknown", outlier_ratio=None, rank=2)],
        [assessment("known"), assessment("unknown")],
    )
    unknown = next(row for row in rows if row["video_id"] == "unknown")
    assert unknown["outlier_part"] is None
    assert unknown["neutral_parts"] == ["outlier"]
    assert unknown["score"] == pytest.approx(0.5)


def test_every_weighted_part_is_a_column_of_the_table() -> None:
    names = {column.name for column in SCORED_CANDIDATES.columns}
    assert {f"{part}_part" for part in WEIGHTS.shares} <= names


def test_weights_are_data_and_their_version_is_in_every_row() -> None:
    only_hook = Weights("hook-only", {"hook": 1.0})
    rows = score_candidates(
        [candidate("dull", view_velocity_per_hour=1e6), candidate("gripping")],
        [assessment("dull", hook_strength=0.1), assessment("gripping", hook_strength=0.9)],
        weights=only_hook,
    )
    assert rows[0]["video_id"] == "gripping"
    assert {row["weights_version"] for row in rows} == {"hook-only"}


signals = st.lists(
    st.tuples(
        st.floats(0, 1e9),
        st.one_of(st.none(), st.floats(0, 1e6)),
        st.one_of(st.none(), st.floats(0, 1)),
        st.floats(0, 1),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=25,
)


def scored(sample: list[Any], scale: float = 1.0) -> dict[str, float]:
    candidates = [
        candidate(f"v{i}", rank=i, view_velocity_per_hour=v * scale, outlier_ratio=o, engagement_rate=e)
        for i, (v, o, e, _, _) in enumerate(sample)
    ]
    judged = [assessment(f"v{i}", hook_strength=h, aesthetics=a) for i, (_, _, _, h, a) in enumerate(sample)]
    return {row["video_id"]: row["score"] for row in score_candidates(candidates, judged)}


@given(signals)
def test_scores_lie_strictly_inside_the_scale_and_are_never_clamped(sample: list[Any]) -> None:
    assert all(0 < score < 1 for score in scored(sample).values())


@given(signals)
def test_a_niche_with_a_thousand_times_the_views_has_the_same_scores(sample: list[Any]) -> None:
    # A power of two scales floats without rounding, so that values stay equal or unequal as they were.
    large = scored(sample, scale=1024.0)
    assert all(math.isclose(score, large[name]) for name, score in scored(sample).items())


@given(signals, st.data())
def test_raising_one_signal_of_a_candidate_never_lowers_its_score(
    sample: list[Any], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(sample) - 1))
    part = data.draw(st.sampled_from([0, 3, 4]))
    raised = list(sample)
    raised[place] = tuple(
        (min(1.0, x + 0.3) if part else x * 2 + 1) if at == part else x for at, x in enumerate(sample[place])
    )
    assert scored(raised)[f"v{place}"] >= scored(sample)[f"v{place}"] - 1e-12


def test_the_challengers_score_stands_beside_and_moves_no_rank() -> None:
    candidates = [candidate("dull", view_velocity_per_hour=1e6), candidate("gripping"), candidate("unjudged")]
    judged = [assessment("dull", hook_strength=0.1), assessment("gripping", hook_strength=0.9)]
    alone = score_candidates(candidates, judged)
    shadowed = score_candidates(candidates, judged, challenger=Weights("learned-x", {"hook": 1.0}))
    assert [(row["video_id"], row["score"]) for row in shadowed] == [
        (row["video_id"], row["score"]) for row in alone
    ]
    shadow = {row["video_id"]: row["challenger_score"] for row in shadowed}
    assert shadow["gripping"] > shadow["dull"]
    assert shadow["unjudged"] is None
    assert {row["challenger_version"] for row in shadowed} == {"learned-x"}
