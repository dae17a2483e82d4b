"""The sidecar: a small JSON file next to an upload, `{name}.json`, in which the uploader says what it is.

Captions lie beside an upload too, by name (`{name}.srt`) or named in the sidecar.

Everything in it is optional and nothing unknown is passed over: a misspelt `righst` must not become 'undeclared'.
Reading it from the store is intake's work.
"""

import json
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ettametta_pipelines.media.rights import UNDECLARED, Rights
from ettametta_pipelines.renders.recipe import LANGUAGE
from ettametta_pipelines.untrusted import plain_text

SUFFIX = ".json"
WORDS_SUFFIX = ".words.json"
CAPTION_SUFFIXES = (".srt", ".vtt")
MAX_BYTES = 64 * 1024
MAX_TITLE = 100  # YouTube's limit, the shorter one


class SidecarInvalid(ValueError):
    """The sidecar cannot be used; the message says where and why, without the file's name."""


def _visible(text: str) -> str:
    shown = plain_text(text, 10_000)
    if not shown:
        raise ValueError("has no visible text")
    return shown


Line = Annotated[str, AfterValidator(_visible)]


def _split(stated: Any) -> Any:
    """`knives, onions` may be written for `["knives", "onions"]`."""
    return [part for part in stated.split(",") if part.strip()] if isinstance(stated, str) else stated


Keyword = Annotated[Line, Field(max_length=40)]
Keywords = Annotated[list[Keyword], BeforeValidator(_split), Field(min_length=1, max_length=12)]


class Music(BaseModel):
    """Music heard in a video that has a right of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    title: Annotated[Line, Field(max_length=200)]
    rights: Rights | None = None
    attribution: Annotated[Line, Field(max_length=500)] | None = None
    licence: Annotated[Line, Field(max_length=500)] | None = None


class Sidecar(BaseModel):
    """What an uploader may state about a video."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    title: Annotated[Line, Field(max_length=MAX_TITLE)] | None = None
    rights: Rights | None = None
    attribution: Annotated[Line, Field(max_length=500)] | None = None
    recipe: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")] | None = None
    # A file in the same folder; words are judged as captions, so that a bad one does not refuse the video.
    captions: Annotated[str, Field(max_length=200, pattern=r"^[^/\x00-\x1f]+\.(srt|vtt|json)$")] | None = None
    words: list[Any] | None = None
    broll_keywords: Keywords | None = None
    # A text to be spoken where the recipe has a voice-over, and the language it is written in.
    voice_over: Annotated[Line, Field(max_length=5_000)] | None = None
    language: Annotated[str, Field(pattern=LANGUAGE)] | None = None
    # The creative brief it was made after; by it the post's outcome is laid to the candidate's score.
    brief_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None

    # Where it has a right of its own; otherwise the video's covers it.
    music: Music | None = None
    # Either makes every post of it a paid promotion.
    sponsor: Annotated[Line, Field(max_length=100)] | None = None
    paid_promotion: bool | None = None

    @model_validator(mode="after")
    def _states_captions_once(self) -> "Sidecar":
        if self.captions is not None and self.words is not None:
            raise ValueError("state captions or words, not both")
        return self

    @property
    def declared_rights(self) -> str:
        return self.rights or UNDECLARED

    def title_for(self, file_name: str) -> str:
        """The stated title, else one made from the file's name."""
        return self.title or title_from_name(file_name)


def title_from_name(file_name: str) -> str:
    """`my_trip-2.MP4` -> `my trip 2`; `Untitled` when nothing readable is left."""
    words = PurePosixPath(file_name).stem.replace("_", " ").replace("-", " ")
    return plain_text(words, MAX_TITLE) or "Untitled"


def is_captions(key: str) -> bool:
    """Whether an object is captions or word timings, which come with an upload and are none themselves."""
    return key.lower().endswith((*CAPTION_SUFFIXES, WORDS_SUFFIX))


def caption_names(file_name: str) -> list[str]:
    """Names captions of an upload may have, the first that exists counts: `a.mp4.srt`, then `a.srt`."""
    stems = (file_name, PurePosixPath(file_name).stem)
    return [stem + suffix for stem in stems for suffix in CAPTION_SUFFIXES]


def parse_sidecar(data: bytes) -> Sidecar:
    """Read a sidecar; raises SidecarInvalid naming every key that cannot be used and what is allowed."""
    if len(data) > MAX_BYTES:
        raise SidecarInvalid(f"it has more than {MAX_BYTES} bytes")
    try:
        document = json.loads(data.decode("utf-8-sig"))
    # Text that is no UTF-8, no JSON, or a number of more digits than Python reads.
    except (ValueError, RecursionError) as error:
        raise SidecarInvalid(f"it is not JSON ({error.__class__.__name__})") from error
    if not isinstance(document, dict):
        raise SidecarInvalid("it is not a JSON object")
    try:
        return Sidecar.model_validate(document)
    except ValidationError as error:
        problems = [
            _in_words(item["loc"], item["type"], item["msg"]) for item in error.errors(include_url=False)
        ]
        raise SidecarInvalid("; ".join(problems)) from error


def _in_words(location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = plain_text(str(location[0]), 40) if location else "it"
    if kind == "extra_forbidden":
        return f"{key!r} is not a key it may have ({', '.join(Sidecar.model_fields)})"
    return f"{key}: {plain_text(message.removeprefix('Value error, '), 200)}"
