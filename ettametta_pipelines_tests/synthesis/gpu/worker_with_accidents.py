"""The real worker, run by the GPU environment, with what a test wants to see or to go wrong.

`python worker_with_accidents.py ACCIDENT --job FILE`: `count` prints how often the model itself was called, `memory`
lets the second shot find no memory, `slow` makes every step take a quarter of a second.
"""

import sys
import time
from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel, WanTransformer3DModel

from ettametta_pipelines.synthesis import diffusion, worker

calls = {"forwards": 0, "shots": 0}


def counted(model: Any) -> None:
    plain = model.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls["forwards"] += 1
        if sys.argv[1] == "slow":
            time.sleep(0.25)
        return plain(self, *args, **kwargs)

    model.forward = forward


def painted(plain: Any) -> Any:
    def paint(self: Any, *args: Any) -> Any:
        calls["shots"] += 1
        if sys.argv[1] == "memory" and calls["shots"] == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, *args)

    return paint


for model in (LTX2VideoTransformer3DModel, WanTransformer3DModel):
    counted(model)
diffusion.Painter.paint = painted(diffusion.Painter.paint)  # type: ignore[method-assign]
code = worker.main(sys.argv[2:])
print(f"forwards: {calls['forwards']}")  # noqa: T201
sys.exit(code)
