"""The one implementation that stands beside the ports."""

from __future__ import annotations

from uuid import uuid4

from tchatd.domains.auth.store import NoSessionEnd, SessionEnd


def test_where_there_are_no_sockets_nobody_is_told() -> None:
    nobody: SessionEnd = NoSessionEnd()
    nobody.ended(uuid4(), 1)
