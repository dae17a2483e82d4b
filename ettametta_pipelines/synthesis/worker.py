"""The GPU worker: `python -m ettametta_pipelines.synthesis.worker`, the same in a pod, a subprocess or a render node.

Part of the GPU image; nothing of the code location imports it. It reads a `ClipJob`, loads the model once and makes
shot after shot: while one is painted the one before is encoded, looked at and stored. A shot whose clip exists is
skipped, so a job that was cut off goes on where it stopped. SIGTERM lets the current shot finish. Started by
Dagster, it reports through Pipes; else it prints. How it ends is `job.Exit`. With `--serve` it makes job after job
and keeps the model between them (`serving.py`, `resident.py`).
"""

import argparse
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from ettametta_pipelines.failures import (
    FailureKind,
    NeedsPersonError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.objects import ObjectMissing, ObjectStore, open_store
from ettametta_pipelines.synthesis.clip_file import encode_clip, examine_clip
from ettametta_pipelines.synthesis.job import (
    ClipJob,
    Exit,
    JobReport,
    bad_job,
    clip_key,
    finished_clip,
    report_key,
    write_note,
)
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult
from ettametta_pipelines.synthesis.resident import Resident
from ettametta_pipelines.synthesis.serving import Order, Orders, serve

if TYPE_CHECKING:
    from ettametta_pipelines.synthesis.diffusion import Painter, Shot

# Shots that wait for the encoder hold their frames in memory.
WAITING_SHOTS = 2
LOGGED_STEPS = 10


class Reporter(Protocol):
    """Where a worker's words go."""

    def say(self, message: str) -> None: ...

    def figures(self, figures: dict[str, Any]) -> None: ...


class Printer:
    """Words on standard output, the newest figures in a file if one is named: a worker without Dagster."""

    def __init__(self, progress: Path | None = None) -> None:
        self._progress = progress

    def say(self, message: str) -> None:
        sys.stdout.write(message + "\n")
        sys.stdout.flush()

    def figures(self, figures: dict[str, Any]) -> None:
        if self._progress is not None:
            unfinished = self._progress.with_suffix(".new")
            unfinished.write_text(json.dumps(figures))
            unfinished.replace(self._progress)


class PipesReporter:
    """Words in Dagster's event log, figures as Pipes messages."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def say(self, message: str) -> None:
        self._context.log.info(message)

    def figures(self, figures: dict[str, Any]) -> None:
        self._context.report_custom_message(figures)


class Stop:
    """Set by SIGTERM: no further shot is begun. A second signal ends the process at once."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        self.asked, self._wake = False, wake

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.asked = True
        self._wake()
        signal.signal(number, signal.SIG_DFL)


class Worker:
    """One job on one loaded model."""

    def __init__(
        self,
        job: ClipJob,
        store: ObjectStore,
        reporter: Reporter,
        stop: Stop,
        scratch: Path,
        resident: Resident | None = None,
    ) -> None:
        self._job, self._store, self._reporter, self._stop, self._scratch = (
            job,
            store,
            reporter,
            stop,
            scratch,
        )
        self._resident = resident or Resident()
        self._is_tight = False
        self._failures: dict[str, ClipFailure] = {}
        self._figures: dict[str, Any] = {"made": 0, "skipped": 0, "forwards": 0, "loads": 0}
        self._began = time.monotonic()

    def run(self, models: Path, memory: str) -> Exit:
        """Make what is missing; the report is written however it ends."""
        missing = [
            (key, request)
            for key, request in self._job.keyed()
            if finished_clip(self._store, self._job.prefix, key) is None
        ]
        self._figures["skipped"] = len(self._job.requests) - len(missing)
        try:
            if missing:
                self._make(missing, models, memory)
        finally:
            self._release_if_tight()
            self._figures["total_s"] = time.monotonic() - self._began
            report = JobReport(self._failures, self._figures)
            self._store.put(report_key(self._job.job_id), report.as_json())
            self._reporter.figures({"figures": self._figures})
        left = len(missing) - self._figures["made"] - len(self._failures)
        return Exit.STOPPED if left else Exit.DONE

    def _make(self, missing: list[tuple[str, ClipRequest]], models: Path, memory: str) -> None:
        painter = self._loaded(models, memory, [request for _, request in missing])
        before = painter.forwards
        self._reporter.say(f"{self._job.model} is loaded ({painter.place}); {len(missing)} shots to make.")
        under_way: list[tuple[str, Future[None]]] = []
        with ThreadPoolExecutor(1, thread_name_prefix="encode") as encoder:
            for number, (key, request) in enumerate(missing, start=1):
                if self._stop.asked:
                    self._reporter.say(
                        f"Asked to stop: {len(missing) - number + 1} shots are left for the next run."
                    )
                    break
                shot = self._painted(painter, key, request, f"Shot {number} of {len(missing)}")
                if shot is not None:
                    under_way.append((key, encoder.submit(self._finish, key, request, shot)))
                if len(under_way) >= WAITING_SHOTS:
                    self._settle(*under_way.pop(0))
            with self._timed("last_encoding_s"):
                for key, future in under_way:
                    self._settle(key, future)
        self._figures |= {"forwards": painter.forwards - before, "peak_memory_bytes": painter.peak_memory()}

    def _release_if_tight(self) -> None:
        if self._resident.release() if self._is_tight else self._resident.release_if_tight():
            self._reporter.say("Memory is tight: the model is let go.")

    def _loaded(self, models: Path, memory: str, requests: list[ClipRequest]) -> "Painter":
        loads = self._resident.loads
        with self._timed("load_s"):
            self._resident.load(self._job.model, models, memory)
        with self._timed("prompts_s"):
            painter = self._resident.read_prompts(requests)
        self._figures["loads"] = self._resident.loads - loads
        return painter

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._figures[name] = self._figures.get(name, 0.0) + time.monotonic() - began

    def _painted(self, painter: "Painter", key: str, request: ClipRequest, title: str) -> "Shot | None":
        """The frames of a shot; None where it failed, which the report then says."""
        import torch

        def on_step(step: int, steps: int) -> None:
            seconds = time.monotonic() - began
            self._reporter.figures({"clip": key, "step": step, "steps": steps, "seconds": round(seconds, 3)})
            if step == steps or step % max(steps // LOGGED_STEPS, 1) == 0:
                self._reporter.say(f"{title}: step {step} of {steps}, {seconds:.1f} s.")

        began = time.monotonic()
        try:
            with self._timed("painting_s"):
                return painter.paint(request, self._still(request), on_step)
        except torch.OutOfMemoryError:
            painter.free_memory()
            self._is_tight = True
            self._failed(key, _no_memory(painter, request))
        except PipelineError as error:
            self._failed(key, error)
        return None

    def _still(self, request: ClipRequest) -> Path | None:
        if request.image_key is None:
            return None
        path = self._scratch / f"{abs(hash(request.image_key))}.still"
        try:
            self._store.download(request.image_key, path)
        except ObjectMissing as error:
            raise PermanentError(
                f"The picture to start from, {request.image_key!r}, is not there.",
                code="still_missing",
                remedy="Upload it again, or ask for the clip without it.",
            ) from error
        return path

    def _failed(self, key: str, error: PipelineError) -> None:
        self._failures[key] = ClipFailure(key, error.kind, error.code, error.message, error.remedy)
        self._reporter.say(str(error))

    def _settle(self, key: str, encoded: "Future[None]") -> None:
        try:
            encoded.result()
            self._figures["made"] += 1
        except PipelineError as error:
            self._failed(key, error)

    def _finish(self, key: str, request: ClipRequest, shot: "Shot") -> None:
        """Encode, look at it, store it, and only then note that it exists."""
        import av

        path = self._scratch / f"{key}.mp4"
        try:
            with self._timed("encoding_s"):
                encode_clip(path, shot.frames, shot.fps, shot.audio, shot.audio_rate)
                facts = examine_clip(path)
        except (av.FFmpegError, OSError) as error:
            raise TransientError(
                f"The clip could not be written: {error}.",
                code="clip_not_written",
                remedy="Look at the space on the worker's disk; the next try makes it.",
            ) from error
        if facts.frames != len(shot.frames):
            raise PermanentError(
                f"The clip has {facts.frames} frames instead of {len(shot.frames)}.",
                code="clip_incomplete",
                remedy="See the worker's log; the encoder lost frames.",
            )
        with self._timed("storing_s"):
            place = clip_key(self._job.prefix, key)
            self._store.put_file(place, path)
            write_note(self._store, self._job.prefix, self._result(key, request, shot, place, facts))
        path.unlink()

    def _result(self, key: str, request: ClipRequest, shot: "Shot", place: str, facts: Any) -> ClipResult:
        import diffusers
        import torch

        return ClipResult(
            engine=self._job.engine,
            model=self._job.model,
            request_key=key,
            object_key=place,
            sha256=facts.sha256,
            seed=request.seed,
            width=facts.width,
            height=facts.height,
            fps=facts.fps,
            frames=facts.frames,
            has_audio=facts.has_audio,
            cost_microusd=0,
            provenance={
                "torch": torch.__version__,
                "diffusers": diffusers.__version__,
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
                "forwards": str(shot.forwards),
                "paint_seconds": f"{shot.seconds:.3f}",
            },
        )


def _no_memory(painter: "Painter", request: ClipRequest) -> PermanentError:
    width, height = painter.model.size(request)
    return PermanentError(
        f"{painter.model.name} has no room on this GPU for {painter.model.frames(request)} frames of {width}x{height}.",
        code="gpu_out_of_memory",
        remedy="Ask for a smaller or shorter clip, set ETTAMETTA_GPU_MEMORY to group_offload, or take a larger GPU.",
    )


def main(arguments: list[str] | None = None) -> int:
    """Entry point. `--job` names a file, or an object of the store with `store:` in front.

    `--serve` takes job after job from standard input and answers on the file descriptor it names.
    """
    parser = argparse.ArgumentParser(description="Makes the clips of one job, or of job after job.")
    one_or_many = parser.add_mutually_exclusive_group(required=True)
    one_or_many.add_argument("--job")
    one_or_many.add_argument("--serve", type=int, metavar="FD")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input is closed")
    asked = parser.parse_args(arguments)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    resident = Resident()
    if asked.serve is not None:
        return int(_served(asked.serve, resident))
    stop = Stop()
    signal.signal(signal.SIGTERM, stop)
    if asked.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    with _reporter() as reporter:
        return _ended(asked.job, reporter, stop, resident)


def _served(answers: int, resident: Resident) -> Exit:
    orders = Orders()
    stop = Stop(orders.wake)
    signal.signal(signal.SIGTERM, stop)

    def work(order: Order) -> int:
        return _ended(order.job, Printer(Path(order.progress)), stop, resident)

    def on_idle() -> None:
        if resident.release():
            Printer().say("Nothing was ordered for a while: the model is let go.")

    return serve(orders, answers, work, lambda: stop.asked, get_settings().gpu_idle_s, on_idle)


_EXIT_OF = {"gpu_model_missing": Exit.NO_MODEL, "gpu_out_of_memory": Exit.OUT_OF_MEMORY}
_EXIT_OF_KIND = {
    FailureKind.PERMANENT: Exit.BAD_JOB,
    FailureKind.TRANSIENT: Exit.TRY_AGAIN,
    FailureKind.NEEDS_PERSON: Exit.NO_MODEL,
}


def _ended(job: str, reporter: Reporter, stop: Stop, resident: Resident) -> int:
    """One job to its end, as an exit code."""
    try:
        return int(_run(job, reporter, stop, resident))
    except PipelineError as error:
        reporter.say(str(error))
        return int(_EXIT_OF.get(error.code) or _EXIT_OF_KIND[error.kind])
    except MemoryError:
        reporter.say("There is no memory left to load the model.")
    resident.release()
    return int(Exit.OUT_OF_MEMORY)


def _run(name: str, reporter: Reporter, stop: Stop, resident: Resident) -> Exit:
    settings = get_settings()
    store = open_store(settings)
    try:
        key = name.removeprefix("store:")
        job = ClipJob.from_json(Path(name).read_bytes() if key == name else store.get(key))
    except (OSError, ObjectMissing) as error:
        raise bad_job(f"{name} is not there") from error
    if settings.gpu_models_dir is None:
        raise NeedsPersonError(
            "It is not said where the models lie.",
            code="gpu_model_missing",
            remedy="Set ETTAMETTA_GPU_MODELS_DIR to the directory with a checkpoint per model.",
        )
    with tempfile.TemporaryDirectory(prefix="clips-") as scratch:
        return Worker(job, store, reporter, stop, Path(scratch), resident).run(
            settings.gpu_models_dir, settings.gpu_memory
        )


def _end_with_parent() -> None:
    # Whoever started us holds the other end. A job whose holder is gone is begun anew elsewhere, so this one must not
    # go on beside it.
    while os.read(0, 1):
        pass
    os._exit(Exit.STOPPED)


@contextmanager
def _reporter() -> Iterator[Reporter]:
    from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, open_dagster_pipes

    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in os.environ:
        yield Printer(get_settings().gpu_progress)
        return
    # In a pod, messages are lines on standard error. A library's progress bar there, which ends in no newline, would
    # swallow the line that follows; so standard error is ours alone and everybody else's goes to standard output.
    ours = io.TextIOWrapper(os.fdopen(os.dup(2), "wb", buffering=0), write_through=True)
    theirs, sys.stderr = sys.stderr, ours
    os.dup2(1, 2)
    try:
        with open_dagster_pipes() as context:
            sys.stderr = theirs
            yield PipesReporter(context)
    finally:
        sys.stderr = theirs


if __name__ == "__main__":
    sys.exit(main())
