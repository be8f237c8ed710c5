"""What is in config/ is true to the program."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tchatd.app import exits
from tchatd.app.configuration import keys, load, variable
from tchatd.app.settings import Settings

CONFIG = Path(__file__).parents[2] / "config"
UNIT = (CONFIG / "tchatd.service").read_text()
NGINX = (CONFIG / "nginx.conf").read_text()


def given_by_the_unit() -> dict[str, str]:
    pairs = re.findall(r"^Environment=(\w+)=(\S+)$", UNIT, re.MULTILINE)
    return {name: value.replace("%d", "/run/credentials/x") for name, value in pairs}


@pytest.fixture(scope="module")
def production() -> Settings:
    return load(CONFIG / "production.toml", given_by_the_unit())


def test_the_example_is_a_production_that_starts(production: Settings) -> None:
    assert production.mode == "production"


def test_the_unit_names_variables_that_exist_and_hands_over_each_secret() -> None:
    given = set(given_by_the_unit())
    assert given <= {variable(key) for key in keys()}
    assert {variable(key) for key in keys() if key.startswith("secrets.")} <= given
    credentials = set(re.findall(r"^LoadCredential=(\w+):", UNIT, re.MULTILINE))
    used = {Path(value).name for value in given_by_the_unit().values()}
    assert credentials == used


def test_the_unit_does_not_start_again_what_cannot_start() -> None:
    found = re.search(r"^RestartPreventExitStatus=(.*)$", UNIT, re.MULTILINE)
    assert found
    assert {int(code) for code in found[1].split()} == {exits.DATAERR, exits.CONFIG}


def test_the_unit_waits_for_the_drain(production: Settings) -> None:
    found = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert found
    stop = production.shutdown
    assert int(found[1]) > stop.drain_s + stop.flush_s


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)
def test_systemd_finds_the_unit_well_hardened() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20"]
    done = subprocess.run(
        [*command, CONFIG / "tchatd.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


def test_nginx_allows_what_the_gateway_allows(production: Settings) -> None:
    assert f"server {production.listen.bind};" in NGINX
    assert production.gateway.body_bytes_max == 1 << 20
    assert "client_max_body_size 1m;" in NGINX
    found = re.search(r"proxy_read_timeout (\d+)s;\n\s+proxy_send", NGINX)
    assert found
    assert int(found[1]) > production.gateway.ping_interval_s
    assert int(found[1]) > production.gateway.idle_s


def test_nginx_writes_no_query_into_its_log() -> None:
    written = re.search(r"log_format tchatd ([^;]*);", NGINX)
    assert written
    assert not re.search(r"\$(request|request_uri|args|query_string)\b", written[1])
    assert not re.search(r"\$(is_args|arg_\w+|http_referer)\b", written[1])
    logs = re.findall(r"^\s*access_log ([^;]*);", NGINX, re.MULTILINE)
    assert logs
    assert all(log == "off" or log.endswith(" tchatd") for log in logs)
    servers = NGINX.split("\nserver {")[1:]
    assert all("access_log" in server for server in servers)
