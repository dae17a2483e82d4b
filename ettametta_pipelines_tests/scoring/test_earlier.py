"""What is kept of an earlier run: rows that can be read, and a sentence where a stored table cannot."""

from pathlib import Path

import pytest

from ettametta_pipelines.failures import TransientError
from ettametta_pipelines.scoring.earlier import earlier_rows
from ettametta_pipelines.storage.contracts import Column, TableContract
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import table_key, write_table

JUDGED = TableContract("judged", "Something paid for", (Column("a", "int64", "A number"),), key=("a",))
BEFORE = TableContract("judged", "As it was once", (Column("b", "string", "A word"),), key=("b",))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


def test_stored_rows_are_read_and_nothing_is_said(store: ObjectStore) -> None:
    said: list[str] = []
    write_table(store, JUDGED, JUDGED.frame([{"a": 1}]), "p")
    assert earlier_rows(store, JUDGED, "p", warn=said.append) == [{"a": 1}]
    assert earlier_rows(store, JUDGED, "never made", warn=said.append) == []
    assert said == []


def test_a_corrupt_table_is_no_rows_and_said(store: ObjectStore) -> None:
    said: list[str] = []
    store.put(table_key("judged", "p"), b"garbage")
    assert earlier_rows(store, JUDGED, "p", warn=said.append) == []
    assert len(said) == 1
    assert "judged cannot be used" in said[0]
    assert "corrupt_table" in said[0]
    assert "paid for again" in said[0]


def test_a_table_from_before_the_contract_changed_is_no_rows_and_said(store: ObjectStore) -> None:
    said: list[str] = []
    write_table(store, BEFORE, BEFORE.frame([{"b": "x"}]), "p")
    assert earlier_rows(store, JUDGED, "p", warn=said.append) == []
    assert len(said) == 1


def test_a_store_that_is_away_is_no_reason_to_pay_again(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bytes:
        raise TransientError("away", code="store_unreachable")

    monkeypatch.setattr(ObjectStore, "get", away)
    with pytest.raises(TransientError):
        earlier_rows(store, JUDGED, "p")
