"""The handbook's table of accidents names tests that exist."""

import re
from pathlib import Path

from ettametta_pipelines_tests.synthesis import test_pods

GPU_PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"


def test_every_accident_of_the_handbook_has_its_test_and_every_test_of_pods_its_line() -> None:
    named = set(re.findall(r"`(test_[a-z_]+)`", GPU_PAGE.read_text()))
    tests = {name for name in vars(test_pods) if name.startswith("test_")}
    plain = {
        "test_a_pod_makes_the_clips_and_is_removed",
        "test_clips_that_exist_ask_for_no_pod",
        "test_a_shot_that_failed_is_an_outcome_and_not_the_end_of_the_others",
    }
    assert named == tests - plain
