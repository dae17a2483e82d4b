"""What `make coverage` measured: branches taken of those there are, for each room and its five least tried modules."""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

GOAL = 0.90
SHOWN = 5
# The command line, the dev server and the like lie in no room: shown, and asked for nothing.
OUTSIDE = "no room"
Counted = tuple[str, int, int]


def main() -> int:
    """Print the table of what was measured last; 1 when a room stays below the goal."""
    rooms: dict[str, list[Counted]] = defaultdict(list)
    for file, summary in _summaries().items():
        rooms[_room(file)].append((file, summary["covered_branches"], summary["num_branches"]))
    missed = []
    for room, files in sorted(rooms.items()):
        missed += [room] if _told(room, files) < GOAL and room != OUTSIDE else []
        for file, got, of in sorted(files, key=lambda file: file[1] - file[2])[:SHOWN]:
            if got < of:
                _tell(f"             {of - got:5} not taken in {file}")
    _told("together", [file for files in rooms.values() for file in files])
    _tell(f"below {GOAL:.0%}: {', '.join(missed)}" if missed else f"every room has at least {GOAL:.0%}")
    return bool(missed)


def _told(name: str, files: Sequence[Counted]) -> float:
    """Print one line; the share of branches taken."""
    taken, there = (sum(file[place] for file in files) for place in (1, 2))
    share = taken / there if there else 1.0
    _tell(f"{name:12} {taken:5} of {there:5} branches {share:6.1%}")
    return share


def _room(file: str) -> str:
    parts = Path(file).parts
    return parts[1] if len(parts) > 2 else OUTSIDE


def _summaries() -> dict[str, dict[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "--quiet", "-o", told], check=True)
        return {name: file["summary"] for name, file in json.loads(told.read_text())["files"].items()}


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
