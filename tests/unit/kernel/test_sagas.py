"""What a saga may be, and how its row goes from step to step."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

import msgspec
import pytest
from msgspec import Struct, structs

from tchatd.kernel import sagas
from tchatd.kernel.sagas import (
    Retry,
    SagaBegun,
    SagaRow,
    SagaType,
    SagaTypes,
    Step,
    StepContext,
    progress_of,
    step_done,
)

ID = UUID(int=7)


class Data(Struct, frozen=True):
    amount_minor: int = 0
    note: str = ""


async def run(context: StepContext, data: Data) -> Data:
    return data


def a_type(version: int = 1, undo: str = "ab", **changes: Any) -> SagaType[Data]:
    """Steps a, b and c; those in `undo` have a compensation."""
    steps = tuple(
        Step(name, run, run if name in undo else None, is_pivot=name == "c")
        for name in "abc"
    )
    fields: dict[str, Any] = {"steps": steps, "data": Data, "deadline_s": 60.0}
    return SagaType(name="topup", version=version, **fields | changes)


def a_row(**changes: Any) -> SagaRow:
    begun = SagaBegun(ID, "topup", 1, 3, "{}", None, 5, 60_000, 5)
    return structs.replace(begun.row(), **changes)


def test_delays_grow_to_their_most_and_spread() -> None:
    retry = Retry(first_s=1, factor=2, max_s=5, attempts=4)
    assert [retry.delay_s(n, 1.0) for n in (1, 2, 3, 4, 999)] == [1, 2, 4, 5, 5]
    assert retry.delay_s(1, 0.0) == 0.5
    assert [retry.is_over(n) for n in (3, 4, 5)] == [False, True, True]
    assert not Retry(attempts=0).is_over(10**6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "No Name"},
        {"version": 0},
        {"steps": ()},
        {"steps": (Step("a", run), Step("a", run))},
        {"steps": (Step("A", run),)},
        {"deadline_s": 0},
        {"shown": ("phone",)},
        {"upgrades": {1: lambda steps, data: (steps, data)}},
    ],
)
def test_a_saga_type_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        structs.replace(a_type(), **wrong)


def test_steps_lead_to_the_end() -> None:
    row, names = a_row(runner=UUID(int=1), attempts=3, error="why"), []
    for number in range(3):
        progress = step_done(row, a_type(), f'{{"amount_minor":{number}}}', 9)
        names.append((progress.status, progress.current_step, progress.is_released))
        assert (progress.attempts, progress.error) == (0, None)
        row = structs.replace(
            row,
            current_step=progress.current_step,
            status=progress.status,
            data=progress.data,
        )
    assert names == [
        ("started", 1, False),
        ("started", 2, False),
        ("completed", 3, True),
    ]
    assert (row.data, progress.ended_ms) == ('{"amount_minor":2}', 9)


def test_compensations_lead_back_over_what_has_nothing_to_undo() -> None:
    row = a_row(
        status="compensating",
        current_step=3,
        compensation_data="{}",
        in_doubt=True,
        error="the reason",
    )
    first = step_done(row, a_type(undo="ac"), '{"note":"c"}', 9)
    assert (first.status, first.current_step, first.in_doubt) == (
        *("compensating", 1),
        False,
    )
    assert (first.data, first.compensation_data) == ("{}", '{"note":"c"}')
    assert first.error == "the reason"
    row = structs.replace(row, current_step=1)
    last = step_done(row, a_type(undo="ac"), "{}", 9)
    assert (last.status, last.current_step, last.ended_ms) == ("compensated", 0, 9)
    assert last.is_released


def test_progress_is_of_the_row_as_it_was_seen() -> None:
    row = a_row(revision=4, signal_count=2, attempts=1, run_ms=77)
    progress = progress_of(row, current_step=1)
    assert (progress.revision, progress.signals_seen) == (4, 2)
    assert (progress.run_ms, progress.attempts) == (77, 1)
    assert not progress.is_released


def test_a_step_has_one_key_and_its_compensation_another() -> None:
    saga_type = a_type()
    first = StepContext(a_row(), saga_type, saga_type.steps[0], 1)
    again = StepContext(a_row(attempts=3), saga_type, saga_type.steps[0], 2)
    undo = StepContext(
        a_row(status="compensating", in_doubt=True), saga_type, saga_type.steps[0], 3
    )
    assert first.key == again.key == undo.key_of("a") == uuid5(ID, "a")
    assert undo.key not in (first.key, first.key_of("b"))
    assert (first.attempt, again.attempt) == (1, 4)
    assert (undo.in_doubt, again.in_doubt) == (True, False)


def test_a_step_reads_the_signals_it_knows() -> None:
    saga_type = a_type()
    row = a_row(signals='{"paid": {"amount_minor": 5}, "other": [1]}')
    context = StepContext(row, saga_type, saga_type.steps[0], 1)
    assert context.signal("paid", Data) == Data(5)
    assert context.signal("nothing", Data) is None
    with pytest.raises(msgspec.ValidationError):
        context.signal("other", Data)


def test_a_context_remembers_the_progress_it_gave_away() -> None:
    saga_type = a_type()
    context = StepContext(a_row(), saga_type, saga_type.steps[0], 8)
    progress = context.progress(Data(3))
    assert context.recorded is progress
    assert (progress.current_step, progress.data) == (
        1,
        '{"amount_minor":3,"note":""}',
    )


def test_data_of_another_type_or_too_large_is_refused() -> None:
    class Other(Struct, frozen=True):
        pass

    with pytest.raises(ValueError, match="data is Data"):
        a_type().encoded(Other())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="bytes"):
        a_type().encoded(Data(note="x" * sagas.DATA_BYTES_MAX))
    assert a_type().decoded('{"amount_minor":4}') == Data(4)
    with pytest.raises(msgspec.ValidationError):
        a_type().decoded('{"amount_minor":"4"}')


def test_a_row_runs_under_its_own_version_or_one_that_takes_it_over() -> None:
    def upgrade(steps: int, data: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return steps + 1, {"amount_minor": data["amount"] * 100}

    newer = a_type(3, upgrades={1: upgrade, 2: upgrade})
    types = SagaTypes([a_type(2), newer])
    assert types.kinds == [("topup", 1), ("topup", 2), ("topup", 3)]
    own = a_row(version=2)
    assert types.upgraded(own) == (own, types._types["topup", 2])
    old = a_row(current_step=1, data='{"amount":5}', compensation_data='{"amount":6}')
    taken = types.upgraded(old)
    assert taken is not None
    row, saga_type = taken
    assert saga_type is newer
    assert (row.version, row.current_step, row.total_steps) == (3, 2, 3)
    assert newer.decoded(row.data) == Data(500)
    assert row.compensation_data is not None
    assert newer.decoded(row.compensation_data) == Data(600)
    assert types.upgraded(a_row(version=9)) is None
    assert types.upgraded(a_row(saga_type="other")) is None


def test_an_upgrade_that_makes_no_sense_is_not_run() -> None:
    wrong = a_type(2, upgrades={1: lambda steps, data: (steps + 9, {})})
    with pytest.raises(AssertionError):
        SagaTypes([wrong]).upgraded(a_row())
    with pytest.raises(AssertionError):
        SagaTypes([a_type(), a_type()])


def test_what_is_past_the_pivot_and_what_is_to_undo() -> None:
    saga_type = a_type(undo="a")
    assert [saga_type.is_past_pivot(n) for n in range(4)] == [False] * 3 + [True]
    assert [saga_type.to_undo(n) for n in range(4)] == [0, 1, 1, 1]
