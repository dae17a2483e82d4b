"""How surely a post is known again in other clothes: recall and false alarms of imprints, by what was done to it.

`make bench` runs it and keeps the figures in `bench/resemblance.json`. Generated films, some of them in one and the
same room, are rendered by every preset to the three formats. Each rendition is then changed as somebody would who
posts it again, and compared with renditions by two presets in all formats: of the same film, which must be known, and
of the others, which must not. Files named on the command line are taken instead of the generated films.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.media import landmarks, melody
from ettametta_pipelines.media.imprint import Imprint, Likeness, compare
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders.captions import Cue
from ettametta_pipelines.renders.engine import RenderedFile, render
from ettametta_pipelines.renders.ffmpeg import ffmpeg_path
from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.recipe import PRESETS_DIR, load_preset
from ettametta_pipelines_tests.media.scenes import film

OUT = Path("bench/resemblance.json")
PRESETS = tuple(sorted(path.stem for path in PRESETS_DIR.glob("*.yaml")))
EARLIER = ("clean", "cinematic")
# Seed and room (0: a place of its own).
FILMS = {"film 1": (1, 0), "film 2": (2, 0), "room, talk 1": (11, 5), "room, talk 2": (12, 5)}
SECONDS = 6.0
TUNE = "aevalsrc='0.3*sin(2*PI*t*(300+200*floor(mod(t*3,5))))*exp(-3*mod(t*3,1))':s=48000:d=600"


@dataclass(frozen=True)
class Change:
    """What is done to a rendition before it is posted again: filters of picture and sound, and by what it is known.

    A `coarse` one is encoded at 200 kbit/s with the shorter side 360.
    """

    picture: str = "null"
    sound: str = "anull"
    known_by: tuple[str, ...] = ("picture", "sound")
    pace: float = 1.0
    coarse: bool = False


_LETTERS = (
    "drawbox=y=ih*0.62:h=ih*0.14:w=iw*0.9:x=iw*0.05:color=black@0.75:t=fill,"
    "drawbox=x=iw*0.1:y=ih*0.65:w=iw*0.3:h=ih*0.03:color=white:t=4,drawbox=x=iw*0.5:y=ih*0.65:w=iw*0.2:h=ih*0.03:"
    "color=white:t=4,drawbox=x=iw*0.2:y=ih*0.70:w=iw*0.5:h=ih*0.03:color=white:t=4"
)
CHANGES = {
    "nothing": Change(),
    "mirror": Change("hflip"),
    "crop to 80 %": Change("crop=iw*0.8:ih*0.8:iw*0.15:ih*0.05"),
    "letterbox": Change("crop=iw:ih*0.76,pad=iw:ih/0.76:0:(oh-ih)/2"),
    "low bit rate": Change(coarse=True),
    "captions": Change(_LETTERS),
    "0.8x": Change("setpts=PTS/0.8", "atempo=0.8", pace=0.8),
    "0.8x, pitch too": Change("setpts=PTS/0.8", "asetrate=38400,aresample=48000", pace=0.8),
    "1.25x": Change("setpts=PTS/1.25", "atempo=1.25", pace=1.25),
    "1.25x, pitch too": Change("setpts=PTS/1.25", "asetrate=60000,aresample=48000", pace=1.25),
    "other sound": Change(sound="", known_by=("picture",)),
    "sound only": Change("drawbox=t=fill:color=black", known_by=("sound",)),
    "all at once": Change(
        "hflip,crop=iw*0.85:ih*0.85,eq=contrast=1.1,setpts=PTS/1.1",
        "atempo=1.1,volume=-6dB",
        pace=1.1,
        coarse=True,
    ),
}


def ffmpeg(*arguments: str) -> None:
    subprocess.run(
        [str(ffmpeg_path()), "-hide_banner", "-v", "error", "-nostdin", "-y", "-threads", "1", *arguments],
        check=True,
    )


def small_copy(path: Path, folder: Path) -> Path:
    """The file with the shorter side 360 and raw, so that a change of it costs next to nothing."""
    copy = folder / "small.nut"
    shrink = "fps=12.5,scale='if(lt(iw,ih),360,-2)':'if(lt(iw,ih),-2,360)',format=yuv420p"
    ffmpeg("-i", str(path), "-vf", shrink, "-c:v", "rawvideo", "-c:a", "pcm_s16le", "-ar", "48000", str(copy))
    return copy


def changed(small: Path, probe: Probe, change: Change, folder: Path) -> Imprint:
    """The imprint of a small copy after a change; `probe` is of the file it was made from."""
    sound = change.sound if probe.has_audio else ""
    if change.coarse:
        coder = [
            "-c:v",
            "libx264",
            "-preset",
            "superfast",
            "-b:v",
            "200k",
            "-maxrate",
            "250k",
            "-bufsize",
            "400k",
        ]
        heard = ["-af", sound, "-c:a", "aac", "-b:a", "32k"] if sound else ["-an"]
        ffmpeg("-i", str(small), "-vf", change.picture, *coder, *heard, str(folder / "coarse.mp4"))
        small, change = folder / "coarse.mp4", Change(pace=change.pace, sound="anull" if sound else "")
    elif not probe.has_audio:
        change = replace(change, sound="")
    return imprint_of(small, (probe.width, probe.height), probe.duration_s / change.pace, change, folder)


def imprint_of(path: Path, size: tuple[int, int], seconds: float, change: Change, folder: Path) -> Imprint:
    """The imprint of any file, without the intake's checks; `seconds` is its length after the change."""
    across, down = landmarks.frame_size(*size)
    heard = ["-map", "0:a", "-af", f"{change.sound},{melody.SOUND_CHAIN}"]
    if not change.sound:
        heard = ["-map", "1:a", "-af", melody.SOUND_CHAIN, "-t", f"{seconds:.3f}"]
    ffmpeg(
        "-i", str(path), "-f", "lavfi", "-i", TUNE,
        "-map", "0:v", "-vf", f"{change.picture},{landmarks.frame_chain(*size, seconds)}", "-fps_mode", "passthrough",
        "-f", "rawvideo", str(folder / "seen"), *heard, "-f", "s16le", str(folder / "heard"),
    )  # fmt: skip
    pictures = np.fromfile(folder / "seen", np.uint8).reshape(-1, down, across)
    marks = landmarks.landmarks_of(pictures, landmarks.frame_rate(seconds))
    return Imprint(marks, melody.course_of(np.fromfile(folder / "heard", "<i2")))


def renditions(
    source: Path, preset: str, folder: Path, formats: Sequence[str] = tuple(FORMATS)
) -> list[RenderedFile]:
    """A source by a preset, without other footage and other voices, with captions where the preset draws them."""
    recipe = load_preset(preset).model_copy(update={"broll": None, "voice_over": None})
    probe = require_probe(source)
    cues = [
        Cue(at + 0.1, at + 1.6, f"What {preset} says at {at}", ())
        for at in range(0, int(probe.duration_s) - 1, 2)
    ]
    seed = sum(preset.encode()) + sum(source.stem.encode())
    return render(source, probe, recipe, formats, seed, folder, captions=cues if recipe.captions else ())


@dataclass(frozen=True)
class Pair:
    """One rendition, changed, beside an earlier post."""

    change: str
    preset: str
    format: str
    earlier_format: str
    same_film: bool
    one_room: bool
    likeness: Likeness


@dataclass(frozen=True)
class Posting:
    """A rendition and what was done to it."""

    film: str
    preset: str
    format: str
    change: str
    imprint: Imprint


def collect(
    films: dict[str, Path], folder: Path, presets: Sequence[str] = PRESETS
) -> tuple[list[Posting], list[Posting]]:
    """The earlier posts, and every change of every rendition."""
    earlier, later = [], []
    for name, source in films.items():
        for preset in presets:
            for made in renditions(source, preset, folder / f"{source.stem}-{preset}"):
                assert made.imprint is not None
                if preset in EARLIER:
                    earlier.append(Posting(name, preset, made.format.name, "nothing", made.imprint))
                small = small_copy(made.path, folder)
                for change, how in CHANGES.items():
                    again = changed(small, made.probe, how, folder)
                    later.append(Posting(name, preset, made.format.name, change, again))
                made.path.unlink()
        print(f"{name}: rendered and changed", file=sys.stderr)  # noqa: T201
    return earlier, later


def measure(earlier: Sequence[Posting], later: Sequence[Posting], rooms: dict[str, int]) -> list[Pair]:
    """Every changed rendition beside every earlier post."""
    pairs = []
    for one in later:
        for post, likeness in zip(
            earlier, compare(one.imprint, [post.imprint for post in earlier]), strict=True
        ):
            in_room = rooms.get(one.film, 0) == rooms.get(post.film, 0) != 0
            pairs.append(
                Pair(
                    one.change, one.preset, one.format, post.format, post.film == one.film, in_room, likeness
                )
            )
    return pairs


def groups_of(pair: Pair) -> list[str]:
    """Rows of the table a pair counts in."""
    if not pair.same_film:
        return ["another film, same room" if pair.one_room else "another film"]
    if CHANGES[pair.change].known_by != ("picture", "sound"):
        return [] if pair.one_room else [pair.change]
    if pair.one_room:
        return ["the same film, of one room"]
    format = "in the same format" if pair.format == pair.earlier_format else "in another format"
    return [pair.change, format, f"by {pair.preset}"]


def known(pair: Pair) -> dict[str, bool]:
    return {
        "picture": pair.likeness.picture.resembles,
        "sound": pair.likeness.sound.resembles,
        "either": pair.likeness.resembles,
    }


def shares(pairs: Sequence[Pair]) -> dict[str, float]:
    """Shares of pairs that are said to resemble each other, by picture, sound and either."""
    answers = [known(pair) for pair in pairs]
    return {
        by: float(np.mean([answer[by] for answer in answers])) if answers else float("nan")
        for by in ("picture", "sound", "either")
    }


def posts_in_a_second(imprint: Imprint) -> tuple[float, int]:
    """Seconds to compare one imprint with a thousand others of its size that show something else, and its bytes."""
    rng = np.random.default_rng(1)
    others = []
    for _ in range(1000):
        marks = imprint.marks.copy()
        marks["hash"] = rng.integers(0, 2**64 - 1, len(marks), np.uint64)
        others.append(Imprint(marks, rng.permutation(imprint.course)))
    started = time.perf_counter()
    compare(imprint, others)
    return time.perf_counter() - started, len(imprint.to_bytes())


def main(files: Sequence[str]) -> None:
    console = Console(width=120)
    with TemporaryDirectory() as place:
        folder = Path(place)
        if files:
            films, rooms = {Path(name).stem: Path(name) for name in files}, {}
        else:
            films = {
                name: film(folder / f"{seed}.mp4", seed, seconds=SECONDS, studio=room)
                for name, (seed, room) in FILMS.items()
            }
            rooms = {name: room for name, (_, room) in FILMS.items()}
        pairs = measure(*collect(films, folder), rooms)
        long = film(folder / "long.mp4", 99, seconds=30)
        seconds, size = posts_in_a_second(imprint_of(long, (640, 360), 30, Change(), folder))
    report: dict[str, Any] = {
        "recall": {},
        "false_alarms": {},
        "seconds_for_1000_posts": round(seconds, 3),
        "imprint_bytes_of_30_s": size,
    }
    table = Table(
        "what was done",
        "pairs",
        "picture",
        "sound",
        "either",
        title="Known again (recall)",
        title_justify="left",
    )
    groups: dict[str, list[Pair]] = {change: [] for change in CHANGES}
    for pair in pairs:
        for name in groups_of(pair):
            groups.setdefault(name, []).append(pair)
    for name, group in groups.items():
        found = shares(group)
        kind = "false_alarms" if name.startswith("another film") else "recall"
        report[kind][name] = {"pairs": len(group)} | {by: round(value, 4) for by, value in found.items()}
        table.add_row(name, str(len(group)), *(f"{value:.3f}" for value in found.values()))
    console.print(table)
    console.print(f"One imprint beside 1,000 others of 30 s: {seconds:.2f} s; it has {size:,} bytes.")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
