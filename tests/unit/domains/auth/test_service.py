"""Sign-in as a whole: users, sessions, whose a token is, and who is told of an end."""

from __future__ import annotations

from collections.abc import Awaitable
from uuid import UUID, uuid4

import pytest
import trio

from tchatd.domains.auth.errors import (
    CodeRefused,
    RefreshRefused,
    SessionRevoked,
    SessionUnknown,
    TokenExpired,
    TokenRefused,
)
from tchatd.domains.auth.models import ChangeProfile, Device, Identity, SignedIn
from tchatd.kernel.clock import rfc3339
from tchatd.kernel.crypto import Keys, Unreadable, derive
from tchatd.kernel.errors import Conflict
from tchatd.kernel.routing import Caller
from tchatd.stores.memory.auth import MemoryAuthStore
from tests.support.auth import (
    EMAIL,
    PHONE,
    SECRET,
    World,
    settings_with,
    wrong,
)

PIXEL = Device(id="d1", name="Pixel", platform="android")


@pytest.fixture
def world() -> World:
    return World()


# Signing in.


async def test_the_first_code_makes_a_user_and_the_next_finds_them(
    world: World,
) -> None:
    first = await world.sign_in(PHONE)
    user = first.user
    assert (user.phone, user.country, user.locale) == (PHONE, "TH", "th-TH")
    assert (user.kyc_tier, user.is_verified) == (1, True)
    assert user.created_at == user.updated_at == rfc3339(world.clock.now_ms())
    assert PHONE[-4:] not in user.name
    assert UUID(user.id).version == 7
    again = await world.sign_in(PHONE)
    assert again.user == user
    assert again.access_token != first.access_token
    assert again.refresh_token != first.refresh_token


async def test_an_email_takes_its_country_from_the_request_or_the_default(
    world: World,
) -> None:
    def country_of(signed: SignedIn) -> tuple[str, str]:
        return signed.user.country, signed.user.locale

    sent = await world.send("a@example.com", country="VN")
    assert country_of(await world.verify(sent)) == ("VN", "vi-VN")
    sent = await world.send("b@example.com")
    signed = await world.verify(sent)
    assert country_of(signed) == ("SG", "en-US")
    assert signed.user.email == "b@example.com"
    assert isinstance(signed.user.phone, type(signed.user.avatar))


async def test_an_email_in_another_case_is_the_same_user(world: World) -> None:
    first = await world.sign_in(EMAIL)
    assert (await world.sign_in(EMAIL.upper())).user.id == first.user.id


async def test_two_parallel_sign_ins_of_a_new_person_make_one_user(
    world: World,
) -> None:
    other = world.another()
    first = await world.send()
    world.clock.advance(60_000)
    second = await other.send()
    signed: list[SignedIn] = []

    async def verify(node: World, sent: object) -> None:
        assert sent in (first, second)
        signed.append(await node.verify(first if sent is first else second))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(verify, world, first)
        nursery.start_soon(verify, other, second)
    assert len(signed) == 2
    assert len({s.user.id for s in signed}) == 1


async def test_a_hundred_parallel_guesses_with_the_right_code_sign_in_once(
    world: World,
) -> None:
    sent = await world.send()
    nodes = [world, world.another()]
    code = world.outbox.last.code
    successes: list[SignedIn] = []
    refusals = 0

    async def guess(node: World) -> None:
        nonlocal refusals
        try:
            successes.append(await node.verify(sent, code))
        except CodeRefused:
            refusals += 1

    async with trio.open_nursery() as nursery:
        for i in range(100):
            nursery.start_soon(guess, nodes[i % 2])
    assert (len(successes), refusals) == (1, 99)


async def test_five_wrong_guesses_and_the_right_one_is_refused(world: World) -> None:
    sent = await world.send()
    code = world.outbox.last.code
    for _ in range(5):
        with pytest.raises(CodeRefused):
            await world.verify(sent, wrong(code))
    with pytest.raises(CodeRefused):
        await world.verify(sent, code)


async def test_the_fifth_guess_may_be_the_right_one_and_is_the_last(
    world: World,
) -> None:
    sent = await world.send()
    code = world.outbox.last.code
    for _ in range(4):
        with pytest.raises(CodeRefused):
            await world.verify(sent, wrong(code))
    await world.verify(sent, code)
    with pytest.raises(CodeRefused):
        await world.verify(sent, code)


# Whose a token is.


async def test_a_token_issued_here_needs_neither_signature_nor_query(
    world: World,
) -> None:
    signed = await world.sign_in()
    assert isinstance(world.store, MemoryAuthStore)
    queries = world.store.queries
    identity = world.service.authenticate(signed.access_token)
    assert isinstance(identity, Identity)
    assert str(identity.caller.user_id) == signed.user.id
    assert rfc3339(identity.expires_at_ms) == signed.expires_at
    assert world.service.authenticate(signed.access_token) is identity
    assert world.store.queries == queries


async def test_many_tokens_of_unseen_users_wait_for_two_queries() -> None:
    world = World(settings_with(code_resend_s=1))
    tokens = [
        (await world.sign_in(f"person{i}@example.com")).access_token for i in range(40)
    ]
    fresh = world.another()
    assert isinstance(fresh.store, MemoryAuthStore)
    queries = fresh.store.queries
    waiting = [fresh.service.authenticate(token) for token in tokens]
    numbers: set[int] = set()

    async def authenticate(identity: Identity | Awaitable[Identity]) -> None:
        assert not isinstance(identity, Identity)
        numbers.add((await identity).caller.user_number)

    async with trio.open_nursery() as nursery:
        for identity in waiting:
            nursery.start_soon(authenticate, identity)
    assert len(numbers) == 40
    assert fresh.store.queries == queries + 2
    # From here on each is known.
    for token in tokens:
        fresh.caller(token)
    assert fresh.store.queries == queries + 2


async def test_a_second_token_of_a_seen_user_needs_no_query(world: World) -> None:
    first = await world.sign_in()
    fresh = world.another()
    await _identity(fresh, first.access_token)
    refreshed = await world.service.refresh(first.refresh_token)
    assert isinstance(fresh.service.authenticate(refreshed.access_token), Identity)


async def test_a_token_ends_with_its_fifteen_minutes(world: World) -> None:
    signed = await world.sign_in()
    fresh = world.another()
    await _identity(fresh, signed.access_token)
    world.clock.advance(899_999 - world.clock.now_ms() % 1000)
    fresh.caller(signed.access_token)
    world.clock.advance(1)
    for node in (world, fresh, world.another()):
        for _ in range(2):
            with pytest.raises(TokenExpired):
                node.service.authenticate(signed.access_token)


async def test_a_token_of_a_user_who_is_gone_is_refused(world: World) -> None:
    signed = await world.sign_in()
    elsewhere = World(keys=world.keys, clock=world.clock)
    with pytest.raises(TokenRefused):
        await _identity(elsewhere, signed.access_token)


async def test_a_token_signed_with_other_keys_is_refused(world: World) -> None:
    signed = await world.sign_in()
    stranger = world.another(keys=Keys.of_one_secret(derive(SECRET, "stranger")))
    with pytest.raises(TokenRefused):
        stranger.service.authenticate(signed.access_token)


async def test_text_that_is_no_unicode_is_refused(world: World) -> None:
    with pytest.raises(TokenRefused):
        world.service.authenticate("\ud800.\ud800.\ud800")


# Refreshing.


async def test_each_refresh_gives_new_tokens_that_work(world: World) -> None:
    signed = await world.sign_in()
    token = signed.refresh_token
    seen = {token}
    for _ in range(5):
        world.clock.advance(86_400_000)
        refreshed = await world.service.refresh(token)
        caller = world.caller(refreshed.access_token)
        assert str(caller.user_id) == signed.user.id
        token = refreshed.refresh_token
        seen.add(token)
    assert len(seen) == 6


async def test_a_lost_answer_is_had_again_for_thirty_seconds(world: World) -> None:
    signed = await world.sign_in()
    first = await world.service.refresh(signed.refresh_token)
    world.clock.advance(30_000)
    again = await world.another().service.refresh(signed.refresh_token)
    assert again.refresh_token == first.refresh_token
    assert world.ended.told == []
    await world.service.refresh(first.refresh_token)


async def test_parallel_refreshes_all_get_the_same_token(world: World) -> None:
    signed = await world.sign_in()
    nodes = [world, world.another()]
    tokens: set[str] = set()

    async def refresh(node: World) -> None:
        tokens.add((await node.service.refresh(signed.refresh_token)).refresh_token)

    async with trio.open_nursery() as nursery:
        for i in range(20):
            nursery.start_soon(refresh, nodes[i % 2])
    assert len(tokens) == 1


async def test_reuse_after_the_grace_ends_the_session_and_its_sockets(
    world: World,
) -> None:
    signed = await world.sign_in()
    caller = world.caller(signed.access_token)
    refreshed = await world.service.refresh(signed.refresh_token)
    world.clock.advance(30_001)
    with pytest.raises(RefreshRefused):
        await world.service.refresh(signed.refresh_token)
    assert world.ended.told == [(caller.session_id, caller.user_number)]
    for token in (signed.access_token, refreshed.access_token):
        with pytest.raises(SessionRevoked):
            world.service.authenticate(token)
    with pytest.raises(RefreshRefused):
        await world.service.refresh(refreshed.refresh_token)
    assert len(world.ended.told) == 1


async def test_a_token_from_two_turns_ago_ends_the_session_even_in_the_grace(
    world: World,
) -> None:
    signed = await world.sign_in()
    second = await world.service.refresh(signed.refresh_token)
    await world.service.refresh(second.refresh_token)
    with pytest.raises(RefreshRefused):
        await world.service.refresh(signed.refresh_token)
    assert len(world.ended.told) == 1


async def test_a_forged_refresh_token_ends_nothing_and_asks_nothing(
    world: World,
) -> None:
    signed = await world.sign_in()
    assert isinstance(world.store, MemoryAuthStore)
    queries = world.store.queries
    forged = signed.refresh_token[:30] + "AAAA" + signed.refresh_token[34:]
    with pytest.raises(RefreshRefused):
        await world.service.refresh(forged)
    assert world.store.queries == queries
    await world.service.refresh(signed.refresh_token)


async def test_a_session_unused_for_thirty_days_is_over_and_use_prolongs_it(
    world: World,
) -> None:
    signed = await world.sign_in()
    world.clock.advance(30 * 86_400_000 - 1)
    refreshed = await world.service.refresh(signed.refresh_token)
    world.clock.advance(30 * 86_400_000)
    with pytest.raises(RefreshRefused):
        await world.service.refresh(refreshed.refresh_token)


# Sessions.


async def test_the_sixth_device_signs_the_least_recently_used_out() -> None:
    world = World(settings_with(code_sends_per_identifier_hour=6))
    devices = [await world.sign_in() for _ in range(5)]
    refreshed = await world.service.refresh(devices[0].refresh_token)
    sixth = await world.sign_in()
    assert len(world.ended.told) == 1
    with pytest.raises(SessionRevoked):
        world.service.authenticate(devices[1].access_token)
    with pytest.raises(RefreshRefused):
        await world.service.refresh(devices[1].refresh_token)
    for token in (refreshed.access_token, sixth.access_token, devices[2].access_token):
        world.caller(token)
    listed = await world.service.sessions(world.caller(sixth.access_token))
    assert len(listed) == 5


async def test_sessions_are_listed_with_their_device_and_which_is_current(
    world: World,
) -> None:
    first = await world.sign_in(device=PIXEL)
    second = await world.sign_in()
    caller = world.caller(second.access_token)
    current, other = await world.service.sessions(caller)
    assert (current.is_current, other.is_current) == (True, False)
    assert current.id == str(caller.session_id)
    assert other.device == PIXEL
    assert other.address == "192.0.2.7"
    assert other.id == str(world.caller(first.access_token).session_id)
    assert other.created_at < current.created_at


async def test_what_a_session_came_from_is_stored_sealed(world: World) -> None:
    signed = await world.sign_in(device=PIXEL)
    number = world.caller(signed.access_token).user_number
    [session] = await world.store.live_sessions(number, world.clock.now_ms())
    assert b"Pixel" not in session.sealed
    [user] = await world.store.users_by_number([number])
    assert user.phone_sealed is not None
    assert PHONE.encode() not in user.phone_sealed


async def test_logout_refuses_the_token_at_once_also_after_a_restart(
    world: World,
) -> None:
    signed = await world.sign_in()
    other = await world.sign_in()
    caller = world.caller(signed.access_token)
    await world.service.logout(caller)
    assert world.ended.ids == [caller.session_id]
    restarted = world.another()
    await restarted.service.start()
    for node in (world, restarted):
        with pytest.raises(SessionRevoked):
            node.service.authenticate(signed.access_token)
    with pytest.raises(RefreshRefused):
        await world.service.refresh(signed.refresh_token)
    world.caller(other.access_token)
    await world.service.logout(caller)


async def test_a_node_that_is_told_of_an_end_closes_its_sockets_too(
    world: World,
) -> None:
    signed = await world.sign_in()
    other = world.another()
    identity = await _identity(other, signed.access_token)
    caller = identity.caller
    other.service.session_ended(
        caller.session_id, caller.user_number, world.clock.now_ms()
    )
    assert other.ended.ids == [caller.session_id]
    with pytest.raises(SessionRevoked):
        other.service.authenticate(signed.access_token)


async def test_one_session_or_all_others_are_ended_and_nobody_elses(
    world: World,
) -> None:
    mine = [await world.sign_in() for _ in range(3)]
    theirs = await world.sign_in(EMAIL)
    me, second, third = (world.caller(s.access_token) for s in mine)
    foreign = world.caller(theirs.access_token)
    await world.service.end_session(me, second.session_id)
    for unknown in (second.session_id, foreign.session_id, uuid4()):
        with pytest.raises(SessionUnknown):
            await world.service.end_session(me, unknown)
    assert await world.service.end_other_sessions(me) == 1
    assert world.ended.ids == [second.session_id, third.session_id]
    world.caller(mine[0].access_token)
    world.caller(theirs.access_token)


async def test_an_operator_finds_a_user_sees_their_sessions_and_kicks_them(
    world: World,
) -> None:
    signed = await world.sign_in()
    await world.sign_in()
    for text in (PHONE, signed.user.id):
        record = await world.service.find_user(text)
        assert record is not None
        assert str(record.id) == signed.user.id
    for text in ("nobody", EMAIL, str(uuid4()), "+14155552671", ""):
        assert await world.service.find_user(text) is None
    assert record is not None
    assert len(await world.service.sessions_of(record.number)) == 2
    assert await world.service.kick(record.number) == 2
    assert len(world.ended.told) == 2
    with pytest.raises(SessionRevoked):
        world.service.authenticate(signed.access_token)


# Profiles.


async def test_a_seen_profile_is_answered_at_once_and_a_change_is_seen(
    world: World,
) -> None:
    signed = await world.sign_in()
    caller = world.caller(signed.access_token)
    assert world.service.profile(caller) is signed.user
    changed = await world.service.change_profile(
        caller, ChangeProfile(name="  Ánh ", status="away")
    )
    assert (changed.name, changed.status) == ("Ánh", "away")
    assert changed.updated_at > signed.user.updated_at
    assert world.service.profile(caller) is changed


# Keeping house.


async def test_pruning_forgets_in_batches_until_there_is_nothing() -> None:
    world = World(settings_with(prune_batch_max=2))
    for i in range(5):
        await world.sign_in(f"person{i}@example.com")
    signed = await world.sign_in()
    await world.service.logout(world.caller(signed.access_token))
    assert await world.service.prune() == 0
    world.clock.advance(70 * 86_400_000)
    batches = []
    for _ in range(50):
        batches.append(await world.service.prune())
        if batches[-1] == 0:
            break
    assert sum(batches) >= 6 + 6
    assert world.service.statistics()["revocations"] == 0


async def test_data_keys_move_to_a_new_master_key_and_the_old_one_can_go(
    world: World,
) -> None:
    def keys(*masters: str) -> Keys:
        return Keys(
            master_keys=[derive(SECRET, name) for name in masters],
            lookup=derive(SECRET, "lookup"),
            otp=derive(SECRET, "otp"),
            token_keys=[derive(SECRET, "token")],
        )

    old = World(keys=keys("old"))
    for i in range(3):
        await old.sign_in(f"person{i}@example.com")
    rotating = old.another(keys=keys("new", "old"))
    assert await rotating.service.rewrap() == 3
    assert await rotating.service.rewrap() == 0
    new = old.another(keys=keys("new"))
    record = await new.service.find_user("person1@example.com")
    assert record is not None
    assert new.service.profiles.see(record).email == "person1@example.com"
    with pytest.raises(Unreadable):
        old.service.profiles.see(record)


async def _identity(world: World, token: str) -> Identity:
    identity = world.service.authenticate(token)
    return identity if isinstance(identity, Identity) else await identity


# Tokens of bots, and bans.


class Tokens:
    """An `OtherTokens`: later, if the token says so."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def authenticate(self, token: str) -> Caller | Awaitable[Caller | None] | None:
        if token == "bot:now":
            return self.caller
        return self.later(token) if token.startswith("bot:later") else None

    async def later(self, token: str) -> Caller | None:
        await trio.lowlevel.checkpoint()
        return self.caller if token == "bot:later" else None


async def test_a_bots_token_is_asked_elsewhere_and_does_not_end(world: World) -> None:
    caller = Caller(uuid4(), 7, uuid4())
    world.service.other_tokens = Tokens(caller)
    at_once = world.service.authenticate("bot:now")
    assert isinstance(at_once, Identity)
    assert at_once.caller is caller
    assert at_once.expires_at_ms > world.clock.now_ms() + 365 * 86_400_000
    awaited = world.service.authenticate("bot:later")
    assert isinstance(awaited, Awaitable)
    assert (await awaited).caller is caller
    with pytest.raises(TokenRefused):
        world.service.authenticate("bot:nobody")
    nobody = world.service.authenticate("bot:later nobody")
    assert isinstance(nobody, Awaitable)
    with pytest.raises(TokenRefused):
        await nobody


async def test_without_bots_there_are_no_such_tokens(world: World) -> None:
    with pytest.raises(TokenRefused):
        world.service.authenticate("bot:now")


class Ban:
    """A `Sanctions`: who is asked about for the nth time is banned from then on."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def check_ban(self, user_number: int) -> None:
        self.left -= 1
        if self.left <= 0:
            raise Conflict("banned")

    def check_name(self, name: str) -> None:
        if "bad" in name:
            raise Conflict("a bad name")


async def test_who_is_banned_does_not_sign_in(world: World) -> None:
    await world.sign_in()
    world.service.sanctions = Ban(1)
    with pytest.raises(Conflict):
        await world.sign_in()


async def test_who_is_banned_while_signing_in_has_no_session(world: World) -> None:
    world.service.sanctions = Ban(2)
    with pytest.raises(Conflict):
        await world.sign_in()
    assert len(world.ended.told) == 1
    assert await world.service.sessions_of(1) == []


async def test_who_is_banned_is_refused_before_their_sessions_have_ended(
    world: World,
) -> None:
    signed_in = await world.sign_in()
    await _identity(world, signed_in.access_token)
    world.service.sanctions = Ban(1)
    with pytest.raises(SessionRevoked):
        await _identity(world, signed_in.access_token)
    other = world.another()
    other.service.sanctions = Ban(1)
    with pytest.raises(SessionRevoked):
        await _identity(other, signed_in.access_token)
    with pytest.raises(Conflict):
        await world.service.refresh(signed_in.refresh_token)
    assert await world.service.sessions_of(1) == []
    with pytest.raises(Conflict):  # the session is over, and that is still why
        await world.service.refresh(signed_in.refresh_token)
    world.service.sanctions = Ban(1 << 30)
    with pytest.raises(RefreshRefused):
        await world.service.refresh(signed_in.refresh_token)


async def test_nobody_is_called_what_the_operator_does_not_want(world: World) -> None:
    signed_in = await world.sign_in()
    identity = await _identity(world, signed_in.access_token)
    world.service.sanctions = Ban(1 << 30)
    with pytest.raises(Conflict, match="a bad name"):
        await world.service.change_profile(identity.caller, ChangeProfile(name="bad"))
    await world.service.change_profile(identity.caller, ChangeProfile(name="good"))


async def test_a_record_is_there_until_its_user_is_gone(world: World) -> None:
    await world.sign_in()
    record = await world.service.record(1)
    assert record is not None
    assert not record.is_bot
    assert await world.service.record(99) is None
