"""The real worker, run by the GPU environment, with what a test wants to see or to go wrong.

`python worker_with_accidents.py ACCIDENT --job FILE`: `count` prints how often the model itself was called, `memory`
lets the second shot find no memory, `slow` makes every step take a quarter of a second, `encoder` lets the text encoder
find no memory the second time it comes back, `host` has the machine short of memory, `trouble` spoils the second shot's
numbers, paints the third black and has the disk full for the fourth.
"""

import sys
import time
from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel, WanTransformer3DModel

from ettametta_pipelines.synthesis import diffusion, resident, worker

calls = {"forwards": 0, "shots": 0, "encoders": 0, "encoded": 0}


def counted(model: Any) -> None:
    plain = model.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls["forwards"] += 1
        if sys.argv[1] == "slow":
            time.sleep(0.25)
        made = plain(self, *args, **kwargs)
        if sys.argv[1] == "trouble" and calls["shots"] == 2:
            return tuple(part * float("nan") for part in made)
        return made

    model.forward = forward


def painted(plain: Any) -> Any:
    def paint(self: Any, *args: Any) -> Any:
        calls["shots"] += 1
        if sys.argv[1] == "memory" and calls["shots"] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, *args)

    return paint


def coming_back(plain: Any) -> Any:
    def have_encoder(self: Any) -> None:
        calls["encoders"] += 1
        if calls["encoders"] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        plain(self)

    return have_encoder


def darkened(plain: Any) -> Any:
    def as_bytes(video: Any) -> Any:
        return plain(video) * (calls["shots"] != 3)

    return as_bytes


def on_a_full_disk(plain: Any) -> Any:
    def encode(path: Any, frames: Any, *rest: Any) -> None:
        calls["encoded"] += 1
        if calls["encoded"] == 2:
            raise OSError(28, "No space left on device")
        plain(path, frames, *rest)

    return encode


if sys.argv[1] == "trouble":
    diffusion._as_bytes = darkened(diffusion._as_bytes)
    worker.encode_clip = on_a_full_disk(worker.encode_clip)  # type: ignore[attr-defined]
for model in (LTX2VideoTransformer3DModel, WanTransformer3DModel):
    counted(model)
diffusion.Painter.paint = painted(diffusion.Painter.paint)  # type: ignore[method-assign]
if sys.argv[1] == "encoder":
    diffusion.Painter._have_encoder = coming_back(diffusion.Painter._have_encoder)  # type: ignore[method-assign]
# Not what this machine is at: a test must not depend on its neighbours.
resident.memory_available = lambda: 0.05 if sys.argv[1] == "host" else 0.9
# A test puts this file in the interpreter's place, which is started with `-m module`.
code = worker.main(
    [each for each in sys.argv[2:] if each not in ("-m", "ettametta_pipelines.synthesis.worker")]
)
print(f"forwards: {calls['forwards']}")  # noqa: T201
sys.exit(code)
