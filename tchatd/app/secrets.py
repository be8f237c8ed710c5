"""Owns where secrets come from; never prints one, never writes one but its own.

Each is given by the environment (`TCHATD_SECRETS_OTP_KEY`) or by a file (the key
`secrets.otp_key_file`, or its variable). In development a missing one is generated
once into DATA/secrets (folder 0700, files 0600) and begins with `development:`, so
that production refuses it wherever it was copied to.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg

from tchatd.app.configuration import ConfigurationError, variable
from tchatd.app.settings import Settings
from tchatd.providers.payments.signatures import base64_secret

KEY_BYTES = 32
FILE_BYTES_MAX = 4_096
WEBHOOK_SECRETS_MAX = 4
WEBHOOK_SECRET_CHARS_MIN = 16
DEVELOPMENT = "development:"


class PaymentSecrets:
    """Of payment providers; empty of those that are not enabled. …_webhook: several
    while one is rotated."""

    __slots__ = (
        *("bank_key", "bank_webhook", "omise_key", "omise_webhook"),
        *("stripe_key", "stripe_webhook"),
    )

    def __init__(
        self,
        *,
        stripe_key: str = "",
        stripe_webhook: tuple[str, ...] = (),
        omise_key: str = "",
        omise_webhook: tuple[str, ...] = (),
        bank_key: str = "",
        bank_webhook: tuple[str, ...] = (),
    ) -> None:
        self.stripe_key = stripe_key
        self.stripe_webhook = stripe_webhook
        self.omise_key = omise_key
        self.omise_webhook = omise_webhook
        self.bank_key = bank_key
        self.bank_webhook = bank_webhook

    def __repr__(self) -> str:
        return "<PaymentSecrets>"


class Secrets:
    """master_keys: the first one wraps. token_keys: Ed25519 seeds, the first signs."""

    __slots__ = (
        *("email_password", "lookup_key", "master_keys"),
        *("otp_key", "payments", "sms_token", "token_keys"),
    )

    def __init__(
        self,
        *,
        master_keys: tuple[bytes, ...],
        lookup_key: bytes,
        otp_key: bytes,
        token_keys: tuple[bytes, ...],
        sms_token: str = "",
        email_password: str = "",
        payments: PaymentSecrets | None = None,
    ) -> None:
        assert master_keys
        assert token_keys
        for key in (*master_keys, lookup_key, otp_key, *token_keys):
            assert len(key) == KEY_BYTES
        self.master_keys = master_keys
        self.lookup_key = lookup_key
        self.otp_key = otp_key
        self.token_keys = token_keys
        self.sms_token = sms_token
        self.email_password = email_password
        self.payments = payments or PaymentSecrets()

    def __repr__(self) -> str:
        return "<Secrets>"


class _Refused(Exception):
    """One sentence about one secret, which it does not hold."""


class _Source:
    """Finds the text of each secret and gathers what is wrong with them."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        random: Callable[[int], bytes],
        *,
        keep: bool,
    ) -> None:
        self._keep = keep
        self._environment = environment
        self._production = settings.mode == "production"
        self._folder = settings.data_folder / "secrets"
        self._random = random
        self.problems: list[str] = []

    def key(self, name: str, path: str) -> bytes:
        """32 bytes; zeros (never used: problems is then not empty) when refused."""
        where = variable(f"secrets.{name}")
        try:
            if where in self._environment:
                return self._decoded(self._environment[where])
            if path:
                where = f"{_file_key(name)}: {path}"
                return self._decoded(read_private(Path(path)))
            if self._production:
                where = _file_key(name)
                raise _Refused("is not set")
            where = str(self._folder / name)
            if not self._keep and not (self._folder / name).exists():
                return self._random(KEY_BYTES)
            return self._decoded(generated(self._folder / name, self._random))
        except _Refused as refused:
            self.problems.append(f"{where}: {refused}")
        except OSError as error:
            self.problems.append(f"{where}: {error.strerror or error}")
        return bytes(KEY_BYTES)

    def several(self, key: str, paths: list[str]) -> tuple[bytes, ...]:
        name = variable(f"secrets.{key}s")
        if name in self._environment:
            texts = [text for text in self._environment[name].split(",") if text]
            try:
                return tuple(self._decoded(text) for text in texts)
            except _Refused as refused:
                self.problems.append(f"{name}: {refused}")
                return ()
        return tuple(self.key(key, path) for path in paths or [""])

    def text(self, name: str, path: str, *, needed: bool) -> str:
        where = variable(f"secrets.{name}")
        if where in self._environment:
            return self._environment[where]
        try:
            if path:
                return read_private(Path(path))
        except (_Refused, OSError) as error:
            self.problems.append(f"secrets.{name}_file: {path}: {error}")
            return ""
        if needed:
            self.problems.append(f"secrets.{name}_file: is not set")
        return ""

    def header(self, name: str, path: str, *, needed: bool) -> str:
        """What goes into a header of a request: one line of visible ASCII."""
        text = self.text(name, path, needed=needed).strip()
        if needed and not re.fullmatch(r"[\x21-\x7e]+", text):
            self._add(name, "is not one line of visible ASCII")
            return ""
        return text

    def lines(
        self, name: str, path: str, *, needed: bool, base64: bool = False
    ) -> tuple[str, ...]:
        """One secret a line, or with commas between (the environment)."""
        found = tuple(self.text(name, path, needed=needed).replace(",", " ").split())
        if not needed:
            return found
        if not 1 <= len(found) <= WEBHOOK_SECRETS_MAX:
            self._add(name, f"has not 1 to {WEBHOOK_SECRETS_MAX} secrets")
        for text in found:
            if base64:
                try:
                    base64_secret(text)
                except ValueError as error:
                    self._add(name, str(error))
            elif len(text) < WEBHOOK_SECRET_CHARS_MIN:
                self._add(name, f"is shorter than {WEBHOOK_SECRET_CHARS_MIN}")
        return found

    def _add(self, name: str, why: str) -> None:
        """Unless something is wrong with it already."""
        if not any(f"secrets.{name}_file:" in said for said in self.problems):
            self.problems.append(f"secrets.{name}_file: {why}")

    def _decoded(self, text: str) -> bytes:
        text = text.strip()
        if text.startswith(DEVELOPMENT):
            if self._production:
                raise _Refused('a development secret, in mode = "production"')
            text = text[len(DEVELOPMENT) :]
        try:
            if len(text) == 2 * KEY_BYTES:
                key = bytes.fromhex(text)
            else:
                key = base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            raise _Refused("is neither base64 nor hex") from None
        if len(key) != KEY_BYTES:
            raise _Refused(f"has {len(key)} bytes instead of {KEY_BYTES}")
        if len(set(key)) < 8:
            raise _Refused("is not random")
        return key


def _file_key(name: str) -> str:
    """The configuration's key for the file or files of a secret."""
    return f"secrets.{name}_file{'s' if name in ('master_key', 'token_key') else ''}"


def load(
    settings: Settings,
    environment: Mapping[str, str],
    random: Callable[[int], bytes] = os.urandom,
    *,
    keep: bool = True,
) -> Secrets:
    """All secrets of a run.

    keep: False for a trial, which writes no file: what would be generated is lost.

    Raises:
        ConfigurationError: which one is missing, unreadable, readable by others, of
            the wrong length, or of development in production; never its value.
    """
    source = _Source(settings, environment, random, keep=keep)
    files = settings.secrets
    masters = source.several("master_key", files.master_key_files)
    lookup = source.key("lookup_key", files.lookup_key_file)
    otp = source.key("otp_key", files.otp_key_file)
    token_keys = source.several("token_key", files.token_key_files)
    sms = source.text(
        "sms_token",
        files.sms_token_file,
        needed=settings.providers.sms.kind != "sandbox",
    )
    email = source.text(
        "email_password",
        files.email_password_file,
        needed=bool(settings.providers.email.user),
    )
    payments = _payments(source, settings)
    keys = [*masters, lookup, otp, *token_keys]
    if not source.problems and len(set(keys)) < len(keys):
        source.problems.append("secrets: two of the keys are the same")
    if source.problems:
        raise ConfigurationError(source.problems)
    return Secrets(
        master_keys=masters,
        lookup_key=lookup,
        otp_key=otp,
        token_keys=token_keys,
        sms_token=sms,
        email_password=email,
        payments=payments,
    )


def _payments(source: _Source, settings: Settings) -> PaymentSecrets:
    files, of = settings.secrets, settings.providers.payments
    stripe, omise, bank = (
        of.stripe.enabled,
        of.omise.enabled,
        of.bank_transfer.enabled,
    )
    return PaymentSecrets(
        stripe_key=source.header("stripe_key", files.stripe_key_file, needed=stripe),
        stripe_webhook=source.lines(
            "stripe_webhook", files.stripe_webhook_file, needed=stripe
        ),
        omise_key=source.header("omise_key", files.omise_key_file, needed=omise),
        omise_webhook=source.lines(
            "omise_webhook", files.omise_webhook_file, needed=omise, base64=True
        ),
        bank_key=source.header("bank_key", files.bank_key_file, needed=bank),
        bank_webhook=source.lines("bank_webhook", files.bank_webhook_file, needed=bank),
    )


def dsn(settings: Settings) -> str:
    """The DSN of PostgreSQL, "" for the embedded one.

    Raises:
        ConfigurationError: postgres.dsn_file cannot be read, or holds no DSN.
    """
    key, found = "postgres.dsn", settings.postgres.dsn
    if settings.postgres.dsn_file:
        key = "postgres.dsn_file"
        try:
            found = read_private(Path(settings.postgres.dsn_file))
        except (_Refused, OSError) as error:
            raise ConfigurationError([f"{key}: {error}"]) from None
    try:
        psycopg.conninfo.conninfo_to_dict(found)
    except psycopg.ProgrammingError:  # its words may hold a part of the password
        why = "is neither postgresql://USER@HOST/DATABASE nor host=… dbname=…"
        raise ConfigurationError([f"{key}: {why}"]) from None
    return found


def read_private(path: Path) -> str:
    """The text of a file that not everybody may read."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o007:
            raise _Refused("everybody may read it; chmod 600")
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise _Refused(f"is larger than {FILE_BYTES_MAX} bytes")
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        raise _Refused("is not text") from None


def generated(path: Path, random: Callable[[int], bytes]) -> str:
    """The development secret at path, made if it is not there.

    It is complete or absent, also after a crash: written aside, synced, then linked.
    """
    if path.exists():
        return read_private(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    text = DEVELOPMENT + base64.b64encode(random(KEY_BYTES)).decode()
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return text
