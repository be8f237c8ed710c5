from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as e

from tchatd.kernel.errors import DomainError, ErrorKind
from tchatd.stores.postgres import errors
from tchatd.stores.postgres.connection import Connection
from tchatd.stores.postgres.errors import translate, translated


@pytest.mark.parametrize(
    ("driver", "ours"),
    [
        (e.OperationalError("server closed the connection"), errors.ConnectionLost),
        (e.ConnectionTimeout("connection timeout expired"), errors.ConnectionLost),
        (e.AdminShutdown(), errors.ConnectionLost),
        (e.CrashShutdown(), errors.ConnectionLost),
        (e.CannotConnectNow(), errors.StartingUp),
        (e.TooManyConnections(), errors.ConnectionLost),
        (e.DiskFull(), errors.ConnectionLost),
        (e.IoError(), errors.ConnectionLost),
        (e.ReadOnlySqlTransaction(), errors.ConnectionLost),
        (e.IdleInTransactionSessionTimeout(), errors.ConnectionLost),
        (e.QueryCanceled(), errors.StatementTimeout),
        (e.SerializationFailure(), errors.SerializationFailure),
        (e.DeadlockDetected(), errors.DeadlockDetected),
        (e.LockNotAvailable(), errors.LockNotAvailable),
        (e.UniqueViolation(), errors.UniqueViolation),
        (e.ForeignKeyViolation(), errors.ForeignKeyViolation),
        (e.CheckViolation(), errors.CheckViolation),
        (e.NotNullViolation(), errors.CheckViolation),
        (e.ExclusionViolation(), errors.CheckViolation),
        (e.NumericValueOutOfRange(), errors.ValueRefused),
        (e.DataError("PostgreSQL text fields cannot contain NUL"), errors.ValueRefused),
        (e.UndefinedTable(), errors.QueryRefused),
        (e.SyntaxError(), errors.QueryRefused),
        (e.InvalidPassword(), errors.QueryRefused),
        (e.InFailedSqlTransaction(), errors.QueryRefused),
        (e.ProgrammingError("the query has 1 placeholder"), errors.QueryRefused),
        (e.InterfaceError("cursor is closed"), errors.QueryRefused),
    ],
)
def test_each_error_of_the_driver_has_one_of_ours(
    driver: psycopg.Error, ours: type[Exception]
) -> None:
    assert type(translate(driver)) is ours


def test_what_may_be_repeated_is_unavailable() -> None:
    for kind in (
        errors.ConnectionLost,
        errors.PoolFull,
        errors.StatementTimeout,
        errors.SerializationFailure,
        errors.DeadlockDetected,
        errors.LockNotAvailable,
    ):
        assert kind().kind is ErrorKind.UNAVAILABLE
        assert kind().retry_after_s == 1


def test_a_wrong_statement_is_no_domain_error() -> None:
    assert not issubclass(errors.QueryRefused, DomainError)


def test_other_exceptions_pass_through() -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as raised, translated:
        raise error
    assert raised.value is error


@pytest.mark.service
async def test_neither_message_nor_cause_of_a_violation_shows_values(
    connection: Connection,
) -> None:
    await connection.execute("CREATE TABLE t (phone text PRIMARY KEY)")
    await connection.execute("INSERT INTO t VALUES ('secret')")
    with pytest.raises(errors.UniqueViolation) as raised:
        await connection.execute("INSERT INTO t VALUES ('secret')")
    assert raised.value.constraint == "t_pkey"
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None
    assert "secret" not in str(raised.value)


@pytest.mark.service
async def test_a_wrong_statement_says_what_is_wrong(connection: Connection) -> None:
    with pytest.raises(errors.QueryRefused, match="no_such_table") as raised:
        await connection.execute("SELECT * FROM no_such_table")
    assert raised.value.sqlstate == "42P01"


@pytest.mark.service
async def test_a_missing_column_is_named(connection: Connection) -> None:
    await connection.execute("CREATE TABLE t (a int NOT NULL)")
    with pytest.raises(errors.CheckViolation) as raised:
        await connection.execute("INSERT INTO t VALUES (NULL)")
    assert raised.value.constraint in ("a", "t_a_not_null")
