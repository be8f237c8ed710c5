from __future__ import annotations

import os
from pathlib import Path

import pytest

from tchatd.journal.errors import JournalLocked
from tchatd.journal.folder import FolderLock, make_folder


def test_one_holder_at_a_time_and_the_next_after_it(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    with pytest.raises(JournalLocked, match=f"process {os.getpid()}"):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_a_folder_is_made_with_all_it_lies_in(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    make_folder(folder)
    make_folder(folder)
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
