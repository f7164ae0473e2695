"""Serves the simulated API over ASGI: reads a request whole, sends the decided reply; decides no content."""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

from services.local.anthropic.api import Api, Call
from services.local.anthropic.errors import ApiFault
from services.local.anthropic.recording import End, FinishedExchange, ReceivedRequest, Recorder
from services.local.anthropic.reply import CannedReply, Reply
from services.local.anthropic.request import BODY_BYTES_MAX
from services.local.anthropic.wire import Scope, Wire, wire_of

Event = dict[str, object]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

STALL_SECONDS_MAX = 3_600.0  # a client that waits longer than an hour has forgotten us


class SimulatedAnthropicApp:
    """The ASGI application; it must be served by WireProtocol."""

    def __init__(self, api: Api, recorder: Recorder, canned: deque[CannedReply]) -> None:
        self._api = api
        self._recorder = recorder
        self._canned = canned
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        wire = wire_of(scope)
        number = next(self._numbers)
        body = await _read_body(receive)
        if body is None:
            self._recorder.finished(FinishedExchange(number=number, end="client_gone", sent_bytes=0))
            return
        call = _call(scope, number, body)
        self._recorder.received(
            ReceivedRequest(
                number=number, method=call.method, target=wire.target, headers=wire.headers, body=body
            )
        )
        reply = self._reply(call)
        end, sent_bytes = await _send_reply(reply, wire, receive, send)
        self._recorder.finished(FinishedExchange(number=number, end=end, sent_bytes=sent_bytes))

    def _reply(self, call: Call) -> Reply:
        if self._canned:
            return self._canned.popleft()
        if len(call.body) > BODY_BYTES_MAX:
            return self._api.refusal(ApiFault(413), call)
        return self._api.reply(call)


def _call(scope: Scope, number: int, body: bytes) -> Call:
    return Call(
        number=number,
        method=cast(str, scope["method"]),
        path=cast(bytes, scope["raw_path"]).decode("latin-1"),
        query=cast(bytes, scope["query_string"]),
        headers=_by_name(cast("list[tuple[bytes, bytes]]", scope["headers"])),
        body=body,
    )


def _by_name(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    by_name = dict(headers)
    if len(by_name) < len(headers):
        # Lists may come on several lines: directives are joined by ";", betas and anything else by ",".
        by_name = {}
        for name, value in headers:
            joint = b";" if name == b"x-simulate" else b","
            by_name[name] = by_name[name] + joint + value if name in by_name else value
    return by_name


async def _read_body(receive: Receive) -> bytes | None:
    """Read the body, and of one that is too long just enough to tell; None when the client left."""
    pieces: list[bytes] = []
    read_bytes = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        piece = cast(bytes, event.get("body", b""))
        pieces.append(piece)
        read_bytes += len(piece)
        if not event.get("more_body", False) or read_bytes > BODY_BYTES_MAX:
            return b"".join(pieces)


async def _send_reply(reply: Reply, wire: Wire, receive: Receive, send: Send) -> tuple[End, int]:
    """Send a reply as it says; returns how the exchange ended and how much of the body was sent."""
    if reply.latency_ms and await _left_within(receive, reply.latency_ms / 1000):
        return "client_gone", 0
    if reply.answered:
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    sent_bytes = 0
    last = len(reply.chunks) - 1 if reply.ending == "complete" else -1
    for position, chunk in enumerate(reply.chunks if reply.answered else ()):
        if position and reply.chunk_delay_ms:
            await _left_within(receive, reply.chunk_delay_ms / 1000)
        if wire.is_gone():
            return "client_gone", sent_bytes
        await send({"type": "http.response.body", "body": chunk, "more_body": position != last})
        sent_bytes += len(chunk)
    if reply.ending == "stall":
        await _left_within(receive, STALL_SECONDS_MAX)
        return "client_gone", sent_bytes
    if reply.ending == "cut":
        wire.cut()
        await _left_within(receive, STALL_SECONDS_MAX)
        return "cut", sent_bytes
    if not reply.chunks:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    return "answered", sent_bytes


async def _left_within(receive: Receive, seconds: float) -> bool:
    """Wait this long, or until the client leaves; tells whether it left."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True
