"""Owns the HTTP baseline: hypercorn + quart-trio answering one constant JSON.

No authentication, no store, no access log: the least that this stack can do for a
`GET /users/profile`. Prints its port on stdout; ends when stdin does.
"""

from __future__ import annotations

import socket
import sys

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response
from quart_trio import QuartTrio

BODY = (
    b'{"id":"01900000-0000-7000-8000-000000000001","phone":"+66812345678",'
    b'"name":"Somchai","country":"TH","locale":"th-TH","kyc_tier":1,'
    b'"status":"online","is_verified":true,'
    b'"created_at":"2026-01-31T08:00:00.000Z",'
    b'"updated_at":"2026-01-31T08:00:00.000Z"}'
)

app = QuartTrio(__name__)


@app.get("/users/profile")
async def profile() -> Response:
    return Response(BODY, content_type="application/json")


async def main() -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = None
    config.errorlog = None
    config.keep_alive_max_requests = 1 << 30
    print(port, flush=True)

    async def until_stdin_ends() -> None:
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)

    await serve(app, config, shutdown_trigger=until_stdin_ends)


if __name__ == "__main__":
    trio.run(main)
