"""Messages stand before the gate: sanctions, then rates, then filters."""

from __future__ import annotations

from typing import Any

import pytest

from tchatd.domains.messaging.content import Button
from tchatd.domains.moderation.errors import (
    ContentRefused,
    Silenced,
    TooManyMessages,
)
from tchatd.domains.moderation.filters import (
    Filter,
    Links,
    Words,
    WordsAndLinks,
    patterns_of,
)
from tchatd.domains.moderation.gate import Gate
from tchatd.domains.moderation.rates import Rates
from tchatd.domains.moderation.standing import Standing
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Banned
from tests.support.messaging import Core, loading, text, with_user
from tests.support.moderation import sanction

CASINO = Words(patterns_of(["refuse: casino", "flag: lottery"]))


def gate(filter: Filter | None = None, user: int = 0) -> tuple[Gate, Standing]:
    standing = Standing(ManualClock())
    rates = Rates(user_per_minute=user, dialog_per_minute=0, keys_max=9)
    return Gate(standing, rates, filter), standing


def test_an_open_gate_lets_everything_through() -> None:
    made, _ = gate()
    made.admit(1, 7, {"text": "casino"})
    made.admit_edit(1, {"text": "casino"})
    made.check_open(1)


@pytest.mark.parametrize(("kind", "error"), [("ban", Banned), ("silence", Silenced)])
def test_who_is_sanctioned_neither_writes_nor_edits_nor_opens(
    kind: Any, error: type[Exception]
) -> None:
    made, standing = gate()
    standing.add(sanction(number=1, kind=kind))
    with pytest.raises(error):
        made.admit(1, 7, {})
    with pytest.raises(error):
        made.admit_edit(1, {})
    with pytest.raises(error):
        made.check_open(1)
    made.admit(2, 7, {})


def test_a_listed_word_is_refused_and_a_flagged_one_passes() -> None:
    made, _ = gate(CASINO)
    for content in ({"text": "casino"}, {"caption": "casino"}):
        with pytest.raises(ContentRefused):
            made.admit(1, 7, content)
        with pytest.raises(ContentRefused):
            made.admit_edit(1, content)
    made.admit(1, 7, {"text": "lottery"})
    made.admit(1, 7, {"latitude": 1, "longitude": 2})


def test_what_buttons_say_and_where_they_lead_is_looked_at() -> None:
    made, _ = gate(WordsAndLinks(CASINO, Links("refuse", [])))
    casino = ((Button("hello", data="1"), Button("casino", data="2")),)
    link = ((Button("hello", url="https://evil.example"),),)
    for buttons in (casino, link):
        with pytest.raises(ContentRefused):
            made.admit(1, 7, {"text": "hello"}, buttons)
        with pytest.raises(ContentRefused):
            made.admit_edit(1, {"text": "hello"}, buttons)
    made.admit(1, 7, {"text": "hello"}, ((Button("hello", data="casino"),),))


def test_names_and_notes_are_looked_at() -> None:
    made, standing = gate(CASINO)
    with pytest.raises(ContentRefused):
        made.check_name("casino")
    with pytest.raises(ContentRefused):
        made.admit_text(1, "casino")
    made.admit_text(1, "hello")
    standing.add(sanction(number=1, kind="silence"))
    with pytest.raises(Silenced):
        made.admit_text(1, "hello")


def test_a_bot_may_not_write_while_its_owner_may_not() -> None:
    made, standing = gate()
    standing.owner_of = {21: 1}.get
    standing.add(sanction(number=1, kind="silence"))
    with pytest.raises(Silenced):
        made.admit(21, 7, {"text": "hello"})
    with pytest.raises(Silenced):
        made.admit_edit(21, {"text": "hello"})
    made.admit(22, 7, {"text": "hello"})
    standing.end(1, "silence")
    made.admit(21, 7, {"text": "hello"})


def test_rates_are_of_new_messages_alone() -> None:
    made, _ = gate(user=1)
    made.admit(1, 7, {})
    with pytest.raises(TooManyMessages):
        made.admit(1, 7, {})
    made.admit_edit(1, {})


async def test_a_refused_message_is_not_accepted_and_a_repeat_is_not_asked() -> None:
    core = Core()
    made, standing = gate(CASINO)
    core.service.gate = made
    async with loading(core):
        dialog = await core.do(1, with_user(2))
        count = len(core.journal.kept)
        with pytest.raises(ContentRefused):
            await core.do(1, text(dialog.id, "casino"))
        assert len(core.journal.kept) == count
        sent = await core.do(1, text(dialog.id, "hello"))
        assert sent.seq == 2
        standing.add(sanction(number=1))
        with pytest.raises(Banned):
            await core.do(1, text(dialog.id, "hello"))
        with pytest.raises(Banned):
            await core.do(1, with_user(3))
