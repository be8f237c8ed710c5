"""Owns pages for people (`/`, `/docs`, the sandbox's): quart-trio, for what is not a
declared route.

Pages are reached from every transport through the endpoint, as a request to quart's
ASGI app in this process: buffered, with bounded bodies, no socket in between.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import trio
from quart import Response as QuartResponse
from quart_trio import QuartTrio

from tchatd.edge.ports import HttpRequest, Response
from tchatd.edge.problems import Internal, TooLarge
from tchatd.kernel.errors import DomainError

PAGE_BYTES_MAX = 1 << 20
_CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/web/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/web/pages.css": ("pages.css", "text/css; charset=utf-8"),
}
# The transport's own, or the endpoint's for every response.
_NOT_PASSED_ON = frozenset({b"content-length", b"date", b"server", b"connection"})


def quart_app() -> QuartTrio:
    """The pages' app; files are read once, now."""
    app = QuartTrio("tchatd.edge.pages", static_folder=None)
    for path, (name, content_type) in _PAGES.items():
        content = resources.files("tchatd.web").joinpath(name).read_bytes()
        view = _file_view(content, content_type)
        app.add_url_rule(path, endpoint=name, view_func=view, methods=["GET"])
    return app


class Pages:
    """See `http.Fallback`: passes requests to an ASGI app and buffers its answer."""

    def __init__(self, app: QuartTrio) -> None:
        self._app = app
        rules = list(app.url_map.iter_rules())
        self._paths = {
            rule.rule: rule.methods or set() for rule in rules if not rule.arguments
        }
        # Rules with one argument, which is a last segment.
        self._folders = {
            rule.rule.partition("<")[0]: rule.methods or set()
            for rule in rules
            if rule.arguments
        }

    def serves(self, method: str, path: str) -> bool:
        if method not in ("GET", "HEAD", "POST"):
            return False
        methods = self._paths.get(path)
        if methods is None:
            folder, _, last = path.rpartition("/")
            methods = self._folders.get(f"{folder}/") if last else None
        return methods is not None and method in methods

    async def respond(self, request: HttpRequest) -> Response:
        """Raises:
        TooLarge: the page has more than PAGE_BYTES_MAX.
        Internal: the app ended without an answer.
        """
        exchange = _Exchange(request.body)
        await self._app(_scope(request), exchange.receive, exchange.send)  # type: ignore[arg-type]
        if exchange.refusal is not None:
            raise exchange.refusal
        if exchange.status == 0:
            raise Internal
        return Response(exchange.status, exchange.headers, b"".join(exchange.parts))


class _Exchange:
    """One request to the app and its answer."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.status = 0
        self.headers = b""
        self.parts: list[bytes] = []
        self.size = 0
        self.refusal: DomainError | None = None

    async def receive(self) -> dict[str, Any]:
        if self._body is None:
            await trio.sleep_forever()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = b"".join(
                b"%s: %s\r\n" % (bytes(name), bytes(value))
                for name, value in message["headers"]
                if bytes(name).lower() not in _NOT_PASSED_ON
            )
        elif message["type"] == "http.response.body":
            part = bytes(message.get("body", b""))
            self.size += len(part)
            if self.size > PAGE_BYTES_MAX:
                self.refusal = TooLarge("The page is too large to pass on.")
            else:
                self.parts.append(part)


def _scope(request: HttpRequest) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET" if request.method == "HEAD" else request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "root_path": "",
        "headers": [(b"host", request.header(b"host") or b"localhost")],
        "client": (request.address, 0),
        "server": ("localhost", 80),
        "extensions": {},
    }


def _file_view(content: bytes, content_type: str) -> Callable[[], Any]:
    async def view() -> QuartResponse:
        response = QuartResponse(content, content_type=content_type)
        response.headers["Content-Security-Policy"] = _CONTENT_SECURITY
        response.headers["Cache-Control"] = "public, max-age=300"
        return response

    return view
