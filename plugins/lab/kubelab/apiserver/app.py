"""The HTTP front: an ASGI application around :class:`.api.Api`."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .api import Answer, Api
from .request import Request, parse
from .watch import Watch

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_JSON = (b"content-type", b"application/json")


class App:
    """An ASGI application; request bodies are read completely, watches are streamed."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one HTTP exchange."""
        if scope["type"] != "http":
            return
        request = _request(scope)
        if request.method not in ("GET", "HEAD"):
            request.body = await _body(receive)
        answer = self._api.handle(request)
        if isinstance(answer, Watch):
            await _stream(answer, receive, send)
        else:
            await _reply(answer, request.method == "HEAD", send)


def _request(scope: Message) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1")
        value = raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}\0{value}" if name in headers else value
    path = scope.get("raw_path") or scope["path"].encode()
    return parse(scope["method"], path.decode("latin-1"), scope["query_string"].decode("latin-1"), headers)


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts = [body]
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def _reply(answer: Answer, head: bool, send: Send) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()) if answer.content_type != "application/json" else _JSON,
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-cache, private"),
    ]
    headers += [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.code, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


async def _stream(watch: Watch, receive: Receive, send: Send) -> None:
    waiter, gone = asyncio.Event(), asyncio.Event()

    async def notice_disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        waiter.set()

    listener = asyncio.ensure_future(notice_disconnect())
    try:
        headers = [_JSON, (b"cache-control", b"no-cache, private")]
        if watch.request.warnings:
            headers.append((b"warning", watch.request.warning_header.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        async for chunk in watch.lines(waiter, gone):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if gone.is_set():
                return
        await send({"type": "http.response.body", "body": b""})
    finally:
        listener.cancel()
