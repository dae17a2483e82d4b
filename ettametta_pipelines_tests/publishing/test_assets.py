"""The publishing assets in real Dagster runs, over the sandbox."""

import hashlib
from collections.abc import Callable
from datetime import date
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.orchestration.resources import (
    StateResource,
    StoreResource,
    TikTokResource,
    YouTubeResource,
)
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.publishing.assets import ASSETS
from ettametta_pipelines.publishing.connections import connect
from ettametta_pipelines.publishing.contracts import CONTRACTS
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.contracts import Column, TableContract
from ettametta_pipelines.storage.tables import ParquetTables, read_table
from ettametta_pipelines_tests.conftest import SandboxUnderTest

SOURCE = "acme--0123456789abcdef"
KEY = f"media/renditions/{SOURCE}/9x16/x.mp4"
BY_NAME = {contract.name: contract for contract in CONTRACTS}

# What publishing reads of the other rooms' tables.
SOURCE_MEDIA = TableContract(
    "source_media",
    "",
    tuple(
        Column(name, "string", "", nullable=name == "attribution")
        for name in ("source_id", "account", "niche", "upload_key", "title", "rights", "attribution")
    ),
    key=("source_id",),
)
RENDITION = TableContract(
    "rendition_9x16",
    "",
    (
        Column("object_key", "string", ""),
        Column("sha256", "string", ""),
        Column("size_bytes", "int64", ""),
        Column("duration_s", "float64", ""),
    ),
    key=("object_key",),
)

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def instance() -> Any:
    with dg.DagsterInstance.ephemeral() as made:
        made.add_dynamic_partitions("source_video", [SOURCE])
        yield made


@pytest.fixture
def run(settings_env: Settings, instance: dg.DagsterInstance, video: bytes) -> Run:
    """Materializes one asset for the source video, whose upload has the given rights, and its upstream tables."""
    store = StoreResource()
    store.open().put(KEY, video)

    def run_it(
        name: str, *, rights: str = "owned", partition: str = SOURCE, **config: Any
    ) -> dg.ExecuteInProcessResult:
        source = {
            "source_id": SOURCE, "account": "acme", "upload_key": "uploads/acme/cooking/2026/11/22/a.mp4",
            "title": "Knife skills", "rights": rights, "niche": "cooking",
        }  # fmt: skip
        rendition = {
            "object_key": KEY, "sha256": hashlib.sha256(video).hexdigest(), "size_bytes": len(video),
            "duration_s": 0.25,
        }  # fmt: skip

        @dg.asset(partitions_def=SOURCE_VIDEO, io_manager_key="tables")
        def source_media() -> pd.DataFrame:
            return SOURCE_MEDIA.frame([source])

        @dg.asset(partitions_def=SOURCE_VIDEO, io_manager_key="tables")
        def rendition_9x16() -> pd.DataFrame:
            return RENDITION.frame([rendition])

        if name.endswith("_publications"):
            config = {"approve": True} | config
        contracts = BY_NAME | {contract.name: contract for contract in (SOURCE_MEDIA, RENDITION)}
        selection = [name] if name == "publication_metrics" else ["source_media", "rendition_9x16", name]
        return dg.materialize(
            [*ASSETS, source_media, rendition_9x16],
            instance=instance,
            selection=selection,
            partition_key=partition,
            raise_on_error=False,
            run_config={"ops": {name: {"config": config}}} if config else None,
            resources={
                "store": store, "state": StateResource(), "youtube": YouTubeResource(), "tiktok": TikTokResource(),
                "tables": ParquetTables(store.open, contracts),
            },
        )  # fmt: skip

    return run_it


@pytest.fixture
def connected(settings_env: Settings) -> None:
    with open_state(settings_env) as database:
        connect(database, YouTubeResource().app(), "acme", "youtube", "sandbox-acme")
        connect(database, TikTokResource().app(), "acme", "tiktok", "sandbox-acme")


def facts(result: dg.ExecuteInProcessResult, name: str) -> dict[str, Any]:
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(name)]
    metadata = event.step_materialization_data.materialization.metadata
    return {key: value.value for key, value in metadata.items()}


def checked(result: dg.ExecuteInProcessResult, name: str = "published") -> dg.AssetCheckEvaluation:
    (evaluation,) = [one for one in result.get_asset_check_evaluations() if one.check_name == name]
    return evaluation


def failure(result: dg.ExecuteInProcessResult) -> dg.Failure:
    (event,) = [e for e in result.all_events if e.is_step_failure]
    return event.step_failure_data.user_failure_data  # type: ignore[return-value]


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("platform", ["youtube", "tiktok"])
def test_a_post_is_made_once_and_its_row_says_so(run: Run, platform: str) -> None:
    name = f"{platform}_publications"
    first = run(name)
    assert first.success
    seen = facts(first, name)
    assert (seen["state"], seen["posted"], seen["account"]) == ("PUBLISHED", True, "acme")
    assert seen["url"].startswith("http://127.0.0.1")
    (row,) = read_table(StoreResource().open(), BY_NAME[name], SOURCE).to_dict("records")
    assert (row["source_id"], row["platform"], row["posted"]) == (SOURCE, platform, True)
    assert facts(run(name), name)["posted"] is False
    check = checked(first)
    assert (check.check_name, check.passed) == ("published", True)
    before = checked(first, "not_posted_before")
    assert (before.passed, before.severity) == (True, dg.AssetCheckSeverity.WARN)
    assert "| upload | uploads/acme/cooking/2026/11/22/a.mp4 | owned |" in seen["rights"].replace("\\", "")
    assert (seen["synthetic_media"], seen["paid_promotion"]) == (False, False)


@pytest.mark.usefixtures("connected")
def test_the_operators_choices_reach_the_post(run: Run) -> None:
    result = run("youtube_publications", title="Other words", privacy="unlisted", tags=["a"])
    seen = facts(result, "youtube_publications")
    assert (seen["title"], seen["privacy"]) == ("Other words", "unlisted")


@pytest.mark.usefixtures("connected")
def test_without_a_right_nothing_is_posted_and_the_failure_says_what_to_do(
    run: Run, sandbox: SandboxUnderTest, instance: dg.DagsterInstance
) -> None:
    result = run("youtube_publications", rights="undeclared")
    assert not result.success
    assert failure(result).metadata["code"].value == "rights_undeclared"
    assert sandbox.count("youtube", "POST", "/upload/") == 0
    (record,) = instance.get_run_records()
    assert record.dagster_run.tags["dagster/retry_on_asset_or_op_failure"] == "false"


def test_without_a_channel_the_failure_names_the_command_that_connects_one(run: Run) -> None:
    result = run("tiktok_publications")
    assert failure(result).metadata["code"].value == "channel_not_connected"
    assert "ettametta connect" in str(failure(result).metadata["remedy"].value)


@pytest.mark.usefixtures("connected")
def test_a_refused_post_is_kept_as_a_row_and_fails_the_check(run: Run, sandbox: SandboxUnderTest) -> None:
    body = {"error": {"code": 400, "message": "bad", "errors": [{"reason": "invalidTags"}]}}
    sandbox.fault("youtube", method="POST", path_regex="/upload/", action="status", status=400, body=body)
    result = run("youtube_publications")
    check = checked(result)
    assert not check.passed
    assert "intent_no" in str(check.description)
    (row,) = read_table(StoreResource().open(), BY_NAME["youtube_publications"], SOURCE).to_dict("records")
    assert (row["state"], row["error_code"], row["posted"]) == ("FAILED_DEFINITE", "invalid_tags", False)


@pytest.mark.usefixtures("connected")
def test_a_busy_vendor_fails_the_run_without_a_retry_of_the_step(run: Run, sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", method="POST", path_regex="/upload/", action="status", status=503)
    result = run("youtube_publications")
    assert not result.success
    assert sandbox.count("youtube", "POST", "/upload/") == 1
    assert run("youtube_publications").success


@pytest.mark.usefixtures("connected")
def test_metrics_of_the_day_have_a_row_per_post(run: Run) -> None:
    run("youtube_publications", privacy="public")
    run("tiktok_publications")
    today = date.today().isoformat()  # noqa: DTZ011
    result = run("publication_metrics", partition=today)
    assert result.success
    seen = facts(result, "publication_metrics")
    assert (seen["posts"], seen["unseen"], seen["channels"]) == (1, 1, 2)
    (row,) = read_table(StoreResource().open(), BY_NAME["publication_metrics"], today).to_dict("records")
    assert (row["platform"], row["source_id"]) == ("youtube", SOURCE)


@pytest.mark.usefixtures("connected")
def test_the_table_of_best_posts_shows_unknown_figures_as_dashes(run: Run) -> None:
    run("youtube_publications", privacy="public")
    today = date.today().isoformat()  # noqa: DTZ011
    preview = facts(run("publication_metrics", partition=today), "publication_metrics")["preview"]
    header, rule, row = preview.splitlines()
    assert header == "| platform | source | views | likes | comments | shares |"
    assert rule.count("---") == 6
    assert row.startswith(f"| youtube | {SOURCE} |")
    assert row.endswith("| – |")


@pytest.mark.usefixtures("connected")
def test_metrics_of_a_past_day_are_refused_and_its_table_stays(run: Run) -> None:
    result = run("publication_metrics", partition="2026-01-02")
    assert failure(result).metadata["code"].value == "day_is_over"
    assert not result.get_asset_materialization_events()


@pytest.mark.usefixtures("connected")
def test_a_post_in_doubt_fails_the_check_which_says_when_it_is_looked_for_again(
    run: Run, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("youtube", method="PUT", path_regex="/upload/", after=2, action="drop_before")
    sandbox.fault(
        "youtube", method="PUT", path_regex="/upload/", after=3, times=None, action="status", status=404
    )
    for _ in range(2):
        result = run("youtube_publications")
        check = checked(result)
        assert not check.passed
        assert "next look" in str(check.description)
        next_look: Any = check.metadata["next_look"].value
        assert next_look > utc_now().timestamp()


def test_metrics_without_posts_are_an_empty_table(run: Run) -> None:
    today = date.today().isoformat()  # noqa: DTZ011
    assert facts(run("publication_metrics", partition=today), "publication_metrics")["posts"] == 0


def test_assets_are_described_owned_and_publish_one_at_a_time() -> None:
    for asset in ASSETS:
        (spec,) = asset.specs
        assert spec.group_name == "publishing"
        assert spec.owners == ["team:publishing"]
        assert spec.description
        assert "When it fails" in spec.description
    pools = {asset.op.name: asset.op.pool for asset in ASSETS}
    assert pools["youtube_publications"] == "publish_youtube"
    assert pools["tiktok_publications"] == "publish_tiktok"
