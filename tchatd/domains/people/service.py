"""Owns what a user decides about others, and what they are shown of them.

A change is in the store before it is answered; then whoever watches is told by
presence what they may see now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET

from tchatd.domains.people import rules
from tchatd.domains.people.circles import Circles
from tchatd.domains.people.errors import (
    ListFull,
    NotYourself,
    PersonNotFound,
    TooManyNumbers,
)
from tchatd.domains.people.models import (
    AddBlocks,
    AddContacts,
    AddedContact,
    AddedContacts,
    Card,
    ChangePrivacy,
    Circle,
    ListPeople,
    ListTotal,
    PersonPage,
    Preferences,
    Privacy,
    PublicProfile,
    Relation,
)
from tchatd.domains.people.rules import PeopleSettings
from tchatd.domains.people.store import (
    CircleLoader,
    Directory,
    PeopleStore,
    Presence,
    Seen,
    Users,
)
from tchatd.kernel.clock import Clock
from tchatd.kernel.errors import NotForBots
from tchatd.kernel.lru import Lru
from tchatd.kernel.routing import Caller

DAY_MS: Final = 86_400_000
COUNTED_MAX: Final = 100_000
"""Users whose looked up phone numbers are counted; the longest unused start anew."""


class PeopleService:
    """presence: set once it is built, before the first command. is_bot: likewise,
    whether a user is a program."""

    def __init__(
        self,
        *,
        store: PeopleStore,
        loader: CircleLoader,
        users: Users,
        directory: Directory,
        clock: Clock,
        settings: PeopleSettings,
    ) -> None:
        self.settings = settings
        self.circles = Circles(loader, settings.circles_max, settings.plain_max)
        self.presence: Presence | None = None
        self.is_bot: Callable[[int], bool] = lambda number: False
        self._store, self._users, self._directory = store, users, directory
        self._clock = clock
        self._looked_up: Lru[int, tuple[int, int]] = Lru(COUNTED_MAX)

    # Privacy and preferences.

    async def privacy(self, caller: Caller) -> Privacy:
        return (await self.circles.get(caller.user_number)).privacy

    async def change_privacy(self, caller: Caller, command: ChangePrivacy) -> Privacy:
        number = caller.user_number
        circle = await self._store.change_privacy(number, command)
        seen_anew = command.last_seen is not UNSET
        await self._changed(number, circle, seen_anew=seen_anew)
        return circle.privacy

    async def preferences(self, caller: Caller) -> Preferences:
        kept = await self._store.preferences(caller.user_number)
        return Preferences(msgspec.Raw(kept or b"{}"))

    async def set_preferences(
        self, caller: Caller, preferences: dict[str, object]
    ) -> Preferences:
        """Raises: PreferencesTooLarge."""
        text = rules.preferences_text(preferences)
        await self._store.set_preferences(caller.user_number, text)
        return Preferences(msgspec.Raw(text))

    # Profiles.

    async def profile(self, caller: Caller, id: UUID) -> PublicProfile:
        """Raises: PersonNotFound."""
        number = (await self._directory.numbers_of([id])).get(id)
        if number is None:
            raise PersonNotFound
        profiles = await self.profiles(caller.user_number, [number])
        if not profiles:
            raise PersonNotFound
        return profiles[number]

    async def profiles(
        self, viewer: int, numbers: Sequence[int]
    ) -> dict[int, PublicProfile]:
        """Those who exist, as `viewer` may see them, in the order of `numbers`."""
        cards = await self._users.cards(numbers)
        present = [number for number in numbers if number in cards]
        assert self.presence is not None
        seen = await self.presence.look(viewer, present)
        own = await self.circles.get(viewer)
        await self.circles.load(present)
        shown = {}
        for number in present:
            theirs = await self.circles.get(number)
            shown[number] = _shown(viewer, own, cards[number], theirs, seen[number])
        return shown

    # Contacts and blocks.

    async def contacts(self, caller: Caller, command: ListPeople) -> PersonPage:
        return await self._page(caller, command, "contacts")

    async def blocks(self, caller: Caller, command: ListPeople) -> PersonPage:
        return await self._page(caller, command, "blocks")

    async def add_contacts(self, caller: Caller, command: AddContacts) -> AddedContacts:
        """Raises: NotForBots, PersonNotFound, NotYourself, ListFull, TooManyNumbers."""
        viewer = caller.user_number
        self._check_person(viewer)
        by_phone = await self._findable(viewer, command.phones)
        by_id = await self._directory.numbers_of(command.user_ids)
        wanted = list(dict.fromkeys([*by_id.values(), *by_phone.values()]))
        if not wanted and command.user_ids:
            raise PersonNotFound
        if wanted == [viewer]:
            raise NotYourself
        wanted = [number for number in wanted if number != viewer]
        circle = await self._store.add_contacts(
            viewer, wanted, self._clock.now_ms(), self.settings.contacts_max
        )
        if circle is None:
            raise ListFull(f"At most {self.settings.contacts_max} contacts.")
        seen_anew = circle.privacy.last_seen == "contacts"
        await self._changed(viewer, circle, seen_anew=seen_anew)
        phones = {number: phone for phone, number in by_phone.items()}
        profiles = await self.profiles(viewer, wanted)
        added = [
            AddedContact(person=person, phone=phones.get(number, UNSET))
            for number, person in profiles.items()
        ]
        return AddedContacts(added, len(circle.contacts))

    async def remove_contacts(self, caller: Caller, ids: Sequence[UUID]) -> ListTotal:
        """Whoever is not there is no reason to refuse: they are gone afterwards."""
        number = caller.user_number
        found = await self._directory.numbers_of(ids)
        circle = await self._store.remove_contacts(number, list(found.values()))
        seen_anew = circle.privacy.last_seen == "contacts"
        await self._changed(number, circle, seen_anew=seen_anew)
        return ListTotal(len(circle.contacts))

    async def add_blocks(self, caller: Caller, command: AddBlocks) -> ListTotal:
        """Raises: PersonNotFound, NotYourself, ListFull."""
        number = caller.user_number
        found = await self._directory.numbers_of(command.user_ids)
        if not found:
            raise PersonNotFound
        if number in found.values():
            raise NotYourself
        circle = await self._store.add_blocks(
            number,
            list(found.values()),
            self._clock.now_ms(),
            self.settings.blocks_max,
        )
        if circle is None:
            raise ListFull(f"At most {self.settings.blocks_max} blocked people.")
        await self._changed(number, circle, seen_anew=True)
        return ListTotal(len(circle.blocked))

    async def remove_blocks(self, caller: Caller, ids: Sequence[UUID]) -> ListTotal:
        number = caller.user_number
        found = await self._directory.numbers_of(ids)
        circle = await self._store.remove_blocks(number, list(found.values()))
        await self._changed(number, circle, seen_anew=True)
        return ListTotal(len(circle.blocked))

    async def _changed(self, number: int, circle: Circle, *, seen_anew: bool) -> None:
        self.circles.put(number, circle)
        if seen_anew and self.presence is not None:
            await self.presence.reconsider(number)

    async def _page(
        self, caller: Caller, command: ListPeople, which: Literal["contacts", "blocks"]
    ) -> PersonPage:
        viewer, after = caller.user_number, 0
        if command.after is not None:
            found = await self._directory.numbers_of([command.after])
            if command.after not in found:
                raise PersonNotFound
            after = found[command.after]
        read = self._store.contacts if which == "contacts" else self._store.blocks
        rows: list[Relation] = await read(viewer, after, command.limit + 1)
        circle = await self.circles.get(viewer)
        listed = circle.contacts if which == "contacts" else circle.blocked
        numbers = [row.number for row in rows[: command.limit]]
        profiles = await self.profiles(viewer, numbers)
        has_more = len(rows) > command.limit
        return PersonPage(list(profiles.values()), len(listed), has_more)

    async def _findable(self, viewer: int, phones: Sequence[str]) -> dict[str, int]:
        """Those who let this caller find them by their number."""
        if not phones:
            return {}
        self.count_lookups(viewer, len(phones))
        found = await self._users.numbers_of_phones(phones)
        await self.circles.load(list(found.values()))
        findable = {}
        for phone, number in found.items():
            circle = await self.circles.get(number)
            if rules.admits(circle.privacy.findable_by_phone, circle, viewer):
                findable[phone] = number
        return findable

    def _check_person(self, number: int) -> None:
        if self.is_bot(number):
            raise NotForBots

    def count_lookups(self, number: int, count: int) -> None:
        """Of people by phone or email. Raises: NotForBots, TooManyNumbers."""
        self._check_person(number)
        day, used = self._clock.now_ms() // DAY_MS, 0
        before = self._looked_up.get(number)
        if before is not None and before[0] == day:
            used = before[1]
        if used + count > self.settings.phones_per_user_day:
            left_ms = (day + 1) * DAY_MS - self._clock.now_ms()
            raise TooManyNumbers(retry_after_s=max(1, left_ms // 1000))
        self._looked_up.put(number, (day, used + count))


def _shown(
    viewer: int, own: Circle, card: Card, theirs: Circle, seen: Seen
) -> PublicProfile:
    """What the caller may see of one person; all of it of themselves."""
    is_self = card.number == viewer
    privacy = theirs.privacy
    photo = is_self or rules.admits(privacy.profile_photo, theirs, viewer)
    phone = is_self or rules.admits(privacy.phone, theirs, viewer)
    return PublicProfile(
        id=card.id,
        name=card.name,
        status=seen.status,
        is_verified=card.is_verified,
        is_contact=card.number in own.contacts,
        is_blocked=card.number in own.blocked,
        avatar=card.avatar if photo and card.avatar is not None else UNSET,
        phone=card.phone if phone and card.phone is not None else UNSET,
        last_seen=seen.last_seen,
        last_seen_about=seen.last_seen_about,
        is_bot=card.is_bot or UNSET,
    )
