"""Owns the comparison of what a device shows with what is true."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from tchatd.domains.messaging.member_models import ListMembers
from tchatd.domains.messaging.models import Dialog, ListDialogs, ListMessages, Message
from tests.support.simulation.device import Device, Kept, seq_of
from tests.support.simulation.truth import Saying, Talk, person
from tests.support.simulation.world import World

PAGES_MAX = 100


async def check_all(world: World) -> None:
    """Every device that is online; what can be asked for, once for each dialog."""
    asked: set[str] = set()
    listed: set[int] = set()
    for device in world.devices:
        if device.connection is not None:
            if device.user not in listed:
                listed.add(device.user)
                await _check_list(world, device.user)
            assert not device.is_syncing
            await _check_device(world, device, asked)


async def _check_device(world: World, device: Device, asked: set[str]) -> None:
    """Exactly the dialogs that the user is in, and everything of them."""
    true = world.truth.of(device.user)
    names = f"{device.name}'s dialogs"
    _same(names, sorted(device.dialogs), sorted(true))
    for id, talk in true.items():
        kept = device.dialogs[id]
        _same(f"{device.name} in {id}", _shown(device, kept), _true(talk, device.user))
        _check_known(device, kept, talk)
        if world.choose.random() < 0.5:
            await _open(world, device, talk, kept)
            seen = [seq for seq in talk.says if not talk.hides(device.user, seq)]
            shown = sorted(seq for seq in kept.messages if not kept.hides(seq))
            _same(f"messages of {id} at {device.name}", shown, seen)
        for seq, message in kept.messages.items():
            if not kept.hides(seq):
                want = _said(talk, seq, talk.says[seq])
                have = _message(message, kept.pins)
                _same(f"{seq} of {id} at {device.name}", have, want)
        if id not in asked:
            asked.add(id)
            await _check_members(world, device, id, talk)


def _same(what: str, have: Any, want: Any) -> None:
    """Says the first difference."""
    if have == want:
        return
    if isinstance(have, dict) and isinstance(want, dict):
        for key in sorted({*have, *want}):
            _same(f"{what}, {key}", have.get(key), want.get(key))
    raise AssertionError(f"{what}: is {have}, should be {want}")


def _shown(device: Device, kept: Kept) -> dict[str, Any]:
    return {
        "name": kept.name or "",
        "slow_mode_s": kept.settings.slow_mode_s,
        "count": kept.count,
        "role": kept.role,
        "last": kept.last,
        "pins": kept.pins,
        "read": kept.read,
        "unread": kept.unread,
        "mentions": sorted(kept.mentions),
        "is_pinned": kept.is_pinned,
        "is_archived": kept.is_archived,
        "draft": kept.draft,
        "is_silenced": kept.is_silenced,
    }


def _true(talk: Talk, user: int) -> dict[str, Any]:
    me = talk.people[user]
    return {
        "name": talk.name,
        "slow_mode_s": talk.slow_mode_s,
        "count": len(talk.people),
        "role": me.role,
        "last": talk.last,
        "pins": talk.pins,
        "read": me.read,
        "unread": len(talk.unread(user)),
        "mentions": talk.mentions(user),
        "is_pinned": me.is_pinned,
        "is_archived": me.is_archived,
        "draft": me.draft,
        "is_silenced": me.is_silenced,
    }


def _check_known(device: Device, kept: Kept, talk: Talk) -> None:
    """What a device has heard of others is so; it need not know a crowd by name, nor
    anybody where it may not."""
    if kept.is_veiled:
        return
    strangers = sorted(kept.people - talk.people.keys())
    _same(f"who is not in {talk.id}, for {device.name}", strangers, [])
    if len(talk.people) < 90:
        _same(f"who is in {talk.id}", sorted(kept.people), sorted(talk.people))
    for other, role in kept.roles.items():
        _same(f"role of {other} at {device.name}", role, talk.people[other].role)
    if len(talk.people) <= 100:
        for other, read in kept.reads.items():
            _same(f"{other} reads, at {device.name}", read, talk.people[other].read)


async def _check_list(world: World, user: int) -> None:
    """The list of their dialogs, page by page, each with the last message they see."""
    true = world.truth.listed(user)
    shown: list[Dialog] = []
    cursor: Any = UNSET
    limit = world.choose.choice((1, 2, 100))
    for _ in range(PAGES_MAX):
        page = await world.read(user, ListDialogs(cursor=cursor, limit=limit))
        shown += page.dialogs
        if cursor is UNSET:
            _same(f"total of {user}", page.total, len(true))
        cursor = page.next_cursor
        if not page.has_more:
            break
    _same(f"dialogs of {user}", [dialog.id for dialog in shown], [t.id for t in true])
    for dialog, talk in zip(shown, true, strict=True):
        newest, message = talk.newest(user), dialog.last_message
        where = f"the last of {talk.id} for {user}"
        _same(where, message.seq if message else 0, newest)
        if message:
            pins = [seq_of(id) for id in dialog.pinned_message_ids]
            want = _said(talk, newest, talk.says[newest])
            _same(where, _message(message, pins), want)
            if _sees(talk, user):
                _check_readers(where, message, talk)


def _sees(talk: Talk, user: int) -> bool:
    """The others, surely; who else may see them is another test's matter."""
    return talk.people[user].role != "guest" and talk.type != "channel"


def _check_readers(where: str, message: Message, talk: Talk) -> None:
    have = sorted(person(reader.user_id) for reader in message.read_by)
    _same(f"who read {where}", have, talk.readers(message.seq))


async def _open(world: World, device: Device, talk: Talk, kept: Kept) -> None:
    """Fetch the whole history, as when somebody scrolls up."""
    id = talk.id
    before: Any = UNSET
    limit = world.choose.choice((3, 100, 100))
    for _ in range(PAGES_MAX):
        command = ListMessages(dialog_id=id, limit=limit, before=before)
        page = await world.read(device.user, command)
        device.take_history(id, page)
        for message in page.messages:
            if _sees(talk, device.user):
                _check_readers(f"{message.seq} of {id}", message, talk)
        if not page.has_more:
            return
        before = UUID(page.messages[-1].id)
    raise AssertionError("the history never ends")


async def _check_members(world: World, device: Device, id: str, talk: Talk) -> None:
    """The list of members, as it is asked for."""
    if not _sees(talk, device.user):
        return
    cursor: Any = UNSET
    found = {}
    for _ in range(PAGES_MAX):
        command = ListMembers(dialog_id=id, limit=100, cursor=cursor)
        page = await world.read(device.user, command)
        for member in page.members:
            found[person(member.user_id)] = (member.role, member.read_seq)
        cursor = page.next_cursor
        if not page.has_more:
            break
    is_small = len(talk.people) <= 100
    want = {
        user: (being.role, being.read if is_small else UNSET)
        for user, being in talk.people.items()
    }
    _same(f"members of {id}", found, want)


def _message(message: Message, pins: list[int]) -> dict[str, Any]:
    content = msgspec.to_builtins(message.content)
    thread = message.thread
    return {
        "sender": person(message.sender_id),
        "origin": person(message.forward.sender_id) if message.forward else 0,
        "text": content.get("text") or content.get("question") or "",
        "mentions": [person(id) for id in message.mentions],
        "reply_to": seq_of(message.reply_to_id) if message.reply_to_id else 0,
        "thread_of": seq_of(message.thread_id) if message.thread_id else 0,
        "is_edited": message.is_edited,
        "is_deleted": message.deleted_at is not UNSET,
        "is_pinned": message.seq in pins,
        "reactions": sorted((r.emoji, person(r.user_id)) for r in message.reactions),
        "counts": {c.emoji: c.count for c in message.reaction_counts or ()},
        "thread": None
        if thread is UNSET
        else (
            thread.count,
            seq_of(thread.last_message_id),
            tuple(person(id) for id in thread.participants),
        ),
        "poll": None
        if message.poll is UNSET
        else (message.poll.counts, message.poll.voters, message.poll.is_closed),
    }


def _said(talk: Talk, seq: int, said: Saying) -> dict[str, Any]:
    return {
        "sender": said.sender,
        "origin": 0 if said.is_deleted else said.origin,
        "text": said.text,
        "mentions": list(dict.fromkeys(said.mentions)),
        "reply_to": said.reply_to,
        "thread_of": said.thread,
        "is_edited": said.is_edited,
        "is_deleted": said.is_deleted,
        "is_pinned": seq in talk.pins,
        "reactions": sorted(said.reactions),
        "counts": {
            emoji: sum(emoji == other for other, _ in said.reactions)
            for emoji, _ in said.reactions
        },
        "thread": talk.thread(seq),
        "poll": None
        if not said.options
        else (
            tuple(
                sum(option in chosen for chosen in said.votes.values())
                for option in range(said.options)
            ),
            len(said.votes),
            said.is_closed,
        ),
    }
