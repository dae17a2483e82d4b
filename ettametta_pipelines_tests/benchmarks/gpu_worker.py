"""What the GPU worker costs beyond its pipeline: eight shots of a tiny model painted at a size that takes its time.

On this machine's processor, through `.venv-gpu`. The pipeline is what any program needs that uses it: loading, reading
prompts, painting. Encoding runs beside painting, and here on the same processor; pictures of noise are the hardest.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.synthesis.job import JobReport, make_job
from ettametta_pipelines.synthesis.requests import ClipRequest

PYTHON = Path(".venv-gpu/bin/python")
MODELS = Path("ettametta_pipelines_tests/synthesis/gpu/tiny_models.py")
SHOTS, WIDTH, HEIGHT, SECONDS = 8, 768, 512, 121 / 24


def main() -> None:
    if not PYTHON.exists():
        sys.stdout.write("There is no .venv-gpu here: `make test-gpu-worker` makes it.\n")
        return
    with TemporaryDirectory() as directory:
        os.environ |= {"ETTAMETTA_HOME": directory, "ETTAMETTA_GPU_MODELS_DIR": f"{directory}/models"}
        subprocess.run([PYTHON, MODELS, f"{directory}/models"], check=True, capture_output=True)
        store = open_store(Settings(_env_file=None))
        requests = [ClipRequest("a kite", SECONDS, WIDTH, HEIGHT, 24, seed) for seed in range(SHOTS)]
        job = make_job("bench", "bench", "ltx-2-distilled", requests)
        store.put(job.key, job.as_json())
        began = time.monotonic()
        command = [PYTHON, "-m", "ettametta_pipelines.synthesis.worker", "--job", f"store:{job.key}"]
        subprocess.run(command, check=True, capture_output=True)
        whole = time.monotonic() - began
        figures = JobReport.read(store, "bench").figures
    painting = figures["painting_s"]
    rows = {
        "whole process": whole,
        "painting": painting,
        "loading and prompts": figures["load_s"] + figures["prompts_s"],
        "encoding (beside painting)": figures["encoding_s"],
        "storing (beside painting)": figures["storing_s"],
        "waited for the last encoding": figures["last_encoding_s"],
    }
    for name, seconds in rows.items():
        sys.stdout.write(f"{name:<30} {seconds:8.2f} s\n")
    pipeline = painting + figures["load_s"] + figures["prompts_s"]
    sys.stdout.write(f"{'beyond the pipeline':<30} {100 * (whole / pipeline - 1):8.1f} %\n")
    Path("bench").mkdir(exist_ok=True)
    Path("bench/gpu_worker.json").write_text(json.dumps(rows | {"overhead": whole / pipeline - 1}, indent=2))


if __name__ == "__main__":
    main()
