"""Owns the reads that search makes, over the messaging store in memory; for tests."""

from __future__ import annotations

from collections.abc import Sequence

from tchatd.domains.messaging.finding import FoundRow
from tchatd.domains.messaging.identifiers import message_id, uuid_text
from tchatd.domains.messaging.store import (
    DIALOG_DELETED,
    MESSAGE_DELETED,
    MESSAGE_EDITED,
    MESSAGE_NEW,
    EventRow,
)
from tchatd.domains.search.store import (
    Change,
    DialogDoc,
    Doc,
    MessageDoc,
    MessageKey,
    PersonDoc,
)
from tchatd.stores.documents import (
    FEEDING,
    changed_seq,
    message_doc,
    stored_dialog_doc,
)
from tchatd.stores.memory.messaging import MemoryDialogStore


class MemoryFindingStore:
    """A `FindingStore`."""

    def __init__(self, store: MemoryDialogStore) -> None:
        self._store = store

    async def memberships(self, user_number: int) -> list[int]:
        return [
            row.dialog_number
            for row in self._store.members.values()
            if row.user_number == user_number
            and row.left_seq == 0
            and not self._store.dialogs[row.dialog_number].is_dropped
        ]

    async def pairs(self, user_number: int) -> list[tuple[int, bytes]]:
        dialogs = self._store.dialogs
        return [
            (number, dialogs[number].members)
            for number in await self.memberships(user_number)
            if dialogs[number].type == 0
        ]

    async def found(
        self, user_number: int, keys: Sequence[MessageKey]
    ) -> list[FoundRow]:
        mine = set(await self.memberships(user_number))
        found = []
        for number, seq in keys:
            log = self._store.log.get(number, [])
            if number not in mine or not 1 <= seq <= len(log):
                continue
            event = log[seq - 1]
            if event.kind == MESSAGE_NEW:
                dialog = self._store.dialogs[number]
                id = message_id(event.at_ms, number, seq)
                extra = self._store.members[number, user_number].extra
                found.append(
                    FoundRow(event, uuid_text(dialog.id), id in dialog.pins, extra)
                )
        return found


class MemorySearchSource:
    """A `SearchSource`. persons: for the test to change; people_rows: read so far."""

    def __init__(self, store: MemoryDialogStore) -> None:
        self._store = store
        self.persons: list[PersonDoc] = []
        self.prepared = 0
        self.people_rows = 0

    async def prepare(self) -> None:
        self.prepared += 1

    async def changes(self, after: int, until: int) -> list[Change]:
        new: set[MessageKey] = set()
        docs: dict[MessageKey, Doc] = {}
        dialogs: dict[int, Doc | int] = {}
        for log in self._store.log.values():
            for event in log:
                number = event.dialog_number
                if event.kind not in FEEDING or not after < event.position <= until:
                    continue
                if event.kind == MESSAGE_NEW:
                    docs[number, event.seq] = _doc(event)
                    new.add((number, event.seq))
                elif event.kind in (MESSAGE_EDITED, MESSAGE_DELETED):
                    seq = changed_seq(event.body)
                    docs[number, seq] = _doc(log[seq - 1])
                elif event.kind == DIALOG_DELETED:
                    dialogs[number] = number
                else:
                    dialogs.setdefault(number, self._dialog(number))
        gone = {number for number in dialogs.values() if isinstance(number, int)}
        found: list[Change] = [
            (doc, key in new) for key, doc in docs.items() if key[0] not in gone
        ]
        return found + [(dialog, False) for dialog in dialogs.values()]

    async def messages(
        self, after: MessageKey, until: int, limit: int
    ) -> list[MessageDoc]:
        rows = [
            row
            for number in sorted(self._store.log)
            for row in self._store.log[number]
            if row.kind == MESSAGE_NEW
            and (number, row.seq) > after
            and row.position <= until
        ]
        return [_doc(row) for row in rows[:limit]]

    async def dialogs(self, after: int, limit: int) -> list[DialogDoc]:
        numbers = sorted(number for number in self._store.dialogs if number > after)
        return [self._dialog(number) for number in numbers[:limit]]

    async def people(
        self, after_ms: int, after_number: int, limit: int
    ) -> list[PersonDoc]:
        rows = sorted(
            (
                row
                for row in self.persons
                if (row.updated_ms, row.number) > (after_ms, after_number)
            ),
            key=lambda row: (row.updated_ms, row.number),
        )[:limit]
        self.people_rows += len(rows)
        return rows

    def _dialog(self, number: int) -> DialogDoc:
        row = self._store.dialogs[number]
        return stored_dialog_doc(number, row.name, row.settings, row.is_dropped)


def _doc(row: EventRow) -> MessageDoc:
    return message_doc(row.dialog_number, row.seq, row.at_ms, row.actor, row.body)
