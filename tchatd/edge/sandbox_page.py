"""Owns `/sandbox/pay/{charge}`: where a developer pays, declines, or lets expire.

Who knows a charge's id, which is random, may decide it: there is no money in it, and
production has no such page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from html import escape
from importlib import resources
from typing import Final
from urllib.parse import parse_qs, urlsplit

from quart import Response, request
from quart_trio import QuartTrio

from tchatd.domains.payment.sandbox import EntryState, SandboxDesk, SandboxEntry
from tchatd.kernel.errors import DomainError
from tchatd.kernel.money import EXPONENT

PATH: Final = "/sandbox/pay/"
FORM_BYTES_MAX: Final = 256
ID_CHARS_MAX: Final = 64
_DECISIONS: Final[dict[str, EntryState]] = {
    "pay": "paid",
    "decline": "failed",
    "expire": "expired",
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}


def add_sandbox(app: QuartTrio, desk: SandboxDesk) -> None:
    """Adds the page to the pages' app; its template is read once, now."""
    source = resources.files("tchatd.web").joinpath("sandbox_pay.html")
    view = _view(desk, source.read_text(encoding="utf-8"))
    app.add_url_rule(
        f"{PATH}<charge>", endpoint="sandbox", view_func=view, methods=["GET", "POST"]
    )


def _view(desk: SandboxDesk, template: str) -> Callable[[str], Awaitable[Response]]:
    async def view(charge: str) -> Response:
        try:
            if request.method == "POST":
                return await _decide(desk, charge)
            entry = None if len(charge) > ID_CHARS_MAX else await desk.shown(charge)
        except DomainError as error:
            return _plain(503, error.detail)
        if entry is None:
            return _plain(404, "There is no such charge.")
        text = _page(template, entry)
        return Response(text, 200, _HEADERS, content_type="text/html; charset=utf-8")

    return view


async def _decide(desk: SandboxDesk, charge: str) -> Response:
    """Then shows the page again, so that reloading it decides nothing."""
    body = await request.get_data(as_text=False)
    assert isinstance(body, bytes)
    if len(body) > FORM_BYTES_MAX or len(charge) > ID_CHARS_MAX:
        return _plain(400, "That is none of the buttons.")
    form = parse_qs(body.decode("latin-1"), max_num_fields=4)
    state = _DECISIONS.get(form.get("action", [""])[0])
    if state is None:
        return _plain(400, "That is none of the buttons.")
    if await desk.decide(charge, state) is None:
        return _plain(404, "There is no such charge.")
    return Response("", 303, {**_HEADERS, "Location": PATH + charge})


def _page(template: str, entry: SandboxEntry) -> str:
    if entry.state == "pending":
        buttons = "".join(
            f'<button name="action" value="{action}">{action.capitalize()}</button> '
            for action in _DECISIONS
        )
        actions = f'<form method="post">{buttons}</form>'
    elif urlsplit(entry.return_url).scheme in ("http", "https"):
        actions = f'<p><a href="{escape(entry.return_url)}">Back</a></p>'
    else:
        actions = "<p>Go back to the app.</p>"
    return template.format(
        amount=escape(_amount(entry)),
        description=escape(entry.description),
        state=escape(entry.state),
        actions=actions,
    )


def _amount(entry: SandboxEntry) -> str:
    digits = EXPONENT[entry.currency]
    whole, rest = divmod(entry.amount_minor, 10**digits)
    fraction = f".{rest:0{digits}}" if digits else ""
    return f"{whole:,}{fraction} {entry.currency.value}"


def _plain(status: int, text: str) -> Response:
    return Response(text, status, _HEADERS, content_type="text/plain; charset=utf-8")
