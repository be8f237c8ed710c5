"""Damaged QR codes: none is taken whose checksum is wrong, and none breaks the parser.

TCHATD_QR_MUTATIONS: how many; a million in CI, where it takes about half a minute. The
checksum that decides is not ours but computed from the definition, and a second reader
has to find the same in what is taken (tests/support/qr.py).
"""

from __future__ import annotations

import os
import random

from msgspec.structs import replace

from tchatd.domains.payment.qr.errors import (
    QrChecksumWrong,
    QrNotExpressible,
    QrRefused,
)
from tchatd.domains.payment.qr.generating import generate
from tchatd.domains.payment.qr.parsing import parse
from tests.support.qr import (
    VECTORS,
    assert_second_reading_agrees,
    checksum_is_right,
    sealed,
)

MUTATIONS = int(
    os.environ.get("TCHATD_QR_MUTATIONS")
    or (1_000_000 if os.environ.get("CI") == "true" else 20_000)
)
SEED = int(os.environ.get("TCHATD_QR_SEED", "20261124"))
PAYLOADS: list[str] = [vector["payload"] for vector in VECTORS]
LETTERS = "0123456789ABCDEFabcdef.+-* ก\u202e\n"


def flipped(text: str, rng: random.Random) -> str:
    """One bit of one character."""
    at = rng.randrange(len(text))
    return text[:at] + chr(ord(text[at]) ^ 1 << rng.randrange(7)) + text[at + 1 :]


def replaced(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(LETTERS) + text[at + 1 :]


def inserted(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(LETTERS) + text[at:]


def deleted(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text))
    return text[:at] + text[at + rng.choice((1, 1, 2, 4)) :]


def swapped(text: str, rng: random.Random) -> str:
    first, second = sorted(rng.sample(range(len(text)), 2))
    between = text[first + 1 : second]
    return text[:first] + text[second] + between + text[first] + text[second + 1 :]


def repeated(text: str, rng: random.Random) -> str:
    first, second = sorted(rng.sample(range(len(text)), 2))
    return text[:second] + text[first:]


def spliced(text: str, rng: random.Random) -> str:
    other = rng.choice(PAYLOADS)
    at = rng.randrange(min(len(text), len(other)))
    return text[:at] + other[at:]


def resummed(text: str, rng: random.Random) -> str:
    """Another checksum, of the right form."""
    return f"{text[:-4]}{rng.randrange(1 << 16):04X}"


KINDS = (
    flipped,
    replaced,
    inserted,
    deleted,
    swapped,
    repeated,
    spliced,
    resummed,
)


def test_nothing_with_a_wrong_checksum_is_taken() -> None:
    rng = random.Random(SEED)
    taken = wrong = told = 0
    for _ in range(MUTATIONS):
        text = rng.choice(KINDS)(rng.choice(PAYLOADS), rng)
        right = checksum_is_right(text)
        wrong += not right
        try:
            parse(text)
        except QrRefused as refused:
            told += isinstance(refused, QrChecksumWrong)
            continue
        assert right, text
        taken += 1
    # So that it is known to have tried: what was taken is mostly what a mutation left
    # as it was.
    assert wrong > 0.9 * MUTATIONS
    assert told > 0.5 * MUTATIONS
    assert 0 < taken < 0.1 * MUTATIONS


def test_damage_under_a_right_checksum_is_refused_or_says_one_thing() -> None:
    rng = random.Random(SEED)
    taken = 0
    for _ in range(MUTATIONS // 10):
        body = rng.choice(PAYLOADS)[:-8]
        for _ in range(rng.choice((1, 1, 2))):
            body = rng.choice(KINDS[:-1])(body, rng)
        text = sealed(body)
        try:
            payment = parse(text)
        except QrRefused:
            continue
        taken += 1
        assert_second_reading_agrees(text, payment)
        try:
            again = parse(generate(payment))
        except QrNotExpressible:
            continue
        assert again == replace(payment, asks=again.asks), text
    assert taken > 0.01 * MUTATIONS // 10
