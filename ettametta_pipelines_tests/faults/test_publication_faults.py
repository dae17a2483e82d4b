"""The matrix in a reduced form: every fault, every crash point and every family at least once on each platform."""

import subprocess
import sys
from pathlib import Path

import pytest

import ettametta_pipelines
from ettametta_pipelines_tests.faults.dropping import cross
from ettametta_pipelines_tests.faults.scenarios import FAULTS, sample, scenarios

ROOT = Path(ettametta_pipelines.__file__).parents[1]
SHARDS = 2
SAMPLE = 150


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_whatever_breaks_there_is_one_post_or_a_person_is_asked(shard: int, tmp_path: Path) -> None:
    import pickle

    from ettametta_pipelines_tests.faults.matrix import GOOD, table

    # In a process of its own: workers are forked, and a test runner has threads.
    out = tmp_path / "played.pickle"
    program = [sys.executable, "-m", "ettametta_pipelines_tests.faults", "--sample", str(SAMPLE)]
    program += ["--processes", str(SHARDS), "--shard", str(shard), "--out", str(out)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    played = pickle.loads(out.read_bytes())
    (tmp_path / "table.txt").write_text(table(played))
    wrong = [
        f"{each.verdict}: {each.scenario.name}: {each.why}" for each in played if each.verdict not in GOOD
    ]
    assert wrong == []


def test_the_reduced_form_has_every_fault_and_crash_point_of_both_platforms() -> None:
    whole = scenarios()
    reduced = sample(whole, SAMPLE)
    for platform in FAULTS:
        for what in ("crash", "family"):
            assert {getattr(s, what) for s in reduced if s.platform == platform} == {
                getattr(s, what) for s in whole if s.platform == platform
            }
        assert {s.fault.name for s in reduced if s.platform == platform} >= {f.name for f in FAULTS[platform]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "size", "every"), [("youtube", 24_000_000, 3_000_000), ("tiktok", 24_000_000, 9_000_000)]
)
def test_a_file_over_a_line_that_keeps_breaking_is_posted_once_with_little_sent_twice(
    platform: str, size: int, every: int
) -> None:
    crossing = cross(platform, size, every)
    assert crossing.drops >= 3
    assert crossing.is_good, str(crossing)
