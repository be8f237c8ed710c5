"""The writer as the daemon sees it: it is killed, ends, and is not what it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from tchatd.domains.search.errors import IndexStuck
from tchatd.stores.search.generation import Generation
from tchatd.stores.search.writer_process import WriterProcess
from tests.support.search_index import WRITER_BYTES, ask, doc, seqs

SOON_S = 20


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    return Generation(tmp_path / "1", is_new=True)


@pytest.fixture
async def writer(generation: Generation) -> AsyncIterator[WriterProcess]:
    writer = await WriterProcess.start(generation.folder, WRITER_BYTES)
    yield writer
    await writer.close()


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_what_was_put_is_found_after_the_commit(
    generation: Generation, writer: WriterProcess
) -> None:
    for first in range(1, 3_001, 1_000):
        docs = [doc(seq, "word " * 50) for seq in range(first, first + 1_000)]
        await writer.put([(True, one) for one in docs])
    await writer.put([(False, doc(7, "")), (False, 99)])
    await writer.commit(5, 6)
    generation.refresh()
    assert (generation.position, generation.people_ms) == (5, 6)
    assert generation.documents == 2_999


async def test_closed_it_is_gone_and_another_one_may_write(
    generation: Generation, writer: WriterProcess
) -> None:
    await writer.put([(True, doc(1, "lost"))])
    await writer.close()
    assert not is_alive(writer.pid)
    other = await WriterProcess.start(generation.folder, WRITER_BYTES)
    await other.put([(True, doc(2, "kept"))])
    await other.commit(1, 1)
    await other.close()
    generation.refresh()
    assert seqs(generation.messages(ask("lost"))) == []
    assert seqs(generation.messages(ask("kept"))) == [2]


async def test_killed_it_is_stuck(writer: WriterProcess) -> None:
    os.kill(writer.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(IndexStuck), trio.fail_after(SOON_S):
            await writer.commit(1, 1)
    with pytest.raises(IndexStuck), trio.fail_after(SOON_S):
        await writer.put([(True, doc(1, "word" * 100_000))])


async def test_what_stops_it_is_told_at_the_next_call(
    generation: Generation, writer: WriterProcess, tmp_path: Path
) -> None:
    generation.folder.rename(tmp_path / "elsewhere")
    await writer.put([(True, doc(1, "word"))])
    with pytest.raises(IndexStuck) as caught:
        await writer.commit(1, 1)
    assert str(caught.value) != "its writer ended"
    with pytest.raises(IndexStuck), trio.fail_after(SOON_S):
        await writer.commit(2, 2)


async def test_only_one_may_write(
    generation: Generation, writer: WriterProcess
) -> None:
    with pytest.raises(IndexStuck):
        await WriterProcess.start(generation.folder, WRITER_BYTES)


async def test_it_gets_no_settings_of_ours(
    generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCHATD_SECRETS_TOKEN_KEY", "secret")
    writer = await WriterProcess.start(generation.folder, WRITER_BYTES)
    try:
        environment = Path(f"/proc/{writer.pid}/environ").read_bytes()
        assert b"PATH=" in environment
        assert b"TCHATD_" not in environment
    finally:
        await writer.close()


async def test_it_ends_when_the_daemon_does(generation: Generation) -> None:
    script = (
        "import os, sys, trio\n"
        "from pathlib import Path\n"
        "from tchatd.stores.search.writer_process import WriterProcess\n"
        "async def main():\n"
        "    writer = await WriterProcess.start(Path(sys.argv[1]), int(sys.argv[2]))\n"
        "    print(writer.pid, flush=True)\n"
        "    await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    command = [sys.executable, "-c", script, str(generation.folder), str(WRITER_BYTES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        pid = int(daemon.stdout.readline())
        assert is_alive(pid)
        daemon.kill()
    with trio.fail_after(SOON_S):
        while is_alive(pid):
            await trio.sleep(0.02)
