"""CP15, CP16 and CP24 with Dagster itself: runs that are killed around their last events, and then run again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ettametta_pipelines
from ettametta_pipelines.orchestration.resources import TikTokResource, YouTubeResource
from ettametta_pipelines.publishing.connections import connect
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines_tests.conftest import SandboxUnderTest

ROOT = Path(ettametta_pipelines.__file__).parents[1]
APPS: dict[str, Any] = {"youtube": YouTubeResource, "tiktok": TikTokResource}
KINDS = {"youtube": "youtube_video", "tiktok": "tiktok_post"}


def run(tmp_path: Path, platform: str, place: str) -> subprocess.CompletedProcess[str]:
    home = tmp_path / "dagster"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "ettametta_pipelines_tests.faults.dagster_run", platform, place],
        env=os.environ | {"DAGSTER_HOME": str(home), "PYTHONPATH": str(ROOT), "DAGSTER_DISABLE_TELEMETRY": "1"},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "place"), [("youtube", "table"), ("youtube", "event"), ("youtube", "run"), ("tiktok", "run")]
)
def test_a_run_killed_after_it_posted_is_run_again_without_a_second_post(
    settings_env: Settings, sandbox: SandboxUnderTest, tmp_path: Path, platform: str, place: str
) -> None:
    with open_state(settings_env) as database:
        connect(database, APPS[platform]().app(), "acme", platform, "sandbox-acme")
    killed = run(tmp_path, platform, place)
    assert killed.returncode == -9, killed.stderr[-2000:]
    posts = sandbox.server._server.config.app.state.store.items(KINDS[platform])
    assert len(posts) == 1
    again = run(tmp_path, platform, "nowhere")
    assert again.returncode == 0, again.stderr[-2000:]
    assert json.loads(again.stdout.splitlines()[-1]) == {"state": "PUBLISHED", "posted": False}
    assert sandbox.server._server.config.app.state.store.items(KINDS[platform]) == posts
