"""Owns how the settings come about: defaults, a file over them, the environment last.

Refuses to start half-configured: an unknown key, a wrong type, a value out of range
or a bad relation raises `ConfigurationError`, which names each key and the file or
the environment variable where it was set; all of them at once, not the first.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_origin

import msgspec

from tchatd.app.settings import (
    Settings,
    broken_relations,
    unsafe_in_production,
)
from tchatd.kernel.refusals import WRONG_FORM, located

NAME = "tchatd.toml"
PREFIX = "TCHATD_"
# Variables with our prefix that are not settings: the path of the file itself, the
# build, what a secret's value is given by, and the tests' and benchmarks' own.
RESERVED = re.compile(
    r"TCHATD_(CONFIG|BUILD)$|TCHATD_(TEST|BENCH|CRASH|FUZZ|SERVICES)_"
    r"|TCHATD_SECRETS_(MASTER_KEYS|LOOKUP_KEY|OTP_KEY|TOKEN_KEYS)$"
    r"|TCHATD_SECRETS_(SMS_TOKEN|EMAIL_PASSWORD)$"
    r"|TCHATD_SECRETS_(STRIPE|OMISE|BANK)_(KEY|WEBHOOK)$"
)
_PACKAGED = Path(__file__).with_name(NAME)  # put there by the build (see setup.py)
_SOURCE_TREE = Path(__file__).parents[2] / NAME


class ConfigurationError(Exception):
    """problems: one sentence each, with the key and where it was set."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def default_path() -> Path:
    """The file with the defaults: packaged when installed, else the source tree's."""
    return _PACKAGED if _PACKAGED.exists() else _SOURCE_TREE


def load(
    path: Path | None,
    environment: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a run.

    path: the operator's file; None for the one named by TCHATD_CONFIG, else for
        `tchatd.toml` in the working folder if there is one.
    overrides: `{"listen.bind": …}` from the command line; strongest.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    values = _read(default_path())
    origins = dict.fromkeys(_leaves(values), str(default_path()))
    problems = list(_unknown(values, Settings, str(default_path())))
    chosen = _choose(path, environment)
    if chosen is not None and chosen != default_path():
        own = _read(chosen)
        problems += _unknown(own, Settings, str(chosen))
        _merge(values, own)
        origins.update(dict.fromkeys(_leaves(own), str(chosen)))
    problems += _apply_environment(values, origins, environment)
    for key, value in (overrides or {}).items():
        _put(values, key, value)
        origins[key] = "the command line"
    return _checked(values, origins, problems)


def keys(section: type[msgspec.Struct] = Settings, prefix: str = "") -> Iterator[str]:
    """Every key there is, as `section.key`."""
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def variable(key: str) -> str:
    """The environment variable that overrides a key."""
    return PREFIX + key.upper().replace(".", "_")


def _choose(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if environment.get("TCHATD_CONFIG"):
        return Path(environment["TCHATD_CONFIG"])
    return Path(NAME).absolute() if Path(NAME).exists() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError([f"{path}: {error.strerror or error}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: {error}"]) from None


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _unknown(
    values: Mapping[str, Any],
    section: type[msgspec.Struct],
    origin: str,
    prefix: str = "",
) -> Iterator[str]:
    fields = {field.name: field.type for field in msgspec.structs.fields(section)}
    for name, value in values.items():
        if name not in fields:
            hint = _did_you_mean(prefix + name)
            yield f"{origin}: {prefix}{name}: there is no such key{hint}"
            continue
        inner = fields[name]
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            if isinstance(value, dict):
                yield from _unknown(value, inner, origin, f"{prefix}{name}.")
            else:
                yield f"{origin}: {prefix}{name}: is a section, [{prefix}{name}]"


def _did_you_mean(key: str, names: Mapping[str, str] | None = None) -> str:
    known = list(names) if names is not None else [*keys(), *_section_names(Settings)]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if not close:  # right name, wrong section
        last = key.rpartition(".")[2]
        close = [name for name in known if name.rpartition(".")[2] == last][:1]
    return f"; did you mean {close[0]}?" if close else ""


def _section_names(section: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield prefix + field.name
            yield from _section_names(field.type, f"{prefix}{field.name}.")


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            _merge(base[name], value)
        elif not isinstance(base.get(name), dict):  # else `_unknown` said so
            base[name] = value


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[name] = value


def _get(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _apply_environment(
    values: dict[str, Any], origins: dict[str, str], environment: Mapping[str, str]
) -> Iterator[str]:
    by_variable = {variable(key): key for key in keys()}
    for name, text in environment.items():
        if not name.startswith(PREFIX):
            continue
        key = by_variable.get(name)
        if key is not None:
            try:
                _put(values, key, _parsed(text, _type_of(key)))
            except msgspec.ValidationError as error:
                yield f"environment variable {name}: {key}: {_plain(str(error))}"
            origins[key] = f"environment variable {name}"
        elif not RESERVED.match(name):
            hint = _did_you_mean(name, by_variable)
            yield f"environment variable {name}: there is no such key{hint}"


def _type_of(key: str) -> Any:
    section: Any = Settings
    for name in key.split("."):
        section = {f.name: f.type for f in msgspec.structs.fields(section)}[name]
    return section


def _parsed(text: str, wanted: Any) -> Any:
    """The variable's text as the key's type; a list is written with commas."""
    if get_origin(wanted) is list:
        return [part.strip() for part in text.split(",") if part.strip()]
    return msgspec.convert(text, wanted, strict=False)


def _checked(
    values: dict[str, Any], origins: Mapping[str, str], problems: list[str]
) -> Settings:
    """problems: so far. Relations are of right values: they are looked at last."""
    settings, wrong = _converted(values, origins)
    problems = problems + wrong
    if not wrong:
        problems += [
            f"{_blamed(origins, key)}: {key}: {why}"
            for key, why in broken_relations(settings)
        ]
    if not wrong and settings.mode == "production":
        problems += [
            f"{_origin(origins, key if key in _set(origins) else 'mode')}: {key}: "
            f'not in mode = "production": {why}'
            for key, why in unsafe_in_production(settings)
        ]
    if problems:
        raise ConfigurationError(problems)
    return settings


def _converted(
    values: dict[str, Any], origins: Mapping[str, str]
) -> tuple[Settings, list[str]]:
    """msgspec stops at the first wrong value: it is said, and its default is taken."""
    problems: list[str] = []
    defaults = _read(default_path())
    while True:
        try:
            return msgspec.convert(values, Settings), problems
        except msgspec.ValidationError as error:
            key, problem = _explained(error, values, origins)
            problems.append(problem)
            default = _get(defaults, key)
            if default is None or default == _get(values, key):
                raise ConfigurationError(problems) from None
            _put(values, key, default)


def _explained(
    error: msgspec.ValidationError, values: Any, origins: Mapping[str, str]
) -> tuple[str, str]:
    """The key, and what msgspec says: "Expected `int` - at `$.listen.backlog`"."""
    place, text = located(error, Settings)
    key = re.sub(r"\[.*?\]", "", place)
    if text == "is required":
        return key, f"{default_path()}: {key}: is missing"
    sentence = _plain(text)
    value = _get(values, key)
    if isinstance(value, dict):  # a relation inside of one section names its key first
        name, _, rest = sentence.partition(" ")
        if name in value:
            key, sentence, value = f"{key}.{name}", rest, value[name]
    shown = "" if "dsn" in key or "secret" in key else f" (it is {value!r})"
    sentence = sentence[:1].lower() + sentence[1:] + shown
    return key, f"{_origin(origins, key)}: {key}: {sentence}"


def _plain(sentence: str) -> str:
    """msgspec's sentence for people; the only patterns are those of addresses."""
    if sentence == WRONG_FORM or "matching regex" in sentence:
        return "expected HOST:PORT, as 127.0.0.1:8080, [::1]:8080 or :8080"
    return sentence.replace("`", "")


def _set(origins: Mapping[str, str]) -> dict[str, str]:
    """Without what is as it is by default."""
    return {key: by for key, by in origins.items() if by != str(default_path())}


def _blamed(origins: Mapping[str, str], key: str) -> str:
    """Where a relation was broken: by what was set, though it is said of a default."""
    own = _set(origins)
    section = key.rpartition(".")[0] + "."
    near = [by for name, by in own.items() if name.startswith(section)]
    found = [own[key]] if key in own else near or list(own.values())
    return ", ".join(dict.fromkeys(found)) or str(default_path())


def _origin(origins: Mapping[str, str], key: str) -> str:
    return origins.get(key, str(default_path()))
