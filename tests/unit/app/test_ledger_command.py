"""`ledger verify`: beside a server or with one of its own; what it says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest

from tchatd.app import commands, exits
from tchatd.app.configuration import load
from tchatd.app.ledger_command import running_dsn, text_of, verify_ledger
from tchatd.kernel.errors import Unavailable
from tchatd.stores.postgres.ledger_verify import Difference, Report
from tests.support.daemon import open_folder

CLEAN = Report(2, 4, 1, {"THB": 500}, [], [])


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Not pytest's, which the account of the embedded PostgreSQL can't pass through."""
    path = open_folder()
    yield path
    shutil.rmtree(path)


def test_what_is_clean_is_said_in_two_lines() -> None:
    assert text_of(CLEAN) == (
        "THB: 500 minor units\n"
        "2 accounts, 4 postings, 1 pending holds: no differences\n"
    )


def test_each_difference_is_named() -> None:
    damaged = msgspec.structs.replace(
        CLEAN,
        differences=[Difference("held", "account 2", "holds 1, its pending holds 0")],
        more=["held"],
    )

    lines = text_of(damaged).splitlines()

    assert lines[0] == "held: account 2: holds 1, its pending holds 0"
    assert lines[1] == "held: more than 100 differences"
    assert lines[-1].endswith(": 1+ differences")


@pytest.mark.service
def test_it_tells_a_clean_ledger_from_a_damaged_one(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load(
        None, {"TCHATD_DATA": str(tmp_path), "TCHATD_POSTGRES_DSN": database}
    )
    said: list[str] = []

    assert verify_ledger(settings, said.append, as_json=False) == exits.OK
    assert "no differences" in capsys.readouterr().out
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO accounts (currency, kind, balance, created_ms)"
            " VALUES (764, 1, 5, 0)"
        )
    assert verify_ledger(settings, said.append, as_json=True) == exits.DATAERR
    report = msgspec.json.decode(capsys.readouterr().out, type=Report)
    assert {d.check for d in report.differences} == {"accounts", "sums"}
    assert said == []


@pytest.mark.service
def test_without_a_daemon_the_private_server_is_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load(None, {"TCHATD_DATA": str(tmp_path / "data")})
    said: list[str] = []
    assert commands.migrate(settings, said.append) == exits.OK
    capsys.readouterr()

    assert verify_ledger(settings, said.append, as_json=False) == exits.OK

    assert capsys.readouterr().out.startswith("0 accounts, 0 postings")


def test_a_server_that_does_not_run_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        running_dsn(tmp_path)
    (tmp_path / "postmaster.pid").write_text("123\nx\n")
    with pytest.raises(Unavailable):
        running_dsn(tmp_path)
    (tmp_path / "postmaster.pid").write_text("123\n/d\n0\n5433\n/run/x\n*\n")
    assert "host='/run/x' port=5433" in running_dsn(tmp_path)
