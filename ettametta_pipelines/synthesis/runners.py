"""Chooses where GPU jobs are run: a render node, a pod, or this machine, by what is configured.

One table; the runners themselves are in `node_client.py`, `pod.py` and `local.py`. Called by the synthesis assets.
"""

from typing import TYPE_CHECKING

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.synthesis.requests import ClipRunner

if TYPE_CHECKING:
    import dagster as dg

    from ettametta_pipelines.storage.objects import ObjectStore

VARIABLES = {"node": "RENDER_NODE_URL", "pod": "ETTAMETTA_GPU_IMAGE", "local": "ETTAMETTA_GPU_PYTHON"}


def chosen_runner(settings: Settings) -> str | None:
    """`node`, `pod` or `local`; None where no GPU is configured. Raises NeedsPersonError `gpu_runner_unconfigured`."""
    configured = {
        "node": bool(settings.render_node_url),
        "pod": bool(settings.gpu_image),
        "local": settings.gpu_python is not None,
    }
    if settings.gpu_runner == "auto":
        return next((name for name, is_set in configured.items() if is_set), None)
    if not configured[settings.gpu_runner]:
        raise NeedsPersonError(
            f"ETTAMETTA_GPU_RUNNER is {settings.gpu_runner}, but {VARIABLES[settings.gpu_runner]} is not set.",
            code="gpu_runner_unconfigured",
            remedy=f"Set {VARIABLES[settings.gpu_runner]}, or unset ETTAMETTA_GPU_RUNNER.",
        )
    return settings.gpu_runner


def open_runner(
    settings: Settings,
    store: "ObjectStore",
    context: "dg.AssetExecutionContext | dg.OpExecutionContext | None" = None,
) -> ClipRunner:
    """The runner of these settings, for the step of `context` or the one that is being executed; pods need one.

    Raises NeedsPersonError `no_gpu_configured`.
    """
    from ettametta_pipelines.synthesis.pipes import current_context

    chosen, context = chosen_runner(settings), context or current_context()
    if chosen == "node":
        from ettametta_pipelines.synthesis.node_client import NodeRunner

        return NodeRunner(settings, store, say=context.log.info if context is not None else None)
    if chosen == "pod" and context is not None:
        from ettametta_pipelines.synthesis.pod import PodRunner

        return PodRunner(context, settings, store)
    if chosen == "local" and settings.gpu_python is not None:
        from ettametta_pipelines.synthesis.local import LocalSubprocessRunner

        return LocalSubprocessRunner(settings, store, settings.gpu_python, context)
    raise NeedsPersonError(
        "There is no GPU that clips could be made on.",
        code="no_gpu_configured",
        remedy="Set one of " + ", ".join(VARIABLES.values()) + "; docs/gpu.md says which.",
    )
