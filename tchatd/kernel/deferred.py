"""Owns an answer that is told later, once: after its record is durable.

Not a task and not awaitable: the hottest commands are answered by the journal's
completion. Whoever wants to wait (an HTTP request) hangs a wake-up on `on_done`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Deferred(Generic[T]):
    """Holds nothing until `resolve` or `fail`, one of which is called once.

    on_done: at most one callback; called at once if the answer is there already.
    """

    __slots__ = ("_callback", "done", "error", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: T | None = None
        self.error: Exception | None = None
        self._callback: Callable[[Deferred[T]], None] | None = None

    def on_done(self, callback: Callable[[Deferred[T]], None]) -> None:
        assert self._callback is None
        if self.done:
            callback(self)
        else:
            self._callback = callback

    def resolve(self, value: T) -> None:
        assert not self.done
        self.value, self.done = value, True
        if self._callback is not None:
            self._callback(self)

    def fail(self, error: Exception) -> None:
        assert not self.done
        self.error, self.done = error, True
        if self._callback is not None:
            self._callback(self)

    def result(self) -> T:
        """The value, or raises the error it failed with. Only when done."""
        assert self.done
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # set by resolve
