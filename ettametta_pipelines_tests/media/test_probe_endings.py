"""How the inspector ended is an answer too."""

import pytest

from ettametta_pipelines.confinement.running import Ended
from ettametta_pipelines.failures import PermanentError, PipelineError, TransientError
from ettametta_pipelines.media.probe import _read_answer


def ended(returncode: int, stderr: str = "", *, timed_out: bool = False) -> Ended:
    return Ended(returncode, timed_out, b'{"container": "mov"}', stderr, 31.4, 1.0, 1)


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        (ended(-9, timed_out=True), "too_complex", "more than 31 s"),
        (ended(-11), "unreadable", "its reader crashed (signal 11)"),
        (ended(1, "Traceback\nMemoryError"), "too_complex", "too much memory"),
    ],
)
def test_a_file_that_brings_its_reader_down_is_refused(how: Ended, code: str, said: str) -> None:
    answer = _read_answer(how, "clip.mp4")
    assert answer["error"] == code
    assert said in answer["detail"]


@pytest.mark.parametrize(
    ("how", "kind", "code"),
    [
        (ended(-9), TransientError, "probe_killed"),
        (ended(1, "Traceback\nZeroDivisionError: x"), PermanentError, "probe_failed"),
        (ended(1), PermanentError, "probe_failed"),
    ],
)
def test_a_reader_that_was_ended_or_failed_says_nothing_of_the_file(
    how: Ended, kind: type[PipelineError], code: str
) -> None:
    with pytest.raises(kind, match=r"clip\.mp4") as failure:
        _read_answer(how, "clip.mp4")
    assert failure.value.code == code


def test_a_reader_that_came_to_its_end_is_believed() -> None:
    assert _read_answer(ended(0), "clip.mp4") == {"container": "mov"}
