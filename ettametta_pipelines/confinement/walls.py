"""Which walls around a confined child this machine's kernel grants, found by building them once. For `doctor`.

The walls themselves are `confinement/launcher.py`'s; the limits, the empty environment and the private directory stand
everywhere and need no question.
"""

import json
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ettametta_pipelines.confinement.running import Limits, run_confined


@dataclass(frozen=True)
class Walls:
    """Why each wall is missing, "" where it stands. `start_ms` is what starting and ending a child took."""

    network: str
    files: str
    start_ms: float

    @property
    def in_words(self) -> str:
        network, files = (f"no ({why})" if why else "yes" for why in (self.network, self.files))
        return (
            f"media run without network: {network}; sees only its own files: {files}; "
            f"a start takes {self.start_ms:.0f} ms"
        )


def look_at_walls() -> Walls:
    """Start a child that does nothing and says what the kernel refused it. Raises OSError where none can be started."""
    limits = Limits(wall_s=30, cpu_s=20, memory_bytes=2 << 30, file_bytes=0)
    if sys.platform != "linux":
        return Walls("only Linux has namespaces", "only Linux has Landlock", 0.0)
    ended = run_confined(Path("/bin/true"), [], limits=limits, workdir=Path("/"), tell_walls=True)
    missing = json.loads(ended.stdout.splitlines()[0])
    return Walls(missing["network"], missing["files"], ended.wall_s * 1000)


@lru_cache(maxsize=1)
def walls() -> Walls:
    """As found when first asked: a kernel does not change its mind."""
    return look_at_walls()
