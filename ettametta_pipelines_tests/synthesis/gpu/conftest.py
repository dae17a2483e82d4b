"""The GPU environment's interpreter and tiny checkpoints for it, made once a session."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("ETTAMETTA_TEST_GPU_PYTHON", REPOSITORY / ".venv-gpu" / "bin" / "python"))


# Several threads on matrices this small wait for each other, on a busy machine a hundred times as long as they work.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def gpu_python() -> Path:
    if not PYTHON.exists():
        pytest.skip("needs .venv-gpu: run `make test-gpu-worker`")
    return PYTHON


@pytest.fixture(scope="session")
def tiny_models(gpu_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a randomly initialised checkpoint per model."""
    # Shared by the processes of one session; whoever comes second finds it whole or makes it too.
    session = tmp_path_factory.getbasetemp()
    shared = (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "tiny-models"
    if not shared.exists():
        made = tmp_path_factory.mktemp("models") / "made"
        script = Path(__file__).with_name("tiny_models.py")
        subprocess.run([gpu_python, script, made], check=True, capture_output=True)
        with suppress(OSError):
            made.rename(shared)
    return shared
