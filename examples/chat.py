"""A chat client in a screenful: python examples/chat.py URL TOKEN DIALOG_ID

Prints what happens in the dialog; sends each line that is typed; ends with the input.
Needs trio-websocket, which `make build` installs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    open_websocket_url,
)


def client_id() -> str:
    """A UUIDv7: it names the message for ever, however often it is sent again."""
    random = int.from_bytes(os.urandom(10), "big")
    value = time.time_ns() // 1_000_000 << 80 | random
    value = value & ~(0xF << 76) | 7 << 76
    return str(UUID(int=value & ~(3 << 62) | 2 << 62))


def shown(message: dict[str, Any]) -> str:
    content = message["content"]
    return content.get("text") or content.get("caption") or f"[{message['type']}]"


async def listen(socket: WebSocketConnection, dialog_id: str) -> None:
    while True:
        try:
            envelope: dict[str, Any] = json.loads(await socket.get_message())
        except ConnectionClosed as closed:
            print("closed:", closed.reason)
            return
        if envelope["op"] == "message.new":
            if envelope["dialog_id"] == dialog_id:
                print(f"{envelope['seq']:>4}  {shown(envelope['message'])}", flush=True)
        elif envelope["op"] == "error":
            print("refused:", envelope["problem"]["detail"], flush=True)
        elif envelope["op"] == "reply" and "seq" in (envelope["result"] or {}):
            print(f"{envelope['result']['seq']:>4}  (sent)", flush=True)


async def main(url: str, token: str, dialog_id: str) -> None:
    address = url.replace("http", "ws", 1) + "/websocket"
    headers = [(b"authorization", b"Bearer " + token.encode())]
    async with (
        open_websocket_url(
            address, subprotocols=["tchat.json.v1"], extra_headers=headers
        ) as socket,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(listen, socket, dialog_id)
        number = 0
        with suppress(ConnectionClosed):  # which `listen` says
            async for line in trio.wrap_file(sys.stdin):
                number += 1
                command = {
                    "op": "message.send",
                    "id": number,
                    "dialog_id": dialog_id,
                    "client_id": client_id(),
                    "type": "text",
                    "content": {"text": line.rstrip("\n")},
                }
                await socket.send_message(json.dumps(command))
        await trio.sleep(0.5)  # for the last answers
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        trio.run(partial(main, *sys.argv[1:]))
    except ConnectionRejected as refused:
        problem = json.loads(refused.body or b"{}")
        sys.exit(f"refused: {refused.status_code} {problem.get('detail', '')}")
    except HandshakeError as error:
        sys.exit(f"no connection: {error.__cause__ or error}")
