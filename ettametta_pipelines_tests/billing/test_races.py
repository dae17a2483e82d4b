"""Fifty processes and one slot: never more than the limit, every round, on SQLite and on Postgres.

RACE_ROUNDS sets how many rounds; `make faults` runs twenty.
"""

import os

from ettametta_pipelines.billing.entitlements import entitlement_row
from ettametta_pipelines.billing.reservations import consume_slot, reserve_slot, usages
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.billing.conftest import plans
from ettametta_pipelines_tests.billing.racing import race

ROUNDS = int(os.environ.get("RACE_ROUNDS", "3"))


def used_and_reserved(db: StateDatabase, account: str) -> tuple[int, int]:
    with db.session() as session:
        now = db.now(session)
        found = usages(session, [entitlement_row(session, plans(), account, now)], now)[account]
    return found.used, found.reserved


def test_q1_fifty_processes_for_the_last_slot_get_exactly_one_in_every_round(
    database: StateDatabase, database_url: str
) -> None:
    accounts = [f"round-{number}" for number in range(ROUNDS)]
    for account in accounts:
        for number in range(4):
            consume_slot(
                database, plans(), reserve_slot(database, plans(), account, f"earlier-{number}", holder="run")
            )
    granted = race(database_url, accounts)
    assert [len(granted[account]) for account in accounts] == [1] * ROUNDS
    assert {used_and_reserved(database, account) for account in accounts} == {(4, 1)}


def test_q1_fifty_processes_for_five_slots_of_a_new_account_get_exactly_five(
    database: StateDatabase, database_url: str
) -> None:
    assert len(race(database_url, ["fresh"])["fresh"]) == 5
    assert used_and_reserved(database, "fresh") == (0, 5)


def test_q2_fifty_processes_for_one_source_share_one_slot(database: StateDatabase, database_url: str) -> None:
    granted = race(database_url, ["shared"], same_source=True)["shared"]
    assert len(granted) == 50
    assert len(set(granted)) == 1
    assert used_and_reserved(database, "shared") == (0, 1)
