"""What a record did: whole values, and how much memory they keep."""

from __future__ import annotations

import random

from msgspec import structs

from tchatd.domains.messaging.entry import Changes, Profile, state_of_entry
from tchatd.domains.messaging.message_state import MessageChanges, PollState, Reactors
from tchatd.domains.messaging.settings import DialogSettings
from tchatd.kernel.bitmaps import BitMap
from tests.support import applied as a
from tests.support.applied import Applied
from tests.support.messaging import user_id


def test_a_profile_is_stored_as_it_was_when_it_was_taken() -> None:
    apply = Applied()
    apply(a.dialog_of(1, 2, 3))
    apply(a.message(1, 1))
    entry = apply(a.delete(1, 1, 2))
    assert entry.changes is not None
    profile = entry.changes.profile
    assert profile is not None
    before = profile.row()
    a.add(apply, 1, 1, 4)
    apply(a.message(1, 1))
    apply(a.delete(1, 1, 5))
    apply(a.profile(1, 1, "Dinner"))
    assert profile.row() == before
    assert list(BitMap.deserialize(before.members)) == [1, 2, 3]
    assert list(BitMap.deserialize(before.deleted or b"")) == [2]
    assert (before.name, before.settings, before.banned) == ("Lunch", None, None)


def test_a_set_is_stored_in_few_bytes() -> None:
    profile = Profile(
        *(1, None, None, BitMap(range(1, 200_001)), b"", DialogSettings(), ()),
        *(None, None, False),
    )
    assert len(profile.row().members) < 100
    assert BitMap.deserialize(profile.row().members) == profile.members


def test_what_is_kept_of_a_channel_counts_as_much() -> None:
    members = BitMap(random.Random(1).sample(range(1, 400_000), 200_000))
    users = members.serialize()
    profile = Profile(
        *(1, None, None, members, b"", DialogSettings(), (), None, None, False),
    )
    apply = Applied()
    apply(a.dialog_of(1, 2))
    apply(a.poll(1, 1))
    state = apply.message(2)
    both = (Reactors("a", users, 200_000), Reactors("b", users, 200_000))
    liked = structs.replace(state, changes=MessageChanges(reactions=both))
    voted = structs.replace(state, changes=MessageChanges(poll=PollState((users,) * 3)))
    sizes = [
        Changes(profile=profile).size,
        Changes(messages=(liked,)).size,
        Changes(messages=(voted,)).size,
    ]
    assert len(users) < sizes[0] < 2 * len(users)
    # Of a reaction, the other emojis' are those of the state before.
    assert len(users) < sizes[1] < 2 * len(users)
    assert 3 * len(users) < sizes[2] < 4 * len(users)
    assert Changes().size == 0


def test_a_plain_message_is_a_state_without_having_one() -> None:
    apply = Applied()
    apply(a.dialog_of(1, 2))
    plain = a.message(1, 1, mentions=(str(user_id(2)),), mention_numbers=(2,))
    entry = apply(structs.replace(plain, reply_to_id="r"))
    assert entry.state is None
    state = state_of_entry(entry)
    assert (state.seq, state.ordinal, state.sender, state.position) == (2, 1, 1, 0)
    assert (state.body.mentioned, state.body.reply_to_id) == ((2,), "r")
    assert state.id == entry.event.message.id
