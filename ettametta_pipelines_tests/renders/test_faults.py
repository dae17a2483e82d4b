"""Faults around a render: whatever breaks, the failure has its class and its place is left clean.

The machine's own faults (full disk, killed process, too little memory) are worth another try; those of the source
and the installation are not.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders import caption_drawing, engine
from ettametta_pipelines.renders import ffmpeg as runner
from ettametta_pipelines.renders.captions import Cue
from ettametta_pipelines.renders.engine import RenderProgress, render
from ettametta_pipelines.renders.recipe import Captions, Recipe, load_preset
from ettametta_pipelines_tests.media.clips import clip

PLAIN = Recipe(name="plain")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(
        tmp_path_factory.mktemp("source") / "s.mp4",
        picture="testsrc2=s=320x180:r=25:d=1.2",
        sound="sine=d=1.2",
    )


@pytest.fixture(scope="module")
def probe(source: Path) -> Probe:
    return require_probe(source)


def failure(
    source: Path, probe: Probe, out: Path, recipe: Recipe = PLAIN, kind: type[PipelineError] = TransientError
) -> str:
    """The code of the failure a render ends with; nothing may be left where it worked."""
    with pytest.raises(kind) as caught:
        render(source, probe, recipe, ["1x1"], 1, out, captions=[Cue(0.1, 1.0, "Words")])
    assert caught.value.remedy
    assert not out.exists() or list(out.iterdir()) == []
    return caught.value.code


# Free bytes, recipe: full while the sound is made, while a plate is painted, while the picture is written.
FULL = {"sound": (2_000, "clean"), "plate": (400_000, "cinematic"), "picture": (60_000, "clean")}
ON_A_SMALL_DISK = """
import os, sys
from pathlib import Path
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.media.probe import require_probe
{imports}
disk, free = Path(sys.argv[1]), int(sys.argv[2])
room = os.statvfs(disk)
(disk / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize - free))
source = Path(sys.argv[3])
try:
    {work}
except PipelineError as error:
    print(error.kind, error.code, *sorted(path.name for path in disk.rglob("*")))
"""


def on_a_small_disk(work: str, imports: str, free: int, source: Path, folder: Path) -> str:
    """What a program prints that works on a disk with so many bytes free; skips where none can be had."""
    if shutil.which("unshare") is None:
        pytest.skip("needs a private mount namespace")
    disk = folder / "disk"
    disk.mkdir()
    mounted = f'mount -t tmpfs -o size=4m none "{disk}" && exec "$@"'
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mounted, "sh", sys.executable, "-c",
         ON_A_SMALL_DISK.format(work=work, imports=imports), str(disk), str(free), str(source)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "unshare" in run.stderr or "mount" in run.stderr:
        pytest.skip(f"no private mounts here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize("phase", FULL)
def test_a_full_disk_is_worth_another_try_and_leaves_nothing(
    phase: str, source: Path, tmp_path: Path
) -> None:
    free, recipe = FULL[phase]
    said = on_a_small_disk(
        f'render(source, require_probe(source), load_preset("{recipe}"), ["1x1"], 1, disk / "out")',
        "from ettametta_pipelines.renders.engine import render\n"
        "from ettametta_pipelines.renders.recipe import load_preset",
        free, source, tmp_path,
    )  # fmt: skip
    assert said == "transient disk_full filler out"


def test_a_disk_that_fills_up_during_the_checks_does_not_pass_for_a_clean_picture(tmp_path: Path) -> None:
    """ffmpeg exits 0 although it could write none of its notes; a black film then looked flawless."""
    black = clip(tmp_path / "black.mp4", picture="color=black:s=320x180:r=25:d=2", sound=None)
    said = on_a_small_disk(
        'print(play(source, require_probe(source), RENDITION, disk).black)',
        "from ettametta_pipelines.renders.playback import play\n"
        "from ettametta_pipelines.renders.quality import RENDITION",
        4_096, black, tmp_path,
    )  # fmt: skip
    assert said == "transient disk_full filler"


def test_a_place_that_may_not_be_written_needs_a_person(source: Path, probe: Probe, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    assert failure(source, probe, tmp_path / "out", kind=NeedsPersonError) == "store_access_denied"


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child in /proc")
def test_a_killed_ffmpeg_is_worth_another_try_and_leaves_nothing(
    source: Path, probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runner, "COMMON", (*runner.COMMON, "-readrate", "0.5"))
    killed: list[int] = []

    def kill(update: RenderProgress) -> None:
        for child in [] if killed else children_in(tmp_path):
            os.kill(child, signal.SIGKILL)
            killed.append(child)

    with pytest.raises(TransientError) as caught:
        render(source, probe, PLAIN, ["1x1"], 1, tmp_path / "out", progress=kill)
    assert caught.value.code == "ffmpeg_killed"
    assert killed
    assert list((tmp_path / "out").iterdir()) == []
    assert children_in(tmp_path) == []


def children_in(folder: Path) -> list[int]:
    """Living children of ours that work below a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == os.getpid() and (entry / "cwd").resolve().is_relative_to(folder):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("megabytes", [210, 240])
def test_too_little_memory_is_worth_another_try(
    megabytes: int, source: Path, probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whichever allocation fails: a buffer, an encoder, a thread."""
    monkeypatch.setattr(runner, "MEMORY_BYTES", megabytes << 20)
    assert failure(source, probe, tmp_path / "out", load_preset("cinematic")) == "out_of_memory"


def test_a_render_past_its_time_is_ended_and_not_repeated(
    source: Path, probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "_timeout_s", lambda *plan: 0.05)
    assert failure(source, probe, tmp_path / "out", kind=PermanentError) == "render_timeout"


@pytest.mark.parametrize("content", [None, b"", b"OTTO not a font at all", b"\x00" * 5000])
def test_a_font_that_cannot_be_read_is_named_before_ffmpeg_starts(
    content: bytes | None, source: Path, probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    font = tmp_path / "font.otf"
    if content is not None:
        font.write_bytes(content)
    monkeypatch.setattr(caption_drawing, "FONT_FILE", font)
    monkeypatch.setattr(runner, "run_confined", lambda *a, **k: pytest.fail("ffmpeg was started"))
    for cache in (caption_drawing.face, caption_drawing._measure, caption_drawing._advance):
        cache.cache_clear()
    try:
        recipe = Recipe(name="words", captions=Captions())
        assert failure(source, probe, tmp_path / "out", recipe, PermanentError) == "caption_font_unreadable"
    finally:
        for cache in (caption_drawing.face, caption_drawing._measure, caption_drawing._advance):
            cache.cache_clear()


def test_a_source_that_vanished_or_shrank_after_its_probe_fails_and_is_not_replaced_by_anything(
    source: Path, probe: Probe, tmp_path: Path
) -> None:
    gone, shrunk = tmp_path / "gone.mp4", tmp_path / "shrunk.mp4"
    shrunk.write_bytes(source.read_bytes()[:-4000])
    assert failure(gone, probe, tmp_path / "out", kind=PermanentError) == "ffmpeg_failed"
    assert failure(shrunk, probe, tmp_path / "out", kind=PermanentError) == "decode_failed"
