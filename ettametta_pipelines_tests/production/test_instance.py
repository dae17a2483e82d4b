"""The instance over Postgres and S3: Dagster takes its file, keeps runs and events, and its limits fit the database."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from ettametta_pipelines.commands.devserver import prepare_home
from ettametta_pipelines.settings import Settings, load_settings
from ettametta_pipelines_tests.databases import PostgresServer
from ettametta_pipelines_tests.production.servers import S3

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "k8s/single-machine/dagster.yaml"


@pytest.fixture
def servers(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    import boto3

    postgres.execute("CREATE DATABASE instance")
    with S3() as server:
        for name, value in {
            "ETTAMETTA_INSTANCE_FILE": str(FILE),
            "DAGSTER_POSTGRES_URL": postgres.url("instance").replace("+psycopg:", "+psycopg2:"),
            "AWS_STORAGE_BUCKET_NAME": "logs", "AWS_ENDPOINT_URL": server.url, "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="logs")
        yield server
    postgres.execute("DROP DATABASE instance WITH (FORCE)")


@dg.asset
def said() -> None:
    print("into the log")  # noqa: T201 (what a run prints is what is looked for)


@pytest.mark.postgres
def test_runs_events_and_logs_are_outside_of_the_machine(settings_env: Settings, servers: S3) -> None:
    import boto3

    settings = load_settings()
    prepare_home(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        result = dg.materialize([said], instance=instance)
        assert result.success
        assert "Postgres" in type(instance.run_storage).__name__
        assert instance.get_latest_materialization_event(dg.AssetKey("said")) is not None
    listed = boto3.client("s3").list_objects_v2(Bucket="logs", Prefix="dagster/")
    assert any(result.run_id in found["Key"] for found in listed["Contents"])


def test_backfills_leave_room_and_one_machines_file_has_the_same_rules_for_failures() -> None:
    production, local = (yaml.safe_load(path.read_text()) for path in (FILE, ROOT / "dagster.yaml"))
    runs = production["concurrency"]["runs"]
    (backfill,) = runs["tag_concurrency_limits"]
    assert backfill["limit"] < runs["max_concurrent_runs"]
    for section in ("run_retries", "retention", "python_logs"):
        assert production[section] == local[section]


def test_a_cluster_has_the_same_limits_as_one_machine() -> None:
    one, cluster = (yaml.safe_load(path.read_text()) for path in (FILE, ROOT / "k8s/base/dagster.yaml"))
    for section in ("run_retries", "retention", "sensors", "schedules"):
        assert cluster[section] == one[section]
    assert cluster["concurrency"]["pools"] == one["concurrency"]["pools"]
    assert (
        cluster["run_monitoring"]["max_resume_run_attempts"]
        == one["run_monitoring"]["max_resume_run_attempts"]
    )
