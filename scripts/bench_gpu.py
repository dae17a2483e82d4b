"""Times the GPU worker with a full-size, randomly initialised LTX-2, beside its bare forwards in the same run.

`make bench-gpu`, or `python scripts/bench_gpu.py` on any machine with the packages of the `gpu` extra; without a GPU
it says so and ends. Random weights take as long as trained ones. The text encoder is left out: prompts are read once
a job, so embeddings of the right shape stand in for it. The last line is the verdict: the worker's clip may take 1.2
times the sum of eight transformer forwards, one decoding of picture and sound, and the vocoder.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BAR = 1.2
PUBLISHED = "9.5 s (SGLang, one H100, bf16)"
SECONDS, WIDTH, HEIGHT, FPS, CLIPS = 121 / 24, 768, 512, 24, 3


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


class Stopwatch:
    """Seconds in each forward of a part, waited for on the GPU."""

    def __init__(self, torch: Any) -> None:
        self._torch, self.seconds, self.calls = torch, {}, {}

    def watch(self, name: str, holder: Any, method: str) -> None:
        plain: Callable[..., Any] = getattr(holder, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._torch.cuda.synchronize()
            began = time.perf_counter()
            made = plain(*args, **kwargs)
            self._torch.cuda.synchronize()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            self.calls[name] = self.calls.get(name, 0) + 1
            return made

        setattr(holder, method, timed)


def main() -> int:
    try:
        import torch
    except ImportError:
        say(
            "torch is not installed here: `scripts/install_gpu_worker.sh DIRECTORY` makes an environment with it."
        )
        return 0
    if not torch.cuda.is_available():
        say("There is no GPU here, so there is nothing to time; run this where there is one.")
        return 0
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.synthesis import diffusion
    from ettametta_pipelines.synthesis.gpu_models import gpu_model
    from ettametta_pipelines.synthesis.job import JobReport, make_job
    from ettametta_pipelines.synthesis.requests import ClipRequest
    from ettametta_pipelines.synthesis.worker import Printer, Stop, Worker

    say(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; making LTX-2 with random weights ...")
    pipe = full_size(torch)
    painter = diffusion.Painter(
        gpu_model("ltx-2-distilled"), pipe, torch.device("cuda"), "resident", lambda: None
    )
    embeds = torch.randn(1, 1024, 3840, 49, device="cuda", dtype=torch.bfloat16).flatten(2)
    mask = torch.ones(1, 1024, device="cuda", dtype=torch.int64)
    painter.read_prompts = lambda requests: painter._prompts.update(  # type: ignore[method-assign]
        {(r.prompt, ""): {"prompt_embeds": embeds, "prompt_attention_mask": mask} for r in requests}
    )
    diffusion.load_painter = lambda *_: painter  # type: ignore[assignment]
    watch = Stopwatch(torch)
    requests = [ClipRequest("a red kite", SECONDS, WIDTH, HEIGHT, FPS, seed) for seed in range(CLIPS + 1)]
    with TemporaryDirectory() as scratch:
        store = ObjectStore.from_url(Path(scratch, "store").as_uri())
        worker_of = lambda job: Worker(job, store, Printer(), Stop(), Path(scratch))  # noqa: E731
        worker_of(make_job("warm", "bench", "ltx-2-distilled", requests[:1])).run(Path(scratch), "resident")
        torch.cuda.reset_peak_memory_stats()
        job = make_job("timed", "bench", "ltx-2-distilled", requests[1:])
        worker_of(job).run(Path(scratch), "resident")
        figures = JobReport.read(store, "timed").figures
    for name, holder, method in (
        ("transformer", pipe.transformer, "forward"),
        ("picture decoder", pipe.vae, "decode"),
        ("sound decoder", pipe.audio_vae, "decode"),
        ("vocoder", pipe.vocoder, "forward"),
    ):
        watch.watch(name, holder, method)
    before = painter.forwards
    painter.paint(requests[1], None, lambda step, steps: None)
    bare = sum(watch.seconds.values())
    clip = figures["total_s"] / CLIPS
    rows = {f"bare {name} x{watch.calls[name]}": seconds for name, seconds in watch.seconds.items()}
    rows |= {
        "bare forwards together": bare,
        "painting a clip": figures["painting_s"] / CLIPS,
        "encoding a clip": figures["encoding_s"] / CLIPS,
        "a clip by the worker": clip,
    }
    for name, seconds in rows.items():
        say(f"{name:<28} {seconds:8.2f} s")
    say(f"{'peak memory':<28} {figures['peak_memory_bytes'] / 2**30:8.1f} GiB")
    say(f"{'transformer forwards':<28} {painter.forwards - before:8d}")
    say(
        json.dumps(
            {"device": torch.cuda.get_device_name(), "clip_s": clip, "bare_s": bare, "ratio": clip / bare}
        )
    )
    say(f"{clip / bare:.2f} times the bare forwards (at most {BAR}); published elsewhere: {PUBLISHED}.")
    return 0 if clip <= BAR * bare else 1


if __name__ == "__main__":
    sys.exit(main())
