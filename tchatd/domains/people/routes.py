"""Owns the declarations of people's operations; holds no rule."""

from __future__ import annotations

from tchatd.domains.people import models
from tchatd.domains.people.errors import (
    ListFull,
    NotYourself,
    PersonNotFound,
    PreferencesTooLarge,
    TooManyNumbers,
)
from tchatd.domains.people.service import PeopleService
from tchatd.kernel.errors import NotForBots, Unavailable
from tchatd.kernel.routing import Context, Limit, Operation

_BODY_BYTES_MAX = 16_384
_TAG = "users"


def routes(service: PeopleService) -> list[Operation]:
    handlers = _Handlers(service)
    return [*_own(handlers), *_contacts(handlers), *_blocks(handlers)]


class _Handlers:
    """Each takes what its operation's command carries to the service."""

    def __init__(self, service: PeopleService) -> None:
        self.service = service
        settings = service.settings
        changes, reads = (
            settings.changes_per_user_minute,
            settings.reads_per_user_minute,
        )
        self.changes = (Limit(by="user", per_minute=changes, burst=changes),)
        self.reads = (Limit(by="user", per_minute=reads, burst=reads),)

    async def profile(
        self, context: Context, command: models.GetPerson
    ) -> models.PublicProfile:
        return await self.service.profile(context.user, command.id)

    async def privacy(
        self, context: Context, command: models.Nothing
    ) -> models.Privacy:
        return await self.service.privacy(context.user)

    async def change_privacy(
        self, context: Context, command: models.ChangePrivacy
    ) -> models.Privacy:
        return await self.service.change_privacy(context.user, command)

    async def preferences(
        self, context: Context, command: models.Nothing
    ) -> models.Preferences:
        return await self.service.preferences(context.user)

    async def set_preferences(
        self, context: Context, command: models.SetPreferences
    ) -> models.Preferences:
        return await self.service.set_preferences(context.user, command.preferences)

    async def contacts(
        self, context: Context, command: models.ListPeople
    ) -> models.PersonPage:
        return await self.service.contacts(context.user, command)

    async def add_contacts(
        self, context: Context, command: models.AddContacts
    ) -> models.AddedContacts:
        return await self.service.add_contacts(context.user, command)

    async def remove_contacts(
        self, context: Context, command: models.RemovePeople
    ) -> models.ListTotal:
        return await self.service.remove_contacts(context.user, command.user_ids)

    async def blocks(
        self, context: Context, command: models.ListPeople
    ) -> models.PersonPage:
        return await self.service.blocks(context.user, command)

    async def add_blocks(
        self, context: Context, command: models.AddBlocks
    ) -> models.ListTotal:
        return await self.service.add_blocks(context.user, command)

    async def remove_blocks(
        self, context: Context, command: models.RemovePeople
    ) -> models.ListTotal:
        return await self.service.remove_blocks(context.user, command.user_ids)


def _own(handlers: _Handlers) -> list[Operation]:
    return [
        Operation(
            name="users.get",
            summary="A person, as far as they let you see them",
            tag=_TAG,
            verb="GET",
            path="/users/{id}",
            command=models.GetPerson,
            result=models.PublicProfile,
            handler=handlers.profile,
            limits=handlers.reads,
            errors=(PersonNotFound, Unavailable),
        ),
        Operation(
            name="users.privacy.get",
            summary="Who may see what of you",
            tag=_TAG,
            verb="GET",
            path="/users/privacy",
            command=models.Nothing,
            result=models.Privacy,
            handler=handlers.privacy,
            errors=(Unavailable,),
        ),
        Operation(
            name="users.privacy.put",
            summary="Change who may see what of you; what is absent stays",
            tag=_TAG,
            verb="PUT",
            path="/users/privacy",
            command=models.ChangePrivacy,
            result=models.Privacy,
            handler=handlers.change_privacy,
            limits=handlers.changes,
            errors=(Unavailable,),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
        Operation(
            name="users.preferences.get",
            summary="What your clients keep here",
            tag=_TAG,
            verb="GET",
            path="/users/preferences",
            command=models.Nothing,
            result=models.Preferences,
            handler=handlers.preferences,
            limits=handlers.reads,
            errors=(Unavailable,),
        ),
        Operation(
            name="users.preferences.put",
            summary="Keep this for your clients, in place of what there was",
            tag=_TAG,
            verb="PUT",
            path="/users/preferences",
            command=models.SetPreferences,
            result=models.Preferences,
            handler=handlers.set_preferences,
            limits=handlers.changes,
            errors=(PreferencesTooLarge, Unavailable),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
    ]


def _contacts(handlers: _Handlers) -> list[Operation]:
    return [
        Operation(
            name="users.contacts.list",
            summary="Your contacts, in pages",
            tag=_TAG,
            verb="GET",
            path="/users/contacts",
            command=models.ListPeople,
            result=models.PersonPage,
            handler=handlers.contacts,
            limits=handlers.reads,
            errors=(PersonNotFound, Unavailable),
        ),
        Operation(
            name="users.contacts.add",
            summary="Add people by id or phone number; who is not here is left out",
            tag=_TAG,
            verb="POST",
            path="/users/contacts",
            command=models.AddContacts,
            result=models.AddedContacts,
            handler=handlers.add_contacts,
            limits=handlers.changes,
            errors=(
                NotForBots,
                PersonNotFound,
                NotYourself,
                ListFull,
                TooManyNumbers,
                Unavailable,
            ),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
        Operation(
            name="users.contacts.remove",
            summary="Remove people from your contacts",
            tag=_TAG,
            verb="DELETE",
            path="/users/contacts",
            command=models.RemovePeople,
            result=models.ListTotal,
            handler=handlers.remove_contacts,
            limits=handlers.changes,
            errors=(Unavailable,),
        ),
    ]


def _blocks(handlers: _Handlers) -> list[Operation]:
    return [
        Operation(
            name="users.blocks.list",
            summary="People you have blocked, in pages",
            tag=_TAG,
            verb="GET",
            path="/users/blocks",
            command=models.ListPeople,
            result=models.PersonPage,
            handler=handlers.blocks,
            limits=handlers.reads,
            errors=(PersonNotFound, Unavailable),
        ),
        Operation(
            name="users.blocks.add",
            summary="Block people: they cannot write to you, add you, or see you here",
            tag=_TAG,
            verb="POST",
            path="/users/blocks",
            command=models.AddBlocks,
            result=models.ListTotal,
            handler=handlers.add_blocks,
            limits=handlers.changes,
            errors=(PersonNotFound, NotYourself, ListFull, Unavailable),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
        Operation(
            name="users.blocks.remove",
            summary="Block people no more",
            tag=_TAG,
            verb="DELETE",
            path="/users/blocks",
            command=models.RemovePeople,
            result=models.ListTotal,
            handler=handlers.remove_blocks,
            limits=handlers.changes,
            errors=(Unavailable,),
        ),
    ]
