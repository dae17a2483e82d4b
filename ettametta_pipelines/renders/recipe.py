"""The recipe: a typed, versioned description of what is done to footage, and the key that names its result.

Presets by mood lie in `recipes/*.yaml`; an operator's own recipe is a YAML or JSON file of the same shape. Strengths
have stated ranges and unknown keys are refused, so that a recipe that loads can be rendered. How a treatment is
carried out is `graph.py`'s business.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.renders.encoders import X264, Encoder
from ettametta_pipelines.renders.formats import FORMATS, SOUND
from ettametta_pipelines.untrusted import plain_text

PRESETS_DIR = Path(__file__).with_name("recipes")
DEFAULT_RECIPE = "cinematic"
MAX_RECIPE_BYTES = 64 * 1024

# Raised whenever the same recipe would give other bytes: the graph, the plates or the sound chain changed.
GRAPH_REVISION = 3

LANGUAGE = r"^[a-z]{2}(-[A-Za-z]{2,4})?$"


class RecipeError(PermanentError):
    """A recipe does not exist or holds something that cannot be used."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Colour(_Part):
    """A shift of colour and tone; the defaults change nothing."""

    hue_degrees: float = Field(default=0.0, ge=-12, le=12, description="Rotation of the colour circle.")
    saturation: float = Field(default=1.0, ge=0.7, le=1.3, description="1 leaves colours as they are.")
    contrast: float = Field(default=1.0, ge=0.85, le=1.2, description="1 leaves contrast as it is.")
    brightness: float = Field(default=0.0, ge=-0.06, le=0.06, description="Added to brightness, 1 is white.")
    warmth: float = Field(default=0.0, ge=-1, le=1, description="-1 is bluish, 1 is golden.")


class Originality(_Part):
    """What makes the rendition its own picture rather than a copy of the source frame."""

    mirror: bool = Field(
        default=False, description="Flip left and right. Not for footage with writing in it."
    )
    zoom: float | None = Field(default=None, ge=1.02, le=1.08, description="Enlarge about the centre.")
    colour: Colour = Field(default=Colour(), description="Shift of colour and tone.")


class Letterbox(_Part):
    """Black bars above and below."""

    height: float = Field(
        ge=0.02, le=0.15, description="Height of each bar as a share of the picture's height."
    )


class Vignette(_Part):
    """Corners fade towards black."""

    strength: float = Field(ge=0.05, le=0.8, description="How dark the very corner gets: 1 would be black.")


class Grain(_Part):
    """Film grain: noise on brightness that changes with every frame."""

    strength: int = Field(ge=1, le=20, description="Amplitude in steps of 255; 4 is fine, 12 is coarse.")


CaptionStyle = Literal["plain", "bold_outline", "boxed"]


class Captions(_Part):
    """Words burnt into the picture, where the source came with captions."""

    style: CaptionStyle = Field(
        default="bold_outline",
        description="plain: thin edge and shadow; bold_outline: thick black edge; boxed: on a dark box.",
    )
    position: Literal["bottom", "middle", "top"] = Field(
        default="bottom", description="Where in the part of the frame that platforms keep free."
    )


class SpeedRamp(_Part):
    """Speed swells and ebbs all the time, sound and picture together, pitch kept."""

    strength: float = Field(
        default=0.05, ge=0.01, le=0.05, description="Departure from normal speed: 0.05 is 0.95 to 1.05."
    )
    period_s: float = Field(
        default=6.0, ge=3, le=30, description="About how long one swell takes, in seconds."
    )


class Jitter(_Part):
    """The picture sways with every frame, as if held by hand."""

    strength: float = Field(
        default=0.008,
        ge=0.002,
        le=0.03,
        description="Farthest sway as a share of the shorter side; as much is cut from every edge.",
    )
    hertz: float = Field(
        default=2.5, ge=0.5, le=6, description="Highest frequency of the sway: 1 floats, 6 trembles."
    )


class Glitch(_Part):
    """Short bursts of torn picture: colours slip apart, slices change places, blocks."""

    strength: float = Field(default=0.5, ge=0.1, le=1, description="How far colours and slices move.")
    every_s: float = Field(default=4.0, ge=1, le=60, description="Seconds between bursts on average.")
    burst_s: float = Field(default=0.3, ge=0.1, le=0.8, description="Longest burst, in seconds.")


BrollSource = Literal["any", "library", "pexels"]


class Broll(_Part):
    """Short pieces of other footage over the picture, now and then; the sound goes on."""

    every_s: float = Field(
        default=9.0, ge=3, le=120, description="About how many seconds lie between two cutaways' beginnings."
    )
    length_s: float = Field(
        default=2.5,
        ge=1,
        le=6,
        description="About how long a cutaway lasts: up to half a second more where a cut is near.",
    )
    share: float = Field(
        default=0.3, ge=0.05, le=0.5, description="At most this share of the video is cut away from."
    )
    source: BrollSource = Field(
        default="any",
        description="library: the account's own clips; pexels: stock footage; any: its own first, then stock.",
    )
    missing: Literal["skip", "fail"] = Field(
        default="skip",
        description="Where no clip can be had: skip leaves the footage itself, fail ends the render.",
    )


class VoiceOver(_Part):
    """A text spoken over the footage, whose own sound is taken down meanwhile."""

    voice: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]{8,40}$",
        description="Id of a voice at ElevenLabs; empty takes ELEVENLABS_VOICE. The local voice has one a language.",
    )
    language: str | None = Field(
        default=None,
        pattern=LANGUAGE,
        description="Language of the text, such as en or pt-BR; empty takes the upload's, else the niche's, else en.",
    )
    level_db: float = Field(
        default=0.0, ge=-6, le=6, description="Loudness of the voice beside the target of -14 LUFS."
    )
    duck_db: float = Field(
        default=14.0, ge=0, le=40, description="By how much the source's sound goes down under the voice."
    )
    position: Literal["start", "middle", "end"] = Field(
        default="start", description="Where in the rendition it is spoken."
    )
    start_s: float = Field(
        default=0.5, ge=0, le=600, description="Seconds of the rendition before which nothing is spoken."
    )


class Recipe(_Part):
    """What is done to a source, in any combination; what is left out is not done."""

    version: Literal[1] = 1
    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,39}$", description="Short name, shown with every rendition."
    )
    mood: str = Field(default="", max_length=200, description="When to choose it, in words.")
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**31,
        description="Seed of everything random; empty derives it from the source.",
    )
    fit: Literal["crop", "blur"] = Field(
        default="crop",
        description="How a format of another shape is filled: cut the sides, or show all over a blurred copy.",
    )
    framing: Literal["subject", "centre"] = Field(
        default="subject",
        description="What a cut format shows: follow the subject where one is known, or stay in the centre.",
    )
    originality: Originality = Field(default=Originality(), description="Mirror, zoom and colour.")
    letterbox: Letterbox | None = None
    vignette: Vignette | None = None
    grain: Grain | None = None
    grayscale: bool = Field(default=False, description="Black and white: no colour is left.")
    speed_ramp: SpeedRamp | None = None
    jitter: Jitter | None = None
    glitch: Glitch | None = None
    broll: Broll | None = None
    captions: Captions | None = Field(
        default=None,
        description="Draws the captions a source came with, else the words of its voice-over; without either it "
        "changes nothing.",
    )
    voice_over: VoiceOver | None = Field(
        default=None, description="Speaks the text a source came with; without one it changes nothing."
    )


# Treatments younger than the first stored renditions: where one is off it is not written, so that the keys of all
# that was rendered before it existed stay what they were.
UNWRITTEN_WHEN_OFF = ("grayscale", "speed_ramp", "jitter", "glitch", "broll", "captions", "voice_over")


def canonical_json(recipe: Recipe) -> str:
    """What of a recipe decides the picture, as JSON with sorted keys: its name, mood and seed do not.

    Neither does its framing by itself, but the path that is laid for it, which enters the key on its own.
    """
    off = {name for name in UNWRITTEN_WHEN_OFF if not getattr(recipe, name)}
    return json.dumps(
        recipe.model_dump(mode="json", exclude={"name", "mood", "seed", "framing", *off}),
        sort_keys=True,
        separators=(",", ":"),
    )


def render_key(
    source_sha256: str,
    recipe: Recipe,
    seed: int,
    format_name: str,
    build: str,
    captions: str | None = None,
    voice: str | None = None,
    framing: str | None = None,
    cutaways: str | None = None,
    encoder: Encoder = X264,
) -> str:
    """32 hex digits that name a rendition: the same key means the same bytes of video.

    Covers source, recipe, seed, the format, the encoder with its settings, the ffmpeg build and our own graph.
    `captions` is `caption_drawing.drawing_key` of what is drawn, None where nothing is; `voice` likewise
    `voiceover.mix_key`; `framing` is the digest of the camera's path, None where it stays in the centre; `cutaways` is
    `BrollReport.digest`.
    """
    parts: dict[str, Any] = {
        "source": source_sha256,
        "recipe": canonical_json(recipe),
        "seed": seed,
        "format": FORMATS[format_name].as_dict(),
        "encoder": encoder.as_dict(),
        "sound": SOUND.as_dict(),
        "ffmpeg": build,
        "graph": GRAPH_REVISION,
        "captions": captions,
    }
    if cutaways is not None:
        parts["cutaways"] = cutaways
    if voice is not None:
        parts["voice"] = voice
    if framing is not None:
        parts["framing"] = framing
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def seed_for(recipe: Recipe, source_sha256: str, seed: int | None = None) -> int:
    """The seed that counts: one given for this run, else the recipe's, else one derived from the source."""
    for stated in (seed, recipe.seed):
        if stated is not None:
            return stated
    return int(source_sha256[:8], 16) & 0x7FFFFFFF


def with_captions(recipe: Recipe, style: str) -> Recipe:
    """The recipe with captions in this style, in the position it states; `none` takes them away.

    Raises RecipeError `bad_recipe` naming the styles.
    """
    return _with(recipe, Captions, "style", style, "style of captions", get_args(CaptionStyle))


def with_broll(recipe: Recipe, source: str) -> Recipe:
    """The recipe with cutaways from this source, as often as it states; `none` takes them away.

    Raises RecipeError `bad_recipe` naming the sources.
    """
    return _with(recipe, Broll, "source", source, "source of cutaways", get_args(BrollSource))


def _with(
    recipe: Recipe, part: type[Captions | Broll], field: str, value: str, what: str, values: Sequence[str]
) -> Recipe:
    """The recipe whose part (named as its class, in small letters) has this value; `none` takes the part away."""
    name = part.__name__.lower()
    if value == "none":
        return recipe.model_copy(update={name: None})
    stated = getattr(recipe, name)
    try:
        changed = part.model_validate((stated.model_dump() if stated else {}) | {field: value})
    except ValidationError as error:
        raise RecipeError(
            f"{plain_text(value, 60)!r} is no {what}.",
            code="bad_recipe",
            remedy=f"Use one of {', '.join(values)}, or none.",
        ) from error
    return recipe.model_copy(update={name: changed})


def with_voice_over(recipe: Recipe) -> Recipe:
    """The recipe with a voice-over, as it states or by default."""
    return recipe if recipe.voice_over else recipe.model_copy(update={"voice_over": VoiceOver()})


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


def load_preset(name: str) -> Recipe:
    """A preset by name; raises RecipeError `unknown_recipe` naming the presets."""
    if name not in preset_names():
        raise _unknown_recipe(name, f"Use one of {', '.join(preset_names())}.")
    return _read_recipe(PRESETS_DIR / f"{name}.yaml")


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A preset by name, or a recipe file (.yaml, .yml or .json) by path.

    Raises RecipeError: `unknown_recipe` names the presets, `bad_recipe` names every key that cannot be used.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in (".yaml", ".yml", ".json") and path.is_file():
        return _read_recipe(path)
    if str(name_or_path) in preset_names():
        return load_preset(str(name_or_path))
    raise _unknown_recipe(
        str(name_or_path),
        f"Use one of {', '.join(preset_names())}, or the path of a .yaml or .json recipe file.",
    )


def _unknown_recipe(asked: str, remedy: str) -> RecipeError:
    return RecipeError(
        f"There is no recipe {plain_text(asked, 120)!r}.", code="unknown_recipe", remedy=remedy
    )


def _read_recipe(path: Path) -> Recipe:
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise _bad_recipe(path, f"it is larger than {MAX_RECIPE_BYTES} bytes")
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_recipe(path, f"it cannot be read ({error.__class__.__name__})") from error
    except yaml.YAMLError as error:
        raise _bad_recipe(
            path, f"it is neither YAML nor JSON ({' '.join(str(error).split())[:160]})"
        ) from error
    if not isinstance(document, dict):
        raise _bad_recipe(path, "it is not a mapping of keys to values")
    try:
        return Recipe.model_validate({"name": path.stem, **document})
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False, include_context=False)
        ]
        raise _bad_recipe(path, plain_text("; ".join(problems), 600)) from error


def _bad_recipe(path: Path, problem: str) -> RecipeError:
    return RecipeError(
        f"Recipe {path.name} cannot be used: {problem}.",
        code="bad_recipe",
        remedy=f"Correct it; {DEFAULT_RECIPE}.yaml among the presets shows the shape.",
    )
