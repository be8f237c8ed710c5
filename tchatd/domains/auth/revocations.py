"""Owns which sessions were ended so lately that an access token may still name them.

In memory on every node: loaded from the store at the start, then told of each end by
this node's service (and by other nodes', once there are several). It never forgets
early: were it ever full, it would refuse every token issued up to then instead, and
clients would refresh.
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID


class Revocations:
    """token_ms: how long an access token lives, the skew of clocks included."""

    def __init__(self, *, token_ms: int, size_max: int) -> None:
        assert token_ms > 0
        assert size_max >= 1
        self._token_ms = token_ms
        self._size_max = size_max
        self._ended: OrderedDict[UUID, int] = OrderedDict()
        self._refused_until_ms = 0

    def add(self, session_id: UUID, ended_ms: int) -> None:
        """Tokens of this session are refused from here on."""
        if session_id not in self._ended:
            if len(self._ended) >= self._size_max:
                self.forget(ended_ms)
            if len(self._ended) >= self._size_max:
                latest_ms = max(ended_ms, *self._ended.values())
                self._refused_until_ms = max(
                    self._refused_until_ms, latest_ms + self._token_ms
                )
                self._ended.clear()
            self._ended[session_id] = ended_ms

    def refuses(self, session_id: UUID, expires_at_ms: int) -> bool:
        return session_id in self._ended or expires_at_ms <= self._refused_until_ms

    def forget(self, now_ms: int) -> int:
        """Drop those whose tokens have all expired; how many they were."""
        until_ms = now_ms - self._token_ms
        before = len(self._ended)
        while self._ended:
            session_id, ended_ms = next(iter(self._ended.items()))
            if ended_ms > until_ms:
                break
            del self._ended[session_id]
        return before - len(self._ended)

    def __len__(self) -> int:
        return len(self._ended)
