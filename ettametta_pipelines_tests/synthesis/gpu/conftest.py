"""The GPU environment's interpreter and tiny checkpoints for it, made once a session."""

import os
import subprocess
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
    directory = tmp_path_factory.mktemp("models")
    script = Path(__file__).with_name("tiny_models.py")
    subprocess.run([gpu_python, script, directory], check=True, capture_output=True)
    return directory
