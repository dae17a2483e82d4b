"""Posts the platform never says the last word about: handed to a person after a stated time, and not asked for ever."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import NeedsPersonError, TransientError
from ettametta_pipelines.publishing.delivery import Patience
from ettametta_pipelines.publishing.followup import due_looks
from ettametta_pipelines.publishing.review import NEEDING_A_PERSON, history, listed
from ettametta_pipelines.state.models import DatabaseNow, Publication
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)
from ettametta_pipelines_tests.publishing.conftest import Publisher, reasons
from ettametta_pipelines_tests.publishing.test_followup import let_pass

NEARLY, OVER = 48 * 60 - 5, 10
SAYS_PROCESSING = {
    "youtube": {"method": "GET", "path_regex": "/youtube/v3/videos$"},
    "tiktok": {"method": "POST", "path_regex": "/status/fetch/"},
}
Post = Callable[[], str]


@pytest.fixture(params=["youtube", "tiktok"])
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def post(publisher: Publisher, platform: str, video: bytes) -> Post:
    """Runs the same order once more; the state it rests in."""
    order = publisher.order(platform, video)

    def act() -> str:
        send = publisher.to_youtube if platform == "youtube" else publisher.to_tiktok
        return send(order).publication.state

    return act


@pytest.fixture
def silent(sandbox: SandboxUnderTest, platform: str) -> None:
    """A platform that has the post and gives no answer about it."""
    after = 1 if platform == "tiktok" else 0
    sandbox.fault(platform, **SAYS_PROCESSING[platform], after=after, times=None, status=503)


def test_two_days_are_what_a_post_may_stay_in_processing() -> None:
    assert Patience().settle_for == timedelta(hours=48)


def test_a_post_the_platform_is_silent_about_is_handed_to_a_person_after_two_days(
    silent: None, publisher: Publisher, post: Post, sandbox: SandboxUnderTest, platform: str
) -> None:
    db = publisher.workshop.db
    assert post() == "PROCESSING"
    let_pass(db, NEARLY)
    assert post() == "PROCESSING"
    let_pass(db, OVER)
    assert post() == "NEEDS_REVIEW"
    asked = len(sandbox.requests(platform))
    assert post() == "NEEDS_REVIEW"
    assert len(sandbox.requests(platform)) == asked
    let_pass(db, 7 * 24 * 60)
    assert due_looks(db) == []
    assert reasons(publisher)[-1] == "no_last_word"


def test_a_last_word_that_comes_late_still_counts(
    silent: None, publisher: Publisher, post: Post, sandbox: SandboxUnderTest
) -> None:
    assert post() == "PROCESSING"
    sandbox.clear_faults()
    let_pass(publisher.workshop.db, NEARLY + 24 * 60)
    assert post() == "PUBLISHED"


def test_what_is_known_stands_beside_the_question(
    silent: None, publisher: Publisher, post: Post, platform: str
) -> None:
    post()
    let_pass(publisher.workshop.db, NEARLY + OVER)
    post()
    (row,) = listed(publisher.workshop.db, NEEDING_A_PERSON)
    told = history(publisher.workshop.db, row.id)
    assert "2 days" in told["error_message"]
    assert told["events"][-1]["detail"]["last_answer"]
    assert (told["remote_id"] is not None) == (platform == "youtube")


@pytest.mark.parametrize("platform", ["youtube"], indirect=True)
def test_an_upload_that_cannot_be_finished_is_handed_to_a_person_after_two_days(
    publisher: Publisher, post: Post, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("youtube", method="PUT", path_regex="/upload/", times=None, status=503)
    with pytest.raises(TransientError):
        post()
    with publisher.workshop.db.session() as session:
        session.execute(
            sa.update(Publication).values(state="FINALIZING", first_mutation_at=DatabaseNow(-3600))
        )
    with pytest.raises(TransientError):
        post()
    let_pass(publisher.workshop.db, NEARLY)
    assert post() == "NEEDS_REVIEW"


@pytest.mark.parametrize("platform", ["tiktok"], indirect=True)
def test_a_channel_that_waits_for_consent_is_no_reason_to_give_up(
    silent: None, publisher: Publisher, post: Post, sandbox: SandboxUnderTest
) -> None:
    post()
    store = sandbox.server._server.config.app.state.store
    for kind in ("tiktok_refresh", "tiktok_access"):
        for token, _ in store.items(kind):
            store.delete(kind, token)
    sandbox.clear_faults()
    let_pass(publisher.workshop.db, NEARLY + OVER)
    with pytest.raises(NeedsPersonError) as failure:
        post()
    assert failure.value.code == "reauth_required"
