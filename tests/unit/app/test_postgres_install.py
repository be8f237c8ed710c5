from __future__ import annotations

import importlib.metadata
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tchatd.app import postgres_install
from tchatd.app.postgres_install import (
    Account,
    PostgresRefused,
    choose_account,
    closed_folder,
    copy_wheel,
    find_binaries,
    make_private,
    require_way,
    wheel_folder,
)
from tests.support.postgres import open_folder

OWN = pwd.getpwuid(os.geteuid())
US = Account(OWN.pw_name, OWN.pw_uid, OWN.pw_gid, other=False)
STRANGER = Account("stranger", 54321, 54321, other=True)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
not_as_root = pytest.mark.skipif(os.geteuid() == 0, reason="for others than root")


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@as_root
def test_root_hands_the_server_to_the_first_account_there_is(folder: Path) -> None:
    account = choose_account("", folder / "data")
    assert account.name in postgres_install.ACCOUNTS
    assert account.other
    assert account.process_arguments() == {
        "user": account.uid,
        "group": account.gid,
        "extra_groups": [],
    }


@as_root
def test_root_hands_the_server_to_whom_the_settings_name(folder: Path) -> None:
    assert choose_account("nobody", folder / "data").name == "nobody"


@as_root
def test_root_keeps_the_owner_of_the_data(folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    assert choose_account("", folder).name == "nobody"
    with pytest.raises(PostgresRefused, match="chown -R daemon"):
        choose_account("daemon", folder)


@as_root
def test_root_itself_is_refused(folder: Path) -> None:
    with pytest.raises(PostgresRefused, match="does not run as root"):
        choose_account("root", folder / "data")
    with pytest.raises(PostgresRefused, match="does not run as root"):
        choose_account("", folder)


@as_root
def test_no_account_at_all_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_install, "ACCOUNTS", ("no-such-account",))
    with pytest.raises(PostgresRefused, match="there is no no-such-account"):
        choose_account("", folder / "data")


def test_an_account_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(PostgresRefused, match="no-such-account"):
        choose_account("no-such-account", folder / "data")


@not_as_root
def test_others_run_it_themselves(folder: Path) -> None:
    assert choose_account("", folder / "data") == US
    assert US.process_arguments() == {}


def test_the_outermost_closed_folder_is_named(folder: Path) -> None:
    inner = folder / "outer/inner"
    inner.mkdir(parents=True)
    assert closed_folder(inner, STRANGER) is None
    inner.chmod(0o700)
    assert closed_folder(inner, STRANGER) == inner
    inner.parent.chmod(0o700)
    assert closed_folder(inner / "not/yet/there", STRANGER) == inner.parent
    assert closed_folder(inner, US) is None
    with pytest.raises(PostgresRefused, match=f"chmod o.x {inner.parent}"):
        require_way(inner, STRANGER)


def test_the_group_counts_before_others(folder: Path) -> None:
    member = Account("member", 54321, folder.stat().st_gid, other=True)
    folder.chmod(0o705)
    assert closed_folder(folder, member) == folder
    folder.chmod(0o710)
    assert closed_folder(folder, member) is None


def test_a_private_folder_is_made_and_taken_again(folder: Path) -> None:
    for _ in range(2):
        make_private(folder / "private", US)
        assert (folder / "private").stat().st_mode & 0o777 == 0o700
    (folder / "private").chmod(0o755)
    make_private(folder / "private", US)
    assert (folder / "private").stat().st_mode & 0o777 == 0o700


def test_a_private_folder_is_never_a_link(folder: Path) -> None:
    (folder / "target").mkdir()
    (folder / "private").symlink_to("target")
    with pytest.raises(PostgresRefused, match="is not a folder of"):
        make_private(folder / "private", US)


@as_root
def test_a_folder_of_somebody_else_is_not_taken(folder: Path) -> None:
    (folder / "private").mkdir()
    os.chown(folder / "private", 12345, 12345)
    with pytest.raises(PostgresRefused, match="is not a folder of"):
        make_private(folder / "private", STRANGER)


@pytest.mark.service
def test_the_wheel_comes_first(folder: Path) -> None:
    account = choose_account("", folder / "data")
    found = find_binaries(None, folder, account)
    wheel = wheel_folder()
    assert wheel is not None
    assert found.folder == wheel / "pginstall" / "bin"
    assert found.version.startswith(f"{found.major}.")


@pytest.mark.service
@as_root
def test_a_wheel_out_of_reach_is_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = wheel_folder()
    assert wheel is not None
    private = folder / "root/site-packages"
    private.mkdir(parents=True)
    private.parent.chmod(0o700)
    monkeypatch.setattr(postgres_install, "wheel_folder", lambda: private / wheel.name)
    subprocess.run(["cp", "-a", wheel, private], check=True)
    libraries = wheel.parent / f"{wheel.name}.libs"
    subprocess.run(["cp", "-a", libraries, private], check=True)
    account = choose_account("", folder / "data")
    found = find_binaries(None, folder, account)
    assert found.folder.is_relative_to(folder / f"server-{_wheel_version()}")
    initdb = [str(found.folder / "initdb"), "--version"]
    arguments = account.process_arguments()
    subprocess.run(initdb, check=True, cwd="/", stdout=subprocess.DEVNULL, **arguments)
    inode = found.folder.stat().st_ino
    assert find_binaries(None, folder, account).folder.stat().st_ino == inode


def _wheel_version() -> str:
    return importlib.metadata.version(postgres_install.WHEEL)


@pytest.mark.service
def test_a_copy_that_was_not_finished_is_made_anew(folder: Path) -> None:
    wheel = wheel_folder()
    assert wheel is not None
    name = f"server-{_wheel_version()}"
    unfinished = (folder / name).with_suffix(".unfinished")
    unfinished.mkdir()
    (unfinished / "half").touch()
    assert (copy_wheel(wheel, folder) / "postgres").exists()
    assert not (folder / name / "half").exists()


def test_binaries_that_do_not_run_are_refused_with_the_reason(folder: Path) -> None:
    with pytest.raises(PostgresRefused, match="postgres does not run"):
        find_binaries(folder, folder, US)
    (folder / "postgres").write_text("#!/bin/sh\necho something else\n")
    (folder / "postgres").chmod(0o755)
    with pytest.raises(PostgresRefused, match="says 'something else'"):
        find_binaries(folder, folder, US)


def test_binaries_of_another_version_are_refused_with_what_to_do(
    folder: Path,
) -> None:
    (folder / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.6'\n")
    (folder / "postgres").chmod(0o755)
    assert find_binaries(folder, folder, US).major == 18
    (folder / "data").mkdir()
    (folder / "data/PG_VERSION").write_text("17\n")
    with pytest.raises(PostgresRefused, match=r"made by PostgreSQL 17.*18\.6.*dump"):
        find_binaries(folder, folder, US)
    (folder / "data/PG_VERSION").write_text("seventeen")
    with pytest.raises(PostgresRefused, match="not readable"):
        find_binaries(folder, folder, US)
