"""The nightly lifecycle job against a bucket: counted once, then set in the bucket, then left as it stands."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines_tests.operations.test_storage_assets import Home, know, rules_of
from ettametta_pipelines_tests.storage.conftest import ACCESS_KEY, REGION, SECRET_KEY, BucketUnderTest
from ettametta_pipelines_tests.storage.conftest import bucket as bucket  # a fixture, as those below
from ettametta_pipelines_tests.storage.conftest import s3_client as s3_client
from ettametta_pipelines_tests.storage.conftest import s3_endpoint as s3_endpoint

JOB = "apply_storage_lifecycle"


@pytest.fixture
def home(
    settings_env: Settings, bucket: BucketUnderTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Home]:
    """A home whose store is a folder of a bucket that others use too."""
    for name, value in {
        "ETTAMETTA_STORE": f"s3://{bucket.name}/agency",
        "AWS_ENDPOINT_URL": bucket.endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "ETTAMETTA_EXPIRE_DAYS": "uploads=30",
        "ETTAMETTA_COLD_SOURCES_DAYS": "60",
    }.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    (tmp_path / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as instance:
        yield Home(get_settings(), instance)


def test_rules_are_counted_then_set_in_the_bucket_and_then_left_alone(
    home: Home, bucket: BucketUnderTest
) -> None:
    foreign: dict[str, Any] = {
        "ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3},
    }  # fmt: skip
    bucket.client.put_bucket_lifecycle_configuration(
        Bucket=bucket.name, LifecycleConfiguration={"Rules": [foreign]}
    )
    first = home.make(JOB)
    assert "counted only" in first["due"]
    assert set(rules_of(bucket)) == {"logs"}
    second = home.make(JOB)
    assert second["bucket_rules"].startswith("Changed: ")
    rules = rules_of(bucket)
    ours = {name for name in rules if name != "logs"}
    assert all(name.startswith("ettametta-") and name.endswith(":agency/") for name in ours)
    assert rules["logs"] == foreign
    cold = rules["ettametta-cold-sources:agency/"]
    assert (cold["Filter"], cold["Transitions"][0]["Days"]) == ({"Prefix": "agency/media/sources/"}, 60)
    third = home.make(JOB)
    assert third["bucket_rules"].startswith("As they were: ")
    assert rules_of(bucket) == rules


def test_a_dry_run_changes_nothing_in_the_bucket(home: Home, bucket: BucketUnderTest) -> None:
    from botocore.exceptions import ClientError

    for _ in range(2):
        assert "Left as they stand" in home.make(JOB, {"dry_run": True})["bucket_rules"]
    with pytest.raises(ClientError, match="NoSuchLifecycleConfiguration"):
        rules_of(bucket)


def test_what_is_due_leaves_the_bucket_and_what_is_alive_does_not(
    home: Home, bucket: BucketUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "uploads/acme/travel/2026/01/01"
    for name in ("done.mp4", "open.mp4"):
        home.store.put(f"{folder}/{name}", b"v")
        know(home.db, home.store, f"{folder}/{name}", "acme--1", settled=name == "done.mp4")
    home.make(JOB)
    monkeypatch.setattr(
        "ettametta_pipelines.operations.storage_assets.utc_now", lambda: utc_now() + timedelta(days=40)
    )
    assert home.make(JOB)["removed"] == 1
    left = {key for key in bucket.all_keys() if "/uploads/" in key}
    assert left == {f"agency/{folder}/open.mp4"}
    assert home.make(JOB)["removed"] == 0
