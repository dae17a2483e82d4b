"""The schema: models and revisions agree, and many processes may arrive at once."""

import subprocess
import sys

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.state import migrations
from ettametta_pipelines.state.models import Base
from ettametta_pipelines.state.session import StateDatabase

MIGRATE_ON_COMMAND = """
import sys
from ettametta_pipelines.state.session import StateDatabase
database = StateDatabase(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
database.migrate()
print(database.revision())
"""


def test_an_empty_database_becomes_the_newest_schema(empty_database_url: str) -> None:
    database = StateDatabase(empty_database_url)
    assert database.revision() is None
    database.migrate()
    assert database.revision() == migrations.HEAD
    database.close()


def test_models_and_revisions_agree(database: StateDatabase) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.session() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_newest_revision_is_the_one_the_code_expects(database: StateDatabase) -> None:
    from alembic.script import ScriptDirectory

    with database.session() as session:
        scripts = ScriptDirectory.from_config(migrations.config(session.connection()))
    assert scripts.get_heads() == [migrations.HEAD]


def test_eight_processes_that_migrate_at_once_all_succeed(empty_database_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE_ON_COMMAND, empty_database_url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate() for process in processes]
    assert [(process.returncode, out) for process, (out, _) in zip(processes, results, strict=True)] == [
        (0, f"{migrations.HEAD}\n")
    ] * 8, results


def test_a_database_at_the_newest_schema_is_opened_without_alembic(database_url: str) -> None:
    program = (
        "import sys\n"
        "from ettametta_pipelines.state.session import StateDatabase\n"
        "StateDatabase(sys.argv[1]).migrate()\n"
        "print('alembic' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, database_url], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_database_of_a_newer_version_is_refused(database: StateDatabase) -> None:
    with database.session() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(PermanentError) as failure:
        database.migrate()
    assert failure.value.code == "state_newer_than_code"


def test_the_first_revision_can_be_taken_back(database: StateDatabase) -> None:
    from alembic import command

    with database.session() as session:
        command.downgrade(migrations.config(session.connection()), "base")
    with database.session(write=False) as session:
        assert sa.inspect(session.connection()).get_table_names() == [migrations.VERSION_TABLE]


def test_of_two_accounts_on_one_channel_the_newest_consent_keeps_it(empty_database_url: str) -> None:
    from alembic import command

    database = StateDatabase(empty_database_url)
    row = (
        "INSERT INTO oauth_connections (account_id, platform, channel_id, channel_title, scopes, access_token, "
        "expires_at, generation, status, connected_at, updated_at, refresh_failures) VALUES "
        "(:account, 'youtube', 'UC1', 't', '', '', :at, 0, 'active', :at, :at, 0)"
    )
    with database.session() as session:
        command.upgrade(migrations.config(session.connection()), "0009")
    with database.session() as session:
        session.execute(sa.text(row), {"account": "acme", "at": "2026-01-01 00:00:00"})
        session.execute(sa.text(row), {"account": "beta", "at": "2026-02-01 00:00:00"})
    database.migrate()
    with database.session(write=False) as session:
        query = sa.text("SELECT account_id, channel_id, status FROM oauth_connections ORDER BY account_id")
        kept = [tuple(found) for found in session.execute(query)]
    assert kept == [("acme", "", "reauth_required"), ("beta", "UC1", "active")]
    database.close()
