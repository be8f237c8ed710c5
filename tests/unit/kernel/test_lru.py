"""The bounded cache against the plainest model of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tchatd.kernel.lru import Lru


def test_the_least_recently_used_goes_and_is_returned() -> None:
    lru: Lru[str, int] = Lru(2)
    assert lru.put("a", 1) is None
    assert lru.put("b", 2) is None
    assert lru.get("a") == 1
    assert lru.put("c", 3) == 2
    assert list(lru) == ["a", "c"]
    assert "b" not in lru


def test_a_peek_is_no_use() -> None:
    lru: Lru[str, int] = Lru(2)
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.peek("a") == 1
    lru.put("c", 3)
    assert lru.get("a") is None


def test_clear_and_pop_forget() -> None:
    lru: Lru[str, int] = Lru(3)
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.pop("a") == 1
    assert lru.pop("a") is None
    lru.clear()
    assert len(lru) == 0


@given(
    size=st.integers(1, 4),
    steps=st.lists(st.tuples(st.sampled_from("gpd"), st.integers(0, 6)), max_size=60),
)
def test_it_does_what_a_list_in_order_of_use_does(
    size: int, steps: list[tuple[str, int]]
) -> None:
    lru: Lru[int, int] = Lru(size)
    model: list[tuple[int, int]] = []
    for count, (what, key) in enumerate(steps):
        known = dict(model).get(key)
        if what == "d":
            assert lru.pop(key) == known
            model = [entry for entry in model if entry[0] != key]
            continue
        if what == "g":
            assert lru.get(key) == known
            if known is None:
                continue
            value = known
        else:
            value = count
            lru.put(key, value)
        model = [entry for entry in model if entry[0] != key] + [(key, value)]
        model = model[-size:]
        assert list(lru) == [entry[0] for entry in model]
