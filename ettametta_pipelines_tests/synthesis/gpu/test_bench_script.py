"""The benchmark for whoever has a card: rehearsed here on the processor, so that the command is known to work."""

import json
import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "bench_gpu.py"


def test_the_benchmark_runs_to_its_end_and_says_all_it_is_to_say(gpu_python: Path, tmp_path: Path) -> None:
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "ETTAMETTA_HOME": str(tmp_path)}
    ended = subprocess.run([gpu_python, SCRIPT], env=env, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    *_, figures, verdict = ended.stdout.splitlines()
    assert "rehearsal" in ended.stdout.splitlines()[0]
    for stage in (
        "bare transformer x8",
        "bare vocoder x1",
        "painting a clip",
        "encoding a clip",
        "peak memory",
    ):
        assert stage in ended.stdout
    assert "published (SGLang, one H100, bf16)       9.52 s" in ended.stdout
    forwards = [
        line.split()[-1] for line in ended.stdout.splitlines() if line.startswith("transformer forwards")
    ]
    assert forwards == ["8", "8"]
    said = json.loads(figures)
    assert said["rehearsal"] is True
    assert said["ratio"] == said["clip_s"] / said["bare_s"]
    assert "times the bare forwards (at most 1.2 on a GPU)" in verdict
