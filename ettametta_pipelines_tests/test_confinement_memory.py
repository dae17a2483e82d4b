"""What a confined child is said to have used is its own, however large the process that started it."""

import sys
from pathlib import Path

from ettametta_pipelines.confinement import Limits, run_confined


def test_the_memory_of_the_parent_does_not_count() -> None:
    ballast = bytearray(300 << 20)
    ballast[::4096] = b"\x01" * len(ballast[::4096])
    limits = Limits(wall_s=20, cpu_s=10, memory_bytes=2 << 30, file_bytes=0)
    # Long enough to be looked at: the memory of what runs is read twice a second and at each piece of output.
    program = "import time; kept = bytearray(40 << 20); print(len(kept), flush=True); time.sleep(1.2)"
    ended = run_confined(Path(sys.executable), ["-I", "-S", "-c", program], limits=limits, workdir=Path("/"))
    assert ended.returncode == 0
    assert 40 << 20 < ended.peak_memory_bytes < 150 << 20
