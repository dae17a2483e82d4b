"""The mix: the source's sound taken down under a voice, as arguments of one ffmpeg run that `sound.py` makes.

The bed follows an envelope drawn from where the voice sounds, not a compressor that listens to it: its depth is then
the stated one whatever the voice's level, it goes down before the first word instead of after, and it does not pump in
the rests between words. The envelope is a signal in absolute time beside the sound, so the same speech gives the same
mix.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.renders.formats import SOUND

if TYPE_CHECKING:
    import numpy as np

    from ettametta_pipelines.renders.voiceover import Narration

# Start and end in seconds.
Interval = tuple[float, float]

# A mono voice in the middle, at its own level on both sides.
TO_BOTH_SIDES = "pan=stereo|c0=c0|c1=c0"
ENVELOPE_FILE = "duck.f32"
ENVELOPE_HZ = 1000
# Down within a quarter second that ends at the first word; back over half a second after the last. Rests shorter than
# both together, and a breath more, stay down.
ATTACK_S = 0.25
RELEASE_S = 0.5
SHORTEST_RETURN_S = 0.9
FLOAT = f"aformat=sample_rates={SOUND.sample_rate}:sample_fmts=fltp"


@dataclass(frozen=True)
class Bed:
    """The source's own sound: ffmpeg's input, filters that make it as long as the picture, gain to the target."""

    inputs: Sequence[str]
    label: str
    chain: Sequence[str]
    gain_db: float


def mix_arguments(
    bed: Bed | None, voice: "Narration", lasts_s: float, workdir: Path
) -> tuple[list[str], str]:
    """ffmpeg's inputs, and the graph up to the mixed sound, to which filters and `[out]` can be added."""
    if voice.path is None:
        raise ValueError("the voice has to be fetched before it is mixed")
    speech = ["-protocol_whitelist", "file", "-f", "flac", "-i", f"file:{voice.path.absolute()}"]
    over = _voice_chain(voice, lasts_s)
    if bed is None:
        return speech, f"[0:a]{over}"
    write_envelope(workdir / ENVELOPE_FILE, voice.spoken, voice.part.duck_db, lasts_s)
    envelope = ["-protocol_whitelist", "file", "-f", "f32le", "-ar", str(ENVELOPE_HZ), "-ch_layout", "mono"]
    inputs = [*bed.inputs, *speech, *envelope, "-i", f"file:{workdir / ENVELOPE_FILE}"]
    graph = (
        f"{bed.label}{','.join(bed.chain)},volume={bed.gain_db:.2f}dB,{FLOAT}[bed];"
        f"[2:a]aresample={SOUND.sample_rate},{TO_BOTH_SIDES},{FLOAT}[duck];"
        f"[1:a]{over}[over];"
        "[bed][duck]amultiply[under];"
        "[under][over]amix=inputs=2:duration=first:normalize=0"
    )
    return inputs, graph


def _voice_chain(voice: "Narration", lasts_s: float) -> str:
    gain = SOUND.target_lufs + voice.part.level_db - voice.speech.lufs
    steps = [
        FLOAT,
        # Not atempo: behind it adelay swallowed 0.45 s.
        *([f"rubberband=tempo={voice.tempo:.6f}"] if voice.tempo > 1 else []),
        f"volume={gain:.2f}dB",
        TO_BOTH_SIDES,
        f"adelay={round(voice.start_s * SOUND.sample_rate)}S:all=1",
        "apad",
        f"atrim=end={lasts_s:.6f}",
        FLOAT,
    ]
    return ",".join(steps)


def write_envelope(path: Path, spoken: Sequence[Interval], depth_db: float, lasts_s: float) -> None:
    """The bed's gain over the rendition as 32-bit floats at 1 kHz, a second longer than it."""
    import numpy as np

    speaks_s = min(spoken[-1][1] + RELEASE_S, lasts_s)
    with path.open("wb") as file:
        file.write(envelope(spoken, depth_db, speaks_s).astype("<f4").tobytes())
        # The rest, hours perhaps, goes out by the minute.
        untouched = np.ones(60 * ENVELOPE_HZ, "<f4").tobytes()
        for _ in range(math.ceil((lasts_s + 1 - speaks_s) / 60)):
            file.write(untouched)


def envelope(spoken: Sequence[Interval], depth_db: float, lasts_s: float) -> "np.ndarray[Any, Any]":
    """Gain (1 is untouched) every millisecond: down by `depth_db` where it is spoken, edges are raised cosines."""
    import numpy as np

    down = np.zeros(math.ceil(lasts_s * ENVELOPE_HZ))
    fall, rise = (
        0.5 - 0.5 * np.cos(np.pi * np.arange(round(length * ENVELOPE_HZ)) / (length * ENVELOPE_HZ))
        for length in (ATTACK_S, RELEASE_S)
    )
    for start, end in bridged(spoken):
        first, last = round(start * ENVELOPE_HZ), min(round(end * ENVELOPE_HZ), len(down))
        down[max(0, first) : last] = 1.0
        lead = fall[max(0, len(fall) - first) :]
        down[first - len(lead) : first] = lead[: max(0, len(down) - first + len(lead))]
        tail = rise[::-1][: len(down) - last]
        down[last : last + len(tail)] = tail
    gain: np.ndarray[Any, Any] = 10 ** (-depth_db * down / 20)
    return gain


def bridged(spoken: Sequence[Interval]) -> list[Interval]:
    """Intervals with the rests closed in which the bed would not be worth hearing."""
    joined: list[Interval] = []
    for start, end in spoken:
        if joined and start - joined[-1][1] < SHORTEST_RETURN_S:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
