"""Owns search over 10 million messages in eight languages: how fast, and what it finds.

The index is built in this process as the daemon builds it (documents made on Trio's
thread, one indexing thread, a commit every 5,000), until all messages are in or
BUILD_S_MAX is over; $BENCH_SEARCH_MESSAGES asks for another number. What is in them and
what is asked for: bench/phrases.py, bench/asking.py. A question goes through tchatd's
own search service; what is left out is HTTP and reading the hits' rows, which the
second part has.

Recall: of the questions that were made of a message, those that find it on a page that
begins at its time, so that it counts whether it is found, not how many others match.

Second part: a daemon and its PostgreSQL with fewer messages, of one person in 100
dialogs, over HTTP. Baseline there: PostgreSQL alone, the same questions by ILIKE with a
trigram index (pg_trgm) over the same rows.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec
import psycopg
import trio

from bench import processes
from bench.asking import (
    KINDS,
    Corpus,
    CorpusConversations,
    NoPeople,
    Question,
)
from bench.cases.history import write_some
from bench.daemon import MeasuredDaemon
from bench.generator import Failed, generate
from bench.plan import Plan
from bench.report import Report
from bench.seed import make_users, sign
from tchatd.domains.search.models import SearchMessages
from tchatd.domains.search.service import SearchService, SearchSettings
from tchatd.domains.search.store import PUTS_MAX
from tchatd.domains.search.text import parse
from tchatd.kernel.routing import Caller, Context
from tchatd.stores.search.index import TantivySearchIndex

MESSAGES, QUICK_MESSAGES = 10_000_000, 100_000
BUILD_S_MAX = 600.0
COMMITTED = 50 * PUTS_MAX
QUESTIONS, QUICK_QUESTIONS = 3_000, 600
P99_MS_AT_MOST, RECALL_AT_LEAST = 50.0, 0.95
STORED, QUICK_STORED = 500_000, 20_000
"""Of the second part."""
DIALOGS = 100
CONNECTIONS = 2
REBUILD_S_MAX = 600.0
FIRST_NUMBER = 1 << 40


def run(plan: Plan) -> Report:
    wanted = QUICK_MESSAGES if plan.quick else MESSAGES
    wanted = int(os.environ.get("BENCH_SEARCH_MESSAGES", wanted))
    questions = QUICK_QUESTIONS if plan.quick else QUESTIONS
    report = Report(
        "search",
        seed=plan.seed,
        settings=plan.settings(
            messages_wanted=wanted, questions=questions, stored=_stored(plan)
        ),
    )
    folder = Path(tempfile.mkdtemp(prefix="tchatd-search-"))
    try:
        trio.run(_measure_index, plan, report, folder, wanted, questions)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _measure_daemon(plan, report, questions)
    return report


def _stored(plan: Plan) -> int:
    return QUICK_STORED if plan.quick else STORED


# The index.


async def _measure_index(
    plan: Plan, report: Report, folder: Path, wanted: int, count: int
) -> None:
    corpus = Corpus(plan.seed, wanted)
    index = TantivySearchIndex(folder / "search")
    await index.open()
    await index.renew()
    await _build(report, corpus, index, wanted)
    report.add("size on disk", _bytes_of(folder) / corpus.count, "bytes/message")
    report.add("segments", float(index.segments), "segments", higher_is_better=False)
    service = SearchService(
        index,
        CorpusConversations(corpus),
        NoPeople(),
        NoPeople(),
        SearchSettings(),
        trio.lowlevel.checkpoint,
    )
    for _ in range(plan.runs):
        asked = list(corpus.questions(count))
        await _time(report, corpus, service, asked)
        await _recall(report, corpus, service, asked)
    await index.close()


async def _build(
    report: Report, corpus: Corpus, index: TantivySearchIndex, wanted: int
) -> None:
    """As many as there is time for. The CPU that making the phrases takes is not
    counted; the writer's is."""
    began_s, began_cpu_s, made_s = time.monotonic(), time.process_time(), 0.0
    done = 0
    while done < wanted and time.monotonic() - began_s < BUILD_S_MAX:
        making_s = time.thread_time()
        last = min(done + PUTS_MAX, wanted)
        docs = [corpus.doc(n) for n in range(done, last)]
        made_s += time.thread_time() - making_s
        for doc in docs:
            index.put(doc, is_new=True)
        await index.hand_over()
        done = last
        if done % COMMITTED == 0:
            await index.commit(done, 0)
    await index.commit(done, 0)
    await index.publish()
    writers = processes.descendants(os.getpid())[1:]
    cpu_s = time.process_time() - began_cpu_s - made_s + processes.cpu_s(writers)
    corpus.count = done
    corpus.settle()
    report.add("messages in the index", done, "messages")
    report.add("CPU to index", cpu_s / done * 1e6, "us/message", higher_is_better=False)
    took_s = time.monotonic() - began_s
    report.add("indexed, phrases made meanwhile", done / took_s, "messages/s")


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _context(question: Question) -> Context:
    id = UUID(int=question.asker.number)
    return Context("r", "127.0.0.1", Caller(id, question.asker.number, id))


async def _time(
    report: Report, corpus: Corpus, service: SearchService, asked: list[Question]
) -> None:
    """One after the other, each once, mixed."""
    spent: dict[str, list[float]] = {kind: [] for kind in KINDS}
    by_size: dict[int, list[float]] = {}
    everything: list[float] = []
    for index, question in enumerate(asked):
        command = _command(corpus, question, index)
        began_s = time.perf_counter()
        await service.search_messages(_context(question), command)
        took_ms = 1e3 * (time.perf_counter() - began_s)
        everything.append(took_ms)
        spent[question.kind].append(took_ms)
        by_size.setdefault(len(question.asker.dialogs), []).append(took_ms)
    report.add("search: p50", _rank(everything, 0.5), "ms", higher_is_better=False)
    report.add("search: p99", _rank(everything, 0.99), "ms", at_most=P99_MS_AT_MOST)
    for kind, times in spent.items():
        what = f"search, {kind}: p99"
        report.add(what, _rank(times, 0.99), "ms", higher_is_better=False)
    for size, times in sorted(by_size.items()):
        what = f"search, in {size:,} dialogs: p99"
        report.add(what, _rank(times, 0.99), "ms", higher_is_better=False)


def _command(corpus: Corpus, question: Question, index: int) -> SearchMessages:
    filters: dict[str, Any] = {}
    if index % 7 == 3:
        n = question.n
        number = question.asker.dialogs[0] if n < 0 else corpus.dialog_of(n)
        filters["dialog_id"] = UUID(int=number)
    elif index % 7 == 5:
        at_ms = corpus.at_ms(max(question.n, corpus.count // 2))
        filters["since"] = _time_of(at_ms) - timedelta(days=15)
        filters["until"] = _time_of(at_ms) + timedelta(days=15)
    return SearchMessages(q=question.q, **filters)


def _time_of(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


async def _recall(
    report: Report, corpus: Corpus, service: SearchService, asked: list[Question]
) -> None:
    found: dict[str, list[bool]] = {kind: [] for kind in KINDS if kind != "common"}
    for question in asked:
        if question.n < 0:
            continue
        until = _time_of(corpus.at_ms(question.n) + 1)
        command = SearchMessages(q=question.q, until=until, limit=50)
        page = await service.search_messages(_context(question), command)
        is_found = any(hit.message == question.n for hit in page.hits)
        found[question.kind].append(is_found)
    total = [one for ones in found.values() for one in ones]
    share = sum(total) / len(total)
    report.add("recall", share, "of questions", at_least=RECALL_AT_LEAST)
    for kind, ones in found.items():
        report.add(f"recall, {kind}", sum(ones) / len(ones), "of questions")


def _rank(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# The daemon, and PostgreSQL alone.


def _measure_daemon(plan: Plan, report: Report, count: int) -> None:
    corpus = Corpus(plan.seed, _stored(plan))
    each = corpus.count // DIALOGS
    with MeasuredDaemon({"SEARCH_PER_USER_MINUTE": "1000000000"}) as daemon:
        ids = make_users(daemon, DIALOGS + 1, seed=plan.seed)
        with psycopg.connect(daemon.database_dsn(), autocommit=True) as connection:
            rows = connection.execute("SELECT id, number FROM users").fetchall()
            numbers: dict[UUID, int] = dict(rows)
            write_some(connection, numbers, ids, FIRST_NUMBER, each)
            _say(connection, corpus, each)
            _rebuild(daemon, report, corpus.count)
            texts = [_question(corpus, index) for index in range(count)]
            _measure_http(plan, report, daemon, ids, texts)
            _measure_baseline(plan, report, connection, texts)


def _question(corpus: Corpus, index: int) -> str:
    """Made of any message; one person is in all of these dialogs."""
    dice = random.Random(index)
    for _ in range(100):
        n = dice.randrange(corpus.count)
        q = corpus.ask(KINDS[index % 5], *corpus.phrases.words(n))
        if q and len(q) <= 100:
            return q
    return "hello"


def _say(
    connection: psycopg.Connection[tuple[object, ...]], corpus: Corpus, each: int
) -> None:
    """The rows of `write_some` say what the corpus says."""
    connection.execute("CREATE TEMP TABLE said (number bigint, seq integer, body text)")
    encode = msgspec.json.encode
    with connection.cursor().copy("COPY said FROM STDIN") as copy:
        for n in range(DIALOGS * each):
            body = {"type": "text", "content": {"text": corpus.phrases.text(n)}}
            number = FIRST_NUMBER + n // each
            copy.write_row((number, n % each + 1, encode(body).decode()))
    connection.execute(
        """UPDATE events e SET body = said.body FROM said
        WHERE e.dialog_number = said.number AND e.seq = said.seq AND e.kind = 2"""
    )
    connection.execute("VACUUM (ANALYZE) events, dialogs, members")


def _rebuild(daemon: MeasuredDaemon, report: Report, count: int) -> None:
    began_s = time.monotonic()
    daemon.console("search", "rebuild")
    while True:
        status: dict[str, Any] = daemon.console("search")
        took_s = time.monotonic() - began_s
        if status["documents"] >= count and not status["is_rebuilding"]:
            break
        if took_s > REBUILD_S_MAX:
            raise Failed(f"the index is not built after {took_s:.0f} s: {status}")
        time.sleep(0.2)
    report.add("the daemon's rebuild", count / took_s, "messages/s")


def _measure_http(
    plan: Plan,
    report: Report,
    daemon: MeasuredDaemon,
    ids: list[UUID],
    texts: list[str],
) -> None:
    with _file() as targets:
        for _ in range(plan.runs):
            reader = sign(daemon, ids)[0]
            lines = [
                f"{reader.token} /messages/search?q={quote(text)}" for text in texts
            ]
            targets.write_text("\n".join(lines) + "\n")
            result, used = generate(
                "http",
                daemon.port,
                daemon.costs,
                targets=targets,
                connections=CONNECTIONS,
                warmup_s=plan.warmup_s,
                seconds=plan.seconds,
                seed=plan.seed,
            )
            report.keep(used=used, **result)
            if result["refused"]:
                raise Failed(f"search: refused with {result['refused_status']}")
            latency = result["latency_us"]
            report.add(
                "over HTTP: p99", latency["p99"] / 1e3, "ms", at_most=P99_MS_AT_MOST
            )
            for name, value, unit in (
                ("p50", latency["p50"] / 1e3, "ms"),
                ("CPU", 1e6 * sum(used.values()) / result["answered"], "us/search"),
            ):
                report.add(f"over HTTP: {name}", value, unit, higher_is_better=False)
            rate = result["answered"] / result["seconds"]
            report.add("over HTTP: searches", rate, "a second")


@contextlib.contextmanager
def _file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "targets"


def _measure_baseline(
    plan: Plan,
    report: Report,
    connection: psycopg.Connection[tuple[Any, ...]],
    texts: list[str],
) -> None:
    """The same rows and questions by trigrams: every word is somewhere in the text."""
    began_s = time.monotonic()
    connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    connection.execute(
        """CREATE TABLE plain AS SELECT dialog_number, seq, at_ms,
        body::json #>> '{content,text}' AS text FROM events WHERE kind = 2"""
    )
    connection.execute("CREATE INDEX ON plain USING gin (text gin_trgm_ops)")
    connection.execute("CREATE INDEX ON plain (at_ms)")
    connection.execute("VACUUM (ANALYZE) plain")
    report.add(
        "PostgreSQL, pg_trgm: build",
        time.monotonic() - began_s,
        "s",
        higher_is_better=False,
    )
    numbers = list(range(FIRST_NUMBER, FIRST_NUMBER + DIALOGS))
    ask = partial(_ask_plain, connection, numbers)
    for _ in range(plan.runs):
        times = []
        for text in texts[:QUICK_QUESTIONS]:
            started_s = time.perf_counter()
            ask(text)
            times.append(1e3 * (time.perf_counter() - started_s))
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            report.add(
                f"PostgreSQL, pg_trgm: {name}",
                _rank(times, share),
                "ms",
                higher_is_better=False,
            )


def _ask_plain(
    connection: psycopg.Connection[tuple[Any, ...]], numbers: list[int], text: str
) -> None:
    query = parse(text)
    assert query is not None
    words = [f"%{word}%" for word in text.split()]
    wanted = " AND ".join(["text ILIKE %s"] * len(words))
    connection.execute(
        f"""SELECT dialog_number, seq FROM plain
        WHERE dialog_number = ANY (%s) AND {wanted}
        ORDER BY at_ms DESC LIMIT 20""",
        (numbers, *words),
    ).fetchall()
