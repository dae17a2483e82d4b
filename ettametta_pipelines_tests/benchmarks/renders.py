"""How fast renders are: beside their encoder alone, in one run or three, again, after a changed word, by length.

`make bench` runs it and keeps the figures in `bench/renders.json`; with names of parts it runs only those. Footage is
generated: spheres in 1080p at 30 frames a second with a camera's noise over them. Compared runs take turns, figures
are medians; two processors are used whatever the machine has.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ffmpeg
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.media.analysis import analyse
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.media.samples import make_samples
from ettametta_pipelines.renders import engine, graph
from ettametta_pipelines.renders.broll import Cutaway
from ettametta_pipelines.renders.captions import Cue, canonical_bytes
from ettametta_pipelines.renders.ffmpeg import COMMON, ffmpeg_path
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.library import RenditionOrder, obtain_renditions
from ettametta_pipelines.renders.recipe import Recipe
from ettametta_pipelines.renders.segments import Segment
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines.storage.objects import ObjectStore

ROUNDS = 3
PROCESSORS = 2
SEED = 7
MINUTE = 60
# An hour, which `RENDER_LENGTHS=10,60,300,3600` adds, takes as long as all else together.
LENGTHS = [int(seconds) for seconds in os.environ.get("RENDER_LENGTHS", "10,60,300").split(",")]
EVERYTHING = Recipe.model_validate(
    {
        "name": "everything",
        "originality": {
            "mirror": True,
            "zoom": 1.05,
            "colour": {"hue_degrees": 4, "saturation": 1.1, "contrast": 1.05, "warmth": 0.3},
        },
        "letterbox": {"height": 0.06},
        "vignette": {"strength": 0.4},
        "grain": {"strength": 6},
        "speed_ramp": {},
        "jitter": {},
        "glitch": {},
        "captions": {},
    }
)
ALL = tuple(FORMATS)
MOVIEPY = str(Path(__file__).with_name("moviepy_peers.py"))
PEERS = os.environ.get("PEERS_PYTHON", sys.executable)


def footage(folder: Path, seconds: int, size: str = "1920x1080") -> Path:
    """The same spheres over and over with new noise, H.264 and AAC."""
    target = folder / f"{size}_{seconds}.mp4"
    if not target.is_file() and seconds > MINUTE:
        minute = footage(folder, MINUTE, size)
        run("-stream_loop", "-1", "-i", str(minute), "-t", str(seconds), "-c", "copy", str(target))
    elif not target.is_file():
        sample = make_samples(folder / "samples")[1]
        run(
            "-stream_loop", "-1", "-i", str(sample), "-t", str(seconds), "-r", "30",
            "-vf", f"scale={size.replace('x', ':')},noise=c0s=5:c0f=t:all_seed=1", "-c:v", "libx264",
            "-preset", "veryfast", "-crf", "20", "-c:a", "aac", str(target),
        )  # fmt: skip
    return target


def cues(seconds: float) -> tuple[Cue, ...]:
    return tuple(
        Cue(at + 0.2, at + 1.8, f"What is said at {at} seconds", ()) for at in range(0, int(seconds), 2)
    )


def srt(cue: Cue) -> str:
    times = (f"00:00:{at:06.3f}".replace(".", ",") for at in (cue.start_s, cue.end_s))
    return f"{' --> '.join(times)}\n{cue.text}"


def cutaways(folder: Path, seconds: int) -> list[Cutaway]:
    """Two seconds of other footage in every ten."""
    clip = footage(folder, 10)
    probe = require_probe(clip)
    sha256 = file_sha256(clip)
    return [Cutaway(clip, probe, sha256, 1.0, at, at + 2.0) for at in range(4, seconds - 3, 10)]


def run(*arguments: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of one ffmpeg."""
    started = time.perf_counter()
    child = subprocess.Popen([str(ffmpeg_path()), *COMMON, "-v", "error", *arguments])
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"ffmpeg ended with status {status}")
    return time.perf_counter() - started, usage.ru_maxrss / 1000


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    with TemporaryDirectory(dir=folder) as made:
        yield Path(made)


def rendering(
    source: Path, folder: Path, formats: tuple[str, ...] = ALL, **options: Any
) -> tuple[float, float]:
    """Seconds without the checks (sound, picture, joining) and peak memory in MB of a render of everything."""
    probe = require_probe(source)
    took: list[float] = []
    make = engine._make

    def timed(*arguments: Any) -> Any:
        started = time.perf_counter()
        made = make(*arguments)
        took.append(time.perf_counter() - started)
        return made

    engine._make = timed
    try:
        with fresh(folder) as out:
            options = {
                "captions": cues(probe.duration_s),
                "cutaways": cutaways(folder, int(probe.duration_s)),
            } | options
            made = engine.render(source, probe, EVERYTHING, formats, SEED, out, **options)
    finally:
        engine._make = make
    return took[0], made[0].peak_memory_bytes / 1e6


def frames_as_filtered(source: Path, folder: Path, out: Path) -> list[str]:
    """Write the very frames the encoders get, and return the arguments that encode just them."""
    probe = require_probe(source)
    inputs: list[Any] = []

    def keep(plan: graph.RenderPlan, workdir: Path, *rest: Any) -> Any:
        encoded = graph.output_options
        raw = {"c:v": "rawvideo", "pix_fmt": "yuv420p", "f": "rawvideo", "fps_mode": "passthrough"}
        graph.output_options = lambda plan, segment: raw | {"frames:v": segment.frames}
        try:
            for segment in plan.segments:
                targets = {name: out / f"{name}_{segment.index}.yuv" for name in ALL}
                arguments = graph.render_arguments(plan, segment, targets)
                subprocess.run(
                    [str(ffmpeg_path()), *COMMON, "-v", "error", *arguments], cwd=workdir, check=True
                )
        finally:
            graph.output_options = encoded
        for format in plan.formats:
            with (out / f"{format.name}.yuv").open("wb") as whole:
                for segment in plan.segments:
                    part = out / f"{format.name}_{segment.index}.yuv"
                    with part.open("rb") as piece:
                        shutil.copyfileobj(piece, whole, 1 << 24)
                    part.unlink()
            picture = ffmpeg.input(
                f"file:{out}/{format.name}.yuv", f="rawvideo", pixel_format="yuv420p",
                video_size=(format.width, format.height), framerate=str(plan.rate),
            )  # fmt: skip
            options = encoded(plan, Segment(0, 0, plan.frame_count))
            inputs.append(ffmpeg.output(picture["v:0"], f"file:{out}/{format.name}.mp4", **options))
        raise _Kept

    make, engine._make = engine._make, keep
    try:
        with fresh(folder) as scratch:
            engine.render(
                source, probe, EVERYTHING, ALL, SEED, scratch,
                captions=cues(probe.duration_s), cutaways=cutaways(folder, int(probe.duration_s)),
            )  # fmt: skip
    except _Kept:
        pass
    finally:
        engine._make = make
    arguments: list[str] = ffmpeg.merge_outputs(*inputs).get_args()
    return arguments


class _Kept(Exception):
    """The frames are on disk; nothing is to be rendered."""


def beside_the_encoder(folder: Path) -> dict[str, float]:
    """All filters to three formats, and the encoder alone on the same frames."""
    source = footage(folder, 20)
    with fresh(folder) as out:
        encode = frames_as_filtered(source, folder, out)
        pairs = [(run(*encode)[0], *rendering(source, folder)) for _ in range(ROUNDS)]
    alone, whole, memory = (statistics.median(column) for column in zip(*pairs, strict=True))
    share = statistics.median(encoder / render for encoder, render, _ in pairs)
    return {
        "encoder alone, s": alone,
        "everything, s": whole,
        "share of the encoder's speed (bar 0.88)": share,
        "peak memory, MB (bar 650)": memory,
    }


def one_run_or_three(folder: Path) -> dict[str, float]:
    """Whole runs, as `ettametta render` makes them: looking at the footage, rendering, checking."""
    source = footage(folder, 20)
    shares, together, apart = [], [], []
    with fresh(folder) as out:
        captions, recipe = out / "captions.srt", out / "everything.json"
        captions.write_text("\n".join(f"{n}\n{srt(cue)}\n" for n, cue in enumerate(cues(20), 1)))
        recipe.write_text(EVERYTHING.model_dump_json())

        def run_of(formats: Sequence[str]) -> float:
            started = time.perf_counter()
            engine.render_file(source, str(recipe), formats, out, seed=SEED, captions=captions)
            return time.perf_counter() - started

        for _ in range(ROUNDS):
            together.append(run_of(ALL))
            apart.append(sum(run_of((name,)) for name in ALL))
            shares.append(together[-1] / apart[-1])
    return {
        "one run, s": statistics.median(together),
        "three runs, s": statistics.median(apart),
        "share (bar 0.72)": statistics.median(shares),
    }


def beside_moviepy(folder: Path) -> dict[str, float]:
    """Seconds of work per second of one upright format with the same treatments; MoviePy is in `PEERS_PYTHON`."""
    source = footage(folder, 20)

    def peer(kind: str, seconds: int) -> float:
        with fresh(folder) as out:
            arguments = [kind, str(source), str(seconds), str(out / "peer.mp4")]
            said = subprocess.run([PEERS, MOVIEPY, *arguments], check=True, capture_output=True, text=True)
        return float(said.stdout.split()[-1]) / seconds

    # Both use both processors: MoviePy filters in one and encodes in the other, we make two segments at a time.
    alike: dict[str, Any] = {"cutaways": [], "workers": PROCESSORS}
    ours = statistics.median(rendering(source, folder, ("9x16",), **alike)[0] / 20 for _ in range(ROUNDS))
    lean, chain = peer("lean", 6), peer("chain", 3)
    return {
        "ours": ours,
        "MoviePy, as lean as it goes": lean,
        "MoviePy, effect upon effect": chain,
        "times as fast as lean (bar 8)": lean / ours,
        "times as fast as effect upon effect (bar 25)": chain / ours,
    }


def again(folder: Path) -> dict[str, float]:
    """Through the library: a first time, unchanged, and with one caption of thirty changed."""
    source = footage(folder, 60)
    probe, sha256 = require_probe(source), file_sha256(source)
    with fresh(folder) as home:
        store = ObjectStore.from_url((home / "store").as_uri())
        store.put_file("media/sources/s.mp4", source)
        said = cues(60)
        store.put("media/captions/one.json", canonical_bytes(said))
        changed = (*said[:15], Cue(said[15].start_s, said[15].end_s, "Something else", ()), *said[16:])
        store.put("media/captions/two.json", canonical_bytes(changed))

        def obtain(captions: str) -> float:
            order = RenditionOrder(
                "bench--0123456789abcdef", "media/sources/s.mp4", sha256, probe.duration_s, True, EVERYTHING, SEED,
                None, captions,
            )  # fmt: skip
            started = time.perf_counter()
            obtain_renditions(store, order, ALL, scratch=home / "scratch")
            return time.perf_counter() - started

        first = obtain("media/captions/one.json")
        unchanged = statistics.median(obtain("media/captions/one.json") for _ in range(ROUNDS))
        patched = obtain("media/captions/two.json")
    return {
        "60 s in three formats with checks, s": first,
        "unchanged, s (bar 1)": unchanged,
        "one caption changed, s": patched,
        "share of the first time (bar 0.33)": patched / first,
    }


def by_size(folder: Path) -> dict[str, float]:
    seconds, memory = rendering(footage(folder, 10, "3840x2160"), folder)
    return {"10 s of 4K, s": seconds, "peak memory, MB (bar 1600)": memory}


def by_length(folder: Path) -> dict[str, float]:
    """Seconds of work per second of footage and memory, one format, two segments at a time."""
    figures = {}
    for seconds in LENGTHS:
        took, memory = rendering(footage(folder, seconds), folder, ("1x1",), workers=PROCESSORS)
        figures[f"{seconds} s: work per second"] = took / seconds
        figures[f"{seconds} s: peak memory, MB"] = memory
    return figures


def analysis(folder: Path) -> dict[str, float]:
    source = footage(folder, 60)
    probe = require_probe(source)
    with fresh(folder) as scratch:
        took = statistics.median(analyse(source, probe, scratch).seconds for _ in range(ROUNDS))
    return {"60 s of 1080p, s": took, "times real time (bar 8)": 60 / took}


PARTS: dict[str, Callable[[Path], dict[str, float]]] = {
    "beside the encoder": beside_the_encoder,
    "one run or three": one_run_or_three,
    "beside MoviePy": beside_moviepy,
    "again": again,
    "by size": by_size,
    "by length": by_length,
    "analysis": analysis,
}


def main(wanted: list[str]) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])
    target = Path("bench").resolve()
    target.mkdir(exist_ok=True)
    figures = {}
    for name in wanted or PARTS:
        figures[name] = PARTS[name](target / "footage")
        table = Table(name, "", title=None)
        for label, value in figures[name].items():
            table.add_row(label, f"{value:.2f}")
        Console().print(table)
    busy = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures["processor seconds"] = {"all": busy.ru_utime + busy.ru_stime}
    (target / "renders.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
