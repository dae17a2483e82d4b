"""Cinematic motion: how much faster than real time, and how steady beside ffmpeg's `zoompan` on the same still.

`python -m ettametta_pipelines_tests.benchmarks.cinematic`; on two processors the bar is three times real time.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ettametta_pipelines.synthesis.engines import cinematic
from ettametta_pipelines_tests.synthesis.motion import drawn_still, tremble, zoompan

SIZE, FPS, SECONDS, ROUNDS = (1080, 1920), 30, 6, 3
BAR = 3.0


def main() -> int:
    tell = sys.stdout.write
    count = FPS * SECONDS
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        still = drawn_still(1620, 2880)
        planes = cinematic.open_still(still, SIZE)
        tell(
            f"Cinematic motion, {SIZE[0]}x{SIZE[1]}, {FPS} fps, {SECONDS} s, "
            f"{len(os.sched_getaffinity(0))} processors\n"
        )
        for name, move in cinematic.MOVES.items():
            walls, works = [], []
            for _ in range(ROUNDS):
                began, worked = time.perf_counter(), time.process_time()
                cinematic.write_video(cinematic.frames(planes, move, SIZE, count), path, SIZE, FPS)
                walls.append(time.perf_counter() - began)
                works.append(time.process_time() - worked)
            row = {
                "move": name,
                "times_real_time": SECONDS / median(walls),
                "cpu_s_per_s": median(works) / SECONDS,
                "mb": path.stat().st_size / 1e6,
            }
            rows.append(row)
            tell(
                f"{name:<10} {row['times_real_time']:5.1f}x  {row['cpu_s_per_s']:.2f} CPU s a second  "
                f"{row['mb']:.1f} MB\n"
            )
        move = cinematic.MOVES["push_in"]
        cinematic.write_video(cinematic.frames(planes, move, SIZE, count), path, SIZE, FPS)
        ramp = round(cinematic.RAMP * count)
        ours = tremble(path, ramp, count - ramp)
        zoompan(still, path, SIZE, FPS, count, cinematic.CLOSEST)
        theirs = tremble(path, ramp, count - ramp)
    tell(
        f"Variance of motion about its trend, push in: {ours:.5f} px², zoompan {theirs:.5f} px² "
        f"({theirs / ours:.0f}x)\n"
    )
    slowest = min(row["times_real_time"] for row in rows)
    tell(
        f"Slowest {slowest:.1f}x real time: the bar of {BAR:.0f}x is {'met' if slowest >= BAR else 'MISSED'}\n"
    )
    Path("bench").mkdir(exist_ok=True)
    Path("bench/cinematic.json").write_text(
        json.dumps({"moves": rows, "tremble": ours, "zoompan": theirs}, indent=1)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
