"""Owns the statement that writes events, to be run in the transaction of the change.

    sql, parameters = append_statement(drafts)
    await connection.execute(sql, parameters)

Also in a pipeline. The transaction holds the locks on the aggregates' rows (of a new
aggregate: it has inserted the row), so that versions and positions rise together.
The partition of the month has to be there: `ensure_partitions` of `PostgresEventStore`,
which the daemon calls before it serves, and a test with the time of its clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tchatd.kernel.events import NO_METADATA, EventDraft, EventMetadata
from tchatd.stores.postgres.arrays import array

# The array's order is the order of the positions: a scan of unnest keeps it, and the
# column's default is evaluated row by row.
_APPEND: Final = """
INSERT INTO event_log
    (id, aggregate_id, version, created_ms, domain, type, data, metadata)
SELECT * FROM unnest(
    %(event_id)b::uuid[], %(event_aggregate)b::uuid[], %(event_version)b::bigint[],
    %(event_created)b::bigint[], %(event_domain)b::text[], %(event_type)b::text[],
    %(event_data)b::text[], %(event_metadata)b::text[])
"""
_encode: Final = msgspec.json.Encoder().encode


def append_statement(drafts: Sequence[EventDraft]) -> tuple[str, dict[str, Any]]:
    """The statement and its parameters; positions in the order of the drafts.

    drafts: those of one aggregate in the order of their versions. Of none the statement
    does nothing.
    """
    return _APPEND, {
        "event_id": array("uuid", [draft.id.bytes for draft in drafts]),
        "event_aggregate": array("uuid", [d.aggregate_id.bytes for d in drafts]),
        "event_version": array("bigint", [draft.version for draft in drafts]),
        "event_created": array("bigint", [draft.created_ms for draft in drafts]),
        "event_domain": array("text", [draft.domain for draft in drafts]),
        "event_type": array("text", [draft.type for draft in drafts]),
        "event_data": array("text", [draft.data.decode() for draft in drafts]),
        "event_metadata": array("text", [metadata_text(d.metadata) for d in drafts]),
    }


def metadata_text(metadata: EventMetadata) -> str:
    return "{}" if metadata is NO_METADATA else _encode(metadata).decode()
