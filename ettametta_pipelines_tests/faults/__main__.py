"""`python -m ettametta_pipelines_tests.faults`: the whole matrix in several processes, its table, and the bar.

Exit code 1 when a scenario ends otherwise than it may, or when there are fewer than the bar asks for.
"""

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries
from ettametta_pipelines_tests.faults.arena import Arena, PostgresDatabases
from ettametta_pipelines_tests.faults.dropping import cross
from ettametta_pipelines_tests.faults.matrix import GOOD, Played, Verdict, play_all, table
from ettametta_pipelines_tests.faults.scenarios import Scenario, sample, scenarios

LEAST_SCENARIOS = 600
BIG_FILE, BREAKS_EVERY = 200_000_000, 20_000_000
SAID = f"{BIG_FILE / 1e6:.0f} MB over a line that breaks every {BREAKS_EVERY / 1e6:.0f} MB, "


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--processes", type=int, default=max(1, len(os.sched_getaffinity(0))))
    parser.add_argument("--sample", type=int, default=0, help="play about so many scenarios instead of all")
    parser.add_argument("--seed", type=int, default=7, help="of the sample")
    parser.add_argument(
        "--database", choices=("sqlite", "postgres"), default="sqlite", help=argparse.SUPPRESS
    )
    parser.add_argument("--shard", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.shard is not None:
        return _play_shard(asked)
    return _play_all(asked)


def _play_shard(asked: argparse.Namespace) -> int:
    chosen = scenarios(asked.database)
    if asked.sample:
        chosen = sample(chosen, asked.sample, asked.seed)
    mine = chosen[asked.shard :: asked.processes]
    if asked.database == "sqlite":
        with Arena() as arena:
            played = play_all(arena, mine, tell=_progress(asked, len(mine)))
    else:
        played = _on_postgres(mine, _progress(asked, len(mine)))
    asked.out.write_bytes(pickle.dumps(played))
    return 0


def _progress(asked: argparse.Namespace, count: int) -> Callable[[Played], None]:
    """Says on stderr how far this process is, and at once what went wrong."""
    done = 0

    def tell(each: Played) -> None:
        nonlocal done
        done += 1
        if each.verdict not in GOOD:
            sys.stderr.write(f"{each.verdict}: {each.scenario.name}\n")
        if done % 100 == 0:
            sys.stderr.write(f"{asked.database} {asked.shard}: {done} of {count}\n")

    return tell


def _on_postgres(mine: list[Scenario], tell: Callable[[Played], None]) -> list[Played]:
    binaries = find_postgres_binaries()
    assert binaries is not None
    server = PostgresServer(binaries).start()
    try:
        with Arena(partial(_databases, server)) as arena:
            return play_all(arena, mine, tell=tell)
    finally:
        server.stop()


def _databases(server: PostgresServer, directory: Path) -> PostgresDatabases:
    return PostgresDatabases(server, directory.name.replace("-", "_").lower())


def _play_all(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    played = _in_processes(asked, "sqlite")
    if find_postgres_binaries() is not None and not asked.sample:
        played += _in_processes(asked, "postgres")
    tell = sys.stdout.write
    tell(table(played) + "\n")
    for each in played:
        if each.verdict not in GOOD:
            tell(f"\n{each.verdict}: {each.scenario.name} at {each.scenario.point}\n  {each.why}\n")
    count = sum(each.verdict is not Verdict.NOT_REACHED for each in played)
    is_good = all(each.verdict in GOOD for each in played) and (
        bool(asked.sample) or count >= LEAST_SCENARIOS
    )
    if not asked.sample:
        for platform in ("youtube", "tiktok"):
            crossing = cross(platform, BIG_FILE, BREAKS_EVERY)
            tell(f"\n{SAID}{crossing}\n")
            is_good &= crossing.is_good
    tell(
        f"\n{count} scenarios in {time.monotonic() - began:.0f} s: the bar is {'met' if is_good else 'MISSED'}\n"
    )
    return 0 if is_good else 1


def _in_processes(asked: argparse.Namespace, database: str) -> list[Played]:
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory) / f"{number}.pickle" for number in range(asked.processes)]
        program = [sys.executable, "-m", __spec__.name.removesuffix(".__main__"), "--database", database]
        program += [
            "--processes",
            str(asked.processes),
            "--sample",
            str(asked.sample),
            "--seed",
            str(asked.seed),
        ]
        running = [
            subprocess.Popen([*program, "--shard", str(number), "--out", str(file)])
            for number, file in enumerate(files)
        ]
        codes = [process.wait() for process in running]
        if any(codes):
            raise SystemExit(f"A process of the matrix ended with {max(codes)}; see above.")
        return [each for file in files for each in pickle.loads(file.read_bytes())]


if __name__ == "__main__":
    sys.exit(main())
