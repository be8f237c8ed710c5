"""Owns a real tchatd in a child process: start, wait for READY, stop, kill.

The daemon tells READY=1 over a notification socket as it would tell systemd, so
waiting for it needs no polling.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tchatd.app.console_client import ConsoleClient

START_S = 60.0
STOP_S = 40.0
ROOT = Path(__file__).resolve().parents[2]


def open_folder() -> Path:
    """A new folder that another user can pass through (PostgreSQL refuses root)."""
    folder = Path(tempfile.mkdtemp(prefix="tchatd-"))
    folder.chmod(0o755)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Daemon:
    """One data folder and, while started, one process on it.

    settings: environment overrides, `TCHATD_SECTION_KEY` without the prefix.
    """

    def __init__(
        self, settings: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        self.folder = folder or open_folder()
        self.data = self.folder / "data"
        self.port = free_port()
        self.settings = dict(settings or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.folder / "daemon.log"

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def environment(self) -> dict[str, str]:
        own = {f"TCHATD_{key}": value for key, value in self.settings.items()}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TCHATD_")}
        return kept | own

    def start(self) -> Daemon:
        """Returns once it says READY=1. Raises AssertionError with the log if not."""
        assert self.process is None
        path = self.folder / "notify.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(path))
            notify.settimeout(0.25)
            self._log = self.log_path.open("ab")
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tchatd", "run", "--data", self.data),
                    *("--bind", f"127.0.0.1:{self.port}"),
                ],
                cwd=ROOT,
                env=self.environment | {"NOTIFY_SOCKET": str(path)},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
            )
            self._wait_ready(notify)
        return self

    def _wait_ready(self, notify: socket.socket) -> None:
        process = self.process
        assert process is not None
        for _ in range(int(START_S / 0.25)):
            try:
                if b"READY=1" in notify.recv(4096):
                    return
            except TimeoutError:
                if process.poll() is not None:
                    raise AssertionError(
                        f"tchatd left with {process.returncode}:\n{self.log()[-4000:]}"
                    ) from None
        self.kill()
        raise AssertionError(f"tchatd is not ready:\n{self.log()[-4000:]}")

    def stop(self) -> int:
        """SIGTERM, then waits for the drain; returns the exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(STOP_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if self._log is not None:
                self._log.close()

    def console(self, *words: str) -> Any:
        """The result of one console command."""
        with ConsoleClient(self.data / "console.sock") as client:
            return client.ask(words[0], words[1:])

    def postgres_pid(self) -> int:
        """The private server's postmaster. Raises FileNotFoundError without one."""
        found = next((self.data / "postgres").rglob("postmaster.pid"))
        return int(found.read_text().split()[0])

    def remove(self) -> None:
        if self.process is not None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
