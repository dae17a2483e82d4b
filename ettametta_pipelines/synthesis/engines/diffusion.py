"""LTX-2 and Wan2.2 on a GPU: which runner the settings name. What runs there, and how, is the runners' own business."""

from typing import TYPE_CHECKING

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.synthesis.requests import ClipRunner

if TYPE_CHECKING:
    from ettametta_pipelines.settings import Settings
    from ettametta_pipelines.storage.objects import ObjectStore


def runner_name(settings: "Settings") -> str | None:
    """Where GPU jobs are run; None where nowhere, and then no GPU engine is planned."""
    return None


def open_clip_runner(settings: "Settings", store: "ObjectStore") -> ClipRunner:
    """The runner of these settings. Raises NeedsPersonError `no_gpu_configured`."""
    raise NeedsPersonError(
        "There is no GPU that clips could be made on.",
        code="no_gpu_configured",
        remedy="Configure one, or plan with another engine.",
    )
