"""Where secrets come from, and what production refuses."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from tchatd.app import secrets
from tchatd.app.configuration import ConfigurationError, load
from tchatd.app.settings import Settings

PRODUCTION = {
    "TCHATD_MODE": "production",
    "TCHATD_POSTGRES_DSN": "postgresql://db/tchatd",
    "TCHATD_PROVIDERS_SMS_KIND": "twilio",
    "TCHATD_PROVIDERS_SMS_ACCOUNT": "AC1",
    "TCHATD_PROVIDERS_SMS_SENDER": "tchat",
    "TCHATD_PROVIDERS_EMAIL_KIND": "smtp",
    "TCHATD_PROVIDERS_EMAIL_HOST": "mail",
    "TCHATD_PROVIDERS_EMAIL_SENDER": "no-reply@tchat.example",
}


def settings(tmp_path: Path, **environment: str) -> Settings:
    return load(None, {"TCHATD_DATA": str(tmp_path / "data")} | environment)


def write(path: Path, content: str, mode: int = 0o600) -> str:
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def problems(settings: Settings, environment: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as raised:
        secrets.load(settings, environment)
    return str(raised.value)


def test_development_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    of = settings(tmp_path)
    first, again = secrets.load(of, {}), secrets.load(of, {})
    assert first.master_keys == again.master_keys
    assert first.token_keys == again.token_keys
    folder = of.data_folder / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = list(folder.iterdir())
    assert len(files) == 4
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text().startswith("development:")


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    key, other = os.urandom(32), os.urandom(32)
    of = settings(
        tmp_path,
        TCHATD_SECRETS_LOOKUP_KEY_FILE=write(tmp_path / "lookup", key.hex() + "\n"),
        TCHATD_SECRETS_TOKEN_KEY_FILES=",".join(
            write(tmp_path / name, base64.b64encode(os.urandom(32)).decode())
            for name in ("new", "old")
        ),
    )
    environment = {"TCHATD_SECRETS_OTP_KEY": base64.b64encode(other).decode()}
    loaded = secrets.load(of, environment)
    assert (loaded.lookup_key, loaded.otp_key) == (key, other)
    assert len(loaded.token_keys) == 2


def test_production_names_every_secret_that_is_missing(tmp_path: Path) -> None:
    text = problems(settings(tmp_path, **PRODUCTION), {})
    for name in ("master_key_files", "lookup_key_file", "otp_key_file"):
        assert f"secrets.{name}: is not set" in text
    assert "secrets.sms_token_file: is not set" in text
    assert not (tmp_path / "data").exists()


def test_production_refuses_a_development_secret_wherever_it_is(tmp_path: Path) -> None:
    of = settings(tmp_path)
    secrets.load(of, {})
    copied = (of.data_folder / "secrets" / "otp_key").read_text()
    text = problems(
        settings(tmp_path, **PRODUCTION), {"TCHATD_SECRETS_OTP_KEY": copied}
    )
    assert "TCHATD_SECRETS_OTP_KEY: a development secret" in text
    assert copied.strip() not in text


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (bytes(range(32)).hex(), 0o644, "everybody may read it"),
        (base64.b64encode(bytes(range(31))).decode(), 0o600, "31 bytes instead of 32"),
        ("not base64!", 0o600, "neither base64 nor hex"),
        ("00" * 32, 0o600, "is not random"),
        ("x" * 10_000, 0o600, "larger than"),
    ],
)
def test_a_bad_file_is_named_without_what_is_in_it(
    tmp_path: Path, content: str, mode: int, why: str
) -> None:
    path = write(tmp_path / "key", content, mode)
    text = problems(settings(tmp_path, TCHATD_SECRETS_OTP_KEY_FILE=path), {})
    assert path in text
    assert why in text
    assert content not in text


def test_one_key_for_two_uses_is_refused(tmp_path: Path) -> None:
    key = os.urandom(32).hex()
    environment = {"TCHATD_SECRETS_OTP_KEY": key, "TCHATD_SECRETS_LOOKUP_KEY": key}
    assert "the same" in problems(settings(tmp_path), environment)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    assert repr(secrets.load(settings(tmp_path), {})) == "<Secrets>"


def test_the_dsn_may_be_in_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "dsn", "postgresql://db/x\n")
    assert secrets.dsn(settings(tmp_path, TCHATD_POSTGRES_DSN_FILE=path)) == (
        "postgresql://db/x"
    )
    assert secrets.dsn(settings(tmp_path, TCHATD_POSTGRES_DSN="host=y")) == "host=y"
    with pytest.raises(ConfigurationError, match="dsn_file"):
        secrets.dsn(settings(tmp_path, TCHATD_POSTGRES_DSN_FILE=str(tmp_path / "no")))


def test_a_trial_writes_nothing_and_still_reads_what_is_given(tmp_path: Path) -> None:
    secrets.load(settings(tmp_path), {}, keep=False)
    assert list(tmp_path.iterdir()) == []
    missing = settings(tmp_path, TCHATD_SECRETS_MASTER_KEY_FILES="/nope")
    with pytest.raises(ConfigurationError, match=r"secrets\.master_key_files: /nope: "):
        secrets.load(missing, {}, keep=False)


def test_what_is_no_dsn_is_refused_without_repeating_it(tmp_path: Path) -> None:
    of = settings(tmp_path, TCHATD_POSTGRES_DSN="what is pa55word")
    with pytest.raises(
        ConfigurationError, match=r"postgres\.dsn: is neither"
    ) as raised:
        secrets.dsn(of)
    assert "pa55word" not in str(raised.value)
