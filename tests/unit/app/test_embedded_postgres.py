from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trio

from tchatd.app import embedded_postgres, postgres_folder
from tchatd.app.embedded_postgres import EmbeddedPostgres
from tchatd.app.postgres_install import PostgresRefused
from tchatd.app.postgres_process import processes_in
from tchatd.kernel.errors import Unavailable
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import StartingUp
from tests.support.postgres import kill, open_folder, own_server

pytestmark = pytest.mark.service

GONE_S = 20.0
SYSTEM = sorted(Path("/usr/lib/postgresql").glob("*/bin"))

OWNER = """
import os, sys, trio
from pathlib import Path
from tchatd.app.embedded_postgres import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]), shared_buffers_mib=16)
    if sys.argv[2] == "no-setpriv":
        async def none(): return None
        server._find_setpriv = none
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        print(server.statistics().pid, server.dsn, flush=True)

trio.run(main)
"""


@pytest.fixture(scope="session")
def initialised() -> Iterator[Path]:
    """A folder in which a server has run once; copied, as initdb takes a second."""
    with open_folder() as folder:
        trio.run(run_once, folder / "postgres")
        yield folder / "postgres"


@pytest.fixture
def folder(initialised: Path) -> Iterator[Path]:
    with open_folder() as parent:
        subprocess.run(["cp", "-a", initialised, parent / "postgres"], check=True)
        yield parent / "postgres"


async def run_once(folder: Path) -> None:
    async with own_server(folder):
        pass


async def refusal(server: EmbeddedPostgres) -> str:
    with pytest.raises(PostgresRefused) as raised:
        await server.run()
    return str(raised.value)


async def write(dsn: str, value: int) -> None:
    """On return the row is durable."""
    with closing(await Connection.connect(dsn)) as connection:
        await connection.execute("CREATE TABLE IF NOT EXISTS t (a int)")
        await connection.execute("INSERT INTO t VALUES (%s)", (value,))


async def read(dsn: str) -> list[int]:
    with closing(await Connection.connect(dsn)) as connection:
        return [row[0] for row in await connection.fetch("SELECT a FROM t ORDER BY a")]


async def until_gone(folder: Path) -> None:
    with trio.fail_after(GONE_S):
        while processes_in(folder / "data"):
            await trio.sleep(0.02)


async def until_restarted(server: EmbeddedPostgres, times: int) -> None:
    with trio.fail_after(60):
        while not server.statistics().healthy or server.statistics().restarts < times:
            await trio.sleep(0.02)


async def test_an_empty_folder_becomes_a_durable_server() -> None:
    with open_folder() as parent:
        folder = parent / "with spaces" / "post'gres"
        async with own_server(folder, options={}) as server:
            assert server.statistics().healthy
            await server.check()
            with closing(await Connection.connect(server.dsn)) as connection:
                for name, value in {
                    "fsync": "on",
                    "synchronous_commit": "on",
                    "full_page_writes": "on",
                    "data_checksums": "on",
                    "listen_addresses": "",
                    "server_encoding": "UTF8",
                    "timezone": "UTC",
                }.items():
                    assert await connection.fetch_value(f"SHOW {name}") == value
                order = "SELECT 'Z' < 'a' AND upper('ü') = 'Ü'"
                assert await connection.fetch_value(order)
        assert processes_in(folder / "data") == {}
        assert not (folder / "data/postmaster.pid").exists()
        assert (folder / "data").stat().st_mode & 0o077 == 0
        assert (folder / "socket").stat().st_mode & 0o077 == 0
        if os.geteuid() == 0:
            assert folder.stat().st_uid == 0
            assert (folder / "data").stat().st_uid != 0


async def test_data_outlive_a_restart(folder: Path) -> None:
    async with own_server(folder) as server:
        await write(server.dsn, 1)
    async with own_server(folder) as server:
        assert await read(server.dsn) == [1]


async def test_cancelling_shuts_it_down_cleanly(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        with closing(await Connection.connect(server.dsn)):
            nursery.cancel_scope.cancel()
    assert processes_in(folder / "data") == {}
    assert "database system is shut down" in (folder / "server.log").read_text()
    assert server.statistics().pid is None


async def test_a_killed_server_is_restarted_with_what_it_acknowledged(
    folder: Path,
) -> None:
    async with own_server(folder, options={}) as server:
        for number in range(1, 3):
            await write(server.dsn, number)
            kill(server.statistics().pid)
            with trio.fail_after(30):
                while server.statistics().healthy:
                    await trio.sleep(0.005)
            await until_restarted(server, number)
            assert await read(server.dsn) == list(range(1, number + 1))


async def test_one_killed_process_of_it_is_no_restart_of_ours(folder: Path) -> None:
    async with own_server(folder) as server:
        await write(server.dsn, 1)
        connection = await Connection.connect(server.dsn)
        kill(connection.backend_pid)
        with pytest.raises(Unavailable):
            await connection.fetch("SELECT pg_sleep(10)")
        connection.close()
        with trio.fail_after(30):
            while True:
                try:
                    assert await read(server.dsn) == [1]
                    break
                except Unavailable:
                    await trio.sleep(0.02)
        assert server.statistics().restarts == 0


@pytest.mark.parametrize("victims", ["owner", "owner without setpriv", "both"])
async def test_killed_owner_leaves_nothing_that_the_next_one_cannot_handle(
    folder: Path, victims: str
) -> None:
    setpriv = "no-setpriv" if victims == "owner without setpriv" else "setpriv"
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), folder, setpriv],
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        line = await trio.to_thread.run_sync(owner.stdout.readline)
        pid, dsn = line.strip().split(" ", 1)
        await write(dsn, 1)
        owner.kill()
        if victims == "both":
            kill(int(pid))
    if victims == "owner":
        await until_gone(folder)
    elif victims == "owner without setpriv":
        assert int(pid) in processes_in(folder / "data")
    async with own_server(folder) as server:
        assert server.statistics().pid != int(pid)
        assert server.statistics().restarts == 0
        assert await read(server.dsn) == [1]
    assert processes_in(folder / "data") == {}


async def test_a_stale_file_that_names_a_living_stranger_is_no_obstacle(
    folder: Path,
) -> None:
    account = pwd.getpwuid((folder / "data").stat().st_uid)
    with subprocess.Popen(["sleep", "600"], user=account.pw_uid) as stranger:
        try:
            pid_file = folder / "data/postmaster.pid"
            pid_file.write_text(f"{stranger.pid}\n{folder / 'data'}\n1\n5432\n")
            async with own_server(folder) as server:
                await server.check()
            assert stranger.poll() is None
        finally:
            stranger.kill()


async def test_a_hung_server_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_postgres, "QUIT_S", 0.2)
    async with own_server(
        folder, health_interval_s=0.05, health_timeout_s=0.3
    ) as server:
        pid = server.statistics().pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with trio.fail_after(30):
            while server.statistics().healthy:
                await trio.sleep(0.01)
        await until_restarted(server, 1)
        assert server.statistics().pid != pid
        await server.check()


async def test_one_that_keeps_dying_is_given_up_with_its_last_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_postgres, "BACKOFF_S", (0.01, 0.02))
    server = EmbeddedPostgres(
        folder, options={"shared_buffers": "lots"}, restarts_max=2
    )
    said = await refusal(server)
    assert "died 3 times" in said
    assert "shared_buffers" in said


async def test_recovery_is_not_cut_short(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_s = trio.current_time()
    check = EmbeddedPostgres._check

    async def recovering(self: EmbeddedPostgres, database: str) -> None:
        if trio.current_time() - begun_s < 1.0:
            raise StartingUp
        await check(self, database)

    monkeypatch.setattr(EmbeddedPostgres, "_check", recovering)
    async with own_server(folder, start_s=0.7) as server:
        assert server.statistics().restarts == 0


async def test_a_server_that_says_nothing_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(self: EmbeddedPostgres, database: str) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(EmbeddedPostgres, "_check", silent)
    said = await refusal(EmbeddedPostgres(folder, start_s=0.2))
    assert "not there within 0.2 s" in said
    assert processes_in(folder / "data") == {}


async def test_two_cannot_run_in_one_folder(folder: Path) -> None:
    async with own_server(folder):
        assert "another process" in await refusal(EmbeddedPostgres(folder))


async def test_data_of_another_version_are_refused_with_what_to_do(
    folder: Path,
) -> None:
    (folder / "data/PG_VERSION").write_text("12\n")
    said = await refusal(EmbeddedPostgres(folder))
    assert "made by PostgreSQL 12" in said
    assert "Install PostgreSQL 12" in said
    assert "18." in said


async def test_data_of_the_systems_version_are_run_by_the_system() -> None:
    if not SYSTEM:
        pytest.skip("no PostgreSQL of the system")
    with open_folder() as parent:
        folder = parent / "postgres"
        async with own_server(folder, binaries=SYSTEM[0]) as server:
            await write(server.dsn, 1)
        async with own_server(folder) as server:
            assert server.binaries == SYSTEM[0]
            assert await read(server.dsn) == [1]


async def test_an_unfinished_initdb_is_done_anew() -> None:
    with open_folder() as parent:
        folder = parent / "postgres"
        (folder / "data.unfinished").mkdir(parents=True)
        (folder / "data.unfinished/PG_VERSION").write_text("18\n")
        async with own_server(folder) as server:
            await server.check()


async def test_a_folder_with_something_else_in_it_is_refused() -> None:
    with open_folder() as parent:
        folder = parent / "postgres"
        (folder / "data").mkdir(parents=True)
        (folder / "data/letter.txt").write_text("dear")
        if os.geteuid() == 0:
            shutil.chown(folder / "data", "nobody")
        assert "is not empty" in await refusal(EmbeddedPostgres(folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")
async def test_a_folder_that_the_server_cannot_reach_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    closed.parent.chmod(0o755)
    said = await refusal(EmbeddedPostgres(closed / "postgres"))
    assert "can't pass through /" in said
    assert "chmod o+x" in said


async def test_a_long_path_gets_a_short_socket() -> None:
    with open_folder() as parent:
        folder = parent / ("long" * 30) / "postgres"
        folder.mkdir(parents=True)
        server = EmbeddedPostgres(folder)
        async with trio.open_nursery() as nursery:
            dsn = await nursery.start(server.run)
            try:
                assert str(folder) not in dsn
                await server.check()
            finally:
                server.close()
        socket = server._socket_folder
        assert socket is not None
        assert len(str(socket)) < postgres_folder.SOCKET_PATH_BYTES_MAX
        shutil.rmtree(socket)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another account to try with")
async def test_another_account_does_not_get_in(folder: Path) -> None:
    async with own_server(folder) as server:
        psql = [str(server.binaries / "psql"), server.dsn, "-c", "SELECT 1"]
        ours = await trio.run_process(psql, capture_stdout=True, cwd="/")
        assert b"1 row" in ours.stdout
        owner = (folder / "data").stat().st_uid
        other = next(p for p in pwd.getpwall() if p.pw_uid not in (0, owner))
        theirs = await trio.run_process(
            psql,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd="/",
            user=other.pw_uid,
            group=other.pw_gid,
            extra_groups=[],
        )
        assert theirs.returncode != 0
        assert b"denied" in theirs.stderr


async def test_a_large_log_is_cut(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_postgres, "LOG_BYTES_MAX", 2000)
    monkeypatch.setattr(embedded_postgres, "LOG_TAIL_BYTES", 1000)
    with (folder / "server.log").open("a") as log:
        log.write("x" * 5000 + "the end")
    async with own_server(folder, health_interval_s=0.05):
        with trio.fail_after(30):
            while not (folder / "server.log.1").exists():
                await trio.sleep(0.01)
    kept = (folder / "server.log.1").read_text()
    assert len(kept) == 1000
    assert "ready to accept connections" in kept
    assert (folder / "server.log").read_text().startswith("20")
