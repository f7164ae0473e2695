"""Serves the simulated API over ASGI: reads a request whole, sends the decided reply; decides no content."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from mmap import mmap
from typing import cast

from services.local.anthropic.api import Api
from services.local.anthropic.body import MEMORY_BYTES_MAX, Event, Receive, read_body
from services.local.anthropic.call import Call, body_bytes_max
from services.local.anthropic.errors import ApiFault
from services.local.anthropic.recording import End, FinishedExchange, ReceivedRequest, Recorder
from services.local.anthropic.reply import BodyCut, CannedReply, Reply
from services.local.anthropic.wire import Scope, Wire, wire_of

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
        method, path = cast(str, scope["method"]), cast(bytes, scope["raw_path"]).decode("latin-1")
        body = await read_body(receive, body_bytes_max(method, path))
        if body is None:
            self._recorder.finished(FinishedExchange(number=number, end="client_gone", sent_bytes=0))
            return
        call = _call(scope, number, body)
        self._recorder.received(
            ReceivedRequest(
                number=number,
                method=method,
                target=wire.target,
                headers=wire.headers,
                body=body if isinstance(body, bytes) and len(body) <= MEMORY_BYTES_MAX else b"",
                body_bytes=len(body),
            )
        )
        reply = self._reply(call)
        end, sent_bytes = await _send_reply(reply, wire, receive, send)
        self._recorder.finished(FinishedExchange(number=number, end=end, sent_bytes=sent_bytes))

    def _reply(self, call: Call) -> Reply:
        if self._canned:
            return self._canned.popleft()
        if len(call.body) > body_bytes_max(call.method, call.path):
            return self._api.refusal(ApiFault(413), call)
        return self._api.reply(call)


def _call(scope: Scope, number: int, body: bytes | mmap) -> Call:
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


async def _send_reply(reply: Reply, wire: Wire, receive: Receive, send: Send) -> tuple[End, int]:
    """Send a reply as it says; returns how the exchange ended and how much of the body was sent."""
    if reply.latency_ms and await _left_within(receive, reply.latency_ms / 1000):
        return "client_gone", 0
    sent_bytes, ending = 0, reply.ending
    if reply.answered:
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        try:
            async for event in _body_events(reply):
                if reply.chunk_delay_ms and sent_bytes:
                    await _left_within(receive, reply.chunk_delay_ms / 1000)
                if wire.is_gone():
                    return "client_gone", sent_bytes
                await send(event)
                sent_bytes += len(cast(bytes, event["body"]))
        except BodyCut:
            ending = "cut"
    if ending == "stall":
        await _left_within(receive, STALL_SECONDS_MAX)
        return "client_gone", sent_bytes
    if ending == "cut":
        wire.cut()
        await _left_within(receive, STALL_SECONDS_MAX)
        return "cut", sent_bytes
    return "answered", sent_bytes


async def _body_events(reply: Reply) -> AsyncGenerator[Event, None]:
    """Give each part of the body as it is sent; only a body that is at hand ends with its last part."""
    if reply.pieces is not None:
        for piece in reply.pieces:
            yield {"type": "http.response.body", "body": piece, "more_body": True}
            # Writing a piece may take a while, and others are waiting.
            await asyncio.sleep(0)
    last = len(reply.chunks) - 1 if reply.ending == "complete" else -1
    for position, chunk in enumerate(reply.chunks):
        yield {"type": "http.response.body", "body": chunk, "more_body": position != last}
    if reply.ending == "complete" and not reply.chunks:
        yield {"type": "http.response.body", "body": b"", "more_body": False}


async def _left_within(receive: Receive, seconds: float) -> bool:
    """Wait this long, or until the client leaves; tells whether it left."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True
