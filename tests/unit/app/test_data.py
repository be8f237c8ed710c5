"""The data folder and its lock."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tchatd.app.data import DataFolder, DataInUse, DataUnusable

HOLD = """
import sys, pathlib
from tchatd.app.data import DataFolder
with DataFolder(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_it_is_made_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "data"
    with DataFolder(path):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o711 if os.geteuid() == 0 else 0o700)


def test_a_second_daemon_is_told_who_holds_it(tmp_path: Path) -> None:
    with (
        DataFolder(tmp_path),
        pytest.raises(DataInUse, match=str(os.getpid())),
        DataFolder(tmp_path),
    ):
        pass
    with DataFolder(tmp_path):
        pass  # given back


def test_a_killed_daemon_gives_it_back(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(DataInUse), DataFolder(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with DataFolder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(DataUnusable, match=f"{path}: Not a dir"), DataFolder(path):
            pass


def test_a_folder_that_cannot_be_written_to_is_refused_though_its_lock_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DataFolder(tmp_path):
        pass
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(DataUnusable, match="Permission denied"), DataFolder(tmp_path):
        pass
