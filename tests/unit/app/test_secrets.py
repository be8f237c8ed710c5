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
    "TCHATD_PROVIDERS_PAYMENTS_SANDBOX_ENABLED": "false",
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


PAYMENTS = {
    "TCHATD_PROVIDERS_PAYMENTS_STRIPE_ENABLED": "true",
    "TCHATD_PROVIDERS_PAYMENTS_STRIPE_BILLING_EMAIL": "payments@tchat.example",
    "TCHATD_PROVIDERS_PAYMENTS_OMISE_ENABLED": "true",
    "TCHATD_PROVIDERS_PAYMENTS_BANK_TRANSFER_ENABLED": "true",
    "TCHATD_PROVIDERS_PAYMENTS_BANK_TRANSFER_ORIGIN": "http://127.0.0.1:9100",
    "TCHATD_PROVIDERS_PAYMENTS_BANK_TRANSFER_ACCOUNTS": "TH THB KBANK 012 Tchat",
}
WEBHOOK = base64.b64encode(b"0123456789abcdef").decode()


def test_what_the_enabled_payment_providers_lack_is_named(tmp_path: Path) -> None:
    text = problems(settings(tmp_path, **PAYMENTS), {})
    for name in ("stripe", "omise", "bank"):
        assert f"secrets.{name}_key_file: is not set" in text
        assert f"secrets.{name}_webhook_file: is not set" in text
    assert len(text.splitlines()) == 6


def test_webhook_secrets_are_several_while_one_is_rotated(tmp_path: Path) -> None:
    of = settings(
        tmp_path,
        **PAYMENTS,
        TCHATD_SECRETS_STRIPE_KEY_FILE=write(tmp_path / "a", "sk_test_1\n"),
        TCHATD_SECRETS_STRIPE_WEBHOOK_FILE=write(
            tmp_path / "b", "whsec_new_of_stripe\nwhsec_old_of_stripe\n"
        ),
        TCHATD_SECRETS_BANK_KEY_FILE=write(tmp_path / "c", "bank"),
    )
    environment = {
        "TCHATD_SECRETS_OMISE_KEY": "skey_1",
        "TCHATD_SECRETS_OMISE_WEBHOOK": f"{WEBHOOK},{WEBHOOK}",
        "TCHATD_SECRETS_BANK_WEBHOOK": "a secret of the bank".replace(" ", "-"),
    }
    payments = secrets.load(of, environment).payments
    assert payments.stripe_key == "sk_test_1"
    assert payments.stripe_webhook == ("whsec_new_of_stripe", "whsec_old_of_stripe")
    assert payments.omise_webhook == (WEBHOOK, WEBHOOK)
    assert (payments.bank_key, len(payments.bank_webhook)) == ("bank", 1)
    assert repr(payments) == "<PaymentSecrets>"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("STRIPE_KEY", "sk test", "not one line of visible ASCII"),
        ("STRIPE_KEY", "", "not one line of visible ASCII"),
        ("STRIPE_WEBHOOK", "tiny", "is shorter than 16"),
        ("STRIPE_WEBHOOK", "", "has not 1 to 4 secrets"),
        ("STRIPE_WEBHOOK", ",".join(["whsec_0123456789"] * 5), "has not 1 to 4"),
        ("OMISE_WEBHOOK", "not base64 at all", "is not base64"),
        ("OMISE_WEBHOOK", "c2hvcnQ=", "is shorter than 16 bytes"),
    ],
)
def test_a_bad_secret_of_a_provider_is_named_without_it(
    tmp_path: Path, name: str, value: str, why: str
) -> None:
    good = {
        "TCHATD_SECRETS_STRIPE_KEY": "sk",
        "TCHATD_SECRETS_STRIPE_WEBHOOK": "whsec_0123456789",
        "TCHATD_SECRETS_OMISE_KEY": "skey",
        "TCHATD_SECRETS_OMISE_WEBHOOK": WEBHOOK,
        "TCHATD_SECRETS_BANK_KEY": "bank",
        "TCHATD_SECRETS_BANK_WEBHOOK": "0123456789abcdef",
    }
    environment = good | {f"TCHATD_SECRETS_{name}": value}
    text = problems(settings(tmp_path, **PAYMENTS), environment)
    assert text.startswith(f"secrets.{name.lower()}_file: ")
    assert why in text
    assert len(text.splitlines()) == 1
    assert not value or value not in text
