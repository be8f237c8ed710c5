"""The port's constants are stored: they do not change."""

from __future__ import annotations

from tchatd.domains.messaging import store


def test_what_is_stored_by_its_index_keeps_it() -> None:
    assert store.TYPES == ("user", "group", "channel", "business")
    assert store.ROLES == ("member", "owner", "admin", "guest")
    assert (store.ROLES[store.MEMBER], store.ROLES[store.OWNER]) == ("member", "owner")
    kinds = (store.DIALOG_CREATED, store.MESSAGE_NEW, store.MESSAGE_READ)
    assert kinds == (1, 2, 3)


def test_wants_are_counted() -> None:
    assert len(store.Wants()) == 0
    wants = store.Wants({b"i"}, {1, 2}, {(1, 2)}, {(1, 2, b"c")})
    assert len(wants) == 5
