"""Owns moderation in a box, and what every `ModerationStore` has to do."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec
import trio

from tchatd.domains.moderation.decisions import Decisions
from tchatd.domains.moderation.errors import UserNotFound
from tchatd.domains.moderation.models import (
    Decision,
    NewReport,
    Sanction,
    SeenDialog,
    SeenMessage,
)
from tchatd.domains.moderation.service import Reports
from tchatd.domains.moderation.standing import Standing
from tchatd.domains.moderation.store import ModerationStore
from tchatd.kernel.clock import ManualClock
from tchatd.kernel.crypto import DataKey, Unreadable
from tchatd.kernel.errors import Unavailable
from tchatd.stores.memory.moderation import MemoryModerationStore
from tests.support.messaging import user_id

NOW = 1_800_000_000_000
USERS = {number: user_id(number) for number in range(1, 6)}
MESSAGE, DIALOG = uuid4(), uuid4()


class FakeConversations:
    """messages: by id (sender, message); seen by users 1 and 2."""

    def __init__(self) -> None:
        self.messages: dict[UUID, tuple[int, Any]] = {MESSAGE: (2, {"text": "bad"})}
        self.removed: list[tuple[UUID, str]] = []

    async def seen_message(self, user_number: int, id: UUID) -> SeenMessage:
        await trio.lowlevel.checkpoint()
        if id not in self.messages or user_number > 2:
            raise UserNotFound
        sender, message = self.messages[id]
        return SeenMessage(DIALOG, sender, message)

    async def seen_dialog(self, user_number: int, id: str) -> SeenDialog:
        await trio.lowlevel.checkpoint()
        if id != str(DIALOG) or user_number > 2:
            raise UserNotFound
        return SeenDialog(DIALOG, 1, {"name": "Bad people"})

    async def remove_message(self, id: UUID, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        if id not in self.messages:
            raise UserNotFound
        del self.messages[id]
        self.removed.append((id, reason))


class FakePeople:
    """Everybody has a key until they are erased."""

    def __init__(self) -> None:
        self.keys = {number: DataKey(bytes([number]) * 32) for number in USERS}
        self.signed_out: list[int] = []
        self.bots: set[int] = set()
        self.is_away = False

    async def number_of(self, id: UUID) -> int | None:
        await trio.lowlevel.checkpoint()
        return next((n for n, user in USERS.items() if user == id), None)

    def is_bot(self, user_number: int) -> bool:
        return user_number in self.bots

    async def seal(
        self, user_number: int, plain: bytes, context: bytes
    ) -> bytes | None:
        await trio.lowlevel.checkpoint()
        key = self.keys.get(user_number)
        return None if key is None else key.seal(plain, context)

    async def open(
        self, user_number: int, sealed: bytes, context: bytes
    ) -> bytes | None:
        await trio.lowlevel.checkpoint()
        key = self.keys.get(user_number)
        try:
            return None if key is None else key.open(sealed, context)
        except Unreadable:
            return None

    async def sign_out(self, user_number: int) -> int:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise Unavailable
        self.signed_out.append(user_number)
        return 2


class ModerationWorld:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryModerationStore(USERS)
        self.conversations = FakeConversations()
        self.people = FakePeople()
        self.standing = Standing(self.clock)
        self.reports = Reports(self.store, self.conversations, self.people, self.clock)
        self.decisions = Decisions(
            self.store, self.conversations, self.people, self.standing, self.clock
        )


def new_report(**changes: Any) -> NewReport:
    report = NewReport(
        thing="message",
        thing_id=MESSAGE,
        dialog_id=DIALOG,
        reporter=1,
        accused=2,
        reason="spam",
        comment=b"sealed comment",
        evidence=b"sealed evidence",
        now_ms=NOW,
    )
    return msgspec.structs.replace(report, **changes)


def decision(action: str = "ban", **changes: Any) -> Decision:
    made = Decision(at_ms=NOW, who="root", action=action, thing="user x", reason="why")
    return msgspec.structs.replace(made, **changes)


def sanction(**changes: Any) -> Sanction:
    made = Sanction(number=2, kind="ban", until_ms=0, since_ms=NOW, reason="why")
    return msgspec.structs.replace(made, **changes)


class ModerationStoreContract:
    """The fixture `store` has users 1 and 2, whose ids are in `ids`."""

    async def test_a_report_is_kept_as_it_was_made(
        self, store: ModerationStore, ids: dict[int, UUID]
    ) -> None:
        number = await store.report(new_report())
        report = await store.report_numbered(number)
        assert report is not None
        assert (report.thing, report.thing_id) == ("message", MESSAGE)
        assert (report.reporter_id, report.accused_id) == (ids[1], ids[2])
        assert report.dialog_id == DIALOG
        assert (report.comment, report.evidence) == (
            b"sealed comment",
            b"sealed evidence",
        )
        assert (report.created_ms, report.updated_ms) == (NOW, NOW)
        assert (report.resolved_ms, report.action) == (None, None)
        assert await store.report_numbered(number + 1) is None

    async def test_a_reporter_has_one_report_of_a_thing(
        self, store: ModerationStore
    ) -> None:
        first = await store.report(new_report())
        again = await store.report(
            new_report(reason="fraud", comment=None, now_ms=NOW + 5)
        )
        other = await store.report(new_report(reporter=2))
        by_filter = await store.report(new_report(reporter=0, reason="filter"))
        as_user = await store.report(new_report(thing="user", dialog_id=None))
        assert first == again
        assert len({first, other, by_filter, as_user}) == 4
        reports, total = await store.open_reports(2)
        assert total == 4
        assert [report.number for report in reports] == [first, other]
        assert (reports[0].reason, reports[0].comment) == ("fraud", None)
        assert (reports[0].created_ms, reports[0].updated_ms) == (NOW, NOW + 5)

    async def test_all_reports_of_a_thing_are_resolved_together(
        self, store: ModerationStore
    ) -> None:
        mine = await store.report(new_report())
        await store.report(new_report(reporter=2))
        other = await store.report(new_report(thing_id=uuid4()))
        made = decision("resolve: ban")
        assert await store.resolve("message", MESSAGE, "ban", made) == 2
        assert await store.resolve("message", MESSAGE, "ban", made) == 0
        report = await store.report_numbered(mine)
        assert report is not None
        assert (report.resolved_ms, report.action) == (NOW, "ban")
        reports, _ = await store.open_reports(9)
        assert [report.number for report in reports] == [other]
        assert await store.report(new_report(now_ms=NOW + 9)) == mine
        assert (await store.open_reports(9))[1] == 2

    async def test_sanctions_are_one_of_a_kind_and_noted(
        self, store: ModerationStore
    ) -> None:
        await store.put_sanction(sanction(), decision("ban"))
        longer = sanction(until_ms=NOW + 9)
        await store.put_sanction(longer, decision("ban again"))
        silence = sanction(kind="silence")
        await store.put_sanction(silence, decision("silence"))
        assert await store.sanctions() == [longer, silence]
        assert await store.end_sanction(2, "ban", decision("unban"))
        assert not await store.end_sanction(2, "ban", decision("unban"))
        assert await store.sanctions() == [silence]
        decisions, total = await store.decisions(3)
        assert total == 4
        assert [made.action for made in decisions] == ["unban", "silence", "ban again"]

    async def test_a_note_is_kept_whole(self, store: ModerationStore) -> None:
        made = decision("remove", thing="message m", reason="ไม่ดี", who="root (uid 0)")
        await store.note(made)
        assert await store.decisions(9) == ([made], 1)
