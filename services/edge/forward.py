"""Streams one exchange up and down; the only module that stands between the client and Anthropic.

The client's bytes are sent at once. Only the chunk that completes an answer waits, for the record of its
usage to be durable; nothing that the bookkeeping meets is raised into the exchange.
"""

import asyncio

import httpx

from schemas.exchange import Outcome
from services.edge.client import ClientWatch, Drains, PassingBody, Receive, Send
from services.edge.headers import RawHeaders, headers_down
from services.edge.passage import Passage
from services.edge.refusals import (
    UPSTREAM_CUT,
    UPSTREAM_TIMED_OUT,
    UPSTREAM_UNREACHABLE,
    Refusal,
    body_of,
    headers_of,
    sse_error,
)
from services.edge.transport import AiohttpTransport, WholeBody
from services.runtime import metrics

# httpx wants an address with every request; the transport looks only at the target.
_URL = httpx.URL("http://upstream")

# (the fault of the wire, what the client is told, how the exchange is booked), the narrowest first
_FAULTS: tuple[tuple[type[Exception], Refusal, Outcome], ...] = (
    (httpx.ConnectTimeout, UPSTREAM_UNREACHABLE, "timed_out"),
    (httpx.ConnectError, UPSTREAM_UNREACHABLE, "upstream_cut"),
    (httpx.TimeoutException, UPSTREAM_TIMED_OUT, "timed_out"),
    (TimeoutError, UPSTREAM_TIMED_OUT, "timed_out"),
    (httpx.TransportError, UPSTREAM_CUT, "upstream_cut"),
)


class Forwarder:
    """Carries exchanges through one transport."""

    def __init__(self, transport: AiohttpTransport, drains: Drains, total_s_max: float) -> None:
        self._transport = transport
        self._drains = drains
        self._total_s_max = total_s_max or None

    async def forward(
        self,
        passage: Passage,
        target: bytes,
        headers: RawHeaders,
        body: WholeBody | PassingBody,
        channel: tuple[Receive, Send],
    ) -> None:
        """Send the request up and its answer down; returns when the exchange is closed."""
        request = httpx.Request(
            passage.exchange.method,
            _URL,
            headers=list(headers),
            stream=body,
            extensions={"target": target},
        )
        receive, send = channel
        answer = _Answer(passage, send)
        gone = False
        try:
            async with asyncio.timeout(self._total_s_max) as limit:
                passage.going_up()
                if isinstance(body, PassingBody):
                    response = await self._transport.handle_async_request(request)
                    await answer.relay(response, None)
                else:
                    with ClientWatch(receive, limit, self._drains) as client:
                        try:
                            response = await self._transport.handle_async_request(request)
                            await answer.relay(response, client)
                        finally:
                            gone = client.is_gone
        except (httpx.TransportError, TimeoutError) as exc:
            gone = gone or (isinstance(body, PassingBody) and body.client_is_gone)
            await answer.break_off(exc, gone)


class _Answer:
    """One answer on its way down."""

    def __init__(self, passage: Passage, send: Send) -> None:
        self._passage = passage
        self._send = send
        self._is_begun = False
        self._is_plain_sse = False
        self._is_within_line = False

    async def relay(self, response: httpx.Response, client: ClientWatch | None) -> None:
        """Send head and body as they came, and close the exchange before the bytes that complete it."""
        passage = self._passage
        try:
            passage.answered(response)
            down = headers_down(response.headers.raw, passage.exchange.request_id)
            self._is_plain_sse = _is_plain_sse(response)
            await self._send({"type": "http.response.start", "status": response.status_code, "headers": down})
            self._is_begun = True
            passage.head_sent()
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:
                if passage.passes(chunk) and not passage.is_closed:
                    passage.ended(client is not None and client.is_gone)
                await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
                self._is_within_line = not chunk.endswith((b"\n", b"\r"))
            if passage.is_cut_short and not passage.is_closed:
                raise httpx.RemoteProtocolError("the answer ended before it was complete")
            passage.ended(client is not None and client.is_gone)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await response.aclose()

    async def break_off(self, error: Exception, client_is_gone: bool) -> None:
        """End an answer that upstream did not end, in the words that the client can still be given."""
        refusal, outcome = _told_and_booked(error)
        passage = self._passage
        if passage.is_closed:  # the answer was complete; what broke was only its tail
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if client_is_gone:
            passage.close("client_gone")
            return
        if not self._is_begun:
            passage.refused(refusal)
            passage.close(outcome)
            await answer_with(refusal, passage.exchange.request_id, self._send)
            return
        passage.failed(refusal.error_type)
        passage.close(outcome)
        if self._is_plain_sse:
            # Half a line is ended, not its event: "event: error" renames it, so that SDKs raise what it says.
            line_end = b"\n" if self._is_within_line else b""
            last = line_end + sse_error(refusal, passage.exchange.request_id)
            await self._send({"type": "http.response.body", "body": last, "more_body": False})
        # Anything else is left unfinished: the server closes the connection, as upstream did.


async def answer_with(refusal: Refusal, request_id: str, send: Send) -> None:
    """Send an answer of the gateway's own, and count it."""
    metrics.edge_refusals.labels(refusal.reason).inc()
    body = body_of(refusal, request_id)
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": headers_of(refusal, request_id, len(body)),
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _told_and_booked(error: Exception) -> tuple[Refusal, Outcome]:
    for kind, refusal, outcome in _FAULTS:
        if isinstance(error, kind):
            return refusal, outcome
    raise AssertionError("every error that forward catches stands in _FAULTS") from error


def _is_plain_sse(response: httpx.Response) -> bool:
    """Say whether an event can be written behind what was sent: events without a coding or a length."""
    content_type = response.headers.get("content-type", "")
    coding = response.headers.get("content-encoding", "identity")
    is_open = coding == "identity" and "content-length" not in response.headers
    return content_type.startswith("text/event-stream") and is_open
