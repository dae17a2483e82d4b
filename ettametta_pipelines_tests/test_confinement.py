"""What a confined child may use and is said to have used: its own memory, the processors of its container."""

import os
import sys
from pathlib import Path

import pytest

from ettametta_pipelines import confinement
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


@pytest.mark.parametrize(
    ("quota", "expected"), [("150000 100000", 1), ("250000 100000", 2), ("10000 100000", 1)]
)
def test_a_containers_quota_counts_as_its_processors(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(confinement, "CPU_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(quota)
    assert confinement.processors() == expected


@pytest.mark.parametrize("quota", ["max 100000", "", None])
def test_without_a_quota_all_processors_count(
    quota: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(confinement, "CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert confinement.processors() == 64
