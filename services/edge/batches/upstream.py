"""Asks Anthropic for what an exchange must know beside its own answer; with a limit to time and to bytes."""

import asyncio

import httpx

from schemas.batch_items import OK
from services.edge.headers import RawHeaders
from services.edge.transport import AiohttpTransport, WholeBody, request_up

# The client waits for it.
ANSWER_S_MAX = 10.0

_CREDENTIALS = (b"x-api-key", b"authorization", b"user-agent")


async def asked(transport: AiohttpTransport, target: bytes, headers: RawHeaders, bytes_max: int) -> bytes:
    """Give the body of an answer; "" where there is none, or it is no 200, too long, or too slow.

    Of the exchange's `headers` only those go along that say who asks: any that frames a body which is not
    there would make upstream take the next request for one.
    """
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() in _CREDENTIALS or name.lower().startswith(b"anthropic-")
    ]
    request = request_up("GET", target, [*kept, (b"accept-encoding", b"identity")], WholeBody(b""))
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            return await _read(await transport.handle_async_request(request), bytes_max)
    except (httpx.TransportError, TimeoutError):
        return b""


async def _read(response: httpx.Response, bytes_max: int) -> bytes:
    body = bytearray()
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        async for chunk in response.stream:
            body += chunk
            if len(body) > bytes_max:
                return b""
    finally:
        await response.aclose()
    return bytes(body) if response.status_code == OK else b""
