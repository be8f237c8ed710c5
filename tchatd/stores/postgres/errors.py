"""Owns what a store may raise instead of psycopg's exceptions; refuses to retry.

`translated` stands at the boundary: no exception of the driver leaves
`tchatd.stores.postgres`. Messages carry no values of rows or parameters, because they
reach logs and callers; where psycopg's own message has values in it (constraints,
data), the cause is cut off.
"""

from __future__ import annotations

from types import TracebackType

import psycopg
from psycopg import errors as e

from tchatd.kernel.errors import Conflict, Invalid, Unavailable


class ConnectionLost(Unavailable):
    """The server was not reached, or went away: a write may or may not be done."""

    code = "store-unreachable"


class StartingUp(ConnectionLost):
    """The server is there, and recovering or shutting down; it says so by itself."""


class PoolFull(Unavailable):
    """Every connection is in use, and the wait for one was too long or not begun."""

    code = "store-busy"


class StatementTimeout(Unavailable):
    """The server stopped the statement after `statement_timeout`; it is undone."""

    code = "store-slow"


class SerializationFailure(Unavailable):
    """Two transactions met; this one is undone and may be repeated as a whole."""

    code = "store-contended"


class DeadlockDetected(SerializationFailure):
    pass


class LockNotAvailable(Unavailable):
    """A row or table stayed locked for longer than `lock_timeout`, or NOWAIT."""

    code = "store-locked"


class ConstraintViolation(Conflict):
    """constraint: its name in the schema, the one thing to tell which rule it was."""

    code = "constraint-violation"

    def __init__(self, constraint: str = "") -> None:
        super().__init__(self.title)
        self.constraint = constraint


class UniqueViolation(ConstraintViolation):
    code, title = "already-exists", "It exists already"


class ForeignKeyViolation(ConstraintViolation):
    code, title = "missing-reference", "What it refers to does not exist"


class CheckViolation(ConstraintViolation):
    """A CHECK, NOT NULL or EXCLUDE of the schema; for NOT NULL the column's name."""

    code, title = "rule-violation", "A rule of the store refuses it"


class ValueRefused(Invalid):
    """A value that PostgreSQL can't hold: NUL in text, a number out of range."""

    code, title = "value-refused", "A value can't be stored"


class QueryRefused(Exception):
    """The statement itself is wrong, or not allowed: an error of the programmer."""

    def __init__(self, message: str, sqlstate: str | None) -> None:
        super().__init__(f"{message} ({sqlstate or 'no SQLSTATE'})")
        self.sqlstate = sqlstate


def translate(error: psycopg.Error) -> Exception:
    """The store's error for the driver's."""
    constraint = error.diag.constraint_name or ""
    match error:
        case e.UniqueViolation():
            return UniqueViolation(constraint)
        case e.ForeignKeyViolation():
            return ForeignKeyViolation(constraint)
        case e.IntegrityError():
            return CheckViolation(constraint or error.diag.column_name or "")
        case e.DeadlockDetected():
            return DeadlockDetected("The transaction met another one")
        case e.SerializationFailure():
            return SerializationFailure("The transaction met another one")
        case e.QueryCanceled():
            return StatementTimeout("The store took too long")
        case e.LockNotAvailable():
            return LockNotAvailable("The store is busy with the same rows")
        case e.CannotConnectNow():
            return StartingUp("The store is starting")
        case e.DataError():
            return ValueRefused()
    sqlstate = error.sqlstate
    if sqlstate is None:
        # libpq has no code of the server when there is no server to give one.
        if isinstance(error, e.OperationalError):
            return ConnectionLost("The store is not reachable")
        return QueryRefused(str(error), None)
    if sqlstate[:2] in _UNAVAILABLE_CLASSES or sqlstate in _UNAVAILABLE:
        return ConnectionLost("The store does not take work now")
    return QueryRefused(error.diag.message_primary or type(error).__name__, sqlstate)


_UNAVAILABLE_CLASSES = frozenset({"08", "53", "58"})
"""Connection exceptions, insufficient resources (too many clients, disk full, out of
memory), errors of the system (I/O). https://www.postgresql.org/docs/18/errcodes-appendix.html
"""
_UNAVAILABLE = frozenset({"57P01", "57P02", "57P05", "25P03", "25P04", "25006"})
"""Shutdown, crash of another backend, idle session or transaction ended by
a timeout, read-only (a standby after a fail-over)."""

_WITH_VALUES = (e.IntegrityError, e.DataError)


class _Translated:
    """`with translated:` turns psycopg's exceptions into the store's; reusable."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, psycopg.Error):
            cause = None if isinstance(error, _WITH_VALUES) else error
            raise translate(error) from cause


translated = _Translated()
