"""`ettametta dev`: the Dagster UI and daemon, the sandbox and the gateway, side by side until Ctrl-C.

Each runs as a child process with the same environment; the first to die takes the others down, so a half-running
set is never mistaken for a working one. Children are started here and ended here, by their own pid.

Dagster's are started one by one: `dagster dev` starts the same three, but only one after the other, and stays in
memory beside them. UI and daemon find the code server as soon as it has loaded the definitions.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from rich.console import Console

from ettametta_pipelines.discovery.niches import load_niches
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.ports import listen_on
from ettametta_pipelines.settings import VENDORS, Settings

STOP_WAIT_S = 20.0
# Of the code server, in a folder of its own; `automation/served.py` waits for it.
SOCKET = "code.sock"
# By default the process with the definitions ends itself after 30 seconds without a sign of its parent, which a laptop
# that slept or a machine that is overloaded does not give. It is ended with its group here.
HEARTBEAT_S = 7 * 24 * 3600


def project_root() -> Path:
    """The directory that holds `dagster.yaml` and `workspace.yaml`."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "workspace.yaml").is_file():
        raise PermanentError(
            f"workspace.yaml is not in {root}.",
            code="not_a_checkout",
            remedy="Run from a checkout of the project, installed with `pip install -e .`.",
        )
    return root


def prepare_home(settings: Settings) -> dict[str, str]:
    """Create the home with its Dagster instance settings; returns the environment children run with."""
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    wanted = (settings.instance_file or project_root() / "dagster.yaml").read_bytes()
    placed = settings.dagster_home / "dagster.yaml"
    if not placed.exists() or placed.read_bytes() != wanted:
        staged = placed.with_suffix(".yaml.new")
        staged.write_bytes(wanted)
        staged.replace(placed)
    return {
        "ETTAMETTA_HOME": str(settings.home_dir),
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
    }


def uses_sandbox(settings: Settings) -> bool:
    """Whether any vendor needs the sandbox. Raises SettingsError for any that is half configured."""
    modes = {settings.endpoint(name).mode for name in VENDORS}
    return "sandbox" in modes


@dataclass
class Child:
    name: str
    url: str
    process: subprocess.Popen[bytes]


def run_dev(settings: Settings, console: Console) -> int:
    """Start everything, wait, stop everything. Returns the exit code: 0 after Ctrl-C, 1 when a part died."""
    host = "127.0.0.1"
    load_niches(settings.niches_file)
    with_sandbox = uses_sandbox(settings)
    ports = [
        ("Dagster UI", settings.ui_port, "ETTAMETTA_UI_PORT"),
        ("gateway", settings.gateway_port, "ETTAMETTA_GATEWAY_PORT"),
    ]
    if with_sandbox:
        ports.append(("sandbox", settings.sandbox_port, "ETTAMETTA_SANDBOX_PORT"))
    for service, port, variable in ports:
        listen_on(host, port, service=service, variable=variable).close()
    environment = dict(os.environ) | prepare_home(settings)
    cli = [sys.executable, "-m", "ettametta_pipelines.cli"]
    sockets = Path(tempfile.mkdtemp(prefix="ettametta-"))
    # What takes longest to be ready comes first.
    commands = {
        **_dagster(sockets, host, settings.ui_port),
        "gateway": ([*cli, "gateway"], settings.gateway_url),
    }
    if with_sandbox:
        commands["sandbox"] = ([*cli, "sandbox"], settings.sandbox_url)
    children: list[Child] = []
    previous = signal.signal(signal.SIGTERM, _interrupt)
    # A shell that starts us in the background has SIGINT ignored, and Ctrl-C would then do nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for name, (command, url) in commands.items():
            children.append(Child(name, url, _start(command, environment)))
            if url:
                console.print(f"[bold]{name:<11}[/] {url}")
        console.print(f"[bold]{'home':<11}[/] {settings.home_dir}")
        ettametta = Path(sys.executable).with_name("ettametta")
        console.print(
            f"Drop a video with: {ettametta} upload FILE --account demo-studio --niche NICHE --rights owned",
            soft_wrap=True,
        )
        console.print("Ctrl-C stops everything.")
        return _wait(children, console)
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(children)
        shutil.rmtree(sockets, ignore_errors=True)
        signal.signal(signal.SIGTERM, previous)


def _dagster(folder: Path, host: str, port: int) -> dict[str, tuple[list[str], str]]:
    """Commands of Dagster's processes by name, and their addresses where people go to them; its files in `folder`.

    The code server loads the definitions once, for UI and daemon, and again when the UI is told to reload them.
    """
    workspace = yaml.safe_load((project_root() / "workspace.yaml").read_text())
    module = workspace["load_from"][0]["python_module"]
    socket = str(folder / SOCKET)
    served = folder / "workspace.yaml"
    server = {"socket": socket, "location_name": module["location_name"]}
    served.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    code = ["code-server", "start", "--socket", socket, "--location-name", module["location_name"]]
    code += ["--heartbeat-ttl", str(HEARTBEAT_S)]
    target = ["--module-name", module["module_name"], "--working-directory", str(project_root())]
    start = [sys.executable, "-m", "ettametta_pipelines.automation.served"]
    page = ["-w", str(served), "-h", host, "-p", str(port), "--dagster-log-level", "warning"]
    quietly = ["--log-level", "warning"]
    return {
        "daemon": ([*start, "daemon", str(folder), "run", "-w", str(served), *quietly], ""),
        "code server": ([*start, "code", str(folder), *code, *target, *quietly], ""),
        "Dagster UI": ([*start, "ui", str(folder), *page], f"http://{host}:{port}"),
    }


def _start(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    executable = shutil.which(command[0]) or command[0]
    # A new session keeps the terminal's Ctrl-C from reaching children before we stop them in order. A shell that
    # starts us in the background ignores SIGINT for us and our children, and Dagster then ignores SIGTERM as well.
    return subprocess.Popen(
        [executable, *command[1:]],
        env=dict(environment),
        cwd=project_root(),
        start_new_session=True,
        preexec_fn=_default_interrupt,
    )


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait(children: list[Child], console: Console) -> int:
    started = time.monotonic()
    starting = {child.name: child for child in children}
    while True:
        if starting:
            starting = {name: child for name, child in starting.items() if not _listens(child.url)}
            if not starting:
                console.print(f"[green]Ready[/] after {time.monotonic() - started:.0f} s.")
        for child in children:
            code = child.process.poll()
            if code is not None:
                console.print(f"[red]{child.name} stopped with exit code {code}; stopping the others.[/]")
                return 1
        time.sleep(0.5)


def _listens(url: str) -> bool:
    """Whether the part takes connections; the Dagster UI does so once its code location is loaded."""
    port = urlsplit(url).port
    # A gateway behind a public name listens here on a port that its address does not tell.
    if port is None:
        return True
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _stop(children: list[Child]) -> None:
    for child in reversed(children):
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + STOP_WAIT_S
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(timeout=max(0.1, deadline - time.monotonic()))
    # The groups as a whole: runs in flight outlive the process that started them. They are asked first, so that a
    # run can say that it was interrupted.
    for child in children:
        _end_group(child.process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_WAIT_S
    while time.monotonic() < deadline and any(_group_lives(child.process) for child in children):
        time.sleep(0.2)
    for child in children:
        _end_group(child.process, signal.SIGKILL)
        child.process.wait()


def _end_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
