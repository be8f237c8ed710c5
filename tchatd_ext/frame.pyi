"""Owns the WebSocket codec: RFC 6455 frames and RFC 7692 messages; refuses I/O."""

KIND_TEXT: int
KIND_BINARY: int
KIND_CLOSE: int
KIND_PING: int
KIND_PONG: int
KIND_FAILED: int

class FrameDecoder:
    def __init__(self, *, message_bytes_max: int, deflate: bool = False) -> None: ...
    def feed(self, data: bytes) -> list[tuple[int, bytes, int]]: ...

def encode(
    opcode: int,
    payload: bytes,
    *,
    fin: bool = True,
    compressed: bool = False,
    mask: bytes | None = None,
) -> bytes: ...
def compress(payload: bytes, window_bits: int = 15) -> bytes | None: ...
def encode_close(code: int, reason: str = "") -> bytes: ...
