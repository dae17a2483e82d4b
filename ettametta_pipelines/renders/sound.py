"""The sound of a render: measured, mixed with a voice, brought to the loudness target, encoded once for all formats.

A process of its own before the picture: inside the picture's graph it made queues grow to 1.3 GB and cost a tenth of
the speed. `media/analysis.py` measures with the same function, so both speak of the same loudness.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, source_options
from ettametta_pipelines.renders.formats import SOUND
from ettametta_pipelines.renders.tempo import TimeMap
from ettametta_pipelines.renders.voice_mix import Bed, mix_arguments

if TYPE_CHECKING:
    from ettametta_pipelines.renders.voiceover import Narration

# Below this EBU R 128 gates everything: the track is silent.
SILENCE_LUFS = -70.0

TEMPO_SCRIPT = "tempo.cmd"
# A second encoding is worth it beyond this; what a limiter holds down by more is the source's nature, not AAC's.
CLOSE_ENOUGH_LU = 0.5
MAX_CORRECTION_DB = 2.0

# Starts at time 0 (silence is added or the start cut), closes gaps, mixes down to stereo.
STEREO = (
    "aresample=async=1:min_hard_comp=0.03:first_pts=0",
    f"aformat=sample_rates={SOUND.sample_rate}:channel_layouts=stereo",
)


UNCHANGED = TimeMap()


@dataclass(frozen=True)
class Loudness:
    """Integrated loudness in LUFS and true peak in dBTP (EBU R 128)."""

    lufs: float
    peak_dbtp: float


def measure_loudness(source: Path, probe: Probe, workdir: Path) -> Loudness | None:
    """Loudness of the stereo mix; None when there is no sound or only silence."""
    if not probe.has_audio:
        return None
    return _measure(_Take(_input_arguments(source, probe), ",".join(STEREO), probe.duration_s), workdir)


def parse_ebur128(log: str) -> Loudness | None:
    """The summary ffmpeg's ebur128 filter prints at its end."""
    summary = log[log.rfind("Integrated loudness:") :]
    lufs = re.search(r"I:\s+(-?[\d.]+|-?inf|nan) LUFS", summary)
    peak = re.search(r"Peak:\s+(-?[\d.]+|-?inf|nan) dBFS", summary)
    if lufs is None or peak is None or not float(lufs[1]) > SILENCE_LUFS:
        return None
    return Loudness(float(lufs[1]), float(peak[1]))


def make_sound(
    source: Path,
    probe: Probe,
    loudness: Loudness | None,
    target: Path,
    workdir: Path,
    times: TimeMap = UNCHANGED,
    voice: "Narration | None" = None,
) -> Loudness | None:
    """Write an AAC track exactly as long as the picture, at the loudness target where there is sound to raise.

    Its speed follows `times`, its pitch stays; a `voice` is mixed over it at its own speed, and then the mix is brought
    to the target. Returns the loudness before that, None for silence. A limiter, not a compressor: what does not reach
    the ceiling is only made louder or softer as a whole. AAC itself moves loudness and peaks (pulses gained 2 dB, noise
    lost 1.2 LU), so the finished track is measured and, where it missed, made once more with what it missed by.
    """
    chain = list(STEREO)
    if not times.is_identity:
        (workdir / TEMPO_SCRIPT).write_text(times.tempo_commands(probe.duration_s))
        chain += follow_tempo(times)
    lasts_s = times.output_time(probe.duration_s)
    ending = ["apad", f"atrim=end={lasts_s:.6f}"]
    take = _Take(_input_arguments(source, probe), ",".join(chain), probe.duration_s)
    if voice is not None:
        raised = min(SOUND.target_lufs - loudness.lufs, SOUND.max_gain_db) if loudness else 0.0
        bed = Bed(_opened(source, probe), f"[0:{probe.audio_index}]", [*chain, *ending], raised)
        inputs, graph = mix_arguments(bed if probe.has_audio else None, voice, lasts_s, workdir)
        take = _Take(inputs, graph, probe.duration_s, mixed=True)
        loudness = _measure(take, workdir)
    if loudness is None:
        _encode(take, ending, target, workdir)
        return None
    gain = min(SOUND.target_lufs - loudness.lufs, SOUND.max_gain_db)
    ceiling = SOUND.ceiling_db
    _encode(take, [*_level(gain, ceiling), *ending], target, workdir)
    made = measure_loudness(target, replace(probe, container="mov", audio_index=0, has_audio=True), workdir)
    if made is None:
        return loudness
    missed = SOUND.target_lufs - made.lufs
    over = made.peak_dbtp - SOUND.max_peak_dbtp
    if over > 0 or abs(missed) > CLOSE_ENOUGH_LU:
        gain = min(gain + max(-MAX_CORRECTION_DB, min(missed, MAX_CORRECTION_DB)), SOUND.max_gain_db)
        ceiling -= max(over, 0.0)
        _encode(take, [*_level(gain, ceiling), *ending], target, workdir)
    return loudness


@dataclass(frozen=True)
class _Take:
    """Sound to be levelled: ffmpeg's inputs, filters so far (a whole graph where it is mixed), the source's length."""

    inputs: list[str]
    filters: str
    duration_s: float
    mixed: bool = False

    def arguments(self, tail: list[str]) -> list[str]:
        filters = ",".join([self.filters, *tail])
        if self.mixed:
            return [*self.inputs, "-filter_complex", f"{filters}[out]", "-map", "[out]"]
        return [*self.inputs, "-af", filters]


def _measure(take: _Take, workdir: Path) -> Loudness | None:
    run = run_ffmpeg(
        [*take.arguments(["ebur128=peak=true:framelog=quiet"]), "-f", "null", "-"],
        doing="measuring loudness",
        workdir=workdir,
        timeout_s=60 + take.duration_s,
        log_level="info",
    )
    return parse_ebur128(run.stderr)


def _level(gain_db: float, ceiling_db: float) -> list[str]:
    ceiling = 10 ** (ceiling_db / 20)
    return [
        f"volume={gain_db:.2f}dB",
        f"alimiter=limit={ceiling:.4f}:attack=5:release=80:level=disabled:latency=1",
    ]


def _encode(take: _Take, tail: list[str], target: Path, workdir: Path) -> None:
    run_ffmpeg(
        [
            *take.arguments(tail),
            "-c:a", "aac", "-b:a", f"{SOUND.kbps}k", "-ar", str(SOUND.sample_rate), "-ac", str(SOUND.channels),
            "-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact",
            "-f", "mp4", f"file:{target}",
        ],
        doing="encoding sound",
        workdir=workdir,
        timeout_s=60 + take.duration_s,
    )  # fmt: skip


def follow_tempo(times: TimeMap) -> list[str]:
    """Filters that play sound at the map's speed, within 5 ms of it; a command waits for the next frame of sound.

    Not atempo: it forgets its place at every change of speed and loses up to 21 ms each time, 3 s in 20.
    """
    return [
        "asetnsamples=n=1024:p=0",
        f"asendcmd=filename={TEMPO_SCRIPT}",
        f"rubberband=tempo={times.speed(0):.9f}:channels=together",
    ]


def _input_arguments(source: Path, probe: Probe) -> list[str]:
    return [*_opened(source, probe), "-vn", "-sn", "-dn", "-map", f"0:{probe.audio_index}"]


def _opened(source: Path, probe: Probe) -> list[str]:
    options = source_options(probe) | {"t": f"{probe.duration_s + 1:.3f}"}
    arguments = [part for name, value in options.items() for part in (f"-{name}", value)]
    return [*arguments, "-i", f"file:{source}"]
