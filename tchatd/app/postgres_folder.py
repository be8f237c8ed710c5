"""Owns what lies in the folder of the embedded PostgreSQL beside its data.

Everything directly in the folder is ours, also when another account runs the server: so
that account can't put a link where root will write. It owns `data` and `socket` only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import trio

from tchatd.app.postgres_install import (
    Account,
    Binaries,
    PostgresRefused,
    entry_of,
    make_private,
)

ROLE = "tchatd"
PORT = 5432  # only part of the socket's name
SOCKET_PATH_BYTES_MAX = 107
"""sizeof(sockaddr_un.sun_path) less the NUL (unix(7))."""
BUILTIN_COLLATION_SINCE = 17


def environment(folder: Path) -> dict[str, str]:
    """For the server and its tools: nothing of ours, such as PGHOST, reaches them."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(folder)}


def socket_folder(folder: Path, account: Account) -> Path:
    """Make the socket's folder: `folder`/socket, or a short one when that is too long.

    Raises:
        PostgresRefused: somebody else has made it, or no path is short enough.
    """
    inside = folder / "socket"
    if _socket_fits(inside):
        make_private(inside, account)
        return inside
    name = f"tchatd-{hashlib.sha256(bytes(folder)).hexdigest()[:12]}"
    run = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
    for parent in (run, tempfile.gettempdir(), "/tmp"):  # noqa: S108  # see make_private
        outside = Path(parent) / name
        if parent and os.access(parent, os.W_OK) and _socket_fits(outside):
            make_private(outside, account)
            return outside
    raise PostgresRefused(
        f"{folder} is too long a path for a socket, and so is every other folder for"
        " it: choose a shorter data folder"
    )


def _socket_fits(folder: Path) -> bool:
    """Whether libpq can be told of a socket in this folder; a comma separates hosts."""
    path = os.fsencode(folder / f".s.PGSQL.{PORT}")
    return len(path) <= SOCKET_PATH_BYTES_MAX and b"," not in path


def quoted(folder: Path) -> str:
    """One element of a list of folders in PostgreSQL's settings."""
    escaped = str(folder).replace('"', '""')
    return f'"{escaped}"'


def write_access_files(folder: Path, account: Account) -> None:
    """Let in, by the kernel's word for who asks (peer), us and the server's account."""
    names = {account.name, entry_of(os.geteuid()).pw_name}
    hba = f"local all {ROLE} peer map=tchatd\n"
    hba += f"local replication {ROLE} peer map=tchatd\n"
    ident = "".join(f'tchatd "{name}" {ROLE}\n' for name in sorted(names))
    for file, text in (("pg_hba.conf", hba), ("pg_ident.conf", ident)):
        unfinished = folder / f"{file}.unfinished"
        unfinished.write_text(text)
        unfinished.chmod(0o644)
        unfinished.replace(folder / file)


async def initialise(folder: Path, account: Account, binaries: Binaries) -> None:
    """Make `folder`/data; one that was left unfinished is made anew.

    Raises:
        PostgresRefused: something else is there, or initdb failed.
    """
    data = folder / "data"
    if data.exists() and any(data.iterdir()):
        raise PostgresRefused(f"{data} is not empty, and not PostgreSQL's")
    unfinished = folder / "data.unfinished"
    if unfinished.exists():
        await trio.to_thread.run_sync(shutil.rmtree, unfinished)
    make_private(unfinished, account)
    command: list[str | Path] = [binaries.folder / "initdb", "-D", unfinished]
    command += ["-U", ROLE, "-A", "peer", "-E", "UTF8", "--data-checksums"]
    if binaries.major >= BUILTIN_COLLATION_SINCE:
        # Unlike the C library's, this collation never changes under an index.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--locale=C"]
    else:
        command += ["--locale=C.UTF-8"]
    done = await trio.run_process(
        command,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        cwd="/",
        env=environment(folder),
        **account.process_arguments(),
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise PostgresRefused(f"initdb failed: {said[-2000:]}")
    unfinished.rename(data)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Make a rename in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
