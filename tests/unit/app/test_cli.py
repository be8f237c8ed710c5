"""The command line: help, exit codes, and words on stderr."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tchatd import __version__
from tchatd.app import cli, exits

NOWHERE = "127.0.0.1:0"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TCHATD_"):
            monkeypatch.delenv(name)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(["--version"])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"tchatd {__version__}\n"


@pytest.mark.parametrize(
    "words", [[], ["run"], ["console"], ["migrate"], ["check"], ["ledger"]]
)
def test_help_explains_commands_and_exit_codes(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main([*words, "--help"])
    assert raised.value.code == 0
    printed = capsys.readouterr().out
    assert "exit codes:" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())


def test_every_exit_code_is_explained() -> None:
    for code in vars(exits).values():
        if isinstance(code, int):
            assert f"\n  {code} " in cli.EXIT_CODES


@pytest.mark.parametrize("words", [[], ["serve"], ["run", "--port", "1"], ["run", "x"]])
def test_a_wrong_command_line_is_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        cli.main(words)
    assert raised.value.code == exits.USAGE


def test_a_wrong_configuration_is_78_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[listen]\nbaklog = 1\n[gatway]\n")
    assert cli.main(["run", "--config", str(path)]) == exits.CONFIG
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"tchatd: {path}: listen.baklog: there is no such key; did you mean "
        "listen.backlog?",
        f"tchatd: {path}: gatway: there is no such key; did you mean gateway?",
    ]


def test_a_wrong_address_on_the_command_line_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["run", "--bind", "nowhere"]) == exits.CONFIG
    assert "the command line: listen.bind" in capsys.readouterr().err


def test_messages_have_their_priority_under_systemd(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "under_journal", lambda: True)
    cli.complain("one\ntwo")
    assert capsys.readouterr().err == "<3>tchatd: one\n<3>tchatd: two\n"


def test_a_console_without_a_daemon_is_69(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["console", "--data", str(tmp_path), "--json", "status"]
    assert cli.main(words) == exits.UNAVAILABLE
    assert "tchatd run" in capsys.readouterr().err


def test_what_follows_a_console_command_is_the_commands_own() -> None:
    line = "console --json reports resolve 7 --action none --reason nothing --json"
    chosen = cli.build_parser().parse_args(line.split())
    assert chosen.json
    assert chosen.words == line.split()[2:]
