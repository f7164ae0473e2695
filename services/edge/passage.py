"""Follows one answer on its way to the client and decides when the exchange has ended, and how."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import httpx
import structlog

from schemas.exchange import Outcome
from schemas.usage_rules import Reading
from services.edge.events import Ending, Exchange
from services.edge.headers import RawHeaders, first, joined
from services.edge.recorder import Recorder
from services.edge.refusals import Refusal
from services.edge.tap.taps import Blind, Tap, tap_for
from services.runtime import metrics
from services.runtime.records import OutgoingRecord

# RFC 9110, section 6.4.1: their content-length, if any, is of another answer.
BODILESS_STATUSES = (204, 304)

_READ = frozenset((b"content-type", b"content-encoding", b"content-length", b"request-id"))

log = structlog.get_logger(__name__)


class Head(NamedTuple):
    """An answer's status and headers, and those among them that the gateway itself reads."""

    status: int
    headers: RawHeaders
    content_type: str
    content_encoding: str
    content_length: str
    request_id: str

    @property
    def is_success(self) -> bool:
        """Whether the answer is what was asked for."""
        return 200 <= self.status < 300


def head_of(response: httpx.Response) -> Head:
    """Read an answer's headers once; httpx would decode all of them for each that is asked for."""
    headers = response.headers.raw
    read = [(lower, value) for name, value in headers if (lower := name.lower()) in _READ]
    return Head(
        response.status_code,
        headers,
        first(read, b"content-type"),
        joined(read, b"content-encoding"),
        first(read, b"content-length"),
        first(read, b"request-id"),
    )


class Passage:
    """The state of one exchange from the moment it is opened; closes it exactly once."""

    def __init__(self, exchange: Exchange, recorder: Recorder, received_ns: int) -> None:
        self.exchange = exchange
        self._recorder = recorder
        self._received_ns = received_ns
        self._tap: Tap = Blind()
        self._http_status = 0
        self._is_success = False
        self._upstream_request_id = ""
        self._error_type = ""
        self._response_bytes = 0
        self._bytes_left: int | None = None
        self._ttfb_ns = 0
        self._overhead_ns = 0
        self._is_start_recorded = False
        self.is_closed = False

    def going_up(self) -> None:
        """The request is complete and about to leave; what passed since it came in was the gateway's time."""
        self._overhead_ns = time.perf_counter_ns() - self._received_ns

    def answered(self, head: Head) -> None:
        """Upstream's head is here."""
        self._ttfb_ns = time.perf_counter_ns() - self._received_ns
        self._http_status = head.status
        self._is_success = head.is_success
        self._upstream_request_id = head.request_id
        if self.exchange.method == "HEAD" or head.status in BODILESS_STATUSES:
            return
        self._tap = tap_for(
            self.exchange.operation,
            head.status,
            head.content_type,
            head.content_encoding,
            self.exchange.cache_ttls,
        )
        if head.content_length.isdigit():
            self._bytes_left = int(head.content_length)

    def head_sent(self) -> None:
        """The client has upstream's head."""
        head_ns = time.perf_counter_ns() - self._received_ns - self._ttfb_ns
        self._overhead_ns += head_ns

    def passes(self, chunk: bytes) -> bool:
        """Look at a chunk before it is sent; say whether it is the one that completes the answer."""
        self._tap.feed(chunk)
        self._response_bytes += len(chunk)
        if self._bytes_left is not None:
            self._bytes_left -= len(chunk)
        if self._tap.has_started and not self._is_start_recorded:
            self._is_start_recorded = True
            if not self._tap.is_complete:
                self._recorder.start(self.exchange, self._tap.read())
        return self._tap.is_complete or self._bytes_left == 0

    @property
    def is_cut_short(self) -> bool:
        """Whether the answer has ended before it said so; errors pass in whatever shape they have."""
        return bool(self._bytes_left) or (self._is_success and self._tap.is_cut_short)

    @property
    def is_long(self) -> bool:
        """Whether `read` is better called beside the event loop before the exchange is closed."""
        return self._tap.is_long

    def read(self) -> None:
        """Read what the answer says, so that closing has only to write it down."""
        self._tap.read()

    def add(self, records: Sequence[OutgoingRecord]) -> None:
        """Record what the answer says of other things than this exchange."""
        self._recorder.add(self.exchange, records)

    def refused(self, refusal: Refusal) -> None:
        """The gateway answers itself."""
        self._http_status = refusal.status
        self._error_type = refusal.booked_as or refusal.error_type

    def failed(self, error_type: str) -> None:
        """The answer was broken off; `error_type` is what the client is told where it can be told."""
        self._error_type = error_type

    def ended(self, client_is_gone: bool) -> None:
        """Close the exchange as the answer has it."""
        if self.is_closed:
            return
        reading = self._tap.read()
        if client_is_gone:
            self._close("client_gone", reading)
        elif self._http_status >= 400 or reading.error_type:
            self._close("upstream_error", reading)
        elif self.is_cut_short:
            self._close("upstream_cut", reading)
        else:
            self._close("completed", reading)

    def close(self, outcome: Outcome) -> None:
        """Close the exchange; when this returns it is durable. A second call does nothing."""
        if not self.is_closed:
            self._close(outcome, self._tap.read())

    async def synced(self) -> None:
        """Wait, for a bounded time, until the record outlives the host as well, if that was asked for."""
        await self._recorder.synced()

    def _close(self, outcome: Outcome, reading: Reading) -> None:
        self.is_closed = True
        duration_ns = time.perf_counter_ns() - self._received_ns
        ending = Ending(
            outcome=outcome,
            finished_at=datetime.now(UTC),
            http_status=self._http_status,
            upstream_request_id=self._upstream_request_id,
            error_type=self._error_type,
            response_bytes=self._response_bytes,
            ttfb_ms=self._ttfb_ns // 1_000_000,
            duration_ms=duration_ns // 1_000_000,
            overhead_us=self._overhead_ns // 1_000,
        )
        self._recorder.close(self.exchange, reading, ending)
        operation = self.exchange.operation
        metrics.edge_exchanges.labels(operation, outcome).inc()
        metrics.edge_duration.labels(operation).observe(duration_ns / 1e9)
        metrics.edge_overhead.observe(self._overhead_ns / 1e9)
        log.info(
            "exchange.finished",
            request_id=self.exchange.request_id,
            virtual_key_id=self.exchange.attribution.virtual_key_id,
            method=self.exchange.method,
            endpoint=self.exchange.endpoint,
            http_status=ending.http_status,
            outcome=outcome,
            usage_status=reading.usage_status,
            ttfb_ms=ending.ttfb_ms,
            duration_ms=ending.duration_ms,
            overhead_us=ending.overhead_us,
        )
