"""Owns finding and signalling PostgreSQL's processes, be they our children or not.

A process is held by a pidfd, so a signal never hits a stranger with the same number.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio


class PostgresProcess:
    """child: given when it is ours to reap."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._pidfd = os.pidfd_open(pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process is gone."""
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    async def exited(self) -> None:
        """Wait for its end; one task at a time. Reaps our child."""
        await trio.lowlevel.wait_readable(self._pidfd)
        if self._child is not None:
            self._child.wait()

    @property
    def status(self) -> int | None:
        """The exit status of our child; None while it runs, or is not ours."""
        return None if self._child is None else self._child.poll()

    def close(self) -> None:
        os.close(self._pidfd)


@contextmanager
def opened(pid: int) -> Iterator[PostgresProcess | None]:
    """Hold a process that is not our child; None when there is none."""
    try:
        process = PostgresProcess(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield process
    finally:
        process.close()


def processes_in(data: Path) -> dict[int, int]:
    """The PostgreSQL processes that work in a data folder, with their parents.

    All processes of a server have their data folder as working directory; neither a
    stale `postmaster.pid` nor a number in use again can make that wrong.
    """
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "cwd").readlink() != data:
                continue
            if not (entry / "exe").readlink().name.startswith("postgres"):
                continue  # a person's shell, say
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it is gone, or another user's
        if fields[0] not in "ZX":  # it is not dead, only waiting to be reaped
            found[int(entry.name)] = int(fields[1])
    return found


def postmaster_of(processes: dict[int, int]) -> int | None:
    """The one among `processes_in` that started the others, if it still runs."""
    parents = set(processes.values())
    firsts = [pid for pid, parent in processes.items() if parent not in processes]
    # Children of a dead postmaster have one and the same new parent, and no children.
    alone = len(processes) == 1
    found = [pid for pid in firsts if pid in parents or alone]
    return found[0] if len(found) == 1 else None
