"""Creating, sending and reading: decided once, durable first, told in order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from msgspec import UNSET, structs

from tchatd.domains.messaging import errors
from tchatd.domains.messaging.content import PaymentContent
from tchatd.domains.messaging.events import (
    DialogCreated,
    MessageNew,
    MessageRead,
    TypingStarted,
    TypingStopped,
)
from tchatd.domains.messaging.models import (
    SEQ_MAX,
    Message,
    ReadMessages,
    ReadState,
    SendMessage,
    StartTyping,
    StopTyping,
)
from tchatd.domains.messaging.reach import NoBlocks
from tchatd.domains.messaging.state import StateLimits
from tchatd.journal.errors import JournalFull
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import DomainError, Invalid
from tchatd.kernel.routing import Reply
from tchatd.stores.memory.messaging import MemoryDialogStore
from tests.support.messaging import (
    Core,
    client_id,
    group_of,
    loading,
    shape,
    text,
    user_id,
    with_user,
)

NOW_MS = 1_800_000_000_000


# Creating


async def test_a_dialog_of_two_is_made_once_and_told_to_both(core: Core) -> None:
    dialog = await core.do(1, with_user(2), connection=5)
    assert dialog.participants == (str(user_id(1)), str(user_id(2)))
    assert (dialog.type, dialog.last_seq, dialog.unread_count) == ("user", 1, 0)
    [(members, event, left_out)] = core.hub.told
    assert (members, left_out) == ([1, 2], 5)
    assert event == DialogCreated(dialog.id, 1, dialog)
    for user, command in ((1, with_user(2)), (2, with_user(1)), (2, with_user(1, 2))):
        again = await core.do(user, command)
        assert isinstance(again, Reply)
        assert (again.status, again.body.id) == (200, dialog.id)
    assert core.journal.next_position == 2


async def test_two_who_create_at_once_get_one_dialog(core: Core) -> None:
    answers: list[Any] = []

    async def create(user: int, other: int) -> None:
        answers.append(await core.do(user, with_user(other)))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(create, 1, 2)
            nursery.start_soon(create, 2, 1)
    bodies = [a.body if isinstance(a, Reply) else a for a in answers]
    assert len({body.id for body in bodies}) == 1
    assert [isinstance(answer, Reply) for answer in answers].count(False) == 1


async def test_a_group_shows_100_members_and_counts_all(core: Core) -> None:
    dialog = await core.do(1, group_of([*range(2, 160), 2, 3]))
    assert (len(dialog.participants), dialog.member_count) == (100, 159)
    assert dialog.name == "Lunch"


async def test_a_group_is_made_once_for_one_idempotency_key(core: Core) -> None:
    key = uuid4()
    first = await core.do(1, group_of([2]), idempotency_id=key)
    assert await core.do(1, group_of([2]), idempotency_id=key) == first
    other = await core.do(2, group_of([1]), idempotency_id=key)
    assert other.id != first.id
    assert (await core.do(1, group_of([2]))).id != first.id


async def test_a_dialog_with_nobody_who_exists_is_refused(core: Core) -> None:
    with pytest.raises(errors.InvalidParticipants):
        await core.do(1, with_user(9_999))
    assert core.journal.kept == []


async def test_a_group_has_a_face_and_a_dialog_of_two_has_none(core: Core) -> None:
    face = {"name": "Lunch", "avatar": "https://f.example/a"}
    group = await core.do(1, structs.replace(group_of([2]), **face))
    assert (group.name, group.avatar) == (face["name"], face["avatar"])
    pair = await core.do(1, structs.replace(with_user(2), **face))
    assert (pair.name, pair.avatar) == (UNSET, UNSET)


# Sending


async def test_a_message_is_answered_to_the_sender_and_told_to_the_others(
    core: Core,
) -> None:
    dialog = await core.do(1, with_user(2))
    message = await core.do(1, text(dialog.id, "hi"), connection=7)
    assert isinstance(message, Message)
    assert shape(message)["content"] == {"text": "hi"}
    assert (message.dialog_id, message.seq) == (dialog.id, 2)
    assert message.sender_id == str(user_id(1))
    event = MessageNew(dialog.id, 2, message)
    assert core.hub.told[-1] == ([1, 2], event, 7)


async def test_nobody_is_told_before_it_is_durable(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    told, flushes = len(core.hub.told), core.hub.flushes
    core.auto = False
    answers = [
        core.service.send_message(core.context(1), text(dialog.id)) for _ in range(3)
    ]
    assert all(isinstance(answer, Deferred) for answer in answers)
    assert not any(answer.done for answer in answers)
    assert len(core.hub.told) == told
    core.journal.sync(3)
    assert [answer.done for answer in answers] == [True, True, False]
    core.journal.sync()
    assert [answer.result().seq for answer in answers] == [2, 3, 4]
    assert [event.seq for _, event, _ in core.hub.told[told:]] == [2, 3, 4]
    assert core.hub.flushes == flushes + 2


async def test_a_full_journal_refuses_and_changes_nothing(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    core.journal.room = 0
    with pytest.raises(JournalFull):
        await core.do(1, text(dialog.id, client_id=client_id(NOW_MS)))
    core.journal.room = 100
    message = await core.do(1, text(dialog.id, client_id=client_id(NOW_MS)))
    assert message.seq == 2


async def test_an_outsider_cannot_send_and_nothing_is_journaled(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    for command in (text(dialog.id), text(str(uuid4()))):
        with pytest.raises(errors.DialogNotFound):
            await core.do(3, command)
    assert core.journal.next_position == 2


async def test_times_and_ids_of_a_dialog_never_go_back(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    one = await core.do(1, text(dialog.id))
    core.clock.advance(-60_000)
    two = await core.do(1, text(dialog.id))
    assert (two.created_at, two.id > one.id) == (one.created_at, True)


async def test_mentions_are_of_members_and_counted_once(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    people = [user_id(2), user_id(2), user_id(1)]
    message = await core.do(1, text(dialog.id, mentions=people))
    assert message.mentions == (str(user_id(2)), str(user_id(1)))
    for stranger in (user_id(3), uuid4()):
        with pytest.raises(errors.InvalidMention):
            await core.do(1, text(dialog.id, mentions=[stranger]))


async def test_a_reply_is_to_a_message_of_its_dialog(core: Core) -> None:
    core.state._limits = StateLimits(tail_max=2)
    dialog = await core.do(1, with_user(2))
    other = await core.do(1, with_user(3))
    first = await core.do(1, text(dialog.id))
    foreign = await core.do(1, text(other.id))
    for _ in range(9):
        await core.do(2, text(dialog.id))
    await core.flusher.flush()
    recent = await core.do(2, text(dialog.id, reply_to_id=UUID(first.id)))
    again = await core.do(2, text(dialog.id, reply_to_id=UUID(recent.id)))
    assert (recent.reply_to_id, again.reply_to_id) == (first.id, recent.id)
    forged = UUID(int=UUID(first.id).int ^ 1 << 80)
    created = UUID(int=UUID(first.id).int - 1)
    for id, error in (
        (uuid4(), errors.MessageNotFound),
        (forged, errors.MessageNotFound),
        (created, errors.MessageNotFound),
        (UUID(int=UUID(again.id).int + 1), errors.MessageNotFound),
        (UUID(foreign.id), errors.ForeignReply),
    ):
        with pytest.raises(error):
            await core.do(1, text(dialog.id, reply_to_id=id))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"type": "payment", "content": {}}, errors.ServerMade),
        ({"type": "text", "content": {"text": ""}}, errors.InvalidContent),
        ({"client_id": uuid4()}, Invalid),
    ],
)
async def test_a_message_that_cannot_be_is_refused(
    core: Core, fields: dict[str, Any], error: type[DomainError]
) -> None:
    dialog = await core.do(1, with_user(2))
    for _ in range(2):  # in memory, then loaded
        command = {"type": "text", "content": {"text": "x"}} | fields
        with pytest.raises(error):
            await core.do(1, SendMessage(dialog_id=dialog.id, **command))
        await core.flusher.flush()
    assert core.journal.next_position == 2


@pytest.mark.parametrize("where", ["in memory", "replayed", "read from the store"])
async def test_a_payment_is_shown_once_as_the_server_says(
    core: Core, where: str
) -> None:
    dialog = await core.do(1, with_user(2))
    paid = PaymentContent(250, "THB", str(uuid4()), "ชา")
    id = client_id(NOW_MS)
    sent = await answered(
        core, core.service.send_payment(core.context(1), dialog.id, id, paid)
    )
    if where != "in memory":
        if where == "read from the store":
            await core.flusher.flush()
        core = await core.restart()

    async with loading(core):
        again = await answered(
            core, core.service.send_payment(core.context(1), dialog.id, id, paid)
        )

    assert again.id == sent.id
    assert (again.type, again.sender_id) == ("payment", str(user_id(1)))
    assert msgspec.to_builtins(again.content) == msgspec.to_builtins(paid)


async def answered(core: Core, answer: Any) -> Any:
    """What the handler answers in the end; the disk is quick."""
    while hasattr(type(answer), "__await__") or isinstance(answer, Deferred):
        core.journal.sync()
        answer = answer.result() if isinstance(answer, Deferred) else await answer
    return answer


async def test_a_full_dialog_takes_no_message_and_no_reading(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    sent = await core.do(1, text(dialog.id, client_id=client_id(NOW_MS)))
    state = core.state.find(dialog.id)
    assert state is not None
    state.last_seq = SEQ_MAX
    position = core.journal.next_position
    for user, command in ((1, text(dialog.id)), (2, ReadMessages(UUID(sent.id)))):
        with pytest.raises(errors.DialogFull):
            await core.do(user, command)
    assert core.journal.next_position == position
    # A repeat needs no room.
    assert await core.do(1, text(dialog.id, client_id=client_id(NOW_MS))) == sent


# Exactly once


async def test_a_repeated_client_id_gets_the_first_answer_whatever_it_says(
    core: Core,
) -> None:
    dialog = await core.do(1, with_user(2))
    id = client_id(NOW_MS)
    first = await core.do(1, text(dialog.id, client_id=id))
    assert await core.do(1, text(dialog.id, "other", client_id=id)) == first
    bad = SendMessage(dialog_id=dialog.id, type="payment", content={}, client_id=id)
    assert await core.do(1, bad) == first
    theirs = await core.do(2, text(dialog.id, client_id=id))
    other = await core.do(1, with_user(3))
    elsewhere = await core.do(1, text(other.id, client_id=id))
    assert len({first.id, theirs.id, elsewhere.id}) == 3


@pytest.mark.parametrize("where", ["remembered", "forgotten", "not loaded"])
async def test_a_repeat_is_never_refused_for_what_else_it_says(
    core: Core, where: str
) -> None:
    core.state._limits = StateLimits(client_ids_max=1, tail_max=1)
    dialog = await core.do(1, with_user(2))
    id = client_id(NOW_MS)
    first = shape(await core.do(1, text(dialog.id, client_id=id)))
    if where != "remembered":
        for rest in range(1, 4):
            await core.do(1, text(dialog.id, client_id=client_id(NOW_MS + rest)))
        await core.flusher.flush()
    if where == "not loaded":
        core = await core.restart()
    position = core.journal.next_position
    async with loading(core):
        for changes in (
            {"content": {"text": ""}},
            {"type": "payment"},
            {"mentions": [user_id(3)]},
            {"reply_to_id": uuid4()},
        ):
            again = structs.replace(text(dialog.id, client_id=id), **changes)
            assert shape(await core.do(1, again)) == first
    assert core.journal.next_position == position


async def test_a_repeat_is_not_told_before_the_first_is_durable(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    core.auto = False
    command = text(dialog.id, client_id=client_id(NOW_MS))
    answers = [core.service.send_message(core.context(1), command) for _ in range(2)]
    assert [answer.done for answer in answers] == [False, False]
    core.journal.sync()
    assert answers[0].result() == answers[1].result()
    assert core.service.send_message(core.context(1), command) == answers[0].result()


async def test_an_idempotency_key_names_a_message_as_a_client_id_does(
    core: Core,
) -> None:
    dialog = await core.do(1, with_user(2))
    key = client_id(NOW_MS, 5)
    first = await core.do(1, text(dialog.id), idempotency_id=key)
    assert await core.do(1, text(dialog.id), idempotency_id=key) == first
    named = text(dialog.id, client_id=client_id(NOW_MS, 6))
    assert await core.do(1, named, idempotency_id=key) != first


@pytest.mark.parametrize("seed", range(25))
async def test_client_ids_are_exactly_once_under_any_interleaving(seed: int) -> None:
    """Clocks far off, repeats, flushes, evictions, crashes, restarts, lost answers."""
    choose = random.Random(seed)
    limits = StateLimits(dialogs_max=2, tail_max=2, client_ids_max=2)
    core = Core(limits=limits, seed=seed)
    first: dict[tuple[str, int, UUID], Any] = {}
    dialogs: list[tuple[str, tuple[int, ...]]] = []
    async with loading(core):
        dialogs += [
            ((await core.do(1, with_user(other))).id, (1, other)) for other in (2, 3, 4)
        ]
        large = await core.do(1, group_of(range(2, 120)))
        dialogs.append((large.id, (1, 2, 119)))
    for _ in range(6):
        async with loading(core), trio.open_nursery() as nursery:

            async def send(key: tuple[str, int, UUID], core: Core) -> None:
                answer = shape(
                    await core.do(key[1], text(key[0], str(key[2]), client_id=key[2]))
                )
                assert first.setdefault(key, answer) == answer

            for _ in range(50):
                core.clock.advance(choose.randrange(50))
                now_ms = core.clock.now_ms()
                id, users = choose.choice(dialogs)
                at_ms = choose.choice(
                    [now_ms, now_ms, 5, now_ms + 10**9, now_ms - 10**6]
                )
                key = (id, choose.choice(users), client_id(at_ms, choose.randrange(3)))
                if first and choose.random() < 0.4:
                    key = choose.choice(list(first))
                for _ in range(choose.choice([1, 1, 2])):
                    nursery.start_soon(send, key, core)
                if choose.random() < 0.3:
                    await core.flusher.flush()
                await trio.testing.wait_all_tasks_blocked()
        core = await core.restart(limits=limits)
    assert isinstance(core.store, MemoryDialogStore)
    logs = core.store.log.values()
    assert sum(event.client_id is not None for log in logs for event in log) == len(
        first
    )


# Reading


async def test_reading_moves_forward_only_and_is_told(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    sent = [await core.do(1, text(dialog.id)) for _ in range(4)]
    ids = [UUID(message.id) for message in sent]
    state = await core.do(2, ReadMessages(ids[2]), connection=3)
    assert state == ReadState(dialog.id, sent[2].seq, 1, 6)
    members, event, left_out = core.hub.told[-2]
    assert isinstance(event, MessageRead)
    assert (members, left_out, event.seq) == ([1, 2], 3, 6)
    members, own, left_out = core.hub.told[-1]  # which they may be unable to count
    assert (members, left_out, own.unread_count, own.last_seq) == ([2], 3, 1, 6)
    assert (event.message_id, event.read_seq) == (sent[2].id, sent[2].seq)
    told, position = len(core.hub.told), core.journal.next_position
    for id in (ids[2], ids[0]):
        again = await core.do(2, ReadMessages(id))
        assert again == state
    assert (len(core.hub.told), core.journal.next_position) == (told, position)


async def test_an_old_message_is_read_from_the_store(core: Core) -> None:
    core.state._limits = StateLimits(tail_max=2)
    dialog = await core.do(1, group_of(range(2, 150)))
    sent = [await core.do(1, text(dialog.id)) for _ in range(12)]
    await core.flusher.flush()
    for index in (3, 9):
        state = await core.do(2, ReadMessages(UUID(sent[index].id)))
        assert state.unread_count == 11 - index
    assert core.hub.told[-2][0] == [2]
    assert core.hub.told[-2][1].seq is UNSET
    assert core.hub.told[-1][1].unread_count == 2


async def test_what_is_no_message_of_ones_own_cannot_be_read(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    message = UUID((await core.do(1, text(dialog.id))).id)
    await core.do(2, ReadMessages(message))
    forged = UUID(int=message.int ^ 1 << 90)
    for user, id in (
        (3, message),
        (2, uuid4()),
        (2, forged),
        (2, UUID(int=message.int - 1)),  # the creation's seq
        (2, UUID(int=message.int + 1)),  # the reading's seq
        (2, UUID(int=message.int + 9)),
        (2, UUID(int=message.int + (1 << 33))),
    ):
        with pytest.raises(errors.MessageNotFound):
            await core.do(user, ReadMessages(id))
        await core.flusher.flush()


async def test_a_reader_whose_cursor_had_to_be_loaded_reads_what_is_in_memory(
    core: Core,
) -> None:
    dialog = await core.do(1, group_of(range(2, 120)))
    await core.flusher.flush()
    again = await core.restart()
    async with loading(again):
        sent = UUID((await again.do(1, text(dialog.id))).id)
        with pytest.raises(errors.MessageNotFound):
            await again.do(2, ReadMessages(UUID(int=sent.int ^ 1 << 90)))
        state = await again.do(3, ReadMessages(sent))
    assert state == ReadState(dialog.id, 2, 0, 2)


async def test_the_time_of_a_reading_is_not_before_that_of_the_message(
    core: Core,
) -> None:
    dialog = await core.do(1, with_user(2))
    message = await core.do(1, text(dialog.id))
    core.clock.advance(-60_000)
    await core.do(2, ReadMessages(UUID(message.id)))
    assert core.hub.told[-1][1].at == message.created_at


# Typing


async def test_typing_is_told_to_members_and_not_kept(core: Core) -> None:
    dialog = await core.do(1, with_user(2))
    told, position = len(core.hub.told), core.journal.next_position
    assert shape(await core.do(1, StartTyping(dialog.id), connection=4)) == {}
    await core.do(1, StopTyping(dialog.id))
    me = str(user_id(1))
    assert core.hub.told[told:] == [
        ([1, 2], TypingStarted(dialog.id, me), 4),
        ([1, 2], TypingStopped(dialog.id, me), None),
    ]
    assert core.journal.next_position == position
    with pytest.raises(errors.DialogNotFound):
        await core.do(3, StartTyping(dialog.id))


async def test_typing_is_told_at_once_in_a_dialog_that_had_to_be_loaded(
    core: Core,
) -> None:
    dialog = await core.do(1, with_user(2))
    await core.flusher.flush()
    again = await core.restart()
    async with loading(again):
        await again.do(1, StartTyping(dialog.id))
        with pytest.raises(errors.DialogNotFound):
            await again.do(3, StopTyping(dialog.id))
    event = TypingStarted(dialog.id, str(user_id(1)))
    assert again.hub.told == [([1, 2], event, None)]
    assert again.hub.flushes == 1


@pytest.mark.parametrize(("members", "told"), [(1_000, 1), (1_001, 0)])
async def test_nobody_is_told_who_types_in_a_crowd(members: int, told: int) -> None:
    core = Core(users=members)
    async with loading(core):
        dialog = await core.do(1, group_of(range(2, members + 1)))
        before = len(core.hub.told)
        await core.do(1, StartTyping(dialog.id))
    assert len(core.hub.told) == before + told


class SlowBlocks(NoBlocks):
    """Asks the store, as it is asked of people who are not in memory."""

    async def not_addable(self, adder: int, numbers: Sequence[int]) -> list[int]:
        await trio.lowlevel.checkpoint()
        return []


async def test_two_who_begin_their_dialog_at_once_have_one() -> None:
    core = Core(blocks=SlowBlocks())
    made: list[str] = []

    async def begin(user: int, other: int) -> None:
        dialog = await core.do(user, with_user(other))
        made.append(getattr(dialog, "body", dialog).id)

    async with loading(core), trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(begin, 1, 2)
            nursery.start_soon(begin, 2, 1)
    assert len(set(made)) == 1
    assert len(made) == 10
    assert len(core.journal.kept) == 1
