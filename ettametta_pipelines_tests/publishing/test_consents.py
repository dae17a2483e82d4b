"""T8 and T9 on both databases: whose answer to a consent is taken, once. In a browser: `gateway/test_accounts.py`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing import consents
from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.state.models import OAuthConsent
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)

ADDRESS = "https://studio.example.com/oauth/youtube"


class Desk:
    """A vendor's consent page whose address is the state alone."""

    def page(self, *, redirect_uri: str, state: str, verifier: str, scopes: object) -> str:
        return state


def ask(db: StateDatabase, envelope: Envelope, account: str = "acme", browser: str = "alice") -> str:
    return consents.begin(
        db, Desk(), account, "youtube", browser=browser, redirect_uri=ADDRESS, actor=browser, envelope=envelope
    )  # type: ignore[arg-type]  # fmt: skip


def test_t8_a_state_is_good_once_for_its_browser_its_vendor_and_ten_minutes(
    database: StateDatabase, envelope: Envelope
) -> None:
    state = ask(database, envelope)
    wrong: list[tuple[str, str, str]] = [
        ("unknown", "alice", "youtube"), (state, "mallory", "youtube"), (state, "alice", "tiktok"),
        ("", "alice", "youtube"),
    ]  # fmt: skip
    for said, browser, platform in wrong:
        with pytest.raises(PermanentError) as failure:
            consents.claim(database, said, browser=browser, platform=platform, envelope=envelope)
        assert failure.value.code == consents.CONSENT_INVALID
    assert (
        consents.claim(database, state, browser="alice", platform="youtube", envelope=envelope).account
        == "acme"
    )
    late = ask(database, envelope)
    with database.session() as session:
        for row in session.scalars(sa.select(OAuthConsent)):
            row.expires_at -= timedelta(minutes=10)
    for used in (state, late):
        with pytest.raises(PermanentError):
            consents.claim(database, used, browser="alice", platform="youtube", envelope=envelope)


def test_t8_of_many_answers_with_one_state_at_once_one_is_taken(
    open_database: Callable[[], StateDatabase], envelope: Envelope
) -> None:
    databases = [open_database() for _ in range(8)]
    state, barrier = ask(databases[0], envelope), Barrier(8)

    def answer(db: StateDatabase) -> bool:
        barrier.wait()
        try:
            consents.claim(db, state, browser="alice", platform="youtube", envelope=envelope)
        except PermanentError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(answer, databases)) == 1


def test_t9_each_tabs_answer_is_for_the_account_it_was_asked_for_with_a_proof_of_its_own(
    database: StateDatabase, envelope: Envelope
) -> None:
    states = {account: ask(database, envelope, account) for account in ("acme", "beta")}
    answers = {
        account: consents.claim(database, state, browser="alice", platform="youtube", envelope=envelope)
        for account, state in reversed(states.items())
    }
    assert {account: answer.account for account, answer in answers.items()} == {
        "acme": "acme",
        "beta": "beta",
    }
    assert len({answer.code_verifier for answer in answers.values()}) == 2
