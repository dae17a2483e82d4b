"""The one model a GPU worker keeps loaded between its jobs, and when it lets go of it.

Never two: whatever is there leaves before another is loaded. It also leaves when memory is tight, and when the worker
says so (`serving.py`: nothing was ordered for a while). Part of the GPU image; called by `worker.py`.
"""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ettametta_pipelines.synthesis.requests import ClipRequest

if TYPE_CHECKING:
    from ettametta_pipelines.synthesis.diffusion import Painter

# Share of the machine's memory below which nothing is kept for a job that may come.
LEAST_AVAILABLE = 0.1


class Resident:
    """At most one loaded model. `loads` counts how often one was read from disk."""

    def __init__(self) -> None:
        self._painter: Painter | None = None
        self._known_by: tuple[str, Path, str, int] | None = None
        self._is_fresh = False
        self.loads = 0

    def load(self, model: str, models: Path, memory: str) -> None:
        """Have the model, unless it is the one that is there and its checkpoint was not replaced since.

        Raises what `diffusion.load_painter` raises; nothing is kept then.
        """
        known_by = (model, models, memory, _written(models / model))
        self._is_fresh = self._painter is None or known_by != self._known_by
        if self._is_fresh:
            self.release()
            self._painter = self._loaded(model, models, memory)
            self._known_by = known_by

    def _loaded(self, model: str, models: Path, memory: str) -> "Painter":
        from ettametta_pipelines.synthesis import diffusion

        self.loads += 1
        return diffusion.load_painter(model, models, memory)

    def read_prompts(self, requests: Sequence[ClipRequest]) -> "Painter":
        """The model after `load`, with these prompts read.

        Where the text encoder finds no room beside a model that was kept, that one leaves and is loaded after it.
        """
        import torch

        assert self._painter is not None
        assert self._known_by is not None
        try:
            self._painter.read_prompts(requests)
            return self._painter
        except torch.OutOfMemoryError:
            if self._is_fresh:
                raise
        # Outside the handler: what was raised holds on to its frames, and with them to the model.
        model, models, memory, _ = self._known_by
        self.release()
        self.load(model, models, memory)
        self._painter.read_prompts(requests)
        return self._painter

    def release(self) -> bool:
        """Let go of the model; False when there is none."""
        if self._painter is None:
            return False
        painter, self._painter, self._known_by = self._painter, None, None
        painter.close()
        del painter
        gc.collect()
        return True

    def release_if_tight(self) -> bool:
        """Let go of it where other programs of this machine are short of memory."""
        return self._painter is not None and memory_available() < LEAST_AVAILABLE and self.release()


def memory_available() -> float:
    """Share of the machine's memory that could be had, 0 to 1."""
    import psutil  # type: ignore[import-untyped]

    memory = psutil.virtual_memory()
    return float(memory.available / memory.total)


def _written(checkpoint: Path) -> int:
    index = checkpoint / "model_index.json"
    return index.stat().st_mtime_ns if index.is_file() else 0
