from __future__ import annotations

from pathlib import Path

from tchatd.journal.errors import JournalDamaged, JournalFailed, JournalFull
from tchatd.kernel.errors import DomainError, ErrorKind


def test_only_fullness_is_an_answer_to_a_caller() -> None:
    assert JournalFull(retry_after_s=3).kind is ErrorKind.UNAVAILABLE
    assert JournalFull(retry_after_s=3).retry_after_s == 3
    assert not issubclass(JournalFailed, DomainError)
    assert not issubclass(JournalDamaged, DomainError)


def test_damage_names_file_and_byte() -> None:
    error = JournalDamaged(Path("x.journal"), 4096, "the header is gone")
    assert str(error) == "x.journal is damaged at byte 4096: the header is gone"
