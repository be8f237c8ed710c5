"""A deferred answer is told once, to a callback hung on before or after."""

from __future__ import annotations

import pytest

from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import Conflict


def test_a_callback_hung_on_before_is_called_when_it_resolves() -> None:
    deferred: Deferred[int] = Deferred()
    seen: list[int] = []
    deferred.on_done(lambda done: seen.append(done.result()))
    assert seen == []
    deferred.resolve(7)
    assert seen == [7]


def test_a_callback_hung_on_after_is_called_at_once() -> None:
    deferred: Deferred[int] = Deferred()
    deferred.resolve(7)
    seen: list[int] = []
    deferred.on_done(lambda done: seen.append(done.result()))
    assert seen == [7]


def test_a_failure_is_raised_by_result() -> None:
    deferred: Deferred[int] = Deferred()
    deferred.fail(Conflict("no"))
    with pytest.raises(Conflict):
        deferred.result()


def test_it_is_told_once() -> None:
    deferred: Deferred[int] = Deferred()
    deferred.resolve(1)
    with pytest.raises(AssertionError):
        deferred.fail(Conflict("no"))
