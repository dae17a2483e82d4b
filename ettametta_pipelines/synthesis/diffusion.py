"""Runs one diffusers pipeline: loads a checkpoint from a directory, reads prompts, paints shots, counts what it did.

Part of the GPU image, where torch and diffusers are; nothing of the code location imports it. Called by `worker.py`.
Prompts are read first, all of a job's, and the text encoder (a third of the memory) is let go before the first shot.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.synthesis.engines.cinematic import MAX_PIXELS
from ettametta_pipelines.synthesis.gpu_models import GpuModel, gpu_model
from ettametta_pipelines.synthesis.requests import ClipRequest

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

# Share of the memory that is left for activations when `auto` decides whether a model stays on the GPU.
HEADROOM = 0.25
# Between the darkest and the brightest of a clip's 8-bit values; less is no picture.
LEAST_CONTRAST = 4
OnStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Shot:
    """Frames (count, height, width, 3) as RGB bytes, sound (channels, samples) or None, and what it took."""

    frames: "NDArray[np.uint8]"
    fps: int
    audio: "NDArray[np.float32] | None"
    audio_rate: int
    forwards: int
    seconds: float


class Painter:
    """A loaded model. One thread at a time."""

    def __init__(
        self,
        model: GpuModel,
        pipe: Any,
        device: "torch.device",
        memory: str,
        read_encoder: Callable[[], Any],
    ) -> None:
        """`read_encoder` loads the text encoder alone, for prompts that come after it was let go."""
        self.model = model
        self._pipe = pipe
        self._device = device
        self._memory = memory
        self._read_encoder = read_encoder
        self._is_settled = False
        self._from_image: Any = None
        self._prompts: dict[tuple[str, str], dict[str, Any]] = {}
        self.forwards = 0
        pipe.set_progress_bar_config(disable=True)
        for part in (pipe.transformer, getattr(pipe, "transformer_2", None)):
            if part is not None:
                part.register_forward_pre_hook(self._count)

    def _count(self, _module: Any, _arguments: Any) -> None:
        self.forwards += 1

    @property
    def place(self) -> str:
        return f"{self._device.type}, {self._memory}"

    def read_prompts(self, requests: Sequence[ClipRequest]) -> None:
        """Turn every prompt of the job into what the model reads, and let the text encoder go.

        Those of earlier jobs are forgotten: LTX-2's are some 400 MB each.
        """
        import torch

        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        wanted = dict.fromkeys((request.prompt, self._negative(request)) for request in requests)
        self._prompts = {prompt: read for prompt, read in self._prompts.items() if prompt in wanted}
        try:
            for prompt in wanted:
                if prompt not in self._prompts:
                    self._have_encoder()
                    with torch.no_grad():
                        self._prompts[prompt] = self._read(*prompt)
        finally:
            self._pipe.text_encoder = None
            self.free_memory()
        if not self._is_settled:
            self._settle()
            self._is_settled = True

    def _have_encoder(self) -> None:
        if self._pipe.text_encoder is None:
            self._pipe.text_encoder = self._read_encoder()
        self._pipe.text_encoder.to(self._device)

    def _negative(self, request: ClipRequest) -> str:
        return request.negative_prompt if self.model.uses_negative_prompt else ""

    def _read(self, prompt: str, negative: str) -> dict[str, Any]:
        guided = self.model.uses_negative_prompt
        read = self._pipe.encode_prompt(
            prompt=[prompt],
            negative_prompt=[negative] if guided else None,
            do_classifier_free_guidance=guided,
            device=self._device,
        )
        names: tuple[str, ...] = (
            "prompt_embeds",
            "prompt_attention_mask",
            "negative_prompt_embeds",
            "negative_prompt_attention_mask",
        )
        if self.model.family == "wan":
            names = ("prompt_embeds", "negative_prompt_embeds")
        return {name: value for name, value in zip(names, read, strict=True) if value is not None}

    def _settle(self) -> None:
        """Put the rest of the model where it is to run."""
        import torch

        pipe, memory = self._pipe, self._memory
        if memory == "auto":
            memory = "resident" if self._device.type == "cpu" or _fits(pipe) else "group_offload"
        if memory == "fp8":
            pipe.transformer.enable_layerwise_casting(
                storage_dtype=torch.float8_e4m3fn, compute_dtype=pipe.transformer.dtype
            )
        if memory == "group_offload":
            pipe.enable_group_offload(
                onload_device=self._device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=self._device.type == "cuda",
            )
        elif memory == "model_offload" and self._device.type != "cpu":
            pipe.enable_model_cpu_offload(device=self._device)
        else:
            pipe.to(self._device)
        if self.model.cache == "first_block":
            from diffusers.hooks import FirstBlockCacheConfig

            pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.05))
        self._memory = memory

    def paint(self, request: ClipRequest, image: Path | None, on_step: OnStep) -> Shot:
        """One shot. The same request gives the same frames on the same hardware and versions.

        Raises PermanentError `clip_too_long`, `still_unreadable`, and `clip_spoilt` for what nobody could look at;
        torch's OutOfMemoryError passes through.
        """
        import torch

        began, forwards = time.monotonic(), self.forwards
        width, height = self.model.size(request)
        steps = self.model.steps
        asked: dict[str, Any] = {
            **self._prompts[(request.prompt, self._negative(request))],
            **self.model.knobs,
            "width": width,
            "height": height,
            "num_frames": self.model.frames(request),
            "generator": torch.Generator("cpu").manual_seed(request.seed),
            "output_type": "pt",
            "callback_on_step_end": _stepper(on_step, steps),
        }
        if self.model.own_levels:
            from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES

            asked["sigmas"] = DISTILLED_SIGMA_VALUES
        else:
            asked["num_inference_steps"] = steps
        if self.model.family == "ltx-2":
            asked["frame_rate"] = float(self.model.rate(request))
        pipe = self._pipe
        if image is not None:
            pipe, asked["image"] = self._image_pipe(), _opened(image)
        with torch.no_grad():
            made = pipe(**asked)
        audio = getattr(made, "audio", None)
        for part in (made.frames, audio):
            if part is not None and not torch.isfinite(part).all():
                raise _spoilt(self.model.name, "reckoned itself into numbers that are none")
        frames = _as_bytes(made.frames[0])
        if int(frames.max()) - int(frames.min()) < LEAST_CONTRAST:
            raise _spoilt(self.model.name, "made every picture of one colour")
        sound = None if audio is None else audio[0].float().cpu().numpy()
        rate = 0 if sound is None else int(pipe.vocoder.config.output_sampling_rate)
        seconds = time.monotonic() - began
        return Shot(frames, self.model.rate(request), sound, rate, self.forwards - forwards, seconds)

    def _image_pipe(self) -> Any:
        """The same weights behind the pipeline that starts from a picture."""
        if self._from_image is None:
            from diffusers import LTX2ImageToVideoPipeline, WanImageToVideoPipeline

            kind = LTX2ImageToVideoPipeline if self.model.family == "ltx-2" else WanImageToVideoPipeline
            self._from_image = kind.from_pipe(self._pipe)
            self._from_image.set_progress_bar_config(disable=True)
        return self._from_image

    def peak_memory(self) -> int:
        """Bytes of the GPU that were reserved at most since the prompts were read; 0 on a CPU."""
        import torch

        return torch.cuda.max_memory_reserved() if self._device.type == "cuda" else 0

    def close(self) -> None:
        """Let go of the model; it cannot paint any more."""
        self._pipe = self._from_image = None
        self._prompts = {}
        self.free_memory()

    def free_memory(self) -> None:
        """Give back what nothing holds any more."""
        import torch

        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def load_painter(name: str, directory: Path, memory: str = "auto") -> Painter:
    """Load a checkpoint of `gpu_models.MODELS` from `{directory}/{name}`; nothing is downloaded.

    Raises PermanentError `unknown_gpu_model`, NeedsPersonError `gpu_model_missing`.
    """
    model = gpu_model(name)
    place = directory / name
    if not (place / "model_index.json").is_file():
        raise NeedsPersonError(
            f"There is no checkpoint of {name} in {directory}.",
            code="gpu_model_missing",
            remedy=f"Put the diffusers checkpoint into {place}, or point ETTAMETTA_GPU_MODELS_DIR to where it is.",
        )
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = torch.bfloat16 if device.type == "cuda" else torch.float32
    parts: dict[str, Any] = {}
    if model.family == "wan":
        from diffusers import AutoencoderKLWan

        # Its decoder loses detail in half precision; the checkpoint keeps it whole for that.
        parts["vae"] = AutoencoderKLWan.from_pretrained(place, subfolder="vae", dtype=torch.float32)
    pipe = DiffusionPipeline.from_pretrained(place, dtype=precision, local_files_only=True, **parts)
    encoder = type(pipe.text_encoder)
    return Painter(
        model,
        pipe,
        device,
        memory,
        lambda: encoder.from_pretrained(place / "text_encoder", dtype=precision, local_files_only=True),
    )


def _fits(pipe: Any) -> bool:
    import torch

    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    needed = sum(
        t.numel() * t.element_size() for part in parts for t in (*part.parameters(), *part.buffers())
    )
    free, total = torch.cuda.mem_get_info()
    return bool(needed + HEADROOM * total <= free)


def _stepper(on_step: OnStep, steps: int) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    def after(_pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        on_step(step + 1, steps)
        return values

    return after


def _opened(path: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels")
            return picture.convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise PermanentError(
            f"The picture to start from cannot be used ({type(error).__name__}).",
            code="still_unreadable",
            remedy="Take another picture: JPEG, PNG or WebP of at most 80 megapixels.",
        ) from error


def _spoilt(model: str, what: str) -> PermanentError:
    return PermanentError(
        f"{model} {what}.",
        code="clip_spoilt",
        remedy="Order another seed; if every clip ends so, set ETTAMETTA_GPU_MEMORY to something else than fp8.",
    )


def _as_bytes(video: "torch.Tensor") -> "NDArray[np.uint8]":
    """(frames, channels, height, width) in 0 to 1, wherever it lies, as RGB bytes on the host."""
    import torch

    scaled = (video.float() * 255).round_().clamp_(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()  # type: ignore[no-any-return]
