"""Streams one exchange up and down; the only module that stands between the client and Anthropic.

The client's bytes are sent at once. Only the chunk that completes an answer waits, for the record of its
usage to be durable; nothing that the bookkeeping meets is raised into the exchange.
"""

import asyncio

import httpx
import structlog

from schemas.exchange import Outcome
from services.edge.batches.intake import BatchBody
from services.edge.batches.own_list import ListCut
from services.edge.batches.watch import BatchAnswer, ItemMeter, ResultsDownload
from services.edge.client import (
    BodyTooSlow,
    ClientGone,
    ClientWatch,
    Drains,
    PassingBody,
    Receive,
    Send,
)
from services.edge.config import EdgeConfig
from services.edge.headers import RawHeaders, headers_down
from services.edge.passage import Head, Passage, head_of
from services.edge.redirects import Redirects
from services.edge.refusals import (
    BATCH_UNREADABLE,
    BODY_TOO_SLOW,
    REDIRECTED_ELSEWHERE,
    STOPPING,
    UPSTREAM_CUT,
    UPSTREAM_TIMED_OUT,
    UPSTREAM_UNREACHABLE,
    Refusal,
    body_of,
    headers_of,
    sse_error,
)
from services.edge.results_url import (
    BATCH_BYTES_MAX,
    REWRITE_ON_LOOP_BYTES_MAX,
    CannotRewrite,
    Links,
    rewritten,
    with_length,
)
from services.edge.transport import AiohttpTransport, WholeBody, request_up
from services.runtime import metrics

log = structlog.get_logger(__name__)

# (what ended the answer, what the client is told, how the exchange is booked), the narrowest first
_FAULTS: tuple[tuple[type[BaseException], Refusal, Outcome], ...] = (
    (BodyTooSlow, BODY_TOO_SLOW, "refused"),
    (httpx.ConnectTimeout, UPSTREAM_UNREACHABLE, "timed_out"),
    (httpx.ConnectError, UPSTREAM_UNREACHABLE, "upstream_cut"),
    (httpx.TimeoutException, UPSTREAM_TIMED_OUT, "timed_out"),
    (TimeoutError, UPSTREAM_TIMED_OUT, "timed_out"),
    (httpx.TransportError, UPSTREAM_CUT, "upstream_cut"),
    (asyncio.CancelledError, STOPPING, "orphaned"),
)


class Forwarder:
    """Carries exchanges through one transport."""

    def __init__(self, transport: AiohttpTransport, drains: Drains, total_s_max: float) -> None:
        self._transport = transport
        self._drains = drains
        self._total_s_max = total_s_max or None

    def reconfigure(self, config: EdgeConfig) -> None:
        """Carry what comes from now on within other limits; a client that hangs up is dealt with by these."""
        self._total_s_max = config.upstream.total_s_max or None
        self._drains.config = config.drain

    async def forward(
        self,
        passage: Passage,
        target: bytes,
        headers: RawHeaders,
        body: WholeBody | PassingBody | BatchBody,
        channel: tuple[Receive, Send],
        redirects: Redirects,
        batch: BatchAnswer | ResultsDownload | None = None,
    ) -> None:
        """Send the request up and its answer down; returns when the exchange is closed.

        A redirect must lead to this gateway by `redirects`. With a BatchAnswer the answer holds batch
        objects, whose `results_url` must point here as well.
        """
        request = request_up(passage.exchange.method, target, headers, body)
        receive, send = channel
        answer = _Answer(passage, send, self._transport, redirects)
        gone = False
        try:
            async with asyncio.timeout(self._total_s_max) as limit:
                passage.going_up()
                behind = body.receive_behind if isinstance(body, PassingBody) else receive
                with ClientWatch(behind, limit, self._drains, passage.exchange.on_disconnect) as client:
                    try:
                        response = await self._transport.handle_async_request(request)
                        if isinstance(batch, ResultsDownload):
                            await answer.begin_to_meter(response, batch)
                        await answer.relay(response, client, batch)
                    finally:
                        gone = client.is_gone
        except (httpx.TransportError, TimeoutError) as exc:
            fault = body.fault if isinstance(body, PassingBody) else None
            gone = gone or isinstance(fault, ClientGone)
            if isinstance(fault, BodyTooSlow):  # it is what broke the wire
                await answer.break_off(fault, gone or answer.is_begun)
            else:
                await answer.break_off(exc, gone)
        except asyncio.CancelledError as exc:  # the process stops, and has waited as long as it may
            passage.read()  # here and now: the spool is closed next
            await answer.break_off(exc, gone)
            raise


class _Answer:
    """One answer on its way down."""

    def __init__(
        self, passage: Passage, send: Send, transport: AiohttpTransport, redirects: Redirects
    ) -> None:
        self._passage = passage
        self._send = send
        self._transport = transport
        self._redirects = redirects
        self.is_begun = False
        self._is_plain_sse = False
        self._is_within_line = False
        self._meter: ItemMeter | None = None

    async def begin_to_meter(self, response: httpx.Response, download: ResultsDownload) -> None:
        """Meter what passes item by item."""
        try:
            self._meter = await download.meter(head_of(response), self._passage, self._transport)
        except BaseException:
            await response.aclose()
            raise

    async def relay(
        self, response: httpx.Response, client: ClientWatch, batch: BatchAnswer | ResultsDownload | None
    ) -> None:
        """Send head and body down, and close the exchange before the bytes that complete them."""
        head = head_of(response)
        try:
            self._passage.answered(head)
            if isinstance(batch, BatchAnswer) and head.is_success:
                await self._relay_batches(head, response, client, batch)
            else:
                await self._relay_as_it_came(head, response, client)
        finally:
            await response.aclose()

    async def _relay_as_it_came(self, head: Head, response: httpx.Response, client: ClientWatch) -> None:
        passage = self._passage
        try:
            headers = self._redirects.led_here(head.status, head.headers)
        except CannotRewrite as exc:
            log.warning("redirect.withheld", request_id=passage.exchange.request_id, leads_to=str(exc))
            await self._withhold(REDIRECTED_ELSEWHERE, client)
            return
        self._is_plain_sse = _is_plain_sse(head)
        await self._begin(head, headers_down(headers, passage.exchange.request_id))
        assert isinstance(response.stream, httpx.AsyncByteStream)
        async for chunk in response.stream:
            if self._meter is not None:
                await self._meter.feed(chunk)
            if passage.passes(chunk):
                await self._end(client)
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            self._is_within_line = not chunk.endswith((b"\n", b"\r"))
        await self._read()
        if passage.is_cut_short and not passage.is_closed:
            raise httpx.RemoteProtocolError("the answer ended before it was complete")
        await self._end(client)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _relay_batches(
        self, head: Head, response: httpx.Response, client: ClientWatch, batch: BatchAnswer
    ) -> None:
        """Hold the answer back until it is known where it would send its reader."""
        passage = self._passage
        body = bytearray()
        assert isinstance(response.stream, httpx.AsyncByteStream)
        try:
            async for chunk in response.stream:
                passage.passes(chunk)
                body += chunk
                if len(body) > BATCH_BYTES_MAX:
                    raise CannotRewrite("too long")
            if passage.is_cut_short:
                raise httpx.RemoteProtocolError("the answer ended before it was complete")
            came = bytes(body)
            if _is_plain(head):
                await batch.tell(came, passage)
            own = await batch.own.completed(came, self._transport) if batch.own is not None else came
            down = await _rewritten(own, head, batch.links)
        except (CannotRewrite, ListCut) as exc:
            refusal = exc.refusal if isinstance(exc, ListCut) else BATCH_UNREADABLE
            log.warning(
                "batches.withheld",
                request_id=passage.exchange.request_id,
                reason=refusal.reason,
                detail=str(exc),
            )
            await self._withhold(refusal, client)
            return
        await self._end(client)
        headers = headers_down(head.headers, passage.exchange.request_id)
        await self._begin(head, headers if down == came else with_length(headers, len(down)))
        await self._send({"type": "http.response.body", "body": down, "more_body": False})

    async def _withhold(self, refusal: Refusal, client: ClientWatch) -> None:
        """Answer in place of upstream."""
        passage = self._passage
        passage.refused(refusal)
        passage.close("client_gone" if client.is_gone else "refused")
        await answer_with(refusal, passage.exchange.request_id, self._send)

    async def _begin(self, head: Head, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})
        self.is_begun = True
        self._passage.head_sent()

    async def _end(self, client: ClientWatch) -> None:
        """Close the exchange, unless it is."""
        passage = self._passage
        if passage.is_closed:
            return
        if self._meter is not None:
            await self._meter.end()
        await self._read()
        passage.ended(client.is_gone)
        await passage.synced()

    async def _read(self) -> None:
        if self._passage.is_long:
            await asyncio.to_thread(self._passage.read)

    async def break_off(self, error: BaseException, client_is_gone: bool) -> None:
        """End an answer that has no end of its own, in the words that the client can still be given."""
        refusal, outcome = _told_and_booked(error)
        passage = self._passage
        if passage.is_closed:  # the answer was complete; what broke was only its tail
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await self._read()
        if client_is_gone:
            passage.failed(refusal.booked_as)
            passage.close("client_gone")
            return
        if not self.is_begun:
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


def _told_and_booked(error: BaseException) -> tuple[Refusal, Outcome]:
    for kind, refusal, outcome in _FAULTS:
        if isinstance(error, kind):
            return refusal, outcome
    raise AssertionError("every error that forward catches stands in _FAULTS") from error


async def _rewritten(body: bytes, head: Head, links: Links) -> bytes:
    if body and not _is_plain(head):
        raise CannotRewrite("in a coding that was not asked for")
    if len(body) <= REWRITE_ON_LOOP_BYTES_MAX:
        return rewritten(body, links)
    return await asyncio.to_thread(rewritten, body, links)


def _is_plain(head: Head) -> bool:
    return head.content_encoding.lower() in ("", "identity")


def _is_plain_sse(head: Head) -> bool:
    """Say whether an event can be written behind what was sent: events without a coding or a length."""
    is_open = _is_plain(head) and not head.content_length
    return head.content_type.lower().startswith("text/event-stream") and is_open
