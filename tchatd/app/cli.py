"""Owns the command line: arguments, exit codes, and what is said when it fails.

Each command imports what it needs when it runs, so that `--help` and the console
answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tchatd import __version__
from tchatd.app import exits
from tchatd.app.configuration import ConfigurationError, load
from tchatd.app.settings import Settings
from tchatd.observe.logging import under_journal

EXIT_CODES = """\
exit codes:
  0    done; for `run`: stopped as asked
  1    failed while running; the reason is on stderr
  2    the command line is wrong
  65   the journal, the schema or the ledger is damaged or does not fit this
       version; trying again does not help
  69   console: no daemon runs there
  75   something it needs is not there now (PostgreSQL, the address, the data
       folder in use); trying again may help
  78   the configuration is wrong; trying again does not help
  130  interrupted
"""

DESCRIPTION = "tchatd: one daemon for a super-app. Sign-in and real-time chat."

EXAMPLES = """\
examples:
  tchatd run                                   on 127.0.0.1:8080, data in ./data
  tchatd run --data /srv/tchatd --bind :80     somewhere else
  tchatd check --config production.toml        would it start?
  tchatd console                               talk to the running daemon
  tchatd console otp +66812345678              the last one-time code (sandbox)
  tchatd console --json status                 one answer, for a script
  tchatd ledger verify                         does every account add up?

Every key of the configuration is explained in tchatd.toml; the environment
overrides it: TCHATD_LISTEN_BIND is bind in [listen].

"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing is raised but SystemExit."""
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = chosen.run_command
    try:
        return command(chosen)
    except ConfigurationError as error:
        for problem in error.problems:
            complain(problem)
        return exits.CONFIG
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left (`| head`); Python must not flush into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED


def complain(text: str) -> None:
    """One line on stderr for a person, with its priority under systemd's journal."""
    prefix = "<3>" if under_journal() else ""
    for line in text.splitlines():
        print(f"{prefix}tchatd: {line}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tchatd",
        description=DESCRIPTION,
        epilog=EXAMPLES + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tchatd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = _command(commands, "run", "serve until SIGTERM", _run)
    run.add_argument(
        "--bind", metavar="HOST:PORT", help="listen here instead of listen.bind"
    )
    console = _command(commands, "console", "talk to the running daemon", _console)
    console.add_argument("--json", action="store_true", help="print JSON")
    console.add_argument(
        "words",
        nargs=argparse.REMAINDER,  # its options are the command's: --reason …
        metavar="COMMAND",
        help="one command with its arguments (try: help); none: a conversation",
    )
    _command(commands, "migrate", "bring PostgreSQL's schema up to date", _migrate)
    _command(
        commands, "check", "test configuration, secrets and connections", _check
    ).add_argument("--bind", metavar="HOST:PORT", help="as if it were given to `run`")
    ledger = _command(
        commands,
        "ledger",
        "recompute the ledger from its postings and compare; also beside a daemon",
        _ledger,
    )
    ledger.add_argument("action", choices=["verify"], help="changes nothing")
    ledger.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="over the defaults (else $TCHATD_CONFIG, else ./tchatd.toml)",
    )
    parser.add_argument("--data", metavar="DIR", help="data folder instead of `data`")
    parser.set_defaults(run_command=run)
    return parser


def _settings(chosen: argparse.Namespace) -> Settings:
    overrides = {}
    if chosen.data is not None:
        overrides["data"] = chosen.data
    if getattr(chosen, "bind", None) is not None:
        overrides["listen.bind"] = chosen.bind
    return load(chosen.config, os.environ, overrides)


def _run(chosen: argparse.Namespace) -> int:
    settings = _settings(chosen)
    from tchatd.app.main import run

    return run(settings, lambda: _settings(chosen), complain)


def _console(chosen: argparse.Namespace) -> int:
    from tchatd.app.console_client import NoDaemon, Refused, converse, run_once

    path = _settings(chosen).console_socket
    try:
        if chosen.words:
            run_once(path, chosen.words, as_json=chosen.json)
        else:
            converse(path, as_json=chosen.json)
    except NoDaemon as error:
        complain(str(error))
        return exits.UNAVAILABLE
    except Refused as error:
        complain(str(error))
        wrong = error.code in ("usage", "unknown-command")
        return exits.USAGE if wrong else exits.FAILED
    return exits.OK


def _migrate(chosen: argparse.Namespace) -> int:
    from tchatd.app import commands

    return commands.migrate(_settings(chosen), complain)


def _ledger(chosen: argparse.Namespace) -> int:
    from tchatd.app.ledger_command import verify_ledger

    return verify_ledger(_settings(chosen), complain, as_json=chosen.json)


def _check(chosen: argparse.Namespace) -> int:
    from tchatd.app import commands

    return commands.check(_settings(chosen))
