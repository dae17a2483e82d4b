"""Speech as it is kept: one mono FLAC from its first sound to its last, and what is known about it.

Every engine's answer passes `master`, so that the mix, the captions and the render key know no engine. `voiceover.py`
decides what is spoken and where it stands; who spoke is `local_voice.py` and `vendors/elevenlabs.py`.
"""

import re
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.renders.captions import Word, clean_line
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg
from ettametta_pipelines.renders.formats import SOUND
from ettametta_pipelines.renders.local_voice import SpokenWord
from ettametta_pipelines.renders.sound import Loudness, parse_ebur128
from ettametta_pipelines.renders.voice_mix import TO_BOTH_SIDES, Interval

if TYPE_CHECKING:
    import numpy as np

    from ettametta_pipelines.vendors.elevenlabs import CharacterTime

FRAME_S = 0.01
# What lies this far below the loudest moment is a rest; consonants such as f lie 30 dB below.
REST_DB = 40.0
REST_DBFS = -60.0
SHORTEST_REST_S = 0.06
# Kept around the outermost sounds, so that none is cut into.
LEAD_S, TAIL_S = 0.01, 0.05


@dataclass(frozen=True)
class Mastered:
    """A FLAC of 48 kHz mono; `onset_s` is how much of the engine's beginning was cut off."""

    path: Path
    seconds: float
    loudness: Loudness
    onset_s: float
    spoken: tuple[Interval, ...]


@dataclass(frozen=True)
class Speech:
    """A text spoken once. Times are seconds from its first sound, at its natural speed; `lufs` as heard on both sides.

    `characters` is what was charged; `cost_microusd` millionths of a US dollar; `spoken` where it sounds.
    """

    key: str
    sha256: str
    engine: str
    voice: str
    model: str
    language: str
    characters: int
    cost_microusd: int
    seconds: float
    lufs: float
    spoken: tuple[Interval, ...]
    words: tuple[Word, ...]
    request_id: str = ""
    synthetic: bool = True

    @property
    def object_key(self) -> str:
        return f"media/voices/{self.key}.flac"


def master(answer: Path, container: str, workdir: Path) -> Mastered:
    """Bring an engine's answer (`mp3` or `wav`) into the kept form, in `workdir/speech.flac`.

    Raises PermanentError `voice_unreadable`, `voice_silent` when nothing is heard in it, or by the runner's table.
    """
    import numpy as np

    raw = bytearray()
    try:
        _decode(answer, container, workdir, raw.extend)
    except PermanentError as error:
        raise PermanentError(
            f"The sound of the voice-over that was made cannot be read. {error.message}",
            code="voice_unreadable",
            remedy="Have it made once more: set `remake_voice` (--remake-voice).",
        ) from error
    samples = np.frombuffer(bytes(raw), "<i2")
    heard = heard_intervals(samples)
    if not heard:
        raise _silent()
    begin = max(0.0, heard[0][0] - LEAD_S)
    kept = samples[_samples(begin) : _samples(heard[-1][1] + TAIL_S)]
    with wave.open(str(workdir / "speech.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SOUND.sample_rate)
        sound.writeframes(kept.tobytes())
    target = workdir / "speech.flac"
    _ffmpeg(
        ["-f", "wav", "-i", f"file:{workdir / 'speech.wav'}"],
        ["-c:a", "flac", "-fflags", "+bitexact", "-flags:a", "+bitexact", "-f", "flac", f"file:{target}"],
        workdir,
    )
    measured = _ffmpeg(
        ["-f", "flac", "-i", f"file:{target}", "-af", f"{TO_BOTH_SIDES},ebur128=peak=true:framelog=quiet"],
        ["-f", "null", "-"], workdir, log_level="info",
    )  # fmt: skip
    loudness = parse_ebur128(measured)
    if loudness is None:
        raise _silent()
    shifted = tuple((round(start - begin, 3), round(end - begin, 3)) for start, end in heard)
    return Mastered(target, len(kept) / SOUND.sample_rate, loudness, begin, shifted)


def _decode(answer: Path, container: str, workdir: Path, take: Callable[[bytes], None]) -> None:
    _ffmpeg(
        ["-f", container, "-i", f"file:{answer}", "-map", "0:a:0", "-ac", "1", "-ar", str(SOUND.sample_rate)],
        ["-f", "s16le", "pipe:1"], workdir, on_stdout=take,
    )  # fmt: skip


def heard_intervals(samples: "np.ndarray[Any, Any]") -> list[Interval]:
    """Where 16-bit samples at 48 kHz sound, to a hundredth of a second; rests shorter than 60 ms are no rests."""
    import numpy as np

    size = _samples(FRAME_S)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64) / 32768
    level = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12) if len(frames) else np.zeros(0)
    if not len(level) or level.max() < REST_DBFS:
        return []
    loud = np.flatnonzero(level > max(level.max() - REST_DB, REST_DBFS))
    breaks = np.flatnonzero(np.diff(loud) > round(SHORTEST_REST_S / FRAME_S))
    starts, ends = [0, *(breaks + 1)], [*breaks, len(loud) - 1]
    return [
        (float(loud[start]) * FRAME_S, float(loud[end] + 1) * FRAME_S)
        for start, end in zip(starts, ends, strict=True)
    ]


def words_by_character(text: str, times: Sequence["CharacterTime"], mastered: Mastered) -> tuple[Word, ...]:
    """Words from the time of every character of the text."""
    if not times:
        return ()
    spans = [
        (match[0], times[match.start()].start_s, times[match.end() - 1].end_s)
        for match in re.finditer(r"\S+", text)
    ]
    return _fitted(spans, mastered)


def words_by_event(text: str, events: Sequence[SpokenWord], mastered: Mastered) -> tuple[Word, ...]:
    """Words from when an engine began each; one lasts until the next, or until the voice rests."""
    begun: list[tuple[str, float]] = []
    for match in re.finditer(r"\S+", text):
        at = next((e.start_s for e in events if match.start() <= e.position < match.end()), None)
        if at is not None:
            begun.append((match[0], at))
        elif begun:
            # A dash between words is not spoken; it is shown with the word before it.
            begun[-1] = (f"{begun[-1][0]} {match[0]}", begun[-1][1])
    ends = [*(start for _, start in begun[1:]), mastered.onset_s + mastered.seconds]
    spans = []
    for (word, start), end in zip(begun, ends, strict=True):
        rests = (
            mastered.onset_s + until
            for since, until in mastered.spoken
            if mastered.onset_s + since <= start + SHORTEST_REST_S < mastered.onset_s + until
        )
        spans.append((word, start, min(end, next(rests, end))))
    return _fitted(spans, mastered)


def _fitted(spans: Sequence[tuple[str, float, float]], mastered: Mastered) -> tuple[Word, ...]:
    """Words in order and within the kept sound."""
    words: list[Word] = []
    for text, start, end in spans:
        earliest = words[-1].start_s if words else 0.0
        begin = min(max(start - mastered.onset_s, earliest), mastered.seconds)
        until = min(max(end - mastered.onset_s, begin), mastered.seconds)
        if shown := clean_line(text):
            words.append(Word(shown, round(begin, 3), round(until, 3)))
    return tuple(words)


def _samples(seconds: float) -> int:
    return round(seconds * SOUND.sample_rate)


def _silent() -> PermanentError:
    return PermanentError(
        "Nothing is heard in the voice-over that was made.",
        code="voice_silent",
        remedy="Give it a text with words in it, in the language that is stated.",
    )


def _ffmpeg(
    before: Sequence[str],
    after: Sequence[str],
    workdir: Path,
    *,
    on_stdout: Callable[[bytes], None] | None = None,
    log_level: str = "error",
) -> str:
    run = run_ffmpeg(
        ["-protocol_whitelist", "file", "-codec_whitelist", "mp3float,mp3,flac,pcm_s16le", *before, *after],
        doing="preparing the voice-over",
        workdir=workdir,
        timeout_s=300,
        on_stdout=on_stdout,
        log_level=log_level,
    )
    return run.stderr
