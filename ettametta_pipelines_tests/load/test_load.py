"""The driver and its surroundings, tried small; the load itself is `make load`."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ettametta_pipelines_tests.load import scale
from ettametta_pipelines_tests.load.__main__ import slope
from ettametta_pipelines_tests.load.driver import Ask, Seen, drive, recovery_s
from ettametta_pipelines_tests.load.scenario import SHARES

ROOT = Path(__file__).resolve().parents[2]


async def _stalling(stall_s: float) -> tuple[asyncio.Server, int]:
    """A server that answers nothing for so long, then everything at once."""
    begun = time.perf_counter()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line == b"\r\n":
                await asyncio.sleep(max(0.0, begun + stall_s - time.perf_counter()))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def test_a_stall_is_seen_by_every_request_it_delays() -> None:
    async def run() -> Seen:
        server, port = await _stalling(1.0)
        async with server:
            return await drive([port], [Ask("x", "/")] * 40, [(80, 0.5)])

    seen = asyncio.run(run())
    # A driver that waits for answers would have seen one slow request.
    assert sum(took > 0.3 for took in seen.latencies()) == 40
    assert not seen.errors


def test_an_unexpected_status_is_an_error() -> None:
    async def run() -> Seen:
        server, port = await _stalling(0)
        async with server:
            return await drive([port], [Ask("x", "/", wanted=frozenset({302}))], [(10, 0.1)])

    assert asyncio.run(run()).errors == {"x 200": 1}


def test_a_load_that_is_cut_short_tells_what_it_saw_of_all_it_took() -> None:
    taken: list[int] = []

    def asks() -> Iterator[Ask]:
        for number in range(1000):
            taken.append(number)
            yield Ask("x", "/")

    async def run() -> Seen:
        server, port = await _stalling(0)
        async with server:
            driving = asyncio.create_task(drive([port], asks(), [(20, 50)]))
            while len(taken) < 5:
                await asyncio.sleep(0.01)
            driving.cancel()
            return await driving

    seen = asyncio.run(run())
    assert seen.is_cut_short
    assert seen.count == len(taken) < 1000
    assert not seen.errors


def test_the_slope_of_too_few_samples_is_unknown() -> None:
    assert slope([(0, 1), (1, 1)]) is None
    assert slope([(minute, 100 + 2 * minute) for minute in range(10)]) == pytest.approx(2)


def test_recovery_is_the_last_second_that_missed_the_bar() -> None:
    seen = Seen()
    seen.times["x"] = [(10 + number / 10, 0.2 if number < 25 else 0.001) for number in range(100)]
    assert recovery_s(seen, 10, 50) == 3
    assert recovery_s(seen, 15, 50) == 0


def test_k6_asks_for_the_same_in_the_same_shares() -> None:
    script = (ROOT / "k8s/k6/load_test.js").read_text()
    shares = re.search(r"const SHARES = (\{[^}]*\});", script)
    assert shares
    assert json.loads(shares[1]) == SHARES
    assert "p(95)<50" in script
    assert "p(99)<150" in script


def test_the_page_about_scale_says_what_the_model_says() -> None:
    assert scale.page((ROOT / "docs/scale.md").read_text()) == (ROOT / "docs/scale.md").read_text()


@pytest.mark.parametrize("videos", [10_000, 1_000_000])
def test_a_simulated_day_agrees_with_the_formulas(videos: int) -> None:
    day = scale.simulate(videos)
    plan = scale.plan(videos)
    # As many as chance allows: within four standard deviations.
    assert abs(day.arrived - plan.videos_a_day) < 4 * plan.videos_a_day**0.5
    assert day.rendered == pytest.approx(day.arrived, rel=0.01)
    assert day.worker_use == pytest.approx(plan.render_use, rel=0.15)
    assert day.wait_p95_s <= scale.RENDER_WAIT_P95_S
    assert day.published == day.arrived
    assert not day.waiting_at_midnight


def test_too_few_workers_or_too_little_quota_are_seen() -> None:
    plan = scale.plan(1_000_000)
    assert scale.simulate(1_000_000, workers=plan.workers // 2).wait_p95_s > scale.RENDER_WAIT_P95_S
    assert scale.simulate(1_000_000, projects=plan.projects // 2).waiting_at_midnight
