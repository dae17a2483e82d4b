"""The crash sweep over paid clips in a reduced form: every point and every fault at least once."""

import subprocess
import sys
from pathlib import Path

import pytest

import ettametta_pipelines
from ettametta_pipelines_tests.faults.clips import FAULTS, POINTS, WAYS, sample

ROOT = Path(ettametta_pipelines.__file__).parents[1]
SAMPLE = 32


@pytest.mark.slow
def test_whatever_breaks_a_clip_is_charged_at_most_once_and_its_order_has_an_end() -> None:
    # In a process of its own: workers are forked, and a test runner has threads.
    program = [sys.executable, "-m", "ettametta_pipelines_tests.faults.clips", "--sample", str(SAMPLE)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_reduced_form_has_every_point_fault_and_vendor() -> None:
    chosen = sample(SAMPLE)
    assert {each.point for each in chosen} == {None, *POINTS}
    assert {each.fault.name for each in chosen} == {fault.name for fault in FAULTS}
    assert {each.way.counted for each in chosen} == {way.counted for way in WAYS}
