"""Any recipe that loads can be rendered and passes its checks; any other is refused before a process starts.

Recipes are drawn from the model's own fields and limits, so a new part of a recipe is tried as soon as it exists.
`RANDOM_RECIPES` says how many; `make fuzz` tries 200, and every preset in every format. A failure names its recipe.
"""

import json
import logging
import math
import os
import random
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ettametta_pipelines.media import probe as probe_module
from ettametta_pipelines.renders import ffmpeg as runner
from ettametta_pipelines.renders.engine import render_file
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.recipe import Recipe, RecipeError, load_recipe, preset_names
from ettametta_pipelines_tests.media.clips import clip

log = logging.getLogger(__name__)

HOW_MANY = int(os.environ.get("RANDOM_RECIPES", "6"))
# What has one value that can be rendered here: no stock footage is fetched, and none is insisted upon.
FIXED: dict[str, Any] = {"version": 1, "source": "library", "missing": "skip"}
# A speed ramp stretches by at most 1 / (1 - 0.05).
LONGEST_STRETCH = 1.06
SRT = (
    "1\n00:00:00,300 --> 00:00:01,100\nIt's {here}: 100 %\n\n"
    "2\n00:00:01,200 --> 00:00:02,000\nÄ second line, a longer one\n"
)


def random_part(model: type[BaseModel], rng: random.Random) -> dict[str, Any]:
    """A valid document of a part of a recipe; each field is there half of the time, required ones always."""
    document = {}
    for name, field in model.model_fields.items():
        if name in FIXED:
            document[name] = FIXED[name]
        elif field.is_required() or rng.random() < 0.5:
            document[name] = random_value(field.annotation, field, rng)
    return document


def random_value(annotation: Any, field: FieldInfo, rng: random.Random) -> Any:
    """A valid value, one in four at a limit. Text says nothing about a picture and keeps its default."""
    if get_origin(annotation) in (Union, types.UnionType):
        return random_value(next(kind for kind in get_args(annotation) if kind is not type(None)), field, rng)
    if get_origin(annotation) is Literal:
        return rng.choice(get_args(annotation))
    if annotation is bool:
        return rng.random() < 0.5
    if annotation in (int, float):
        low, high = limits(field)
        if rng.random() < 0.25:
            return rng.choice((low, high))
        return rng.randint(low, high) if annotation is int else round(rng.uniform(low, high), 4)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return random_part(annotation, rng)
    if annotation is str:
        return "random" if field.is_required() else field.default
    raise AssertionError(f"{annotation} is new in a recipe: say here how to draw one")


def limits(field: FieldInfo) -> tuple[Any, Any]:
    """Lowest and highest value of a number, which must have both."""
    found: dict[str, Any] = {}
    for rule in field.metadata:
        for name in ("ge", "gt", "le", "lt"):
            if (limit := getattr(rule, name, None)) is not None:
                found[name[0]] = limit + {"ge": 0, "le": 0, "gt": 1, "lt": -1}[name]
    assert set(found) == {"g", "l"}, f"{field} has no limit"
    return found["g"], found["l"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A lying one with sound, an upright one without."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "words.srt").write_text(SRT)
    moving = "testsrc2=s={}:r=25:d=2.2"
    beat = "aevalsrc=0.4*sin(900*t)*(1+sin(9*t)):d=2.2:s=44100"
    return [
        clip(folder / "lying.mp4", picture=moving.format("320x180"), sound=beat),
        clip(folder / "upright.mp4", picture=moving.format("180x320"), sound=None),
    ]


@pytest.mark.parametrize("seed", range(HOW_MANY))
def test_any_valid_recipe_renders_and_passes_its_checks(
    seed: int, sources: list[Path], tmp_path: Path
) -> None:
    rng = random.Random(f"recipe {seed}")
    recipe = tmp_path / "random.yaml"
    document = random_part(Recipe, rng)
    recipe.write_text(yaml.safe_dump(document))
    source, format_name = rng.choice(sources), rng.choice(list(FORMATS))
    log.warning("seed %d, %s to %s: %s", seed, source.name, format_name, json.dumps(document))
    captions = source.with_name("words.srt") if rng.random() < 0.6 else None
    made = render_file(source, str(recipe), [format_name], tmp_path / "out", seed=seed, captions=captions)
    (output,) = made["outputs"]
    assert [check["sentence"] for check in output["checks"] if not check["passed"]] == []
    assert (output["width"], output["height"]) == (FORMATS[format_name].width, FORMATS[format_name].height)
    assert 2.2 / LONGEST_STRETCH < output["duration_s"] < 2.2 * LONGEST_STRETCH
    assert output["has_audio"] == (source.name == "lying.mp4")


# Every preset in every format, from a lying and an upright source; in a short run one of these for each preset.
MATRIX = [(preset, name, source) for preset in preset_names() for name in FORMATS for source in (0, 1)]
ONE_EACH = [MATRIX[6 * place + place % 6] for place in range(len(preset_names()))]


@pytest.mark.parametrize(("preset", "format_name", "source"), MATRIX if HOW_MANY >= 100 else ONE_EACH)
def test_every_preset_passes_its_checks_in_every_format(
    preset: str, format_name: str, source: int, sources: list[Path], tmp_path: Path
) -> None:
    words = sources[source].with_name("words.srt")
    (output,) = render_file(sources[source], preset, [format_name], tmp_path, captions=words)["outputs"]
    assert [check["sentence"] for check in output["checks"] if not check["passed"]] == []


def test_every_part_of_a_recipe_is_drawn_sooner_or_later() -> None:
    drawn: set[str] = set()
    for seed in range(40):
        drawn |= set(paths(random_part(Recipe, random.Random(seed))))
    assert drawn == set(paths_of_model(Recipe))


def paths(document: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in document.items():
        yield above + name
        if isinstance(value, dict):
            yield from paths(value, f"{above}{name}.")


def paths_of_model(model: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, _, part in parts(model):
        yield above + name
        if part is not None:
            yield from paths_of_model(part, f"{above}{name}.")


def parts(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo, type[BaseModel] | None]]:
    """Fields of a model, each with the model of its value where it has one."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        yield name, field, next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)


BAD_NAMES = (
    "", "A", "-y", "../../etc/passwd", "a b", "a\n", "a;touch x", "$(id)", "[0:v]movie=x", "a'b", "x" * 41, "é", None,
)  # fmt: skip
NEVER_RIGHT: tuple[Any, ...] = ("]movie=x[", [1], {"a": 1}, "", "1e400", b"\x00".decode())


def broken(
    model: type[BaseModel], whole: dict[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Documents with one thing wrong each, and what it is."""
    yield f"{above} unknown key", changed(whole, (*above, "movie"), "x")
    for name, field, part in parts(model):
        place = (*above, name)
        if part is not None:
            yield from broken(part, whole, place)
            yield f"{place} text", changed(whole, place, "yes")
            yield f"{place} list", changed(whole, place, [])
            continue
        if any(kind in (int, float) for kind in (field.annotation, *get_args(field.annotation))):
            low, high = limits(field)
            for value in (
                math.nan,
                math.inf,
                -math.inf,
                low - 1e-3,
                high + 1e-3,
                low - 1,
                high + 1,
                -1e308,
                10**400,
            ):
                yield f"{place} {value!s:.20}", changed(whole, place, value)
        if field.annotation is not str and str not in get_args(field.annotation):
            for value in NEVER_RIGHT:
                yield f"{place} {value!r}", changed(whole, place, value)
    if model is Recipe:
        for name in BAD_NAMES:
            yield f"name {name!r}", changed(whole, ("name",), name)


def changed(document: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy with one value set."""
    first, *rest = place
    inner = changed(document.get(first) or {}, tuple(rest), value) if rest else value
    return {**document, first: inner}


def complete(model: type[BaseModel]) -> dict[str, Any]:
    """A valid document with every part in it."""
    document = {}
    for name, field, part in parts(model):
        if part is not None:
            document[name] = complete(part)
        elif field.is_required() or field.default is not None:
            document[name] = FIXED.get(name, random_value(field.annotation, field, random.Random(name)))
    return document


def test_a_recipe_with_anything_wrong_is_refused_before_a_process_starts(
    sources: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = tmp_path / "random.yaml"
    whole = complete(Recipe)
    recipe.write_text(yaml.safe_dump(whole))
    load_recipe(recipe)
    for module in (runner, probe_module):
        monkeypatch.setattr(module, "run_confined", lambda *a, **k: pytest.fail("a process was started"))
    taken, tried = [], 0
    for what, document in broken(Recipe, whole):
        recipe.write_text(yaml.safe_dump(document, allow_unicode=True))
        tried += 1
        try:
            render_file(sources[0], str(recipe), ["1x1"], tmp_path / "out")
        except RecipeError as error:
            if error.code != "bad_recipe" or "\n" in error.message:
                taken.append(f"{what}: {error.message!r}")
        else:
            taken.append(what)
    assert taken == []
    assert tried > 300
    assert not (tmp_path / "out").exists()
