"""Text from strangers."""

from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.untrusted import plain_text


def test_invisible_and_reordering_characters_are_removed() -> None:
    assert plain_text("a\u202eb\u200bc\x00d\n\te", 50) == "a b c d e"


def test_emoji_joined_of_several_parts_stay_whole() -> None:
    assert plain_text("family 👨‍👩‍👧 🏳️‍🌈", 50) == "family 👨‍👩‍👧 🏳️‍🌈"


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert plain_text("cut \ud83d here", 50) == "cut ? here"


def test_ten_thousand_characters_are_cut_with_an_ellipsis() -> None:
    text = plain_text("x" * 10_000, 300)
    assert len(text) == 300
    assert text.endswith("…")


@given(st.text(st.characters(), max_size=400), st.integers(2, 100))
def test_any_text_becomes_one_storable_line_within_the_limit(text: str, limit: int) -> None:
    line = plain_text(text, limit)
    assert len(line) <= limit
    assert "\n" not in line
    line.encode("utf-8")
