"""The sweep of kills over GPU work in a reduced form: each place, its worker and what had it started."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ettametta_pipelines_tests.faults.gpu import ROOT, scenarios

NEEDS_REDIS = pytest.mark.skipif(
    not (shutil.which("redis-server") or Path("/usr/bin/redis-server").exists()), reason="needs redis-server"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        "pod: worker killed after write_note",
        "pod: run killed after GpuPod._create_or_adopt",
        "local: run killed after WorkerProcess.__init__",
        pytest.param("node: worker killed before write_note", marks=NEEDS_REDIS),
        pytest.param("node: node killed after mark_sent", marks=NEEDS_REDIS),
    ],
)
def test_what_is_killed_leaves_no_orphan_and_loses_no_clip(scenario: str) -> None:
    assert scenario in {each.name for each in scenarios()}
    program = [sys.executable, "-m", "ettametta_pipelines_tests.faults.gpu", "--only", scenario]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
