"""What knows its bytes goes in as it is; all else is as msgspec has it."""

from __future__ import annotations

import msgspec
import pytest

from tchatd.kernel.encoding import (
    Encoded,
    encode_json,
    encode_msgpack,
    json_array,
    msgpack_array,
)


class Known(Encoded):
    def json(self) -> bytes:
        return b'{"known":true}'

    def msgpack(self) -> bytes:
        return msgspec.msgpack.encode({"known": True})


@pytest.mark.parametrize("value", [1, "x", None, [1, {"a": [2]}], b"bytes"])
def test_what_is_plain_is_as_msgspec_has_it(value: object) -> None:
    assert encode_json(value) == msgspec.json.encode(value)
    assert encode_msgpack(value) == msgspec.msgpack.encode(value)


def test_what_knows_its_bytes_goes_in_as_it_is() -> None:
    value, plain = [1, Known(), {"a": Known()}], {"known": True}
    assert msgspec.json.decode(encode_json(value)) == [1, plain, {"a": plain}]
    assert msgspec.msgpack.decode(encode_msgpack(value)) == [1, plain, {"a": plain}]


def test_anything_else_is_refused() -> None:
    for encode in (encode_json, encode_msgpack):
        with pytest.raises(TypeError, match="object"):
            encode(object())


@pytest.mark.parametrize("count", [0, 1, 15, 16, 255, 256, 5_000])
def test_arrays(count: int) -> None:
    items = list(range(count))
    packed = msgpack_array([msgspec.msgpack.encode(item) for item in items])
    assert packed == msgspec.msgpack.encode(items)
    text = json_array([msgspec.json.encode(item) for item in items])
    assert text == msgspec.json.encode(items)
