"""A home of its own for tests that run assets."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ettametta_pipelines.settings import Settings, get_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings on the embedded default under a fresh home, no `.env`."""
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.alias or name).upper(), raising=False)
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()
