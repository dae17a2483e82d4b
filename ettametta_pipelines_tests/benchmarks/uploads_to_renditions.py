"""From an upload to its three finished renditions through a running `ettametta dev`, beside the bare renders.

Ten seconds of 1080p. The bare render is the engine's, of the same file with the same recipe, seed, loudness and
subject, checks included, in this process; several in a row are timed and counted up to as many as were uploaded. Two
processors are used whatever the machine has. `make bench` runs it for one upload and for 20, and keeps the figures in
`bench/uploads_to_renditions.json`.

    python -m ettametta_pipelines_tests.benchmarks.uploads_to_renditions [--uploads 1 20] [--rounds 3]
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.renders.ffmpeg import COMMON, ffmpeg_path
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines_tests.benchmarks.renders import PROCESSORS, footage, fresh
from ettametta_pipelines_tests.benchmarks.server import Server, load

SECONDS = 10
LIMIT_S = 1800.0
WHOSE = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
BAR_ONE_S, BAR_MANY = 15.0, 1.5
RUNS = """
{ runsOrError { ... on Runs { results {
  runId jobName status creationTime startTime endTime stepStats { stepKey startTime endTime }
} } } }
"""


def clips(folder: Path, number: int, first: int = 0) -> list[Path]:
    """The same footage with other bytes each time, so that every one is a source of its own."""
    whole = footage(folder, SECONDS)
    made = []
    for one in range(first, first + number):
        target = folder / f"clip-{one}.mp4"
        command = [str(ffmpeg_path()), *COMMON, "-v", "error", "-y", "-i", str(whole), "-c", "copy"]
        subprocess.run([*command, "-metadata", f"comment={one}", str(target)], check=True)
        made.append(target)
    return made


def bare_renders(source: Path, folder: Path, number: int) -> list[tuple[float, float]]:
    """(Seconds, CPU seconds) of each of `number` renders in a row."""
    from ettametta_pipelines.media.analysis import analyse
    from ettametta_pipelines.renders.engine import render
    from ettametta_pipelines.renders.recipe import DEFAULT_RECIPE, load_preset, seed_for
    from ettametta_pipelines.storage.addressing import file_sha256

    probe, recipe = require_probe(source), load_preset(DEFAULT_RECIPE)
    seed = seed_for(recipe, file_sha256(source))
    with fresh(folder) as scratch:
        known = analyse(source, probe, scratch)
    took = []
    for _ in range(number):
        with fresh(folder) as out:
            started, cpu = time.perf_counter(), cpu_s()
            render(
                source,
                probe,
                recipe,
                tuple(FORMATS),
                seed,
                out,
                loudness=known.loudness,
                subject=known.subject,
            )
            took.append((time.perf_counter() - started, cpu_s() - cpu))
    return took


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, WHOSE))


def drop(server: Server, files: list[Path]) -> float:
    """Upload as `ettametta upload` does; the instant at which the last was there."""
    from datetime import UTC, datetime

    from ettametta_pipelines.media.inbox import drop_upload
    from ettametta_pipelines.storage.objects import ObjectStore

    store = ObjectStore.from_url((server.home / "store").as_uri())
    for file in files:
        drop_upload(
            store, file, account="bench", niche="travel", niches=["travel"], day=datetime.now(UTC).date(),
            stated={"rights": "owned"},
        )  # fmt: skip
    return time.time()


def through_the_daemon(server: Server, files: list[Path]) -> dict[str, Any]:
    """Upload the files at once and wait for all renditions; seconds from the last file's arrival."""
    known = {run["runId"] for run in server.ask(RUNS)["runsOrError"]["results"]}
    cpu_before = sum(process.cpu_s for process in server.processes())
    dropped = drop(server, files)

    def runs() -> list[dict[str, Any]]:
        every = server.ask(RUNS)["runsOrError"]["results"]
        return [r for r in every if r["runId"] not in known and r["jobName"] == "ingest_upload"]

    def ended(run: dict[str, Any]) -> float | None:
        return next((s["endTime"] for s in run["stepStats"] if s["stepKey"] == "renditions"), None)

    def done() -> bool:
        found = runs()
        failed = [run for run in found if run["status"] in ("FAILURE", "CANCELED")]
        if failed:
            raise RuntimeError(f"run {failed[0]['runId']} failed:\n{server.log.read_text()[-3000:]}")
        return len(found) == len(files) and all(ended(run) for run in found)

    server.wait_for(done, LIMIT_S)
    found = runs()
    last = max(ended(run) or 0.0 for run in found)
    cpu = sum(process.cpu_s for process in server.processes()) - cpu_before
    server.wait_for(lambda: all(run["status"] == "SUCCESS" for run in runs()), LIMIT_S)
    return {"seconds": last - dropped, "cpu_s": cpu, "parts": parts(found, dropped)}


def parts(runs: list[dict[str, Any]], dropped: float) -> dict[str, float]:
    """Median seconds of each stretch of a run."""
    stretches: dict[str, list[float]] = {}
    for run in runs:
        steps = {s["stepKey"]: s for s in run["stepStats"]}
        at = dropped
        for name, until in (
            ("until its run is asked for", run["creationTime"]),
            ("until its process is there", run["startTime"]),
            ("source_media", steps["source_media"]["endTime"]),
            ("media_analysis", steps["media_analysis"]["endTime"]),
            ("until the render begins", steps["renditions"]["startTime"]),
            ("renditions", steps["renditions"]["endTime"]),
        ):
            stretches.setdefault(name, []).append(until - at)
            at = until
    return {name: round(statistics.median(found), 2) for name, found in stretches.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--uploads", type=int, nargs="+", default=[1, 20])
    options.add_argument("--rounds", type=int, default=3, help="of a single upload, and of bare renders")
    chosen = options.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])
    figures: dict[str, Any] = {"load": load()}
    home = Path(tempfile.mkdtemp(prefix="ettametta-latency-"))
    server = None
    try:
        (files := home / "clips").mkdir()
        first = clips(files, 1)[0]
        bare_renders(first, files, 1)
        bare = bare_renders(first, files, chosen.rounds)
        server = Server(home)
        server.wait_for(server.is_up)
        server.wait_for(server.daemons_beat)
        made = 1
        for number in chosen.uploads:
            rounds = []
            for _ in range(chosen.rounds if number == 1 else 1):
                rounds.append(through_the_daemon(server, clips(files, number, made)))
                made += number
                bare += bare_renders(first, files, 1)
            rounds.sort(key=lambda one: one["seconds"])
            figures[str(number)] = rounds[len(rounds) // 2] | {"all": [one["seconds"] for one in rounds]}
        figures["bare"] = {
            "seconds": statistics.mean(seconds for seconds, _ in bare), "cpu_s": statistics.mean(cpu for _, cpu in bare)
        }  # fmt: skip
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(home)
    show(figures)
    target = Path("bench")
    target.mkdir(exist_ok=True)
    (target / "uploads_to_renditions.json").write_text(json.dumps(figures, indent=2) + "\n")


def show(figures: dict[str, Any]) -> None:
    bare = figures["bare"]
    table = Table("", "seconds", "bare renders", "beside them", "bar", "CPU seconds", "of bare renders")
    for number, found in ((int(n), f) for n, f in figures.items() if n.isdigit()):
        seconds, bare_s = found["seconds"], bare["seconds"] * number
        beside = f"+{seconds - bare_s:.1f} s" if number == 1 else f"x{seconds / bare_s:.2f}"
        bar = f"+{BAR_ONE_S:.0f} s" if number == 1 else f"x{BAR_MANY}"
        cpu = [f"{found['cpu_s']:.0f}", f"{bare['cpu_s'] * number:.0f}"]
        cells = [f"{seconds:.1f}", f"{bare_s:.1f}", beside, bar, *cpu]
        table.add_row(f"{number} at once" if number > 1 else "one upload", *cells)
        for name, part in found["parts"].items():
            table.add_row(f"  {name}", f"{part:.1f}")
    Console().print(table)
    Console().print(figures["load"])


if __name__ == "__main__":
    main()
