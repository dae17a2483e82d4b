"""The whole line on the embedded default, as `make demo` runs it, also with input that is no good."""

import io
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.cli import app
from ettametta_pipelines.commands.demo import run_demo
from ettametta_pipelines.media.inbox import drop_upload
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.lake import open_lake
from ettametta_pipelines_tests.conftest import SandboxUnderTest

MakeClip = Callable[..., Path]


def demo(settings: Settings, videos: list[Path]) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    code = run_demo(settings, videos, console)
    assert logging.root.manager.disable == logging.NOTSET, "the demo is quiet on its own console alone"
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def count(settings: Settings, statement: str) -> int:
    with open_lake(settings, ALL_TABLES) as lake:
        return int(lake.query(statement).iloc[0, 0])


@pytest.mark.slow
def test_the_line_runs_and_running_it_again_changes_nothing(
    settings_env: Settings, sandbox: SandboxUnderTest, make_clip: MakeClip
) -> None:
    videos = [make_clip("one.mp4", seed=1), make_clip("silent.mp4", seed=2, sound=False, size="360x640")]
    code, first = demo(settings_env, videos)
    assert code == 0, first
    assert "9 new renders, 6 new uploads" in first
    assert "1 new clips, 1 in all" in first
    for url in re.findall(r"http://\S+/(?:youtube|tiktok)/\S+", first):
        assert httpx.get(url).status_code == 200, url
    assert count(settings_env, "select count(*) from daily_revenue") > 0
    sessions = sandbox.count("youtube", "POST", "/upload/youtube/v3/videos")
    inits = sandbox.count("tiktok", "POST", "/v2/post/publish/video/init")
    assert (sessions, inits) == (3, 3)

    code, second = demo(settings_env, videos)
    assert code == 0, second
    assert "0 new renders, 0 new uploads" in second
    assert "0 new clips, 1 in all" in second
    assert sandbox.count("youtube", "POST", "/upload/youtube/v3/videos") == sessions
    assert sandbox.count("tiktok", "POST", "/v2/post/publish/video/init") == inits

    runner = CliRunner()
    source = json.loads(runner.invoke(app, ["sql", "select source_id from source_media", "--json"]).stdout)[0]
    chain = json.loads(runner.invoke(app, ["trace", source["source_id"], "--json"]).stdout)
    assert len(chain["renditions"]) == 3
    assert {post["platform"] for post in chain["publications"]} == {"youtube", "tiktok"}
    assert {post["state"] for post in chain["publications"]} == {"PUBLISHED"}
    youtube = next(post for post in chain["publications"] if post["platform"] == "youtube")
    by_post = json.loads(runner.invoke(app, ["trace", youtube["remote_id"], "--json"]).stdout)
    assert by_post["source_id"] == source["source_id"]


@pytest.mark.slow
def test_bad_files_are_named_with_their_reason_and_the_good_one_goes_on(
    settings_env: Settings, make_clip: MakeClip, tmp_path: Path
) -> None:
    good = make_clip("good.mp4", seed=3)
    text, empty, cut = tmp_path / "notes.mp4", tmp_path / "empty.mp4", tmp_path / "cut.mp4"
    text.write_text("this is not a video\n" * 50)
    empty.write_bytes(b"")
    whole = make_clip("whole.mp4", seed=4, seconds=4).read_bytes()
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    code, printed = demo(settings_env, [good, text, empty, cut, tmp_path / "absent.mp4"])
    assert code == 1
    # The synthesised clip and the good file.
    assert "6 new renders, 4 new uploads" in printed
    for reason in ("not_a_video", "empty_file", "truncated_media", "file_not_found"):
        assert reason in printed
    assert count(settings_env, "select count(*) from source_media where verdict = 'rejected'") == 3
    assert count(settings_env, "select count(*) from youtube_publications") == 2


@pytest.mark.slow
def test_without_declared_rights_a_video_is_rendered_and_held_back(
    settings_env: Settings, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.commands import demo as demo_module

    monkeypatch.setattr(demo_module, "drop_upload", lambda *a, **k: drop_upload(*a, **(k | {"stated": {}})))
    code, printed = demo(settings_env, [make_clip("mystery.mp4", seed=5)])
    assert code == 1
    # The synthesised clip is posted, the one without rights is not.
    assert "6 new renders, 2 new uploads" in printed
    assert "rights_undeclared" in printed
    assert ".json" in printed, "the remedy names the sidecar"
