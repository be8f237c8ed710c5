"""Owns what every `AuthStore` has to do; run over memory and over PostgreSQL."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from msgspec import UNSET

from tchatd.domains.auth.models import (
    Challenge,
    EndReason,
    NewUser,
    ProfileChange,
    RotationOutcome,
    Scope,
    SessionRecord,
    UserRecord,
)
from tchatd.domains.auth.rules import HOUR_MS
from tchatd.domains.auth.store import AuthStore

NOW = 1_800_000_000_000
MINUTE = 60_000
DAY = 86_400_000
GRACE = 30_000


def digest(text: str) -> bytes:
    return text.encode().ljust(32, b"\0")


def new_user(identifier: str = "a", **changes: Any) -> NewUser:
    user = NewUser(
        id=uuid4(),
        kind="phone",
        identifier_hash=digest(identifier),
        sealed=b"sealed " + identifier.encode(),
        data_key=b"wrapped",
        data_key_id="m1",
        name="User 234567",
        country="TH",
        locale="th-TH",
        created_ms=NOW,
    )
    return msgspec.structs.replace(user, **changes)


def challenge(identifier: str = "a", **changes: Any) -> Challenge:
    fresh = Challenge(
        id=uuid4(),
        kind="phone",
        identifier_hash=digest(identifier),
        sealed=b"sealed",
        code_hash=digest("code"),
        country="TH",
        created_ms=NOW,
        expires_ms=NOW + 5 * MINUTE,
    )
    return msgspec.structs.replace(fresh, **changes)


def scopes(identifier: str = "a", address: str = "ip", most: int = 5) -> list[Scope]:
    return [
        Scope("identifier", digest(identifier), most),
        Scope("address", digest(address), 7),
    ]


def session(user: UserRecord, **changes: Any) -> SessionRecord:
    fresh = SessionRecord(
        id=uuid4(),
        user_number=user.number,
        sealed=b"origin",
        refresh_hash=digest("r0"),
        previous_hash=None,
        created_ms=NOW,
        used_ms=NOW,
        rotated_ms=NOW,
        expires_ms=NOW + 30 * DAY,
    )
    return msgspec.structs.replace(fresh, **changes)


class AuthStoreContract:
    """Subclasses give the fixture `store`."""

    # Users.

    async def test_users_are_found_by_many_identifiers(self, store: AuthStore) -> None:
        a = await store.create_user(new_user("a"))
        b = await store.create_user(new_user("b"))
        await store.create_user(new_user("c", kind="email"))
        asked = [digest(name) for name in ("a", "b", "c", "d")]
        found = await store.users_by_identifiers("phone", asked)
        assert dict(found) == {digest("a"): a, digest("b"): b}

    async def test_a_new_user_is_found_by_id_number_and_identifier(
        self, store: AuthStore
    ) -> None:
        new = new_user()
        user = await store.create_user(new)
        assert user.number >= 1
        assert (user.id, user.phone_sealed, user.email_sealed) == (
            new.id,
            new.sealed,
            None,
        )
        assert (user.kyc_tier, user.status, user.is_verified) == (1, "online", True)
        assert (user.created_ms, user.updated_ms) == (NOW, NOW)
        assert await store.users_by_id([uuid4(), user.id]) == [user]
        assert await store.users_by_number([user.number, 2**31 - 1]) == [user]
        assert await store.user_by_identifier("phone", new.identifier_hash) == user
        assert await store.user_by_identifier("email", new.identifier_hash) is None
        assert await store.user_by_identifier("phone", digest("b")) is None
        assert await store.users_by_id([]) == []

    async def test_many_who_create_one_identifier_make_one_user(
        self, store: AuthStore
    ) -> None:
        made: list[UserRecord] = []

        async def create() -> None:
            made.append(await store.create_user(new_user()))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(create)
        assert len({(user.id, user.number) for user in made}) == 1

    async def test_a_phone_and_an_email_of_one_hash_are_two_users(
        self, store: AuthStore
    ) -> None:
        phone = await store.create_user(new_user())
        email = await store.create_user(new_user(kind="email"))
        assert phone.number != email.number
        assert (email.phone_sealed, email.email_sealed) == (None, b"sealed a")

    async def test_a_change_touches_what_it_names_and_moves_updated_forward(
        self, store: AuthStore
    ) -> None:
        user = await store.create_user(new_user())
        change = ProfileChange(name="Ánh", avatar="https://a.example/x")
        changed = await store.change_user(user.number, change, NOW + 5)
        assert changed == msgspec.structs.replace(
            user, name="Ánh", avatar="https://a.example/x", updated_ms=NOW + 5
        )
        again = await store.change_user(
            user.number, ProfileChange(avatar=None, status="busy"), NOW - 10
        )
        assert again == msgspec.structs.replace(
            changed, avatar=None, status="busy", updated_ms=NOW + 6
        )
        nothing = await store.change_user(user.number, ProfileChange(), NOW + 9)
        assert nothing == msgspec.structs.replace(again, updated_ms=NOW + 9)
        assert await store.users_by_number([user.number]) == [nothing]
        await store.create_user(new_user("other"))
        assert await store.choices() == [(user.number, "busy")]
        assert ProfileChange().avatar is UNSET

    async def test_nobody_is_changed_by_an_unknown_number(
        self, store: AuthStore
    ) -> None:
        assert await store.change_user(77, ProfileChange(name="No"), NOW) is None

    async def test_data_keys_under_an_old_master_key_are_found_and_replaced_once(
        self, store: AuthStore
    ) -> None:
        users = [
            await store.create_user(new_user(str(i), data_key_id=key_id))
            for i, key_id in enumerate(["m1", "m2", "m3"])
        ]
        old = await store.data_keys_not_under("m2", 10)
        assert {wrapped.user_id for wrapped in old} == {users[0].id, users[2].id}
        assert len(await store.data_keys_not_under("m2", 1)) == 1
        assert await store.replace_data_key(users[0].id, b"wrapped", b"new", "m2")
        assert not await store.replace_data_key(users[0].id, b"wrapped", b"x", "m2")
        [left] = await store.data_keys_not_under("m2", 10)
        assert left.user_id == users[2].id
        [user] = await store.users_by_id([users[0].id])
        assert user.data_key == b"new"

    # Challenges.

    async def test_a_challenge_is_guessed_a_few_times_and_then_never(
        self, store: AuthStore
    ) -> None:
        sent = challenge()
        assert await store.open_challenge(sent, scopes(), MINUTE) == 0
        for _ in range(3):
            assert await store.guess(sent.id, NOW, 3) == sent
        assert await store.guess(sent.id, NOW, 3) is None
        assert await store.guess(uuid4(), NOW, 3) is None

    async def test_of_a_hundred_parallel_guesses_five_are_counted(
        self, store: AuthStore
    ) -> None:
        sent = challenge()
        await store.open_challenge(sent, scopes(), MINUTE)
        counted: list[Challenge] = []

        async def guess() -> None:
            if found := await store.guess(sent.id, NOW, 5):
                counted.append(found)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(guess)
        assert len(counted) == 5

    async def test_a_challenge_ends_on_its_millisecond(self, store: AuthStore) -> None:
        sent = challenge(country=None)
        await store.open_challenge(sent, scopes(), MINUTE)
        assert await store.guess(sent.id, sent.expires_ms - 1, 5) == sent
        assert await store.guess(sent.id, sent.expires_ms, 5) is None

    async def test_a_second_send_waits_for_the_resend_time(
        self, store: AuthStore
    ) -> None:
        async def send(at_ms: int, identifier: str = "a") -> int:
            return await store.open_challenge(
                challenge(created_ms=at_ms), scopes(identifier), MINUTE
            )

        assert await send(NOW) == 0
        assert await send(NOW) == MINUTE
        assert await send(NOW + MINUTE - 1) == 1
        assert await send(NOW + 1, "b") == 0
        assert await send(NOW + MINUTE) == 0

    async def test_five_sends_an_hour_and_the_sixth_when_the_first_is_an_hour_ago(
        self, store: AuthStore
    ) -> None:
        async def send(at_ms: int) -> int:
            return await store.open_challenge(
                challenge(created_ms=at_ms), scopes(), MINUTE
            )

        for i in range(5):
            assert await send(NOW + i * MINUTE) == 0
        assert await send(NOW + 5 * MINUTE) == HOUR_MS - 5 * MINUTE
        assert await send(NOW + HOUR_MS - 1) == 1
        assert await send(NOW + HOUR_MS) == 0
        assert await send(NOW + HOUR_MS + 1) == MINUTE - 1
        assert await send(NOW + HOUR_MS + MINUTE) == 0

    async def test_a_refused_send_counts_for_nothing_and_is_not_kept(
        self, store: AuthStore
    ) -> None:
        for i in range(7):
            sent = challenge(created_ms=NOW + i)
            assert await store.open_challenge(sent, scopes(str(i)), MINUTE) == 0
        for i in range(20):
            refused = challenge(created_ms=NOW + 10)
            wait_ms = await store.open_challenge(refused, scopes(f"x{i}"), MINUTE)
            assert wait_ms == HOUR_MS - 10
            assert await store.guess(refused.id, NOW + 10, 5) is None
        late = challenge(created_ms=NOW + HOUR_MS)
        assert await store.open_challenge(late, scopes("x0"), MINUTE) == 0

    async def test_parallel_sends_to_one_identifier_are_one(
        self, store: AuthStore
    ) -> None:
        waits: list[int] = []

        async def send(address: str) -> None:
            sent = challenge()
            waits.append(await store.open_challenge(sent, scopes("a", address), MINUTE))

        async with trio.open_nursery() as nursery:
            for i in range(20):
                nursery.start_soon(send, str(i))
        assert sorted(waits) == [0] + [MINUTE] * 19

    async def test_parallel_sends_from_one_address_stop_at_its_ceiling(
        self, store: AuthStore
    ) -> None:
        waits: list[int] = []

        async def send(identifier: str) -> None:
            waits.append(
                await store.open_challenge(challenge(), scopes(identifier), MINUTE)
            )

        async with trio.open_nursery() as nursery:
            for i in range(20):
                nursery.start_soon(send, str(i))
        assert sorted(waits) == [0] * 7 + [HOUR_MS] * 13

    async def test_old_challenges_and_sends_are_pruned_in_batches(
        self, store: AuthStore
    ) -> None:
        for i in range(4):
            sent = challenge(created_ms=NOW + i)
            await store.open_challenge(sent, scopes(str(i), str(i)), MINUTE)
        fresh = challenge(created_ms=NOW + 100)
        await store.open_challenge(fresh, scopes("f"), MINUTE)
        pruned = 0
        for _ in range(20):
            count = await store.prune_challenges(NOW + 100, 2)
            pruned += count
            if count == 0:
                break
        assert pruned == 4 + 8
        assert await store.guess(fresh.id, NOW + 101, 5) == fresh

    # Sessions.

    async def open(
        self, store: AuthStore, user: UserRecord, most: int = 5, **changes: Any
    ) -> tuple[SessionRecord, list[UUID]]:
        """A session by a challenge of its own; also who had to go."""
        name = str(uuid4())[:20]
        sent = challenge(name)
        await store.open_challenge(sent, scopes(name, name), MINUTE)
        opened = session(user, **changes)
        ended = await store.open_session(sent.id, opened, most)
        assert ended is not None
        return opened, ended

    async def test_a_session_opens_once_for_a_challenge(self, store: AuthStore) -> None:
        user = await store.create_user(new_user())
        sent = challenge()
        await store.open_challenge(sent, scopes(), MINUTE)
        results: list[list[UUID] | None] = []

        async def open_session() -> None:
            results.append(await store.open_session(sent.id, session(user), 5))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(open_session)
        assert [result for result in results if result is not None] == [[]]
        assert len(await store.live_sessions(user.number, NOW)) == 1
        assert await store.guess(sent.id, NOW, 5) is None
        assert await store.open_session(uuid4(), session(user), 5) is None

    async def test_the_least_recently_used_session_makes_room(
        self, store: AuthStore
    ) -> None:
        user = await store.create_user(new_user())
        opened = [
            (await self.open(store, user, created_ms=NOW + i, used_ms=NOW + i))[0]
            for i in range(5)
        ]
        # The first one is used again, so the second one is the stalest.
        rotated = await store.rotate_session(
            opened[0].id, digest("r0"), digest("r1"), NOW + 50, GRACE, DAY
        )
        assert rotated is not None
        assert rotated.outcome is RotationOutcome.ROTATED
        sixth, ended = await self.open(
            store, user, created_ms=NOW + 60, used_ms=NOW + 60
        )
        assert ended == [opened[1].id]
        live = await store.live_sessions(user.number, NOW + 60)
        assert [s.id for s in live] == [
            s.id for s in (sixth, opened[0], opened[4], opened[3], opened[2])
        ]

    async def test_a_new_session_never_makes_room_by_itself_going(
        self, store: AuthStore
    ) -> None:
        user = await store.create_user(new_user())
        for _ in range(6):
            newest, _ = await self.open(store, user, most=1)
            [live] = await store.live_sessions(user.number, NOW)
            assert live == newest

    async def test_parallel_sign_ins_leave_at_most_five_sessions(
        self, store: AuthStore
    ) -> None:
        user = await store.create_user(new_user())

        async def open_one() -> None:
            await self.open(store, user)

        async with trio.open_nursery() as nursery:
            for _ in range(15):
                nursery.start_soon(open_one)
        assert len(await store.live_sessions(user.number, NOW)) == 5

    async def test_expired_sessions_take_no_room(self, store: AuthStore) -> None:
        user = await store.create_user(new_user())
        await self.open(store, user, expires_ms=NOW + 10)
        _, ended = await self.open(
            store, user, most=1, created_ms=NOW + 10, used_ms=NOW + 10
        )
        assert ended == []
        assert len(await store.live_sessions(user.number, NOW + 10)) == 1

    async def test_rotation_repeats_in_the_grace_and_ends_the_session_after(
        self, store: AuthStore
    ) -> None:
        user = await store.create_user(new_user())
        opened, _ = await self.open(store, user)

        async def rotate(presented: str, after: str, at_ms: int) -> RotationOutcome:
            rotation = await store.rotate_session(
                opened.id, digest(presented), digest(after), at_ms, GRACE, DAY
            )
            assert rotation is not None
            assert rotation.user_number == user.number
            return rotation.outcome

        assert await rotate("r0", "r1", NOW + 5) is RotationOutcome.ROTATED
        [live] = await store.live_sessions(user.number, NOW + 5)
        assert (live.used_ms, live.rotated_ms) == (NOW + 5, NOW + 5)
        assert live.expires_ms == NOW + 5 + DAY
        assert await rotate("r0", "r1", NOW + 5 + GRACE) is RotationOutcome.REPEATED
        assert [live] == await store.live_sessions(user.number, NOW + 5)
        assert await rotate("r0", "r1", NOW + 6 + GRACE) is RotationOutcome.REUSED
        assert await store.live_sessions(user.number, NOW + 5) == []
        assert await rotate("r1", "r2", NOW + 7 + GRACE) is RotationOutcome.GONE
        [ended] = await store.sessions_ended_since(NOW)
        assert (ended.id, ended.user_number, ended.revoked_ms) == (
            opened.id,
            user.number,
            NOW + 6 + GRACE,
        )

    async def test_parallel_refreshes_with_one_token_rotate_once(
        self, store: AuthStore
    ) -> None:
        user = await store.create_user(new_user())
        opened, _ = await self.open(store, user)
        outcomes: list[RotationOutcome] = []

        async def rotate() -> None:
            rotation = await store.rotate_session(
                opened.id, digest("r0"), digest("r1"), NOW + 1, GRACE, DAY
            )
            assert rotation is not None
            outcomes.append(rotation.outcome)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(rotate)
        assert outcomes.count(RotationOutcome.ROTATED) == 1
        assert outcomes.count(RotationOutcome.REPEATED) == 19

    async def test_an_unknown_session_does_not_rotate(self, store: AuthStore) -> None:
        gone = await store.rotate_session(
            uuid4(), digest("r0"), digest("r1"), NOW, GRACE, DAY
        )
        assert gone is None

    @pytest.mark.parametrize("which", ["all", "only", "but", "others"])
    async def test_sessions_end_all_one_or_all_but_one(
        self, store: AuthStore, which: str
    ) -> None:
        user = await store.create_user(new_user())
        other = await store.create_user(new_user("b"))
        a, b, c = [(await self.open(store, user))[0].id for _ in range(3)]
        foreign = (await self.open(store, other))[0].id
        only = {"only": a, "others": foreign}.get(which)
        but = a if which == "but" else None
        ended = await store.end_sessions(
            user.number, NOW + 1, EndReason.LOGOUT, only=only, but=but
        )
        expected = {"all": {a, b, c}, "only": {a}, "but": {b, c}, "others": set()}
        assert set(ended) == expected[which]
        live = {s.id for s in await store.live_sessions(user.number, NOW + 1)}
        assert live == {a, b, c} - expected[which]
        assert len(await store.live_sessions(other.number, NOW + 1)) == 1
        again = await store.end_sessions(
            user.number, NOW + 2, EndReason.LOGOUT, only=only, but=but
        )
        assert again == []

    async def test_sessions_that_ended_lately_are_told(self, store: AuthStore) -> None:
        user = await store.create_user(new_user())
        for i in (3, 1, 2):
            opened, _ = await self.open(store, user)
            await store.end_sessions(
                user.number, NOW + i, EndReason.KICKED, only=opened.id
            )
        ended = await store.sessions_ended_since(NOW + 1)
        assert [e.revoked_ms for e in ended] == [NOW + 2, NOW + 3]

    async def test_sessions_that_are_long_over_are_pruned_in_batches(
        self, store: AuthStore
    ) -> None:
        user = await store.create_user(new_user())
        for _ in range(2):
            await self.open(store, user, expires_ms=NOW + 1)
        opened, _ = await self.open(store, user)
        await store.end_sessions(user.number, NOW, EndReason.LOGOUT, only=opened.id)
        kept, _ = await self.open(store, user)
        assert await store.prune_sessions(NOW + 2, 2) == 2
        assert await store.prune_sessions(NOW + 2, 2) == 1
        assert await store.prune_sessions(NOW + 2, 2) == 0
        assert [s.id for s in await store.live_sessions(user.number, NOW)] == [kept.id]
