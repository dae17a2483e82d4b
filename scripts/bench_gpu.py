"""Times the GPU worker with a full-size, randomly initialised LTX-2, beside its bare forwards in the same run.

`make bench-gpu`, or `python scripts/bench_gpu.py` on any machine with the packages of the `gpu` extra. Random weights
take as long as trained ones. The text encoder is left out: prompts are read once a job, so embeddings of the right
shape stand in for it. The last line is the verdict: the worker's clip may take 1.2 times the sum of eight transformer
forwards, one decoding of picture and sound, and the vocoder. Without a GPU it is a rehearsal: the same steps with a
tiny model on the processor, to show that the command works; its figures mean nothing.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BAR = 1.2
PUBLISHED_S, PUBLISHED_BY = 9.52, "SGLang, one H100, bf16"
FPS = 24


@dataclass(frozen=True)
class Size:
    """What is timed: pixels, frames, words of the prompt, and how many clips after one that warms up."""

    width: int
    height: int
    frames: int
    tokens: int
    clips: int


FULL, REHEARSAL = Size(768, 512, 121, 1024, 3), Size(192, 128, 25, 64, 2)


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def full_size(torch: Any) -> Any:
    """LTX-2 as it is published (19 B), on the GPU in bf16, without its text encoder."""
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2Pipeline,
        LTX2VideoTransformer3DModel,
    )
    from diffusers.pipelines.ltx2 import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        parts = {
            "transformer": LTX2VideoTransformer3DModel(),
            "vae": AutoencoderKLLTX2Video(),
            "audio_vae": AutoencoderKLLTX2Audio(),
            "connectors": LTX2TextConnectors(),
            "vocoder": LTX2Vocoder(),
        }
    torch.set_default_dtype(torch.float32)
    for part in parts.values():
        part.to(torch.bfloat16).eval()
    return LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), tokenizer=None, text_encoder=None, **parts
    )


def tiny() -> Any:
    """The model of the worker's tests."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from ettametta_pipelines_tests.synthesis.gpu.tiny_models import ltx_2

    return ltx_2()


class Stopwatch:
    """Seconds in each forward of a part, waited for on the GPU."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self._wait, self.seconds, self.calls = wait, {}, {}

    def watch(self, name: str, holder: Any, method: str) -> None:
        plain: Callable[..., Any] = getattr(holder, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._wait()
            began = time.perf_counter()
            made = plain(*args, **kwargs)
            self._wait()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            self.calls[name] = self.calls.get(name, 0) + 1
            return made

        setattr(holder, method, timed)


def worker_figures(painter: Any, size: Size, requests: list[Any]) -> dict[str, Any]:
    """What the worker says of a job of all but the first request, which only warms up."""
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.synthesis import diffusion, resident
    from ettametta_pipelines.synthesis.job import JobReport, make_job
    from ettametta_pipelines.synthesis.worker import Printer, Stop, Worker

    diffusion.load_painter = lambda *_: painter  # type: ignore[assignment]
    # It stays for the bare forwards, however little memory the machine has left.
    resident.memory_available = lambda: 1.0
    with TemporaryDirectory() as scratch:
        store = ObjectStore.from_url(Path(scratch, "store").as_uri())
        for name, some in (("warm", requests[:1]), ("timed", requests[1:])):
            job = make_job(name, "bench", "ltx-2-distilled", some)
            Worker(job, store, Printer(), Stop(), Path(scratch)).run(Path(scratch), "resident")
        figures = dict(JobReport.read(store, "timed").figures)
    if figures["made"] != size.clips:
        raise RuntimeError(f"{figures['made']} of {size.clips} clips were made")
    return figures


def bare_forwards(painter: Any, pipe: Any, request: Any, wait: Callable[[], None]) -> Stopwatch:
    """Seconds and calls of each part that computes, for one clip."""
    watch = Stopwatch(wait)
    for name, holder, method in (
        ("transformer", pipe.transformer, "forward"),
        ("picture decoder", pipe.vae, "decode"),
        ("sound decoder", pipe.audio_vae, "decode"),
        ("vocoder", pipe.vocoder, "forward"),
    ):
        watch.watch(name, holder, method)
    painter.paint(request, None, lambda step, steps: None)
    return watch


def main() -> int:
    try:
        import torch
    except ImportError:
        say(
            "torch is not installed here: `scripts/install_gpu_worker.sh DIRECTORY` makes an environment with it."
        )
        return 0
    from ettametta_pipelines.synthesis import diffusion
    from ettametta_pipelines.synthesis.gpu_models import gpu_model
    from ettametta_pipelines.synthesis.requests import ClipRequest

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    name = torch.cuda.get_device_name() if on_gpu else "the processor"
    size, wait = (FULL, torch.cuda.synchronize) if on_gpu else (REHEARSAL, lambda: None)
    if not on_gpu:
        say("There is no GPU here: a rehearsal with a tiny model on the processor. Its figures mean nothing.")
        # Several threads on matrices this small wait for each other.
        torch.set_num_threads(1)
    say(f"{name}, torch {torch.__version__}; making LTX-2 with random weights ...")
    pipe = full_size(torch) if on_gpu else tiny()
    painter = diffusion.Painter(gpu_model("ltx-2-distilled"), pipe, device, "resident", lambda: None)
    read = pipe.connectors.config
    embeds = torch.randn(
        1,
        size.tokens,
        read.caption_channels * read.text_proj_in_factor,
        device=device,
        dtype=pipe.transformer.dtype,
    )
    mask = torch.ones(1, size.tokens, device=device, dtype=torch.int64)
    painter.read_prompts = lambda requests: painter._prompts.update(  # type: ignore[method-assign]
        {(r.prompt, ""): {"prompt_embeds": embeds, "prompt_attention_mask": mask} for r in requests}
    )
    seconds = size.frames / FPS
    requests = [
        ClipRequest("a red kite", seconds, size.width, size.height, FPS, seed)
        for seed in range(size.clips + 1)
    ]
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    figures = worker_figures(painter, size, requests)
    before = painter.forwards
    watch = bare_forwards(painter, pipe, requests[1], wait)
    bare, clip = sum(watch.seconds.values()), figures["total_s"] / size.clips
    rows = {f"bare {part} x{watch.calls[part]}": took for part, took in watch.seconds.items()}
    rows |= {
        "bare forwards together": bare,
        "painting a clip": figures["painting_s"] / size.clips,
        "encoding a clip, meanwhile": figures["encoding_s"] / size.clips,
        "storing a clip, meanwhile": figures["storing_s"] / size.clips,
        "waiting for the last one": figures["last_encoding_s"] / size.clips,
        "a clip by the worker": clip,
        f"published ({PUBLISHED_BY})": PUBLISHED_S,
    }
    say(
        f"{size.clips} clips of {size.width}x{size.height}, {size.frames} frames, 8 steps; seconds a clip by stage:"
    )
    for part, took in rows.items():
        say(f"{part:<36} {took:8.2f} s")
    peak = figures["peak_memory_bytes"] or 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    say(f"{'peak memory' + ('' if on_gpu else ' of the process'):<36} {peak / 2**30:8.1f} GiB")
    say(f"{'transformer forwards a clip':<36} {figures['forwards'] / size.clips:8g}")
    say(f"{'transformer forwards, bare':<36} {painter.forwards - before:8d}")
    said = {"device": name, "clip_s": clip, "bare_s": bare, "ratio": clip / bare, "peak_bytes": peak}
    say(json.dumps(said | {"rehearsal": not on_gpu}))
    say(f"{clip / bare:.2f} times the bare forwards (at most {BAR} on a GPU).")
    return 1 if on_gpu and clip > BAR * bare else 0


if __name__ == "__main__":
    sys.exit(main())
