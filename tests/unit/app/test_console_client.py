"""What an operator sees: tables, errors, completion, history."""

from __future__ import annotations

import io
import json
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tchatd.app import console_client
from tchatd.app.console_client import Completer, NoDaemon, Refused, shown

ANSWERS: dict[str, Any] = {
    "help": {"result": {"rows": [{"command": "status", "help": ""}], "total": 1}},
    "status": {"result": {"state": "serving", "connections": 3}},
    "kick": {"error": {"code": "not-found", "message": "no such user"}},
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """A socket that answers ANSWERS, one connection after the other."""
    path = tmp_path / "console.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener,), daemon=True)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def _serve(listener: socket.socket) -> None:
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return
        with accepted, accepted.makefile("rwb") as stream:
            for line in stream:
                asked = json.loads(line)
                if asked["command"] == "die":
                    break
                answer = {"id": asked["id"], **ANSWERS[asked["command"]]}
                stream.write(json.dumps(answer).encode() + b"\n")
                stream.flush()


def test_one_command_is_printed_for_a_person_or_as_json(
    daemon: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console_client.run_once(daemon, ["status"], as_json=False)
    assert capsys.readouterr().out == "state        serving\nconnections  3\n"
    console_client.run_once(daemon, ["status"], as_json=True)
    assert json.loads(capsys.readouterr().out) == ANSWERS["status"]["result"]


def test_a_refusal_keeps_the_daemons_words(daemon: Path) -> None:
    with pytest.raises(Refused, match="no such user"):
        console_client.run_once(daemon, ["kick", "x"], as_json=True)


def test_without_a_daemon_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="tchatd run"):
        console_client.run_once(tmp_path / "console.sock", ["status"], as_json=True)


def test_a_daemon_that_goes_away_is_no_answer(daemon: Path) -> None:
    with pytest.raises(NoDaemon, match="went away"):
        console_client.run_once(daemon, ["die"], as_json=True)


def test_a_conversation_goes_on_after_an_error_and_leaves_a_private_history(
    daemon: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed = io.StringIO('kick x\n\nkick "x\nstatus\nexit\nstatus\n')
    monkeypatch.setattr(sys, "stdin", typed)
    history = tmp_path / "state" / "history"
    console_client.converse(daemon, as_json=False, history=history)
    printed = capsys.readouterr()
    assert printed.out.count("serving") == 1
    assert printed.err == "error: no such user\nerror: No closing quotation\n"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_rows_become_a_table_that_says_how_many_there_are() -> None:
    rows = [
        {"user": "a", "open": True, "name": "", "seconds": 1.5, "why": None},
        {
            "user": "long\x1b[1m",
            "open": False,
            "name": "x" * 80,
            "seconds": 20.0,
            "why": "y" * 80,
        },
    ]
    lines = shown({"rows": rows, "total": 9}).splitlines()
    assert lines[0].split() == ["user", "open", "name", "seconds", "why"]
    assert lines[1].split() == ["a", "yes", "1.5", "-"]
    assert "\x1b" not in lines[2]
    assert f"{'x' * 59}…" in lines[2]
    assert lines[2].endswith(" " + "y" * 80)  # what is last wraps
    assert lines[3] == "2 of 9 shown"
    assert shown({"rows": [], "total": 0}) == "none"


def test_nested_values_are_indented_and_text_is_left_alone() -> None:
    assert shown({"a": {"bc": 1, "d": [1]}}) == "a\n  bc  1\n  d   [1]"
    assert shown("up 1\n") == "up 1"
    assert shown(None) == "null"


def test_completion_knows_commands_and_levels() -> None:
    complete = Completer(["status", "sessions", "log-level"])
    assert complete.candidates([], "s") == ["status ", "sessions "]
    assert complete.candidates(["log-level"], "de") == ["debug "]
    assert complete.candidates(["help"], "st") == ["status "]
    assert complete.candidates(["kick"], "") == []
