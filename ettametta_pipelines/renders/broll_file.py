"""Cutaways for one local file, as the command line renders it: own clips from a folder, stock footage by keywords.

The same search and the same keeping of clips as for uploads (`broll_clips.py`); only where the footage's cuts and
words come from differs. `engine.render_file` calls, `cli.py` builds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.media.sidecar import title_from_name
from ettametta_pipelines.renders.broll import BrollReport, Cutaway, keywords_for
from ettametta_pipelines.renders.broll_clips import (
    BrollOrder,
    FolderShelf,
    PexelsShelf,
    Shelf,
    load_cutaways,
    obtain_broll,
)
from ettametta_pipelines.renders.formats import output_rate
from ettametta_pipelines.renders.recipe import Recipe, with_broll
from ettametta_pipelines.storage.objects import ObjectStore

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.pexels import PexelsClient

# What a folder is asked for when neither words nor the file's name say anything; it gives all its clips then.
ANYTHING = "footage"


@dataclass(frozen=True)
class FileBroll:
    """What was asked for: keywords, a folder of own clips, both or neither. Clips are kept in `store`."""

    store: ObjectStore
    client: "Callable[[], PexelsClient]"
    keywords: Sequence[str] = ()
    folder: Path | None = None

    def asked_of(self, recipe: Recipe) -> Recipe:
        """The recipe with cutaways from where was asked for; as it is where nothing was."""
        if self.folder is None:
            return with_broll(recipe, "pexels") if self.keywords else recipe
        return with_broll(recipe, "any" if self.keywords else "library")

    def obtain(
        self,
        file: Path,
        probe: Probe,
        sha256: str,
        recipe: Recipe,
        seed: int,
        shot_starts_s: Sequence[float],
        workdir: Path,
    ) -> BrollReport:
        """Choose clips for a file with these cuts; raises as `obtain_broll`."""
        words = keywords_for(self.keywords, title_from_name(file.name), "")
        order = BrollOrder(
            source_sha256=sha256,
            duration_s=probe.duration_s,
            rate=output_rate(probe.fps, variable=probe.variable_rate),
            width=probe.width,
            height=probe.height,
            shot_starts_s=tuple(shot_starts_s),
            keywords=words or ((ANYTHING,) if self.folder else ()),
        )
        shelves: list[Shelf] = [FolderShelf(self.folder)] if self.folder else []
        if recipe.broll is not None and recipe.broll.source in ("any", "pexels"):
            shelves.append(PexelsShelf(self.client(), probe.width, probe.height))
        return obtain_broll(self.store, order, recipe, seed, shelves, scratch=workdir)

    def load(self, report: BrollReport, workdir: Path) -> list[Cutaway]:
        """The clips of a report as files; raises as `load_cutaways`."""
        return load_cutaways(self.store, report, workdir)
