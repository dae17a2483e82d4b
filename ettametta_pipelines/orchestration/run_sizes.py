"""What a run's pod is given, by what the run does: a table of sizes and the steps that need more than the usual.

All steps of a run share its one process, so a run is as large as its largest step. Knows nothing of Dagster; the
cluster's run launcher (`orchestration/kubernetes_runs.py`) asks. GPU work is in pods of its own, described in
k8s/base/gpu-pod.yaml.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class RunSize:
    """Requests, in Kubernetes' words. Memory and scratch are limits as well; more processor time is free."""

    cpu: str
    memory: str
    scratch: str

    def resources(self) -> dict[str, dict[str, str]]:
        kept = {"memory": self.memory, "ephemeral-storage": self.scratch}
        return {"requests": {"cpu": self.cpu, **kept}, "limits": kept}


# From the smallest to the largest.
SIZES = {
    "usual": RunSize("500m", "2Gi", "2Gi"),
    # Tables of months, sorted and joined in memory.
    "tables": RunSize("1", "4Gi", "8Gi"),
    # One video read from end to end, or written once.
    "media": RunSize("2", "4Gi", "20Gi"),
    # Up to three encoders at once beside the decoder, on sources up to 4K.
    "renders": RunSize("4", "8Gi", "40Gi"),
}
STEP_SIZES = {
    "renditions": "renders",
    "thumbnails": "media",
    "source_media": "media",
    "media_analysis": "media",
    "synthesized_clips": "media",
    "source_assessments": "media",
    "youtube_publications": "media",
    "tiktok_publications": "media",
    "table_packs": "tables",
    "scored_candidates": "tables",
    "score_challenger": "tables",
    "score_quality": "tables",
    "daily_revenue": "tables",
    "revenue_attribution": "tables",
    "content_margin": "tables",
    "storage_inventory": "tables",
}


def size_of(steps: Iterable[str]) -> str:
    """The name of the size that the largest of these steps needs."""
    order = list(SIZES)
    return max((STEP_SIZES.get(step, order[0]) for step in steps), key=order.index, default=order[0])
