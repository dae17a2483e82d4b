"""Own media judged by sampled frames, from an upload to its row."""

from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.media.assets import ASSETS as MEDIA
from ettametta_pipelines.media.assets import media_analysis, source_media
from ettametta_pipelines.media.contracts import SOURCE_MEDIA
from ettametta_pipelines.media.inbox import drop_upload, scan_inbox
from ettametta_pipelines.orchestration.resources import JudgesResource, StateResource, StoreResource
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.scoring.assets import source_assessments
from ettametta_pipelines.scoring.contracts import SOURCE_ASSESSMENTS
from ettametta_pipelines.scoring.frames import BUDGET, LONG_SIDE, frame_times, sample_frames
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.tables import ParquetTables, read_table
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.media.clips import clip

LATER = datetime(2030, 1, 1, tzinfo=UTC)
# Two seconds of red, two of blue: one cut in four seconds, nothing moves.
TWO_SHOTS = "color=red:s=960x540:r=25:d=2[a];color=blue:s=960x540:r=25:d=2[b];[a][b]concat"
BLOCKED = {"candidates": [], "promptFeedback": {"blockReason": "OTHER"}}


class Footage:
    """One accepted upload and the assets that judge it."""

    def __init__(self, settings: Settings, file: Path) -> None:
        self.store, state = open_store(settings), open_state(settings)
        drop_upload(
            self.store, file, account="studio", niche="fitness", niches=["fitness"], day=date(2026, 11, 22),
            stated={"title": "Morning stretch"},
        )  # fmt: skip
        (arrival,) = scan_inbox(self.store, state, ["fitness"], clock=lambda: LATER).arrivals
        self.source_id = arrival.source_id
        self.instance = dg.DagsterInstance.ephemeral()
        self.instance.add_dynamic_partitions(str(SOURCE_VIDEO.name), [self.source_id])
        assert self._run([source_media, media_analysis]).success

    def judge(self, **config: Any) -> dg.ExecuteInProcessResult:
        return self._run([source_assessments], {"ops": {"source_assessments": {"config": config}}})

    @property
    def row(self) -> pd.Series:
        return read_table(self.store, SOURCE_ASSESSMENTS, self.source_id).iloc[0]

    def _run(self, selection: list[Any], config: Any = None) -> dg.ExecuteInProcessResult:
        store = StoreResource()
        return dg.materialize(
            [*MEDIA, source_assessments],
            selection=selection,
            instance=self.instance,
            partition_key=self.source_id,
            run_config=config,
            resources={
                "store": store,
                "state": StateResource(),
                "judges": JudgesResource(),
                "tables": ParquetTables(store.open, ALL_TABLES),
            },
            raise_on_error=False,
        )


@pytest.fixture
def footage(settings_env: Settings, tmp_path: Path) -> Footage:
    return Footage(settings_env, clip(tmp_path / "clip.mp4", picture=TWO_SHOTS, sound=None))


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("source_assessments")
    return {name: value.value for name, value in event.metadata.items()}


def test_own_footage_is_judged_by_its_frames_and_paid_by_its_account(
    footage: Footage, settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    seen = told(footage.judge())
    assert seen["provider"] == "gemini"
    assert seen["frames"].startswith("![5 pictures](data:image/jpeg;base64,")
    assert seen["edit_direction"]
    row = footage.row
    assert (row["evidence"], row["title"], row["account"]) == ("frames", "Morning stretch", "studio")
    assert row["cuts_per_minute"] == pytest.approx(15, rel=0.05)
    assert row["motion_energy"] < 0.02
    assert row["colourfulness"] > 60
    assert list(row["frame_times_s"]) == ["0.400", "1.200", "2.000", "2.800", "3.600"]
    (spent,) = (
        row
        for name, row in budgets.spending(open_state(settings_env), "sandbox", _today()).items()
        if name == "studio"
    )
    assert spent.spent_microusd == row["cost_microusd"] > 0
    again = told(footage.judge())
    assert (again["reused"], again["cost_usd"]) == (True, 0.0)
    assert sandbox.count("gemini", "POST", ":generateContent") == 1


def _today() -> date:
    return datetime.now(UTC).date()


def test_where_no_model_judges_the_run_fails_or_pixels_judge_with_pacing_from_the_cuts(
    footage: Footage, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("gemini", path_regex=":generateContent", times=None, status=200, body=BLOCKED)
    assert not footage.judge(models=["gemini"]).success
    assert footage.judge(models=["gemini"], fallback="heuristics").success
    row = footage.row
    assert (row["provider"], row["safety"], row["pacing"]) == ("heuristics", "unjudged", "fast")
    assert pd.isna(row["hook_strength"])
    assert row["reason_code"] == "gemini_blocked"


def test_frames_are_small_and_show_their_own_time(footage: Footage, tmp_path: Path) -> None:
    source = read_table(footage.store, SOURCE_MEDIA, footage.source_id).iloc[0]
    frames = sample_frames(footage.store, source["object_key"], scratch=tmp_path / "scratch")
    assert [frame.time_s for frame in frames] == frame_times(source["duration_s"])
    for frame in frames:
        assert len(frame.jpeg) <= BUDGET
        with Image.open(BytesIO(frame.jpeg)) as image:
            assert max(image.size) == LONG_SIDE
            red, _, blue = np.asarray(image, dtype=float).mean(axis=(0, 1))
        assert (red > blue) == (frame.time_s < 2)


@pytest.mark.parametrize("duration_s", [0.04, 0.9, 4.0, 3600.0])
def test_frame_times_lie_within_the_video_and_begin_with_the_opening(duration_s: float) -> None:
    times = frame_times(duration_s)
    assert times == sorted(set(times))
    assert 1 <= len(times) <= 5
    assert all(0 <= time < duration_s for time in times)
    assert times[0] <= 0.5
