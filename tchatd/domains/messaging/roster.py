"""Owns the list of a dialog's members, page by page; changes nothing.

Pages go by user number, which nobody is shown: a cursor is the id of the member that
was looked at last. Memory knows better than the store whom it knows; the store is asked
for the others only, so that reading a channel of 200,000 leaves nothing in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from msgspec import UNSET, UnsetType

from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.dialog import DialogState
from tchatd.domains.messaging.member import Member
from tchatd.domains.messaging.member_models import (
    BanPage,
    DialogMember,
    ListBans,
    ListMembers,
    MemberPage,
)
from tchatd.domains.messaging.rules import check_may
from tchatd.domains.messaging.settings import REMOVE, SEE_MEMBERS, SILENCE
from tchatd.domains.messaging.store import (
    MEMBER,
    ROLES,
    CommandLog,
    DialogStore,
    MemberRow,
    UserDirectory,
)
from tchatd.kernel.bitmaps import BitMap
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.errors import Invalid
from tchatd.kernel.routing import Context

_CURSOR: Final = "m1."
_SCANNED_MAX: Final = 500
"""Members looked through for one page of those who are nothing but members."""
_NEWCOMER: Final = Member()
_UNKNOWN: Final = UUID(int=0)
"""Of a member whose account is gone."""


class Roster:
    def __init__(
        self,
        log: CommandLog,
        store: DialogStore,
        access: DialogAccess,
        directory: UserDirectory,
        clock: Clock,
    ) -> None:
        self._log = log
        self._store = store
        self._access = access
        self._directory = directory
        self._clock = clock

    async def list_members(self, context: Context, command: ListMembers) -> Any:
        """Raises DialogNotFound, NotAllowed, Invalid."""
        user = context.user.user_number
        dialog = await self._access.open(user, command.dialog_id)
        check_may(dialog, dialog.by_number[user], SEE_MEMBERS)
        number = dialog.number
        after = await self._number_in(command.cursor)
        role = None if command.role is UNSET else ROLES.index(command.role)
        limit = command.limit
        rows, scanned, is_cut = await self._rows(user, number, role, after, limit)
        dialog = await self._access.open_number(user, number)
        mine = dialog.by_number[user]
        check_may(dialog, mine, SEE_MEMBERS)
        found = [(of, self._best(dialog, of, rows)) for of in scanned]
        found = [
            (of, member)
            for of, member in found
            if of in dialog.members and role in (None, member.role)
        ]
        if len(found) > limit:
            found, is_cut = found[:limit], True
            last = found[-1][0]
        else:
            last = scanned[-1] if scanned else after
        sees_silence, now_ms = dialog.may(mine, SILENCE), self._clock.now_ms()
        seen, count = dialog.changed_position, len(dialog.members)
        # Copied now: what is shown is as of `seen`, whatever comes while it waits.
        shown = [
            (
                of,
                shown_member(
                    dialog, m, "", now_ms if sees_silence or of == user else None
                ),
            )
            for of, m in found
        ]
        wanted = [of for of, _ in shown] + ([last] if is_cut else [])
        ids = await self._directory.ids_of(wanted) if wanted else {}
        await self._log.durable(seen)
        members = [_named(member, ids.get(of, _UNKNOWN)) for of, member in shown]
        cursor = _cursor_of(wanted, ids) if is_cut else UNSET
        return MemberPage(members, count, cursor is not UNSET, cursor)

    async def list_bans(self, context: Context, command: ListBans) -> Any:
        """Raises DialogNotFound, NotAllowed, Invalid."""
        user = context.user.user_number
        dialog = await self._access.open(user, command.dialog_id)
        check_may(dialog, dialog.by_number[user], REMOVE)
        number = dialog.number
        after = await self._number_in(command.cursor)
        dialog = await self._access.open_number(user, number)
        check_may(dialog, dialog.by_number[user], REMOVE)
        banned = dialog.banned or BitMap()
        seen, total = dialog.changed_position, len(banned)
        page = _page_of(banned, after, command.limit + 1)
        is_cut = len(page) > command.limit
        page = page[: command.limit]
        ids = await self._directory.ids_of(page) if page else {}
        await self._log.durable(seen)
        cursor = _cursor_of(page, ids) if is_cut else UNSET
        return BanPage(
            [str(ids[of]) for of in page if of in ids],
            total,
            cursor is not UNSET,
            cursor,
        )

    async def _rows(
        self, user: int, number: int, role: int | None, after: int, limit: int
    ) -> tuple[dict[int, MemberRow], list[int], bool]:
        """Stored rows of whom memory does not know; who may be on the page, by number;
        whether there may be more behind them."""
        dialog = await self._access.open_number(user, number)
        if dialog.all_loaded or role in (None, MEMBER):
            wanted = limit + 1
            if role is not None:
                wanted = len(dialog.members) if dialog.all_loaded else _SCANNED_MAX
            scanned = _page_of(dialog.members, after, wanted)
            unknown = (
                []
                if dialog.all_loaded
                else [of for of in scanned if of not in dialog.by_number]
            )
            stored = await self._store.members_of(number, unknown) if unknown else []
            is_cut = bool(scanned) and dialog.members.max() > scanned[-1]
            return {row.user_number: row for row in stored}, scanned, is_cut
        stored = await self._store.in_role(
            number, (role,), after=after, limit=limit + 1
        )
        rows = {row.user_number: row for row in stored}
        dialog = await self._access.open_number(user, number)
        is_cut = len(stored) > limit
        until = stored[-1].user_number if is_cut else dialog.members.max()
        new = (
            of
            for of, member in dialog.by_number.items()
            if member.role == role and after < of <= until
        )
        return rows, sorted({*rows, *new}), is_cut

    @staticmethod
    def _best(dialog: DialogState, of: int, rows: dict[int, MemberRow]) -> Member:
        member = dialog.by_number.get(of)
        if member is not None:
            return member
        row = rows.get(of)
        return _NEWCOMER if row is None else Member.of_row(row)

    async def _number_in(self, cursor: Any) -> int:
        """Of the member that was looked at last; 0 to begin with."""
        if cursor is UNSET:
            return 0
        text = cursor.removeprefix(_CURSOR)
        try:
            id = UUID(text)
        except ValueError:
            id = _UNKNOWN
        numbers = await self._directory.numbers_of((id,))
        if text == cursor or id not in numbers:
            raise Invalid(fields={"cursor": "is not from here"})
        return numbers[id]


def shown_member(
    dialog: DialogState, member: Member, user_id: str, now_ms: int | None
) -> DialogMember:
    """now_ms: None for who may not see that they are silenced."""
    until_ms = member.extra.silenced_until_ms
    is_silenced = now_ms is not None and until_ms > now_ms
    is_large = dialog.is_large
    return DialogMember(
        user_id=user_id,
        role=ROLES[member.role],
        joined_seq=member.joined_seq or UNSET,
        read_seq=UNSET if is_large else member.read_seq,
        delivered_seq=UNSET if is_large else member.delivered_seq,
        silenced_until=rfc3339(until_ms) if is_silenced else UNSET,
    )


def _cursor_of(looked_at: list[int], ids: Mapping[int, UUID]) -> str | UnsetType:
    """To go on behind the last of them; whose account is gone has no id."""
    last = next((of for of in reversed(looked_at) if of in ids), None)
    return UNSET if last is None else f"{_CURSOR}{ids[last]}"


def _named(member: DialogMember, id: UUID) -> DialogMember:
    return DialogMember(
        str(id),
        member.role,
        member.joined_seq,
        member.read_seq,
        member.delivered_seq,
        member.silenced_until,
    )


def _page_of(people: BitMap, after: int, count: int) -> list[int]:
    """The first `count` numbers above `after`."""
    start = people.rank(after)
    page: Iterable[int] = people[start : start + count]
    return list(page)
