"""Who sees what of whom: the whole table, and limits."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from tchatd.domains.people import rules
from tchatd.domains.people.errors import PreferencesTooLarge
from tchatd.domains.people.models import (
    PLAIN,
    PREFERENCES_BYTES_MAX,
    Audience,
    ChangePrivacy,
    Circle,
    Numbers,
    Privacy,
    Sight,
)
from tchatd.domains.people.rules import PeopleSettings

VIEWER, TARGET = 1, 2
AUDIENCES: tuple[Audience, ...] = get_args(Audience)


def circle(
    last_seen: Audience, *, knows: int | None = None, blocks: int | None = None
) -> Circle:
    return Circle(
        1,
        Privacy(last_seen=last_seen),
        Numbers([] if knows is None else [knows]),
        Numbers([] if blocks is None else [blocks]),
    )


def shows(audience: Audience, knows: bool) -> bool:
    return audience == "everyone" or (audience == "contacts" and knows)


@pytest.mark.parametrize(
    ("theirs", "they_know", "own", "own_know"),
    list(product(AUDIENCES, (False, True), AUDIENCES, (False, True))),
)
def test_last_seen_is_seen_by_who_may_and_shows_their_own(
    theirs: Audience, they_know: bool, own: Audience, own_know: bool
) -> None:
    target = circle(theirs, knows=VIEWER if they_know else None)
    viewer = circle(own, knows=TARGET if own_know else None)
    both = shows(theirs, they_know) and shows(own, own_know)
    expected: Sight = "exact" if both else "coarse"
    assert rules.sight(VIEWER, viewer, TARGET, target) == expected


@pytest.mark.parametrize("last_seen", AUDIENCES)
def test_who_is_blocked_sees_nothing(last_seen: Audience) -> None:
    target = circle(last_seen, knows=VIEWER, blocks=VIEWER)
    assert rules.sight(VIEWER, PLAIN, TARGET, target) == "nothing"


def test_who_blocks_still_sees_what_they_may() -> None:
    viewer = circle("everyone", blocks=TARGET)
    assert rules.sight(VIEWER, viewer, TARGET, PLAIN) == "exact"


def test_everybody_sees_themselves() -> None:
    hidden = circle("nobody")
    assert rules.sight(VIEWER, hidden, VIEWER, hidden) == "exact"


@pytest.mark.parametrize(
    ("audience", "is_contact", "is_blocked"),
    list(product(AUDIENCES, (False, True), (False, True))),
)
def test_an_audience_is_who_it_says_without_who_is_blocked(
    audience: Audience, is_contact: bool, is_blocked: bool
) -> None:
    owner = circle(
        "everyone",
        knows=VIEWER if is_contact else None,
        blocks=VIEWER if is_blocked else None,
    )
    expected = shows(audience, is_contact) and not is_blocked
    assert rules.admits(audience, owner, VIEWER) is expected


def test_a_change_of_privacy_leaves_the_rest() -> None:
    before = Privacy(phone="nobody")
    after = rules.changed(before, ChangePrivacy(last_seen="nobody", findable=False))
    assert after == Privacy(phone="nobody", last_seen="nobody", findable=False)
    assert rules.changed(after, ChangePrivacy()) == after


def test_preferences_have_a_limit() -> None:
    fits: dict[str, Any] = {"a": "x" * (PREFERENCES_BYTES_MAX - len('{"a":""}'))}
    assert len(rules.preferences_text(fits)) == PREFERENCES_BYTES_MAX
    with pytest.raises(PreferencesTooLarge):
        rules.preferences_text(fits | {"b": 1})


def test_a_limit_is_at_least_one() -> None:
    with pytest.raises(ValueError, match="blocks_max"):
        PeopleSettings(blocks_max=0)
