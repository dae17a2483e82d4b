"""The schedule that carries publications on: one run a due look, each with the configuration of its own intent."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.orchestration.resources import StateResource, TikTokResource, YouTubeResource
from ettametta_pipelines.publishing.assets import PublicationConfig
from ettametta_pipelines.publishing.connections import connect, require
from ettametta_pipelines.publishing.ledger import Intent, Ledger, State
from ettametta_pipelines.publishing.orders import Wishes
from ettametta_pipelines.publishing.tokens import open_envelope
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase, open_state

SOURCE = "acme--0123456789abcdef"


def tick(settings: Settings) -> Any:
    repository = build_definitions(settings).get_repository_def()
    with dg.DagsterInstance.local_temp() as instance:
        instance.add_dynamic_partitions("source_video", [SOURCE])
        with dg.build_schedule_context(
            instance=instance, scheduled_execution_time=datetime(2026, 11, 20, 2, 10, tzinfo=UTC),
            repository_def=repository, resources={"state": StateResource()},
        ) as context:  # fmt: skip
            return repository.get_schedule_def("publication_followup").evaluate_tick(context)


def on_its_way(db: StateDatabase, settings: Settings, platform: str, intent: int, **wishes: Any) -> str:
    """A publication that was sent an hour ago and is being processed."""
    ledger = Ledger(db, open_envelope(settings), clock=utc_now)
    row = ledger.plan(
        Intent(
            platform,
            "acme",
            require(db, "acme", platform).channel_id,
            SOURCE,
            "key",
            "sha",
            3,
            "title",
            "private",
            intent,
            wishes=wishes,
        )
    )
    with ledger.claimed(row.id) as claim:
        ledger.advance(claim, State.PROCESSING, reason="test", remote_id=f"{platform}{intent}")
    with db.session() as session:
        session.execute(
            sa.update(Publication).where(Publication.id == row.id).values(
                updated_at=utc_now() - timedelta(hours=1), created_at=utc_now() - timedelta(hours=1)
            )
        )  # fmt: skip
    return row.id


def settle(db: StateDatabase, publication_id: str) -> None:
    with db.session() as session:
        session.execute(
            sa.update(Publication).where(Publication.id == publication_id).values(state=State.PUBLISHED)
        )


@pytest.fixture
def db(settings_env: Settings) -> StateDatabase:
    database = open_state(settings_env)
    connect(database, YouTubeResource().app(), "acme", "youtube", "sandbox-acme")
    connect(database, TikTokResource().app(), "acme", "tiktok", "sandbox-acme")
    return database


def test_nothing_on_its_way_is_said_and_nothing_requested(settings_env: Settings, db: StateDatabase) -> None:
    told = tick(settings_env)
    assert not told.run_requests
    assert "No post is on its way" in told.skip_message


def test_every_intent_is_run_with_its_own_configuration_and_requested_once(
    settings_env: Settings, db: StateDatabase
) -> None:
    first = on_its_way(db, settings_env, "youtube", 1, title="First", tags=["a"], privacy="unlisted")
    settle(db, first)
    second = on_its_way(db, settings_env, "youtube", 2, title="Second", tags=[], privacy="private")
    on_its_way(db, settings_env, "tiktok", 1, title="Third", privacy="SELF_ONLY")
    with db.session() as session:
        session.execute(sa.update(Publication).where(Publication.id == first).values(state=State.PROCESSING))
    requests, again = tick(settings_env).run_requests, tick(settings_env).run_requests
    assert [request.run_key for request in requests] == [request.run_key for request in again]
    assert len({request.run_key for request in requests}) == 3
    by_title = {}
    for request in requests:
        assert request.partition_key == SOURCE
        ((op, config),) = request.run_config["ops"].items()
        by_title[config["config"]["title"]] = (op, config["config"]["intent_no"])
        assert op in {key.to_user_string() for key in request.asset_selection}
    assert by_title == {
        "First": ("youtube_publications", 1),
        "Second": ("youtube_publications", 2),
        "Third": ("tiktok_publications", 1),
    }
    assert second in {request.run_key.split(":")[0] for request in requests}


def test_the_configuration_of_a_request_is_one_the_asset_takes(
    settings_env: Settings, db: StateDatabase
) -> None:
    kept = Wishes(title="First", tags=("a", "b"), live_remote_id="said once").to_keep()
    on_its_way(db, settings_env, "youtube", 1, **kept)
    (request,) = tick(settings_env).run_requests
    config = PublicationConfig(**request.run_config["ops"]["youtube_publications"]["config"])
    assert (config.title, config.live_remote_id, config.tags) == ("First", "", ["a", "b"])
