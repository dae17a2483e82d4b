"""The analysis scores frames as pictures, and says when each is shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ettametta_pipelines.media.analysis import analyse
from ettametta_pipelines.media.contracts import MEDIA_ANALYSIS
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.media.stills import Candidate, as_words, exposure_of, from_words, looks_per_s
from ettametta_pipelines.renders.thumbnails import full_frame, scan
from ettametta_pipelines.storage.contracts import plain_rows
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.tables import read_table, write_table
from ettametta_pipelines_tests.media.clips import clip


@pytest.mark.parametrize("fps", [15, 24, 30, 60])
def test_the_frame_shown_at_its_time_is_the_frame_that_was_scored(fps: int, tmp_path: Path) -> None:
    # Brightness counts the frames, so that exposure tells which one was looked at.
    picture = f"color=black:s=320x180:r={fps}:d=1.5,geq=lum=40+N*2:cb=128:cr=128"
    path = clip(tmp_path / "count.mp4", picture=picture, sound=None)
    probe = require_probe(path)
    stills = analyse(path, probe, tmp_path).stills
    assert len(stills) == pytest.approx(12, abs=1)
    for still in stills[1::3]:
        taken = np.asarray(full_frame(path, probe, still.time_s, tmp_path).convert("L"))
        # The next frame differs by 0.018.
        assert exposure_of(taken) == pytest.approx(still.exposure, abs=0.009), f"at {still.time_s} s"


def test_frames_are_ranked_as_a_look_of_its_own_ranks_them(tmp_path: Path) -> None:
    blurred = "mandelbrot=s=640x360:r=30,trim=duration=3,setpts=PTS-STARTPTS,gblur=sigma=6:enable=lt(t\\,1.5)"
    path = clip(tmp_path / "mixed.mp4", picture=blurred, sound=None)
    probe = require_probe(path)
    for found in (analyse(path, probe, tmp_path).stills, scan(path, probe, tmp_path)):
        soft = max(one.sharpness for one in found if one.time_s < 1.4)
        assert soft < min(one.sharpness for one in found if one.time_s > 1.6) / 2


def test_a_long_video_has_no_more_than_six_hundred_looks() -> None:
    assert looks_per_s(10) == 8
    assert looks_per_s(3600) * 3600 == 600


@pytest.mark.parametrize("found", [[Candidate(0.008, 165.4, 0.8123), Candidate(3.375, 1203.0, 0.0)], []])
def test_scores_come_out_of_a_table_as_they_went_in(found: list[Candidate], tmp_path: Path) -> None:
    row: dict[str, Any] = {
        "source_id": "acme--1",
        "shot_count": 1,
        "shot_starts_s": ["0.000"],
        "mean_shot_s": 1.0,
    }
    row |= {"mean_luma": 0.5, "mean_motion": 0.0, "contact_sheet_key": "k", "contact_sheet_bytes": 1}
    row |= {"frames_analysed": 1, "analysis_seconds": 1.0}
    store = ObjectStore.from_url(tmp_path.as_uri())
    write_table(store, MEDIA_ANALYSIS, MEDIA_ANALYSIS.frame([row | {"stills": as_words(found)}]), "acme--1")
    (read,) = plain_rows(read_table(store, MEDIA_ANALYSIS, "acme--1"))
    assert from_words(read["stills"]) == found
    write_table(store, MEDIA_ANALYSIS, MEDIA_ANALYSIS.frame([row]), "acme--1")
    (older,) = plain_rows(read_table(store, MEDIA_ANALYSIS, "acme--1"))
    assert from_words(older["stills"]) == []
