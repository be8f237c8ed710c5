"""Columns come and go in the order of the port's structs."""

from __future__ import annotations

import msgspec
import pytest

from tchatd.domains.messaging.store import (
    CursorRow,
    DialogChange,
    DialogProfile,
    DialogRow,
    EventColumns,
    EventRow,
    MemberRow,
    MessageUpdate,
)
from tchatd.stores.postgres import columns

TYPES = [
    (columns.MEMBER_TYPES, MemberRow),
    (columns.CHANGE_TYPES, DialogChange),
    (columns.CURSOR_TYPES, CursorRow),
    (columns.EVENT_TYPES, EventColumns),
    (columns.UPDATE_TYPES, MessageUpdate),
    ({"number": "bigint", **columns.PROFILE_TYPES}, DialogProfile),
]


@pytest.mark.parametrize(("types", "struct"), TYPES)
def test_every_field_has_its_column_in_order(
    types: dict[str, str], struct: type[msgspec.Struct]
) -> None:
    assert tuple(types) == struct.__struct_fields__


def test_rows_are_read_in_the_order_of_their_structs() -> None:
    events = columns.EVENT.replace("e.", "").split(", ")
    assert tuple(events) == EventRow.__struct_fields__
    assert len(events) == columns.EVENT_COLUMNS
    dialogs = columns.DIALOG.replace("d.", "").split(", ")
    assert len(dialogs) == columns.DIALOG_COLUMNS
    assert (*dialogs[:14], "last_message", *dialogs[14:]) == (
        DialogRow.__struct_fields__
    )
