"""What is asked of a generator of clips, and what it hands back: one request and one result for every engine.

Values only. Which engine gets a request is the router's decision; how one is worked off, the engine's; both sides of
a GPU job (the asset that orders it and the worker that runs it, on whatever machine) exchange these as JSON.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from ettametta_pipelines.failures import FailureKind


@dataclass(frozen=True)
class ClipRequest:
    """One clip to be made.

    Args:
        prompt: what is to be seen, in words.
        negative_prompt: what is not wanted; engines without it refuse a request that has one only if told to.
        seconds: asked length; an engine may round it to what its model can make and says so in the result.
        width, height: asked size in pixels.
        fps: frames a second.
        seed: whole number from 0 to 2**32 - 1.
        image_key: object key of a still the clip starts from; None for text alone.
        image_sha256: its content, so that the request names what it means and not where that lies.
    """

    prompt: str
    seconds: float
    width: int
    height: int
    fps: int
    seed: int
    negative_prompt: str = ""
    image_key: str | None = None
    image_sha256: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def request_key(engine: str, model: str, request: ClipRequest) -> str:
    """Name of the clip an engine's model makes of a request: 32 hex digits, the same wherever it is computed.

    The key of the image is left out: the same picture elsewhere gives the same clip.
    """
    meant = request.as_json() | {"engine": engine, "model": model}
    del meant["image_key"]
    document = json.dumps(meant, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(document.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class ClipResult:
    """One clip that was made and lies in the object store under `media/clips/{engine}/{request_key}.mp4`.

    Args:
        cost_microusd: what it cost by the engine's answer, in millionths of a US dollar; 0 for an engine that is not
            paid by the clip, None when the engine does not say.
        provenance: further facts worth keeping (operation id, scheduler, library versions), text to text.
    """

    engine: str
    model: str
    request_key: str
    object_key: str
    sha256: str
    seed: int
    width: int
    height: int
    fps: float
    frames: int
    has_audio: bool
    cost_microusd: int | None
    provenance: dict[str, str] = field(default_factory=dict)
    synthetic: bool = True


@dataclass(frozen=True)
class ClipFailure:
    """One request of a job that gave no clip; code and remedy as in `failures.PipelineError`."""

    request_key: str
    kind: FailureKind
    code: str
    message: str
    remedy: str


class ClipRunner(Protocol):
    """Works off several requests for one model, loaded once: in a pod, a subprocess, or on a render node."""

    def run(
        self, job_id: str, engine: str, model: str, requests: Sequence[ClipRequest]
    ) -> Sequence[ClipResult | ClipFailure]:
        """One outcome a request, in their order.

        A `job_id` that ran before is taken up again where it stopped; clips that exist are not made anew.

        Raises:
            PipelineError: the job as a whole could not run (no node, no memory, cancelled).
        """
        ...
