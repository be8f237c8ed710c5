"""The sandbox shows codes and hides whose they are."""

from __future__ import annotations

import io

import pytest

from tchatd.domains.auth.models import CodeMessage
from tchatd.observe import logging
from tchatd.providers.sandbox import SandboxCodes, hint


def message(to: str, code: str) -> CodeMessage:
    return CodeMessage(to=to, code=code, subject="s", text=f"code {code}")


async def test_the_last_code_is_shown_to_who_asks_by_identifier() -> None:
    sandbox = SandboxCodes()
    await sandbox.send_code(message("+66812345678", "111111"))
    await sandbox.send_code(message("+66812345678", "222222"))
    await sandbox.send_code(message("a@b.co", "333333"))
    assert sandbox.code_of("+66812345678") == "222222"
    assert sandbox.code_of(" A@B.co ") == "333333"
    assert sandbox.code_of("+66898765432") is None


async def test_the_sandbox_is_bounded() -> None:
    sandbox = SandboxCodes(codes_max=2)
    for i in range(3):
        await sandbox.send_code(message(str(i), f"{i}"))
    assert [sandbox.code_of(str(i)) for i in range(3)] == [None, "1", "2"]


@pytest.mark.parametrize("identifier", ["+66812345678", "somchai@example.com"])
async def test_the_log_has_the_code_and_not_the_identifier(identifier: str) -> None:
    written = io.StringIO()
    logging.configure(format="json", stream=written)
    try:
        await SandboxCodes().send_code(message(identifier, "424242"))
    finally:
        logging.configure()
    assert "424242" in written.getvalue()
    assert identifier not in written.getvalue()
    assert hint(identifier) in written.getvalue()


@pytest.mark.parametrize(
    ("identifier", "shown"),
    [
        ("+66812345678", "+66…78"),
        ("somchai@mail.example.com", "s…@….com"),
        ("a@b.co", "a…@….co"),
    ],
)
def test_a_hint_tells_little(identifier: str, shown: str) -> None:
    assert hint(identifier) == shown
