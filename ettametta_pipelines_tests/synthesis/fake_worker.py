"""A GPU worker without a GPU: the real worker's manners, clips of plain colour, and accidents on demand.

Prompts are words of command, by which a test makes each accident happen: `wait 2`, `hold NAME` (until the file
`released/NAME` is in its home), `exit 12`, `crash`, `bar` (a progress bar on standard error), `lie` (says nothing of a
clip and makes none), `fail` (a stated failure, until `released/fail` is there); anything else is a clip.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ettametta_pipelines.failures import FailureKind
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.synthesis import worker
from ettametta_pipelines.synthesis.clip_file import encode_clip, examine_clip
from ettametta_pipelines.synthesis.job import (
    ClipJob,
    Exit,
    JobReport,
    clip_key,
    finished_clip,
    report_key,
    write_note,
)
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult
from ettametta_pipelines.synthesis.resident import Resident


def run(name: str, reporter: worker.Reporter, stop: worker.Stop, _resident: Resident) -> Exit:
    store = open_store(get_settings())
    job = ClipJob.from_json(store.get(name.removeprefix("store:")))
    failures: dict[str, ClipFailure] = {}
    released = get_settings().home_dir / "released"
    made = 0
    reporter.say("at work")
    for key, request in job.keyed():
        if finished_clip(store, job.prefix, key) is not None:
            continue
        if stop.asked:
            return Exit.STOPPED
        command, _, value = request.prompt.partition(" ")
        if command == "wait":
            time.sleep(float(value))
        elif command == "hold":
            reporter.say(f"holding {value}")
            while not (released / value).exists():
                time.sleep(0.02)
        elif command == "exit":
            reporter.say(f"leaving with {value}")
            return Exit(int(value)) if int(value) in list(Exit) else int(value)  # type: ignore[return-value]
        elif command == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif command == "bar":
            sys.stderr.write("\r 40%|####      |")
            sys.stderr.flush()
            os.write(2, b"\r 60%|######    |")
        elif command == "lie":
            continue
        elif command == "fail" and not (released / "fail").exists():
            failures[key] = ClipFailure(
                key, FailureKind.PERMANENT, "gpu_out_of_memory", "No room.", "Smaller."
            )
            continue
        reporter.say(f"painting {request.prompt}")
        reporter.figures({"clip": key, "step": 1, "steps": 1})
        write_note(store, job.prefix, _clip(store, job, key, request))
        made += 1
    store.put(report_key(job.job_id), JobReport(failures, {"made": made}).as_json())
    return Exit.DONE


def _clip(store: Any, job: ClipJob, key: str, request: ClipRequest) -> ClipResult:
    # Smaller ones are not the same bytes each time: the encoder reads beside the picture.
    frames = np.full((9, 64, 64, 3), request.seed % 256, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "clip.mp4")
        encode_clip(path, frames, request.fps)
        facts = examine_clip(path)
        store.put_file(clip_key(job.prefix, key), path)
    return ClipResult(
        job.engine, job.model, key, clip_key(job.prefix, key), facts.sha256, request.seed, facts.width, facts.height,
        facts.fps, facts.frames, facts.has_audio, 0, {"pid": str(os.getpid())},
    )  # fmt: skip


if __name__ == "__main__":
    worker._run = run
    # The render node starts its interpreter with `-m module`; a test puts this file in the interpreter's place.
    sys.exit(
        worker.main([a for a in sys.argv[1:] if a not in ("-m", "ettametta_pipelines.synthesis.worker")])
    )
