"""Owns WebSocket sessions: who speaks, in which order it is decided, when it ends.

Theory of operation
    A session is one small object; it has no task, no queue and no buffer of its own
    while it is idle. Its transport hands in whole messages; everything that leaves
    goes through the transport's queue, and a batch ends with one `flush`.

    Newcomers wait their turn: a session is new until the first command that it sends
    as somebody we know was taken, which after a restart thousands do at once. A
    transport that serves many asks `offer` first, and hands in later, as `turn`, what
    was not taken; the rest of that session queues behind it (`behind`).

    Commands of one session are decided in the order of arrival. A handler that
    answers inline or by a `Deferred` has decided when it returns: the next command
    may follow at once, and replies come when they come, each exactly once. When a
    handler has to wait (an `Awaited`) later messages of the session queue behind it,
    and beyond `commands_waiting_max` the transport stops reading.

    Time is kept by `tick`, once a second, for all sessions together.

        opened -> [hello] -> known -> closed
                     |         | 4001 token expired, 4002 revoked, 4003 replaced,
                     |         | 1001 going away
                     1008 refused
"""

from __future__ import annotations

import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
import trio

from tchatd.edge.admission import Admission, admit
from tchatd.edge.dispatcher import Awaited, Dispatcher, Entry, outcome_of
from tchatd.edge.envelopes import (
    BadEnvelope,
    EnvelopeDecoder,
    ErrorEnvelope,
    Hello,
    Ping,
    Pong,
    ReplyEnvelope,
    SessionRevoked,
    Welcome,
)
from tchatd.edge.expiry import Expiry
from tchatd.edge.hub import Hub, Lane
from tchatd.edge.kept import KeptAnswers
from tchatd.edge.ports import Authenticator, HttpRequest, Identity
from tchatd.edge.presence import Presence
from tchatd.edge.problems import problem_of
from tchatd.edge.session_models import Session, SessionSettings
from tchatd.kernel.clock import Clock, rfc3339
from tchatd.kernel.deferred import Deferred
from tchatd.kernel.errors import (
    Conflict,
    DomainError,
    RateLimited,
    Unauthorized,
)
from tchatd.kernel.routing import Access, Context, KeptReply, Reply
from tchatd.observe.metrics import Metrics

GOING_AWAY = 1001
UNSUPPORTED_DATA = 1003
POLICY = 1008
TRY_AGAIN_LATER = 1013
TOKEN_EXPIRED = 4001
SESSION_REVOKED = 4002
REPLACED = 4003

_CLOSED_AT_ONCE = 256


class OtherUser(Conflict):
    code, title = "other-user", "This connection belongs to another user"


class Sessions:
    """Every session of every transport; tells `presence` who comes and who goes.

    on_gone: also told of each connection of a user that is gone; may be set once.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        authenticator: Authenticator,
        hub: Hub,
        clock: Clock,
        metrics: Metrics,
        presence: Presence,
        settings: SessionSettings = SessionSettings(),  # noqa: B008  # frozen
        *,
        kept: KeptAnswers | None = None,
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._dispatcher = dispatcher
        self._authenticator = authenticator
        self._hub = hub
        self._presence = presence
        self._clock = clock
        self._settings = settings
        self._kept = kept
        self._now = now
        self._jitter = jitter
        self._next_id = dispatcher.request_ids.next
        self._interval_s = 1.0 / settings.commands_per_second
        self._slack_s = self._interval_s * settings.commands_burst
        entries = dispatcher.entries.values()
        self._decoders = (
            EnvelopeDecoder(entries, is_msgpack=False),
            EnvelopeDecoder(entries, is_msgpack=True),
        )
        self.on_gone: Callable[[int], object] = _nobody_asks
        self._strangers: dict[int, Session] = {}
        self._expiry = Expiry(clock.now_ms())
        self._hellos = Expiry(clock.now_ms())
        self._opened = 0
        self._closes = metrics.counter(
            "session_closes", "Sessions ended by us", ("code",)
        )
        self._connects = metrics.counter("session_connects", "Sessions that began")
        self._envelopes = metrics.counter("envelopes", "WebSocket messages taken")
        metrics.gauge(
            "sessions_unauthenticated",
            "Sessions whose token has not come yet",
            lambda: len(self._strangers),
        )

    # What transports call.

    def admit(self, request: HttpRequest, offered: Sequence[str]) -> Admission:
        """Check an upgrade. Its identity may have to be awaited, or come by `hello`.

        Raises:
            Unauthorized: there is a token, and it does not hold.
            Invalid: none of the subprotocols offered is ours.
        """
        return admit(request, offered, self._authenticator)

    def open(
        self, lane: Lane, connection: int, address: str, identity: Identity | None
    ) -> None:
        """The upgrade was answered; without an identity `hello` must follow."""
        self._opened += 1
        self._connects.value += 1
        session = Session(lane, connection, address, self._opened)
        self._strangers[connection] = session
        if identity is not None:
            self._recognise(session, identity)
        else:
            hello_ms = int(self._settings.hello_s * 1000)
            self._hellos.add(self._clock.now_ms() + hello_ms, connection)

    def offer(self, connection: int, message: bytes, is_text: bool) -> bool:
        """As `message`, unless it is of a newcomer: then False, and `turn` follows."""
        session = self._find(connection)
        if session is not None and session.is_new:
            if session.put_off(len(message)):
                session.lane.transport.pause(connection)
            return False
        self._hand_in(session, message, is_text)
        return True

    def turn(self, connection: int, message: bytes, is_text: bool) -> None:
        """What was offered and not taken; in the order of the offers."""
        session = self._find(connection)
        if session is None:
            return
        session.has_turn()
        self._hand_in(session, message, is_text)
        if session.behind == 0 and session.waiting is None:
            session.lane.transport.resume(connection)

    def is_behind(self, connection: int) -> bool:
        """Whether something of it waits for its `turn`: its end has to wait, too."""
        session = self._find(connection)
        return session is not None and session.behind > 0

    def message(self, connection: int, message: bytes, is_text: bool) -> None:
        """One whole message; does nothing for a connection that has ended."""
        self._hand_in(self._find(connection), message, is_text)

    def _hand_in(self, session: Session | None, message: bytes, is_text: bool) -> None:
        if session is None:
            return
        if session.waiting is None:
            self._take(session, message, is_text)
        else:
            self._put_behind(session, message, is_text)

    def closed(self, connection: int) -> None:
        """The transport's connection is gone."""
        session = self._find(connection)
        if session is not None:
            self._forget(session)

    # What others call.

    def tick(self) -> None:
        """Close what has run out; once a second."""
        now_ms = self._clock.now_ms()
        for connection in self._expiry.due(now_ms):
            session = self._hub.sessions.get(connection)
            if session is not None and session.expires_at_ms <= now_ms:
                self._end(session, TOKEN_EXPIRED, "token expired")
        for connection in self._hellos.due(now_ms):
            session = self._strangers.get(connection)
            if session is not None and session.waiting is None and not session.behind:
                self._end(session, POLICY, "no hello")
        self._presence.tick()
        self._hub.flush()

    def ended(self, session_id: UUID, user_number: int) -> None:
        """A sign-in session was revoked: its connections are told and closed."""
        event = SessionRevoked(str(session_id))
        for session in self._hub.sessions_of(user_number):
            if session.caller is not None and session.caller.session_id == session_id:
                self._send(session, event)
                self._end(session, SESSION_REVOKED, "session revoked")
        self._hub.flush()

    async def close_all(self) -> None:
        """Send everybody away, each with its own delay before coming back.

        The reason is JSON: `{"reconnect_ms":1234}`.
        """
        spread_ms = self._settings.reconnect_spread_s * 1000
        everyone = [*self._hub.sessions.values(), *self._strangers.values()]
        for index, session in enumerate(everyone):
            delay_ms = int(self._jitter() * spread_ms)
            self._end(session, GOING_AWAY, f'{{"reconnect_ms":{delay_ms}}}')
            if index % _CLOSED_AT_ONCE == _CLOSED_AT_ONCE - 1:
                self._hub.flush()
                await trio.lowlevel.checkpoint()
        self._hub.flush()

    # One message.

    def _take(self, session: Session, message: bytes, is_text: bool) -> None:
        lane = session.lane
        self._envelopes.value += 1
        if is_text is lane.is_msgpack:
            wanted = "binary" if lane.is_msgpack else "text"
            self._end(session, UNSUPPORTED_DATA, f"only {wanted} messages")
            return
        decoder = self._decoders[lane.is_msgpack]
        wait_s = self._spend(session)
        try:
            envelope = decoder.decode(message)
        except BadEnvelope as error:
            reason = RateLimited(retry_after_s=wait_s) if wait_s else error.reason
            self._refuse(session, error.id, reason, self._next_id())
            if error.id is None:
                session.malformed += 1
                if session.malformed >= self._settings.malformed_max:
                    self._end(session, POLICY, "too many malformed envelopes")
            return
        kind = type(envelope)
        entry = decoder.entries.get(kind)
        if wait_s:
            refusal = RateLimited(retry_after_s=wait_s)
            self._refuse(session, envelope.id, refusal, self._next_id())
        elif entry is not None:
            self._run(session, entry, envelope)
        elif kind is Ping:
            self._reply(session, envelope.id, Pong(rfc3339(self._clock.now_ms())))
        else:
            self._hello(session, envelope)

    def _run(self, session: Session, entry: Entry, envelope: Any) -> None:
        caller = session.caller
        context = Context(self._next_id(), session.address, caller, session.connection)
        started_s = time.perf_counter()
        if caller is None and entry.operation.access is Access.USER:
            refusal = Unauthorized("Send `hello` with an access token first.")
            self._refuse(session, envelope.id, refusal, context.request_id)
            return
        try:
            if entry.operation.keeps_keys and self._kept is not None:
                context.key = self._kept.key_of(
                    entry.operation, context, envelope, None
                )
            result = self._dispatcher.invoke(entry, context, envelope)
        except DomainError as error:
            entry.count(outcome_of(error), started_s)
            self._refuse(session, envelope.id, error, context.request_id)
            return
        if isinstance(result, Deferred):
            pending = _Pending(self, session, entry, envelope.id, context, started_s)
            if type(result) is Awaited:
                session.waiting = deque()
                result.on_done(pending.decided)
            else:
                result.on_done(pending.answered)
            return
        self._succeed(session, entry, envelope.id, result, context, started_s)

    def _succeed(
        self,
        session: Session,
        entry: Entry,
        id: int,
        result: Any,
        context: Context,
        started_s: float,
    ) -> None:
        if type(result) is KeptReply:
            assert self._kept is not None
            try:
                kept = self._kept.opened(context, result)
            except DomainError as lost:
                entry.count(outcome_of(lost), started_s)
                self._refuse(session, id, lost, context.request_id)
                return
            problem = kept.problem
            if problem is not None:
                entry.count(problem.error, started_s)
                self._send(session, ErrorEnvelope(id, problem))
                return
            result = msgspec.json.decode(kept.body)
        elif type(result) is Reply:
            result = result.body
        try:
            self._reply(session, id, result)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            mistake = self._dispatcher.unexpected(error, entry.operation.name, context)
            entry.count(outcome_of(mistake), started_s)
            self._refuse(session, id, mistake, context.request_id)
            return
        entry.count("ok", started_s)

    def _put_behind(self, session: Session, message: bytes, is_text: bool) -> None:
        waiting = session.waiting
        assert waiting is not None
        if len(waiting) >= self._settings.messages_waiting_max:
            self._end(session, TRY_AGAIN_LATER, "too many commands wait")
            return
        waiting.append((message, is_text))
        if (
            len(waiting) >= self._settings.commands_waiting_max
            or sum(len(queued) for queued, _ in waiting)
            >= self._settings.waiting_bytes_max
        ):
            session.lane.transport.pause(session.connection)

    def go_on(self, session: Session) -> None:
        """The command that waited is decided: take those behind it."""
        waiting = session.waiting
        if waiting is None or self._find(session.connection) is not session:
            return
        session.waiting = None
        while waiting:
            message, is_text = waiting.popleft()
            self._take(session, message, is_text)
            if self._find(session.connection) is not session:
                return
            if session.waiting is not None:
                session.waiting = waiting
                break
        if not waiting:
            session.lane.transport.resume(session.connection)

    def _spend(self, session: Session) -> int:
        """0, or whole seconds until the session may send another command."""
        now = self._now()
        full_at = max(session.full_at, now) + self._interval_s
        if full_at - now > self._slack_s + self._interval_s / 1000:
            return max(1, math.ceil(full_at - now - self._slack_s))
        session.full_at = full_at
        return 0

    # Who speaks.

    def _hello(self, session: Session, hello: Hello) -> None:
        try:
            identity = self._authenticator.authenticate(hello.token)
            if not hasattr(type(identity), "__await__"):
                self._greet(session, hello.id, cast("Identity", identity))
                return
            context = Context(self._next_id(), session.address, session.caller)
            awaited = self._dispatcher.wait(
                cast("Awaitable[Identity]", identity), "hello", context
            )
        except DomainError as error:
            self._reject(session, hello.id, error)
            return
        session.waiting = deque()

        def told(answer: Deferred[Any]) -> None:
            if self._find(session.connection) is not session:
                return
            if answer.error is None:
                self._greet(session, hello.id, cast("Identity", answer.value))
            else:
                self._reject(session, hello.id, cast("DomainError", answer.error))
            self.go_on(session)
            session.lane.transport.flush()

        awaited.on_done(told)

    def _greet(self, session: Session, id: int | None, identity: Identity) -> None:
        caller = identity.caller
        if session.caller is not None:
            if session.caller.user_number != caller.user_number:
                self._refuse(session, id, OtherUser(), self._next_id())
                return
            self._expiry.discard(session.expires_at_ms, session.connection)
            session.caller = caller
            session.expires_at_ms = identity.expires_at_ms
            self._expiry.add(identity.expires_at_ms, session.connection)
        else:
            self._recognise(session, identity)
        welcome = Welcome(
            str(caller.user_id),
            str(caller.session_id),
            rfc3339(identity.expires_at_ms),
            rfc3339(self._clock.now_ms()),
        )
        self._reply(session, id, welcome)

    def _recognise(self, session: Session, identity: Identity) -> None:
        """A stranger becomes a user's session; the oldest of too many goes."""
        caller = identity.caller
        del self._strangers[session.connection]
        if caller.user_number in self._hub.online:
            mine = self._hub.sessions_of(caller.user_number)
            if len(mine) >= self._settings.connections_per_user_max:
                self._end(_to_replace(mine, caller.session_id), REPLACED, "replaced")
        session.caller = caller
        session.expires_at_ms = identity.expires_at_ms
        self._hub.add(session)
        self._expiry.add(identity.expires_at_ms, session.connection)
        session.lane.transport.authenticated(session.connection)
        self._presence.arrived(caller, session.connection)

    def _reject(self, session: Session, id: int | None, error: DomainError) -> None:
        """A `hello` that does not hold ends a stranger's connection, not a user's."""
        self._refuse(session, id, error, self._next_id())
        if session.caller is not None:
            return
        if not isinstance(error, Unauthorized):
            self._end(session, TRY_AGAIN_LATER, "try again later")
        elif error.code == "token-expired":
            self._end(session, TOKEN_EXPIRED, "token expired")
        else:
            self._end(session, POLICY, "not signed in")

    # What leaves.

    def _reply(self, session: Session, id: int | None, result: Any) -> None:
        self._send(session, ReplyEnvelope(id, result))

    def _refuse(
        self, session: Session, id: int | None, error: DomainError, request_id: str
    ) -> None:
        self._send(session, ErrorEnvelope(id, problem_of(error, request_id)))

    def _send(self, session: Session, envelope: Any) -> None:
        lane = session.lane
        lane.transport.queue(session.connection, lane.frame_of(lane.encode(envelope)))

    def _end(self, session: Session, code: int, reason: str) -> None:
        """Close it, behind what is queued; nothing more is sent or taken."""
        self._closes.labels(str(code)).add()
        self._forget(session)
        session.lane.transport.close(session.connection, code, reason)

    def _forget(self, session: Session) -> None:
        connection = session.connection
        session.waiting = None
        if self._strangers.pop(connection, None) is None:
            self._expiry.discard(session.expires_at_ms, connection)
            self._hub.remove(session)
            assert session.caller is not None
            self._presence.left(session.caller, connection)
            self.on_gone(connection)

    def _find(self, connection: int) -> Session | None:
        session = self._hub.sessions.get(connection)
        return session if session is not None else self._strangers.get(connection)


class _Pending:
    """A command whose reply comes later."""

    __slots__ = ("_context", "_entry", "_id", "_session", "_sessions", "_started_s")

    def __init__(
        self,
        sessions: Sessions,
        session: Session,
        entry: Entry,
        id: int,
        context: Context,
        started_s: float,
    ) -> None:
        self._sessions = sessions
        self._session = session
        self._entry = entry
        self._id = id
        self._context = context
        self._started_s = started_s

    def answered(self, deferred: Deferred[Any]) -> None:
        """Reply. Whoever resolves a batch flushes the hub after it."""
        sessions = self._sessions
        if deferred.error is None:
            sessions._succeed(
                self._session,
                self._entry,
                self._id,
                deferred.value,
                self._context,
                self._started_s,
            )
            return
        error = sessions._dispatcher.as_refusal(
            deferred.error, self._entry.operation.name, self._context
        )
        self._entry.count(outcome_of(error), self._started_s)
        sessions._refuse(self._session, self._id, error, self._context.request_id)

    def decided(self, awaited: Deferred[Any]) -> None:
        """Reply, or wait on for what is decided but not durable; let others go on."""
        if awaited.error is None and isinstance(awaited.value, Deferred):
            awaited.value.on_done(self.answered)
        else:
            self.answered(awaited)
        self._sessions.go_on(self._session)
        self._session.lane.transport.flush()


def _nobody_asks(connection: int) -> None:
    return


def _to_replace(sessions: list[Session], session_id: UUID) -> Session:
    """The oldest connection of the same device, or else of the user."""
    same = [
        session
        for session in sessions
        if session.caller is not None and session.caller.session_id == session_id
    ]
    return min(same or sessions, key=lambda session: session.opened)
