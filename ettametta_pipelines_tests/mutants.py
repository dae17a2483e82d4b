"""`make mutants`: a sample of small changes of each module that must not be off; for each, a test must fail.

As many changes of every module, drawn by a seed, so that a long module does not crowd out a short one; which changes
there are, and which tests run for one, is mutmut's work (`[tool.mutmut]` in pyproject.toml). Ends with 1 where fewer
than 80 % of a module's changes were noticed.
"""

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

MUTANTS = Path("mutants")
EACH = 120
SEED = 2026
GOAL = 0.80
# Any change will do: with the first, mutmut copies the code, makes all changes and learns which tests reach them.
FIRST = "ettametta_pipelines.state.quota.x_daily_limits__mutmut_1"
# Exit codes of pytest in a mutant's process; any other end, such as by its time limit, was noticed too.
UNNOTICED = {0: "not noticed", 33: "not run by any test"}


def main() -> int:
    """Try the sample, print what became of it for each module; 1 when one stays below the goal."""
    asked = argparse.ArgumentParser(prog="make mutants")
    asked.add_argument("--each", type=int, default=EACH, help="changes to try of each module")
    asked.add_argument("--seed", type=int, default=SEED, help="which ones")
    asked.add_argument("--workers", type=int, default=2, help="processes")
    given = asked.parse_args()
    _run([FIRST], given.workers)
    sample = {module: _drawn(names, given.each, given.seed) for module, names in _changes().items()}
    _run([name for names in sample.values() for name in names], given.workers)
    missed = [module for module, names in sample.items() if _told(module, names, _codes()) < GOAL]
    of = sum(map(len, _changes().values()))
    _tell(f"seed {given.seed}, {sum(map(len, sample.values()))} of {of} changes tried")
    _tell(
        f"below {GOAL:.0%}: {', '.join(missed)}"
        if missed
        else f"at least {GOAL:.0%} noticed of every module's"
    )
    return bool(missed)


def _drawn(names: Sequence[str], count: int, seed: int) -> list[str]:
    """The same names for the same seed and code."""
    return random.Random(seed).sample(sorted(names), min(count, len(names)))


def _run(names: Sequence[str], workers: int) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(workers), *names],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"mutmut ended with {done.returncode}:\n{done.stdout[-4000:]}")


def _changes() -> dict[str, list[str]]:
    """Module -> the names of its changes."""
    return {
        str(meta.relative_to(MUTANTS).with_suffix("")): names
        for meta in sorted(MUTANTS.rglob("*.meta"))
        if (names := list(json.loads(meta.read_text())["exit_code_by_key"]))
    }


def _codes() -> dict[str, int | None]:
    metas = (json.loads(meta.read_text()) for meta in MUTANTS.rglob("*.meta"))
    return {name: code for meta in metas for name, code in meta["exit_code_by_key"].items()}


def _told(module: str, names: Sequence[str], codes: Mapping[str, int | None]) -> float:
    """Print one module's line, and each change nobody noticed with what it is; the share that was noticed."""
    kinds = Counter(UNNOTICED.get(codes[name], "noticed") for name in names)
    share = kinds["noticed"] / len(names)
    _tell(f"{module}: {kinds['noticed']} of {len(names)} noticed ({share:.0%})")
    for name in sorted(names):
        if codes[name] in UNNOTICED:
            _tell(f"  {UNNOTICED[codes[name]]}: {name.rpartition('.')[2]}: {_changed(name)}")
    return share


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
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
