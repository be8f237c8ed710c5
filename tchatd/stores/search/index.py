"""Owns the search index on the disk: which generation is asked, which one is fed.

    FOLDER/current        {"format": 1, "generation": 7}
    FOLDER/7/             a tantivy index (generation.py)
    FOLDER/8/             the next one, while it is built

`current` is replaced by a rename when the next one is whole, so a crash while building
leaves the old one. What it does not name is deleted at the next start. The words of
all messages are in there: nobody but us may read it.

Asking runs in threads, at most `threads_max` at once, and in C: tantivy gives the
interpreter free meanwhile. What is put is written by a process of its own
(`writer_process.py`), which begins with the first `hand_over`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import trio
from msgspec import Struct

from tchatd.domains.search.errors import IndexBroken, IndexStuck, IndexUnavailable
from tchatd.domains.search.store import Doc, FoundMessage, MessageAsk
from tchatd.domains.search.text import Clause
from tchatd.observe.logging import get_logger
from tchatd.stores.search.fields import FORMAT
from tchatd.stores.search.generation import Generation
from tchatd.stores.search.writer_process import Put, WriterProcess

T = TypeVar("T")
_CURRENT: Final = "current"
_log = get_logger("search")


class IndexSettings(Struct, frozen=True, kw_only=True):
    """writer_bytes: see Writer. threads_max: searches at once; waiting_max: those
    that may wait for one of them, the next one is refused."""

    writer_bytes: int = 64_000_000
    threads_max: int = 2
    waiting_max: int = 200


class _Current(Struct):
    format: int
    generation: int


class TantivySearchIndex:
    """A `SearchIndex`. on_broken: called when asking found it damaged."""

    def __init__(
        self,
        folder: Path,
        settings: IndexSettings = IndexSettings(),  # noqa: B008  # frozen
    ) -> None:
        self.folder = folder
        self.on_broken: Callable[[], object] = lambda: None
        self._settings = settings
        self._asked: Generation | None = None
        self._next: Generation | None = None
        self._writer: WriterProcess | None = None
        self._puts: list[Put] = []
        self._reading = trio.CapacityLimiter(settings.threads_max)
        self._filing = trio.CapacityLimiter(1)

    @property
    def _fed(self) -> Generation:
        fed = self._next or self._asked
        if fed is None:
            raise IndexStuck("it was found damaged")
        return fed

    @property
    def position(self) -> int:
        return self._fed.position

    @property
    def people_ms(self) -> int:
        return self._fed.people_ms

    @property
    def is_ready(self) -> bool:
        return self._asked is not None

    @property
    def is_renewing(self) -> bool:
        return self._next is not None

    @property
    def documents(self) -> int:
        return 0 if self._asked is None else self._asked.documents

    @property
    def segments(self) -> int:
        return 0 if self._asked is None else self._asked.segments

    # Feeding.

    async def open(self) -> bool:
        self._next = None
        await self._end_writer()
        try:
            self._asked = await self._file(self._open)
        except IndexBroken as error:
            _log.error("the search index cannot be read", why=str(error))
            self._asked = None
        return self._asked is not None

    def _open(self) -> Generation | None:
        current = self._current()
        if current is not None and current.format != FORMAT:
            _log.info("the search index is of another version", format=current.format)
            current = None
        self._sweep(None if current is None else current.generation)
        if current is None:
            return None
        return Generation(self.folder / str(current.generation))

    def _current(self) -> _Current | None:
        try:
            text = (self.folder / _CURRENT).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IndexStuck(str(error)) from error
        try:
            return msgspec.json.decode(text, type=_Current)
        except msgspec.DecodeError as error:
            raise IndexBroken(f"{_CURRENT}: {error}") from error

    def _sweep(self, kept: int | None) -> None:
        """Close the folder to others, and delete all generations but one."""
        if not self.folder.is_dir():
            return
        with contextlib.suppress(PermissionError):  # somebody else's: theirs to close
            self.folder.chmod(0o700)  # older versions left it open
        for path in self.folder.iterdir():
            if path.name.isdecimal() and path.name != str(kept):
                shutil.rmtree(path, ignore_errors=True)

    async def renew(self) -> None:
        await self._end_writer()
        self._next = await self._file(self._renew)

    def _renew(self) -> Generation:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            numbers = [int(p.name) for p in self.folder.iterdir() if p.name.isdecimal()]
        except OSError as error:
            raise IndexStuck(str(error)) from error
        folder = self.folder / str(max(numbers, default=0) + 1)
        return Generation(folder, is_new=True)

    def put(self, doc: Doc, *, is_new: bool = False) -> None:
        self._put(doc, is_new)

    def drop_dialog(self, number: int) -> None:
        self._put(number, False)

    def _put(self, doc: Doc | int, is_new: bool) -> None:
        if self._next is None and self._asked is None:
            raise IndexStuck("it was found damaged")
        self._puts.append((is_new, doc))

    async def hand_over(self) -> None:
        if not self._puts:
            await trio.lowlevel.checkpoint()
            return
        puts, self._puts = self._puts, []
        writer = await self._open_writer()
        await writer.put(puts)

    async def commit(self, position: int, people_ms: int) -> None:
        await self.hand_over()
        fed = self._fed
        writer = await self._open_writer()
        await writer.commit(position, people_ms)
        await self._file(fed.refresh)

    async def _open_writer(self) -> WriterProcess:
        if self._writer is None:
            self._writer = await WriterProcess.start(
                self._fed.folder, self._settings.writer_bytes
            )
        return self._writer

    async def _end_writer(self) -> None:
        self._puts.clear()
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.close()

    async def publish(self) -> None:
        built = self._next
        assert built is not None, "renew"
        await self._file(partial(self._name_current, int(built.folder.name)))
        self._asked, self._next = built, None
        await self._file(partial(self._sweep, int(built.folder.name)))

    def _name_current(self, generation: int) -> None:
        text = msgspec.json.encode(_Current(FORMAT, generation))
        new = self.folder / f"{_CURRENT}.new"
        try:
            with new.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.folder / _CURRENT)
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise IndexStuck(str(error)) from error

    async def close(self) -> None:
        self._asked = self._next = None
        await self._end_writer()

    async def _file(self, run: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(run, limiter=self._filing)

    # Asking.

    async def messages(self, ask: MessageAsk) -> list[FoundMessage]:
        return await self._read(lambda index: index.messages(ask))

    async def dialogs(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        return await self._read(lambda index: index.dialogs(clauses, among, limit))

    async def people(
        self, clauses: Sequence[Clause], among: Sequence[int] | None, limit: int
    ) -> list[int]:
        return await self._read(lambda index: index.people(clauses, among, limit))

    async def _read(self, ask: Callable[[Generation], T]) -> T:
        asked = self._asked
        if asked is None:
            raise IndexUnavailable("The search index is being built.")
        if self._reading.statistics().tasks_waiting >= self._settings.waiting_max:
            raise IndexUnavailable("Too many searches at once.", retry_after_s=1)
        try:
            return await trio.to_thread.run_sync(
                partial(ask, asked), limiter=self._reading, abandon_on_cancel=True
            )
        except IndexBroken as error:
            if self._asked is asked:
                _log.error("the search index is damaged", why=str(error))
                self._asked = None
                self.on_broken()
            raise IndexUnavailable("The search index is being built.") from error
