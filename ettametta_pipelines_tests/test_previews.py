"""Pictures and tables operators see in the UI."""

import re
from base64 import b64decode
from io import BytesIO

import numpy as np
from PIL import Image

from ettametta_pipelines.previews import Thumb, cell, link, markdown_table, number, picture_strip


def noise(width: int, height: int, seed: int = 1) -> bytes:
    """The picture that compresses worst."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def embedded(markdown: str) -> Image.Image:
    found = re.search(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert found
    return Image.open(BytesIO(b64decode(found[1])))


def test_a_title_cannot_break_a_table_or_become_a_link_or_an_image() -> None:
    shown = cell("a | b ![x](http://evil) <img src=x> `code`")
    assert "|" not in shown.replace("\\|", "")
    assert "](" not in shown
    assert "<img" not in shown.replace("\\<", "")


def test_only_web_addresses_become_links() -> None:
    assert link("t", "https://a.example/watch?v=1&t=2") == "[t](https://a.example/watch?v=1&t=2)"
    assert link("t", "javascript:alert(1)") == "t"
    assert link("t", "https://a.example/)[x](y") == "t"
    assert link("t", None) == "t"


def test_a_table_has_a_header_a_rule_and_its_rows() -> None:
    assert markdown_table(["a", "b"], [["1", "2"]]).splitlines() == [
        "| a | b |",
        "| --- | --- |",
        "| 1 | 2 |",
    ]


def test_what_is_unknown_is_a_dash_not_a_zero() -> None:
    assert (number(None), number(1234.5, digits=1), cell(None)) == ("–", "1,234.5", "–")


def test_pictures_stand_side_by_side_at_one_height() -> None:
    strip = picture_strip([Thumb("first", noise(160, 90)), Thumb("second", noise(90, 160))], height=80)
    assert strip is not None
    assert embedded(strip).size == (142 + 4 + 45, 80)
    assert "1 first · 2 second" in strip


def test_a_strip_stays_within_its_budget_even_for_noise() -> None:
    strip = picture_strip([Thumb(f"t{i}", noise(320, 180, i)) for i in range(10)], budget=48 * 1024)
    assert strip is not None
    assert len(strip.encode()) <= 48 * 1024
    assert embedded(strip).height == 120


def test_bytes_that_are_no_picture_are_left_out() -> None:
    strip = picture_strip([Thumb("broken", b"<html>"), Thumb("good", noise(16, 9))], height=18)
    assert strip is not None
    assert "1 good" in strip
    assert picture_strip([Thumb("broken", b"\xff\xd8\xff truncated")]) is None
    assert picture_strip([]) is None


def test_a_small_file_that_unpacks_to_gigabytes_is_left_out() -> None:
    for size in ((20_000, 20_000), (20_000, 8)):
        buffer = BytesIO()
        Image.new("1", size).save(buffer, "PNG")
        assert picture_strip([Thumb("bomb", buffer.getvalue())]) is None
