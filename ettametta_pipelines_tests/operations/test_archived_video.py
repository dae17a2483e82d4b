"""An archived video as its operator meets it on the command line: traced, called back, traced again."""

import json
from collections.abc import Iterator

import dagster as dg
import pytest
from typer.testing import CliRunner

from ettametta_pipelines.cli import app
from ettametta_pipelines.commands.devserver import prepare_home
from ettametta_pipelines.settings import Settings
from ettametta_pipelines_tests.operations.test_storage_assets import Home

SOURCE = "acme--0123456789abcdef"
runner = CliRunner()


@pytest.fixture
def home(settings_env: Settings) -> Iterator[Home]:
    """The instance that the command line finds by the home, with one archived video."""
    prepare_home(settings_env)
    with dg.DagsterInstance.from_config(str(settings_env.dagster_home)) as instance:
        made = Home(settings_env, instance)
        made.take_in(SOURCE, days_ago=200)
        assert made.make("archive_videos")["archived_now"] == 1
        yield made


def said(*arguments: str) -> str:
    answer = runner.invoke(app, list(arguments))
    assert answer.exit_code == 0, answer.output
    return " ".join(answer.output.split())


def test_an_archived_video_is_traced_and_called_back_and_may_be_called_twice(home: Home) -> None:
    assert home.live() == set()
    upload = f"uploads/{SOURCE}.mp4"
    told = said("trace", upload)
    assert f"to render it anew: ettametta restore {SOURCE}" in told
    assert json.loads(runner.invoke(app, ["trace", upload, "--json"]).stdout)["archived_at"]
    for _ in range(2):
        assert f"{SOURCE}: back among the partitions of source_video." in said("restore", SOURCE)
    assert home.live() == {SOURCE}
    assert "archived" not in said("trace", upload)
    # It was called back for something: the next archiving leaves it for another while.
    assert home.make("archive_videos")["archived_now"] == 0


def test_a_misspelt_video_is_refused_before_any_is_called_back(home: Home) -> None:
    answer = runner.invoke(app, ["restore", SOURCE, "acme--nonsense"])
    assert answer.exit_code != 0
    assert "acme--nonsense is no source video" in str(answer.exception)
    assert home.live() == set()
