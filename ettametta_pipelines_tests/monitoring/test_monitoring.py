"""Rules and dashboards against what the exporters say, and rules against series that should set them off."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client import generate_latest

from ettametta_pipelines.automation.metrics import registry_of
from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.synthesis.render_node.app import create_node
from ettametta_pipelines_tests.monitoring.exposed import Exposed, expressions, legend_faults
from ettametta_pipelines_tests.monitoring.rule_cases import CASES, promtool_tests

ROOT = Path(__file__).resolve().parents[2]
RULES: dict[str, Any] = yaml.safe_load((ROOT / "k8s/monitoring/rules.yaml").read_text())
ALERTS = {rule["alert"]: rule for group in RULES["spec"]["groups"] for rule in group["rules"]}
DASHBOARDS = sorted((ROOT / "k8s/monitoring/dashboards").glob("*.json"))


@dg.sensor(minimum_interval_seconds=30, job_name="nothing")
def watched() -> Iterator[dg.RunRequest]:
    yield from ()


def with_ticks(instance: dg.DagsterInstance) -> None:
    """What a daemon leaves behind: a heartbeat, a sensor that is on, its tick; and a pool."""
    from dagster._core.remote_origin import (
        InProcessCodeLocationOrigin,
        RemoteInstigatorOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        InstigatorType,
        SensorInstigatorData,
        TickData,
        TickStatus,
    )
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._daemon.types import DaemonHeartbeat

    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="x"), location_name="here")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "repository"), "watched")
    data = SensorInstigatorData(min_interval=30)
    instance.add_instigator_state(
        InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, data)
    )
    instance.create_tick(
        TickData(
            origin.get_id(), "watched", InstigatorType.SENSOR, TickStatus.SKIPPED, 1.0,
            selector_id=origin.get_selector().get_id() if hasattr(origin, "get_selector") else origin.get_id(),
        )
    )  # fmt: skip
    instance.add_daemon_heartbeat(DaemonHeartbeat(1.0, "SENSOR", "id", []))
    instance.event_log_storage.set_concurrency_slots("renders", 2)


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Exposed:
    """One scrape of the gateway, of `ettametta metrics` and of a render node, each after some work."""
    home = tmp_path_factory.mktemp("exporters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ETTAMETTA_HOME", str(home))
        patch.chdir(home)
        get_settings.cache_clear()
        settings = get_settings()
        found = Exposed()
        with TestClient(create_gateway(settings), raise_server_exceptions=False) as gateway:
            for path in ("/livez", "/readyz", "/watchz", "/media/none.mp4", "/go/abcdefgh"):
                gateway.get(path)
            gateway.post("/webhooks/stripe", content=b"x")
            gateway.post("/postbacks/none", content=b"x")
            patch.setattr(open_state(settings).__class__, "now", _away)
            gateway.get("/readyz")
            patch.undo()
            found.add(gateway.get("/metrics").text)
        patch.setenv("ETTAMETTA_HOME", str(home))
        with dg.instance_for_test() as instance:
            with_ticks(instance)
            found.add(generate_latest(registry_of(settings, instance)).decode())
        node = create_node(
            open_state(settings),
            open_store(settings),
            "secret",
            lambda _: True,
            lambda: {"workers": 1, "redis": 1},
        )
        with TestClient(node) as client:
            found.add(client.get("/metrics").text)
    get_settings.cache_clear()
    return found


def _away(self: object, session: object) -> None:
    from ettametta_pipelines.failures import TransientError

    raise TransientError("away", code="state_unavailable")


@pytest.mark.parametrize("alert", ALERTS)
def test_every_rule_asks_for_what_is_exposed(alert: str, exposed: Exposed) -> None:
    assert not exposed.faults(ALERTS[alert]["expr"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_asks_for_what_is_exposed(path: Path, exposed: Exposed) -> None:
    targets = expressions(json.loads(path.read_text()))
    assert targets
    assert not [fault for _, expr in targets for fault in exposed.faults(expr)]
    assert not [fault for legend, expr in targets for fault in legend_faults(legend, expr, exposed)]


def test_a_mistyped_metric_label_or_value_is_found(exposed: Exposed) -> None:
    assert exposed.faults("ettametta_rums > 0")
    assert exposed.faults('ettametta_runs{state="QUEUED"} > 0')
    assert exposed.faults('ettametta_runs{status="queued"} > 0')
    assert exposed.faults("sum by (platfrom) (ettametta_publications)")
    assert exposed.faults('ettametta_publications{state=~"NEEDS_REVIEW|INCIDENTS"}')


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_leads_to_what_it_means_where_to_look_and_what_to_do(alert: str) -> None:
    page, _, anchor = ALERTS[alert]["annotations"]["runbook_url"].partition("#")
    sections = re.split(r"^## ", (ROOT / page).read_text(), flags=re.MULTILINE)[1:]
    (section,) = [text for text in sections if text.splitlines()[0].strip().lower() == anchor]
    assert all(word in section for word in ("**Means**", "**Look**", "**Do**"))


def test_runbooks_are_of_alerts_that_exist() -> None:
    headings = re.findall(r"^## (\w+)", (ROOT / "docs/runbooks.md").read_text(), flags=re.MULTILINE)
    assert headings == list(ALERTS)


def test_rules_and_dashboards_are_what_the_program_makes() -> None:
    script = (
        "import monitoring, sys; sys.exit(any(p.read_text() != t for p, t in monitoring.files().items()))"
    )
    made = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "scripts", check=False)
    assert made.returncode == 0, "run python scripts/monitoring.py"


def test_every_alert_rings_when_it_should_and_not_before(tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        if os.environ.get("CI"):
            pytest.fail("no promtool here; scripts/install_test_servers.sh installs it")
        pytest.skip("no promtool here; scripts/install_test_servers.sh installs it")
    assert set(CASES) == set(ALERTS)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES["spec"]))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(promtool_tests("rules.yaml", ALERTS)))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
