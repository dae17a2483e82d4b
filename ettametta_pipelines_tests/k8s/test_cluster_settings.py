"""The cluster's own settings: Dagster's instance file, the sizes of runs, the GPU pod, the move to a new version."""

import base64
import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.ref import InstanceRef
from dagster._serdes import ConfigurableClassData
from dagster._serdes.config_class import ConfigurableClass

from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.orchestration.kubernetes_runs import migrate_everything, sizing_tags, steps_of
from ettametta_pipelines.orchestration.run_sizes import SIZES, STEP_SIZES, size_of
from ettametta_pipelines.settings import load_settings
from ettametta_pipelines.state import migrations
from ettametta_pipelines.synthesis.pod import TEMPLATE, load_template
from ettametta_pipelines_tests.databases import PostgresServer
from ettametta_pipelines_tests.k8s.rendered import (
    OVERLAYS,
    Document,
    dagster_yaml,
    named,
    render,
    run_job,
)


@pytest.fixture(params=OVERLAYS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    return render(request.param)


def test_dagster_takes_its_instance_file(
    documents: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://somebody:word@db.internal:5432/dagster")
    monkeypatch.setenv("AWS_STORAGE_BUCKET_NAME", "bucket")
    monkeypatch.setenv("POD_NAMESPACE", "ettametta")
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(dagster_yaml(documents)))
    ref = InstanceRef.from_dir(str(tmp_path))
    parts: list[ConfigurableClassData | None] = [
        ref.run_launcher_data, ref.run_coordinator_data, ref.compute_logs_data, ref.storage_data,
    ]  # fmt: skip
    for data in parts:
        assert data is not None
        kind = _class_of(data)
        outcome = process_config(resolve_to_config_type(kind.config_type()), data.config_dict)
        assert outcome.success, (data.class_name, outcome.errors)
    assert ref.storage_data is not None
    assert ref.storage_data.class_name == "DagsterPostgresStorage"


def _class_of(data: ConfigurableClassData) -> type[ConfigurableClass]:
    import importlib

    found: type[ConfigurableClass] = getattr(importlib.import_module(data.module_name), data.class_name)
    return found


@pytest.mark.parametrize("component", ["code", "gateway", "daemon", "webserver", "metrics"])
def test_the_dev_overlays_settings_are_taken(component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A signing key was shorter than is allowed once: the code location and the gateway did not start.
    documents = render("dev")
    pod = named(documents, "Deployment", f"ettametta-{component}")["spec"]["template"]["spec"]
    for source in pod["containers"][0]["envFrom"]:
        kind = "ConfigMap" if "configMapRef" in source else "Secret"
        data = named(documents, kind, next(iter(source.values()))["name"])["data"]
        for name, value in data.items():
            monkeypatch.setenv(name, value if kind == "ConfigMap" else base64.b64decode(value).decode())
    monkeypatch.setenv("POD_NAMESPACE", "ettametta")
    settings = load_settings()
    assert settings.production_domain == "studio.localhost"


def test_an_instance_file_with_a_misspelt_setting_is_refused(tmp_path: Path) -> None:
    settings = dagster_yaml(render("production"))
    settings["run_monitoring"]["max_runtime_second"] = 5
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(dg.DagsterInvalidConfigError, match="max_runtime_second"):
        InstanceRef.from_dir(str(tmp_path))


def test_connections_fit_into_the_database_the_page_names() -> None:
    # docs/kubernetes.md tells to have a server of two hundred connections.
    documents = render("production")
    runs = dagster_yaml(documents)["concurrency"]["runs"]["max_concurrent_runs"] * 3
    pooler = named(documents, "Deployment", "ettametta-pgbouncer")["spec"]["replicas"] * 15
    services = 2 * 11 + 2 * 11 // 2 + 10
    assert runs + pooler + services <= 200


def test_settings_of_every_overlay_can_be_read(
    documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in named(documents, "ConfigMap", "ettametta-settings")["data"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.dagster_home == Path("/srv/ettametta/dagster")
    assert settings.pool_limits["renders"] == 8
    assert settings.gateway_url.startswith("https://studio.")
    assert settings.proxy_user_header == "X-Forwarded-Email"


@pytest.mark.parametrize("steps", [["renditions", "thumbnails"], ["table_packs"], ["youtube_candidates"]])
def test_a_run_gets_what_its_largest_step_needs(steps: list[str]) -> None:
    job = run_job("production", *steps)
    wanted = SIZES[size_of(steps)]
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"] == wanted.resources()
    tags = json.loads(job["metadata"]["annotations"]["tags"])
    assert tags["ettametta/size"] == size_of(steps)


def test_every_sized_step_is_a_step_there_is(settings_env: Any) -> None:
    repository = build_definitions(load_settings()).get_repository_def()
    steps = {
        assets.node_def.name for assets in repository.assets_defs_by_key.values() if assets.is_executable
    }
    assert STEP_SIZES.keys() <= steps


@pytest.mark.parametrize(
    ("job", "size"),
    [("ingest_upload", "renders"), ("synthesize_clips", "media"), ("plan_publishing", "usual")],
)
def test_the_size_follows_from_the_plan_that_dagster_keeps(job: str, size: str, settings_env: Any) -> None:
    definition = build_definitions(load_settings()).resolve_job_def(job)
    with dg.instance_for_test() as instance:
        run = instance.create_run_for_job(definition)
        assert size_of(steps_of(instance, run)) == size


def test_a_size_nobody_knows_is_the_largest() -> None:
    assert sizing_tags("enormous")["ettametta/size"] == list(SIZES)[-1]


def test_scratch_of_a_run_has_room_on_its_disk() -> None:
    launcher = dagster_yaml(render("production"))["run_launcher"]["config"]["run_k8s_config"]
    volumes = [row for row in launcher["pod_spec_config"]["volumes"] if "empty_dir" in row]
    limits = {row["name"]: row["empty_dir"]["size_limit"] for row in volumes}
    assert limits["home"] == SIZES["renders"].scratch


def test_the_gpu_pod_in_the_cluster_is_the_one_python_builds_from(documents: list[Document]) -> None:
    base = load_template(TEMPLATE)
    shown = named(documents, "PodTemplate", "ettametta-gpu-worker")["template"]
    mounted = yaml.safe_load(named(documents, "ConfigMap", "ettametta-gpu-pod")["data"]["gpu-pod.yaml"])
    assert mounted["template"] == base
    assert shown["spec"] == base["spec"]
    assert base["metadata"]["labels"].items() <= shown["metadata"]["labels"].items()


@pytest.mark.parametrize("minor", ["1.33", "1.37"])
def test_kubernetes_takes_the_pod_that_python_builds(minor: str) -> None:
    import kubernetes_validate
    from dagster_k8s.pipes import build_pod_body
    from kubernetes.client import ApiClient

    template = load_template(TEMPLATE)
    body = build_pod_body(
        pod_name="ettametta-gpu-x", image="registry.example.com/ettametta-gpu:0.1.0", command=None, env_vars={},
        base_pod_meta=template["metadata"], base_pod_spec=template["spec"],
    )  # fmt: skip
    pod = {"apiVersion": "v1", "kind": "Pod"} | ApiClient().sanitize_for_serialization(body)
    kubernetes_validate.validate(pod, minor, strict=True)
    for name in ("tolerations", "securityContext", "volumes", "priorityClassName", "restartPolicy"):
        assert pod["spec"][name] == template["spec"][name]
    made, wanted = pod["spec"]["containers"][0], template["spec"]["containers"][0]
    for name in ("resources", "securityContext", "volumeMounts", "command"):
        assert made[name] == wanted[name]


@pytest.mark.postgres
def test_migrating_makes_both_databases_ready_and_may_be_repeated(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("migrate_state", "migrate_dagster"):
        postgres.execute(f"CREATE DATABASE {name}")
    address = postgres.url("migrate_dagster").replace("+psycopg", "")
    (tmp_path / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{address}'}}}}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", postgres.url("migrate_state"))
    monkeypatch.setenv("ETTAMETTA_POOL_LIMITS", "renders=8")
    settings = load_settings()
    first = list(migrate_everything(settings))
    assert list(migrate_everything(settings)) == first
    assert migrations.HEAD in first[0]
    with dg.DagsterInstance.get() as instance:
        widths = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert widths["renders"] == 8
    assert widths["publish_youtube"] == 1
