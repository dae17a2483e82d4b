"""Three sample videos for the demo, drawn and voiced by ffmpeg's own generators: nothing is downloaded.

Different on purpose: a landscape with parallax, spheres in 1080p, an upright one for phones. Each has moving
content, three or four shots and music, takes a few seconds to make and comes out the same every time.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg

RATE = 30


@dataclass(frozen=True)
class Sample:
    """One sample: its file name, picture size, a graph per shot ending in `{out}`, and a melody."""

    name: str
    size: tuple[int, int]
    shot_s: float
    shots: tuple[str, ...]
    notes_hz: tuple[float, ...]
    beats_per_s: float


def _layer(color: str, alpha: str, size: tuple[int, int], label: str) -> str:
    """A single still frame in one colour with an alpha plane from an expression of X and Y, repeated for ever."""
    still = f"color={color}:s={size[0]}x{size[1]}:r={RATE}:d=1,trim=end_frame=1,format=yuva420p"
    planes = "lum='p(X,Y)':cb='p(X,Y)':cr='p(X,Y)'"
    return f"{still},geq={planes}:a='{alpha}',loop=loop=-1:size=1[{label}]"


def _hills(place: int, sky: tuple[str, str], colors: Sequence[str], orb: str, rise: float) -> str:
    """A sky, an orb that rises or sinks by `rise` pixels a second, and three ridges that pass at different speeds."""
    width, height = 1280, 720
    parts = [
        f"gradients=s={width}x{height}:r={RATE}:c0={sky[0]}:c1={sky[1]}:n=2:x0=640:y0=0:x1=640:y1=620:seed=1:speed=0.00001,"
        f"format=yuv420p[sky{place}]",
        _layer(orb, "clip(255*(92-hypot(X-110,Y-110))/6,0,255)", (220, 220), f"orb{place}"),
    ]
    drawn = f"sky{place}"
    start = 330 if rise > 20 else 90
    parts.append(f"[{drawn}][orb{place}]overlay=x='760+14*t':y='{start}-{rise}*t':shortest=1[lit{place}]")
    drawn = f"lit{place}"
    for depth, color in enumerate(colors):
        crest = 150 - 22 * depth
        slow = f"{46 - 6 * depth}*sin(X/{210 - 52 * depth})"
        quick = f"{22 - 4 * depth}*sin(X/{83 - 19 * depth}+{depth + place})"
        wave = f"{crest}+{slow}+{quick}"
        parts.append(_layer(color, f"clip(255*(Y-({wave}))/3,0,255)", (1800, 420), f"ridge{place}{depth}"))
        speed, top = 30 + 55 * depth, 300 + 62 * depth
        parts.append(
            f"[{drawn}][ridge{place}{depth}]overlay=x='-{speed}*t-{70 * depth}':y={top}:shortest=1[hill{place}{depth}]"
        )
        drawn = f"hill{place}{depth}"
    parts.append(f"[{drawn}]null{{out}}")
    return ";".join(parts)


def _spheres(place: int, ground: tuple[str, str], colors: Sequence[str], path: tuple[float, float]) -> str:
    """Soft spheres on Lissajous curves in front of a slowly turning gradient."""
    width, height = 1920, 1080
    parts = [
        f"gradients=s=480x270:r={RATE}:c0={ground[0]}:c1={ground[1]}:n=2:seed={place + 4}:speed=0.006,"
        f"scale={width}:{height}:flags=bilinear,format=yuv420p[ground{place}]"
    ]
    drawn = f"ground{place}"
    for number, color in enumerate(colors):
        radius = 300 - 52 * number
        edge = f"clip(255*({radius}-hypot(X-{radius},Y-{radius}))/5,0,255)"
        shade = (
            f"clip(p(X,Y)*(1.28-hypot(X-{radius * 0.7:.0f},Y-{radius * 0.6:.0f})/{radius * 2.1:.0f}),16,235)"
        )
        ball = f"ball{place}{number}"
        parts.append(
            _layer(color, edge, (2 * radius, 2 * radius), ball).replace("lum='p(X,Y)'", f"lum='{shade}'")
        )
        x = f"{width / 2 - radius:.0f}+{620 - 60 * number}*sin({path[0] * (1 + number * 0.31):.3f}*t+{number})"
        y = f"{height / 2 - radius:.0f}+{300 - 20 * number}*cos({path[1] * (1 + number * 0.27):.3f}*t+{2 * number})"
        parts.append(f"[{drawn}][{ball}]overlay=x='{x}':y='{y}':shortest=1[drawn{place}{number}]")
        drawn = f"drawn{place}{number}"
    parts.append(f"[{drawn}]null{{out}}")
    return ";".join(parts)


def _lanterns(place: int, sky: tuple[str, str], colors: Sequence[str], climb: float) -> str:
    """Glowing discs that rise past an evening sky, swaying, the small ones slower as if farther away."""
    width, height = 720, 1280
    parts = [
        f"gradients=s={width}x{height}:r={RATE}:c0={sky[0]}:c1={sky[1]}:n=2:x0=360:y0=0:x1=360:y1=1280:seed=1:speed=0.00001,"
        f"format=yuv420p[dusk{place}]"
    ]
    drawn = f"dusk{place}"
    for number in range(9):
        radius = 34 + 14 * (number % 5)
        glow = f"clip(255*pow(max(0,1-hypot(X-{2 * radius},Y-{2 * radius})/{2 * radius}),1.3)*1.9,0,235)"
        lamp = f"lamp{place}{number}"
        parts.append(_layer(colors[number % len(colors)], glow, (4 * radius, 4 * radius), lamp))
        x = f"{(number * 257 + 90 * place) % 640 - radius}+{16 + 3 * number}*sin({0.9 + 0.13 * number:.2f}*t+{number})"
        y = f"{(number * 467 + 150) % 1300}-{climb * (0.5 + radius / 90):.1f}*t"
        parts.append(f"[{drawn}][{lamp}]overlay=x='{x}':y='{y}':shortest=1[rise{place}{number}]")
        drawn = f"rise{place}{number}"
    parts.append(f"[{drawn}]null{{out}}")
    return ";".join(parts)


SAMPLES: tuple[Sample, ...] = (
    Sample(
        name="over_the_hills.mp4",
        size=(1280, 720),
        shot_s=3.0,
        shots=(
            _hills(0, ("0x3b2a5a", "0xf7b267"), ("0x8a5a83", "0x5b3a63", "0x2b1d38"), "0xffe08a", 42),
            _hills(1, ("0x4aa5dd", "0xd9f1fb"), ("0x8fbf8a", "0x5a9a5f", "0x2c6b45"), "0xfff7d6", 14),
            _hills(2, ("0x0a1230", "0x3d4f8a"), ("0x33406f", "0x20294d", "0x0d1226"), "0xe8ecff", -20),
        ),
        notes_hz=(220.0, 277.18, 329.63, 440.0, 329.63, 277.18),
        beats_per_s=2.0,
    ),
    Sample(
        name="spheres.mp4",
        size=(1920, 1080),
        shot_s=2.5,
        shots=(
            _spheres(0, ("0xfde8d7", "0xf2b5a7"), ("0xe4572e", "0xf3a712", "0x29335c"), (1.1, 1.5)),
            _spheres(1, ("0x0b132b", "0x3a506b"), ("0x5bc0be", "0x9bf6ff", "0xffd6a5"), (1.4, 0.9)),
            _spheres(2, ("0xdff5e1", "0x9ad5ca"), ("0x2a9d8f", "0xe9c46a", "0xe76f51"), (0.8, 1.7)),
            _spheres(3, ("0x2b0a3d", "0x8e2a6b"), ("0xff5fa2", "0xffc2e2", "0x7dd3fc"), (1.6, 1.2)),
        ),
        notes_hz=(261.63, 392.0, 523.25, 392.0, 349.23, 440.0, 523.25, 440.0),
        beats_per_s=4.0,
    ),
    Sample(
        name="lanterns.mp4",
        size=(720, 1280),
        shot_s=3.0,
        shots=(
            _lanterns(0, ("0x1b1446", "0xd1495b"), ("0xffd166", "0xff9f1c", "0xfff3b0"), 70),
            _lanterns(1, ("0x04263a", "0x1f7a8c"), ("0xbfdbf7", "0x7ae7c7", "0xe0fbfc"), 110),
            _lanterns(2, ("0x2d0036", "0x5f0f40"), ("0xff7ab6", "0xffd6ff", "0xc8b6ff"), 85),
        ),
        notes_hz=(196.0, 246.94, 293.66, 369.99),
        beats_per_s=3.0,
    ),
)  # fmt: skip


def make_samples(directory: Path) -> list[Path]:
    """The three samples in `directory`; those already there are kept. Paths in the order of `SAMPLES`."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {sample: directory / sample.name for sample in SAMPLES}
    missing = [sample for sample, path in paths.items() if not path.is_file()]
    # A graph keeps one core busy and its encoder half of one.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for done in [pool.submit(_make, sample, paths[sample]) for sample in missing]:
            done.result()
    return list(paths.values())


def _make(sample: Sample, path: Path) -> None:
    duration = sample.shot_s * len(sample.shots)
    shots = ";".join(
        shot.format(out=f",trim=duration={sample.shot_s},setpts=PTS-STARTPTS,setsar=1[shot{place}]")
        for place, shot in enumerate(sample.shots)
    )
    joined = "".join(f"[shot{place}]" for place in range(len(sample.shots)))
    graph = f"{shots};{joined}concat=n={len(sample.shots)},format=yuv420p[v];{_melody(sample, duration)}[a]"
    with private_dir(path.parent, ".sample") as workdir:
        made = workdir / "sample.mp4"
        run_ffmpeg(
            [
                "-filter_complex", graph, "-map", "[v]", "-map", "[a]", "-t", f"{duration}",
                "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-threads", "2",
                "-c:a", "aac", "-b:a", "128k",
                "-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact",
                "-movflags", "+faststart", "-f", "mp4", f"file:{made}",
            ],
            doing=f"making the sample {sample.name}",
            workdir=workdir,
            timeout_s=300,
        )  # fmt: skip
        made.replace(path)


def _melody(sample: Sample, duration: float) -> str:
    """Plucked notes one after another, each with its octave, over a bass an octave below the first."""
    beat = f"mod(t*{sample.beats_per_s}\\,1)"
    step = f"mod(floor(t*{sample.beats_per_s})\\,{len(sample.notes_hz)})"
    pitch = "+".join(f"{hz}*eq({step}\\,{place})" for place, hz in enumerate(sample.notes_hz))
    pluck = f"0.22*exp(-4*{beat})*(sin(2*PI*t*({pitch}))+0.35*sin(4*PI*t*({pitch})))"
    bass = f"0.10*sin(PI*t*{sample.notes_hz[0]})"
    left, right = f"{pluck}+{bass}", f"0.8*({pluck})+{bass}"
    fade = f"afade=t=in:d=0.05,afade=t=out:st={duration - 0.4}:d=0.4"
    return f"aevalsrc=exprs='{left}|{right}':s=48000:d={duration},{fade}"
