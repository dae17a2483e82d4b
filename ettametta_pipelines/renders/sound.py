"""The sound of a render: measured once, brought to the loudness target, encoded once for all formats.

A process of its own before the picture: inside the picture's graph it made queues grow to 1.3 GB and cost a tenth of
the speed. `media/analysis.py` measures with the same function, so both speak of the same loudness.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, source_options
from ettametta_pipelines.renders.formats import SOUND
from ettametta_pipelines.renders.tempo import TimeMap

# Below this EBU R 128 gates everything: the track is silent.
SILENCE_LUFS = -70.0

TEMPO_SCRIPT = "tempo.cmd"

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
    run = run_ffmpeg(
        [
            *_input_arguments(source, probe),
            "-af", ",".join((*STEREO, "ebur128=peak=true:framelog=quiet")),
            "-f", "null", "-",
        ],
        doing="measuring loudness",
        workdir=workdir,
        timeout_s=60 + probe.duration_s,
        log_level="info",
    )  # fmt: skip
    return parse_ebur128(run.stderr)


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
) -> None:
    """Write an AAC track exactly as long as the picture, at the loudness target where there is sound to raise.

    Its speed follows `times`, its pitch stays.

    A limiter, not a compressor: what does not reach the ceiling is only made louder or softer as a whole.
    """
    chain = list(STEREO)
    if not times.is_identity:
        (workdir / TEMPO_SCRIPT).write_text(times.tempo_commands(probe.duration_s))
        chain += follow_tempo(times)
    if loudness is not None:
        gain = min(SOUND.target_lufs - loudness.lufs, SOUND.max_gain_db)
        chain.append(f"volume={gain:.2f}dB")
        ceiling = 10 ** (SOUND.ceiling_db / 20)
        chain.append(f"alimiter=limit={ceiling:.4f}:attack=5:release=80:level=disabled:latency=1")
    chain += ["apad", f"atrim=end={times.output_time(probe.duration_s):.6f}"]
    run_ffmpeg(
        [
            *_input_arguments(source, probe),
            "-af", ",".join(chain),
            "-c:a", "aac", "-b:a", f"{SOUND.kbps}k", "-ar", str(SOUND.sample_rate), "-ac", str(SOUND.channels),
            "-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact",
            "-f", "mp4", f"file:{target}",
        ],
        doing="encoding sound",
        workdir=workdir,
        timeout_s=60 + probe.duration_s,
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
    options = source_options(probe) | {"t": f"{probe.duration_s + 1:.3f}"}
    arguments = [part for name, value in options.items() for part in (f"-{name}", value)]
    return [*arguments, "-i", f"file:{source}", "-vn", "-sn", "-dn", "-map", f"0:{probe.audio_index}"]
