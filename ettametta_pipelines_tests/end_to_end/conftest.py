"""Clips in the test's own directory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines_tests.end_to_end import clips


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """`clips.make_clip` by file name."""

    def make(name: str, **options: Any) -> Path:
        return clips.make_clip(tmp_path / name, **options)

    return make
