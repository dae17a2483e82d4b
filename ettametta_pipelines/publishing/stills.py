"""Stills of a finished rendition, for the eyes of whoever decides about the post. Called by `queue_assets.py`."""

from pathlib import Path

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.media.intake import fetch
from ettametta_pipelines.media.probe import CODEC_WHITELIST
from ettametta_pipelines.renders.ffmpeg import DEMUXER_WHITELIST, run_ffmpeg
from ettametta_pipelines.storage.objects import ObjectStore

# Enough to see what the video is about at a glance.
STILLS = 8
WIDTH = 240
# Renditions are ours, but the store is not ours alone.
SOURCE_OPTIONS = (
    "-protocol_whitelist", "file", "-format_whitelist", DEMUXER_WHITELIST, "-codec_whitelist",
    ",".join(CODEC_WHITELIST), "-threads", "1", "-f", "mov",
)  # fmt: skip
# The first frame of each input alone; an input that begins behind the video's end adds none.
FIRST = f"[{{}}:v:0]trim=end_frame=1,scale={WIDTH}:{2 * WIDTH}:force_original_aspect_ratio=decrease,setsar=1[s{{}}]"


def stills_of(store: ObjectStore, key: str, duration_s: float, *, scratch: Path) -> list[tuple[float, bytes]]:
    """(second, JPEG) of evenly spaced pictures, in order; fewer where the video ends early.

    Raises ObjectMissing, or PipelineError as `run_ffmpeg` does.
    """
    seconds = [duration_s * (number + 0.5) / STILLS for number in range(STILLS)]
    with private_dir(scratch, "stills") as workdir:
        path = fetch(store, key, workdir).absolute()
        inputs = [
            part
            for second in seconds
            for part in (*SOURCE_OPTIONS, "-ss", f"{second:.3f}", "-t", "1", "-i", f"file:{path}")
        ]
        chains = [FIRST.format(number, number) for number in range(STILLS)]
        joined = "".join(f"[s{number}]" for number in range(STILLS)) + f"concat=n={STILLS},setpts=N/TB[out]"
        run_ffmpeg(
            [
                *inputs, "-filter_complex", ";".join([*chains, joined]), "-map", "[out]", "-fps_mode", "passthrough",
                "-q:v", "4", "-threads", "1", "-f", "image2", f"file:{workdir}/%d.jpg",
            ],
            doing="taking stills of a rendition",
            workdir=workdir,
            timeout_s=60,
        )  # fmt: skip
        files = [workdir / f"{number}.jpg" for number in range(1, STILLS + 1)]
        return [
            (second, file.read_bytes()) for second, file in zip(seconds, files, strict=True) if file.exists()
        ]
