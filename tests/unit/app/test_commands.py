"""`check` and `migrate`: what they print, and when they fail."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tchatd.app import commands, exits
from tchatd.app.configuration import load
from tchatd.app.data import DataFolder
from tchatd.app.settings import Settings
from tests.support.certificates import make_certificate
from tests.support.daemon import open_folder


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Not pytest's, which the account of the embedded PostgreSQL can't pass through."""
    path = open_folder()
    yield path
    shutil.rmtree(path)


def settings(tmp_path: Path, **environment: str) -> Settings:
    prefixed = {f"TCHATD_{name}": value for name, value in environment.items()}
    base = {
        "TCHATD_DATA": str(tmp_path / "data"),
        "TCHATD_LISTEN_BIND": "127.0.0.1:0",
    }
    return load(None, base | prefixed)


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """state and detail by name"""
    printed = capsys.readouterr().out.splitlines()
    return {
        name: [state, *rest]
        for state, name, *rest in (line.split(maxsplit=2) for line in printed)
    }


def test_everything_is_said_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.check(settings(tmp_path)) == 0
    said = lines(capsys)
    assert list(said) == [
        *("configuration", "secrets", "payments", "data", "journal", "listen"),
        *("tls", "postgres"),
    ]
    assert {state for state, *_ in said.values()} == {"ok"}
    assert list(tmp_path.iterdir()) == []


def test_an_address_in_use_fails_unless_it_is_our_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        of = settings(tmp_path, LISTEN_BIND=f"127.0.0.1:{taken.getsockname()[1]}")
        assert commands.check(of) == exits.FAILED
        assert lines(capsys)["listen"][0] == "failed"
        with DataFolder(of.data_folder):
            assert commands.check(of) == 0


def test_a_folder_that_cannot_be_made_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    of = settings(tmp_path, JOURNAL_FOLDER=str(tmp_path / "file" / "journal"))
    assert commands.check(of) == exits.FAILED
    assert lines(capsys)["journal"][0] == "failed"


def test_a_certificate_is_read_and_its_end_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = make_certificate(tmp_path)
    tls = {"TLS_BIND": "127.0.0.1:0", "TLS_KEY_FILE": str(key)}
    good = settings(tmp_path, TLS_CERTIFICATE_FILE=str(certificate), **tls)
    assert commands.check(good) == 0
    assert "certificate until" in lines(capsys)["tls"][1]
    bad = settings(tmp_path, TLS_CERTIFICATE_FILE=str(key), **tls)
    assert commands.check(bad) == exits.FAILED
    assert lines(capsys)["tls"][0] == "failed"


def test_a_database_that_is_away_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = settings(tmp_path, POSTGRES_DSN="host=127.0.0.1 port=1 dbname=x")
    assert commands.check(of) == exits.FAILED
    assert lines(capsys)["postgres"][0] == "failed"


def test_missing_secrets_fail_in_production(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in list(os.environ):
        if name.startswith("TCHATD_"):
            monkeypatch.delenv(name)
    of = settings(
        tmp_path,
        MODE="production",
        POSTGRES_DSN="host=127.0.0.1 port=1 dbname=x",
        PROVIDERS_SMS_KIND="twilio",
        PROVIDERS_SMS_ACCOUNT="AC1",
        PROVIDERS_SMS_SENDER="+6620000000",
        PROVIDERS_EMAIL_KIND="smtp",
        PROVIDERS_EMAIL_HOST="h",
        PROVIDERS_EMAIL_SENDER="a@b.example",
        PROVIDERS_PAYMENTS_SANDBOX_ENABLED="false",
        PROVIDERS_PAYMENTS_OMISE_ENABLED="true",
    )
    assert commands.check(of) == exits.FAILED
    printed = lines(capsys)
    said = printed["secrets"]
    assert said[0] == "failed"
    assert "otp_key_file: is not set" in said[1]
    assert "omise_key_file: is not set" in said[1]
    assert printed["payments"] == ["ok", "omise"]


@pytest.mark.service
def test_migrate_says_what_it_applied_and_then_has_nothing_to_do(
    tmp_path: Path, empty_database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    of = settings(tmp_path, POSTGRES_DSN=empty_database)
    assert commands.migrate(of, print) == 0
    printed = capsys.readouterr().out
    assert "applied 0001_core.sql" in printed
    assert commands.migrate(of, print) == 0
    assert capsys.readouterr().out == "the schema is up to date\n"
    assert commands.check(of) == 0
    assert "schema up to date" in lines(capsys)["postgres"][1]


def test_migrate_without_a_database_is_75(tmp_path: Path) -> None:
    said: list[str] = []
    of = settings(tmp_path, POSTGRES_DSN="host=127.0.0.1 port=1 dbname=x")
    assert commands.migrate(of, said.append) == exits.TEMPFAIL
    assert said


def test_what_a_start_would_stumble_over_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of = settings(
        tmp_path,
        LISTEN_BIND="host.invalid:80",
        TLS_BIND="127.0.0.1:0",
        TLS_CERTIFICATE_FILE="/nope.crt",
        TLS_KEY_FILE="/nope.key",
        SECRETS_OTP_KEY_FILE="/nope.key",
    )
    assert commands.check(of) == exits.FAILED
    said = lines(capsys)
    assert "host.invalid:80: " in said["listen"][1]
    assert "tls.certificate_file: /nope.crt: No such file" in said["tls"][1]
    assert "tls.key_file: /nope.key: No such file" in said["tls"][1]
    assert "secrets.otp_key_file: /nope.key: No such file" in said["secrets"][1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL to another")
def test_a_folder_closed_to_the_embedded_postgres_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert commands.check(settings(closed)) == exits.FAILED
    assert "can't pass through" in lines(capsys)["postgres"][1]


def test_a_new_journal_needs_room_for_its_first_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.statvfs_result((4096, 4096, 9, 9, 9, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    of = settings(tmp_path)
    assert commands.check(of) == exits.FAILED
    assert "needs 64 MiB, 0 are free" in lines(capsys)["journal"][1]
    of.journal_folder.mkdir(parents=True)
    (of.journal_folder / "a file").write_text("")
    assert commands.check(of) == 0
