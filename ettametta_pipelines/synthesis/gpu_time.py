"""GPU time of finished clips, kept in the state once a clip; read by `operations/state_figures.py`."""

from collections.abc import Iterable

from ettametta_pipelines.state.models import DatabaseNow, GpuClip
from ettametta_pipelines.state.session import INSERTS, StateDatabase
from ettametta_pipelines.synthesis.requests import ClipResult

# Where a worker says how many seconds its GPU painted.
PAINTED = "paint_seconds"


def note_gpu_time(db: StateDatabase, clips: Iterable[ClipResult]) -> None:
    """Keep what the workers measured; a clip whose worker measured nothing is left out, one known before unchanged."""
    rows = [
        {
            "request_key": clip.request_key, "engine": clip.engine, "model": clip.model,
            "gpu_ms": round(float(clip.provenance[PAINTED]) * 1000),
        }
        for clip in clips
        if PAINTED in clip.provenance
    ]  # fmt: skip
    if not rows:
        return
    insert = INSERTS[db.dialect](GpuClip.__table__).values(made_at=DatabaseNow()).on_conflict_do_nothing()
    with db.session() as session:
        session.execute(insert, rows)
