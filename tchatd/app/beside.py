"""Owns what is built beside the messaging core: invites, names, schedules, shops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from tchatd.app.jobs import Alarm, report
from tchatd.app.settings import Messaging
from tchatd.domains.messaging import beside_routes
from tchatd.domains.messaging.access import DialogAccess
from tchatd.domains.messaging.business import Businesses
from tchatd.domains.messaging.business_replies import BusinessReplies
from tchatd.domains.messaging.invites import Invites
from tchatd.domains.messaging.joining import Joining
from tchatd.domains.messaging.leftovers import Leftovers
from tchatd.domains.messaging.public_names import PublicNames
from tchatd.domains.messaging.reach import Blocks
from tchatd.domains.messaging.scheduling import MessageToSend, Scheduling
from tchatd.domains.messaging.state import MessagingState
from tchatd.domains.messaging.store import (
    CommandLog,
    DialogStore,
    Gate,
    Hub,
    UserDirectory,
)
from tchatd.domains.messaging.vanishing import Vanishing
from tchatd.journal.flusher import Feed
from tchatd.kernel.clock import Clock
from tchatd.kernel.crypto import KeyedHash
from tchatd.kernel.ids import Ids
from tchatd.kernel.routing import Operation
from tchatd.stores.postgres.business import PostgresBusinessStore
from tchatd.stores.postgres.invites import PostgresInviteStore
from tchatd.stores.postgres.pool import Pool
from tchatd.stores.postgres.public_names import PostgresNameStore
from tchatd.stores.postgres.scheduling import PostgresScheduleStore

FOLLOW_IDLE_S = 600.0


class Beside:
    """send: `message.send`. invite_key: changing it ends every invite link."""

    def __init__(
        self,
        pool: Pool,
        state: MessagingState,
        log: CommandLog,
        dialogs: DialogStore,
        directory: UserDirectory,
        hub: Hub,
        clock: Clock,
        ids: Ids,
        *,
        send: MessageToSend,
        invite_key: KeyedHash,
        settings: Messaging,
        blocks: Blocks,
        gate: Gate,
    ) -> None:
        access = DialogAccess(state, log)
        invite_store = PostgresInviteStore(pool)
        self.joining = Joining(
            state,
            log,
            access,
            dialogs,
            invite_store,
            directory,
            hub,
            clock,
            settings.join_requests_max,
        )
        self.invites = Invites(
            self.joining,
            invite_store,
            invite_key,
            clock,
            ids,
            invites_max=settings.invites_max,
        )
        names = PostgresNameStore(pool)
        self.leftovers = Leftovers(invite_store, names, settings.public_name_held_s)
        self.public_names = PublicNames(
            self.joining,
            names,
            dialogs,
            log,
            clock,
            settings.public_name_held_s,
        )
        business_store = PostgresBusinessStore(pool)
        self.businesses = Businesses(
            self.joining, access, state, business_store, log, directory, clock, blocks
        )
        self.businesses.gate = gate
        self.replies = BusinessReplies(
            self.businesses,
            self.joining,
            state,
            business_store,
            log,
            directory,
            send,
            clock,
            settings.away_reply_s,
        )
        schedule_store = PostgresScheduleStore(pool)
        self.scheduling = Scheduling(
            self.joining,
            schedule_store,
            log,
            directory,
            hub,
            send,
            clock,
            ids,
            settings.scheduled_max,
            settings.scheduled_ahead_s,
        )
        sending = Alarm("scheduled messages", self.scheduling.send_due, clock)
        self.scheduling.wake = sending.wake
        self.vanishing = Vanishing(state, log, dialogs, clock)
        vanishing = Alarm("vanishing messages", self.vanishing.vanish_due, clock)
        replying = Alarm("business replies", self.replies.reply_due, clock)
        self.replies.wake = replying.wake
        following = Alarm("business agents", self.replies.follow, clock, FOLLOW_IDLE_S)
        self.businesses.follow = following.wake
        self.scheduling.quarantine.report = partial(report, "scheduled messages")
        self.vanishing.quarantine.report = partial(report, "vanishing messages")
        self.replies.quarantine.report = partial(report, "businesses")
        self.alarms = [sending, vanishing, replying, following]

    @property
    def feeds(self) -> list[Feed]:
        """Who follows the log (journal/flusher.py)."""
        return [self.replies, self.leftovers]

    @property
    def prunes(self) -> Mapping[str, Callable[[], Awaitable[int]]]:
        """What is done again and again until nothing is left (jobs.py)."""
        return {
            "invite claims": self.invites.sweep,
            "invites": self.invites.prune,
            "unsettled names": self.public_names.repair,
            "public names": self.public_names.prune,
            "scheduled": self.scheduling.prune,
        }

    @property
    def operations(self) -> list[Operation]:
        return [
            *beside_routes.invite_operations(self.invites, self.joining),
            *beside_routes.name_operations(self.public_names),
            *beside_routes.scheduling_operations(self.scheduling),
            *beside_routes.business_operations(self.businesses),
        ]
