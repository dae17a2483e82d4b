"""Which publication times belong to a partition day."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ettametta_pipelines.discovery.window import publication_window
from ettametta_pipelines.failures import PermanentError

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 22, 1, 30, tzinfo=UTC)


def test_a_past_day_runs_from_local_midnight_to_midnight() -> None:
    window = publication_window(date(2026, 11, 20), BERLIN, NOW)
    assert window.start == datetime(2026, 11, 19, 23, tzinfo=UTC)
    assert window.end == datetime(2026, 11, 20, 23, tzinfo=UTC)


def test_a_day_on_which_clocks_change_has_its_own_length() -> None:
    window = publication_window(date(2026, 10, 25), BERLIN, NOW)
    assert window.end - window.start == timedelta(hours=25)


def test_today_is_the_last_24_hours_so_that_a_night_run_finds_something() -> None:
    window = publication_window(date(2026, 11, 22), BERLIN, NOW)
    assert (window.start, window.end) == (NOW - timedelta(hours=24), NOW)


def test_a_day_that_has_not_begun_is_refused() -> None:
    with pytest.raises(PermanentError) as refused:
        publication_window(date(2026, 11, 23), BERLIN, NOW)
    assert refused.value.code == "day_in_future"
