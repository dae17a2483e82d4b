"""What `make coverage` measured: branches taken of those there are, for each room and its five least tried modules."""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

GOAL = 0.90
SHOWN = 5


def main() -> int:
    """Print the table of the `.coverage` file here; 1 when a room stays below the goal."""
    rooms: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for file, summary in _summaries().items():
        rooms[Path(file).parts[1]].append((file, summary["covered_branches"], summary["num_branches"]))
    missed = []
    for room, files in sorted(rooms.items()):
        taken, there = (sum(file[place] for file in files) for place in (1, 2))
        _tell(f"{room:12} {taken:5} of {there:5} branches {taken / max(there, 1):6.1%}")
        for file, got, of in sorted(files, key=lambda file: file[1] - file[2])[:SHOWN]:
            if got < of:
                _tell(f"             {of - got:5} not taken in {file}")
        missed += [room] if there and taken / there < GOAL else []
    _tell(f"below {GOAL:.0%}: {', '.join(missed)}" if missed else f"every room has at least {GOAL:.0%}")
    return bool(missed)


def _summaries() -> dict[str, dict[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "coverage.json"
        subprocess.run([sys.executable, "-m", "coverage", "json", "--quiet", "-o", told], check=True)
        return {name: file["summary"] for name, file in json.loads(told.read_text())["files"].items()}


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
