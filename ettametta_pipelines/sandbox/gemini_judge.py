"""The mind of the sandboxed models (Gemini, OpenAI, Groq): values for any JSON schema, drawn from the request itself.

Pictures are measured (light, colour, edges), the prompt's own data is read (a title, what it is about), and field
names say what is wanted: a `hook` is judged by the title's wording, `aesthetics` by the picture. The same request
gives the same answer, another picture or title a different one. Plausible, not wise.
"""

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any

from ettametta_pipelines.sandbox.core import seeded_rng

MAX_DEPTH = 12

_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about above after again all also an and any are as at be because been before being below but by can could
        day days did do does done each else every everyone few first for from full get give had has have he her here
        his how i if in into is it its just last less like made make makes many me more most much my new next no nobody
        not now of off on once one only or other our out over own same say see she should so some still such suddenly
        than that the their them then there these they this those through to today too took under until up use very
        video videos want was watch way we were what when where which while who why will with without words work works
        would years you your answer question mistake truth trick step shorts everywhere talks tried hours budget rating
        something anything everything
        youtube tiktok thumbnail
        """,
    )
)
# What makes a viewer stay, found in a title: (pattern, weight).
_HOOKS = (
    (r"\?|\bwhy\b|\bhow\b", 0.10), (r"\bmistakes?\b|\bstop\b|\bnever\b|\bbefore\b", 0.14),
    (r"\bnobody\b|\bsecret\b|\btruth\b|\bnot? tell", 0.16), (r"\bi tried\b|\bpov\b|\bday \d+", 0.12),
    (r"\d+", 0.06), (r"\bvs\b|\brating\b|\bchallenge\b", 0.08), (r"#shorts", 0.04),
)  # fmt: skip
_UNSAFE = re.compile(
    r"\b(gore|blood|kill(?:ing|ed)?|nude|porn|suicide|hate|weapons?|guns?|drugs?|casino|gambling|scam|miracle cure"
    r"|ignore (?:all |the |your )?(?:previous|earlier) instructions)\b",
    re.IGNORECASE,
)
_MOODS = {
    "calm": ("calm", "relax", "slow", "quiet", "asmr"), "cheerful": ("happy", "fun", "colour", "color"),
    "cosy": ("home", "cozy", "cosy", "winter", "tea"), "dramatic": ("truth", "mistake", "nobody", "never"),
    "energetic": ("fast", "workout", "challenge", "viral", "am"), "funny": ("funny", "fail", "pov", "joke"),
    "inspiring": ("taught", "years", "beginners", "learn"), "tense": ("before", "stop", "danger"),
}  # fmt: skip
_SHOTS = (
    "open on a tight close-up of {a} with the question on screen", "cut to hands at work, natural light from the side",
    "a quick run of four angles on {b}", "hold on the result for two full seconds",
    "a slow push-in as {a} comes together",
    "one wide shot that shows where we are", "end on a look back at the first frame, now changed",
)  # fmt: skip
_HOOK_LINES = (
    "Nobody shows you this part of {a}", "{A}: wait for the last second", "You have been doing {a} backwards",
    "What happens to {a} after 24 hours?", "Three seconds decide {a}", "The quiet trick behind {a}",
)  # fmt: skip
_DIRECTIONS = (
    "Open on the result, then show how {a} got there; cut on the movement and keep the words off faces.",
    "Start in the middle of {a}, no greeting; hold each shot under two seconds until {b} is done.",
    "One idea about {a} per shot, the question on screen first, the answer with the last cut.",
    "Frame {b} close and upright, let the first sound be that of {a}, end where it began.",
)
_REASONS = (
    "It opens on {a} without an introduction, so the promise is clear at once.",
    "The title leaves a gap about {a} that only watching closes.",
    "A concrete number and a visible change around {a} make the viewer wait for the result.",
    "{A} is recognised within a second and something about it is off, which asks to be resolved.",
)  # fmt: skip


@dataclass(frozen=True)
class PictureFacts:
    """Measures of one picture, each 0..1, and the colour that dominates it."""

    light: float
    colour: float
    edges: float
    contrast: float
    dominant: str


@dataclass(frozen=True)
class Question:
    """What was asked, digested: the words it is about, its title if it has one, the pictures."""

    text: str
    title: str
    words: tuple[str, ...]
    pictures: tuple[PictureFacts, ...]
    fingerprint: str

    def rng(self, *parts: object) -> random.Random:
        return seeded_rng(self.fingerprint, *parts)


class UnreadablePicture(Exception):
    """A picture part that no decoder understands."""


def understand(text: str, pictures: Sequence[bytes], videos: Sequence[str], seed: int) -> Question:
    """Digest a request. Raises UnreadablePicture for bytes that are no picture."""
    data = _data_in(text)
    title = str(data.get("title", "")) or text.strip().split("\n", 1)[0]
    about = " ".join(_texts(data)) if data else text
    counted = Counter(word for word in re.findall(r"[^\W\d_]{3,}", about.lower()) if word not in _STOP_WORDS)
    digest = hashlib.sha256(f"{seed}\x1f{text}".encode())
    for part in (*pictures, *(video.encode() for video in videos)):
        digest.update(hashlib.sha256(part).digest())
    return Question(
        text=text,
        title=title,
        words=tuple(word for word, _ in counted.most_common(12)) or ("everyday life",),
        pictures=tuple(measure(data) for data in pictures),
        fingerprint=digest.hexdigest(),
    )


def measure(data: bytes) -> PictureFacts:
    """Light, colourfulness, edges and contrast of a picture. Raises UnreadablePicture."""
    from PIL import Image, ImageFilter, ImageStat, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data)) as opened:
            picture = opened.convert("RGB").resize((160, 90))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadablePicture(str(error)) from error
    grey, saturation = picture.convert("L"), picture.convert("HSV").getchannel("S")
    edges = ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).mean[0]
    red, green, blue = ImageStat.Stat(picture).mean
    names = {
        "red": red - (green + blue) / 2,
        "green": green - (red + blue) / 2,
        "blue": blue - (red + green) / 2,
    }
    dominant = max(names, key=lambda name: names[name])
    return PictureFacts(
        light=ImageStat.Stat(grey).mean[0] / 255,
        colour=ImageStat.Stat(saturation).mean[0] / 255,
        edges=min(1.0, edges / 40),
        contrast=min(1.0, ImageStat.Stat(grey).stddev[0] / 80),
        dominant=dominant if names[dominant] > 8 else "grey",
    )


def hook_of_title(title: str) -> float:
    """What a title's wording does to keep a viewer, 0 for nothing."""
    return sum(weight for pattern, weight in _HOOKS if re.search(pattern, title.lower()))


def answer(schema: Mapping[str, Any], question: Question) -> Any:
    """A value that fits `schema` (JSON Schema, or Google's dialect of it in upper case)."""
    definitions = schema.get("$defs") or schema.get("definitions") or {}
    return _Filler(definitions, question).fill(schema, "", 0)


def prose(question: Question) -> str:
    """A plain-text answer, for requests without a schema."""
    return _REASONS[question.rng("prose").randrange(len(_REASONS))].format(**_subject_names(question))


class _Filler:
    def __init__(self, definitions: Mapping[str, Any], question: Question) -> None:
        self._definitions = definitions
        self._question = question

    def fill(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._choice(list(schema["enum"]), name)
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "number":
                return self._number(schema, name, whole=False)
            case "integer":
                return int(self._number(schema, name, whole=True))
            case "boolean":
                return self._boolean(name)
            case "null":
                return None
            case _:
                return self._text(schema, name)

    def _resolved(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """Follow `$ref`, take the first real alternative, merge `allOf`."""
        for _ in range(MAX_DEPTH):
            if "$ref" in schema:
                schema = self._definitions[str(schema["$ref"]).rsplit("/", 1)[-1]]
            elif alternatives := _get(schema, "anyOf", "any_of") or schema.get("oneOf"):
                real = [a for a in alternatives if _type_of(a) != "null"]
                # An endless nesting ends where leaving it out is allowed.
                schema = real[0] if real and depth < MAX_DEPTH else alternatives[-1]
            elif schema.get("allOf"):
                merged: dict[str, Any] = {}
                for part in schema["allOf"]:
                    merged |= self._resolved(part, depth)
                schema = merged
            else:
                break
        return schema

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        required = schema.get("required", [])
        if depth >= MAX_DEPTH:
            properties = {name: rule for name, rule in properties.items() if name in required}
        return {name: self.fill(rule, name, depth + 1) for name, rule in properties.items()}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        low = int(_get(schema, "minItems", "min_items") or 0)
        stated = _get(schema, "maxItems", "max_items")
        high = int(stated) if stated is not None else max(low, 5)
        count = max(low, min(high, self._question.rng(name, "count").randint(3, 5)))
        item = self._resolved(schema.get("items", {"type": "string"}), depth)
        if item.get("enum"):
            options = list(item["enum"])
            picked = self._question.rng(name, "pick").sample(options, min(count, len(options)))
            return picked + [options[0]] * (low - len(picked))
        if _type_of(item) == "string" and "const" not in item and "format" not in item:
            phrases = self._phrases(item, name, count)
            return phrases + phrases[-1:] * (low - len(phrases))
        return [self.fill(item, f"{name}.{index}", depth + 1) for index in range(count)]

    def _phrases(self, item: Mapping[str, Any], name: str, count: int) -> list[str]:
        words = list(self._question.words)
        dominant = [
            f"{facts.dominant} light" for facts in self._question.pictures if facts.dominant != "grey"
        ]
        extra = [
            *dominant,
            "hands at work",
            "close-up",
            "morning light",
            "street",
            "texture",
            "kitchen table",
        ]
        if "hashtag" in name or name == "tags":
            found = [
                "#" + re.sub(r"\W", "", word) for word in [*words, "learnontiktok", "behindthescenes", "diy"]
            ]
        elif "title" in name:
            names = _subject_names(self._question)
            found = [line.format(**names) for line in self._question.rng(name).sample(_HOOK_LINES, 5)]
        elif "keyword" in name or "broll" in name:
            found = [words[0], *(f"{word} close-up" for word in words[1:3]), *words[1:], *extra]
        else:
            found = [*words[:3], *extra]
        return [_cut(text, item) for text in dict.fromkeys(found)][:count]

    def _number(self, schema: Mapping[str, Any], name: str, *, whole: bool) -> float:
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        low = 0.0 if low is None else float(low)
        high = (low + (10.0 if whole else 1.0)) if high is None else float(high)
        share = self._score(name.lower())
        value = low + (high - low) * min(0.999, max(0.001, share))
        return round(value) if whole else round(value, 3)

    def _score(self, name: str) -> float:
        """Where on a scale a quality of this name lies, 0..1."""
        chance = self._question.rng(name, "score").uniform(-0.08, 0.08)
        if "hook" in name or "curios" in name or "retention" in name:
            return 0.32 + hook_of_title(self._question.title) + 0.18 * self._picture("contrast") + chance
        if any(word in name for word in ("aesthetic", "quality", "visual", "beauty", "clarity")):
            # Middling light judges best; very dark or washed-out pictures judge worst.
            exposure = 1 - abs(self._picture("light") - 0.55) * 1.6
            return (
                0.10 + 0.3 * exposure + 0.3 * self._picture("colour") + 0.2 * self._picture("contrast")
                + 0.15 * self._picture("edges") + chance
            )  # fmt: skip
        if "risk" in name or "unsafe" in name or "toxic" in name:
            return 0.9 if self._unsafe() else 0.05
        if "safe" in name:
            return 0.05 if self._unsafe() else 0.95
        return 0.55 + 4 * chance

    def _picture(self, quality: str) -> float:
        """Mean of a measure over the pictures; without one, what the text's fingerprint says."""
        pictures = self._question.pictures
        if not pictures:
            return self._question.rng("unseen", quality).uniform(0.3, 0.8)
        values: list[float] = [getattr(facts, quality) for facts in pictures]
        return sum(values) / len(values)

    def _unsafe(self) -> bool:
        return _UNSAFE.search(self._question.title) is not None

    def _boolean(self, name: str) -> bool:
        lowered = name.lower()
        if "unsafe" in lowered or "risk" in lowered:
            return self._unsafe()
        if "safe" in lowered or "suitable" in lowered:
            return not self._unsafe()
        return self._question.rng(name, "flag").random() < 0.5

    def _choice(self, options: list[Any], name: str) -> Any:
        named = {str(option).lower(): option for option in options}
        if "safe" in named and ("unsafe" in named or "safety" in name.lower()):
            return named.get("unsafe", options[-1]) if self._unsafe() else named["safe"]
        if {"slow", "fast"} <= set(named):
            return named[self._pacing(named)]
        if set(named) & set(_MOODS):
            return named.get(self._mood(list(named)), options[0])
        if {"cinematic", "punchy"} & set(named):
            brisk = self._mood(list(_MOODS)) in ("energetic", "funny", "tense")
            wanted = "punchy" if brisk else ("cinematic" if self._picture("light") < 0.5 else "clean")
            return named.get(wanted, options[0])
        return self._question.rng(name, "choice").choice(options)

    def _pacing(self, known: Mapping[str, Any]) -> str:
        """Several frames that differ much are fast, alike are slow; one still cannot tell."""
        pictures = self._question.pictures
        if len(pictures) < 2:
            return "unclear" if "unclear" in known else "slow"
        change = sum(abs(a.light - b.light) + abs(a.edges - b.edges) for a, b in pairwise(pictures))
        mean = change / (len(pictures) - 1)
        return "fast" if mean > 0.15 else "slow" if mean < 0.04 or "steady" not in known else "steady"

    def _mood(self, known: Sequence[str]) -> str:
        lowered = self._question.title.lower()
        votes = {
            mood: sum(bool(re.search(rf"\b{cue}", lowered)) for cue in cues)
            for mood, cues in _MOODS.items()
            if mood in known
        }
        best = max(votes.values(), default=0)
        return self._question.rng("mood").choice([mood for mood, count in votes.items() if count == best])

    def _text(self, schema: Mapping[str, Any], name: str) -> str:
        formats = {"date": "2026-01-01", "date-time": "2026-01-01T00:00:00Z", "uri": "https://example.com/"}
        if schema.get("format") in formats:
            return formats[str(schema["format"])]
        names, rng, lowered = _subject_names(self._question), self._question.rng(name, "text"), name.lower()
        if "safety" in lowered or "unsafe" in lowered:
            found = _UNSAFE.search(self._question.title)
            text = f"The title speaks of {found[0].lower()}." if found else ""
        elif "on_screen" in lowered or "ocr" in lowered:
            # The sandbox's thumbnails have their title drawn on them.
            text = self._question.title[:80] if self._question.pictures else ""
        elif "direction" in lowered or "advice" in lowered:
            text = rng.choice(_DIRECTIONS).format(**names)
        elif "reason" in lowered or "why" in lowered or "explan" in lowered:
            text = rng.choice(_REASONS).format(**names)
        elif "hook" in lowered or "title" in lowered or "headline" in lowered:
            text = rng.choice(_HOOK_LINES).format(**names)
        elif "prompt" in lowered or "script" in lowered or "description" in lowered or "summary" in lowered:
            shots = "; ".join(shot.format(**names) for shot in rng.sample(_SHOTS, 4))
            text = f"A vertical video of about 20 seconds on {names['a']} and {names['b']}: {shots}."
        elif "mood" in lowered or "tone" in lowered:
            text = self._mood(list(_MOODS))
        elif "recipe" in lowered or "style" in lowered:
            text = self._choice(["clean", "cinematic", "punchy"], name)
        else:
            text = f"{names['A']} and {names['b']}"
        return _cut(text, schema)


def _subject_names(question: Question) -> dict[str, str]:
    """What to call the subject: the most frequent word, with its neighbour where the two stand together."""
    words = [*question.words, "its details"]
    pair = next(
        (f"{x} {y}" for x, y in (words[:2], words[1::-1]) if f"{x} {y}" in question.text.lower()), None
    )
    first, second = (pair, words[min(2, len(words) - 1)]) if pair else (words[0], words[1])
    return {"a": first, "A": first.capitalize(), "b": second}


def _cut(text: str, schema: Mapping[str, Any]) -> str:
    """Text within the schema's length bounds."""
    low = int(_get(schema, "minLength", "min_length") or 0)
    high = _get(schema, "maxLength", "max_length")
    while len(text) < low:
        text = f"{text} {text or 'detail'}".strip()
    return text if high is None else text[: int(high)]


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if kind is None:
        return "object" if "properties" in schema else "string"
    return str(kind).lower()


def _get(schema: Mapping[str, Any], *names: str) -> Any:
    return next((schema[name] for name in names if name in schema), None)


def _data_in(text: str) -> dict[str, Any]:
    """The first JSON object that stands in a prompt: that is where a careful caller puts what a question is about."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        if isinstance(value, dict) and value:
            return value
    return {}


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return []
