"""A recipe tried on one video: seen and checked, and never taken for a rendition."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.media.assets import ASSETS as MEDIA
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource
from ettametta_pipelines.renders import quality
from ettametta_pipelines.renders.recipe import Recipe, RecipeError, load_preset, preset_names
from ettametta_pipelines.renders.trial import CHANGES, changed_recipe
from ettametta_pipelines.renders.trial_assets import TRIAL_ASSETS, TrialConfig
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.tables import ParquetTables, read_table
from ettametta_pipelines_tests.media.clips import clip
from ettametta_pipelines_tests.renders.test_assets import Line, checks_of, metadata_of

Try = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def line(home: Settings) -> Line:
    return Line(home)


@pytest.fixture
def source_id(line: Line, tmp_path: Path) -> str:
    source = clip(tmp_path / "clip.mp4", picture="testsrc2=s=640x360:r=25:d=3", sound="sine=d=3")
    return line.upload(source, rights="owned", title="Knife skills")


@pytest.fixture
def attempt(line: Line, source_id: str) -> Try:
    def run(**config: Any) -> dg.ExecuteInProcessResult:
        store = StoreResource()
        return dg.materialize(
            [*MEDIA, *TRIAL_ASSETS],
            selection=["source_media", "recipe_trials"],
            instance=line.instance,
            partition_key=source_id,
            run_config={"ops": {"recipe_trials": {"config": config}}},
            resources={
                "store": store,
                "state": StateResource(),
                "tables": ParquetTables(store.open, ALL_TABLES),
            },
            raise_on_error=False,
        )

    return run


def test_a_trial_shows_a_piece_of_the_video_and_leaves_no_rendition(
    line: Line, source_id: str, attempt: Try
) -> None:
    result = attempt(recipe="noir", format="1x1", start_s=1, length_s=1, grain=0, contrast=1.1)
    assert result.success
    told = metadata_of(result)["recipe_trials"]
    row = read_table(line.store, ALL_TABLES["recipe_trials"], source_id).iloc[0]
    assert row["duration_s"] == pytest.approx(1, abs=0.1)
    assert row["object_key"].startswith(f"media/trials/{source_id}/1x1/")
    assert line.store.exists(row["object_key"])
    assert '"grain":null' in row["recipe_json"]
    assert told["watch"].endswith(row["object_key"])
    assert told["in_motion"].startswith("![")
    assert told["poster"].startswith("![trial](data:image/jpeg;base64,")
    assert told["changed"] == "contrast 1.1, grain 0"
    assert "readable" in told["checks"]
    assert told["render_s"] > 0
    assert checks_of(result)["recipe_trials", "would_pass"].passed
    assert list(line.store.list("media/renditions/")) == []
    run = line.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags["ettametta/title"] == "Knife skills"


def test_a_trial_that_fails_a_check_says_which_and_keeps_nothing(
    line: Line, attempt: Try, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "RENDITION", replace(quality.RENDITION, black_luma=0.99))
    result = attempt(recipe="clean", format="1x1", length_s=1)
    assert result.success
    check = checks_of(result)["recipe_trials", "would_pass"]
    assert not check.passed
    assert str(check.description).startswith("The picture is black from 0.00 s")
    assert list(line.store.list("media/trials/")) == []


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"grain": 99}, "bad_recipe", "grain.strength"),
        ({"recipe": "neon"}, "unknown_recipe", "neon"),
        ({"start_s": 60}, "trial_outside", "lasts 3.0 s"),
    ],
)
def test_what_cannot_be_tried_is_named(attempt: Try, config: dict[str, Any], code: str, said: str) -> None:
    result = attempt(**config)
    assert not result.success
    failure = result.failure_data_for_node("recipe_trials")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert failure.user_failure_data.metadata["code"].value == code
    assert said in str(failure.user_failure_data.description)


@pytest.mark.parametrize("name", preset_names())
def test_every_change_fits_every_preset_and_none_leaves_it_as_it_is(name: str) -> None:
    preset = load_preset(name)
    assert changed_recipe(preset, dict.fromkeys(CHANGES)) == preset
    changed = changed_recipe(
        preset, {"zoom": 1.05, "grain": 12, "vignette": 0, "mirror": True, "captions": "boxed", "warmth": 0.4}
    )
    assert (changed.originality.zoom, changed.originality.mirror, changed.originality.colour.warmth) == (
        1.05,
        True,
        0.4,
    )
    assert changed.vignette is None
    assert changed.grain is not None
    assert changed.captions is not None
    assert (changed.grain.strength, changed.captions.style) == (12, "boxed")


def test_every_change_can_be_made_in_the_launchpad_and_is_described_there() -> None:
    fields = TrialConfig.model_fields
    assert set(CHANGES) <= set(fields)
    assert all(field.description for field in fields.values())


def test_a_change_out_of_range_says_what_the_range_is() -> None:
    with pytest.raises(RecipeError, match="less than or equal to 20"):
        changed_recipe(Recipe(name="plain"), {"grain": 21})
