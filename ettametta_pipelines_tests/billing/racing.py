"""Racers of their own processes: forked from a server that has imported everything, started together by a barrier."""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext
from typing import Any

RACERS = 50


def context() -> ForkServerContext:
    racing = multiprocessing.get_context("forkserver")
    racing.set_forkserver_preload(
        ["ettametta_pipelines.billing.reservations", "ettametta_pipelines_tests.billing.conftest", "psycopg"]
    )
    return racing


def run(
    url: str, accounts: Sequence[str], number: int, same_source: bool, barrier: Any, answers: Any
) -> None:
    """One racer: in every round one reservation for that round's account, all racers at once."""
    from ettametta_pipelines.billing.reservations import VideoLimitReached, reserve_slot
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines_tests.billing.conftest import plans

    db, table = StateDatabase(url), plans()
    for account in accounts:
        source = "source" if same_source else f"source-of-{number}"
        barrier.wait()
        try:
            granted = reserve_slot(db, table, account, source, holder=f"racer-{number}").id
        except VideoLimitReached:
            granted = ""
        answers.put((account, granted))
    db.close()


def race(url: str, accounts: Sequence[str], *, same_source: bool = False) -> dict[str, list[str]]:
    """Round's account -> ids of the slots that were granted, one entry a racer that got one."""
    racing = context()
    barrier, answers = racing.Barrier(RACERS), racing.Queue()
    racers = [
        racing.Process(target=run, args=(url, accounts, number, same_source, barrier, answers))
        for number in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    found = [answers.get(timeout=240) for _ in range(RACERS * len(accounts))]
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * RACERS
    return {account: [slot for name, slot in found if name == account and slot] for account in accounts}
