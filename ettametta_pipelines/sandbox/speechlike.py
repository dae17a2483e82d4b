"""Sound that resembles speech without being any: a hum for every vowel, a hiss for every consonant, rests at commas.

The same text and voice give the same samples; who listens can tell sentences, words and voices apart, and the time of
each character is known exactly.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.sandbox.core import seeded_rng

if TYPE_CHECKING:
    import numpy as np

SAMPLE_RATE = 44_100
# ElevenLabs' names of formats -> (codec, sample rate, bits per second); None is bare 16-bit samples.
FORMATS: dict[str, tuple[str | None, int, int]] = {
    "mp3_44100_128": ("libmp3lame", 44_100, 128_000),
    "mp3_44100_192": ("libmp3lame", 44_100, 192_000),
    "pcm_44100": (None, 44_100, 0),
}
VOWEL_S, CONSONANT_S, SPACE_S = 0.095, 0.05, 0.06
RESTS_S = {".": 0.42, "!": 0.42, "?": 0.42, ";": 0.3, ":": 0.3, ",": 0.22, "–": 0.25, "—": 0.25}
# Two resonances of each vowel, in hertz.
FORMANTS = {
    "a": (750, 1300),
    "e": (500, 1900),
    "i": (320, 2300),
    "o": (480, 950),
    "u": (350, 800),
    "y": (330, 2000),
}
LEAD_S = 0.08


@dataclass(frozen=True)
class Babble:
    """Samples at 44.1 kHz, -1 to 1, and (start, end) of each character in seconds."""

    samples: "np.ndarray[Any, Any]"
    times: tuple[tuple[float, float], ...]


def babble(text: str, voice: str) -> Babble:
    """Babble of a text; `voice` decides its pitch."""
    import numpy as np

    rng = seeded_rng("babble", voice)
    pitch = rng.uniform(95, 210)
    times, pieces, at = [], [np.zeros(round(LEAD_S * SAMPLE_RATE))], LEAD_S
    for place, character in enumerate(text):
        seconds = _seconds(character)
        count = round((at + seconds) * SAMPLE_RATE) - round(at * SAMPLE_RATE)
        times.append((at, at + seconds))
        pieces.append(_sound(character.lower(), count, pitch * (1.12 - 0.22 * ((place % 60) / 60)), place))
        at += seconds
    pieces.append(np.zeros(round(LEAD_S * SAMPLE_RATE)))
    return Babble(np.concatenate(pieces), tuple(times))


def encoded(spoken: Babble, output: str) -> bytes:
    """The sound in one of FORMATS."""
    import av
    import numpy as np

    codec, rate, bits = FORMATS[output]
    samples = np.round(32_000 * np.clip(spoken.samples, -1, 1)).astype("<i2")
    if codec is None:
        return bytes(samples.tobytes())
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.bit_rate = bits
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="s16p", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return buffer.getvalue()


def _seconds(character: str) -> float:
    if character in RESTS_S:
        return RESTS_S[character]
    if not character.isalnum():
        return SPACE_S
    return VOWEL_S if character.lower() in FORMANTS else CONSONANT_S


def _sound(character: str, count: int, pitch: float, place: int) -> "np.ndarray[Any, Any]":
    import numpy as np

    t = np.arange(count) / SAMPLE_RATE
    edges = np.minimum(1, np.minimum(t, t[::-1]) / 0.008)
    if character in FORMANTS:
        first, second = FORMANTS[character]
        tone = np.zeros(count)
        for harmonic in range(1, 25):
            hertz = harmonic * pitch
            weight = 1 / (1 + ((hertz - first) / 120) ** 2) + 0.5 / (1 + ((hertz - second) / 180) ** 2) + 0.02
            tone += weight * np.sin(2 * np.pi * hertz * t)
        return 0.28 * edges * tone
    if character.isalnum():
        noise = np.random.default_rng(place * 1009 + ord(character)).standard_normal(count)
        return 0.05 * edges * noise
    return np.zeros(count)
