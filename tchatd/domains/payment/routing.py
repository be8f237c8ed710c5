"""Owns which provider is asked, and why; asks nobody.

A provider is out if it does not do what is wanted (country, method, currency, amount),
was asked already, or its breaker is open. Of the others the one that is preferred for
the country comes first, then the cheaper one by its fee of this amount, then the one
that failed less lately, then by name, so that the same question has one answer.

A half-open breaker does not count against a provider: only calls can close it, and
those that it does not let through are not processed and go on to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from tchatd.domains.payment.fees import FeeSchedule
from tchatd.domains.payment.providers import (
    Capabilities,
    Health,
    InDoubt,
    Method,
    NotProcessed,
    Offer,
    ProviderFailure,
)
from tchatd.kernel.money import Currency

NO_FEES: Final = FeeSchedule()
Kind = Literal["topup", "payout"]
Out = Literal["", "country", "method", "currency", "amount", "asked already", "open"]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    kind: Kind
    country: str
    method: Method
    currency: Currency
    amount_minor: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """fees: what it takes of us; decides, and is not what the user pays.
    is_stand_in: only asked where nobody else can be (the sandbox)."""

    name: str
    capabilities: Capabilities
    health: Health = Health()
    fees: FeeSchedule = NO_FEES
    is_stand_in: bool = False


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Of one candidate, for the log. out: why it is not asked, "" if it may be.
    rank: 0 is preferred for the country, 2 a stand-in. cost_minor: its fee; 0 if it is
    out."""

    name: str
    out: Out
    rank: int = 0
    cost_minor: int = 0
    failure_percent: int = 0
    breaker: str = "closed"


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """chosen: None if nobody can. order: who may be asked, the chosen one first."""

    chosen: str | None
    order: tuple[str, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def is_only_away(self) -> bool:
        """Nobody is chosen, and somebody would be if their breaker were not open."""
        return self.chosen is None and any(v.out == "open" for v in self.verdicts)

    def explained(self) -> str:
        """A line for the log: `omise (preferred, fee 300, 0 % failed); not stripe:
        open`."""
        by_name = {verdict.name: verdict for verdict in self.verdicts}
        words = []
        for name in self.order:
            found = by_name[name]
            preferred = "preferred, " if found.rank == 0 else ""
            words.append(
                f"{name} ({preferred}fee {found.cost_minor},"
                f" {found.failure_percent} % failed)"
            )
        words += [f"not {v.name}: {v.out}" for v in self.verdicts if v.out]
        return "; ".join(words) or "no provider"


def choose(
    wanted: Wanted,
    candidates: Sequence[Candidate],
    preferred: Mapping[str, str],
    asked: frozenset[str] = frozenset(),
) -> Choice:
    """Who is asked.

    preferred: the provider's name by country. asked: who said `NotProcessed` to it.
    """
    verdicts = [
        _verdict(wanted, candidate, preferred, asked) for candidate in candidates
    ]
    order = sorted(
        (verdict for verdict in verdicts if not verdict.out),
        key=lambda of: (of.rank, of.cost_minor, of.failure_percent, of.name),
    )
    names = tuple(verdict.name for verdict in order)
    return Choice(
        chosen=names[0] if names else None, order=names, verdicts=tuple(verdicts)
    )


def may_ask_another(failure: ProviderFailure) -> bool:
    """Only what was certainly not begun may go elsewhere."""
    return isinstance(failure, NotProcessed)


def may_repeat(
    failure: ProviderFailure, same_key_s: int, first_at_ms: int, now_ms: int
) -> bool:
    """Whether the same provider may be asked the same again, with the same key.

    same_key_s: of its capabilities. first_at_ms: of the first attempt with this key.
    """
    if isinstance(failure, InDoubt):
        return now_ms - first_at_ms < same_key_s * 1000
    return isinstance(failure, NotProcessed)


def _verdict(
    wanted: Wanted,
    candidate: Candidate,
    preferred: Mapping[str, str],
    asked: frozenset[str],
) -> Verdict:
    health = candidate.health
    out = _out(wanted, candidate.capabilities)
    if not out and candidate.name in asked:
        out = "asked already"
    if not out and health.breaker == "open":
        out = "open"
    cost = 0 if out else candidate.fees.fee(wanted.amount_minor, wanted.currency)
    return Verdict(
        name=candidate.name,
        out=out,
        rank=_rank(wanted, candidate, preferred),
        cost_minor=cost,
        failure_percent=health.failure_percent,
        breaker=health.breaker,
    )


def _rank(wanted: Wanted, candidate: Candidate, preferred: Mapping[str, str]) -> int:
    if candidate.is_stand_in:
        return 2
    return 0 if preferred.get(wanted.country) == candidate.name else 1


def _out(wanted: Wanted, capabilities: Capabilities) -> Out:
    """The first thing that none of its offers has, in this order."""
    offers: Sequence[Offer] = (
        capabilities.topups if wanted.kind == "topup" else capabilities.payouts
    )
    offers = [offer for offer in offers if offer.country == wanted.country]
    if not offers:
        return "country"
    offers = [offer for offer in offers if offer.method is wanted.method]
    if not offers:
        return "method"
    offers = [offer for offer in offers if offer.currency is wanted.currency]
    if not offers:
        return "currency"
    amount = wanted.amount_minor
    if not any(offer.amount_min <= amount <= offer.amount_max for offer in offers):
        return "amount"
    return ""


def preferences(texts: Sequence[str]) -> dict[str, str]:
    """`["TH omise", "SG stripe"]`, as the settings have it, by country.

    Raises: ValueError, with a sentence.
    """
    found: dict[str, str] = {}
    for text in texts:
        country, _, name = text.partition(" ")
        if not (len(country) == 2 and country.isalpha() and country.isupper() and name):
            raise ValueError(f"{text!r} is no country and provider")
        if country in found:
            raise ValueError(f"{country} is there twice")
        found[country] = name
    return found
