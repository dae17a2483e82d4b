"""A real daemon, killed: uploads dropped while it is away, or taken in just before, lead to exactly one run each."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.automation.sensors import RUN_KEY_TAG
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.commands.devserver import project_root
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.storage.conftest import ACCESS_KEY, SECRET_KEY, BucketUnderTest
from ettametta_pipelines_tests.storage.conftest import bucket as bucket  # a fixture, as those below
from ettametta_pipelines_tests.storage.conftest import s3_client as s3_client
from ettametta_pipelines_tests.storage.conftest import s3_endpoint as s3_endpoint

WAIT_S = 280.0
# The instance of this test launches nothing: that a run is asked for is what counts, and rendering takes minutes.
INSTANCE = """
telemetry: {enabled: false}
run_coordinator:
  module: dagster._core.run_coordinator.queued_run_coordinator
  class: QueuedRunCoordinator
  config: {max_concurrent_runs: 0}
"""
# Only the upload sensor, and often.
WORKSPACE = """
import dagster as dg
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.settings import get_settings

def of_everything():
    everything = build_definitions(get_settings())
    (sensor,) = (one for one in everything.sensors if one.name == "upload_sensor")
    sensor._min_interval = 1
    return dg.Definitions(
        assets=everything.assets, jobs=everything.jobs, sensors=[sensor], resources=everything.resources,
        executor=everything.executor,
    )

defs = of_everything()
"""


class Daemon:
    """`dagster-daemon` on a home of its own; killed by its pid, started again."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.home = home
        (home / "dagster").mkdir(parents=True)
        (home / "dagster" / "dagster.yaml").write_text(INSTANCE)
        (home / "defs.py").write_text(WORKSPACE)
        self.environment = environment | {
            "DAGSTER_HOME": str(home / "dagster"), "PATH": os.environ["PATH"], "PYTHONPATH": str(project_root()),
        }  # fmt: skip
        self.instance = dg.DagsterInstance.from_config(str(home / "dagster"))
        self.process: subprocess.Popen[bytes] | None = None
        self.log = home / "daemon.log"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-f", str(self.home / "defs.py")],
            env=self.environment, cwd=project_root(), stdout=self.log.open("ab"), stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def kill(self) -> None:
        """As by the kernel: at once, and its code server with it."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def runs(self) -> Counter[str]:
        """Runs by partition."""
        return Counter(run.tags["dagster/partition"] for run in self.instance.get_runs())

    def wait_for(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not ready():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.25)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ObjectStore, dict[str, str]]:
    """A store, and the variables by which a process finds it."""
    if request.param == "directory":
        url = (tmp_path / "store").as_uri()
        return ObjectStore.from_url(url), {"ETTAMETTA_STORE": url}
    bucket: BucketUnderTest = request.getfixturevalue("bucket")
    return bucket.store(), {
        "ETTAMETTA_STORE": f"s3://{bucket.name}", "AWS_ENDPOINT_URL": bucket.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }  # fmt: skip


@pytest.fixture
def daemon(
    store: tuple[ObjectStore, dict[str, str]], settings_env: Settings, tmp_path: Path
) -> Iterator[Daemon]:
    home = tmp_path / "daemon"
    daemon = Daemon(home, {"ETTAMETTA_HOME": str(home), "HOME": str(home)} | store[1])
    yield daemon
    if daemon.process is not None and daemon.process.poll() is None:
        daemon.kill()
    daemon.instance.dispose()


def drop(store: ObjectStore, names: list[str]) -> None:
    for name in names:
        store.put(f"uploads/studio/travel/{utc_now():%Y/%m/%d}/{name}.mp4", name.encode())


@pytest.mark.slow
def test_uploads_dropped_while_the_daemon_is_killed_and_restarted_lead_to_one_run_each(
    daemon: Daemon, store: tuple[ObjectStore, dict[str, str]]
) -> None:
    objects, _ = store
    drop(objects, ["before-1", "before-2"])
    daemon.start()
    daemon.wait_for(lambda: len(daemon.runs()) >= 1)
    drop(objects, ["during-1", "during-2", "during-3"])
    # Wherever it is by now: between ticks, in one, or between the seen-table and the runs.
    daemon.kill()
    drop(objects, ["after-1", "after-2"])
    daemon.start()
    daemon.wait_for(lambda: len(daemon.runs()) == 7)
    drop(objects, ["last"])
    daemon.wait_for(lambda: len(daemon.runs()) == 8)
    assert set(daemon.runs().values()) == {1}
    keys: list[Any] = [run.tags[RUN_KEY_TAG] for run in daemon.instance.get_runs()]
    assert len(set(keys)) == 8
