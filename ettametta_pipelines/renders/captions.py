"""Captions as data: what strangers' SRT, VTT and word timings say, read into cues of plain text.

Intake and the command line call `parse_captions` on bytes they do not trust and keep `canonical_bytes`; how cues look
is `caption_drawing.py`'s business. Nothing here knows a font. Times are seconds of the source.
"""

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.untrusted import plain_text

# Ten hours of dense speech stay below all of these; what lies above is no caption file.
MAX_BYTES = 2 * 1024 * 1024
MAX_LINES = 60_000
MAX_LINE_CHARACTERS = 2_000
MAX_CUES = 10_000
MAX_CUE_CHARACTERS = 500
MAX_WORDS = 40_000
MAX_WORD_CHARACTERS = 60
MAX_TIME_S = 24 * 3600.0
# Stacks of accents would climb out of any frame.
MAX_MARKS = 2

# A line of words: about what is read in one glance.
LINE_CHARACTERS = 32
LINE_SECONDS = 3.0
PAUSE_SECONDS = 0.6
# A line stays until the next one when that follows as closely as this, instead of blinking.
HOLD_SECONDS = 0.25

PROBLEMS: dict[str, str] = {
    "captions_unreadable": "Check the path.",
    "captions_too_large": "Cut them, or check that this is the caption file.",
    "captions_not_text": "Save them as UTF-8 text.",
    "captions_unknown_format": "Use SRT, VTT, or JSON [{word, start, end}].",
    "captions_bad_timing": "Correct the time there; it is written 00:01:02,345 --> 00:01:04,000.",
    "captions_bad_words": "Write words as JSON [{word, start, end}], times in seconds and in order.",
    "caption_glyphs_missing": "Give them in Latin, Greek or Cyrillic script, or take a recipe without captions.",
    "captions_empty": "Leave the file out when there is nothing to say.",
}

_TIME = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2})[,.](\d{1,3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?\Z", re.ASCII)
_COUNTER = re.compile(r"\d{1,9}\Z", re.ASCII)
_VTT_ASIDES = re.compile(r"(NOTE|STYLE|REGION)(\s|\Z)")
# The tags players know; anything else between angle brackets is text.
_SRT_TAGS = re.compile(r"</?[ibus]>|</?font(?:\s[^<>]{0,200})?>", re.IGNORECASE)
_VTT_TAGS = re.compile(
    r"</?(?:[ibuc]|v|lang|ruby|rt)(?:[.\s][^<>]{0,200})?>|<[\d:.]{5,14}>", re.IGNORECASE | re.ASCII
)
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&nbsp;": " ", "&lrm;": "", "&rlm;": "", "&quot;": '"', "&amp;": "&"}
_ENTITY = re.compile("|".join(_ENTITIES))


class CaptionsInvalid(PermanentError):
    """Captions cannot be used; `code` is one of PROBLEMS, the message says where and why without the file's name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code, remedy=PROBLEMS[code])


@dataclass(frozen=True)
class Word:
    """A spoken word and when, in seconds."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Cue:
    """Text on screen from start to end, in seconds. `text` may hold line breaks; `words` its timing when known."""

    start_s: float
    end_s: float
    text: str
    words: tuple[Word, ...] = ()


def parse_captions(data: bytes, name: str) -> tuple[Cue, ...]:
    """Cues of a caption file in order, never overlapping; its format follows from the name's ending and the content.

    Raises CaptionsInvalid with a code of PROBLEMS. Markup of players (`<i>`, `<v Ann>`) goes, all other text stays as
    it is written.
    """
    text = _decode(data)
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".json":
        return parse_words(_json_of(text))
    if suffix not in (".srt", ".vtt"):
        raise CaptionsInvalid("captions_unknown_format", "the name ends in none of .srt, .vtt, .json")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(lines) > MAX_LINES:
        raise CaptionsInvalid("captions_too_large", f"it has {len(lines)} lines, at most {MAX_LINES}")
    if lines[0].startswith("WEBVTT"):
        return _in_order(_parse_blocks(lines, vtt=True))
    if suffix == ".vtt":
        raise CaptionsInvalid("captions_unknown_format", "it does not begin with WEBVTT")
    return _in_order(_parse_blocks(lines, vtt=False))


def read_captions_file(path: Path) -> tuple[Cue, ...]:
    """Cues of a local file; raises CaptionsInvalid naming the file, also `captions_unreadable`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CaptionsInvalid("captions_unreadable", f"{path} cannot be read ({error.strerror})") from error
    try:
        return parse_captions(data, path.name)
    except CaptionsInvalid as invalid:
        raise CaptionsInvalid(
            invalid.code, f"The captions {path.name} cannot be used: {invalid.message}."
        ) from invalid


def parse_words(document: Any) -> tuple[Cue, ...]:
    """Cues from word timings `[{word, start, end}]` (seconds), grouped into lines that can be read.

    Raises CaptionsInvalid `captions_bad_words`, `captions_too_large` or `captions_empty`.
    """
    if not isinstance(document, list):
        raise CaptionsInvalid("captions_bad_words", "it is not a list of words")
    if len(document) > MAX_WORDS:
        raise CaptionsInvalid("captions_too_large", f"it has {len(document)} words, at most {MAX_WORDS}")
    words = [_word(item, number) for number, item in enumerate(document, start=1)]
    for number, (before, after) in enumerate(pairwise(words), start=2):
        if after.start_s < before.start_s:
            raise CaptionsInvalid("captions_bad_words", f"word {number} begins before the one ahead of it")
    return _in_order(group_words([word for word in words if word.text]))


def group_words(words: Sequence[Word]) -> list[Cue]:
    """Lines of words: a new one after a pause or a sentence, or when it grows too long to read at a glance."""
    lines: list[list[Word]] = []
    for word in words:
        line = lines[-1] if lines else []
        if not line or _begins_line(line, word):
            lines.append([word])
        else:
            line.append(word)
    cues = []
    for place, line in enumerate(lines):
        end = max(word.end_s for word in line)
        if place + 1 < len(lines) and 0 < lines[place + 1][0].start_s - end <= HOLD_SECONDS:
            end = lines[place + 1][0].start_s
        cues.append(Cue(line[0].start_s, end, " ".join(word.text for word in line), tuple(line)))
    return cues


def _begins_line(line: Sequence[Word], word: Word) -> bool:
    last = line[-1]
    return (
        word.start_s - last.end_s > PAUSE_SECONDS
        or word.end_s - line[0].start_s > LINE_SECONDS
        or last.text.endswith((".", "!", "?", "…"))
        or sum(len(other.text) + 1 for other in line) + len(word.text) > LINE_CHARACTERS
    )


def _word(item: Any, number: int) -> Word:
    if (
        not isinstance(item, dict)
        or set(item) != {"word", "start", "end"}
        or not isinstance(item["word"], str)
    ):
        raise CaptionsInvalid("captions_bad_words", f"word {number} is not {{word, start, end}}")
    times = (item["start"], item["end"])
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in times):
        raise CaptionsInvalid("captions_bad_words", f"word {number} has a time that is no number")
    start, end = (float(time) if abs(time) <= MAX_TIME_S else math.inf for time in times)
    if not 0 <= start <= end <= MAX_TIME_S:
        raise CaptionsInvalid(
            "captions_bad_words", f"word {number} does not end after it begins, within a day"
        )
    text = clean_line(item["word"][: 4 * MAX_WORD_CHARACTERS])
    if len(text) > MAX_WORD_CHARACTERS:
        raise CaptionsInvalid(
            "captions_bad_words", f"word {number} has more than {MAX_WORD_CHARACTERS} characters"
        )
    return Word(text, start, end)


def _decode(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise CaptionsInvalid("captions_too_large", f"it has {len(data)} bytes, at most {MAX_BYTES}")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise CaptionsInvalid("captions_not_text", f"it is not UTF-8 text (byte {error.start})") from error
    if "\0" in text:
        raise CaptionsInvalid("captions_not_text", "it holds NUL characters, as files do that are no text")
    return text


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        raise CaptionsInvalid("captions_bad_words", f"it is not JSON ({error.__class__.__name__})") from error


def _parse_blocks(lines: list[str], *, vtt: bool) -> list[Cue]:
    """Cues from blocks between blank lines. A block of SRT without a time goes on with the cue before it."""
    cues: list[Cue] = []
    for number, block in _blocks(lines):
        place = next((at for at, line in enumerate(block) if "-->" in line), None)
        if vtt and (number == 1 or _VTT_ASIDES.match(block[0])):
            continue
        if place is None:
            if not vtt and cues:
                cues[-1] = _checked(
                    replace(cues[-1], text=f"{cues[-1].text}\n{_text_of(block, vtt)}"), number
                )
            elif not vtt and not all(_COUNTER.match(line.strip()) for line in block):
                raise CaptionsInvalid("captions_bad_timing", f"line {number} belongs to no time")
            continue
        start, end = _timing(block[place], number + place)
        cues.append(_checked(Cue(start, end, _text_of(block[place + 1 :], vtt)), number + place))
        if len(cues) > MAX_CUES:
            raise CaptionsInvalid("captions_too_large", f"it has more than {MAX_CUES} captions")
    return cues


def _blocks(lines: list[str]) -> Iterable[tuple[int, list[str]]]:
    """Runs of lines that are not blank, with the number of their first line."""
    block: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise CaptionsInvalid(
                "captions_too_large",
                f"line {number} has {len(line)} characters, at most {MAX_LINE_CHARACTERS}",
            )
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []


def _timing(line: str, number: int) -> tuple[float, float]:
    match = _TIMING.match(line)
    if match is None:
        raise CaptionsInvalid(
            "captions_bad_timing", f"line {number} states no time that can be read: {plain_text(line, 60)!r}"
        )
    start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
    if not start < end <= MAX_TIME_S:
        raise CaptionsInvalid(
            "captions_bad_timing", f"the caption of line {number} does not end after it begins"
        )
    return start, end


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000


def _checked(cue: Cue, number: int) -> Cue:
    if len(cue.text) > MAX_CUE_CHARACTERS:
        raise CaptionsInvalid(
            "captions_too_large",
            f"the caption of line {number} has {len(cue.text)} characters, at most {MAX_CUE_CHARACTERS}",
        )
    return cue


def _text_of(lines: Sequence[str], vtt: bool) -> str:
    texts = [(_VTT_TAGS if vtt else _SRT_TAGS).sub("", line) for line in lines]
    if vtt:
        texts = [_ENTITY.sub(lambda found: _ENTITIES[found[0]], text) for text in texts]
    return "\n".join(clean for text in texts if (clean := clean_line(text)))


def clean_line(text: str) -> str:
    """One visible line: composed (NFC), controls to spaces, no invisible, bidirectional or private characters."""
    kept: list[str] = []
    marks = 0
    for character in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(character)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if kind in ("Cc", "Zs", "Zl", "Zp"):
            kept.append(" ")
        elif kind[0] != "C" and marks <= MAX_MARKS and not "\ufe00" <= character <= "\ufe0f":
            kept.append(character)
    return " ".join("".join(kept).split())


def _in_order(cues: Iterable[Cue]) -> tuple[Cue, ...]:
    """Cues by time, to the millisecond; what overlaps ends when the next begins, what begins together is one cue."""
    ordered: list[Cue] = []
    for cue in sorted((_to_milliseconds(cue) for cue in cues if cue.text), key=lambda cue: cue.start_s):
        last = ordered[-1] if ordered else None
        if (
            last is not None
            and last.start_s == cue.start_s
            and len(last.text) + len(cue.text) < MAX_CUE_CHARACTERS
        ):
            words = last.words + cue.words if last.words and cue.words else ()
            ordered[-1] = Cue(
                cue.start_s,
                max(last.end_s, cue.end_s),
                f"{last.text}\n{cue.text}".replace("\n" * 2, "\n"),
                words,
            )
            continue
        if last is not None and last.end_s > cue.start_s:
            ordered[-1] = replace(last, end_s=cue.start_s)
        ordered.append(cue)
    shown = tuple(cue for cue in ordered if cue.end_s > cue.start_s)
    if not shown:
        raise CaptionsInvalid("captions_empty", "it holds no text to show")
    return shown


def _to_milliseconds(cue: Cue) -> Cue:
    words = tuple(Word(w.text, round(w.start_s, 3), round(w.end_s, 3)) for w in cue.words)
    return Cue(round(cue.start_s, 3), round(cue.end_s, 3), cue.text, words)


def retimed(cues: Iterable[Cue], time_map: Callable[[float], float]) -> tuple[Cue, ...]:
    """Cues at other times, for a picture whose speed was changed; `time_map` never decreases."""
    return tuple(
        Cue(
            time_map(cue.start_s),
            time_map(cue.end_s),
            cue.text,
            tuple(Word(w.text, time_map(w.start_s), time_map(w.end_s)) for w in cue.words),
        )
        for cue in cues
    )


def canonical_bytes(cues: Sequence[Cue]) -> bytes:
    """The one way cues are stored: the same cues give the same bytes, whatever file they came from."""
    document = {
        "version": 1,
        "cues": [
            {
                "start_ms": round(1000 * cue.start_s),
                "end_ms": round(1000 * cue.end_s),
                "text": cue.text,
                "words": [[w.text, round(1000 * w.start_s), round(1000 * w.end_s)] for w in cue.words],
            }
            for cue in cues
        ],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def from_canonical(data: bytes) -> tuple[Cue, ...]:
    """Cues as `canonical_bytes` wrote them."""
    return tuple(
        Cue(
            cue["start_ms"] / 1000,
            cue["end_ms"] / 1000,
            cue["text"],
            tuple(Word(text, start / 1000, end / 1000) for text, start, end in cue["words"]),
        )
        for cue in json.loads(data)["cues"]
    )


def captions_digest(cues: Sequence[Cue]) -> str:
    """SHA-256 of the canonical bytes, lower-case hex."""
    return hashlib.sha256(canonical_bytes(cues)).hexdigest()
