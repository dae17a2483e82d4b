"""`connected_channels` in real runs, its schedule, and the sensor that starts posts ordered again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from ettametta_pipelines.automation.ordered_posts import ordered_posts
from ettametta_pipelines.automation.schedules import build_schedules
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.commands.channels import connect_platform
from ettametta_pipelines.orchestration.resources import (
    StateResource,
    StoreResource,
    TikTokResource,
    YouTubeResource,
)
from ettametta_pipelines.publishing.channel_assets import ASSETS
from ettametta_pipelines.publishing.connections import require
from ettametta_pipelines.publishing.contracts import CONNECTED_CHANNELS
from ettametta_pipelines.publishing.ledger import Intent, Ledger, State
from ettametta_pipelines.publishing.review import Reviewer
from ettametta_pipelines.publishing.tokens import open_envelope
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import OAuthConnection
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.tables import ParquetTables, read_table
from ettametta_pipelines_tests.conftest import SandboxUnderTest


@pytest.fixture
def db(settings_env: Settings) -> StateDatabase:
    for platform in ("youtube", "tiktok"):
        connect_platform(settings_env, "acme", platform, None)
    return open_state(settings_env)


def make_due(db: StateDatabase) -> None:
    with db.session() as session:
        session.execute(sa.update(OAuthConnection).values(refresh_due_at=utc_now() - timedelta(hours=1)))


def materialize() -> dg.ExecuteInProcessResult:
    store = StoreResource()
    return dg.materialize(
        ASSETS,
        raise_on_error=False,
        resources={
            "state": StateResource(), "youtube": YouTubeResource(), "tiktok": TikTokResource(),
            "tables": ParquetTables(store.open, {CONNECTED_CHANNELS.name: CONNECTED_CHANNELS}),
        },
    )  # fmt: skip


def checks(result: dg.ExecuteInProcessResult) -> dict[str, tuple[bool, str | None]]:
    return {e.check_name: (e.passed, e.description) for e in result.get_asset_check_evaluations()}


def facts(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {k: v.value for k, v in event.step_materialization_data.materialization.metadata.items()}


def test_due_tokens_are_renewed_and_every_channel_is_listed(
    db: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    make_due(db)
    result = materialize()
    assert result.success
    assert checks(result) == {"every_consent_stands": (True, None), "every_token_renewed": (True, None)}
    told = facts(result)
    assert (told["channels"], told["renewed"], told["consent_ended"]) == (2, 2, 0)
    assert "Acme" in told["preview"]
    table = read_table(StoreResource().open(), CONNECTED_CHANNELS, None)
    assert sorted(table["platform"]) == ["tiktok", "youtube"]
    assert set(table["state"]) == {"active"}
    text = table.to_csv() + told["preview"]
    store = sandbox.server._server.config.app.state.store
    assert not [
        token
        for kind in ("youtube_access", "tiktok_access")
        for token, _ in store.items(kind)
        if token in text
    ]


def test_without_any_channel_the_list_is_empty_and_nothing_fails(settings_env: Settings) -> None:
    result = materialize()
    assert result.success
    assert (facts(result)["channels"], facts(result)["preview"]) == (0, "none")


def test_a_consent_that_ended_fails_the_check_with_the_page_that_mends_it(
    db: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    store = sandbox.server._server.config.app.state.store
    for token, _ in store.items("tiktok_refresh"):
        store.delete("tiktok_refresh", token)
    make_due(db)
    result = materialize()
    assert result.success
    passed, why = checks(result)["every_consent_stands"]
    assert (passed, "http://127.0.0.1:8000/accounts/acme/tiktok" in str(why)) == (False, True)
    asked = sandbox.count("tiktok", "POST", "/token/")
    materialize()
    assert sandbox.count("tiktok", "POST", "/token/") == asked


def test_a_vendor_that_does_not_answer_is_named_and_stops_nobody_else(
    db: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    make_due(db)
    sandbox.fault("tiktok", path_regex="/token/", status=500)
    result = materialize()
    told = checks(result)
    assert told["every_consent_stands"] == (True, None)
    assert "acme on tiktok" in str(told["every_token_renewed"][1])
    assert facts(result)["renewed"] == 1


def tick(settings: Settings, minute: int) -> dg.RunRequest | dg.SkipReason:
    (schedule,) = (s for s in build_schedules(settings) if s.name == "keep_channels_connected")
    at = datetime(2026, 11, 23, 10, minute, tzinfo=UTC)
    with dg.build_schedule_context(
        scheduled_execution_time=at, resources={"state": StateResource()}
    ) as context:
        answer: Any = schedule(context)
        return answer


def test_the_schedule_runs_when_a_token_is_due_and_on_the_hour(
    db: StateDatabase, settings_env: Settings
) -> None:
    assert isinstance(tick(settings_env, 0), dg.RunRequest)
    assert isinstance(tick(settings_env, 5), dg.SkipReason)
    make_due(db)
    assert isinstance(tick(settings_env, 5), dg.RunRequest)


def test_a_post_ordered_again_is_started_once_with_the_wishes_of_the_run_before(
    db: StateDatabase, settings_env: Settings
) -> None:
    channel = require(db, "acme", "tiktok")
    wishes = {"title": "Knife skills", "privacy": "SELF_ONLY", "paid_promotion": False}
    with dg.DagsterInstance.ephemeral() as instance:
        ledger = Ledger(db, open_envelope(settings_env), clock=utc_now)
        row = ledger.plan(
            Intent(
                "tiktok", "acme", channel.channel_id, "acme--1", "k", "ab", 1, "T", "SELF_ONLY", wishes=wishes
            )
        )  # fmt: skip
        with ledger.claimed(row.id) as claim:
            for state in (State.SESSION_OPEN, State.FINALIZING, State.NEEDS_REVIEW):
                ledger.advance(claim, state, reason="x")

        def asked() -> Any:
            with dg.build_sensor_context(instance=instance, resources={"state": StateResource()}) as context:
                return ordered_posts(context)

        assert isinstance(asked(), dg.SkipReason)
        ordered = Reviewer(db, open_envelope(settings_env), settings_env, "alice").post_again(row.id)
        (request,) = asked().run_requests
        assert (request.run_key, request.partition_key) == (f"ordered:{ordered.id}", "acme--1")
        assert request.asset_selection == [dg.AssetKey("tiktok_publications")]
        config = request.run_config["ops"]["tiktok_publications"]["config"]
        assert config == wishes | {"intent_no": 2, "approve": True}
        assert request.tags["user"] == "alice"
        ledger.let_go(ledger.claim(ordered.id))
        assert isinstance(asked(), dg.SkipReason)
