"""Formats have exact sizes, and output rates keep motion even."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.renders.contracts import FORMAT_NAMES
from ettametta_pipelines.renders.formats import FORMATS, OUTPUT_RATES, choose_formats, output_rate


def test_the_three_formats_have_their_exact_sizes() -> None:
    sizes = {name: (row.width, row.height) for name, row in FORMATS.items()}
    assert sizes == {"9x16": (1080, 1920), "16x9": (1920, 1080), "1x1": (1080, 1080)}
    assert tuple(FORMATS) == FORMAT_NAMES


def test_formats_are_chosen_once_and_in_the_tables_order() -> None:
    assert [f.name for f in choose_formats(["1x1", " 9x16", "1x1"])] == ["9x16", "1x1"]


@pytest.mark.parametrize("names", [[], ["4x5"], ["9x16", ""]])
def test_an_unknown_format_names_the_known_ones(names: list[str]) -> None:
    with pytest.raises(PermanentError) as caught:
        choose_formats(names)
    assert caught.value.code == "unknown_format"
    assert "9x16, 16x9, 1x1" in caught.value.remedy


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        (23.976, Fraction(24000, 1001)), (24, 24), (25, 25), (29.97, Fraction(30000, 1001)), (29.9995, 30),
        (59.94, Fraction(60000, 1001)), (60, 60), (10, 30), (12.5, 25), (15, 30), (20, 60), (90, 30), (100, 50),
        (120, 60), (119.88, Fraction(60000, 1001)), (48, 48), (33, 48),
    ],
)  # fmt: skip
def test_a_steady_source_keeps_its_rate_or_gets_a_multiple_or_part_of_it(fps: float, rate: Fraction) -> None:
    assert output_rate(fps, variable=False) == rate


@pytest.mark.parametrize(
    ("fps", "rate"), [(28.7, 30), (30.0, 30), (24.4, 25), (59.2, 60), (100.0, 60), (6.0, 24)]
)
def test_an_uneven_source_gets_the_next_round_rate(fps: float, rate: int) -> None:
    assert output_rate(fps, variable=True) == rate


@given(st.floats(min_value=5, max_value=121), st.booleans())
def test_every_accepted_rate_has_an_output_rate(fps: float, variable: bool) -> None:
    assert output_rate(fps, variable=variable) in OUTPUT_RATES
