"""Payment QR codes of a real daemon, through both doors."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.contract.test_auth_contract import People, refused
from tests.support.qr import VECTORS, field, pixels_of_png, sealed

pytestmark = [pytest.mark.service, pytest.mark.slow]
PAYLOAD = VECTORS[0]["payload"]
BODY = PAYLOAD[:-8]
ASKED_MAX = 1_000


async def test_what_the_vectors_say(people: People) -> None:
    person = await people()
    for vector in VECTORS:
        payload, expected = vector["payload"], vector["expect"]
        said = await person.ok("POST", "/qr/parse", {"payload": payload})
        assert said["payee"]["scheme"] == vector["scheme"]
        assert said["currency"] == expected["currency"]
        assert said.get("amount") == expected["amount_minor"]
        if "proxy" in expected:
            assert said["payee"]["value"] == expected["proxy"]
        if "merchant" in expected:
            assert said["merchant_name"] == expected["merchant"]


async def test_all_that_a_code_may_say(people: People) -> None:
    person = await people()
    said = await person.ok("POST", "/qr/parse", {"payload": VECTORS[2]["payload"]})
    assert said == {
        "payee": {
            "scheme": "paynow",
            "kind": "uen",
            "value": "201912345K",
            "amount_editable": False,
            "expires_at": "2030-12-31T23:59:59+08:00",
        },
        "is_dynamic": True,
        "currency": "SGD",
        "country": "SG",
        "amount": 500,
        "merchant_name": "EXAMPLE SHOP",
        "merchant_city": "Singapore",
        "category": "0000",
        "reference": "INV0001",
    }


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ("https://a.example/", "qr-malformed"),
        (sealed(BODY + field("59", "a\u202eb")), "qr-malformed"),
        (PAYLOAD[:-1] + "F", "qr-checksum"),
        (sealed(BODY.replace("5303764", "5303702")), "qr-contradictory"),
        (sealed(BODY + field("59", "a") + field("59", "b")), "qr-contradictory"),
        (sealed(BODY + field("54", "1.005")), "qr-amount"),
        (
            sealed("000201" + field("26", field("00", "org.example")) + "5303764"),
            "qr-unsupported",
        ),
    ],
)
async def test_what_is_not_believed_is_neither_read_nor_drawn(
    people: People, payload: str, code: str
) -> None:
    person = await people()
    for answer in (
        await person.http.post("/qr/parse", json={"payload": payload}),
        await person.http.get("/qr/image", params={"payload": payload}),
    ):
        assert refused(answer, 422)["type"] == f"urn:tchatd:problem:{code}"


async def test_a_picture_as_svg_and_as_png(people: People) -> None:
    person = await people()

    async def image(**more: Any) -> Any:
        return await person.ok("GET", "/qr/image", params={"payload": PAYLOAD} | more)

    svg = await image()
    assert svg.keys() == {"format", "side_px", "svg"}
    assert svg["svg"].startswith("<svg")
    png = await image(format="png", scale=2)
    assert png.keys() == {"format", "side_px", "png"}
    side, _ = pixels_of_png(base64.b64decode(png["png"], validate=True))
    assert png["side_px"] == side == svg["side_px"] // 2


async def test_what_is_not_a_request_for_a_picture(people: People) -> None:
    person = await people()
    for params in (
        {},
        {"payload": ""},
        {"payload": "0" * 513},
        {"payload": PAYLOAD, "format": "gif"},
        {"payload": PAYLOAD, "scale": "0"},
        {"payload": PAYLOAD, "scale": "17"},
    ):
        refused(await person.http.get("/qr/image", params=params), 400)
    for body in ({}, {"payload": 1}, {"payload": "0" * 513}):
        refused(await person.http.post("/qr/parse", json=body), 400)


async def test_pictures_and_reading_are_for_who_is_signed_in(site: Any) -> None:
    async with site.client() as web:
        refused(await web.post("/qr/parse", json={"payload": PAYLOAD}), 401)
        refused(await web.get("/qr/image", params={"payload": PAYLOAD}), 401)


@pytest.mark.parametrize(
    ("verb", "path", "of"),
    [("GET", "/qr/image", "params"), ("POST", "/qr/parse", "json")],
)
async def test_each_route_has_a_limit(
    people: People, verb: str, path: str, of: str
) -> None:
    """Fewer by far are allowed a minute than a test can ask for."""
    person = await people()
    for _ in range(ASKED_MAX):
        more: dict[str, Any] = {of: {"payload": PAYLOAD}}
        answer = await person.http.request(verb, path, **more)
        if answer.status_code == 429:
            break
        assert answer.status_code == 200
    assert int(refused(answer, 429)["retry_after"]) >= 1
