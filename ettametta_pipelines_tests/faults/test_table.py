"""The quickest rows of the table of faults, and the table itself."""

import re
import subprocess
from pathlib import Path

import pytest

from ettametta_pipelines_tests.databases import PostgresServer
from ettametta_pipelines_tests.faults import rows_state, rows_wire, table
from ettametta_pipelines_tests.faults.outcome import Outcome

HAS_NAMESPACES = subprocess.run(
    ["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True, check=False
).returncode == 0  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not HAS_NAMESPACES, reason="this kernel gives no user namespaces")
def test_a_full_disk_is_said_and_leaves_tables_and_ledger_whole(tmp_path: Path) -> None:
    assert rows_state.disk_full(tmp_path).broken == []


@pytest.mark.slow
@pytest.mark.postgres
def test_writers_survive_a_postgres_that_dies_and_nothing_is_lost_or_by_half(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_state, "CRASHES", 1)
    monkeypatch.setattr(rows_state, "TERMINATIONS", 2)
    assert rows_state.postgres_dies(tmp_path).broken == []


@pytest.mark.parametrize("row", [rows_wire.lines_break, rows_wire.names_and_certificates])
def test_broken_lines_names_and_certificates_are_told_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: table.Play
) -> None:
    # The row sets it; afterwards it is as it was.
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.delenv("SSL_CERT_FILE")
    assert row(tmp_path).broken == []


def test_every_test_that_a_row_names_exists() -> None:
    source = Path(table.__file__).read_text()
    named = re.findall(r'"([a-z_]+(?:/[a-z_]+)?\.py)(?:::(test_\w+))?"', source)
    assert len(named) > 30
    for file, name in named:
        text = (Path(table.ROOT) / table.TESTS / file).read_text()
        assert not name or f"def {name}(" in text, f"{file}::{name}"


def test_the_table_says_first_what_did_not_hold() -> None:
    row = table.Row("disk-full", "a clear refusal", "a small disk", lambda home: Outcome())
    held = table.as_table([(row, Outcome(["18 tables"]), 1.6)])
    assert re.search(r"^disk-full +a clear refusal \(a small disk\) +held +18 tables +2$", held, re.MULTILINE)
    broken = table.as_table([(row, Outcome(["18 tables"], ["one is torn"]), 1.6)])
    assert "NOT HELD  BROKEN: one is torn; 18 tables" in broken


def test_a_row_that_breaks_or_hangs_did_not_hold() -> None:
    row = next(row for row in table.ROWS if row.name == "names-and-tls")
    from dataclasses import replace

    outcome, _ = table.played_apart(replace(row, limit_s=0.01))
    assert outcome.broken == ["not over after 0 s"]


def test_an_unknown_row_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        table.main(["no-such-row"])
    assert "disk-full" in capsys.readouterr().err
