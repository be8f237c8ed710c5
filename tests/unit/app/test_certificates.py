"""What the files of [tls] must be."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from tchatd.app.certificates import certificate_end
from tchatd.app.configuration import ConfigurationError, load
from tests.support.certificates import make_certificate


def end(certificate: Path, key: Path) -> datetime.datetime:
    files = {"CERTIFICATE_FILE": str(certificate), "KEY_FILE": str(key)}
    files["BIND"] = "127.0.0.1:0"
    of = load(None, {f"TCHATD_TLS_{name}": value for name, value in files.items()})
    return certificate_end(of)


def test_a_usable_pair_tells_when_it_ends(tmp_path: Path) -> None:
    assert end(*make_certificate(tmp_path)) > datetime.datetime.now(datetime.UTC)


def test_each_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        end(tmp_path / "a", tmp_path / "b")
    assert [problem.split(":")[0] for problem in raised.value.problems] == [
        "tls.certificate_file",
        "tls.key_file",
    ]


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    certificate, _ = make_certificate(tmp_path)
    _, key = make_certificate(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="MISMATCH"):
        end(certificate, key)


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    _, key = make_certificate(tmp_path)
    with pytest.raises(ConfigurationError, match=r"tls\.certificate_file"):
        end(key, key)
