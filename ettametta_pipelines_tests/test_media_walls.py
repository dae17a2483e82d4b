"""Media are opened in the cage: who runs ffmpeg, who opens a file with PyAV, and what becomes of hostile renditions.

Everything that decodes goes through `run_confined`, by way of `run_ffmpeg` or the probe. What stands outside is named
below with the reason why its bytes cannot be a stranger's.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ettametta_pipelines
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing.stills import STILLS, WIDTH, stills_of
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.media.clips import clip
from ettametta_pipelines_tests.media.hostile_files import HOSTILE_FILES, ground

PACKAGE = Path(ettametta_pipelines.__file__).parent

# (File, function) that opens media for reading with PyAV -> why it may.
READERS = {
    ("media/inspection.py", "open_container"): "runs as a confined child of the probe, and nowhere else",
    ("synthesis/clip_file.py", "examine_clip"): "reads what encode_clip wrote in the line before",
    ("sandbox/youtube_uploads.py", "_decode"): "the stand-in for YouTube, given what this machine rendered",
}
WRITERS = {
    ("synthesis/clip_file.py", "encode_clip"),
    ("synthesis/engines/cinematic.py", "write_video"),
    ("sandbox/speechlike.py", "encoded"),
}
# The cage itself; whoever asks it for a program; who starts other programs, none of which is given media.
CAGE = "confinement/running.py"
CONFINED = {
    "confinement/walls.py", "media/probe.py", "renders/encoders.py", "renders/ffmpeg.py", "renders/local_voice.py",
}  # fmt: skip
OTHER_STARTERS = {"commands/devserver.py", "synthesis/render_node/server.py", "synthesis/worker_process.py"}
# Other ways to a decoder or to a program.
FORBIDDEN_NAMES = {
    "VideoCapture", "VideoWriter", "read_frames", "run_async", "imread", "export_to_video", "load_video", "posix_spawn",
    "execv", "execvp", "execvpe", "create_subprocess_exec", "create_subprocess_shell",
}  # fmt: skip
FORBIDDEN_CALLS = (("os", "system"), ("os", "popen"), ("ffmpeg", "run"), ("ffmpeg", "probe"))
FORBIDDEN_MODULES = {
    "imageio",
    "moviepy",
    "decord",
    "torchvision",
    "torchaudio",
    "torchcodec",
    "soundfile",
    "librosa",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text())


def calls_of(tree: ast.AST, module: str, name: str, within: str = "") -> Iterator[tuple[str, ast.Call]]:
    """(Function it stands in, "" for none; call) of each `module.name(...)`."""
    for node in ast.iter_child_nodes(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(node, ast.Call) and called is not None and ast.unparse(called) == f"{module}.{name}":
            yield within, node
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from calls_of(node, module, name, node.name if is_function else within)  # type: ignore[attr-defined]


def is_for_writing(call: ast.Call) -> bool:
    mode = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return [node.value for node in mode if isinstance(node, ast.Constant)] == ["w"]


def starters(tree: ast.Module) -> bool:
    return any(
        (isinstance(node, ast.Import) and any(alias.name == "subprocess" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "subprocess")
        for node in ast.walk(tree)
    )


def test_pyav_opens_files_in_the_cage_or_those_made_in_the_same_process() -> None:
    readers, writers = set(), set()
    for file, tree in modules():
        for function, call in calls_of(tree, "av", "open"):
            (writers if is_for_writing(call) else readers).add((file, function))
        for node in ast.walk(tree):
            # By another name it would not be seen above.
            if isinstance(node, ast.Import):
                assert all(alias.asname is None for alias in node.names if alias.name.startswith("av")), file
            elif isinstance(node, ast.ImportFrom) and node.module in ("av", "av.container"):
                assert not {alias.name for alias in node.names} & {"open", "Container", "container"}, file
            # What may read is a program of the cage, and no module of anybody's process.
            if isinstance(node, ast.ImportFrom):
                assert "inspection" not in {*(node.module or "").split("."), *(a.name for a in node.names)}, (
                    file
                )
    assert readers == set(READERS)
    assert writers == WRITERS


def test_a_clip_is_examined_only_where_it_was_encoded_in_the_line_before() -> None:
    seen = []
    for file, tree in modules():
        bodies = (getattr(node, "body", None) for node in ast.walk(tree))
        for body in (each for each in bodies if isinstance(each, list)):
            for before, after in zip([None, *body], body, strict=False):
                if (examined := called_with(after, "examine_clip")) is not None:
                    seen.append(file)
                    assert before is not None
                    assert called_with(before, "encode_clip") == examined, f"{file} examines another clip"
    assert seen == ["synthesis/worker.py"]


def called_with(statement: ast.stmt, name: str) -> str | None:
    """The first argument, as written, of a plain statement that calls this function."""
    call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name:
        return ast.unparse(call.args[0])
    return None


def test_programs_are_started_by_the_cage_and_by_those_that_are_given_no_media() -> None:
    assert {file for file, tree in modules() if starters(tree)} == {CAGE, *OTHER_STARTERS}
    confined = {
        file
        for file, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "run_confined"
    }
    assert confined == CONFINED


def test_there_is_no_other_way_to_a_decoder() -> None:
    for file, tree in modules():
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not names & FORBIDDEN_NAMES, file
        imported = {
            alias.name.split(".")[0]
            for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        } | {
            (node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
        }  # fmt: skip
        assert not imported & FORBIDDEN_MODULES, file
        # ffmpeg-python writes graphs here; it would start ffmpeg itself, past the cage.
        for module, name in FORBIDDEN_CALLS:
            assert not list(calls_of(tree, module, name)), file
        # Only the runner knows where the binary is, beside whom it asks what it can encode.
        if "ffmpeg_path" in names:
            assert file in ("renders/ffmpeg.py", "renders/encoders.py"), file


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


def test_stills_of_a_rendition_are_small_even_and_in_order(store: ObjectStore, tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    made = clip(tmp_path / "r.mp4", picture="testsrc2=s=720x1280:r=25:d=4")
    store.put_file("media/renditions/a/9x16/k.mp4", made)
    found = stills_of(store, "media/renditions/a/9x16/k.mp4", 4.0, scratch=tmp_path / "scratch")
    assert [second for second, _ in found] == [0.25 + 0.5 * number for number in range(STILLS)]
    pictures = [Image.open(BytesIO(jpeg)) for _, jpeg in found]
    assert {picture.size for picture in pictures} == {(WIDTH, 427)}
    assert len({picture.tobytes() for picture in pictures}) == STILLS
    assert list((tmp_path / "scratch").iterdir()) == []


def test_stills_end_where_the_video_does(store: ObjectStore, tmp_path: Path) -> None:
    store.put_file("media/renditions/a.mp4", clip(tmp_path / "r.mp4", picture="testsrc2=s=128x96:r=25:d=2"))
    found = stills_of(store, "media/renditions/a.mp4", 4.0, scratch=tmp_path / "scratch")
    assert [second for second, _ in found] == [0.25, 0.75, 1.25, 1.75]


@pytest.mark.parametrize(
    "what", ["HLS to a file as mp4", "concat of the file beside it", "random bytes", "no bytes"]
)
def test_a_rendition_that_was_swapped_for_something_hostile_is_refused(
    store: ObjectStore, tmp_path: Path, what: str
) -> None:
    aims, folder = ground(tmp_path / "ground", port=9), tmp_path / "store" / "media"
    folder.mkdir(parents=True)
    HOSTILE_FILES[what].build(folder / "r.mp4", aims)
    with pytest.raises(PermanentError):
        stills_of(store, "media/r.mp4", 2.0, scratch=tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
