from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import trio

from tchatd.app.postgres_process import (
    PostgresProcess,
    opened,
    postmaster_of,
    processes_in,
)


async def test_a_child_is_waited_for_and_reaped() -> None:
    child = subprocess.Popen(["sleep", "600"])
    process = PostgresProcess(child.pid, child)
    assert process.status is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.exited)
        await trio.testing.wait_all_tasks_blocked()
        process.signal(signal.SIGTERM)
    assert process.status == -signal.SIGTERM
    process.signal(signal.SIGTERM)  # nothing happens
    process.close()


async def test_another_process_is_waited_for() -> None:
    stranger = subprocess.Popen(["sleep", "600"])
    with stranger, opened(stranger.pid) as process:
        assert process is not None
        assert process.status is None
        process.signal(signal.SIGKILL)
        with trio.fail_after(10):
            await process.exited()


def test_a_process_that_is_gone_is_none() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    with opened(child.pid) as process:
        assert process is None


def test_only_postgres_working_in_the_folder_counts(tmp_path: Path) -> None:
    fake = tmp_path / "postgres"
    shutil.copy("/bin/sleep", fake)
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    children = [
        subprocess.Popen([program, "600"], cwd=folder)
        for program, folder in ((fake, here), (fake, elsewhere), ("sleep", here))
    ]
    try:
        assert processes_in(here) == {children[0].pid: os.getpid()}
        children[0].kill()
        os.waitid(os.P_PID, children[0].pid, os.WEXITED | os.WNOWAIT)
        assert processes_in(here) == {}  # it is dead, if not reaped
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_the_postmaster_is_who_started_the_others() -> None:
    assert postmaster_of({10: 1, 11: 10, 12: 10}) == 10
    assert postmaster_of({10: 1}) == 10
    assert postmaster_of({11: 1, 12: 1}) is None  # it is gone, they follow
    assert postmaster_of({}) is None
