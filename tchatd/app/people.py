"""Owns what the people domain asks of sign-in: neither knows the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UnsetType

from tchatd.domains.auth.models import User
from tchatd.domains.auth.service import AuthService
from tchatd.domains.people.models import Card


class AuthUsers:
    """The `Users` of people, from sign-in's profiles."""

    def __init__(self, auth: AuthService) -> None:
        self._auth = auth

    async def cards(self, numbers: Sequence[int]) -> Mapping[int, Card]:
        found = await self._auth.profiles.of(numbers)
        return {number: _card(number, user) for number, user in found.items()}

    async def numbers_of_phones(self, phones: Sequence[str]) -> Mapping[str, int]:
        return await self._auth.numbers_of_phones(phones)


def _card(number: int, user: User) -> Card:
    return Card(
        number=number,
        id=user.id,
        name=user.name,
        avatar=None if isinstance(user.avatar, UnsetType) else user.avatar,
        phone=None if isinstance(user.phone, UnsetType) else user.phone,
        is_verified=user.is_verified,
        is_bot=user.is_bot is True,
    )
