"""Recipes are typed and refused whole when anything in them is wrong; the render key names what decides the bytes."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from ettametta_pipelines.renders.recipe import (
    Grain,
    Letterbox,
    Originality,
    Recipe,
    RecipeError,
    canonical_json,
    load_preset,
    load_recipe,
    preset_names,
    render_key,
    seed_for,
)

SHA = "ab" * 32


def test_every_preset_loads_and_says_when_to_choose_it() -> None:
    assert set(preset_names()) >= {"clean", "cinematic", "punchy", "noir", "restless", "vhs"}
    for name in preset_names():
        recipe = load_preset(name)
        assert recipe.name == name
        assert len(recipe.mood) > 20


def test_an_operators_recipe_may_be_yaml_or_json(tmp_path: Path) -> None:
    yaml_file, json_file = tmp_path / "mine.yaml", tmp_path / "mine.json"
    yaml_file.write_text("version: 1\ngrain: {strength: 3}\n")
    json_file.write_text('{"version": 1, "grain": {"strength": 3}}')
    assert (
        load_recipe(yaml_file) == load_recipe(str(json_file)) == Recipe(name="mine", grain=Grain(strength=3))
    )


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("grian: {strength: 3}", "grian: Extra inputs are not permitted"),
        ("grain: {strength: 40}", "grain.strength: Input should be less than or equal to 20"),
        ("originality: {zoom: 1.5}", "originality.zoom: Input should be less than or equal to 1.08"),
        ("speed_ramp: {strength: 0.2}", "speed_ramp.strength: Input should be less than or equal to 0.05"),
        ("jitter: {hertz: 50}", "jitter.hertz: Input should be less than or equal to 6"),
        ("glitch: {often: 1}", "glitch.often: Extra inputs are not permitted"),
        ("grayscale: half", "grayscale: Input should be a valid boolean"),
        ("version: 2", "version: "),
        ("fit: stretch", "fit: "),
        ("- a", "not a mapping"),
        ("a: [", "neither YAML nor JSON"),
        ("x: !!python/object/apply:os.system ['true']", "neither YAML nor JSON"),
    ],
)
def test_a_bad_recipe_is_refused_and_every_bad_key_named(content: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.code == "bad_recipe"
    assert named in caught.value.message
    assert "bad.yaml" in caught.value.message


def test_an_unknown_recipe_names_the_presets(tmp_path: Path) -> None:
    for asked in ("cinematicc", str(tmp_path / "absent.yaml"), "../recipes/clean"):
        with pytest.raises(RecipeError) as caught:
            load_recipe(asked)
        assert caught.value.code == "unknown_recipe"
        assert "cinematic" in caught.value.remedy


def test_a_preset_is_not_a_path() -> None:
    with pytest.raises(RecipeError):
        load_preset("/etc/passwd")


def test_recipes_cannot_be_changed_after_they_were_checked() -> None:
    with pytest.raises(ValidationError):
        Recipe(name="a").fit = "blur"  # type: ignore[misc]


def test_canonical_json_ignores_name_mood_and_the_order_of_keys() -> None:
    one = Recipe(
        name="one", mood="x", seed=4, letterbox=Letterbox(height=0.1), originality=Originality(zoom=1.04)
    )
    two = Recipe.model_validate(
        {"originality": {"zoom": 1.04}, "letterbox": {"height": 0.1}, "name": "two", "version": 1}
    )
    assert canonical_json(one) == canonical_json(two)
    assert json.loads(canonical_json(one))["letterbox"] == {"height": 0.1}


def test_the_render_key_changes_with_everything_that_decides_the_bytes_and_nothing_else() -> None:
    recipe = Recipe(name="one", grain=Grain(strength=3))
    base = render_key(SHA, recipe, 1, "9x16", "n9")
    assert render_key(SHA, recipe.model_copy(update={"name": "two", "mood": "m"}), 1, "9x16", "n9") == base
    others = {
        render_key("cd" * 32, recipe, 1, "9x16", "n9"),
        render_key(SHA, Recipe(name="one", grain=Grain(strength=4)), 1, "9x16", "n9"),
        render_key(SHA, recipe, 2, "9x16", "n9"),
        render_key(SHA, recipe, 1, "1x1", "n9"),
        render_key(SHA, recipe, 1, "9x16", "n10"),
    }
    assert len(others) == 5
    assert base not in others


def test_treatments_that_are_off_leave_the_keys_of_older_renditions_as_they_were() -> None:
    assert canonical_json(Recipe(name="a")) == (
        '{"fit":"crop","grain":null,"letterbox":null,"originality":{"colour":{"brightness":0.0,"contrast":1.0,'
        '"hue_degrees":0.0,"saturation":1.0,"warmth":0.0},"mirror":false,"zoom":null},"version":1,"vignette":null}'
    )


def test_each_treatment_that_is_on_changes_the_key() -> None:
    variants = [
        Recipe.model_validate({"name": "a"} | treatment)
        for treatment in (
            {},
            {"grayscale": True},
            {"speed_ramp": {}},
            {"speed_ramp": {"period_s": 9}},
            {"jitter": {}},
            {"jitter": {"strength": 0.02}},
            {"glitch": {}},
            {"glitch": {"burst_s": 0.5}},
        )
    ]
    assert len({render_key(SHA, recipe, 1, "9x16", "n9") for recipe in variants}) == len(variants)


def test_the_seed_is_the_runs_else_the_recipes_else_the_sources() -> None:
    seeded = Recipe(name="a", seed=7)
    assert seed_for(seeded, SHA, 3) == 3
    assert seed_for(seeded, SHA, 0) == 0
    assert seed_for(seeded, SHA) == 7
    assert seed_for(Recipe(name="a"), SHA) == 0xABABABAB & 0x7FFFFFFF
