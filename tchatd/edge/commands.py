"""Owns turning what a client sent into the command of an operation, or saying why not.

Over HTTP a command is made of the path's parameters and, for GET and DELETE, the
query, for POST and PUT, the members of the JSON body. Names that are not declared are
ignored, so that a newer client can talk to an older server. The first failure is
found by msgspec while it decodes; only then every field is looked at by itself, to
tell all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec import inspect as types
from msgspec.structs import FieldInfo

from tchatd.edge.problems import TooLarge, UnsupportedMediaType
from tchatd.kernel.errors import Invalid
from tchatd.kernel.refusals import located
from tchatd.kernel.routing import Operation

QUERY_FIELDS_MAX = 128
_SEQUENCES = (types.ListType, types.SetType, types.FrozenSetType, types.VarTupleType)


class CommandDecoder:
    """Makes the commands of one operation from HTTP requests."""

    __slots__ = (
        "_body_bytes_max",
        "_body_decoder",
        "_body_required",
        "_command",
        "_in_path",
        "_in_query",
        "_path_type",
        "_reads_body",
        "body_type",
    )

    def __init__(self, operation: Operation) -> None:
        command = operation.command
        by_name = {field.name: field for field in msgspec.structs.fields(command)}
        self._command = command
        self._in_path = tuple(by_name.pop(name) for name in operation.path_parameters)
        self._path_type = _struct_of(f"{command.__name__}Path", command, self._in_path)
        rest = tuple(by_name.values())
        self._reads_body = operation.verb in ("POST", "PUT")
        self._in_query = {} if self._reads_body else _queryable(rest)
        self._body_bytes_max = operation.body_bytes_max
        self.body_type: type[Struct] = (
            _struct_of(f"{command.__name__}Body", command, rest)
            if self._in_path
            else command
        )
        self._body_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            self.body_type
        )
        self._body_required = any(field.required for field in rest)

    def decode(
        self,
        values: tuple[str, ...],
        query: str,
        content_type: bytes | None,
        body: bytes,
    ) -> Struct:
        """values: of the path's parameters, in order, decoded.

        Raises:
            Invalid: not JSON, or not what the command's type allows.
            UnsupportedMediaType, TooLarge: about the body of a POST or PUT.
        """
        if self._reads_body:
            return self._from_body(values, content_type, body)
        if not query and not values:
            return self._from_text({})
        texts: dict[str, Any] = {
            field.encode_name: value
            for field, value in zip(self._in_path, values, strict=True)
        }
        if query:
            self._read_query(query, texts)
        return self._from_text(texts)

    def _from_text(self, texts: dict[str, Any]) -> Struct:
        try:
            return msgspec.convert(texts, self._command, strict=False)
        except msgspec.ValidationError as error:
            raise refusal(error, self._command, texts, strict=False) from None

    def _read_query(self, query: str, texts: dict[str, Any]) -> None:
        try:
            pairs = parse_qsl(
                query,
                keep_blank_values=True,
                errors="strict",
                max_num_fields=QUERY_FIELDS_MAX,
            )
        except ValueError:
            raise Invalid("The query is too long or not UTF-8.") from None
        for name, value in pairs:
            is_sequence = self._in_query.get(name)
            if is_sequence is None:
                continue
            if is_sequence:
                texts.setdefault(name, []).extend(value.split(",") if value else ())
            elif name in texts:
                raise Invalid(fields={name: "is given twice"})
            else:
                texts[name] = value

    def _from_body(
        self, values: tuple[str, ...], content_type: bytes | None, body: bytes
    ) -> Struct:
        if len(body) > self._body_bytes_max:
            raise TooLarge(f"The body may have {self._body_bytes_max} bytes.")
        if not body:
            if self._body_required:
                raise Invalid("A JSON body is needed.")
            body = b"{}"
        elif content_type != b"application/json":
            check_json(content_type)
        decoded: Struct = decode_json(self._body_decoder, body)
        if not self._in_path:
            return decoded
        texts = {
            field.encode_name: value
            for field, value in zip(self._in_path, values, strict=True)
        }
        try:
            in_path = msgspec.convert(texts, self._path_type, strict=False)
            return self._command(
                **msgspec.structs.asdict(in_path), **msgspec.structs.asdict(decoded)
            )
        except msgspec.ValidationError as error:
            raise refusal(error, self._path_type, texts, strict=False) from None
        except ValueError as error:  # a rule in the command's __post_init__
            raise Invalid(str(error)) from None


def decode_json(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Raises Invalid: with every field that is wrong."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        try:
            raw = msgspec.json.decode(body)
        except (ValueError, RecursionError):
            raw = None
        raise refusal(error, decoder.type, raw) from None
    except msgspec.DecodeError as error:
        raise Invalid(f"The body is not JSON: {error}.") from None
    except UnicodeDecodeError:
        raise Invalid("The body is not UTF-8.") from None
    except RecursionError:
        raise Invalid("The body is nested too deeply.") from None


def check_json(content_type: bytes | None) -> None:
    """Raises UnsupportedMediaType: not JSON in UTF-8."""
    kind, _, parameters = (content_type or b"").lower().partition(b";")
    if kind.strip() != b"application/json":
        raise UnsupportedMediaType
    charset = parameters.strip().removeprefix(b"charset=").strip(b'"')
    if charset not in (b"", b"utf-8", b"utf8"):
        raise UnsupportedMediaType("The body must be in UTF-8.")


def refusal(
    error: msgspec.ValidationError, of_type: Any, raw: object, *, strict: bool = True
) -> Invalid:
    """What is wrong with each field of `raw`, which did not become an `of_type`."""
    fields: dict[str, str] = {}
    if isinstance(raw, Mapping) and isinstance(of_type, type):
        for field in msgspec.structs.fields(of_type):
            place, message = _field_error(field, raw, strict=strict)
            if message:
                fields[place] = message
    if not fields:
        place, message = located(error, of_type)
        if not place:
            return Invalid(f"{message}.")
        fields[place] = message
    return Invalid("These are not valid: " + ", ".join(fields) + ".", fields=fields)


def _field_error(
    field: FieldInfo, raw: Mapping[Any, object], *, strict: bool
) -> tuple[str, str]:
    name = field.encode_name
    if name not in raw:
        return name, "is required" if field.required else ""
    try:
        msgspec.convert(raw[name], field.type, strict=strict)
    except msgspec.ValidationError as error:
        place, message = located(error, field.type)
        if place and not place.startswith("["):
            place = "." + place
        return name + place, message
    return name, ""


def _struct_of(
    name: str, command: type[Struct], fields: tuple[FieldInfo, ...]
) -> type[Struct]:
    """A struct of some of a command's fields, decoded as the command would."""
    return msgspec.defstruct(
        name,
        [_definition(field) for field in fields],
        kw_only=True,
        rename={
            field.name: field.encode_name
            for field in fields
            if field.name != field.encode_name
        },
        forbid_unknown_fields=command.__struct_config__.forbid_unknown_fields,
    )


def _definition(field: FieldInfo) -> Any:
    if field.default is not NODEFAULT:
        return field.name, field.type, field.default
    if field.default_factory is not NODEFAULT:
        factory = msgspec.field(default_factory=field.default_factory)
        return field.name, field.type, factory
    return field.name, field.type


def _queryable(fields: tuple[FieldInfo, ...]) -> dict[str, bool]:
    """Whether each may be given many times, by its name in the query."""
    return {field.encode_name: _is_sequence(field.type) for field in fields}


def _is_sequence(of_type: Any) -> bool:
    info = types.type_info(of_type)
    options = info.types if isinstance(info, types.UnionType) else (info,)
    return any(isinstance(_plain(option), _SEQUENCES) for option in options)


def _plain(info: types.Type) -> types.Type:
    return info.type if isinstance(info, types.Metadata) else info
