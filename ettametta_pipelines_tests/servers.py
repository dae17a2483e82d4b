"""Start, wait for and stop the servers that tests run on 127.0.0.1: programs, and applications in a thread.

Which servers there are is said beside whoever uses them: `databases.py` (Postgres), `production/servers.py`.
"""

import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

START_TIMEOUT_S = 120


class Server:
    """A program that is started, waited for, and stopped; `start` raises RuntimeError with what it said."""

    stop_signal = signal.SIGTERM

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"ettametta-{type(self).__name__.lower()}-"))
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        return listens(self.port)

    def start(self) -> Self:
        for _ in range(5):
            # It may be taken in between; the program then ends.
            self.port = free_port()
            if self.launch():
                return self
            self.end()
        raise RuntimeError(f"{self.command()[0]} did not start:\n{self.log.read_text()}")

    def launch(self) -> bool:
        """Start it on its port; whether it answers."""
        user = self.user()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.directory, stdout=log, stderr=log, user=user,
                group=pwd.getpwnam(user).pw_gid if user else None, extra_groups=[] if user else None,
                # Ctrl-C is for who started it, and stops it.
                process_group=0,
            )  # fmt: skip
        return wait_until(self.answers, self.process)

    def user(self) -> str | None:
        """Whom it runs as; None for ourselves."""
        return None

    def stop(self) -> None:
        self.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def end(self) -> None:
        if self.process is not None:
            end(self.process, self.stop_signal)
            self.process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        return self.directory / "server.log"


def end(process: "subprocess.Popen[Any]", by: signal.Signals = signal.SIGTERM, within_s: float = 30) -> None:
    """End a process of ours: told to, and killed where it does not listen."""
    process.send_signal(by)
    try:
        process.wait(timeout=within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(
    claim: Callable[[], bool], process: "subprocess.Popen[Any]", within_s: float = START_TIMEOUT_S
) -> bool:
    """True once the claim holds; False when the process ended before, or time is up."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and process.poll() is None:
        if claim():
            return process.poll() is None
        time.sleep(0.05)
    return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serves(url: str) -> bool:
    """Whether a GET is answered with 200."""
    import httpx

    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_user(*names: str) -> str:
    """The first of these users that there is. Raises RuntimeError."""
    for name in names:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise RuntimeError(f"none of the users {', '.join(names)} is here")


@contextmanager
def in_thread(application: Callable[[str], Any], **config: Any) -> Iterator[Any]:
    """An ASGI application, made for its address, behind uvicorn on a free port; yields the server, with its `url`."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(
            uvicorn.Config(application(url), access_log=False, **{"log_level": "warning"} | config)
        )
        server.url = url  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server ended as it started"
                time.sleep(0.02)
            yield server
        finally:
            server.should_exit = True
            thread.join(20)


@contextmanager
def s3_in_thread() -> Iterator[str]:
    """Address of moto's S3 server in a thread of this process."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()
