"""Owns why the process ends badly: one sentence for a person, one exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg

from tchatd.app import exits
from tchatd.app.configuration import ConfigurationError
from tchatd.app.data import DataInUse, DataUnusable
from tchatd.app.postgres_install import PostgresRefused
from tchatd.domains.messaging.store import StoreDiverged
from tchatd.journal.errors import JournalFailed, JournalLocked, JournalUnusable
from tchatd.kernel.errors import DomainError, Unavailable
from tchatd.stores.postgres.migrations import MigrationRefused


class NotAvailable(Exception):
    """An address, a folder or a file of the system that is not to be had now."""


# The first kind that fits a failure gives its code: the special before the general.
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConfigurationError, exits.CONFIG),
    (MigrationRefused, exits.DATAERR),
    (StoreDiverged, exits.DATAERR),
    (JournalLocked, exits.TEMPFAIL),
    (JournalUnusable, exits.DATAERR),
    (JournalFailed, exits.FAILED),
    (PostgresRefused, exits.TEMPFAIL),
    (DataInUse, exits.TEMPFAIL),
    (DataUnusable, exits.CONFIG),
    (Unavailable, exits.TEMPFAIL),
    (NotAvailable, exits.TEMPFAIL),
    (DomainError, exits.FAILED),
)
# What a start or a run may end with; nurseries bring them in groups.
EXPECTED: tuple[type[BaseException], ...] = (
    *(kind for kind, _ in _CODES),
    BaseExceptionGroup,
)


def explain(error: BaseException, complain: Callable[[str], None]) -> int:
    """Say what failed and return the exit code.

    A failure that is nobody's expectation is raised again, with its traceback: that
    is a mistake of ours, which must be seen whole.
    """
    known = [(leaf, _code(leaf)) for leaf in leaves(error)]
    if not known or any(code is None for _, code in known):
        raise error
    worst = max(known, key=lambda pair: -_rank(pair[1]))
    for leaf, _ in known:
        complain(sentence(leaf))
    assert worst[1] is not None
    return worst[1]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The failures inside nested groups, which nurseries make."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _code(error: BaseException) -> int | None:
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)


def _rank(code: int | None) -> int:
    """Of several failures the one against which trying again helps least decides."""
    order = (exits.CONFIG, exits.DATAERR, exits.FAILED, exits.TEMPFAIL)
    return order.index(code or exits.FAILED)


def sentence(error: BaseException) -> str:
    """For an operator: with what the driver said, which clients never see."""
    if isinstance(error, DomainError):
        said = f"{error.title}: {error.detail}" if error.detail else error.title
        return f"{said} ({cause})" if (cause := driver_said(error)) else said
    return str(error) or type(error).__name__


def driver_said(error: BaseException) -> str:
    """Why PostgreSQL did not take us, in one line; "" if it did not come to that.

    The stores leave a cause on their errors only when it holds no values of rows.
    """
    cause = error.__cause__
    return " ".join(str(cause).split()) if isinstance(cause, psycopg.Error) else ""
