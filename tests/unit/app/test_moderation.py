"""How moderation is put together, and the list of words that an operator keeps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from tchatd.app import secrets
from tchatd.app.configuration import ConfigurationError, load
from tchatd.app.moderation import AuthPeople, words_of
from tchatd.app.wiring import Core, make_pool
from tchatd.domains.moderation.errors import ContentRefused
from tchatd.edge.hub import Hub
from tchatd.kernel.clock import SystemClock
from tchatd.kernel.errors import Banned
from tchatd.observe.metrics import Metrics
from tests.support.moderation import sanction


def core_of(tmp_path: Path, **environment: str) -> Core:
    given = {f"TCHATD_{name}": value for name, value in environment.items()}
    settings = load(None, given | {"TCHATD_DATA": str(tmp_path / "data")})
    metrics = Metrics(process=False)
    return Core(
        settings,
        secrets.load(settings, {}),
        make_pool(settings, "host=127.0.0.1 port=1 dbname=x"),
        "n",
        metrics,
        Hub(metrics),
        SystemClock(),
    )


async def test_sign_in_messages_and_bots_ask_the_same_standing(tmp_path: Path) -> None:
    core = core_of(tmp_path)
    moderation = core.moderation
    assert core.messaging.gate is moderation.gate
    assert core.messaging.editing.gate is moderation.gate
    assert moderation.gate.filter is None
    moderation.standing.add(sanction(number=7))
    with pytest.raises(Banned):
        core.auth.sanctions.check_ban(7)
    with pytest.raises(Banned):
        moderation.gate.admit(7, 1, {})
    assert core.bots.service.is_barred(7)
    with pytest.raises(Banned):
        core.bots.service.check_said(7, "hello")
    assert moderation.standing.owner_of == core.bots.service.owner_of
    await core.bots.aclose()


async def test_the_words_file_is_read_at_the_start_and_again(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text("refuse: casino\n")
    core = core_of(tmp_path, MODERATION_WORDS_FILE=str(path), MODERATION_LINKS="refuse")
    gate = core.moderation.gate
    for text in ("casino", "see https://a.example"):
        with pytest.raises(ContentRefused):
            gate.admit(1, 1, {"text": text})
    path.write_text("# none\nflag: lottery\n")
    assert core.moderation.reload() == 1
    gate.admit(1, 1, {"text": "casino"})
    path.write_text("casino")
    with pytest.raises(ConfigurationError, match="line 1"):
        core.moderation.reload()
    gate.admit(1, 1, {"text": "lottery"})
    await core.bots.aclose()


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert words_of("") is None
    with pytest.raises(ConfigurationError, match="No such file"):
        words_of(str(tmp_path / "nothing"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"moderation\.words_file"):
        words_of(str(tmp_path / "binary"))


async def test_what_is_sealed_for_nobody_is_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = core_of(tmp_path)
    people = AuthPeople(core.auth, core.bots)

    async def nobody(number: int) -> None:
        return None

    async def unreadable(number: int) -> Any:
        return SimpleNamespace(id=uuid4(), data_key=b"not wrapped by us")

    for record in (nobody, unreadable):
        monkeypatch.setattr(core.auth, "record", record)
        assert await people.seal(7, b"x", b"c") is None
        assert await people.open(7, b"x", b"c") is None
    await core.bots.aclose()
