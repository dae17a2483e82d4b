"""Tables and pictures of plans and clips for the UI. All text from outside passes `previews.cell`."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.media_links import media_url
from ettametta_pipelines.previews import Thumb, cell, markdown_table, number, picture_strip
from ettametta_pipelines.settings import Settings

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.synthesis.making import Workshop

Row = dict[str, Any]
SHOWN = 8


def _usd(microusd: int | None) -> str:
    return number(None if microusd is None else microusd / 1e6, digits=4)


def plan_table(rows: Sequence[Row]) -> str:
    """One line a plan: what, by whom, for how much, and why."""
    return markdown_table(
        ("clip", "engine", "USD", "why"),
        [
            (
                cell(row["title"]),
                cell(row["engine"] or "none"),
                _usd(row["quote_microusd"]),
                cell(row["why"], limit=400),
            )
            for row in rows
        ],
    )


def considered_table(rows: Sequence[Row]) -> str:
    """What every engine would have cost, and why it was not taken."""
    return markdown_table(
        ("clip", "engine", "model", "USD", "not taken because"),
        [
            (
                cell(row["title"], limit=40),
                cell(seen["engine"]),
                cell(seen["model"]),
                _usd(seen["microusd"]),
                cell(seen["why_not"] or "taken", limit=160),
            )
            for row in rows
            for seen in json.loads(row["considered_json"])
        ],
    )


def clip_table(rows: Sequence[Row]) -> str:
    """One line a clip: made or why not, by whom, quoted and real cost."""
    return markdown_table(
        ("clip", "status", "engine", "seconds", "quoted USD", "cost USD", "source video", "why"),
        [
            (
                cell(row["title"], limit=60),
                cell(row["status"]),
                cell(
                    row["engine"]
                    if not row["instead_of"]
                    else f"{row['engine']} instead of {row['instead_of']}"
                ),
                number(row["frames"] / row["fps"] if row["frames"] else None, digits=1),
                _usd(row["quote_microusd"]),
                _usd(row["cost_microusd"]),
                cell(row["source_id"]),
                cell(row["reason"] or row["why"], limit=300),
            )
            for row in rows
        ],
    )


def still_strip(store: "ObjectStore", rows: Sequence[Row]) -> str | None:
    """The stills of plans side by side, with where they are from."""
    thumbs = [
        Thumb(str(row["still_origin"]), store.get(row["still_key"]))
        for row in rows[:SHOWN]
        if row["still_key"]
    ]
    return picture_strip(thumbs) if thumbs else None


def clip_strip(workshop: "Workshop", rows: Sequence[Row]) -> str | None:
    """A frame of each clip side by side; a clip that cannot be shown is left out."""
    from ettametta_pipelines.scoring.frames import sample_frames

    thumbs = []
    for row in [row for row in rows if row["status"] == "made"][:SHOWN]:
        try:
            frames = sample_frames(workshop.store, row["object_key"], scratch=workshop.scratch)
        except PipelineError as error:
            workshop.say(f"{row['object_key']} cannot be shown: {error.message}")
            continue
        thumbs.append(Thumb(f"{row['engine']}: {row['title']}", frames[len(frames) // 2].jpeg))
    return picture_strip(thumbs) if thumbs else None


def clip_previews(workshop: "Workshop", rows: Sequence[Row], settings: Settings) -> str | None:
    """Each clip in motion, under its title; a clip that cannot be shown is left out."""
    from ettametta_pipelines.confinement.running import private_dir
    from ettametta_pipelines.media.animation import keep_preview, markdown
    from ettametta_pipelines.media.intake import fetch
    from ettametta_pipelines.media.probe import require_probe

    shown = []
    for row in [row for row in rows if row["status"] == "made"][:SHOWN]:
        key = row["object_key"]
        try:
            with private_dir(workshop.scratch, "preview") as workdir:
                path = fetch(workshop.store, key, workdir)
                made = keep_preview(workshop.store, key, path, require_probe(path, name=key), workdir)
        except PipelineError as error:
            workshop.say(f"{key} cannot be shown in motion: {error.message}")
            continue
        said = f"{cell(row['title'])} ({cell(row['engine'])})"
        shown.append(f"{said}\n\n{markdown(media_url(settings, made), 'clip, moving')}")
    return "\n\n".join(shown) or None
