"""A clip as an answer that knows how much of it went out; used by `app.py`."""

import re
from collections.abc import Callable
from pathlib import Path

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

_RANGE = re.compile(rb"bytes (\d+)-")


class HandedOut(FileResponse):
    """`note` hears where an answer began and how many bytes of it went out, if its taker was there to the end."""

    def __init__(self, path: Path, note: Callable[[int, int], None]) -> None:
        super().__init__(path, media_type="video/mp4")
        self._note = note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: int | None = None
        sent = 0

        async def counting(message: Message) -> None:
            nonlocal start, sent
            if message["type"] == "http.response.start":
                start = _beginning(message)
            elif message["type"] == "http.response.body":
                sent += len(message["body"])
                # The server takes bytes for a closed connection in silence.
                if not message.get("more_body") and await Request(scope, receive).is_disconnected():
                    start = None
            await send(message)

        await super().__call__(scope, receive, counting)
        if start is not None and sent:
            await run_in_threadpool(self._note, start, sent)


def _beginning(message: Message) -> int | None:
    """The first byte of the file that is answered; None where it is an error or several ranges."""
    if message["status"] == 200:
        return 0
    found = _RANGE.match(dict(message["headers"]).get(b"content-range", b""))
    return int(found[1]) if message["status"] == 206 and found else None
