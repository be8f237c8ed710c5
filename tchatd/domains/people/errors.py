"""Owns what can be refused to somebody who looks at, adds or blocks people."""

from __future__ import annotations

from tchatd.kernel.errors import DomainError, ErrorKind, NotFound, RateLimited


class PersonNotFound(NotFound):
    code, title = "person-not-found", "No such person"


class ListFull(DomainError):
    """A list of contacts or blocks has its largest size; nothing was added."""

    code, kind = "list-full", ErrorKind.UNPROCESSABLE
    title = "The list is full"


class NotYourself(DomainError):
    code, kind = "not-yourself", ErrorKind.UNPROCESSABLE
    title = "This is about other people"


class TooManyNumbers(RateLimited):
    """So that nobody finds out who is here by trying all numbers."""

    code, title = "too-many-numbers", "Too many phone numbers were looked up today"


class PreferencesTooLarge(DomainError):
    code, kind = "preferences-too-large", ErrorKind.TOO_LARGE
    title = "Preferences are small"
