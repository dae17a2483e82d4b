"""Small real videos for the line: two seconds, moving, with sound."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Make a clip by ffmpeg; `seed` changes its content, so that every clip is a source of its own."""

    def make(
        name: str, *, seed: int = 0, seconds: float = 2.0, size: str = "640x360", sound: bool = True
    ) -> Path:
        path = tmp_path / name
        picture = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=30:duration={seconds},hue=h={seed * 40}"]
        audio = ["-f", "lavfi", "-i", f"sine=frequency={300 + seed * 50}:duration={seconds}"] if sound else []
        encoding = [
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-pix_fmt",
            "yuv420p",
            "-movflags",
            "+faststart",
        ]
        subprocess.run(
            [
                imageio_ffmpeg.get_ffmpeg_exe(),
                "-v",
                "error",
                "-nostdin",
                "-y",
                *picture,
                *audio,
                *encoding,
                str(path),
            ],
            check=True,
        )
        return path

    return make
