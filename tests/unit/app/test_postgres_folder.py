from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from tchatd.app.postgres_folder import (
    SOCKET_PATH_BYTES_MAX,
    environment,
    initialise,
    quoted,
    socket_folder,
    write_access_files,
)
from tchatd.app.postgres_install import Account, Binaries, PostgresRefused
from tests.support.postgres import open_folder

OWN = pwd.getpwuid(os.geteuid())
US = Account(OWN.pw_name, OWN.pw_uid, OWN.pw_gid, other=False)


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def test_the_socket_lies_in_the_folder(folder: Path) -> None:
    assert socket_folder(folder, US) == folder / "socket"


@pytest.mark.parametrize("name", ["ü" * 50, "a,b"])
def test_a_folder_that_libpq_cannot_name_gets_a_socket_elsewhere(
    folder: Path, name: str
) -> None:
    elsewhere = socket_folder(folder / name, US)
    try:
        assert len(os.fsencode(elsewhere)) < SOCKET_PATH_BYTES_MAX - 15
        assert elsewhere.stat().st_mode & 0o777 == 0o700
        assert socket_folder(folder / name, US) == elsewhere
    finally:
        elsewhere.rmdir()


def test_only_we_and_the_server_may_connect(folder: Path) -> None:
    write_access_files(folder, Account("server", 54321, 54321, other=True))
    assert "trust" not in (folder / "pg_hba.conf").read_text()
    assert "host" not in (folder / "pg_hba.conf").read_text()
    ident = (folder / "pg_ident.conf").read_text().splitlines()
    expected = sorted({f'tchatd "{OWN.pw_name}" tchatd', 'tchatd "server" tchatd'})
    assert ident == expected


def test_a_folder_is_quoted_for_a_list() -> None:
    assert quoted(Path('/a b/"c"')) == '"/a b/""c"""'


def test_nothing_of_our_environment_reaches_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATA", "/elsewhere")
    assert "PGDATA" not in environment(folder)


async def test_a_failed_initdb_is_told_with_its_words(folder: Path) -> None:
    (folder / "initdb").write_text("#!/bin/sh\necho no room >&2\nexit 1\n")
    (folder / "initdb").chmod(0o755)
    with pytest.raises(PostgresRefused, match="initdb failed: no room"):
        await initialise(folder, US, Binaries(folder, 18, "18.6"))
    assert not (folder / "data").exists()


async def test_each_version_gets_options_that_it_knows(folder: Path) -> None:
    (folder / "initdb").write_text('#!/bin/sh\necho "$@" > "$2/arguments"\n')
    (folder / "initdb").chmod(0o755)
    for major, provider in ((15, False), (18, True)):
        inside = folder / str(major)
        inside.mkdir()
        await initialise(inside, US, Binaries(folder, major, f"{major}.1"))
        given = (inside / "data/arguments").read_text()
        assert "--data-checksums" in given
        assert ("--locale-provider=builtin" in given) is provider
