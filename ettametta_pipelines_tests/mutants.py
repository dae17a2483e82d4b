"""What `make mutants` came to: changes tried, noticed and not noticed for each module, and each that was not."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

MUTANTS = Path("mutants")
# Exit codes of pytest in a mutant's process; any other end, such as by its time limit, was noticed too.
UNNOTICED = {0: "not noticed", 33: "not run by any test"}


def main() -> None:
    """Print the table; the mutants nobody noticed with what they change."""
    for meta in sorted(MUTANTS.rglob("*.meta")):
        codes = {k: c for k, c in json.loads(meta.read_text())["exit_code_by_key"].items() if c is not None}
        if not codes:
            continue
        kinds = Counter(UNNOTICED.get(code, "noticed") for code in codes.values())
        share = kinds["noticed"] / len(codes)
        _tell(
            f"{meta.relative_to(MUTANTS).with_suffix('')}: {kinds['noticed']} of {len(codes)} noticed ({share:.0%})"
        )
        for name, code in sorted(codes.items()):
            if code in UNNOTICED:
                _tell(f"  {UNNOTICED[code]}: {name.rpartition('.')[2]}: {_changed(name)}")


def _changed(name: str) -> str:
    """The lines a mutant has and the code has not."""
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", "show", name], capture_output=True, text=True, check=False
    )
    lines = [
        line[1:].strip() for line in done.stdout.splitlines() if line.startswith("+") and line[1:2] == " "
    ]
    return " ".join(lines)[:160]


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
