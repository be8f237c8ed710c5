"""How the process ends badly: one sentence, one exit code."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tchatd.app import exits
from tchatd.app.configuration import ConfigurationError
from tchatd.app.data import DataInUse, DataUnusable
from tchatd.app.failures import NotAvailable, explain, leaves
from tchatd.app.postgres_install import PostgresRefused
from tchatd.domains.messaging.store import StoreDiverged
from tchatd.journal.errors import JournalDamaged, JournalFailed, JournalLocked
from tchatd.kernel.errors import Unavailable
from tchatd.stores.postgres.migrations import MigrationRefused


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError(["x: y"]), exits.CONFIG),
        (MigrationRefused("0001_core.sql", "changed"), exits.DATAERR),
        (StoreDiverged("ahead"), exits.DATAERR),
        (JournalDamaged(Path("j"), 7, "checksum"), exits.DATAERR),
        (JournalLocked("j"), exits.TEMPFAIL),
        (JournalFailed("sync"), exits.FAILED),
        (PostgresRefused("no"), exits.TEMPFAIL),
        (DataInUse("d"), exits.TEMPFAIL),
        (DataUnusable("d"), exits.CONFIG),
        (NotAvailable("127.0.0.1:1: in use"), exits.TEMPFAIL),
        (Unavailable("the database is away"), exits.TEMPFAIL),
    ],
)
def test_each_kind_of_failure_has_its_code(error: Exception, code: int) -> None:
    said: list[str] = []
    assert explain(error, said.append) == code
    assert len(said) == 1
    assert said[0]


def test_of_several_the_one_that_trying_again_helps_least_decides() -> None:
    group = ExceptionGroup(
        "run", [Unavailable("a"), ExceptionGroup("in", [StoreDiverged("b")])]
    )
    said: list[str] = []
    assert explain(group, said.append) == exits.DATAERR
    assert len(said) == 2


def test_a_mistake_of_ours_is_seen_whole() -> None:
    group = ExceptionGroup("run", [Unavailable("a"), KeyError("x")])
    with pytest.raises(ExceptionGroup) as raised:
        explain(group, print)
    assert raised.value is group


def test_leaves_are_found_in_nested_groups() -> None:
    first, second = ValueError(), KeyError()
    group = ExceptionGroup("a", [first, ExceptionGroup("b", [second])])
    assert list(leaves(group)) == [first, second]


def test_an_operator_is_told_in_one_line_what_the_driver_said() -> None:
    error = Unavailable("The store is not reachable")
    error.__cause__ = psycopg.OperationalError('FATAL:  role "x"\n does not exist')
    said: list[str] = []
    assert explain(error, said.append) == exits.TEMPFAIL
    assert said[0].endswith(
        'The store is not reachable (FATAL: role "x" does not exist)'
    )
