"""The page where a developer pays, through the pages' app."""

from __future__ import annotations

import pytest
from msgspec import structs

from tchatd.domains.payment.sandbox import EntryState, SandboxEntry
from tchatd.edge.pages import Pages, quart_app
from tchatd.edge.sandbox_page import add_sandbox
from tchatd.kernel.errors import Unavailable
from tchatd.kernel.money import Currency
from tests.support.edge_fakes import FakeRequest
from tests.support.sandbox_store import entry

PAGE = "/sandbox/pay/sbx_1"


class FakeDesk:
    def __init__(self) -> None:
        self.entries = {"sbx_1": entry()}
        self.is_away = False

    async def shown(self, id: str) -> SandboxEntry | None:
        if self.is_away:
            raise Unavailable("The sandbox is away.")
        return self.entries.get(id)

    async def decide(self, id: str, state: EntryState) -> SandboxEntry | None:
        found = await self.shown(id)
        if found is not None and found.state == "pending":
            found = self.entries[id] = structs.replace(found, state=state)
        return found


@pytest.fixture
def desk() -> FakeDesk:
    return FakeDesk()


@pytest.fixture
def pages(desk: FakeDesk) -> Pages:
    app = quart_app()
    add_sandbox(app, desk)
    return Pages(app)


async def text_of(pages: Pages, path: str = PAGE) -> str:
    page = await pages.respond(FakeRequest("GET", path))
    assert page.status == 200
    return page.body.decode()


async def test_it_is_served_to_who_looks_and_who_decides(pages: Pages) -> None:
    for method in ("GET", "HEAD", "POST"):
        assert pages.serves(method, PAGE)
    for path in ("/sandbox/pay/", "/sandbox/pay/a/b", "/sandbox/pay", "/sandbox"):
        assert not pages.serves("GET", path)
    assert not pages.serves("DELETE", PAGE)
    assert not pages.serves("POST", "/docs")


async def test_it_shows_what_is_to_be_paid_and_three_buttons(pages: Pages) -> None:
    text = await text_of(pages)
    assert "100.50 THB" in text
    assert "Top-up" in text
    assert "pending" in text
    for action in ("pay", "decline", "expire"):
        assert f'value="{action}"' in text
    page = await pages.respond(FakeRequest("GET", PAGE))
    assert b"form-action 'self'" in page.headers
    assert b"no-store" in page.headers


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (1, Currency.VND, "1 VND"),
        (1_234_567, Currency.VND, "1,234,567 VND"),
        (5, Currency.SGD, "0.05 SGD"),
    ],
)
async def test_amounts_have_the_digits_of_their_currency(
    pages: Pages, desk: FakeDesk, amount: int, currency: Currency, shown: str
) -> None:
    desk.entries["sbx_1"] = entry(amount_minor=amount, currency=currency)
    assert f"<strong>{shown}</strong>" in await text_of(pages)


@pytest.mark.parametrize(
    ("action", "state"),
    [("pay", "paid"), ("decline", "failed"), ("expire", "expired")],
)
async def test_a_button_decides_and_leads_back_to_the_page(
    pages: Pages, desk: FakeDesk, action: str, state: str
) -> None:
    answer = await pages.respond(
        FakeRequest("POST", PAGE, body=f"action={action}".encode())
    )
    assert answer.status == 303
    assert f"location: {PAGE}\r\n".encode() in answer.headers
    assert desk.entries["sbx_1"].state == state
    text = await text_of(pages)
    assert state in text
    assert "<form" not in text
    assert '<a href="https://app.example/back">' in text


@pytest.mark.parametrize(
    "body", [b"", b"action=steal", b"x=1", b"action=" + b"x" * 500, b"\xff=\xff"]
)
async def test_what_is_no_button_decides_nothing(
    pages: Pages, desk: FakeDesk, body: bytes
) -> None:
    answer = await pages.respond(FakeRequest("POST", PAGE, body=body))
    assert answer.status == 400
    assert desk.entries["sbx_1"].state == "pending"


async def test_what_is_shown_is_escaped_and_no_script_is_a_link(
    pages: Pages, desk: FakeDesk
) -> None:
    desk.entries["sbx_1"] = entry(
        description="<script>1</script>{amount}",
        return_url="javascript:alert(1)",
        state="paid",
    )
    text = await text_of(pages)
    assert "<script>" not in text
    assert "&lt;script&gt;1&lt;/script&gt;{amount}" in text
    assert "javascript:" not in text
    desk.entries["sbx_1"] = entry(return_url='https://a/"><b>', state="paid")
    assert "<b>" not in await text_of(pages)


async def test_a_charge_that_is_not_there_and_a_store_that_is_away(
    pages: Pages, desk: FakeDesk
) -> None:
    for path in ("/sandbox/pay/sbx_2", "/sandbox/pay/" + "x" * 100):
        assert (await pages.respond(FakeRequest("GET", path))).status == 404
    other = FakeRequest("POST", "/sandbox/pay/sbx_2", body=b"action=pay")
    assert (await pages.respond(other)).status == 404
    desk.is_away = True
    away = await pages.respond(FakeRequest("GET", PAGE))
    assert (away.status, away.body) == (503, b"The sandbox is away.")
