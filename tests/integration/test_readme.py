"""The walk-through of the README works as it is written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
ADDRESS = "http://127.0.0.1:8080"


def walk_through() -> str:
    """All its commands in order, as one script."""
    text = (ROOT / "README.md").read_text()
    section = text.partition("## Walk-through")[2].partition("\n## ")[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


def test_the_walk_through_works_as_written() -> None:
    daemon = Daemon(ROOMY)
    script = walk_through()
    assert script.count(ADDRESS) == 1
    try:
        daemon.start()
        # Only what is this daemon's own: its port, and where its console is.
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace(ADDRESS, daemon.url)],
            cwd=ROOT,
            env=daemon.environment | {"TCHATD_DATA": str(daemon.data)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        printed = done.stdout
        assert '"name":"Somchai"' in printed
        assert printed.count('"text":"Hello Mei"') >= 3
        first, repeated = [
            line for line in printed.splitlines() if line.startswith('{"id"')
        ][1:3]
        assert first == repeated
        assert re.search(r"^ +\d+  \(sent\)$", printed, re.MULTILINE)
        assert "Hello Somchai" in printed
        assert re.search(r"^state +serving$", printed, re.MULTILINE)
        assert '{"status":"ready"}' in printed
    finally:
        daemon.remove()
