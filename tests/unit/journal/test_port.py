from __future__ import annotations

from pathlib import Path

from tchatd.journal.journal import LocalJournal
from tchatd.journal.port import Journal


def test_the_local_journal_is_one(tmp_path: Path) -> None:
    journal: Journal = LocalJournal(tmp_path)
    assert (journal.next_position, journal.durable_position) == (1, 0)
