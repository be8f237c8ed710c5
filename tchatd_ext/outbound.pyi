"""Owns encoded WebSocket messages that many connections share."""

class Frame:
    """One WebSocket data message, encoded once, shared by all receivers.

    The bytes are copied into C memory with their own reference count, so queues hold
    them without the GIL. A compressed copy is made at the first receiver that
    negotiated permessage-deflate, if the payload is large enough to gain.
    """

    size: int
    """Bytes of the payload, before the frame header and compression."""

    def __init__(self, payload: bytes, *, binary: bool = False) -> None: ...
