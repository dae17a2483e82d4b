"""What a row of the table of faults came to, and how a row notes what did not hold.

Rows are functions of a fresh directory; `table.py` runs each in a process of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Outcome:
    """What was measured, in words and numbers, and what did not hold; a row with nothing in `broken` held."""

    figures: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def is_held(self) -> bool:
        return not self.broken

    def measured(self, figure: str) -> None:
        self.figures.append(figure)

    def must(self, holds: bool, otherwise: str) -> None:
        """Note `otherwise` unless it holds; the row goes on, so that one run shows everything."""
        if not holds:
            self.broken.append(otherwise)

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.figures + other.figures, self.broken + other.broken)


Play = Callable[[Path], Outcome]
