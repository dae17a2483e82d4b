"""What the sandboxes of video vendors share: orders that take a few looks to be finished, charges, and drawn clips.

Every order that is taken is charged once and counted, whatever becomes of its answer, so that a test can hold the
number against what was meant. What goes wrong is asked for in the prompt: see `TRICKS`.
"""

import hashlib
from pathlib import Path
from typing import Any

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg
from ettametta_pipelines.sandbox.core import SandboxStore, seeded_rng

Json = dict[str, Any]

KIND = "clip_order"
# Looks until an order is finished.
LOOKS = 2
TRICKS = {
    "sandbox:refused": "refused when ordered, as against the rules on content",
    "sandbox:filtered": "taken, and refused when finished",
    "sandbox:never-ends": "never finished",
    "sandbox:fails-late": "taken, and failed when finished",
    "sandbox:link-expires": "the first address of the file is over before it is used",
    "sandbox:link-gone": "the file is not kept",
    "sandbox:dear": "costs a quarter more than its price",
    "sandbox:no-video": "finished, with something that is no video",
}


def has(prompt: str, trick: str) -> bool:
    assert f"sandbox:{trick}" in TRICKS
    return f"sandbox:{trick}" in prompt


def take_order(store: SandboxStore, vendor: str, wish: Json) -> str:
    """Take and charge one order; returns its number, which no order before had."""
    number = store.counter(f"{vendor}_clip_charges")
    name = hashlib.sha256(f"{vendor} clip {number}".encode()).hexdigest()[:20]
    store.put(KIND, f"{vendor}/{name}", {**wish, "looks": 0, "number": number})
    return name


def find_order(store: SandboxStore, vendor: str, name: str) -> Json | None:
    return store.get(KIND, f"{vendor}/{name}")


def look_at_order(store: SandboxStore, vendor: str, name: str) -> Json | None:
    """The order, looked at once more; `is_done` says whether it is finished by now. None for one never taken."""
    order = find_order(store, vendor, name)
    if order is None:
        return None
    order["looks"] += 1
    store.put(KIND, f"{vendor}/{name}", order)
    return {**order, "is_done": order["looks"] >= LOOKS and not has(order["prompt"], "never-ends")}


def charges(store: SandboxStore, vendor: str) -> int:
    """How many orders of a vendor were taken and charged."""
    return store.counter(f"{vendor}_clip_charges", 0)


def clip_file(store: SandboxStore, order: Json) -> Path:
    """The finished file of an order; the same picture for the same prompt, size, length and rate."""
    width, height, seconds, fps = (int(order[name]) for name in ("width", "height", "seconds", "fps"))
    digest = hashlib.sha256(f"{order['prompt']} {order.get('seed')}".encode()).hexdigest()[:12]
    path = store.blob_path(f"clip_{digest}_{width}x{height}_{seconds}s_{fps}.mp4")
    if not path.is_file():
        if has(order["prompt"], "no-video"):
            path.write_bytes(b"\0\0\0\x18ftypisom" + b"no video at all " * 64)
        else:
            draw(path, digest, (width, height), seconds, fps, with_sound=bool(order.get("audio")))
    return path


def draw(path: Path, digest: str, size: tuple[int, int], seconds: int, fps: int, *, with_sound: bool) -> None:
    """Turning colours with a bar of light that passes, drawn small and enlarged; with a low hum if asked."""
    rng = seeded_rng("clip", digest)
    small = [max(2, side // 8 * 2) for side in size]
    colours = ":".join(f"c{place}=0x{rng.randrange(0x202020, 0xFFFFFF):06x}" for place in range(3))
    graph = (
        f"gradients=s={small[0]}x{small[1]}:r={fps}:d={seconds}:{colours}:n=3:seed={rng.randint(1, 9999)}:speed=0.04,"
        f"drawbox=x='mod(t*{rng.randint(30, 80)},{small[0]})':y=0:w={small[0] // 10}:h={small[1]}:"
        "color=white@0.2:t=fill,"
        f"scale={size[0]}:{size[1]}:flags=bilinear,format=yuv420p,"
        "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709[v]"
    )
    sound: list[str] = []
    if with_sound:
        graph += f";sine=frequency={rng.randint(110, 330)}:sample_rate=48000:duration={seconds},volume=0.1[a]"
        sound = ["-map", "[a]", "-c:a", "aac", "-b:a", "96k"]
    with private_dir(path.parent, ".made") as workdir:
        made = workdir / "clip.mp4"
        run_ffmpeg(
            [
                "-filter_complex", graph, "-map", "[v]", *sound, "-t", str(seconds), "-c:v", "libx264",
                "-preset", "ultrafast", "-crf", "26", "-threads", "1", "-fflags", "+bitexact",
                "-movflags", "+faststart", "-f", "mp4", f"file:{made}",
            ],
            doing="drawing a clip",
            workdir=workdir,
            timeout_s=120,
        )  # fmt: skip
        made.replace(path)
