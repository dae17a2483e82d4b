"""What a confined child may use and is said to have used: its own memory, the processors of its container."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ettametta_pipelines.confinement import running as confinement
from ettametta_pipelines.confinement.running import Limits, run_confined
from ettametta_pipelines.confinement.walls import look_at_walls, walls


def test_the_memory_of_the_parent_does_not_count() -> None:
    ballast = bytearray(300 << 20)
    ballast[::4096] = b"\x01" * len(ballast[::4096])
    limits = Limits(wall_s=20, cpu_s=10, memory_bytes=2 << 30, file_bytes=0)
    # Long enough to be looked at: the memory of what runs is read twice a second and at each piece of output.
    program = "import time; kept = bytearray(40 << 20); print(len(kept), flush=True); time.sleep(1.2)"
    ended = run_confined(Path(sys.executable), ["-I", "-S", "-c", program], limits=limits, workdir=Path("/"))
    assert ended.returncode == 0
    assert 40 << 20 < ended.peak_memory_bytes < 150 << 20


@pytest.mark.parametrize(
    ("quota", "expected"), [("150000 100000", 1), ("250000 100000", 2), ("10000 100000", 1)]
)
def test_a_containers_quota_counts_as_its_processors(
    quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(confinement, "CPU_QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text(quota)
    assert confinement.processors() == expected


@pytest.mark.parametrize("quota", ["max 100000", "", None])
def test_without_a_quota_all_processors_count(
    quota: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(confinement, "CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert confinement.processors() == 64


REACH = """
import json, socket, sys
said = {}
for name, path in (("own", "own.txt"), ("named", sys.argv[1]), ("neighbour", sys.argv[2])):
    try:
        said[name] = open(path).read()
    except OSError as error:
        said[name] = type(error).__name__
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[3])), 5).close()
    said["network"] = "reached"
except OSError as error:
    said["network"] = "shut"
for name, path in (("written", "made.txt"), ("written outside", sys.argv[2])):
    try:
        said[name] = open(path, "a").write("x")
    except OSError as error:
        said[name] = type(error).__name__
print(json.dumps(said))
"""


def reach(folder: Path, port: int) -> dict[str, object]:
    """What a confined child gets of its own file, one its arguments name, a neighbour's, and a port of this machine."""
    workdir, beside = folder / "mine", folder / "theirs"
    workdir.mkdir(parents=True)
    beside.mkdir()
    (workdir / "own.txt").write_text("mine")
    named, neighbour = beside / "named.txt", beside / "neighbour.txt"
    named.write_text("given")
    neighbour.write_text("secret")
    limits = Limits(wall_s=30, cpu_s=20, memory_bytes=2 << 30, file_bytes=1 << 20)
    # In pieces that name no file, so that only the program itself knows where the neighbour's lies.
    program = REACH.replace("sys.argv[2]", repr(str(neighbour))).replace("sys.argv[3]", str(port))
    arguments = ["-I", "-S", "-c", program, str(named)]
    ended = run_confined(Path(sys.executable), arguments, limits=limits, workdir=workdir)
    assert ended.returncode == 0, ended.stderr
    assert neighbour.read_text() in ("secret", "secretx")
    return dict(json.loads(ended.stdout))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def test_a_confined_child_reaches_its_own_files_and_those_it_was_given_and_nothing_else(
    listener: socket.socket, tmp_path: Path
) -> None:
    found = walls()
    if found.files or found.network:
        pytest.skip(f"this kernel cannot: {found.in_words}")
    assert reach(tmp_path, listener.getsockname()[1]) == {
        "own": "mine", "named": "given", "neighbour": "PermissionError", "network": "shut",
        "written": 1, "written outside": "PermissionError",
    }  # fmt: skip
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_without_a_network_namespace_the_rules_for_files_keep_tcp_shut(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose seccomp profile forbids namespaces."""
    if walls().files:
        pytest.skip("this kernel has no Landlock")
    crippled = tmp_path / "launcher.py"
    crippled.write_text(confinement.LAUNCHER.read_text().replace("libc.unshare(", "(lambda flags: -1)("))
    monkeypatch.setattr(confinement, "LAUNCHER", crippled)
    assert reach(tmp_path / "work", listener.getsockname()[1])["network"] == "shut"
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_wall_the_kernel_refuses_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crippled = tmp_path / "launcher.py"
    whole = confinement.LAUNCHER.read_text()
    crippled.write_text(whole.replace("CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446",
                                      "CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 9444, 9445, 9446"))  # fmt: skip
    monkeypatch.setattr(confinement, "LAUNCHER", crippled)
    found = look_at_walls()
    assert found.files == "Function not implemented"
    assert "sees only its own files: no (Function not implemented)" in found.in_words


def test_the_environment_of_a_confined_child_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    limits = Limits(wall_s=30, cpu_s=20, memory_bytes=2 << 30, file_bytes=0)
    program = (
        "import os, pathlib; print(len(os.environ), len(pathlib.Path('/proc/self/environ').read_bytes()))"
    )
    ended = run_confined(Path(sys.executable), ["-I", "-S", "-c", program], limits=limits, workdir=tmp_path)
    count, _ = ended.stdout.decode().split()
    # Python itself sets LC_CTYPE where no locale is given.
    assert int(count) <= 1
    assert b"canary" not in ended.stdout


def test_a_child_that_was_gone_before_it_was_looked_at_is_not_said_to_hold_what_its_parent_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = bytearray(200 << 20)
    monkeypatch.setattr(confinement, "_resident_peak", lambda pid: 0)
    limits = Limits(wall_s=60, cpu_s=10, memory_bytes=1 << 30, file_bytes=0)
    ended = run_confined(Path("/bin/true"), [], limits=limits, workdir=tmp_path)
    assert (ended.returncode, ended.peak_memory_bytes) == (0, 0)
    del held
