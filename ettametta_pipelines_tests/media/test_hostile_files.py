"""Hostile files: refused with a stable reason before anything is made of them, and nothing of anyone else's gets out.

Each file goes through the probe, the render engine and, for some, the upload path. What has to hold for all: no call
to the network, no byte of a neighbour in any output or message, nothing left behind, bounded memory.
"""

import hashlib
import os
import random
import resource
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ettametta_pipelines.confinement import running as confinement
from ettametta_pipelines.confinement.running import Ended
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.media import probe as probe_module
from ettametta_pipelines.media.analysis import analyse
from ettametta_pipelines.media.intake import Upload, accept_upload
from ettametta_pipelines.media.probe import probe_file, require_probe
from ettametta_pipelines.media.reasons import REASONS
from ettametta_pipelines.renders import ffmpeg as ffmpeg_module
from ettametta_pipelines.renders.engine import render, render_file
from ettametta_pipelines.renders.recipe import Recipe
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.frozen import utc
from ettametta_pipelines_tests.media.clips import X264, clip
from ettametta_pipelines_tests.media.hostile_files import (
    CANARY,
    HOSTILE_FILES,
    Ground,
    altered,
    ground,
    huge_jpegs,
    two_sizes,
    with_edits,
)

MEMORY = 500 << 20


@pytest.fixture(scope="module")
def heard() -> Iterator[tuple[int, list[bytes]]]:
    """A port on which a file that reaches for the network would be heard, and what was."""
    said: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)
    stop = threading.Event()

    def listen() -> None:
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            said.append(connection.recv(100))
            connection.close()

    thread = threading.Thread(target=listen)
    thread.start()
    yield server.getsockname()[1], said
    stop.set()
    thread.join()
    server.close()


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory, heard: tuple[int, list[bytes]]) -> Ground:
    return ground(tmp_path_factory.mktemp("ground"), heard[0])


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[Ended]:
    """How each confined child of the test ended."""
    ended: list[Ended] = []

    def watched(*arguments: object, **options: object) -> Ended:
        ended.append(confinement.run_confined(*arguments, **options))  # type: ignore[arg-type]
        return ended[-1]

    monkeypatch.setattr(probe_module, "run_confined", watched)
    monkeypatch.setattr(ffmpeg_module, "run_confined", watched)
    return ended


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def peak_of(children: list[Ended]) -> int:
    """Bytes; 0 where it cannot be told, since a child's peak counts what its parent had when it was started."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return max((ended.peak_memory_bytes for ended in children if ended.peak_memory_bytes > own), default=0)


def still_running(folder: Path) -> list[str]:
    """Command lines of processes that name a folder, on Linux."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(entry.read_bytes().decode("utf-8", "replace"))
    return [line for line in lines if str(folder) in line]


@pytest.mark.parametrize("name", [name for name, file in HOSTILE_FILES.items() if file.code])
def test_a_hostile_file_is_refused_for_good_and_leaves_no_trace(
    name: str, grounds: Ground, heard: tuple[int, list[bytes]], children: list[Ended], tmp_path: Path
) -> None:
    hostile = HOSTILE_FILES[name]
    path = tmp_path / hostile.name
    hostile.build(path, grounds)
    before = tree(tmp_path)
    verdict = probe_file(path)
    assert (verdict.accepted, verdict.reason_code) == (False, hostile.code), verdict.reason
    assert "\n" not in str(verdict.reason)
    assert verdict.remedy
    with pytest.raises(PermanentError) as caught:
        render_file(path, "clean", ["1x1"], tmp_path / "out")
    assert caught.value.code == hostile.code
    assert tree(tmp_path) == before
    assert still_running(tmp_path) == []
    told = [
        str(verdict.as_dict()),
        str(caught.value),
        *(f"{ended.stdout!r}{ended.stderr}" for ended in children),
    ]
    assert not any(CANARY in words for words in told)
    assert peak_of(children) < MEMORY
    assert heard[1] == []


@pytest.mark.parametrize("name", [name for name, file in HOSTILE_FILES.items() if file.code is None])
def test_an_odd_but_good_file_is_rendered_and_nothing_but_picture_and_sound_of_it_comes_out(
    name: str, grounds: Ground, heard: tuple[int, list[bytes]], children: list[Ended], tmp_path: Path
) -> None:
    hostile = HOSTILE_FILES[name]
    path = tmp_path / hostile.name
    hostile.build(path, grounds)
    before = tree(tmp_path)
    verdict = probe_file(path)
    assert verdict.accepted, verdict.reason
    document = render_file(path, "clean", ["1x1"], tmp_path / "out")
    (output,) = document["outputs"]
    made = Path(output["path"])
    assert tree(tmp_path) == before | {"out", f"out/{made.name}"}
    assert output["duration_s"] == pytest.approx(1.2, abs=0.05)
    assert still_running(tmp_path) == []
    content = made.read_bytes()
    for leak in (CANARY, "SUBTITLE OF THE SOURCE", "SECOND LINE", "xxxx", "evil.ttf", "</script>"):
        assert leak.encode() not in content
    assert not any(CANARY in ended.stderr for ended in children)
    assert heard[1] == []


UPLOADED = (
    "no bytes", "cut behind its index", "HLS to a file as mp4", "concat of the file beside it", "60 tracks",
    "protected", "tags with control characters",
)  # fmt: skip


@pytest.mark.parametrize("name", UPLOADED)
def test_a_hostile_upload_is_a_row_and_only_a_good_one_is_stored(
    name: str, grounds: Ground, heard: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    hostile = HOSTILE_FILES[name]
    path = tmp_path / hostile.name
    hostile.build(path, grounds)
    row, store = accepted(path, hostile.name, tmp_path)
    assert row["reason_code"] == hostile.code
    assert {info.key.split("/")[0] for info in store.list("")} == {"uploads"} | (
        {"media"} if hostile.code is None else set()
    )
    assert list((tmp_path / "scratch").iterdir()) == []
    assert heard[1] == []


def accepted(path: Path, name: str, folder: Path) -> tuple[dict[str, object], ObjectStore]:
    """The row of an upload with this content under this name, as the inbox and `source_media` handle it."""
    store = ObjectStore.from_url((folder / "store").as_uri())
    key = f"uploads/studio/cooking/2026/11/22/{name}"
    store.put(key, path.read_bytes())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    upload = Upload(f"studio--{sha256[:16]}", key, "studio", "cooking", sha256)
    return accept_upload(
        store, upload, scratch=folder / "scratch", clock=lambda: utc("2026-11-22T12:00:00")
    ), store


ODD_NAMES = (
    "-y.mp4", "-vf x.mp4", "http:x.mp4", "concat:a|b.mp4", "img%03d.mp4", "$(id).mp4", ";touch x.mp4", "..mp4",
    "'\"`.mp4", "%2e%2e%2f.mp4", "😀\u202egpj.mp4", "a\\b.mp4", "[0:v]movie=x.mp4", "x" * 200 + ".mp4", "{name}.mp4",
)  # fmt: skip


def test_odd_names_are_uploaded_and_probed_like_good_ones(grounds: Ground, tmp_path: Path) -> None:
    for place, name in enumerate(ODD_NAMES):
        folder = tmp_path / str(place)
        row, _ = accepted(grounds.good, name, folder)
        assert (row["verdict"], row["frames"]) == ("accepted", 30), name
        assert "\u202e" not in str(row["title"])
        assert {path.name for path in folder.iterdir()} == {"store", "scratch"}


@pytest.mark.parametrize(
    "name", ["-y.mp4", "concat:a|b.mp4", "img%03d.mp4", "$(id);touch x.mp4", "[0:v]movie=x.mp4"]
)
def test_an_odd_name_changes_nothing_about_a_render(
    name: str, grounds: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(grounds.good.read_bytes())
    monkeypatch.chdir(tmp_path)
    document = render_file(Path(name), "clean", ["1x1"], Path("out"))
    (output,) = document["outputs"]
    assert tree(tmp_path) == {name, "out", f"out/{Path(output['path']).name}"}
    assert output["duration_s"] == pytest.approx(1.2, abs=0.05)


def test_what_is_no_regular_file_is_not_opened(grounds: Ground, tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.mp4", tmp_path / "pipe.mp4"
    link.symlink_to(grounds.good)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path, Path("/dev/zero")):
        assert probe_file(path).reason_code == "not_a_regular_file"
        with pytest.raises(PermanentError) as caught:
            render_file(path, "clean", ["1x1"], tmp_path / "out")
        assert caught.value.code == "not_a_regular_file"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("first", "second", "codec", "suffix"),
    [
        (
            "320x180",
            "640x360",
            ("-c:v", "libvpx", "-b:v", "1M", "-deadline", "realtime", "-cpu-used", "8"),
            "webm",
        ),
        ("640x360", "320x180", X264, "mkv"),
    ],
)
def test_a_picture_that_changes_its_size_on_the_way_is_refused_by_name(
    first: str, second: str, codec: tuple[str, ...], suffix: str, tmp_path: Path
) -> None:
    """Browsers record calls like this. ffmpeg starts its filters anew in the middle, which shows the wrong part."""
    path = tmp_path / f"call.{suffix}"
    two_sizes(path, first, second, codec)
    probe = require_probe(path)
    for work in (
        lambda: analyse(path, probe, tmp_path),
        lambda: render(path, probe, Recipe(name="plain"), ["1x1"], 1, tmp_path / "out"),
    ):
        with pytest.raises(PermanentError) as caught:
            work()
        assert caught.value.code == "picture_size_changes"
    assert list((tmp_path / "out").iterdir()) == []


def test_pictures_that_turn_huge_on_the_way_end_the_render_within_its_memory(
    grounds: Ground, children: list[Ended], tmp_path: Path
) -> None:
    path = tmp_path / "clip.mov"
    huge_jpegs(path, grounds, from_frame=5, stated=False)
    probe = require_probe(path)
    with pytest.raises(PermanentError) as caught:
        render(path, probe, Recipe(name="plain"), ["1x1"], 1, tmp_path / "out")
    assert caught.value.code in ("decode_failed", "picture_size_changes")
    assert peak_of(children) < MEMORY
    assert list((tmp_path / "out").iterdir()) == []


def test_an_edit_list_that_repeats_itself_is_rendered_as_long_as_it_was_probed(
    grounds: Ground, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    altered(lambda data: with_edits(data, [(0.4, 0)] * 4))(path, grounds)
    probe = require_probe(path)
    assert probe.duration_s == pytest.approx(1.6, abs=0.1)
    (made,) = render(path, probe, Recipe(name="plain"), ["1x1"], 1, tmp_path / "out")
    assert made.probe.duration_s == pytest.approx(probe.duration_s, abs=0.05)


def test_flipped_bytes_are_refused_or_rendered_whole_and_crash_nothing(
    grounds: Ground, tmp_path: Path
) -> None:
    original = grounds.good.read_bytes()
    media = original.index(b"mdat")
    failures: list[PipelineError] = []
    for seed in range(8):
        rng = random.Random(seed)
        data = bytearray(original)
        for _ in range(2 if seed % 2 else 400):
            data[rng.randrange(media if seed % 2 else 0, len(data))] = rng.randrange(256)
        path = tmp_path / f"flipped{seed}.mp4"
        path.write_bytes(data)
        verdict = probe_file(path)
        if verdict.probe is None:
            assert verdict.reason_code in REASONS
            continue
        try:
            (made,) = render(path, verdict.probe, Recipe(name="plain"), ["1x1"], 1, tmp_path / "out")
        except PipelineError as error:
            failures.append(error)
        else:
            assert made.probe.duration_s == pytest.approx(verdict.probe.duration_s, abs=0.05)
            made.path.unlink()
    assert {error.code for error in failures} == {"decode_failed"}
    assert list((tmp_path / "out").iterdir()) == []


def test_an_index_with_flipped_bytes_never_gets_past_the_probe_as_a_fault_of_the_program(
    grounds: Ground, tmp_path: Path
) -> None:
    original = grounds.good.read_bytes()
    path = tmp_path / "flipped.mp4"
    verdicts = []
    for seed in range(24):
        rng = random.Random(seed)
        data = bytearray(original)
        for _ in range(rng.choice((1, 3, 9))):
            data[rng.randrange(original.index(b"mdat"))] = rng.choice((0, 255, rng.randrange(256)))
        path.write_bytes(data)
        verdicts.append(probe_file(path))
    assert {verdict.accepted for verdict in verdicts} == {True, False}
    assert {verdict.reason_code for verdict in verdicts if not verdict.accepted} <= REASONS.keys()


def test_captions_that_attack_the_filter_graph_are_drawn_as_they_stand(
    heard: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    path = clip(tmp_path / "clip.mp4", picture="testsrc2=s=320x180:r=25:d=2.4", sound=None)
    payloads = [
        "':textfile=/etc/passwd", "%{localtime}", f"],movie=http\\\\://127.0.0.1:{heard[0]}/x[v]", "it's 'unbalanced",
        r"{\an8}{\p1}m 0 0", "a;touch x", "[0:v]null", "\u202eevil",
    ]  # fmt: skip
    cues = [
        f"{n}\n00:00:0{0.3 * n:.3f} --> 00:00:0{0.3 * n + 0.29:.3f}\n{text}\n"
        for n, text in enumerate(payloads)
    ]
    captions = tmp_path / "clip.srt"
    captions.write_text("\n".join(cues))
    document = render_file(path, "clean", ["1x1"], tmp_path / "out", captions=captions)
    assert document["captions"]["drawn"] == len(payloads)
    assert tree(tmp_path) == {"clip.mp4", "clip.srt", "out", "out/clip_1x1.mp4"}
    assert heard[1] == []
    captions.write_text(f"1\n00:00:00,000 --> 00:00:02,000\n{'x' * 10_000}\n")
    with pytest.raises(PermanentError) as caught:
        render_file(path, "clean", ["1x1"], tmp_path / "again", captions=captions)
    assert caught.value.code == "captions_too_large"
