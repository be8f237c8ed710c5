"""schemathesis asks the running daemon everything that /openapi.json declares."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.client import sign_in
from tests.support.daemon import ROOT, Daemon
from tests.support.settings import ROOMY

pytestmark = [pytest.mark.service, pytest.mark.slow]

CONFIG = ROOT / "tests/contract/schemathesis.toml"
EXAMPLES = os.environ.get("TCHATD_SCHEMATHESIS_EXAMPLES", "40")


async def test_the_daemon_does_what_its_description_says() -> None:
    daemon = Daemon(ROOMY)
    try:
        daemon.start()
        async with (
            sign_in(daemon, "+66811111111") as person,
            sign_in(daemon, "+66811111112") as other,
        ):
            dialog = await person.ok(
                "POST", "/dialogs", {"type": "user", "participants": [other.id]}
            )
            message = await other.ok(
                "POST",
                f"/dialogs/{dialog['id']}/messages",
                {"type": "text", "content": {"text": "hello"}},
            )
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "schemathesis.cli"),
                    *("--config-file", str(CONFIG), "run"),
                    f"{daemon.url}/openapi.json",
                    *("--url", daemon.url, "--seed", "20261124"),
                    *(
                        "--max-examples",
                        EXAMPLES,
                        "--phases",
                        "examples,coverage,fuzzing",
                    ),
                    *("--header", f"Authorization: Bearer {person.access_token}"),
                    *("--exclude-path", "/auth/logout"),
                    *("--exclude-path-regex", "^/auth/sessions"),
                ],
                cwd=daemon.folder,
                env=os.environ
                | {"DIALOG_ID": dialog["id"], "MESSAGE_ID": message["id"]},
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert "Traceback" not in daemon.log()
    finally:
        daemon.remove()
