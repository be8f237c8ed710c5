"""Owns the proof that the gateway speaks WebSocket as the Autobahn cases ask."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kosoku
import pytest
from kosoku import _caseindex

ROOT = Path(__file__).parents[2]
ECHO = ROOT / "tests" / "support" / "echo.py"

# Case -> why the gateway may be NON-STRICT there. Empty: it is strict everywhere.
EXPLAINED: dict[str, str] = {}


def accept_uncompressed_answers() -> None:
    """Let groups 12 and 13 take an answer without compression as the bytes it is.

    The gateway answers uncompressed where compression would not gain (RFC 7692, 6:
    the sender chooses message by message). kosoku 0.1 hands such a message to these
    two groups as str, whose hash then raises instead of being compared.
    """
    _caseindex.initialize_shims()
    cases: Any = importlib.import_module("case12_x_x")

    def taking_bytes(judge: Callable[..., None]) -> Callable[..., None]:
        def on_message(self: Any, message: bytes | str, binary: bool) -> None:
            if isinstance(message, str):
                message = message.encode("latin-1" if binary else "utf-8")
            judge(self, message, binary)

        return on_message

    for case in (*cases.Case12_X_X, *cases.Case13_X_X):
        case.onMessage = taking_bytes(case.onMessage)


@pytest.fixture
def echo_port() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, str(ECHO)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


@pytest.mark.slow
def test_every_autobahn_case_is_ok_or_informational(echo_port: int) -> None:
    accept_uncompressed_answers()
    url = f"ws://127.0.0.1:{echo_port}"
    try:
        results = asyncio.run(kosoku.run_fuzzingclient(url, concurrency=2))
    except kosoku.FailureError as error:
        results = error.results
    strict = {"OK", "INFORMATIONAL"}
    bad = {
        result.case_id: (result.behavior.value, result.behavior_close.value)
        for result in results
        if result.case_id not in EXPLAINED
        and not {result.behavior.value, result.behavior_close.value} <= strict
    }
    assert bad == {}
    groups = {result.case_id.split(".")[0] for result in results}
    assert groups == {"1", "2", "3", "4", "5", "6", "7", "9", "10", "12", "13"}
    assert len(results) > 500
