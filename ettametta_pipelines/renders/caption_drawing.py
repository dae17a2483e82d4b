"""Captions as pictures: style, place and line breaks per format, and the ASS script libass paints them from.

The script is written here and nowhere else: every character of a caption is either drawn as it stands or left out
and reported, none is ever read as an instruction. Lines are broken by the width the bundled font gives them, so none
leaves the part of the frame that platforms keep free. `engine.py` calls; what captions say is `captions.py`'s.
"""

import hashlib
import struct
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.renders.captions import CaptionsInvalid, Cue, Word, captions_digest, retimed
from ettametta_pipelines.renders.formats import Format
from ettametta_pipelines.renders.platforms import SAFE_ZONES

if TYPE_CHECKING:
    from ettametta_pipelines.renders.recipe import Captions

FONT_FILE = Path(__file__).with_name("fonts") / "EttamettaCaptions-Bold.otf"
FONT_FAMILY = "Ettametta Captions"
# Names of ours inside the private directory of a render; the graph names nothing else.
FONTS_DIR = "fonts"

# Raised whenever the same captions would be drawn differently: part of the render key where there are captions.
DRAWING_REVISION = 1

# Kerning and rounding may make a line this much wider than its letters' widths add up to.
WIDTH_TOLERANCE = 1.02
WORD_JOINER = "\u2060"


@dataclass(frozen=True)
class TypeSize:
    """Height of a line in pixels, and how many lines are shown at once."""

    line_height: int
    max_lines: int


TYPE_SIZES: dict[str, TypeSize] = {
    "9x16": TypeSize(line_height=96, max_lines=3),
    "16x9": TypeSize(line_height=72, max_lines=2),
    "1x1": TypeSize(line_height=68, max_lines=3),
}


@dataclass(frozen=True)
class Style:
    """How letters look. Colours are RRGGBB; outline, shadow and padding are shares of the line height."""

    text: str
    emphasis: str
    edge: str
    outline: float
    shadow: float
    box_padding: float | None = None
    box_opacity: float = 0.0

    @property
    def reach(self) -> float:
        """How far paint goes beyond the letters."""
        return self.box_padding if self.box_padding is not None else self.outline + self.shadow


STYLES: dict[str, Style] = {
    "plain": Style(text="FFFFFF", emphasis="FFD84A", edge="000000", outline=0.03, shadow=0.03),
    "bold_outline": Style(text="FFFFFF", emphasis="FFE600", edge="000000", outline=0.085, shadow=0.0),
    "boxed": Style(
        text="FFFFFF",
        emphasis="7CF0B4",
        edge="101010",
        outline=0.0,
        shadow=0.0,
        box_padding=0.16,
        box_opacity=0.8,
    ),
}
# ASS numbers anchors like a keypad; x is always the middle.
ANCHORS = {"top": 8, "middle": 5, "bottom": 2}


@dataclass(frozen=True)
class CaptionReport:
    """What became of the captions: cues drawn, cues after the end of the video, characters the font has not."""

    drawn: int
    after_end: int
    left_out: str


@dataclass(frozen=True)
class Page:
    """Lines shown together; `words` are their tokens with times, None where only the page's own time is known."""

    start_s: float
    end_s: float
    lines: tuple[tuple[str, ...], ...]
    words: tuple[Word, ...] | None


@dataclass(frozen=True)
class Face:
    """The bundled font: which characters it draws and how a line height becomes an em."""

    characters: frozenset[str]
    em_share: float
    sha256: str

    def width(self, text: str, line_height: int) -> float:
        """Pixels a line takes, without its outline."""
        em = round(line_height * self.em_share)
        return sum(_advance(character, em) for character in text) * WIDTH_TOLERANCE


@lru_cache(maxsize=1)
def face() -> Face:
    """Read the font; raises PermanentError `caption_font_unreadable`.

    libass says nothing when it cannot: it would paint another font of the machine, or empty boxes.
    """
    try:
        data = FONT_FILE.read_bytes()
        tables = _font_tables(data)
        (units,) = struct.unpack_from(">H", data, tables["head"] + 18)
        # The two heights by which libass, like Windows, scales a font to its size.
        ascent, descent = struct.unpack_from(">HH", data, tables["OS/2"] + 74)
        characters = frozenset(map(chr, _mapped_characters(data, tables["cmap"])))
        _measure(32)
    except (OSError, struct.error, KeyError, ValueError, ZeroDivisionError, StopIteration) as error:
        raise PermanentError(
            f"The caption font {FONT_FILE.name} cannot be read ({error.__class__.__name__}).",
            code="caption_font_unreadable",
            remedy="Reinstall ettametta_pipelines; its fonts belong to the package.",
        ) from error
    return Face(characters, units / (ascent + descent), hashlib.sha256(data).hexdigest())


@lru_cache(maxsize=8192)
def _advance(character: str, em: int) -> float:
    """Pixels one character takes. Adding up is ten times faster than measuring lines, and kerning only narrows."""
    return float(_measure(em).getlength(character))


@lru_cache(maxsize=8)
def _measure(em: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(str(FONT_FILE), em, layout_engine=ImageFont.Layout.BASIC)


def _font_tables(data: bytes) -> dict[str, int]:
    """Offset of each table of an OpenType file."""
    (count,) = struct.unpack_from(">H", data, 4)
    rows = (struct.unpack_from(">4sIII", data, 12 + 16 * row) for row in range(count))
    return {tag.decode("latin-1"): offset for tag, _, offset, _ in rows}


def _mapped_characters(data: bytes, cmap: int) -> list[int]:
    """Code points of the font's Unicode map (OpenType cmap format 4, which the bundled font has)."""
    (count,) = struct.unpack_from(">H", data, cmap + 2)
    rows = [struct.unpack_from(">HHI", data, cmap + 4 + 8 * row) for row in range(count)]
    start = cmap + next(offset for platform, encoding, offset in rows if (platform, encoding) == (3, 1))
    kind, _, _, double_segments = struct.unpack_from(">HHHH", data, start)
    if kind != 4:
        raise ValueError("the font's character map has another format")
    ends = struct.unpack_from(f">{double_segments // 2}H", data, start + 14)
    starts = struct.unpack_from(f">{double_segments // 2}H", data, start + 16 + double_segments)
    return [
        point
        for first, last in zip(starts, ends, strict=True)
        for point in range(first, last + 1)
        if point != 0xFFFF
    ]


def drawing_key(settings: "Captions | None", cues: Sequence[Cue]) -> str | None:
    """What of captions decides the bytes of a render beside its recipe: words, times, place, font and this module.

    None where the recipe asks for no captions or there are none.
    """
    if settings is None or not cues:
        return None
    places = repr(sorted(SAFE_ZONES.items()))
    parts = (captions_digest(cues), face().sha256, str(DRAWING_REVISION), places)
    return hashlib.sha256(":".join(parts).encode()).hexdigest()


def examine(settings: "Captions | None", cues: Sequence[Cue], duration_s: float) -> CaptionReport | None:
    """What of the cues a video of this length will show; None where the recipe asks for no captions.

    Raises CaptionsInvalid `caption_glyphs_missing` for a cue of which no letter could be drawn: leaving out an emoji
    is one thing, leaving out what is said another.
    """
    if settings is None:
        return None
    known = face().characters
    within = [cue for cue in cues if cue.start_s < duration_s]
    strange = {
        character for cue in within for character in cue.text if character not in known and character > " "
    }
    for cue in within:
        letters = [character for character in cue.text if unicodedata.category(character)[0] in "LN"]
        if letters and known.isdisjoint(letters):
            raise CaptionsInvalid(
                "caption_glyphs_missing",
                f"No letter of the caption at {cue.start_s:.2f} s is in the caption font: {cue.text[:40]!r}",
            )
    drawn = sum(1 for cue in within if not known.isdisjoint(cue.text.replace(" ", "")))
    return CaptionReport(drawn, len(cues) - len(within), "".join(sorted(strange)))


def write_captions(
    workdir: Path,
    cues: Sequence[Cue],
    settings: "Captions | None",
    formats: Sequence[Format],
    spans_s: Sequence[tuple[float, float]],
    time_map: Callable[[float], float] = lambda seconds: seconds,
) -> dict[tuple[str, int], str]:
    """Write a script for each format and each span in which a caption is seen, and the font, into `workdir`.

    Returns the scripts' names by format and number of the span. `time_map` takes seconds of the source to seconds of
    the output, in which the spans are.
    """
    if settings is None or not cues:
        return {}
    (workdir / FONTS_DIR).mkdir()
    (workdir / FONTS_DIR / FONT_FILE.name).write_bytes(FONT_FILE.read_bytes())
    timed = retimed(cues, time_map)
    names = {}
    for place, (begin, end) in enumerate(spans_s):
        seen = [cue for cue in timed if cue.start_s < end and cue.end_s > begin]
        for format in formats if seen else ():
            name = names[format.name, place] = f"captions_{format.name}_{place}.ass"
            (workdir / name).write_text(script(seen, settings, format), encoding="utf-8")
    return names


def script(cues: Sequence[Cue], settings: "Captions", format: Format) -> str:
    """A whole ASS script in the format's own pixels."""
    style, height = STYLES[settings.style], TYPE_SIZES[format.name].line_height
    padding = style.box_padding
    fields = [
        "Caption", FONT_FAMILY, str(height),
        _colour(style.text), _colour(style.text), _colour(style.edge), _colour(style.edge, style.box_opacity),
        # Bold, since the font is; no italics, underline or strike-out; no scaling, spacing or angle.
        "-1", "0", "0", "0", "100", "100", "0", "0",
        # Border style 4 is one box behind all lines, as far out as the shadow would be.
        "1" if padding is None else "4",
        f"{style.outline * height:.2f}", f"{(style.shadow if padding is None else padding) * height:.2f}",
        str(ANCHORS[settings.position]), "0", "0", "0", "1",
    ]  # fmt: skip
    head = [
        "[Script Info]",
        "ScriptType: v4.00+",
        f"PlayResX: {format.width}",
        f"PlayResY: {format.height}",
        "WrapStyle: 2",
        "ScaledBorderAndShadow: yes",
        "",
        "[V4+ Styles]",
        "Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, "
        "Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, "
        "MarginR, MarginV, Encoding",
        "Style: " + ",".join(fields),
        "",
        "[Events]",
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text",
    ]
    place = _place(settings, format)
    events = [
        event
        for cue in cues
        for page in pages(cue, settings, format)
        for event in _events(page, style, place)
    ]
    return "\n".join([*head, *events, ""])


def _place(settings: "Captions", format: Format) -> str:
    """The anchor, so far inside the safe zone that outline, shadow or box stay in it too."""
    left, top, right, bottom = SAFE_ZONES[format.name].box(format)
    reach = round(STYLES[settings.style].reach * TYPE_SIZES[format.name].line_height) + 2
    y = {"top": top + reach, "middle": (top + bottom) // 2, "bottom": bottom - reach}[settings.position]
    return f"{{\\pos({(left + right) // 2},{y})}}"


def pages(cue: Cue, settings: "Captions", format: Format) -> list[Page]:
    """A cue as what is on screen at once; more lines than fit follow one another, in time with their words."""
    size = TYPE_SIZES[format.name]
    left, _, right, _ = SAFE_ZONES[format.name].box(format)
    room = right - left - 2 * (STYLES[settings.style].reach * size.line_height + 2)
    if cue.words:
        words = tuple(Word(text, w.start_s, w.end_s) for w in cue.words if (text := drawable(w.text)))
        lines = break_lines([word.text for word in words], room, size.line_height)
        return _timed_pages(cue, words, lines, size.max_lines)
    lines = [
        line
        for paragraph in _paragraphs(cue.text, room, size)
        for line in break_lines(drawable(paragraph).split(), room, size.line_height)
    ]
    return _even_pages(cue, lines, size.max_lines)


def drawable(text: str) -> str:
    """The text without what the font has no glyph for."""
    known = face().characters
    return " ".join("".join(character if character in known else " " for character in text).split())


def _paragraphs(text: str, room: float, size: TypeSize) -> list[str]:
    """The author's own lines where they fit or two people speak; else one text to be broken anew."""
    lines = text.split("\n")
    fits = len(lines) <= size.max_lines and all(
        face().width(line, size.line_height) <= room for line in lines
    )
    if fits or all(line.startswith(("-", "–", "—")) for line in lines):
        return lines
    return [" ".join(lines)]


def break_lines(tokens: Sequence[str], room: float, line_height: int) -> list[tuple[str, ...]]:
    """As few lines as fit the room in pixels, then as even as they go: no last word alone on a line."""
    parts = [part for token in tokens for part in _fitting_parts(token, room, line_height)]
    lines = _fill(parts, room, line_height)
    narrow, wide = room / 4, room
    while len(lines) > 1 and wide - narrow > line_height / 4:
        middle = (narrow + wide) / 2
        tried = _fill(parts, middle, line_height)
        if len(tried) == len(lines) and all(
            face().width(" ".join(line), line_height) <= middle for line in tried
        ):
            lines, wide = tried, middle
        else:
            narrow = middle
    return lines


def _fill(parts: Sequence[str], room: float, line_height: int) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for part in parts:
        if lines and face().width(" ".join((*lines[-1], part)), line_height) <= room:
            lines[-1] = (*lines[-1], part)
        else:
            lines.append((part,))
    return lines


def _fitting_parts(token: str, room: float, line_height: int) -> list[str]:
    """A word, in pieces where it is wider than a whole line."""
    parts = [""]
    for character in token:
        if parts[-1] and face().width(parts[-1] + character, line_height) > room:
            parts.append("")
        parts[-1] += character
    return parts


def _even_pages(cue: Cue, lines: Sequence[tuple[str, ...]], max_lines: int) -> list[Page]:
    """Pages of a cue whose words have no times: each as long as its share of the letters."""
    groups = [tuple(lines[at : at + max_lines]) for at in range(0, len(lines), max_lines)]
    letters = [sum(len(token) for line in group for token in line) for group in groups]
    found, start = [], cue.start_s
    for place, group in enumerate(groups):
        share = sum(letters[: place + 1]) / sum(letters)
        end = cue.start_s + share * (cue.end_s - cue.start_s)
        found.append(Page(start, end, group, None))
        start = end
    return found


def _timed_pages(
    cue: Cue, words: Sequence[Word], lines: Sequence[tuple[str, ...]], max_lines: int
) -> list[Page]:
    """Pages of a cue with word times. A word that had to be broken lends its time to all its pieces."""
    if not words:
        return []
    pieces = iter(_pieces(words, [token for line in lines for token in line]))
    groups = [tuple(lines[at : at + max_lines]) for at in range(0, len(lines), max_lines)]
    timed = [tuple(next(pieces) for line in group for _ in line) for group in groups]
    starts = [cue.start_s, *(group[0].start_s for group in timed[1:])]
    ends = [*(min(start, cue.end_s) for start in starts[1:]), cue.end_s]
    return [Page(*row) for row in zip(starts, ends, groups, timed, strict=True)]


def _pieces(words: Sequence[Word], tokens: Sequence[str]) -> list[Word]:
    found, place, taken = [], 0, 0
    for token in tokens:
        found.append(Word(token, words[place].start_s, words[place].end_s))
        taken += len(token)
        if taken >= len(words[place].text):
            place, taken = place + 1, 0
    return found


def _events(page: Page, style: Style, place: str) -> list[str]:
    """Lines of the script for a page: one, or one for each word in turn with that word emphasised."""
    if page.words is None:
        return _event(page.start_s, page.end_s, place + _escaped_lines(page, style, None))
    starts = [page.start_s, *(word.start_s for word in page.words[1:])]
    ends = [*starts[1:], page.end_s]
    return [
        event
        for spoken, (start, end) in enumerate(zip(starts, ends, strict=True))
        for event in _event(start, min(end, page.end_s), place + _escaped_lines(page, style, spoken))
    ]


def _event(start_s: float, end_s: float, text: str) -> list[str]:
    """One dialogue line, or none where the script's hundredths of a second leave no time to show it."""
    start, end = round(100 * start_s), round(100 * end_s)
    return [f"Dialogue: 0,{_clock(start)},{_clock(end)},Caption,,0,0,0,,{text}"] if start < end else []


def _escaped_lines(page: Page, style: Style, spoken: int | None) -> str:
    shown, count = [], 0
    for line in page.lines:
        tokens = []
        for token in line:
            plain = escaped(token)
            if count == spoken:
                plain = f"{{\\1c{_ass_colour(style.emphasis)}&}}{plain}{{\\1c{_ass_colour(style.text)}&}}"
            tokens.append(plain)
            count += 1
        shown.append(" ".join(tokens))
    return "\\N".join(shown)


def escaped(text: str) -> str:
    """Text that libass draws as it stands.

    Braces have an escape of their own; a backslash has none, but is one only before certain letters: an invisible
    joiner after it takes its power away.
    """
    joined = text.replace("\\", "\\" + WORD_JOINER)
    return joined.replace("{", "\\{").replace("}", "\\}")


def _clock(hundredths: int) -> str:
    seconds, rest = divmod(hundredths, 100)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:02}"


def _ass_colour(rgb: str) -> str:
    return f"&H{rgb[4:6]}{rgb[2:4]}{rgb[0:2]}"


def _colour(rgb: str, opacity: float = 1.0) -> str:
    """ASS writes transparency, not opacity, and blue first."""
    return f"&H{round(255 * (1 - opacity)):02X}{rgb[4:6]}{rgb[2:4]}{rgb[0:2]}"
