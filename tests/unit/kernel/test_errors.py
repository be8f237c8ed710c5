"""A domain error carries what its caller is told, and nothing else."""

from __future__ import annotations

import pytest

from tchatd.kernel.errors import Invalid, NotFound, RateLimited, Unavailable


def test_without_a_detail_the_title_is_told() -> None:
    assert NotFound().detail == str(NotFound()) == "Not found"


def test_fields_are_named_as_on_the_wire() -> None:
    error = Invalid("Check the fields", fields={"name": "at least 2 characters"})
    assert error.fields == {"name": "at least 2 characters"}


def test_an_unavailable_one_says_when_to_come_back() -> None:
    assert Unavailable().retry_after_s == 1
    assert RateLimited(retry_after_s=60).retry_after_s == 60


def test_a_wait_of_nothing_is_a_programmer_error() -> None:
    with pytest.raises(AssertionError):
        RateLimited(retry_after_s=0)
