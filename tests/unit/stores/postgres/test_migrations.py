from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trio

from tchatd.kernel.errors import Unavailable
from tchatd.stores.postgres import migrations
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.migrations import (
    Applied,
    Migration,
    MigrationRefused,
    check,
    load,
)
from tests.support.postgres import until

FILES = {
    "0001_one.sql": "CREATE TABLE one (a int); INSERT INTO one VALUES (1);",
    "0002_two.sql": "-- 100 % plain\nCREATE TABLE two (a int);",
}

Load = Callable[[dict[str, str]], list[Migration]]


@pytest.fixture
def files(tmp_path: Path) -> Load:
    """Makes a folder of migrations, and loads it."""

    def load_files(files: dict[str, str]) -> list[Migration]:
        for old in tmp_path.iterdir():
            old.unlink()
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return load(tmp_path)

    return load_files


def applied(of: list[Migration]) -> list[Applied]:
    return [Applied(m.version, m.name, m.checksum) for m in of]


def test_files_are_loaded_in_order(files: Load) -> None:
    loaded = files({**FILES, "0010_ten.sql": "", "README.md": "not one"})
    assert [m.file for m in loaded] == ["0001_one.sql", "0002_two.sql", "0010_ten.sql"]
    assert all(re.fullmatch("[0-9a-f]{64}", m.checksum) for m in loaded)


def test_the_packaged_ones_fit_together() -> None:
    loaded = load()
    assert loaded[0].file == "0001_core.sql"
    assert check(loaded, []) == loaded
    assert check(loaded, applied(loaded)) == []


@pytest.mark.parametrize("name", ["1_x.sql", "0001-x.sql", "0001_X.sql", "x.sql"])
def test_a_file_with_another_name_is_refused(files: Load, name: str) -> None:
    with pytest.raises(MigrationRefused, match=re.escape(name)):
        files({name: ""})


def test_a_number_taken_twice_is_refused(files: Load) -> None:
    with pytest.raises(MigrationRefused, match=r"0001_b.sql: .*0001_a.sql"):
        files({"0001_a.sql": "", "0001_b.sql": ""})


def test_a_changed_file_is_refused(files: Load) -> None:
    before = applied(files(FILES))
    with pytest.raises(MigrationRefused, match="changed") as raised:
        check(files(FILES | {"0001_one.sql": "SELECT 1"}), before)
    assert raised.value.file == "0001_one.sql"


def test_a_renamed_file_is_refused(files: Load) -> None:
    before = applied(files(FILES))
    renamed = {"0001_uno.sql": FILES["0001_one.sql"], "0002_two.sql": ""}
    with pytest.raises(MigrationRefused, match=r"0001_uno.sql: .*0001_one.sql"):
        check(files(renamed), before)


def test_a_missing_file_is_refused(files: Load) -> None:
    before = applied(files(FILES))
    with pytest.raises(MigrationRefused, match=r"0001_one.sql: .*missing"):
        check(files({"0002_two.sql": FILES["0002_two.sql"]}), before)


def test_a_file_before_an_applied_one_is_refused(files: Load) -> None:
    before = applied(files({"0002_two.sql": FILES["0002_two.sql"]}))
    with pytest.raises(MigrationRefused, match=r"0001_one.sql: out of order.*0002"):
        check(files(FILES), before)


def test_a_newer_database_is_refused(files: Load) -> None:
    before = applied(files(FILES))
    with pytest.raises(MigrationRefused, match=r"0002_two.sql: .*newer.*0001"):
        check(files({"0001_one.sql": FILES["0001_one.sql"]}), before)


@pytest.mark.service
async def test_each_is_applied_once_and_recorded(
    files: Load, empty_database: str, connection: Connection
) -> None:
    assert [m.version for m in await migrations.pending(empty_database)][:1] == [1]
    one = files({"0001_one.sql": FILES["0001_one.sql"]})
    assert await migrations.apply(empty_database, one) == one
    both = files(FILES)
    assert await migrations.pending(empty_database, both) == both[1:]
    assert await migrations.apply(empty_database, both) == both[1:]
    assert await migrations.apply(empty_database, both) == []
    rows = await connection.fetch(
        "SELECT version, name, checksum, took_ms >= 0, applied_at <= now()"
        " FROM schema_migrations ORDER BY version"
    )
    assert rows == [(m.version, m.name, m.checksum, True, True) for m in both]
    assert await connection.fetch("SELECT a FROM one") == [(1,)]


@pytest.mark.service
async def test_looking_changes_nothing(
    empty_database: str, connection: Connection
) -> None:
    await migrations.pending(empty_database)
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert await connection.fetch_value(tables) == 0


@pytest.mark.service
async def test_one_that_fails_leaves_nothing_of_itself(
    files: Load, empty_database: str, connection: Connection
) -> None:
    bad = FILES | {"0002_two.sql": "CREATE TABLE two (a int); SELECT 1 / 0;"}
    with pytest.raises(MigrationRefused, match=r"0002_two\.sql: division by zero"):
        await migrations.apply(empty_database, files(bad))
    assert await connection.fetch_value("SELECT to_regclass('two') IS NULL")
    versions = "SELECT version FROM schema_migrations"
    assert await connection.fetch(versions) == [(1,)]
    assert len(await migrations.apply(empty_database, files(FILES))) == 1


@pytest.mark.service
async def test_one_that_ends_its_transaction_is_refused(
    files: Load, empty_database: str
) -> None:
    with pytest.raises(MigrationRefused, match="ends its own transaction"):
        await migrations.apply(empty_database, files({"0001_x.sql": "COMMIT"}))


@pytest.mark.service
async def test_several_processes_may_start_at_once(
    files: Load, empty_database: str
) -> None:
    loaded = files(FILES)
    done: list[list[Migration]] = []

    async def start() -> None:
        done.append(await migrations.apply(empty_database, loaded))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(start)
    assert sorted(done, key=len) == [[], [], [], [], loaded]


@pytest.mark.service
async def test_who_waits_too_long_for_another_gives_up(
    empty_database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT_S", 0.05)
    await connection.fetch("SELECT pg_advisory_lock(%s::bigint)", (migrations.LOCK_ID,))
    with pytest.raises(Unavailable, match="migrating"):
        await migrations.apply(empty_database)


@pytest.mark.service
async def test_a_cancelled_one_frees_the_lock(
    files: Load, empty_database: str, connection: Connection
) -> None:
    slow = files({"0001_slow.sql": "CREATE TABLE s (a int); SELECT pg_sleep(600);"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(migrations.apply, empty_database, slow)
        running = "EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE %s"
        running += " AND datname = current_database() AND pid <> pg_backend_pid())"
        await until(connection, running, "%pg_sleep(600)%")
        nursery.cancel_scope.cancel()
    assert await connection.fetch_value("SELECT to_regclass('s') IS NULL")
    assert len(await migrations.apply(empty_database, files(FILES))) == 2


@pytest.mark.service
async def test_the_fixture_gives_a_migrated_database(database: str) -> None:
    assert await migrations.pending(database) == []
    with closing(await Connection.connect(database)) as connection:
        assert await connection.fetch("SELECT * FROM journal_positions") == []
