"""Owns what processes cost: CPU seconds and memory, read from /proc.

CPU is utime + stime of /proc/PID/stat, all threads, also those that have ended; with
the children that a process has waited for where it is a PostgreSQL server (backends
come and go). The kernel counts both from its scheduler, in steps of 10 ms.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
STOP_S = 10.0
_PR_SET_PDEATHSIG = 1


def _stat(pid: int) -> list[str]:
    """The fields after the command's name, from `state` on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def descendants(root: int) -> list[int]:
    """root and everything below it, parents first; what ends meanwhile is left out."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                parent = int(_stat(int(entry.name))[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop(0)
        found.append(pid)
        queue.extend(children.get(pid, ()))
    return found


def cpu_s(pids: Iterable[int], *, with_ended_children: bool = False) -> float:
    """CPU seconds since their start."""
    ticks = 0
    for pid in pids:
        try:
            fields = _stat(pid)
        except OSError:
            continue
        last = 15 if with_ended_children else 13
        ticks += sum(int(field) for field in fields[11:last])
    return ticks / TICKS_A_SECOND


def machine_busy_s() -> float:
    """CPU seconds that all processes have used since the machine started, and those
    that the hypervisor has taken away."""
    fields = Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    user, nice, system, _idle, _waiting, irq, softirq, stolen = map(int, fields)
    return (user + nice + system + irq + softirq + stolen) / TICKS_A_SECOND


def memory_bytes(pid: int) -> dict[str, int]:
    """rss and pss, in bytes."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key, _, rest = line.partition(":")
        if key in ("Rss", "Pss"):
            sizes[key.lower()] = int(rest.split()[0]) * 1024
    return sizes


def raise_file_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def die_with_parent() -> None:
    """For preexec_fn: a killed runner leaves nothing running."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stop(process: subprocess.Popen[str]) -> None:
    """Closes stdin, then SIGTERM, then SIGKILL; returns when it is gone."""
    if process.stdin is not None:
        process.stdin.close()
    for patience_s, end in ((2.0, process.terminate), (STOP_S, process.kill)):
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            end()
    process.wait(STOP_S)
    if process.stdout is not None:
        process.stdout.close()
