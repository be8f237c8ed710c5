"""Owns what a saga is: its steps, what they are told and may answer, its row's records.

    START = SagaType("topup", 1, (
        Step("charge", topups.charge, topups.refund),
        Step("settle", topups.settle, is_atomic=True),
    ), data=TopUp, deadline_s=86_400)

A step is a plain async function of a context and the saga's data, a frozen struct, and
returns the new data. A saga is a row; `current_step` counts the steps that are done, so
what is in the row has happened. What is not in the row may have happened: a process may
die between a step's effect and the row. So a step may be run again, always with the
same `context.key`, unless its effect is in the same database: then it is `is_atomic`
and puts `context.progress(data)` into the transaction of its effect.

Whoever writes sagas reads docs/sagas.md. What runs them is `tchatd.sagas.engine`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, Literal, Protocol, TypeVar
from uuid import UUID, uuid5

import msgspec
from msgspec import Struct, structs

DATA_BYTES_MAX: Final = 65_536
"""Of a saga's data as JSON: it is written again by each step."""
SIGNALS_MAX: Final = 32
"""Names of signals one saga may have been told."""
SIGNAL_BYTES_MAX: Final = 8_192
REASON_CHARS_MAX: Final = 500
STEPS_MAX: Final = 64
NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,47}")
"""Of saga types, steps and signals."""

D = TypeVar("D", bound=Struct)
S = TypeVar("S")
Status = Literal["started", "completed", "failed", "compensating", "compensated"]
"""compensating: going back. compensated: all undone that was done. failed: it stands
still until an operator resumes it."""


class Retry(Struct, frozen=True):
    """How a step that failed is tried again. attempts: in all; 0: without end."""

    first_s: float = 1.0
    factor: float = 2.0
    max_s: float = 300.0
    attempts: int = 10

    def delay_s(self, failures: int, chance: float) -> float:
        """Before the next attempt after so many, from 1. chance: in [0, 1); spreads
        what failed together over the second half of the delay."""
        grown = self.first_s * self.factor ** min(failures - 1, 64)
        return min(grown, self.max_s) * (0.5 + 0.5 * chance)

    def is_over(self, failures: int) -> bool:
        return 0 < self.attempts <= failures


class RetryLater(Exception):  # what is asked for, no error
    """Raised by a step: not now. why: for operators, without personal data.

    delay_s: until the next attempt; None: as the step's `Retry` says.
    """

    def __init__(self, why: str, delay_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.delay_s = delay_s


class Abort(Exception):  # what is asked for, no error
    """Raised by a step: it has had no effect, and never will; undo what was done.

    reason: for operators, without personal data.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Superseded(Exception):  # nothing went wrong
    """Raised by an atomic step, or the store it asked: its progress was refused, so
    its effect was left out. It was done before, or somebody else has the saga."""


class Wait(Struct, Generic[D], frozen=True):
    """Returned by a step that waits for the world: run it again at `until_ms`, or when
    a signal arrives that it has not seen. Nothing is held meanwhile, whatever the time.
    """

    data: D
    until_ms: int


class Recorded(Struct, frozen=True):
    """Returned by an atomic step: the progress was committed with its effect."""


RECORDED: Final = Recorded()

Run = Callable[["StepContext", D], Awaitable[D | Wait[D] | Recorded]]


class Step(Struct, Generic[D], frozen=True):
    """compensate: undoes it; may be called twice, and with `context.in_doubt` also when
    the step has had no effect. timeout_s: of one attempt, which has then failed.

    is_atomic: its effect and its progress are one commit, so it is never in doubt.
    is_pivot: once done, the saga does not go back: what follows is tried until it is
    done, whatever the deadline; where its attempts end, it stands still.
    """

    name: str
    run: Run[D]
    compensate: Run[D] | None = None
    retry: Retry = Retry()
    timeout_s: float = 30.0
    is_atomic: bool = False
    is_pivot: bool = False


Upgrade = Callable[[int, dict[str, Any]], tuple[int, dict[str, Any]]]
"""From the number of steps done and the data of an older version to those of this."""


class SagaType(Struct, Generic[D], frozen=True, kw_only=True):
    """deadline_s: from its begin; later it goes back. shown: fields of its data that
    operators may see; of others they see the name. upgrades: by older version."""

    name: str
    version: int
    steps: tuple[Step[D], ...]
    data: type[D]
    deadline_s: float
    shown: tuple[str, ...] = ()
    upgrades: Mapping[int, Upgrade] = {}

    def __post_init__(self) -> None:
        names = [step.name for step in self.steps]
        assert NAME.fullmatch(self.name), self.name
        assert all(NAME.fullmatch(name) for name in names), names
        assert len(set(names)) == len(names), f"{self.name}: two steps of one name"
        assert 1 <= len(names) <= STEPS_MAX
        assert 1 <= self.version < 1 << 15
        assert self.deadline_s > 0
        assert set(self.shown) <= set(self.data.__struct_fields__), self.shown
        assert all(old < self.version for old in self.upgrades)

    def is_past_pivot(self, steps_done: int) -> bool:
        return any(step.is_pivot for step in self.steps[:steps_done])

    def to_undo(self, steps_done: int) -> int:
        """How many of the steps done are left when those at the end that have nothing
        to undo are passed over."""
        while steps_done and self.steps[steps_done - 1].compensate is None:
            steps_done -= 1
        return steps_done

    def encoded(self, data: D) -> str:
        """Raises: ValueError, if it is not of the type, or too large."""
        if type(data) is not self.data:
            raise ValueError(f"{self.name}: data is {self.data.__name__}")
        encoded = msgspec.json.encode(data)
        if len(encoded) > DATA_BYTES_MAX:
            raise ValueError(f"{self.name}: data has over {DATA_BYTES_MAX} bytes")
        return encoded.decode()

    def decoded(self, text: str) -> D:
        """Raises: msgspec.MsgspecError."""
        return msgspec.json.decode(text, type=self.data)


class SagaRow(Struct, frozen=True):
    """A saga as it is stored. Times are milliseconds since 1970; 0: never.

    current_step: steps done; while compensating, steps that are still to be undone.
    revision: counts what its runners did; whoever expects another one has lost it.
    data, compensation_data, signals: JSON. data stays as the last step left it;
    compensation_data is what the compensations make of it, and None before.
    in_doubt: the step to be undone next may have had no effect.
    attempts: of the current step, that failed. error: the last failure.
    runner: the life of an engine that runs it, None: nobody does, before run_ms.
    abort_reason: an operator wants it to go back.
    """

    id: UUID
    saga_type: str
    version: int
    status: Status
    current_step: int
    total_steps: int
    revision: int
    data: str
    compensation_data: str | None
    in_doubt: bool
    signals: str
    signal_count: int
    attempts: int
    run_ms: int
    runner: UUID | None
    deadline_ms: int
    error: str | None
    abort_reason: str | None
    started_ms: int
    failed_ms: int
    ended_ms: int


class SagaBegun(Struct, frozen=True):
    """A new saga. Put into the transaction of what begins it, then `Sagas.launch`ed."""

    id: UUID
    saga_type: str
    version: int
    total_steps: int
    data: str
    runner: UUID | None
    run_ms: int
    deadline_ms: int
    started_ms: int

    def row(self) -> SagaRow:
        return SagaRow(
            id=self.id,
            saga_type=self.saga_type,
            version=self.version,
            status="started",
            current_step=0,
            total_steps=self.total_steps,
            revision=0,
            data=self.data,
            compensation_data=None,
            in_doubt=False,
            signals="{}",
            signal_count=0,
            attempts=0,
            run_ms=self.run_ms,
            runner=self.runner,
            deadline_ms=self.deadline_ms,
            error=None,
            abort_reason=None,
            started_ms=self.started_ms,
            failed_ms=0,
            ended_ms=0,
        )


class SagaProgress(Struct, frozen=True):
    """What becomes of a saga that is at `revision`; of another one nothing becomes.

    is_released: nobody runs it from then on. is_waiting: unless it was told more
    signals than `signals_seen`, when it is due at once.
    """

    id: UUID
    revision: int
    version: int
    total_steps: int
    status: Status
    current_step: int
    data: str
    compensation_data: str | None
    in_doubt: bool
    attempts: int
    run_ms: int
    is_released: bool
    is_waiting: bool
    signals_seen: int
    error: str | None
    failed_ms: int
    ended_ms: int


_KEPT: Final = tuple(
    name for name in SagaProgress.__struct_fields__ if name in SagaRow.__struct_fields__
)


def progress_of(row: SagaRow, **changes: Any) -> SagaProgress:
    """The row as it is but for `changes`; its runner keeps it unless they say so."""
    fields = {name: getattr(row, name) for name in _KEPT}
    fields.update(
        is_released=False, is_waiting=False, signals_seen=row.signal_count, error=None
    )
    fields.update(changes)
    return SagaProgress(**fields)


def step_done(
    row: SagaRow, saga_type: SagaType[Any], data: str, now_ms: int
) -> SagaProgress:
    """After a step, or a compensation: the next one's turn, or the end."""
    if row.status == "compensating":
        left = saga_type.to_undo(row.current_step - 1)
        changes: dict[str, Any] = {"compensation_data": data, "in_doubt": False}
        # It keeps saying why it went back.
        changes["error"] = row.error
        end: Status = "compensated"
        is_end = left == 0
    else:
        left = row.current_step + 1
        changes, end, is_end = {"data": data}, "completed", left == row.total_steps
    if is_end:
        changes |= {"status": end, "is_released": True, "ended_ms": now_ms}
    return progress_of(row, current_step=left, attempts=0, **changes)


class StepContext:
    """What one attempt of one step is told.

    step: its name. attempt: from 1. is_undo: this is its compensation.
    key: of this step of this saga, the same in every attempt; what a provider, or the
    ledger, is given as idempotency key. A compensation has its own; `key_of` tells the
    step's.
    in_doubt: of a compensation: the step may have had no effect.
    """

    __slots__ = (
        *("attempt", "deadline_ms", "in_doubt", "is_undo", "now_ms"),
        *("recorded", "row", "saga_id", "saga_type", "step"),
    )

    def __init__(
        self, row: SagaRow, saga_type: SagaType[Any], step: Step[Any], now_ms: int
    ) -> None:
        self.row = row
        self.saga_type = saga_type
        self.saga_id = row.id
        self.step = step.name
        self.attempt = row.attempts + 1
        self.deadline_ms = row.deadline_ms
        self.is_undo = row.status == "compensating"
        self.in_doubt = row.in_doubt
        self.now_ms = now_ms
        self.recorded: SagaProgress | None = None

    @property
    def key(self) -> UUID:
        name = f"undo {self.step}" if self.is_undo else self.step
        return uuid5(self.saga_id, name)

    def key_of(self, step: str) -> UUID:
        """The key that a step of this saga had."""
        assert any(known.name == step for known in self.saga_type.steps), step
        return uuid5(self.saga_id, step)

    def signal(self, name: str, type: type[S]) -> S | None:
        """What the saga was told by the signal, lately; None: nothing yet.

        Raises: msgspec.MsgspecError, if it was told something else.
        """
        told = msgspec.json.decode(self.row.signals, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(told[name], type=type) if name in told else None

    def progress(self, data: Struct) -> SagaProgress:
        """For the transaction of this step's effect, after which it is done.

        The transaction has to leave its effect out where the progress is refused, and
        the step then raises `Superseded`; else it returns `RECORDED`.
        """
        encoded = self.saga_type.encoded(data)
        self.recorded = step_done(self.row, self.saga_type, encoded, self.now_ms)
        return self.recorded


class SagaTypes:
    """The sagas that this program knows, by name and version."""

    def __init__(self, types: Iterable[SagaType[Any]] = ()) -> None:
        self._types: dict[tuple[str, int], SagaType[Any]] = {}
        self._upgrades: dict[tuple[str, int], SagaType[Any]] = {}
        self.kinds: list[tuple[str, int]] = []
        """Names and versions of rows that can be run here."""
        for saga_type in types:
            self.add(saga_type)

    def __len__(self) -> int:
        return len(self._types)

    def __iter__(self) -> Iterator[SagaType[Any]]:
        return iter(self._types.values())

    def add(self, saga_type: SagaType[Any]) -> None:
        kind = saga_type.name, saga_type.version
        assert kind not in self._types, f"{kind} is there already"
        self._types[kind] = saga_type
        for old in saga_type.upgrades:
            newest = self._upgrades.get((saga_type.name, old))
            if newest is None or newest.version < saga_type.version:
                self._upgrades[saga_type.name, old] = saga_type
        self.kinds = sorted(self._types.keys() | self._upgrades.keys())

    def upgraded(self, row: SagaRow) -> tuple[SagaRow, SagaType[Any]] | None:
        """The row as this program understands it, and its type; None: it does not.

        Of a version that is defined it is the row itself. Raises: whatever an
        upgrade raises; msgspec.MsgspecError.
        """
        kind = row.saga_type, row.version
        if (defined := self._types.get(kind)) is not None:
            return row, defined
        if (newer := self._upgrades.get(kind)) is None:
            return None
        upgrade = newer.upgrades[row.version]
        steps, data = _upgraded(upgrade, newer, row.current_step, row.data)
        undone = row.compensation_data
        if undone is not None:
            steps, undone = _upgraded(upgrade, newer, row.current_step, undone)
        as_new = structs.replace(
            row,
            version=newer.version,
            total_steps=len(newer.steps),
            current_step=steps,
            data=data,
            compensation_data=undone,
        )
        return as_new, newer


def _upgraded(
    upgrade: Upgrade, newer: SagaType[Any], steps: int, text: str
) -> tuple[int, str]:
    steps, data = upgrade(steps, msgspec.json.decode(text, type=dict[str, Any]))
    assert 0 <= steps < len(newer.steps) + 1
    return steps, newer.encoded(msgspec.convert(data, type=newer.data))


class Sagas(Protocol):
    """What begins sagas and tells them things."""

    async def begin(self, saga_type: SagaType[D], data: D, id: UUID) -> bool:
        """On return it is durable, and begins at once or when there is room.

        id: a repeat changes nothing and answers False. Raises: Unavailable.
        """
        ...

    def begun(self, saga_type: SagaType[D], data: D, id: UUID) -> SagaBegun:
        """For the transaction of what begins it; `launch` it once that is committed."""
        ...

    def launch(self, begun: SagaBegun) -> None:
        """Run what was begun in a transaction of others; not calling it delays it by
        some seconds."""
        ...

    async def signal(self, id: UUID, name: str, body: Any = None) -> bool:
        """Tell the saga something, durably; it is woken if it waits, and finds it in
        `context.signal` if it will. The same name again: the later body.

        False: there is no such saga, or it has ended. Raises: Unavailable; Invalid.
        """
        ...
