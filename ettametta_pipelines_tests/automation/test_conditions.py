"""What changes late is followed once, by the tables computed from it; nothing else is ever asked for."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.automation.conditions import CONDITIONS, FOLLOWED, REVISED_DAYS
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.partitions import NICHE, day_niche_key
from ettametta_pipelines.settings import Settings
from ettametta_pipelines_tests.frozen import utc

NICHES = NICHE.get_partition_keys()


class Desk:
    """The daemon's ticks over the real asset graph, with the materializations and runs a test puts there."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.definitions = build_definitions(settings)
        self.instance = instance
        self.now: datetime = utc("2026-11-20T12:00:00")
        self.cursor: Any = None
        self.tick()

    def day(self, ago: int = 1) -> str:
        return (self.now.date() - timedelta(days=ago)).isoformat()

    def tick(self) -> set[tuple[str, str]]:
        """What one evaluation asks for: (asset, partition)."""
        done = dg.evaluate_automation_conditions(
            self.definitions, self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = done.cursor
        self.now += timedelta(minutes=1)
        return {
            (key.to_user_string(), partition)
            for key in map(dg.AssetKey, CONDITIONS)
            for partition in done.get_requested_partitions(key)
            if partition is not None
        }

    def made(self, asset: str, partition: str) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))

    def under_way(self, job: str, partition: str) -> dg.DagsterRun:
        return self.instance.create_run_for_job(
            self.definitions.resolve_job_def(job), status=dg.DagsterRunStatus.STARTED,
            tags={"dagster/partition": partition},
        )  # fmt: skip


@pytest.fixture
def desk(settings_env: Settings) -> Iterator[Desk]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Desk(settings_env, instance)


def test_a_niche_that_comes_late_is_followed_once(desk: Desk) -> None:
    day, late = desk.day(), day_niche_key(desk.day(), NICHES[0])
    desk.made("niche_trends", day)
    assert desk.tick() == set()
    desk.made("trend_candidates", late)
    assert desk.tick() == {("niche_trends", day)}
    assert desk.tick() == set()
    desk.made("niche_trends", day)
    assert desk.tick() == desk.tick() == set()


def test_the_first_making_is_left_to_the_schedule(desk: Desk) -> None:
    desk.made("trend_candidates", day_niche_key(desk.day(), NICHES[0]))
    desk.made("revenue_attribution", desk.day())
    assert desk.tick() == desk.tick() == set()
    # Nor is it made up for what came before: the schedule's run saw that.
    desk.made("niche_trends", desk.day())
    assert desk.tick() == set()


def test_days_further_back_are_left_alone(desk: Desk) -> None:
    for ago in (2, 3, 30):
        desk.made("niche_trends", desk.day(ago))
    desk.tick()
    for ago in (2, 3, 30):
        desk.made("trend_candidates", day_niche_key(desk.day(ago), NICHES[0]))
    # Today counts: three days are today and the two before.
    assert desk.tick() == {("niche_trends", desk.day(2))}


def test_a_run_that_fails_is_not_asked_for_again_before_something_changes(desk: Desk) -> None:
    day = desk.day()
    desk.made("niche_trends", day)
    desk.tick()
    desk.made("trend_candidates", day_niche_key(day, NICHES[0]))
    assert desk.tick() == {("niche_trends", day)}
    desk.instance.report_run_failed(desk.under_way("niche_overview", day))
    assert [desk.tick() for _ in range(5)] == [set()] * 5
    desk.made("trend_candidates", day_niche_key(day, NICHES[1]))
    assert desk.tick() == {("niche_trends", day)}


def test_a_change_while_a_run_is_under_way_waits_for_it_and_is_not_lost(desk: Desk) -> None:
    day = desk.day()
    desk.made("niche_trends", day)
    desk.tick()
    running = desk.under_way("niche_overview", day)
    desk.made("trend_candidates", day_niche_key(day, NICHES[0]))
    assert desk.tick() == desk.tick() == set()
    desk.instance.report_run_failed(running)
    assert desk.tick() == {("niche_trends", day)}


def test_a_niche_that_is_being_discovered_again_is_waited_for(desk: Desk) -> None:
    day = desk.day()
    desk.made("niche_trends", day)
    desk.tick()
    desk.made("trend_candidates", day_niche_key(day, NICHES[0]))
    running = desk.under_way("rank_trends_again", day_niche_key(day, NICHES[1]))
    assert desk.tick() == set()
    desk.instance.report_run_canceled(running)
    assert desk.tick() == {("niche_trends", day)}


def test_a_months_revised_figures_reach_the_margin_and_nothing_reaches_a_paid_model(desk: Desk) -> None:
    days = [desk.day(ago) for ago in range(1, REVISED_DAYS)]
    for day in [*days, desk.day(REVISED_DAYS + 5)]:
        desk.made("content_margin", day)
    desk.tick()
    for day in [*days, desk.day(REVISED_DAYS + 5)]:
        desk.made("revenue_attribution", day)
        desk.made("scored_candidates", day_niche_key(day, NICHES[0]))
    assert desk.tick() == {("content_margin", day) for day in days}
    assert desk.tick() == set()


def test_days_go_back_as_far_as_youtube_revises_them() -> None:
    from ettametta_pipelines.revenue.youtube import REREAD_DAYS

    assert REVISED_DAYS == REREAD_DAYS + 1


def test_what_is_followed_is_an_input_and_what_follows_calls_nobody(settings_env: Settings) -> None:
    definitions = build_definitions(settings_env)
    graph = definitions.resolve_asset_graph()
    for one in FOLLOWED:
        node = graph.get(dg.AssetKey(one.asset))
        assert {dg.AssetKey(of) for of in one.of} <= node.parent_keys, one.asset
        # A run takes many partitions: what changes for a month at once starts a run or two.
        assert node.backfill_policy is not None, one.asset
    assert {key.to_user_string() for key in graph.get_all_asset_keys()
            if graph.get(key).automation_condition is not None} == set(CONDITIONS)  # fmt: skip
    (sensor,) = [s for s in definitions.get_repository_def().sensor_defs if s.name == "automation"]
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert all(one.why in str(sensor.description) for one in FOLLOWED)
