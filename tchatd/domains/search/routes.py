"""Owns the declarations of search operations; holds no rule."""

from __future__ import annotations

from tchatd.domains.search.errors import IndexUnavailable
from tchatd.domains.search.models import (
    DialogHits,
    MessageHits,
    PeopleHits,
    SearchDialogs,
    SearchMessages,
    SearchPeople,
)
from tchatd.domains.search.service import SearchService
from tchatd.kernel.errors import NotForBots, NotFound, Unavailable
from tchatd.kernel.routing import Limit, Operation


def operations(service: SearchService) -> list[Operation]:
    of = service.settings
    limits = (Limit(by="user", per_minute=of.per_user_minute, burst=of.burst),)
    return [
        Operation(
            name="messages.search",
            summary="Messages that say so, in the dialogs you are in",
            tag="search",
            verb="GET",
            path="/messages/search",
            command=SearchMessages,
            result=MessageHits,
            handler=service.search_messages,
            limits=limits,
            errors=(IndexUnavailable, Unavailable, NotFound),
        ),
        Operation(
            name="dialogs.search",
            summary="Your dialogs and public channels by name",
            tag="search",
            verb="GET",
            path="/dialogs/search",
            command=SearchDialogs,
            result=DialogHits,
            handler=service.search_dialogs,
            limits=limits,
            errors=(IndexUnavailable, Unavailable),
        ),
        Operation(
            name="users.search",
            summary="People by name, or by a whole phone number or email",
            tag="search",
            verb="GET",
            path="/users/search",
            command=SearchPeople,
            result=PeopleHits,
            handler=service.search_people,
            limits=limits,
            errors=(IndexUnavailable, Unavailable, NotForBots),
        ),
    ]
