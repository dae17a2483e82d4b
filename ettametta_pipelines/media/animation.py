"""Short animated previews of finished videos: a few seconds, small, as WebP beside the video in the object store.

What operators see move in the Dagster UI without opening a link; `pictures.py` has what stands still. A rendition's
frames are kept while it is played for its checks (`renders/playback.py`), which costs next to nothing; clips and
renditions of before are decoded for it by ffmpeg in confinement, a second here and there.
"""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, source_options
from ettametta_pipelines.renders.stills import chosen

if TYPE_CHECKING:
    from PIL import Image

    from ettametta_pipelines.storage.objects import ObjectStore

SUFFIX = ".preview.webp"
LONG_SIDE = 288
RATE = 6
# Three moments tell more of a video than its beginning, at the same cost.
MOMENTS = (0.1, 0.45, 0.8)
MOMENT_S = 1.0
BUDGET = 120 * 1024
FRAMES_FILE = "preview.rgb"
QUALITIES = (55, 40, 25, 12)


def preview_key(object_key: str) -> str:
    """Where the preview of a video in the store is kept."""
    return object_key.rpartition(".")[0] + SUFFIX


def keep_preview(store: "ObjectStore", object_key: str, path: Path, probe: Probe, scratch: Path) -> str:
    """Make the preview of a video, whose file is at `path`, unless it is there; its key. Raises as ffmpeg's runner."""
    key = preview_key(object_key)
    if not store.exists(key):
        store.put(key, animated(path, probe, scratch), content_type="image/webp")
    return key


def kept_arguments(probe: Probe) -> list[str]:
    """ffmpeg's output for a preview, beside whatever else is made of the first input; read by `read_preview`."""
    numbers = [
        min(probe.frames - 1, round((start_s + place / RATE) * probe.fps))
        for start_s, length_s in _moments(probe.duration_s)
        for place in range(max(1, int(length_s * RATE)))
    ]
    wanted = sorted(set(numbers))
    width, height = _size(float(probe.display_aspect))
    chain = f"select='{chosen(wanted)}',scale={width}:{height}:flags=area"
    raw = ("-an", "-sn", "-dn", "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f", "rawvideo")
    # The stream would go on to its end after the last frame that is wanted.
    return ["-map", f"0:{probe.video_index}", "-vf", chain, "-frames:v", str(len(wanted)), *raw, FRAMES_FILE]


def read_preview(workdir: Path, probe: Probe) -> bytes:
    """The preview of what `kept_arguments` has left in a directory; empty where that is no whole frame."""
    return _webp((workdir / FRAMES_FILE).read_bytes(), *_size(float(probe.display_aspect)))


def animated(path: Path, probe: Probe, scratch: Path) -> bytes:
    """An animated WebP of at most BUDGET bytes: one second at each of MOMENTS, six frames a second, without end."""
    width, height = _size(float(probe.display_aspect))
    raw = bytearray()
    moments = _moments(probe.duration_s)
    with private_dir(scratch, "preview") as workdir:
        run_ffmpeg(
            _arguments(path, probe, moments, f"fps={RATE},scale={width}:{height}:flags=bilinear,setsar=1"),
            doing="making a preview",
            workdir=workdir,
            timeout_s=60,
            on_stdout=raw.extend,
        )
    return _webp(bytes(raw), width, height)


def markdown(url: str, caption: str) -> str:
    """Markdown that shows the picture at an address of ours; `caption` is words of ours."""
    return f"![{caption}]({url})"


def _moments(duration_s: float) -> list[tuple[float, float]]:
    """(Start, length) of what is shown; a short video is shown whole."""
    if duration_s <= MOMENT_S * len(MOMENTS):
        return [(0.0, duration_s)]
    return [(share * duration_s, MOMENT_S) for share in MOMENTS]


def _size(aspect: float) -> tuple[int, int]:
    width, height = (LONG_SIDE, LONG_SIDE / aspect) if aspect >= 1 else (LONG_SIDE * aspect, LONG_SIDE)
    return max(2, round(width / 2) * 2), max(2, round(height / 2) * 2)


def _arguments(path: Path, probe: Probe, moments: list[tuple[float, float]], chain: str) -> list[str]:
    inputs: list[str] = []
    for start_s, length_s in moments:
        options = source_options(probe) | {"ss": f"{start_s:.3f}", "t": f"{length_s:.3f}"}
        inputs += [part for name, value in options.items() for part in (f"-{name}", value)]
        inputs += ["-i", f"file:{path.absolute()}"]
    each = [f"[{place}:{probe.video_index}]{chain}[m{place}]" for place in range(len(moments))]
    joined = "".join(f"[m{place}]" for place in range(len(moments))) + f"concat=n={len(moments)}[out]"
    graph = ";".join([*each, joined])
    return [
        *inputs, "-filter_complex", graph, "-map", "[out]", "-pix_fmt", "rgb24", "-f", "rawvideo", "pipe:1",
    ]  # fmt: skip


def _webp(raw: bytes, width: int, height: int) -> bytes:
    from PIL import Image

    size = width * height * 3
    starts = range(0, len(raw) - size + 1, size)
    frames = [Image.frombytes("RGB", (width, height), raw[at : at + size]) for at in starts]
    while frames:
        for quality in QUALITIES:
            data = _encoded(frames, quality)
            if len(data) <= BUDGET:
                return data
        frames = frames[::2] if len(frames) > 1 else []
    return b""


def _encoded(frames: "list[Image.Image]", quality: int) -> bytes:
    buffer = BytesIO()
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=round(1000 / RATE), loop=0,
        quality=quality, method=2,
    )  # fmt: skip
    return buffer.getvalue()
