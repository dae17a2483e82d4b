"""The models the GPU worker knows: sizes and lengths they can make, and the settings they must be run with.

A table; nothing of torch here. `diffusion.py` runs by it; engines ask it what a request will become.
Distilled models were trained without guidance: leaving any knob on costs up to four times the work and looks worse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.synthesis.requests import ClipRequest

# LTX-2 guides in three ways, each for picture and sound. Off is 1, 0 and 1.
LTX_WITHOUT_GUIDANCE: Mapping[str, Any] = {
    "guidance_scale": 1.0,
    "stg_scale": 0.0,
    "modality_scale": 1.0,
    "guidance_rescale": 0.0,
    "audio_guidance_scale": 1.0,
    "audio_stg_scale": 0.0,
    "audio_modality_scale": 1.0,
    "audio_guidance_rescale": 0.0,
    "spatio_temporal_guidance_blocks": None,
}


@dataclass(frozen=True)
class GpuModel:
    """How one checkpoint is run.

    Args:
        family: whose pipeline classes it is loaded with.
        steps: denoising steps; `own_levels` takes the noise levels it was distilled with instead of evenly spaced ones.
        knobs: further arguments of the pipeline's call.
        size_step, frame_step: width and height are multiples of the one, frames one more than a multiple of the other.
        fps: the only frame rate it was trained for; None takes any.
        max_frames: more are refused.
        cache: diffusers' cache for many steps; LTX-2's blocks are not registered for it.
    """

    name: str
    family: Literal["ltx-2", "wan"]
    steps: int
    own_levels: bool
    size_step: int
    frame_step: int
    fps: int | None
    max_frames: int
    knobs: Mapping[str, Any] = field(default_factory=dict)
    uses_negative_prompt: bool = False
    cache: Literal["first_block"] | None = None

    def size(self, request: ClipRequest) -> tuple[int, int]:
        """The nearest width and height it makes."""
        return (self._multiple(request.width), self._multiple(request.height))

    def _multiple(self, pixels: int) -> int:
        return max(round(pixels / self.size_step), 1) * self.size_step

    def rate(self, request: ClipRequest) -> int:
        return self.fps or request.fps

    def frames(self, request: ClipRequest) -> int:
        """The nearest number of frames. Raises PermanentError `clip_too_long`."""
        frames = (
            max(round((request.seconds * self.rate(request) - 1) / self.frame_step), 1) * self.frame_step + 1
        )
        if frames > self.max_frames:
            longest = self.max_frames / self.rate(request)
            raise PermanentError(
                f"{self.name} makes at most {longest:.1f} s at {self.rate(request)} frames a second, "
                f"not {request.seconds:g} s.",
                code="clip_too_long",
                remedy="Ask for a shorter clip, or split it into shots.",
            )
        return frames


MODELS: dict[str, GpuModel] = {
    model.name: model
    for model in (
        # Of the 2.0 checkpoint only: later ones were trained with cross timesteps.
        GpuModel(
            "ltx-2-distilled", "ltx-2", 8, True, 32, 8, None, 481,
            {**LTX_WITHOUT_GUIDANCE, "use_cross_timestep": False},
        ),
        GpuModel("ltx-2.3-distilled", "ltx-2", 8, True, 32, 8, None, 481, LTX_WITHOUT_GUIDANCE),
        GpuModel("ltx-2.5-distilled", "ltx-2", 8, True, 32, 8, None, 481, LTX_WITHOUT_GUIDANCE),
        # The undistilled model needs the guidance it was trained with: the pipeline's own defaults.
        GpuModel("ltx-2.3", "ltx-2", 30, False, 32, 8, None, 481, uses_negative_prompt=True),
        GpuModel(
            "wan2.2-ti2v-5b", "wan", 50, False, 32, 4, 24, 121, {"guidance_scale": 5.0},
            uses_negative_prompt=True, cache="first_block",
        ),
        GpuModel("wan2.2-ti2v-5b-distilled", "wan", 4, False, 32, 4, 24, 121, {"guidance_scale": 1.0}),
    )
}  # fmt: skip


def gpu_model(name: str) -> GpuModel:
    """Raises PermanentError `unknown_gpu_model` naming those there are."""
    if name not in MODELS:
        raise PermanentError(
            f"The GPU worker knows no model {name!r}.",
            code="unknown_gpu_model",
            remedy=f"Choose one of {', '.join(MODELS)}.",
        )
    return MODELS[name]
