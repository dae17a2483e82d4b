"""Which publications are run again without a person: when, once a look, and with the configuration of their intent."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from ettametta_pipelines.publishing.followup import due_looks
from ettametta_pipelines.publishing.tokens import REAUTH_REQUIRED
from ettametta_pipelines.state.models import DatabaseNow, OAuthConnection, Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)
from ettametta_pipelines_tests.publishing.conftest import DyingStore, Killed, Publisher

WISHES = {"title": "Knife skills", "tags": ["cooking"], "privacy": "unlisted"}
PUBLISHES = "/youtube/v3/videos$"


@pytest.fixture
def in_processing(publisher: Publisher, sandbox: SandboxUnderTest, video: bytes) -> Publisher:
    """A worker whose post YouTube has and does not say more about."""
    sandbox.fault(
        "youtube", method="GET", path_regex=PUBLISHES, times=None, status=429, headers={"retry-after": "3600"}
    )
    order = replace(publisher.order("youtube", video), wishes=WISHES)
    assert publisher.to_youtube(order).publication.state == "PROCESSING"
    sandbox.clear_faults()
    return publisher


def let_pass(db: StateDatabase, minutes: float) -> None:
    """Move what the ledger wrote into the past."""
    with db.session() as session:
        for row in session.scalars(sa.select(Publication)):
            for column in ("updated_at", "created_at", "first_mutation_at", "next_check_at", "lease_until"):
                at = getattr(row, column)
                setattr(row, column, at and at - timedelta(minutes=minutes))


def test_a_post_in_processing_is_looked_at_after_ten_minutes_with_its_own_configuration(
    in_processing: Publisher,
) -> None:
    db = in_processing.workshop.db
    assert due_looks(db) == []
    let_pass(db, 11)
    (look,) = due_looks(db)
    assert (look.platform, look.state, look.source_id) == ("youtube", "PROCESSING", "acme--0123456789abcdef")
    assert look.wishes == {**WISHES, "intent_no": 1}


def test_looks_grow_apart_with_the_age_of_the_post(in_processing: Publisher) -> None:
    db = in_processing.workshop.db
    with db.session() as session:
        session.execute(sa.update(Publication).values(first_mutation_at=DatabaseNow(-8 * 3600)))
    let_pass(db, 60)
    assert due_looks(db) == []
    let_pass(db, 61)
    assert len(due_looks(db)) == 1


def test_a_look_has_one_key_until_a_worker_takes_it_up(in_processing: Publisher, video: bytes) -> None:
    db = in_processing.workshop.db
    let_pass(db, 11)
    (first,), (again,) = due_looks(db), due_looks(db)
    assert first.key == again.key
    in_processing.to_youtube(in_processing.order("youtube", video))
    assert due_looks(db) == []


def test_a_post_in_doubt_waits_for_its_next_look(
    publisher: Publisher, sandbox: SandboxUnderTest, video: bytes
) -> None:
    sandbox.fault("youtube", method="PUT", range_regex=r"bytes \d", action="drop_before")
    sandbox.fault(
        "youtube", method="PUT", range_regex=r"bytes \*", after=2, times=None, action="status", status=404
    )
    patience = replace(publisher.workshop.patience, looks=3, look_again_in=timedelta(minutes=30))
    patient = publisher.with_(patience=patience)
    outcome = patient.to_youtube(patient.order("youtube", video))
    assert outcome.publication.state == "RECONCILING"
    let_pass(publisher.workshop.db, 29)
    assert due_looks(publisher.workshop.db) == []
    let_pass(publisher.workshop.db, 2)
    assert [look.state for look in due_looks(publisher.workshop.db)] == ["RECONCILING"]


def test_a_post_whose_worker_was_killed_is_carried_on_once_its_lease_has_run_out(
    publisher: Publisher, new_publisher: Callable[[], Publisher], video: bytes
) -> None:
    order = publisher.order("youtube", video + bytes(300_000))
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 0)).to_youtube(order)
    # What dies here lets go of the lease on its way out, unlike a process.
    with publisher.workshop.db.session() as session:
        session.execute(sa.update(Publication).values(lease_owner="run 1", lease_until=DatabaseNow(300)))
    assert due_looks(publisher.workshop.db) == []
    let_pass(publisher.workshop.db, 6)
    (look,) = due_looks(publisher.workshop.db)
    assert look.state == "SESSION_OPEN"
    assert new_publisher().to_youtube(order).posted
    assert due_looks(publisher.workshop.db) == []


def test_a_channel_that_waits_for_consent_is_left_alone(in_processing: Publisher) -> None:
    db = in_processing.workshop.db
    let_pass(db, 11)
    with db.session() as session:
        session.execute(sa.update(OAuthConnection).values(status=REAUTH_REQUIRED))
    assert due_looks(db) == []


def test_what_rests_and_what_failed_before_an_operator_is_left_alone(
    publisher: Publisher, sandbox: SandboxUnderTest, video: bytes
) -> None:
    publisher.to_youtube(publisher.order("youtube", video))
    sandbox.fault("tiktok", path_regex="creator_info", status=429, headers={"retry-after": "3600"})
    with pytest.raises(Exception, match="creator"):
        publisher.to_tiktok(publisher.order("tiktok", video))
    let_pass(publisher.workshop.db, 24 * 60)
    assert due_looks(publisher.workshop.db) == []
