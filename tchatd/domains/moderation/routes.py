"""Owns how reports are offered; declared once."""

from __future__ import annotations

from tchatd.domains.moderation.errors import OwnThing, UserNotFound
from tchatd.domains.moderation.models import (
    ReportDialog,
    Reported,
    ReportMessage,
    ReportUser,
)
from tchatd.domains.moderation.service import Reports
from tchatd.kernel.errors import NotForBots, NotFound, Unavailable
from tchatd.kernel.routing import Limit, Operation

_LIMITS = (Limit(by="user", per_minute=10, burst=20),)
_BODY_BYTES_MAX = 16_384


def operations(reports: Reports) -> list[Operation]:
    return [
        Operation(
            name="message.report",
            summary="Report a message, as it is now, to the operator",
            tag="Moderation",
            command=ReportMessage,
            result=Reported,
            handler=reports.report_message,
            verb="POST",
            path="/messages/{message_id}/report",
            limits=_LIMITS,
            errors=(NotForBots, NotFound, OwnThing, Unavailable),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
        Operation(
            name="user.report",
            summary="Report a user to the operator",
            tag="Moderation",
            command=ReportUser,
            result=Reported,
            handler=reports.report_user,
            verb="POST",
            path="/users/{user_id}/report",
            limits=_LIMITS,
            errors=(NotForBots, UserNotFound, OwnThing, Unavailable),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
        Operation(
            name="dialog.report",
            summary="Report a dialog that the caller is in to the operator",
            tag="Moderation",
            command=ReportDialog,
            result=Reported,
            handler=reports.report_dialog,
            verb="POST",
            path="/dialogs/{dialog_id}/report",
            limits=_LIMITS,
            errors=(NotForBots, NotFound, Unavailable),
            body_bytes_max=_BODY_BYTES_MAX,
        ),
    ]
