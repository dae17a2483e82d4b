"""The words for a post that is not on the platform: every state that needs a person has some, leading somewhere."""

import pytest

from ettametta_pipelines.publishing.ledger import ON_THE_PLATFORM, State
from ettametta_pipelines.publishing.what_now import BY_CODE, BY_STATE, what_now

ON_ITS_WAY = {State.PLANNED, State.SESSION_OPEN, State.FINALIZING}


def test_every_state_has_words_unless_the_post_is_there_or_on_its_way() -> None:
    assert set(BY_STATE) == set(State) - ON_THE_PLATFORM - ON_ITS_WAY
    assert all(what_now(state, "no_last_word", 1) is None for state in ON_THE_PLATFORM | ON_ITS_WAY)


@pytest.mark.parametrize("code", [None, "unheard_of", *BY_CODE])
def test_the_next_intent_is_named_by_its_number(code: str | None) -> None:
    for state in BY_STATE:
        text = what_now(state, code, 2)
        assert text is not None
        assert "{" not in text
        assert "intent_no: 2" not in text


def test_who_said_that_a_post_is_not_live_is_not_told_that_the_platform_refused_it() -> None:
    assert "refused" not in str(what_now("FAILED_DEFINITE", "declared_not_live", 1))
    assert "`intent_no: 3`" in str(what_now("FAILED_DEFINITE", "invalid_tags", 2))
