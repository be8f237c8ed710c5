"""Who may do what: each role, action and type of dialog, through the service itself.

The table is written out here a second time, from what docs/http.md tells client
authors, so that it is not the code that says what is right.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product
from typing import Any, Final
from uuid import UUID

import pytest

from tchatd.domains.messaging import business as b
from tchatd.domains.messaging import invites as i
from tchatd.domains.messaging import joining as j
from tchatd.domains.messaging import member_models as m
from tchatd.domains.messaging import message_commands as c
from tchatd.domains.messaging import public_names as n
from tchatd.domains.messaging.errors import Silenced, SlowMode
from tchatd.domains.messaging.models import (
    CreateDialog,
    Dialog,
    Message,
    SendMessage,
    StartTyping,
)
from tchatd.domains.messaging.scheduling import ScheduleMessage
from tchatd.domains.messaging.settings import DialogSettings
from tchatd.domains.messaging.state import StateLimits
from tchatd.kernel.errors import DomainError, ErrorKind
from tchatd.kernel.routing import Context
from tests.support.beside import Around, around
from tests.support.messaging import Core, group_of, loading, text, user_id

OWNER, ACTOR, VICTIM, STRANGER = 1, 2, 3, 4
SOON: Final = datetime(2027, 2, 1, tzinfo=UTC)

TABLE: Final = """
              user    group                     channel                   business
              member  owner admin member guest  owner admin member guest  owner admin member guest
write         yes     yes   yes   yes    yes    yes   yes   -      -      yes   yes   yes    yes
type          yes     yes   yes   yes    yes    yes   yes   -      -      yes   yes   yes    yes
forward_in    yes     yes   yes   yes    yes    yes   yes   -      -      yes   yes   yes    yes
forward_out   yes     yes   yes   yes    yes    yes   yes   yes    yes    yes   yes   yes    yes
schedule      yes     yes   yes   yes    yes    yes   yes   -      -      yes   yes   yes    yes
edit          yes     yes   yes   yes    yes    yes   yes   -      -      yes   yes   yes    yes
react         yes     yes   yes   yes    yes    yes   yes   yes    -      yes   yes   yes    yes
vote          yes     yes   yes   yes    yes    yes   yes   yes    -      yes   yes   yes    yes
close_own     yes     yes   yes   yes    yes    yes   yes   yes    yes    yes   yes   yes    yes
close_any     -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
pin           yes     yes   yes   yes    -      yes   yes   -      -      yes   yes   yes    -
unpin         yes     yes   yes   yes    -      yes   yes   -      -      yes   yes   yes    -
delete_any    -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
history_own   yes     yes   yes   yes    yes    yes   yes   yes    yes    yes   yes   yes    yes
history_any   -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
see_members   yes     yes   yes   yes    -      yes   yes   -      -      yes   yes   yes    yes
who_reacted   yes     yes   yes   yes    -      yes   yes   -      -      yes   yes   yes    yes
add           -       yes   yes   yes    -      yes   yes   -      -      yes   yes   -      -
list_requests -       yes   yes   yes    -      yes   yes   -      -      yes   yes   -      -
let_in        -       yes   yes   yes    -      yes   yes   -      -      yes   yes   -      -
turn_away     -       yes   yes   yes    -      yes   yes   -      -      yes   yes   -      -
invite        -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
list_invites  -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
revoke        -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
add_admin     -       yes   yes   -      -      yes   -     -      -      yes   yes   -      -
add_owner     -       -     -     -      -      -     -     -      -      -     -     -      -
remove        -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
remove_owner  -       -     -     -      -      -     -     -      -      -     -     -      -
ban           -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
ban_stranger  -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
end_ban       -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
list_bans     -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
promote       -       yes   yes   -      -      yes   -     -      -      yes   yes   -      -
demote_owner  -       -     -     -      -      -     -     -      -      -     -     -      -
hand_over     -       yes   -     -      -      yes   -     -      -      yes   -     -      -
silence       -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
silence_owner -       -     -     -      -      -     -     -      -      -     -     -      -
rename        -       yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
configure     yes     yes   yes   -      -      yes   yes   -      -      yes   yes   -      -
name          -       yes   yes   -      -      yes   yes   -      -      -     -     -      -
give_up_name  -       yes   yes   -      -      yes   yes   -      -      -     -     -      -
quick_replies -       -     -     -      -      -     -     -      -      yes   yes   yes    -
assign        -       -     -     -      -      -     -     -      -      yes   yes   yes    -
close         -       -     -     -      -      -     -     -      -      yes   yes   yes    -
drop          yes     yes   -     -      -      yes   -     -      -      yes   -     -      -
leave         -       yes   yes   yes    yes    yes   yes   yes    yes    yes   yes   yes    yes
keep          yes     yes   yes   yes    yes    yes   yes   yes    yes    yes   yes   yes    yes
"""  # noqa: E501  # a table


def allowed() -> dict[tuple[str, str, str], bool]:
    """(action, type, role) -> whether."""
    head, roles, *lines = TABLE.strip("\n").splitlines()
    types, columns = head.split(), roles.split()
    of_column = [
        (types[0] if index == 0 else types[1 + (index - 1) // 4], role)
        for index, role in enumerate(columns)
    ]
    return {
        (action, *of_column[index]): cell == "yes"
        for action, *cells in (line.split() for line in lines)
        for index, cell in enumerate(cells)
    }


ALLOWED: Final = allowed()


class Scene:
    """A dialog of an owner, the actor in some role, and a guest; of the first two a
    message and a poll, the owner's pinned; elsewhere a group of the actor's."""

    def __init__(self, core: Core, dialog: Dialog) -> None:
        self.core = core
        self.dialog = dialog
        self.mine = self.theirs = UUID(int=0)
        self.my_poll = self.their_poll = UUID(int=0)
        self.elsewhere, self.said_elsewhere = "", UUID(int=0)
        self.code = "none"

    async def say(self, user: int) -> tuple[UUID, UUID]:
        """A message and a poll."""
        said = await self.core.do(user, text(self.dialog.id))
        poll = SendMessage(
            dialog_id=self.dialog.id,
            type="poll",
            content={"question": "Where?", "options": ["here", "there"]},
        )
        asked = await self.core.do(user, poll)
        return UUID(said.id), UUID(asked.id)

    async def beside(self, site: Around) -> None:
        """The stranger waits to be let in, and there is an invite where one may be."""
        stranger = self.core.context(STRANGER)
        state = self.core.state.find(self.dialog.id)
        assert state is not None
        await site.joining.ask(stranger, state.number, None)
        if self.dialog.type != "user":
            made = await do(site, OWNER, i.CreateInvite(dialog_id=self.dialog.id))
            self.code = made.code

    def change(self, user: int, **fields: Any) -> m.ChangeMember:
        return m.ChangeMember(dialog_id=self.dialog.id, user_id=user_id(user), **fields)

    def add(self, role: Any) -> m.AddMembers:
        return m.AddMembers(
            dialog_id=self.dialog.id, user_ids=[user_id(STRANGER)], role=role
        )

    def remove(self, user: int, *, ban: bool = False) -> m.RemoveMember:
        return m.RemoveMember(dialog_id=self.dialog.id, user_id=user_id(user), ban=ban)

    def command(self, action: str) -> Any:
        id = self.dialog.id
        commands: dict[str, Callable[[], Any]] = {
            "write": lambda: text(id),
            "type": lambda: StartTyping(id),
            "forward_in": lambda: c.ForwardMessage(
                message_id=self.said_elsewhere, dialog_id=id
            ),
            "forward_out": lambda: c.ForwardMessage(
                message_id=self.theirs, dialog_id=self.elsewhere
            ),
            "schedule": lambda: ScheduleMessage(
                dialog_id=id, send_at=SOON, type="text", content={"text": "a"}
            ),
            "edit": lambda: c.EditMessage(message_id=self.mine, content={"text": "b"}),
            "react": lambda: c.React(
                message_id=self.theirs, emoji="\N{THUMBS UP SIGN}"
            ),
            "vote": lambda: c.Vote(message_id=self.their_poll, options=[1]),
            "close_own": lambda: c.ClosePoll(self.my_poll),
            "close_any": lambda: c.ClosePoll(self.their_poll),
            "pin": lambda: c.PinMessage(self.theirs),
            "unpin": lambda: c.UnpinMessage(self.their_poll),
            "delete_any": lambda: c.DeleteMessage(message_id=self.theirs),
            "history_own": lambda: c.GetMessageHistory(self.mine),
            "history_any": lambda: c.GetMessageHistory(self.theirs),
            "see_members": lambda: m.ListMembers(dialog_id=id),
            "who_reacted": lambda: c.ListReactions(message_id=self.theirs),
            "add": lambda: self.add("member"),
            "list_requests": lambda: j.ListJoinRequests(dialog_id=id),
            "let_in": lambda: j.DecideJoinRequest(id, user_id(STRANGER), True),
            "turn_away": lambda: j.DecideJoinRequest(id, user_id(STRANGER), False),
            "invite": lambda: i.CreateInvite(dialog_id=id),
            "list_invites": lambda: i.ListInvites(id),
            "revoke": lambda: i.RevokeInvite(id, self.code),
            "add_admin": lambda: self.add("admin"),
            "add_owner": lambda: self.add("owner"),
            "remove": lambda: self.remove(VICTIM),
            "remove_owner": lambda: self.remove(OWNER),
            "ban": lambda: self.remove(VICTIM, ban=True),
            "ban_stranger": lambda: m.BanUser(id, user_id(STRANGER)),
            "end_ban": lambda: m.EndBan(id, user_id(STRANGER)),
            "list_bans": lambda: m.ListBans(dialog_id=id),
            "promote": lambda: self.change(VICTIM, role="member"),
            "demote_owner": lambda: self.change(OWNER, role="member"),
            "hand_over": lambda: self.change(VICTIM, role="owner"),
            "silence": lambda: self.change(VICTIM, silenced_until=SOON),
            "silence_owner": lambda: self.change(OWNER, silenced_until=SOON),
            "rename": lambda: m.ChangeDialog(dialog_id=id, name="x"),
            "configure": lambda: m.ChangeDialog(
                dialog_id=id, settings=m.SettingsChange(vanish_after_s=3_600)
            ),
            "name": lambda: n.SetPublicName(id, "our_name"),
            "give_up_name": lambda: n.DropPublicName(id),
            "quick_replies": lambda: b.ListQuickReplies(id),
            "assign": lambda: b.Assign(id, user_id(OWNER)),
            "close": lambda: b.SetConversation(id, True),
            "drop": lambda: m.DropDialog(id),
            "leave": lambda: self.remove(ACTOR),
            "keep": lambda: m.ChangeOwn(dialog_id=id, is_pinned=True),
        }
        return commands[action]()


async def scene(core: Core, type: str, role: str, **settings: Any) -> Scene:
    people = [user_id(ACTOR)] if type == "user" else []
    dialog = await core.do(
        OWNER,
        CreateDialog(
            type=type,  # type: ignore[arg-type]  # one of them
            name="x",
            participants=people,
        ),
    )
    if type != "user":
        for user, first in ((ACTOR, "member"), (VICTIM, "guest")):
            await core.do(
                OWNER,
                m.AddMembers(
                    dialog_id=dialog.id,
                    user_ids=[user_id(user)],
                    role=first,  # type: ignore[arg-type]
                ),
            )
    made = Scene(core, dialog)
    made.theirs, made.their_poll = await made.say(OWNER)
    await core.do(OWNER, c.PinMessage(made.their_poll))
    if type != "user":
        # As an admin, so that they have a message in a channel, too.
        await core.do(OWNER, made.change(ACTOR, role="admin"))
        made.mine, made.my_poll = await made.say(ACTOR)
        await core.do(OWNER, made.change(ACTOR, role=role, hands_over=False))
    else:
        made.mine, made.my_poll = await made.say(ACTOR)
    made.elsewhere = (await core.do(ACTOR, group_of([5]))).id
    said = await core.do(ACTOR, text(made.elsewhere))
    made.said_elsewhere = UUID(said.id)
    if settings:
        change = m.SettingsChange(**settings)
        await core.do(OWNER, m.ChangeDialog(dialog_id=dialog.id, settings=change))
    return made


async def do(site: Around, user: int, command: Any) -> Any:
    handlers: dict[type, Callable[[Context, Any], Any]] = {
        ScheduleMessage: site.scheduling.schedule,
        j.ListJoinRequests: site.joining.list_requests,
        j.DecideJoinRequest: site.joining.decide,
        i.CreateInvite: site.invites.create,
        i.ListInvites: site.invites.list,
        i.RevokeInvite: site.invites.revoke,
        n.SetPublicName: site.names.set,
        n.DropPublicName: site.names.drop,
        b.ListQuickReplies: site.businesses.quick_replies,
        b.Assign: site.businesses.assign,
        b.SetConversation: site.businesses.set_conversation,
    }
    if type(command) in handlers:
        return await site.ask(user, handlers[type(command)], command)
    return await site.core.do(user, command)


async def is_refused(site: Around, command: Any) -> bool:
    try:
        await do(site, ACTOR, command)
    except DomainError as error:
        if error.kind not in (ErrorKind.FORBIDDEN, ErrorKind.INVALID):
            raise
        return True
    return False


@pytest.mark.parametrize(("action", "type", "role"), ALLOWED)
async def test_a_role_may_what_the_table_says(
    action: str, type: str, role: str
) -> None:
    core = Core(users=10)
    async with around(core) as site:
        made = await scene(core, type, role)
        await made.beside(site)
        at = core.journal.next_position
        refused = await is_refused(site, made.command(action))
        assert refused != ALLOWED[action, type, role]
        if refused:
            assert core.journal.next_position == at


LEASTS = ("owner", "admin", "member", "guest")
MOVED = {
    "who_may_write": ("write", "type", "forward_in", "schedule"),
    "who_may_add": ("list_requests", "let_in", "add"),
    "who_may_pin": ("pin", "unpin"),
}
OTHERS = ("write", "react", "pin", "add", "invite", "rename", "list_bans")
MOVES = list(product(("group", "channel", "business"), LEASTS, MOVED, LEASTS))


@pytest.mark.parametrize(("type", "role", "setting", "least"), MOVES)
async def test_settings_move_one_right_and_no_other(
    type: str, role: str, setting: str, least: str
) -> None:
    core = Core(users=10)
    async with around(core) as site:
        made = await scene(core, type, role, **{setting: least})
        await made.beside(site)
        may = LEASTS.index(role) <= LEASTS.index(least)
        for action in MOVED[setting]:
            refused = await is_refused(site, made.command(action))
            assert refused != may
        for action in {*OTHERS} - {*MOVED[setting]}:
            refused = await is_refused(site, made.command(action))
            assert refused != ALLOWED[action, type, role]


@pytest.mark.parametrize("setting", MOVED)
async def test_in_a_dialog_of_two_nothing_is_moved(setting: str) -> None:
    settings = DialogSettings(**{setting: "owner"})  # type: ignore[arg-type]
    core = Core(users=10)
    async with loading(core):
        made = await scene(core, "user", "member")
        state = core.state.find(made.dialog.id)
        assert state is not None
        state.set_settings(settings)
        for action in ("write", "pin"):
            await core.do(ACTOR, made.command(action))


SLOW = list(product(("group", "channel", "business"), LEASTS))


@pytest.mark.parametrize(("type", "role"), SLOW)
async def test_slow_mode_slows_members_and_guests(type: str, role: str) -> None:
    core = Core(users=10)
    async with loading(core):
        made = await scene(core, type, role, slow_mode_s=30, who_may_write="guest")
        core.clock.advance(30_000)
        first = await core.do(ACTOR, text(made.dialog.id))
        assert isinstance(first, Message)
        core.clock.advance(10_001)
        if role in ("owner", "admin"):
            await core.do(ACTOR, text(made.dialog.id))
            return
        with pytest.raises(SlowMode) as slowed:
            await core.do(ACTOR, text(made.dialog.id))
        assert slowed.value.retry_after_s == 20
        core.clock.advance(19_999)
        assert isinstance(await core.do(ACTOR, text(made.dialog.id)), Message)


async def test_a_repeat_is_answered_however_slow_or_silent() -> None:
    core = Core(users=10)
    async with loading(core):
        made = await scene(core, "group", "member", slow_mode_s=30)
        core.clock.advance(30_000)
        command = SendMessage(
            dialog_id=made.dialog.id,
            type="text",
            content={"text": "x"},
            client_id=UUID("019a0000-0000-7000-8000-000000000001"),
        )
        first = await core.do(ACTOR, command)
        assert await core.do(ACTOR, command) == first
        await core.do(OWNER, made.change(ACTOR, silenced_until=SOON))
        assert await core.do(ACTOR, command) == first


async def test_slow_mode_and_silence_outlast_memory_and_a_crash() -> None:
    """What they go by is stored with the member."""
    limits = StateLimits(dialogs_max=1, tail_max=2)
    core = Core(users=200, limits=limits)
    async with loading(core):
        made = await scene(core, "group", "member", slow_mode_s=30)
        people = [user_id(n) for n in range(10, 130)]
        add = m.AddMembers(dialog_id=made.dialog.id, user_ids=people)
        await core.do(OWNER, add)
        core.clock.advance(30_000)
        await core.do(ACTOR, text(made.dialog.id))
        core.clock.advance(10_000)
        await core.flusher.flush()
        await core.do(5, group_of([6]))
        core.journal.sync()
        await core.flusher.flush()
        with pytest.raises(SlowMode) as slowed:
            await core.do(ACTOR, text(made.dialog.id))
        assert slowed.value.retry_after_s == 20
        await core.do(OWNER, made.change(ACTOR, silenced_until=SOON))
        again = await core.restart(limits=limits)
        async with loading(again):
            with pytest.raises(Silenced):
                await again.do(ACTOR, text(made.dialog.id))
            leave = m.RemoveMember(dialog_id=made.dialog.id, user_id=user_id(ACTOR))
            await again.do(ACTOR, leave)
            back = m.AddMembers(dialog_id=made.dialog.id, user_ids=[user_id(ACTOR)])
            await again.do(OWNER, back)
            with pytest.raises(Silenced):
                await again.do(ACTOR, text(made.dialog.id))
