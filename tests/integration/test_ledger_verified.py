"""`tchatd ledger verify` beside a daemon that serves, on its private PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tchatd.app import exits
from tests.support.daemon import ROOT, Daemon

pytestmark = pytest.mark.service


def test_the_ledger_is_verified_while_the_daemon_serves(daemon: Daemon) -> None:
    command = [sys.executable, "-m", "tchatd", "ledger", "verify", "--json"]

    done = subprocess.run(
        [*command, "--data", str(daemon.data)],
        cwd=ROOT,
        env=daemon.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == exits.OK, done.stderr
    report = json.loads(done.stdout)
    assert report["differences"] == []
    assert report["accounts"] >= 0
