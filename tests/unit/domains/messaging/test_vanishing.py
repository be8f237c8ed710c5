"""Messages whose time is over are deleted once, in order, however late."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from msgspec import UNSET

from tchatd.domains.messaging.events import DialogDeleted, MessageDeleted
from tchatd.domains.messaging.member_models import DropDialog
from tchatd.domains.messaging.message_commands import GetMessage, React
from tchatd.domains.messaging.models import (
    CreateDialog,
    Dialog,
    GetDialog,
    ListDialogs,
    ListEvents,
    ListMessages,
    Sync,
)
from tchatd.domains.messaging.records import DeleteRecord, MessageRecord, decode
from tchatd.domains.messaging.rows import message_of
from tchatd.domains.messaging.settings import DialogSettings
from tchatd.domains.messaging.vanishing import PAUSE_MS, POLL_S, Vanishing
from tchatd.journal.errors import JournalFull
from tchatd.kernel.encoding import encode_json
from tchatd.kernel.errors import DomainError
from tests.support.beside import Around, around
from tests.support.messaging import shape, text, user_id

HOUR_S = 3_600


@pytest.fixture
async def site() -> AsyncIterator[Around]:
    async with around() as site:
        yield site


def vanishing(site: Around) -> Vanishing:
    core = site.core
    return Vanishing(core.state, core.applier, core.store, core.clock)


async def short_lived(site: Around, after_s: int = HOUR_S) -> Dialog:
    made: Dialog = await site.core.do(
        1,
        CreateDialog(
            type="group",
            name="Secrets",
            participants=[user_id(2)],
            settings=DialogSettings(vanish_after_s=after_s),
        ),
    )
    return made


async def shown(site: Around, dialog_id: str) -> list[dict[str, Any]]:
    page = await site.core.do(2, ListMessages(dialog_id=dialog_id))
    return list(reversed(shape(page)["messages"]))


def deleted(site: Around) -> list[int]:
    return [event.message_seq for _, event in site.told(MessageDeleted)]


async def test_a_message_goes_when_its_time_is_over_and_not_before(
    site: Around,
) -> None:
    dialog = await short_lived(site)
    message = await site.core.do(1, text(dialog.id, "psst"))
    assert message.expires_at is not UNSET
    await site.core.flusher.flush()
    site.core.clock.advance(HOUR_S * 1_000 - 1)
    now_ms = site.core.clock.now_ms()
    assert await vanishing(site).vanish_due() == now_ms + POLL_S * 1_000
    assert deleted(site) == []
    site.core.clock.advance(1)
    await vanishing(site).vanish_due()
    [(who, event)] = site.told(MessageDeleted)
    assert who == [1, 2]
    assert (event.message_id, event.user_id) == (message.id, UNSET)
    [after] = await shown(site, dialog.id)
    assert after["content"] == {}
    assert "deleted_at" in after
    assert (await site.core.do(2, ListMessages(dialog_id=dialog.id))).has_more is False


async def test_other_messages_stay(site: Around) -> None:
    group = await site.group(1, 2)
    dialog = await short_lived(site, 24 * HOUR_S)
    await site.core.do(1, text(group.id))
    await site.core.do(1, text(dialog.id))
    await site.core.flusher.flush()
    site.core.clock.advance(HOUR_S * 1_000)
    await vanishing(site).vanish_due()
    assert deleted(site) == []


async def test_what_is_deleted_already_is_passed_over(site: Around) -> None:
    """The store learns of a deletion when it is flushed."""
    dialog = await short_lived(site)
    await site.core.do(1, text(dialog.id))
    await site.core.flusher.flush()
    site.core.clock.advance(HOUR_S * 1_000)
    for _ in range(3):
        await vanishing(site).vanish_due()
    assert len(deleted(site)) == 1
    await site.core.flusher.flush()
    await vanishing(site).vanish_due()
    assert len(deleted(site)) == 1


async def test_after_a_long_time_away_they_go_batch_by_batch_the_oldest_first(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchatd.domains.messaging.vanishing.BATCH_MAX", 7)
    dialog = await short_lived(site)
    for number in range(20):
        site.core.clock.advance(1_000)
        await site.core.do(1, text(dialog.id, f"{number}"))
    await site.core.flusher.flush()
    restarted = await site.core.restart(users=300)
    async with around(restarted, site) as again:
        again.core.clock.advance(30 * 86_400_000)
        job, pauses = vanishing(again), []
        for _ in range(3):
            now_ms = again.core.clock.now_ms()
            pauses.append(await job.vanish_due() - now_ms)
            await again.core.flusher.flush()
        assert pauses == [PAUSE_MS, PAUSE_MS, POLL_S * 1_000]
        assert deleted(again) == list(range(2, 22))
        assert await job.vanish_due()
        assert len(deleted(again)) == 20
        assert await again.core.store.expired(1 << 60, 9) == []


async def test_a_thread_counts_one_less_also_when_its_root_is_not_in_memory(
    site: Around,
) -> None:
    dialog = await short_lived(site, 24 * HOUR_S)
    root = await site.core.do(1, text(dialog.id, "root"))
    number = site.core.state.find(dialog.id).number  # type: ignore[union-attr]
    site.core.clock.advance(1_000)
    for seconds in (0, HOUR_S):
        site.core.clock.advance(1_000 * seconds)
        record = MessageRecord(
            number,
            site.core.clock.now_ms(),
            2,
            user_id(2).bytes,
            "text",
            {"text": "reply"},
            thread_seq=root.seq,
        )
        await site.core.settle(site.core.applier.submit(record))
    await site.core.flusher.flush()
    restarted = await site.core.restart(users=300)
    async with around(restarted, site) as again:
        again.core.clock.advance((24 * HOUR_S - HOUR_S) * 1_000)
        await vanishing(again).vanish_due()
        assert deleted(again) == [root.seq, root.seq + 1]
        await again.core.flusher.flush()
        messages = await shown(again, dialog.id)
        assert [m["content"] for m in messages] == [{}, {}, {"text": "reply"}]
        assert messages[0]["thread"]["count"] == 1


async def test_a_crash_in_between_deletes_nothing_twice(site: Around) -> None:
    dialog = await short_lived(site)
    for _ in range(3):
        await site.core.do(1, text(dialog.id))
    await site.core.flusher.flush()
    site.core.clock.advance(HOUR_S * 1_000)
    await vanishing(site).vanish_due()
    restarted = await site.core.restart(users=300)
    async with around(restarted, site) as again:
        await vanishing(again).vanish_due()
        assert deleted(again) == []
        records = [entry for entry in again.core.journal.kept if _is_deletion(entry)]
        assert len(records) == 3


def _is_deletion(payload: bytes) -> bool:
    return isinstance(decode(payload), DeleteRecord)


async def test_what_goes_in_a_dropped_dialog_is_told_to_nobody(site: Around) -> None:
    """The last that its members hear of it is that."""
    dialog = await short_lived(site)
    for _ in range(2):
        await site.core.do(1, text(dialog.id, "psst"))
    before = (await site.core.do(2, Sync())).cursor
    await site.core.do(1, DropDialog(dialog.id))
    await site.core.flusher.flush()
    after = (await site.core.do(2, Sync(cursor=before))).cursor
    site.core.clock.advance(HOUR_S * 1_000)
    await vanishing(site).vanish_due()
    for flushed in (False, True):
        if flushed:
            await site.core.flusher.flush()
        page = await site.core.do(2, Sync(cursor=before))
        assert [type(event) for event in page.events] == [DialogDeleted]
        assert page.left == [dialog.id]
        page = await site.core.do(2, Sync(cursor=after))
        assert (page.events, page.left) == ([], UNSET)
    assert deleted(site) == []
    assert await site.core.store.expired(1 << 60, 9) == []
    rows = await site.core.store.events(1, 0, 99, 99)
    assert not any("psst" in row.body for row in rows)


async def test_a_full_journal_is_met_again_later(site: Around) -> None:
    dialog = await short_lived(site)
    await site.core.do(1, text(dialog.id))
    await site.core.flusher.flush()
    site.core.clock.advance(HOUR_S * 1_000)
    room, site.core.journal.room = site.core.journal.room, 0
    with pytest.raises(JournalFull):
        await vanishing(site).vanish_due()
    site.core.journal.room = room
    await vanishing(site).vanish_due()
    assert len(deleted(site)) == 1


async def test_one_that_fails_unforeseen_rests_and_others_go(
    site: Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tchatd.domains.messaging.vanishing.BATCH_MAX", 1)
    dialog = await short_lived(site)
    for _ in range(2):
        await site.core.do(1, text(dialog.id))
        site.core.clock.advance(1)
    await site.core.flusher.flush()
    site.core.clock.advance(HOUR_S * 1_000)
    job, submit = vanishing(site), site.core.applier.submit
    reported: list[Exception] = []
    job.quarantine.report = reported.append

    def fails(record: DeleteRecord, connection: int | None = None) -> Any:
        assert record.seq != 2
        return submit(record, connection)

    monkeypatch.setattr(site.core.applier, "submit", fails)
    for _ in range(2):
        await job.vanish_due()
    assert deleted(site) == [3]
    assert len(reported) == 1


# Nobody sees an expired message, though the job is behind


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("evicted", [False, True])
async def test_reading_shows_nothing_of_it_from_that_moment_on(
    site: Around, flushed: bool, evicted: bool
) -> None:
    dialog = await short_lived(site)
    cursor = (await site.core.do(2, Sync())).cursor
    message = await site.core.do(1, text(dialog.id, "psst"))
    if flushed:
        await site.core.flusher.flush()
    core = await site.core.restart(users=300) if evicted else site.core
    async with around(core, site) as again:
        again.core.clock.advance(HOUR_S * 1_000 - 1)
        for answer in await everything(again, dialog.id, message.id, cursor):
            assert "psst" in answer
        again.core.clock.advance(1)
        for answer in await everything(again, dialog.id, message.id, cursor):
            assert "psst" not in answer
            assert '"deleted_at"' in answer


async def everything(
    site: Around, dialog_id: str, message_id: str, cursor: str
) -> list[str]:
    """Every way to read a message, in JSON."""
    answers = [
        await site.core.do(2, command)
        for command in (
            GetDialog(dialog_id),
            ListDialogs(),
            ListMessages(dialog_id=dialog_id),
            ListEvents(dialog_id=dialog_id),
            Sync(),
            Sync(cursor=cursor),
        )
    ]
    get = GetMessage(UUID(message_id))
    answers.append(await site.ask(2, site.core.service.messages.get_message, get))
    return [encode_json(answer).decode() for answer in answers]


async def test_an_expired_message_is_as_its_deletion_will_leave_it(
    site: Around,
) -> None:
    dialog = await short_lived(site)
    first = await site.core.do(1, text(dialog.id))
    reply = UUID(first.id)
    await site.core.do(1, text(dialog.id, "psst", reply_to_id=reply))
    await site.core.flusher.flush()
    site.core.clock.advance(HOUR_S * 1_000)
    before = await shown(site, dialog.id)
    await vanishing(site).vanish_due()
    assert await shown(site, dialog.id) == before
    row = (await site.core.store.events(1, 1, 2, 9))[0]
    assert shape(message_of(row, dialog.id, (), site.core.clock.now_ms())) == before[0]


async def test_nobody_reacts_to_what_is_over(site: Around) -> None:
    dialog = await short_lived(site)
    message = await site.core.do(1, text(dialog.id))
    site.core.clock.advance(HOUR_S * 1_000)
    command = React(message_id=UUID(message.id), emoji="👍")
    with pytest.raises(DomainError):
        await site.ask(2, site.core.service.reacting.react, command)
