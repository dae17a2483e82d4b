"""Small real videos for the line: moving, with sound."""

import subprocess
from pathlib import Path

import imageio_ffmpeg


def make_clip(
    path: Path, *, seed: int = 0, seconds: float = 2.0, size: str = "640x360", sound: bool = True
) -> Path:
    """A clip by ffmpeg; `seed` changes its content, so that every clip is a source of its own."""
    inputs = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=30:duration={seconds},hue=h={seed * 40}"]
    if sound:
        inputs += ["-f", "lavfi", "-i", f"sine=frequency={300 + seed * 50}:duration={seconds}"]
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y"]
    subprocess.run([*ffmpeg, *inputs, *encoding, str(path)], check=True)
    return path
