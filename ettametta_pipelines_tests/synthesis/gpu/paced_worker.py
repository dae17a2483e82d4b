"""The real worker, whose pipeline takes a stated time a clip, as one on a GPU does: `python paced_worker.py SECONDS
--job FILE`. The first shot is painted in earnest; its frames stand for the others', and the processor rests meanwhile.
"""

import sys
import time
from dataclasses import replace
from typing import Any

from ettametta_pipelines.synthesis import diffusion, worker

PACE_S = float(sys.argv[1])
plain = diffusion.Painter.paint
painted: list[diffusion.Shot] = []


def paint(self: diffusion.Painter, request: Any, image: Any, on_step: Any) -> diffusion.Shot:
    if not painted:
        painted.append(plain(self, request, image, on_step))
        return painted[0]
    steps = self.model.steps
    for step in range(steps):
        time.sleep(PACE_S / steps)
        on_step(step + 1, steps)
    # Frames of its own, as every shot has: what is held twice is encoded from memory that is not shared.
    return replace(painted[0], frames=painted[0].frames.copy(), seconds=PACE_S)


diffusion.Painter.paint = paint  # type: ignore[method-assign]
sys.exit(worker.main(sys.argv[2:]))
