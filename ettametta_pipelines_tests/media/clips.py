"""Clips for tests, made by ffmpeg on the spot: small, deterministic, each with one property that matters."""

import subprocess
from pathlib import Path

from ettametta_pipelines.renders.ffmpeg import ffmpeg_path

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "16")
AAC = ("-c:a", "aac", "-b:a", "128k")


def ffmpeg(*arguments: str) -> None:
    """Run ffmpeg unconfined, for test material only."""
    subprocess.run(
        [str(ffmpeg_path()), "-hide_banner", "-v", "error", "-nostdin", "-y", *arguments],
        check=True,
        timeout=60,
    )


def clip(
    path: Path,
    *,
    picture: str = "testsrc2=s=640x360:r=30:d=2",
    sound: str | None = "sine=frequency=440:duration=2",
    codec: tuple[str, ...] = X264,
    extra: tuple[str, ...] = (),
) -> Path:
    """A clip from a lavfi picture and sound; returns its path."""
    inputs = ["-f", "lavfi", "-i", picture]
    sound_codec: tuple[str, ...] = ()
    if sound is not None:
        inputs += ["-f", "lavfi", "-i", sound]
        sound_codec = AAC
    ffmpeg(*inputs, *codec, *sound_codec, *extra, str(path))
    return path


def cut_short(whole: Path, path: Path, share: float = 0.6) -> Path:
    """The first bytes of a file, as a broken upload leaves them."""
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
