"""Owns up to which position the event log is settled: nothing more appears there.

Theory of operation
    Whoever writes an event draws its position from a sequence, inside a transaction
    that holds the lock on the event's aggregate until it ends. So the positions of one
    aggregate rise with its versions. But transactions end in another order than the one
    in which they drew: a reader may see position 7 and not 6, and what is to be 6 may
    appear later, or never (a rollback, a crash). A reader that goes on to 7 and only
    ever asks for what is later than 7 has then lost 6. So nobody reads beyond the
    horizon, `settled`, and the horizon does not step over a hole before it is known
    that nothing will fill it:

    1. A transaction has its id before it draws a position: the column's default asks
       for the id first (0013_event_log.sql). The sequence hands positions out in order
       (CACHE 1).
    2. A snapshot shows a position `upto`, and some below it are missing. Whoever drew
       one of those drew it before `upto` was drawn, so it has its id by now.
    3. The reader now draws an id of its own, X: the fence. Ids rise, so all of those
       transactions have ids below X.
    4. A later snapshot says which transaction is the oldest that has not ended (its
       xmin). Once that is later than X, all of them have ended, and what they wrote can
       be seen in that very snapshot. What is still missing up to `upto` is for ever.

    The snapshot's own xmax would be no fence: it is one past the latest transaction
    that has *ended* (functions-info, pg_snapshot_xmax), and the one that will fill the
    hole may have begun after that one and still run.

    A hole costs a reader as long as the longest transaction lasts that writes when the
    hole is seen, in any database of the server, since ids are the server's. Without
    holes nobody waits for anything. One fence covers all holes up to `upto`; also the
    part of the log that is long settled is crossed by one fence, not step by step.

    After a crash of the server the sequence may skip some positions, which are holes
    like others, and never goes back behind one that was seen: what is seen is durable,
    and the sequence's own record came before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Look(Struct, frozen=True):
    """What one snapshot of the log shows.

    positions: the first few after the one asked for, ascending. last: the highest of
    all; 0: the log is empty. xmin: all transactions with lower ids have ended, and the
    snapshot shows what they wrote.
    """

    positions: Sequence[int]
    last: int
    xmin: int


class Horizon:
    """A state machine: `see` a look; if it says so, draw an id after it and `fence`."""

    def __init__(self, settled: int = 0) -> None:
        self.settled = settled
        self.last = settled
        self._xid: int | None = None
        self._upto = 0

    @property
    def is_fenced(self) -> bool:
        """It waits for transactions to end."""
        return self._xid is not None

    def see(self, look: Look) -> bool:
        """Take in a look after `settled`; whether a fence is wanted now."""
        if self._xid is not None and look.xmin > self._xid:
            self.settled = max(self.settled, self._upto)
            self._xid = None
        for position in look.positions:
            if position > self.settled + 1:
                break
            self.settled = max(self.settled, position)
        self.last = max(look.last, self.settled)
        if self._xid is not None and self._upto <= self.settled:
            self._xid = None
        return self._xid is None and self.settled < self.last

    def fence(self, xid: int) -> None:
        """xid: the id of a transaction that began after the latest look."""
        assert self._xid is None
        self._xid, self._upto = xid, self.last
