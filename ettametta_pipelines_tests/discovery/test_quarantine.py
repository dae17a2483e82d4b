"""Rows that cannot be ranked stand aside with a reason, good ones land, and nothing is invented."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ettametta_pipelines.discovery.contracts import TREND_CANDIDATES, YOUTUBE_CANDIDATES
from ettametta_pipelines.discovery.likeness import mark_reuploads
from ettametta_pipelines.discovery.quarantine import REASONS, check_statistics, quarantined
from ettametta_pipelines.discovery.report import quarantine_table, trend_table
from ettametta_pipelines.discovery.signal_contracts import QUARANTINED_CANDIDATES
from ettametta_pipelines.discovery.trends import Surroundings, deduplicate, rank_trends
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.untrusted import plain_text
from ettametta_pipelines.vendors.youtube import YouTubeData
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.discovery.rows import NOW, raw, snapshot

counters = st.none() | st.integers(-(10**17), 10**17)
titles = st.text(max_size=400) | st.sampled_from(
    ["", "\u200b\u200b", "🎉" * 9, "\u202eevil", "x" * 10_000, "<script>alert(1)</script>", "a|b [c](d) `e`"]
)
rows = st.builds(
    lambda number, title, **changes: raw(f"v{number}", title=plain_text(title, 300), **changes),
    st.integers(0, 12),
    titles,
    platform=st.sampled_from(["youtube", "tiktok"]),
    published_at=st.integers(-30 * 365, 14 * 365).map(lambda days: NOW + timedelta(days=days, seconds=days)),
    observed_at=st.just(NOW) | st.just(NOW - timedelta(hours=5)),
    views=counters,
    likes=counters,
    comments=counters,
    live=st.none() | st.booleans(),
    duration_s=st.none() | st.floats(0, 1e6),
    baseline_views=st.none() | st.floats(0, 1e12),
    baseline_uploads=st.integers(0, 50),
    channel_id=st.sampled_from(["UC1", "UC2", "UC3"]),
)


@settings(max_examples=150)
@given(st.lists(rows, max_size=25), st.randoms(use_true_random=False))
def test_every_row_is_ranked_or_stands_aside_and_keeps_its_own_figures(
    given_rows: list[dict[str, Any]], shuffler: random.Random
) -> None:
    ranked = rank_trends(given_rows)
    aside = quarantined(deduplicate(given_rows))
    assert len(ranked.rows) + len(aside) + ranked.duplicates == len(given_rows)
    assert sum(ranked.excluded.values()) == len(aside)
    TREND_CANDIDATES.frame(ranked.rows)
    QUARANTINED_CANDIDATES.frame(aside)
    said = {(r["platform"], r["video_id"], r["views"], r["likes"], r["comments"]) for r in given_rows}
    for row in ranked.rows:
        assert (row["platform"], row["video_id"], row["views"], row["likes"], row["comments"]) in said
        assert row["views"] >= 0
        assert row["published_at"] <= NOW + timedelta(minutes=5)
    shuffled = list(given_rows)
    shuffler.shuffle(shuffled)
    assert [r["video_id"] for r in rank_trends(shuffled).rows] == [r["video_id"] for r in ranked.rows]
    for table in (trend_table(ranked.rows), quarantine_table(aside)):
        lines = table.splitlines()
        assert {line.count(" | ") for line in lines if "---" not in line} <= {lines[0].count(" | ")}


def test_of_two_sightings_at_one_instant_the_same_counts_whichever_came_first() -> None:
    today, never = (
        raw("v0", views=5, published_at=NOW),
        raw("v0", views=5, published_at=NOW + timedelta(days=9)),
    )
    there, back = (rank_trends(pair) for pair in ([today, never], [never, today]))
    assert (there.rows, there.excluded) == (back.rows, back.excluded)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"live": True}, "live_stream"),
        ({"views": None}, "views_unknown"),
        ({"views": -1}, "negative_count"),
        ({"likes": -1}, "negative_count"),
        ({"published_at": NOW + timedelta(hours=1)}, "published_in_future"),
        ({"published_at": datetime(1970, 1, 1, tzinfo=UTC)}, "publication_date_impossible"),
    ],
)
def test_a_bad_row_stands_aside_under_its_reason(changes: dict[str, Any], code: str) -> None:
    (row,) = quarantined([raw("good"), raw("bad", **changes)])
    assert (row["video_id"], row["reason_code"]) == ("bad", code)
    assert row["reason"] == next(reason.sentence for reason in REASONS if reason.code == code)


def test_where_counters_were_deleted_nobody_tells_again_which_were_bad() -> None:
    with pytest.raises(PermanentError, match="deleted by age"):
        check_statistics([raw("a", statistics_deleted_at=NOW)], "2026-11-22|fitness")


def test_counters_that_are_no_numbers_are_unknown_and_the_rest_of_the_answer_lands(
    settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    def item(video_id: str, **statistics: Any) -> dict[str, Any]:
        snippet = {"publishTime": "2026-11-20T10:00:00Z"}
        return {"id": video_id, "snippet": snippet, "statistics": statistics, "contentDetails": {}}

    items = [
        item("good", viewCount="1200", likeCount="7", commentCount="0"),
        item("words", viewCount="1,200", likeCount="many", commentCount=None),
        item("giant", viewCount="9" * 40, likeCount="١٢"),
        item("negative", viewCount="-5"),
        {"id": "bare", "statistics": None, "contentDetails": {"duration": "soon"}},
        {"kind": "youtube#videoStats"},
        item("good", viewCount="1200"),
    ]
    sandbox.fault("youtube", path_regex="batchGetStats", status=200, body={"items": items})
    ids = ["good", "words", "giant", "negative", "bare", "gone"]
    stats = YouTubeData(settings_env.endpoint("youtube")).batch_get_stats(ids)
    views = {one.video_id: one.views for one in stats}
    assert views == {"good": 1200, "words": None, "giant": None, "negative": -5, "bare": None}


def test_search_hits_that_name_no_video_or_date_are_left_out_and_the_rest_lands(
    settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    def hit(video_id: str, **changes: Any) -> dict[str, Any]:
        snippet = {"publishedAt": "2026-11-20T10:00:00Z", "channelId": "UC1", "title": "&lt;b&gt;A &amp; B"}
        return {"id": {"videoId": video_id}, "snippet": snippet | changes}

    bad = [hit("x", publishedAt="yesterday"), hit("y", publishedAt="2026-11-20T10:00:00"), {"id": {}}, {}]
    sandbox.fault("youtube", path_regex="search", status=200, body={"items": [*bad, hit("good")]})
    page = YouTubeData(settings_env.endpoint("youtube")).search(
        "q", published_after=NOW, published_before=NOW
    )
    assert [(video.video_id, video.title) for video in page.videos] == [("good", "<b>A & B")]


def test_uploads_that_name_no_video_are_left_out_and_the_rest_lands(
    settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    good = {"contentDetails": {"videoId": "good", "videoPublishedAt": "2026-11-20T10:00:00Z"}, "snippet": {}}
    bad = [{}, {"contentDetails": {}}, {"contentDetails": {"videoId": "x"}}, {**good, "snippet": None}]
    sandbox.fault("youtube", path_regex="playlistItems", status=200, body={"items": [*bad, good]})
    uploads = YouTubeData(settings_env.endpoint("youtube")).uploads("UU1")
    assert [(video.video_id, video.title) for video in uploads] == [("good", "")]


def test_the_same_footage_uploaded_again_is_marked_with_its_first_upload() -> None:
    first = raw("first", title="Five stretches for runners", duration_s=61.0)
    again = raw(
        "again",
        title="FIVE Stretches, for runners!! 🏃",
        duration_s=61.6,
        published_at=NOW - timedelta(hours=2),
    )
    elsewhere = raw("t1", platform="tiktok", title=first["title"], duration_s=61.0, published_at=NOW)
    other_length = raw("longer", title=first["title"], duration_s=75.0)
    other_channel = raw("other", title=first["title"], duration_s=61.0, channel_title="Two")
    nameless = [raw("n1", title="🎉"), raw("n2", title="🎉")]
    marks = mark_reuploads([elsewhere, again, first, other_length, other_channel, *nameless])
    assert marks == {("youtube", "again"): "youtube:first", ("tiktok", "t1"): "youtube:first"}
    (row,) = rank_trends([again], Surroundings(kin=[first])).rows
    assert row["reupload_of"] == "youtube:first"


def test_a_video_that_other_niches_found_names_them() -> None:
    sightings = [("youtube", "a", niche) for niche in ("travel", "fitness", "cooking")] + [
        ("tiktok", "a", "x")
    ]
    (row,) = rank_trends([raw("a")], Surroundings(sightings=sightings)).rows
    assert row["also_in"] == ["cooking", "travel"]
    assert "also found in cooking, travel" in row["why"]


def test_signals_outlive_deleted_counters() -> None:
    good = [raw(f"v{n}", views=1000 * (n + 1)) for n in range(4)]
    before = rank_trends(good).rows
    deleted = [row | {"views": None, "likes": None, "statistics_deleted_at": NOW} for row in good]
    derived = [row | {"views": None, "likes": None, "comments": None} for row in before]
    after = rank_trends([*deleted, raw("lost", statistics_deleted_at=NOW)], Surroundings(derived=derived))
    assert [(r["video_id"], r["trend_strength"]) for r in after.rows] == [
        (r["video_id"], r["trend_strength"]) for r in before
    ]
    assert after.excluded == {"statistics_deleted": 1}
    assert all(row["views"] is None for row in TREND_CANDIDATES.rows(TREND_CANDIDATES.frame(after.rows)))


def test_files_from_before_a_column_existed_stay_readable() -> None:
    import pyarrow as pa

    frame = YOUTUBE_CANDIDATES.frame([{k: v for k, v in raw("a").items() if k != "statistics_deleted_at"}])
    old = pa.Table.from_pandas(frame.drop(columns="statistics_deleted_at"), preserve_index=False)
    old = old.cast(pa.schema([YOUTUBE_CANDIDATES.arrow_schema().field(name) for name in old.column_names]))
    assert YOUTUBE_CANDIDATES.conform(old, source="old.parquet").num_rows == 1


def test_snapshots_without_a_count_are_no_observation() -> None:
    (row,) = rank_trends([raw("a")], Surroundings(snapshots=[snapshot("a", 24, None)])).rows
    assert (row["velocity_basis"], row["views"]) == ("lifetime_mean", 1000)
    assert row["day"] == date(2026, 11, 22)
