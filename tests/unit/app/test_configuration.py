"""Defaults, a file over them, the environment last; and what is refused."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tchatd.app import configuration
from tchatd.app.configuration import ConfigurationError, keys, load, variable

DEFAULTS = Path(__file__).parents[3] / "tchatd.toml"


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(text)
    return path


def problems(path: Path | None, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        load(path, environment or {})
    return raised.value.problems


def leaves(values: dict[str, object], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += leaves(value, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def test_every_setting_is_in_the_default_file_and_nothing_else() -> None:
    in_file = leaves(tomllib.loads(DEFAULTS.read_text()))
    assert sorted(in_file) == sorted(keys())


def test_every_key_of_the_default_file_is_explained() -> None:
    lines = DEFAULTS.read_text().splitlines()
    for index, line in enumerate(lines):
        if re.match(r"[a-z0-9_]+ = ", line):
            assert lines[index - 1].startswith("# "), line


def test_no_two_keys_share_an_environment_variable() -> None:
    names = [variable(key) for key in keys()]
    assert len(set(names)) == len(names)


def test_the_defaults_are_the_source_trees_own_file() -> None:
    assert configuration.default_path() == DEFAULTS


def test_a_file_goes_over_the_defaults_and_the_environment_over_it(
    tmp_path: Path,
) -> None:
    path = own(tmp_path, '[listen]\nbind = "[::1]:1"\nbacklog = 7\n')
    settings = load(
        path,
        {
            "TCHATD_LISTEN_BACKLOG": "8",
            "TCHATD_GATEWAY_DEFLATE": "false",
            "TCHATD_SHUTDOWN_DRAIN_S": "1.5",
            "TCHATD_METRICS_ALLOW": "10.0.0.0/8, ::1",
            "HOME": "/x",
        },
        {"data": "elsewhere"},
    )
    assert (settings.listen.bind, settings.listen.backlog) == ("[::1]:1", 8)
    assert settings.gateway.deflate is False
    assert settings.shutdown.drain_s == 1.5
    assert settings.metrics.allow == ["10.0.0.0/8", "::1"]
    assert settings.data_folder.name == "elsewhere"
    assert settings.log.level == "info"


def test_the_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    path = own(tmp_path, "[listen]\nbacklog = 7\n")
    assert load(None, {"TCHATD_CONFIG": str(path)}).listen.backlog == 7


def test_an_unknown_key_is_named_with_its_file_and_a_guess(tmp_path: Path) -> None:
    path = own(tmp_path, "[listen]\nbaklog = 7\n[gatway]\nidle_s = 1\n")
    assert problems(path) == [
        f"{path}: listen.baklog: there is no such key; did you mean listen.backlog?",
        f"{path}: gatway: there is no such key; did you mean gateway?",
    ]


def test_a_key_in_the_wrong_section_is_guessed_too(tmp_path: Path) -> None:
    path = own(tmp_path, "drain_s = 7\n")
    assert problems(path)[0].endswith("did you mean shutdown.drain_s?")


def test_an_unknown_variable_is_named_with_a_guess() -> None:
    assert problems(None, {"TCHATD_LISTEN_BAKLOG": "1"}) == [
        "environment variable TCHATD_LISTEN_BAKLOG: there is no such key; "
        "did you mean TCHATD_LISTEN_BACKLOG?"
    ]


def test_variables_that_are_no_settings_are_left_alone() -> None:
    load(None, {"TCHATD_BUILD": "debug", "TCHATD_SECRETS_OTP_KEY": "x"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[listen]\nbacklog = "7"\n', "listen.backlog: expected int"),
        ("[listen]\nbacklog = 0\n", "listen.backlog: expected int >= 1"),
        ('[listen]\nbind = "x"\n', "listen.bind: expected HOST:PORT"),
        ('mode = "test"\n', "mode: must be one of development, production"),
        ("listen = 7\n", "listen: is a section, [listen]"),
        ('[metrics]\nallow = ["x"]\n', "metrics.allow: 'x' is no address"),
        ("[auth]\ncode_resend_s = 1000\n", "auth.code_resend_s: is at most"),
        ("[metrics]\nallow = [1]\n", "metrics.allow: expected str"),
        ("not toml", "own.toml: "),
    ],
)
def test_a_wrong_value_is_named_with_its_file(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = own(tmp_path, text)
    (problem,) = problems(path)
    assert problem.startswith(str(path))
    assert expected in problem


def test_a_wrong_variable_is_named() -> None:
    (problem,) = problems(None, {"TCHATD_LISTEN_BACKLOG": "many"})
    assert problem.startswith("environment variable TCHATD_LISTEN_BACKLOG: listen.")


def test_a_secret_value_is_not_shown() -> None:
    (problem,) = problems(
        None, {"TCHATD_POSTGRES_DSN": "postgresql://x", "TCHATD_POSTGRES_DSN_FILE": "y"}
    )
    assert "postgresql" not in problem


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path / "no.toml")
    assert problem == f"{tmp_path / 'no.toml'}: No such file or directory"


def test_a_broken_relation_is_named_where_it_was_set(tmp_path: Path) -> None:
    path = own(tmp_path, "[gateway]\nidle_s = 40\n")
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: gateway.idle_s: is less than ping_interval_s")


def test_production_refuses_what_is_unsafe(tmp_path: Path) -> None:
    path = own(
        tmp_path,
        'mode = "production"\n[log]\nlevel = "debug"\n'
        '[metrics]\nallow = ["0.0.0.0/0"]\n',
    )
    text = "\n".join(problems(path))
    for key in (
        *("providers.sms.kind", "providers.email.kind", "postgres.dsn"),
        *("log.level", "metrics.allow"),
    ):
        assert f"{path}: {key}: not in mode" in text
    assert "dsn_file or the environment variable TCHATD_POSTGRES_DSN" in text


def test_a_relation_that_a_default_breaks_is_of_the_file_that_broke_it(
    tmp_path: Path,
) -> None:
    path = own(tmp_path, "[gateway]\nping_interval_s = 70\n")
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: gateway.idle_s: is less than")
    (problem,) = problems(None, {"TCHATD_GATEWAY_PING_INTERVAL_S": "70"})
    assert problem.startswith("environment variable TCHATD_GATEWAY_PING_INTERVAL_S: ")


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = own(
        tmp_path,
        'mode = "test"\nlisten = 7\n[log]\nlevel = "loud"\ncolour = 1\n'
        "[gateway]\nidle_s = -1\n[auth]\ncode_resend_s = 1000\n",
    )
    found = problems(path, {"TCHATD_HTTP_REQUEST_S": "soon", "TCHATD_DAT": "x"})
    keys = [problem.split(": ")[1] for problem in found]
    assert sorted(keys) == sorted(
        [
            *("listen", "log.colour", "http.request_s"),
            *("mode", "log.level", "gateway.idle_s", "auth.code_resend_s"),
            "there is no such key; did you mean TCHATD_DATA?",
        ]
    )


@pytest.mark.parametrize("overrides", [{"listen.bind": "8081"}, {}])
def test_a_bad_address_is_answered_by_examples_of_good_ones(
    overrides: dict[str, str],
) -> None:
    environment = {} if overrides else {"TCHATD_LISTEN_BIND": "8081"}
    with pytest.raises(ConfigurationError, match="expected HOST:PORT, as 127"):
        load(None, environment, overrides)
