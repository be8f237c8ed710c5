"""Who is banned or silenced, now and until when."""

from __future__ import annotations

import pytest

from tchatd.domains.moderation import standing
from tchatd.domains.moderation.errors import Silenced
from tchatd.domains.moderation.standing import Standing
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.errors import Banned, Unavailable
from tests.support.moderation import NOW, sanction


def test_nobody_is_sanctioned_at_first() -> None:
    of = Standing(ManualClock(NOW))
    of.check_send(2)
    of.check_ban(2)
    assert not of.is_banned(2)


def test_a_ban_holds_for_everything_and_a_silence_for_writing() -> None:
    of = Standing(ManualClock(NOW))
    of.load([sanction(number=2), sanction(number=3, kind="silence")])
    with pytest.raises(Banned, match=r"^This account is banned.$") as refused:
        of.check_send(2)
    assert refused.value.fields == {"scope": "account"}
    with pytest.raises(Banned):
        of.check_ban(2)
    with pytest.raises(Silenced):
        of.check_send(3)
    of.check_ban(3)
    of.check_send(4)
    assert (of.is_banned(2), of.is_banned(3)) == (True, False)
    of.end(2, "ban")
    of.check_send(2)


def test_it_ends_by_itself() -> None:
    clock = ManualClock(NOW)
    of = Standing(clock)
    of.add(sanction(until_ms=NOW + 1_000))
    of.add(sanction(number=3, kind="silence", until_ms=NOW + 1_000))
    until = "2027-01-15T08:00:01.000Z"
    with pytest.raises(Banned, match=until) as banned:
        of.check_ban(2)
    assert banned.value.fields == {"scope": "account", "banned_until": until}
    with pytest.raises(Silenced, match=until) as silenced:
        of.check_send(3)
    assert silenced.value.fields == {"scope": "account", "silenced_until": until}
    clock.advance(999)
    assert of.is_banned(2)
    clock.advance(1)
    of.check_ban(2)
    of.check_send(3)
    assert len(of) == 0


def test_there_is_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "SANCTIONS_MAX", 2)
    of = Standing(ManualClock(NOW))
    of.check_room()
    of.load([sanction(number=2), sanction(number=3)])
    with pytest.raises(Unavailable):
        of.check_room()
