"""Owns what an HTTP/1.1 message may look like; refuses ambiguity."""

Facts = tuple[bytes, bytes, int, int, bool, bool, bool, bool, bool]

def parse_head(
    data: bytes, *, uri_bytes_max: int = 8192
) -> tuple[int, Facts | str]: ...
def parse_chunked(data: bytes) -> tuple[int, bytes, int]: ...
