"""Old history goes, and every fact that hangs on a run stays: on a real instance with its files."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from ettametta_pipelines.automation.pruning import (
    BACKFILLED,
    LAST_TRY,
    NEWEST,
    OPEN_POST,
    prune_runs,
    prune_ticks,
)
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines_tests.automation.ticks import running, ticked

DAYS = dg.StaticPartitionsDefinition(["mon", "tue"])
SOON = timedelta(minutes=1)


class Trouble(dg.Config):
    fails: bool = False


@dg.asset(partitions_def=DAYS)
def figures(config: Trouble) -> None:
    if config.fails:
        raise ValueError("no figures")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def books(context: dg.AssetExecutionContext) -> None:
    assert context.partition_keys


@dg.asset
def page() -> None: ...


class History:
    """Runs of an instance on disk, and what a pruning of everything until now does to them."""

    def __init__(self, instance: dg.DagsterInstance, home: Path) -> None:
        self.instance = instance
        self.home = home

    def made(
        self, asset: dg.AssetsDefinition, partition: str | None = None, *, fails: bool = False, **tags: str
    ) -> str:
        config = {"ops": {"figures": {"config": {"fails": fails}}}} if asset is figures else {}
        done = dg.materialize(
            [asset], instance=self.instance, partition_key=partition, raise_on_error=False, tags=tags,
            run_config=config,
        )  # fmt: skip
        return done.run_id

    def left(self) -> set[str]:
        return set(self.instance.get_run_ids())

    def partitions(self, asset: str) -> set[str]:
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield History(instance, tmp_path)


def test_what_was_made_again_since_is_let_go_with_its_events_and_files(history: History) -> None:
    old = [history.made(figures, "mon"), history.made(page)]
    kept = [history.made(figures, "mon"), history.made(figures, "tue"), history.made(page)]
    assert any(old[0] in path.name for path in history.home.rglob("*.db"))
    done = prune_runs(history.instance, utc_now() + SOON)
    assert history.left() == set(kept)
    assert (sum(done.by_job.values()), dict(done.kept)) == (2, {NEWEST: 3})
    assert not [path for path in history.home.rglob("*") if old[0] in path.name or old[1] in path.name]
    # What the asset pages show is what they showed.
    assert history.partitions("figures") == {"mon", "tue"}
    event = history.instance.get_latest_materialization_event(dg.AssetKey("page"))
    assert event is not None
    assert event.run_id == kept[2]
    again = prune_runs(history.instance, utc_now() + SOON)
    assert (sum(again.by_job.values()), history.left()) == (0, set(kept))


def test_young_runs_and_runs_under_way_are_not_looked_at(history: History) -> None:
    history.made(page)
    history.made(page)
    started = history.instance.create_run_for_job(
        dg.Definitions(assets=[page]).resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
    )
    assert not prune_runs(history.instance, utc_now() - timedelta(days=1)).by_job
    prune_runs(history.instance, utc_now() + SOON)
    assert started.run_id in history.left()


def test_a_run_of_many_partitions_stays_while_it_holds_one(history: History) -> None:
    both = dg.materialize(
        [books], instance=history.instance,
        tags={"dagster/asset_partition_range_start": "mon", "dagster/asset_partition_range_end": "tue"},
    ).run_id  # fmt: skip
    one = history.made(books, "mon")
    prune_runs(history.instance, utc_now() + SOON)
    assert history.left() == {both, one}
    other = history.made(books, "tue")
    prune_runs(history.instance, utc_now() + SOON)
    assert history.left() == {one, other}
    assert history.partitions("books") == {"mon", "tue"}


def test_a_partition_that_only_ever_failed_stays_failed_and_a_repaired_failure_goes(
    history: History,
) -> None:
    repaired = history.made(figures, "mon", fails=True)
    good = history.made(figures, "mon")
    first = history.made(figures, "tue", fails=True)
    last = history.made(figures, "tue", fails=True)
    done = prune_runs(history.instance, utc_now() + SOON)
    assert history.left() == {good, last}, (repaired, first)
    assert done.kept == {NEWEST: 1, LAST_TRY: 1}


def test_runs_of_a_video_with_a_post_in_doubt_stay(history: History) -> None:
    old = history.made(figures, "mon")
    history.made(figures, "mon")
    done = prune_runs(history.instance, utc_now() + SOON, busy={"mon"})
    assert old in history.left()
    assert done.kept[OPEN_POST] == 1


def test_a_backfill_under_way_keeps_its_runs(history: History) -> None:
    from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

    going = PartitionBackfill(
        "going", BulkActionStatus.REQUESTED, tags={}, backfill_timestamp=0.0, from_failure=False
    )
    history.instance.add_backfill(going)
    run = history.made(page, **{"dagster/backfill": "going"})
    history.made(page)
    assert prune_runs(history.instance, utc_now() + SOON).kept[BACKFILLED] == 1
    history.instance.update_backfill(going.with_status(BulkActionStatus.COMPLETED_SUCCESS))
    prune_runs(history.instance, utc_now() + SOON)
    assert run not in history.left()


def test_pruning_goes_on_where_it_stopped_and_begins_again_at_the_end(history: History) -> None:
    for _ in range(5):
        history.made(page)
    first = prune_runs(history.instance, utc_now() + SOON, most=2)
    assert (sum(first.by_job.values()), first.looked_until is None) == (2, False)
    rest = prune_runs(history.instance, utc_now() + SOON, after=first.looked_until)
    assert (sum(rest.by_job.values()), rest.looked_until) == (2, None)
    assert len(history.left()) == 1


def test_process_logs_of_old_runs_go_even_where_the_run_stays(history: History) -> None:
    run = history.made(page)
    logs = history.instance.compute_log_manager
    folder = Path(logs.get_captured_local_path([run, "compute_logs", "page"], "out")).parent  # type: ignore[attr-defined]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "page.out").write_text("said")
    prune_runs(history.instance, utc_now() + SOON)
    assert run in history.left()
    assert not folder.exists()


def test_ticks_of_schedules_that_exist_no_more_go(history: History) -> None:
    gone, now = running(history.instance, "gone", "schedule"), utc_now()
    for days in (200, 1):
        ticked(history.instance, gone, now - timedelta(days=days), "SKIPPED")
    assert prune_ticks(history.instance, now - timedelta(days=90)) == 1
    assert len(history.instance.get_ticks(gone.instigator_origin_id, gone.selector_id)) == 1


def test_the_weekly_asset_counts_first_and_tells_what_stays_and_why(
    settings_env: Settings, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        history.made(page)
    monkeypatch.setattr(
        "ettametta_pipelines.operations.history_assets.utc_now", lambda: utc_now() + timedelta(days=400)
    )
    job = build_definitions(get_settings()).resolve_job_def("prune_history")

    def prune(dry_run: bool) -> dict[str, object]:
        result = job.execute_in_process(
            instance=history.instance,
            run_config={"ops": {"pruned_history": {"config": {"dry_run": dry_run}}}},
        )
        (event,) = result.get_asset_materialization_events()
        return {name: value.value for name, value in event.materialization.metadata.items()}

    assert (prune(True)["pruned"], len(history.left())) == (2, 4)
    told = prune(False)
    # The dry run's own run was newest until this one; the page's last stays.
    assert (told["pruned"], told["goes_on_after"]) == (2, "the beginning")
    assert NEWEST in str(told["why_kept"])
    assert prune(False)["pruned"] == 1
