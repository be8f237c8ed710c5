"""Sign-in and profile as CONTRACT says, good and bad input, through both doors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from tests.contract.conftest import Site
from tests.support.client import Person

pytestmark = [pytest.mark.service, pytest.mark.slow]

People = Callable[[], Awaitable[Person]]
NewPhone = Callable[[], str]
PROBLEM = {"type", "title", "status", "detail", "instance", "error", "message"}


def refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The problem of an answer that must be one."""
    assert answer.status_code in statuses, (answer.status_code, answer.text)
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, Any] = answer.json()
    assert problem.keys() >= PROBLEM
    assert problem["status"] == answer.status_code
    return problem


async def code_for(site: Site, identifier: str) -> str:
    told = await trio.to_thread.run_sync(site.daemon.console, "otp", identifier)
    code: str = told["code"]
    return code


async def send(web: httpx.AsyncClient, identifier: str) -> dict[str, Any]:
    answer = await web.post(
        "/auth/otp/send", json={"identifier": identifier, "type": "phone"}
    )
    assert answer.status_code == 200, answer.text
    sent: dict[str, Any] = answer.json()
    return sent


async def test_a_code_signs_a_new_person_in(
    site: Site, web: httpx.AsyncClient, new_phone: NewPhone
) -> None:
    phone = new_phone()
    sent = await send(web, phone)
    assert sent["success"] is True
    assert datetime.fromisoformat(sent["expires_at"]) > datetime.now(UTC)
    answer = await web.post(
        "/v1/auth/otp/verify",
        json={
            "session_id": sent["session_id"],
            "code": await code_for(site, phone),
            "device": {"id": "d1", "name": "Pixel", "platform": "android"},
        },
    )
    assert answer.status_code == 200, answer.text
    signed = answer.json()
    assert signed.keys() >= {"access_token", "refresh_token", "user", "expires_at"}
    user = signed["user"]
    assert user["phone"] == phone
    assert (user["country"], user["locale"], user["kyc_tier"]) == ("TH", "th-TH", 1)
    assert user["is_verified"] is True
    assert UUID(user["id"])
    for at in ("created_at", "updated_at"):
        assert datetime.fromisoformat(user[at]).utcoffset() is not None


async def test_an_email_signs_in_too(site: Site, web: httpx.AsyncClient) -> None:
    email = f"{uuid4().hex}@example.com"
    answer = await web.post(
        "/auth/otp/send", json={"identifier": email, "type": "email", "country": "SG"}
    )
    assert answer.status_code == 200, answer.text
    verified = await web.post(
        "/auth/otp/verify",
        json={
            "session_id": answer.json()["session_id"],
            "code": await code_for(site, email),
        },
    )
    assert verified.status_code == 200
    assert verified.json()["user"]["email"] == email
    assert verified.json()["user"]["country"] == "SG"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"identifier": "0812345678", "type": "phone"},
        {"identifier": "+66212345678901234", "type": "phone"},
        {"identifier": "+6621234567", "type": "phone"},
        {"identifier": "+66812345678", "type": "pigeon"},
        {"identifier": "nobody", "type": "email"},
        {"identifier": "a@b@c.example", "type": "email"},
        {"identifier": 66812345678, "type": "phone"},
        {"identifier": "+66812345678", "type": "phone", "country": "XX"},
        [],
        "text",
        None,
    ],
)
async def test_a_bad_identifier_is_400(web: httpx.AsyncClient, body: Any) -> None:
    refused(await web.post("/auth/otp/send", json=body), 400)


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"{", {"content-type": "application/json"}),
        (b"\xff\xfe", {"content-type": "application/json"}),
        (b"", {"content-type": "application/json"}),
        (b"a=1", {"content-type": "application/x-www-form-urlencoded"}),
    ],
)
async def test_a_body_that_is_no_json_is_400(
    web: httpx.AsyncClient, content: bytes, headers: dict[str, str]
) -> None:
    answer = await web.post("/auth/otp/send", content=content, headers=headers)
    refused(answer, 400, 415)


async def test_a_second_code_within_a_minute_is_429_with_the_wait(
    web: httpx.AsyncClient, new_phone: NewPhone
) -> None:
    phone = new_phone()
    await send(web, phone)
    again = await web.post(
        "/auth/otp/send", json={"identifier": phone, "type": "phone"}
    )
    problem = refused(again, 429)
    assert problem["error"] == "rate_limited"
    assert 1 <= problem["retry_after"] <= 60
    assert again.headers["retry-after"] == str(problem["retry_after"])


async def test_five_wrong_guesses_end_a_challenge_even_for_the_right_code(
    site: Site, web: httpx.AsyncClient, new_phone: NewPhone
) -> None:
    phone = new_phone()
    sent = await send(web, phone)
    right = await code_for(site, phone)
    wrong = f"{(int(right) + 1) % 1_000_000:06d}"
    answers: list[int] = []

    async def guess() -> None:
        answer = await web.post(
            "/auth/otp/verify", json={"session_id": sent["session_id"], "code": wrong}
        )
        answers.append(answer.status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(guess)
    assert set(answers) <= {401, 429}
    last = await web.post(
        "/auth/otp/verify", json={"session_id": sent["session_id"], "code": right}
    )
    refused(last, 401, 429)


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "12345"},
        {"code": "1234567"},
        {"code": "١٢٣٤٥٦"},
        {"code": 123456},
        {"session_id": "no-uuid"},
        {"device": {"id": "d", "name": "n", "platform": "fridge"}},
    ],
)
async def test_a_malformed_verification_is_400(
    web: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    body = {"session_id": str(uuid4()), "code": "123456"} | changes
    refused(await web.post("/auth/otp/verify", json=body), 400)


async def test_an_unknown_challenge_is_401(web: httpx.AsyncClient) -> None:
    body = {"session_id": str(uuid4()), "code": "123456"}
    refused(await web.post("/auth/otp/verify", json=body), 401)


async def test_a_used_code_is_used_up(
    site: Site, web: httpx.AsyncClient, new_phone: NewPhone
) -> None:
    phone = new_phone()
    sent = await send(web, phone)
    body = {"session_id": sent["session_id"], "code": await code_for(site, phone)}
    assert (await web.post("/auth/otp/verify", json=body)).status_code == 200
    refused(await web.post("/auth/otp/verify", json=body), 401)


@pytest.mark.parametrize("token", ["", "nonsense", "a" * 4000])
async def test_an_unknown_refresh_token_is_401(
    web: httpx.AsyncClient, token: str
) -> None:
    answer = await web.post("/auth/token/refresh", json={"refresh_token": token})
    refused(answer, 400, 401)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer x", "Basic YTpi", "Bearer a.b.c"]
)
async def test_no_or_a_bad_token_is_401(
    web: httpx.AsyncClient, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    answer = await web.get("/users/profile", headers=headers)
    problem = refused(answer, 401)
    assert problem["error"] == "unauthorized"
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_profile_is_read_and_changed(people: People) -> None:
    person = await people()
    changed = await person.ok(
        "PUT",
        "/users/profile",
        {
            "name": "Nguyễn Thị Ánh",
            "avatar": "https://cdn.example/a.png",
            "locale": "vi-VN",
            "status": "busy",
        },
    )
    assert changed["name"] == "Nguyễn Thị Ánh"
    assert (changed["locale"], changed["status"]) == ("vi-VN", "busy")
    assert await person.ok("GET", "/users/profile") == changed
    assert await person.ok("GET", "/v1/users/profile") == changed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x"),
        ("name", "x" * 101),
        ("name", 7),
        ("avatar", "javascript:alert(1)"),
        ("locale", "de-DE"),
        ("status", "asleep"),
    ],
)
async def test_a_bad_profile_field_is_named(
    people: People, field: str, value: Any
) -> None:
    person = await people()
    answer = await person.http.put("/users/profile", json={field: value})
    problem = refused(answer, 400)
    assert field in problem["details"]


async def test_sessions_are_listed_and_ended(people: People, site: Site) -> None:
    person = await people()
    listed = await person.ok("GET", "/auth/sessions")
    sessions = listed["sessions"]
    assert len(sessions) == 1
    ended = await person.http.delete(f"/auth/sessions/{sessions[0]['id']}")
    assert ended.is_success
    refused(await person.http.get("/users/profile"), 401)


async def test_the_public_keys_verify_an_access_token(people: People) -> None:
    import jwt

    person = await people()
    keys = (await person.ok("GET", "/.well-known/jwks.json"))["keys"]
    header = jwt.get_unverified_header(person.access_token)
    key = next(key for key in keys if key["kid"] == header["kid"])
    claims = jwt.decode(
        person.access_token,
        jwt.PyJWK(key).key,
        algorithms=["EdDSA"],
        options={"verify_aud": False},
    )
    assert claims["sub"] == person.id
    assert claims["exp"] - claims["iat"] == 15 * 60


async def test_an_idempotency_key_replays_the_first_answer(
    people: People, web: httpx.AsyncClient
) -> None:
    a, b = await people(), await people()
    headers = {"idempotency-key": uuid4().hex}
    body = {"type": "group", "name": "Once", "participants": [b.id]}
    first = await a.http.post("/dialogs", json=body, headers=headers)
    again = await a.http.post("/dialogs", json=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    other = await a.http.post("/dialogs", json=body | {"name": "x"}, headers=headers)
    assert refused(other, 409)["error"] == "conflict"
    bad = await a.http.post(
        "/dialogs", json=body, headers={"idempotency-key": "x" * 256}
    )
    refused(bad, 400)
