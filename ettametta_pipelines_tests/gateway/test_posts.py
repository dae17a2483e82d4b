"""Posts in the browser: the lists, the evidence, and the two answers to a post in doubt."""

from typing import Any

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.commands.channels import connect_platform
from ettametta_pipelines.publishing.connections import require
from ettametta_pipelines.publishing.ledger import Intent, Ledger, State
from ettametta_pipelines.publishing.review import history, ordered_again
from ettametta_pipelines.publishing.tokens import open_envelope
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.gateway.conftest import Browser, browser_at

TITLE = "Knife <script>alert(1)</script> skills"
DOUBT = (State.SESSION_OPEN, State.FINALIZING, State.RECONCILING, State.NEEDS_REVIEW)
TWICE = (*DOUBT[:3], State.INCIDENT)


@pytest.fixture
def post(settings_env: Settings, db: StateDatabase) -> Any:
    """Makes a post of its own video and walks it through states."""
    for platform in ("youtube", "tiktok"):
        connect_platform(settings_env, "acme", platform, None)
    ledger = Ledger(db, open_envelope(settings_env), clock=utc_now, owner="run 1")
    made = 0

    def make(*states: State, platform: str = "youtube", **columns: Any) -> Publication:
        nonlocal made
        made += 1
        channel = require(db, "acme", platform)
        row = ledger.plan(
            Intent(
                platform,
                "acme",
                channel.channel_id,
                f"acme--{made:016x}",
                "media/x.mp4",
                "ab",
                100,
                TITLE,
                "private",
            )
        )
        with ledger.claimed(row.id) as claim:
            for state in states:
                last = columns if state is states[-1] else {}
                row = ledger.advance(
                    claim, state, reason=f"to_{state.lower()}", detail={"seen": "<i>x</i>"}, **last
                )
        return row

    return make


def state_of(db: StateDatabase, row: Publication) -> str:
    return str(history(db, row.id)["state"])


def test_lists_show_what_is_in_doubt_what_waits_and_what_went_out(browser: Browser, post: Any) -> None:
    doubt, waiting = post(*DOUBT), post()
    done = post(*DOUBT[:2], State.PUBLISHED, remote_id="a" * 11, url="javascript:alert(1)")
    page = browser.get("/publications").text
    for row in (doubt, waiting, done):
        assert f"/publications/{row.id}" in page
    assert "<script>" not in page
    assert "javascript:" not in page
    assert "needs a person" in page
    assert "1 post needs a person" in browser.get("/").text


def test_a_post_tells_its_whole_trail_and_no_secret(browser: Browser, post: Any, db: StateDatabase) -> None:
    row = post(State.SESSION_OPEN, handle={"session_uri": "https://canary.example.com/upload"})
    page = browser.get(f"/publications/{row.id}").text
    assert "to session open" in page
    assert "&lt;i&gt;x&lt;/i&gt;" in page
    assert "canary" not in page
    assert browser.get("/publications/unknown").status_code == 404


@pytest.mark.parametrize(
    "found",
    ["dQw4w9WgXcQ", "https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=3", "https://youtu.be/dQw4w9WgXcQ?si=x",
     "https://www.youtube.com/shorts/dQw4w9WgXcQ"],
)  # fmt: skip
def test_a_person_says_that_a_post_is_live(
    browser: Browser, post: Any, db: StateDatabase, found: str
) -> None:
    row = post(*DOUBT)
    assert browser.post(f"/publications/{row.id}/live", found=found).status_code == 303
    told = history(db, row.id)
    assert (told["state"], told["remote_id"]) == ("PUBLISHED", "dQw4w9WgXcQ")
    assert told["url"].endswith("watch?v=dQw4w9WgXcQ")
    last = told["events"][-1]
    assert (last["reason"], last["actor"]) == ("declared_live", "operator at this machine (gateway)")
    assert "It is live" not in browser.get(f"/publications/{row.id}").text


@pytest.mark.parametrize("found", ["", "https://evil.example.com/", "short", "a" * 12])
def test_what_is_no_posts_id_settles_nothing(
    browser: Browser, post: Any, db: StateDatabase, found: str
) -> None:
    row = post(*DOUBT)
    assert browser.post(f"/publications/{row.id}/live", found=found).status_code == 400
    assert state_of(db, row) == "NEEDS_REVIEW"


def test_a_person_says_that_a_post_is_not_live_and_the_next_intent_is_ordered(
    settings_env: Settings, post: Any, db: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.settings import get_settings

    monkeypatch.setenv("ETTAMETTA_PROXY_USER_HEADER", "X-User")
    get_settings.cache_clear()
    browser = browser_at(get_settings(), peer="10.0.0.7", **{"x-user": "alice@example.com"})
    row = post(*DOUBT, platform="tiktok")
    unsure = browser.post(f"/publications/{row.id}/again")
    assert (unsure.status_code, state_of(db, row)) == (400, "NEEDS_REVIEW")
    answer = browser.post(f"/publications/{row.id}/again", looked="yes")
    assert answer.status_code == 303
    assert state_of(db, row) == "FAILED_DEFINITE"
    last = history(db, row.id)["events"][-1]
    assert (last["reason"], last["actor"]) == ("declared_not_live", "alice@example.com (gateway)")
    ((ordered, ordered_by),) = ordered_again(db)
    assert ordered_by == "alice@example.com (gateway)"
    assert answer.headers["location"] == f"/publications/{ordered.id}"
    assert (ordered.intent_no, ordered.content_id, ordered.state) == (2, row.content_id, "PLANNED")
    again = browser.post(f"/publications/{row.id}/again", looked="yes")
    assert (again.status_code, len(ordered_again(db))) == (400, 1)


def test_of_a_video_posted_twice_only_the_post_that_stays_can_be_named(
    browser: Browser, post: Any, db: StateDatabase
) -> None:
    row = post(*TWICE)
    page = browser.get(f"/publications/{row.id}").text
    assert "Posted more than once" in page
    assert "post it again" not in page
    assert browser.post(f"/publications/{row.id}/again", looked="yes").status_code == 400
    assert browser.post(f"/publications/{row.id}/live", found="dQw4w9WgXcQ").status_code == 303
    assert state_of(db, row) == "PUBLISHED"


def test_a_forged_answer_settles_nothing(browser: Browser, post: Any, db: StateDatabase) -> None:
    row = post(*DOUBT)
    for act in ("live", "again"):
        answer = browser.post(f"/publications/{row.id}/{act}", csrf="x", found="dQw4w9WgXcQ", looked="yes")
        assert answer.status_code == 403
    assert state_of(db, row) == "NEEDS_REVIEW"


def test_a_published_post_cannot_be_answered_for(browser: Browser, post: Any, db: StateDatabase) -> None:
    row = post(*DOUBT[:2], State.PUBLISHED, remote_id="a" * 11)
    assert browser.post(f"/publications/{row.id}/live", found="dQw4w9WgXcQ").status_code == 400
    assert history(db, row.id)["remote_id"] == "a" * 11


def test_what_the_platform_said_of_a_post_in_doubt_is_at_hand(browser: Browser, post: Any) -> None:
    states = (*DOUBT[:2], State.PROCESSING, State.NEEDS_REVIEW)
    row = post(*states, remote_id="dQw4w9WgXcQ", url="https://www.youtube.com/watch?v=dQw4w9WgXcQ")
    page = browser.get(f"/publications/{row.id}").text
    assert 'value="dQw4w9WgXcQ"' in page
    assert '<a href="https://www.youtube.com/watch?v=dQw4w9WgXcQ" rel="noreferrer">look at it</a>' in page


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("invalid_tags", ["nothing was posted", "materialize the publication in Dagster"]),
        ("youtube_rejected", ["YouTube Studio", "materialize the publication in Dagster"]),
        ("declared_not_live", ["Nothing is left to do here"]),
        ("channel_replaced", ["nothing is left to do"]),
    ],
)
def test_a_post_that_failed_says_what_to_do_about_it(
    browser: Browser, post: Any, code: str, says: list[str]
) -> None:
    row = post(State.FAILED_DEFINITE, error_code=code, error_message="It was refused.")
    page = browser.get(f"/publications/{row.id}").text
    assert "It was refused." in page
    assert [words for words in says if words not in page] == []


def test_what_has_begun_since_the_last_look_is_not_shown_as_waiting(
    settings_env: Settings, post: Any
) -> None:
    from ettametta_pipelines.publishing.queue_contracts import PUBLISH_QUEUE
    from ettametta_pipelines.storage.objects import open_store
    from ettametta_pipelines.storage.parquet import write_table

    begun = post(State.SESSION_OPEN)
    row = {
        "position": 1, "planned_at": None, "why": "waiting for approval", "platform": "youtube", "account": "acme",
        "time_zone": "UTC", "intent_no": 1, "title": "Waits", "preview_url": "http://x.example/v", "sha256": "ab",
        "ready_at": utc_now(), "not_before": None, "attempts": 0, "tell": [], "observed_at": utc_now(),
    }  # fmt: skip
    rows = [row | {"source_id": begun.content_id}, row | {"source_id": "acme--ffffffffffffffff"}]
    write_table(open_store(settings_env), PUBLISH_QUEUE, PUBLISH_QUEUE.frame(rows), None)
    assert browser_at(settings_env).get("/publications").text.count("waiting for approval") == 1
