"""One-time codes: to whom, how often, and what is kept of them."""

from __future__ import annotations

import pytest
import trio

from tchatd.domains.auth.errors import CodeLimited, CodeRefused, IdentifierRefused
from tchatd.domains.auth.models import SendCode
from tchatd.kernel.clock import rfc3339
from tchatd.kernel.errors import Unavailable
from tchatd.stores.memory.auth import MemoryAuthStore
from tests.support.auth import (
    ADDRESS,
    EMAIL,
    PHONE,
    World,
    settings_with,
    wrong,
)

MINUTE = 60_000
HOUR = 60 * MINUTE


async def test_a_code_goes_out_in_the_language_of_the_country() -> None:
    world = World()
    sent = await world.send(PHONE)
    assert sent.expires_at == rfc3339(world.clock.now_ms() + 5 * MINUTE)
    message = world.outbox.last
    assert message.to == PHONE
    assert message.code in message.text
    assert "รหัส" in message.text
    await world.send(EMAIL)
    assert "Your code" in world.outbox.last.text
    await world.send("b@example.com", country="VN")
    assert "Mã" in world.outbox.last.text


async def test_a_known_and_an_unknown_identifier_take_the_same_steps() -> None:
    world = World()
    await world.sign_in(PHONE)
    world.clock.advance(HOUR)
    assert isinstance(world.store, MemoryAuthStore)
    queries, answers = [], []
    for identifier in (PHONE, "+66898765432"):
        before = world.store.queries
        answers.append(await world.send(identifier))
        queries.append(world.store.queries - before)
    assert queries == [1, 1]
    known, unknown = answers
    assert known.expires_at == unknown.expires_at
    assert len(known.session_id) == len(unknown.session_id)
    assert len(world.outbox.messages) == 3


async def test_a_challenge_cannot_be_guessed_by_its_name() -> None:
    world = World()
    first, second = await world.send(PHONE), await world.send(EMAIL)
    for sent in (first, second):
        assert sent.session_id[14] == "4"
    assert first.session_id[:8] != second.session_id[:8]


async def test_a_code_is_worth_nothing_in_another_challenge() -> None:
    world = World()
    await world.send(PHONE)
    code = world.outbox.last.code
    other = await world.send(EMAIL)
    if world.outbox.last.code != code:
        with pytest.raises(CodeRefused):
            await world.verify(other, code)


async def test_wrong_expired_used_and_unknown_are_refused_alike() -> None:
    world = World()
    refusals: list[CodeRefused] = []

    async def refused(identifier: str, code: str | None = None) -> None:
        with pytest.raises(CodeRefused) as refusal:
            await world.verify(sent, code)
        refusals.append(refusal.value)

    sent = await world.send(PHONE)
    await refused(PHONE, wrong(world.outbox.last.code))
    await world.verify(sent)
    await refused(PHONE)
    sent = await world.send(EMAIL)
    world.clock.advance(5 * MINUTE)
    await refused(EMAIL)
    sent = await World().send(PHONE)
    await refused(PHONE)
    assert len({(r.code, r.detail, r.retry_after_s) for r in refusals}) == 1


async def test_a_code_is_good_until_its_last_millisecond() -> None:
    world = World()
    sent = await world.send()
    world.clock.advance(5 * MINUTE - 1)
    await world.verify(sent)


async def test_a_resend_waits_for_a_minute_and_says_how_long() -> None:
    world = World()
    await world.send()
    world.clock.advance(500)
    with pytest.raises(CodeLimited) as refusal:
        await world.send()
    assert refusal.value.retry_after_s == 60
    world.clock.advance(MINUTE - 501)
    with pytest.raises(CodeLimited) as refusal:
        await world.send()
    assert refusal.value.retry_after_s == 1
    world.clock.advance(1)
    await world.send()


async def test_an_identifier_gets_five_codes_in_any_hour() -> None:
    world = World()
    for _ in range(5):
        await world.send()
        world.clock.advance(MINUTE)
    with pytest.raises(CodeLimited) as refusal:
        await world.send()
    assert refusal.value.retry_after_s == 55 * 60
    await world.send("+66898765432")
    world.clock.advance(55 * MINUTE)
    await world.send()


@pytest.mark.parametrize(
    ("limit", "inside", "outside"),
    [
        ("code_sends_per_address_hour", "192.0.2.7", "192.0.2.8"),
        ("code_sends_per_network_hour", "192.0.2.8", "192.0.3.8"),
    ],
)
async def test_an_address_and_a_network_have_their_ceilings(
    limit: str, inside: str, outside: str
) -> None:
    world = World(settings_with(**{limit: 3}))
    for i in range(3):
        await world.send(f"person{i}@example.com", address=ADDRESS)
    with pytest.raises(CodeLimited):
        await world.send("d@example.com", address=inside)
    await world.send("d@example.com", address=outside)
    world.clock.advance(HOUR)
    await world.send("e@example.com", address=inside)


async def test_an_ipv6_customer_counts_as_one_whatever_address_they_take() -> None:
    world = World(settings_with(code_sends_per_address_hour=2))
    for i in range(2):
        await world.send(f"person{i}@example.com", address=f"2001:db8::{i + 1}")
    with pytest.raises(CodeLimited):
        await world.send("c@example.com", address="2001:db8::ffff")
    await world.send("c@example.com", address="2001:db8:0:1::1")


async def test_a_range_of_phone_numbers_has_its_ceiling() -> None:
    world = World(settings_with(code_sends_per_range_hour=3))
    for i in range(3):
        await world.send(f"+6681234567{i}", address=f"192.0.{i}.1")
    with pytest.raises(CodeLimited):
        await world.send("+66812349999", address="198.51.100.1")
    await world.send("+66812355678", address="198.51.100.1")


async def test_parallel_sends_on_two_nodes_send_one_code() -> None:
    world = World()
    nodes = [world, world.another()]
    refusals = 0

    async def send(node: World) -> None:
        nonlocal refusals
        try:
            await node.send()
        except CodeLimited:
            refusals += 1

    async with trio.open_nursery() as nursery:
        for i in range(10):
            nursery.start_soon(send, nodes[i % 2])
    assert refusals == 9
    assert sum(len(node.outbox.messages) for node in nodes) == 1


async def test_a_send_that_a_provider_failed_counts_all_the_same() -> None:
    world = World()
    world.outbox.broken = True
    with pytest.raises(Unavailable):
        await world.send()
    world.outbox.broken = False
    with pytest.raises(CodeLimited):
        await world.send()


async def test_a_bad_identifier_is_refused_before_anything_is_stored() -> None:
    world = World()
    with pytest.raises(IdentifierRefused):
        await world.service.send_code(
            SendCode(identifier="+14155552671", type="phone"), ADDRESS
        )
    assert isinstance(world.store, MemoryAuthStore)
    assert world.store.queries == 0
