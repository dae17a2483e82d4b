"""Fixtures of the whole suite: a sandbox over HTTP on a fresh home, and settings that point at it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import hypothesis
import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines_tests.databases import (  # noqa: F401 (fixtures of the state and publishing tests)
    database,
    database_url,
    empty_database_url,
    open_database,
    postgres,
)
from ettametta_pipelines_tests.fuzz import FUZZ_EXAMPLES

if TYPE_CHECKING:
    from ettametta_pipelines.sandbox.server import SandboxServer


# A busy machine is slow now and then; how long one example takes says nothing about what is tested. The same examples
# each time, unless `make fuzz` asks for others.
hypothesis.settings.register_profile("suite", deadline=None, derandomize=not FUZZ_EXAMPLES)
hypothesis.settings.load_profile("suite")


# Files whose tests share a server that runs on, or something that is dear to make: each goes whole to one worker.
# (xdist's own groups do nothing under pytest 9.2, which no longer has the attribute they are written to.)
WHOLE_FILES = frozenset(
    f"ettametta_pipelines_tests/{name}"
    for name in (
        "browser/test_operators_day.py",
        "media/test_imprint.py",
        "scoring/test_quality_assets.py",
        "synthesis/gpu/test_worker.py",
        "synthesis/test_render_node.py",
    )
)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class WholeFiles(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file in WHOLE_FILES else nodeid

    return WholeFiles(config, log)


class MovingClock:
    """The sandbox's time: the real one until a test moves it ahead."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class SandboxUnderTest:
    """A running sandbox as a test sees it: its address, its clock, its faults, what it was asked."""

    def __init__(self, server: "SandboxServer", home: Path, clock: MovingClock) -> None:
        self.server = server
        self.clock = clock
        self.home = home
        self.url = server.url
        self.port = server.port
        # Tests set proxies to see that clients ignore them; the tests' own questions must not go there either.
        # Loading certificates, unused on plain HTTP, would take longer than most tests.
        self.http = httpx.Client(base_url=server.url, trust_env=False, verify=False, timeout=60)

    def advance(self, **by: float) -> None:
        """Move the sandbox's clock ahead; arguments as for `timedelta`."""
        self.clock.ahead += timedelta(**by)

    def fault(self, vendor: str, **rule: Any) -> None:
        """Add a fault rule; fields as in `sandbox.core.FaultRule`."""
        self.http.post("/_control/faults", json={"vendor": vendor, **rule}).raise_for_status()

    def close(self) -> None:
        self.http.close()

    def clear_faults(self) -> None:
        self.http.delete("/_control/faults").raise_for_status()

    def requests(self, vendor: str | None = None) -> list[dict[str, Any]]:
        """Requests so far: dicts of id, at, vendor, method, path, status, fault."""
        query = {"vendor": vendor} if vendor else {}
        return self.http.get("/_control/requests", params=query).raise_for_status().json()

    def count(self, vendor: str, method: str, path_part: str) -> int:
        """How many requests of a vendor had this method and `path_part` in their path."""
        return sum(r["method"] == method and path_part in r["path"] for r in self.requests(vendor))


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxUnderTest]:
    """A sandbox on a free port with a home of its own, stopped after the test."""
    from ettametta_pipelines.sandbox.server import SandboxServer

    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    clock = MovingClock()
    with SandboxServer(home, clock=clock) as server:
        under_test = SandboxUnderTest(server, home, clock)
        yield under_test
        under_test.close()


@pytest.fixture
def settings_env(
    sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Settings]:
    """Settings on the embedded default: home and sandbox of this test, no vendor key, no `.env`."""
    for name, field in Settings.model_fields.items():
        monkeypatch.delenv(str(field.alias or name).upper(), raising=False)
    monkeypatch.setenv("ETTAMETTA_HOME", str(sandbox.home))
    monkeypatch.setenv("ETTAMETTA_SANDBOX_PORT", str(sandbox.port))
    workdir = tmp_path / "workdir"
    workdir.mkdir()
    monkeypatch.chdir(workdir)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()
