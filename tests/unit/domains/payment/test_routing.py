"""Which provider is asked, and why; and who may be asked after a failure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tchatd.domains.payment.fees import FeeSchedule
from tchatd.domains.payment.providers import (
    Capabilities,
    Declined,
    DeclineReason,
    DoubtReason,
    Health,
    InDoubt,
    Method,
    NotProcessed,
    NotProcessedReason,
    Offer,
)
from tchatd.domains.payment.routing import (
    Candidate,
    Wanted,
    choose,
    may_ask_another,
    may_repeat,
    preferences,
)
from tchatd.kernel.money import Currency

DEFAULTS = ["TH omise", "SG stripe", "MY stripe", "VN stripe", "ID stripe", "PH stripe"]
PREFERRED = preferences(DEFAULTS)
OWN = {
    "TH": Currency.THB,
    "SG": Currency.SGD,
    "MY": Currency.MYR,
    "ID": Currency.IDR,
    "PH": Currency.PHP,
    "VN": Currency.VND,
}


def cards(least: int = 100, most: int = 10_000_000) -> Capabilities:
    return Capabilities(
        topups=tuple(
            Offer(country, Method.CREDIT_CARD, currency, least, most)
            for country, currency in OWN.items()
        )
    )


def candidate(name: str, **changes: Any) -> Candidate:
    fees = {"stripe": FeeSchedule(290), "omise": FeeSchedule(275)}
    values: dict[str, Any] = {
        "name": name,
        "capabilities": cards(),
        "fees": fees.get(name, FeeSchedule()),
    }
    return Candidate(**(values | changes))


def wanted(country: str = "TH", **changes: Any) -> Wanted:
    values: dict[str, Any] = {
        "kind": "topup",
        "country": country,
        "method": Method.CREDIT_CARD,
        "currency": OWN.get(country, Currency.USD),
        "amount_minor": 10_000,
    }
    return Wanted(**(values | changes))


BOTH = [candidate("stripe"), candidate("omise")]


@pytest.mark.parametrize("country", OWN)
def test_by_default_thailand_is_omises_and_the_rest_stripes(country: str) -> None:
    first, other = ("omise", "stripe") if country == "TH" else ("stripe", "omise")
    choice = choose(wanted(country), BOTH, PREFERRED)
    assert (choice.chosen, choice.order) == (first, (first, other))


@pytest.mark.parametrize("country", OWN)
def test_after_what_was_not_processed_the_other_one_is_asked(country: str) -> None:
    first = choose(wanted(country), BOTH, PREFERRED).chosen
    assert first is not None
    second = choose(wanted(country), BOTH, PREFERRED, frozenset({first}))
    assert second.chosen not in (None, first)
    assert choose(
        wanted(country), BOTH, PREFERRED, frozenset({"stripe", "omise"})
    ).chosen is (None)


def test_only_what_was_certainly_not_begun_goes_elsewhere() -> None:
    assert may_ask_another(NotProcessed("x", NotProcessedReason.UNREACHABLE))
    for reason in DoubtReason:
        assert not may_ask_another(InDoubt("x", reason))
    for decline in DeclineReason:
        assert not may_ask_another(Declined("x", decline))


@pytest.mark.parametrize(
    ("same_key_s", "later_s", "may"),
    [(82_800, 82_799, True), (82_800, 82_800, False), (0, 0, False)],
)
def test_what_is_in_doubt_is_repeated_only_while_the_key_is_kept(
    same_key_s: int, later_s: int, may: bool
) -> None:
    doubt = InDoubt("x", DoubtReason.TIMEOUT)
    assert may_repeat(doubt, same_key_s, 5_000, 5_000 + later_s * 1000) is may


def test_what_was_not_begun_is_repeated_and_a_refusal_never() -> None:
    assert may_repeat(NotProcessed("x", NotProcessedReason.BUSY), 0, 0, 10**9)
    assert not may_repeat(Declined("x", DeclineReason.OTHER), 82_800, 0, 0)


def test_an_open_breaker_moves_the_choice_and_a_half_open_one_does_not() -> None:
    def with_omise(health: Health) -> str | None:
        both = [candidate("stripe"), candidate("omise", health=health)]
        return choose(wanted(), both, PREFERRED).chosen

    assert with_omise(Health("open", 0)) == "stripe"
    assert with_omise(Health("half_open", 0)) == "omise"
    assert with_omise(Health("closed", 99)) == "omise"


def test_without_a_preference_the_cheaper_one_then_the_healthier_one() -> None:
    assert choose(wanted(), BOTH, {}).order == ("omise", "stripe")
    same = FeeSchedule(100)
    sick = candidate("a", fees=same, health=Health("closed", 20))
    well = candidate("b", fees=same, health=Health("closed", 5))
    assert choose(wanted(), [sick, well], {}).order == ("b", "a")
    assert choose(
        wanted(), [candidate("b", fees=same), candidate("a", fees=same)], {}
    ).order == ("a", "b")


def test_the_cheaper_one_depends_on_the_amount() -> None:
    fixed = candidate("fixed", fees=FeeSchedule(0, {Currency.THB: 500}))
    share = candidate("share", fees=FeeSchedule(100))
    assert choose(wanted(amount_minor=10_000), [fixed, share], {}).chosen == "share"
    assert choose(wanted(amount_minor=100_000), [fixed, share], {}).chosen == "fixed"


@pytest.mark.parametrize(
    ("changes", "out"),
    [
        ({"country": "JP"}, "country"),
        ({"method": Method.PROMPTPAY}, "method"),
        ({"currency": Currency.USD}, "currency"),
        ({"amount_minor": 99}, "amount"),
        ({"amount_minor": 10_000_001}, "amount"),
        ({"kind": "payout"}, "country"),
    ],
)
def test_who_cannot_do_it_is_out_and_it_is_said_why(
    changes: dict[str, Any], out: str
) -> None:
    choice = choose(wanted(**changes), BOTH, PREFERRED)
    assert choice.chosen is None
    assert [verdict.out for verdict in choice.verdicts] == [out, out]
    assert not choice.is_only_away
    assert choice.explained() == f"not stripe: {out}; not omise: {out}"


@pytest.mark.parametrize("amount", [100, 10_000_000])
def test_both_ends_of_an_offer_belong_to_it(amount: int) -> None:
    assert choose(wanted(amount_minor=amount), BOTH, PREFERRED).chosen == "omise"


def test_a_stand_in_is_asked_only_where_nobody_else_can_be() -> None:
    sandbox = candidate("sandbox", is_stand_in=True)
    assert choose(wanted(), [sandbox, *BOTH], PREFERRED).order[-1] == "sandbox"
    assert choose(wanted(), [sandbox], {"TH": "sandbox"}).chosen == "sandbox"


def test_a_choice_says_itself() -> None:
    away = candidate("stripe", health=Health("open", 80))
    choice = choose(wanted(), [away, candidate("omise")], PREFERRED)
    assert choice.explained() == (
        "omise (preferred, fee 275, 0 % failed); not stripe: open"
    )
    nobody = choose(wanted(), [away], PREFERRED)
    assert nobody.is_only_away
    assert choose(wanted(), [], PREFERRED).explained() == "no provider"


@given(st.permutations(["a", "b", "c", "d"]), st.integers(100, 1_000_000))
def test_the_order_of_candidates_decides_nothing(names: list[str], amount: int) -> None:
    fees = {"a": 100, "b": 100, "c": 50, "d": 300}
    made = [candidate(name, fees=FeeSchedule(fees[name])) for name in names]
    of = wanted(amount_minor=amount)
    order = choose(of, made, {"TH": "d"}).order
    assert order == choose(of, sorted(made, key=lambda c: c.name), {"TH": "d"}).order
    assert order[0] == "d"


@pytest.mark.parametrize(
    "texts", [["TH"], ["th omise"], ["THA omise"], ["TH omise", "TH stripe"], [""]]
)
def test_what_is_no_preference_is_named(texts: list[str]) -> None:
    with pytest.raises(ValueError, match=r"is no country|is there twice"):
        preferences(texts)
