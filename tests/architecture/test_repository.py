"""What is committed: true dependencies, one default configuration, nothing private."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PRIVATE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|development:[A-Za-z0-9+/]{43}="
    r"|/root/|/home/[a-z]+/|/work/main"
)


def committed() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def pins() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            found[canonicalize_name(name)] = version
    return found


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = project["dependencies"] + project["optional-dependencies"]["dev"]
    return [Requirement(text) for text in texts]


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned = pins()
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in pinned, requirement
        assert requirement.specifier.contains(pinned[name]), requirement


def test_what_is_installed_is_what_is_pinned() -> None:
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert distribution(name).version == pins()[name]


def test_every_dependency_has_its_line_in_the_decision_record() -> None:
    text = (ROOT / "docs/adr/0009-dependencies.md").read_text().lower()
    for requirement in declared():
        assert f"| {canonicalize_name(requirement.name)} |" in text, requirement.name


def test_nothing_private_is_committed() -> None:
    for path in committed():
        try:
            text = path.read_text()
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        if path != Path(__file__):
            assert not PRIVATE.search(text), path


@pytest.mark.slow
def test_an_installed_package_brings_the_default_configuration(tmp_path: Path) -> None:
    build = ["setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run([sys.executable, *build], cwd=ROOT, check=True)
    packaged = tmp_path / "tchatd" / "app" / "tchatd.toml"
    assert packaged.read_bytes() == (ROOT / "tchatd.toml").read_bytes()
