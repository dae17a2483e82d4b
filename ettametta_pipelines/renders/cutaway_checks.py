"""What a rendition may show while it cuts away: judged against the clip that is shown then, not against the source.

`quality.py` asks for the stretches its picture checks cannot explain. The sound is the source's all along and is
judged as if there were no cutaways.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ettametta_pipelines.renders.broll import Cutaway
from ettametta_pipelines.renders.playback import Playback, Sensitivity, Stretch, play_source


class CutawayFootage:
    """The clips shown in a rendition, each played once when something shown of it has to be explained."""

    def __init__(self, cutaways: Sequence[Cutaway]) -> None:
        self.cutaways = cutaways
        self._played: dict[Path, Playback] = {}

    def outside(self, stretches: Iterable[Stretch]) -> list[Stretch]:
        """The pieces of stretches that show the source."""
        pieces = list(stretches)
        for cutaway in self.cutaways:
            pieces = [
                piece
                for before in pieces
                for piece in (
                    Stretch(before.start_s, min(before.end_s, cutaway.start_s)),
                    Stretch(max(before.start_s, cutaway.end_s), before.end_s),
                )
                if piece.length_s > 0
            ]
        return pieces

    def unexplained(
        self,
        stretches: Iterable[Stretch],
        of_clip: Callable[[Playback], Iterable[Stretch]],
        beyond: Callable[[Stretch, Iterable[Stretch]], list[Stretch]],
        eye: Sensitivity,
        scratch: Path,
    ) -> list[Stretch]:
        """The pieces of stretches within cutaways that are not the clip's own; `beyond` takes excuses out of one."""
        left = []
        for stretch in stretches:
            for cutaway in self.cutaways:
                within = Stretch(max(stretch.start_s, cutaway.start_s), min(stretch.end_s, cutaway.end_s))
                if within.length_s > eye.shortest_s:
                    to_rendition = cutaway.start_s - cutaway.in_s
                    own = [
                        Stretch(one.start_s + to_rendition, one.end_s + to_rendition)
                        for one in of_clip(self._play(cutaway, eye, scratch))
                    ]
                    left += beyond(within, own)
        return left

    def _play(self, cutaway: Cutaway, eye: Sensitivity, scratch: Path) -> Playback:
        if cutaway.path not in self._played:
            self._played[cutaway.path] = play_source(cutaway.path, cutaway.probe, eye, scratch)
        return self._played[cutaway.path]
