"""LTX-2 and Wan2.2 on a GPU: which runner the settings name. What runs there, and how, is the runners' own business."""

from typing import TYPE_CHECKING

from ettametta_pipelines.synthesis.requests import ClipRunner
from ettametta_pipelines.synthesis.runners import chosen_runner, open_runner

if TYPE_CHECKING:
    from ettametta_pipelines.settings import Settings
    from ettametta_pipelines.storage.objects import ObjectStore


def runner_name(settings: "Settings") -> str | None:
    """Where GPU jobs are run; None where nowhere, and then no GPU engine is planned."""
    return chosen_runner(settings)


def open_clip_runner(settings: "Settings", store: "ObjectStore") -> ClipRunner:
    """The runner of these settings. Raises NeedsPersonError `no_gpu_configured`."""
    return open_runner(settings, store)
