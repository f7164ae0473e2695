"""Follows one answer on its way to the client and decides when the exchange has ended, and how."""

import time
from datetime import UTC, datetime

import httpx
import structlog

from schemas.exchange import Outcome
from services.edge.events import Ending, Exchange
from services.edge.headers import first
from services.edge.recorder import Recorder
from services.edge.refusals import Refusal
from services.edge.tap.reading import Reading
from services.edge.tap.taps import Blind, Tap, tap_for
from services.runtime import metrics

# RFC 9110, section 6.4.1: their content-length, if any, is of another answer.
BODILESS_STATUSES = (204, 304)

log = structlog.get_logger(__name__)


class Passage:
    """The state of one exchange from the moment it is opened; closes it exactly once."""

    def __init__(self, exchange: Exchange, recorder: Recorder, received_ns: int) -> None:
        self.exchange = exchange
        self._recorder = recorder
        self._received_ns = received_ns
        self._tap: Tap = Blind()
        self._http_status = 0
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

    def answered(self, response: httpx.Response) -> None:
        """Upstream's head is here."""
        self._ttfb_ns = time.perf_counter_ns() - self._received_ns
        lower = [(name.lower(), value) for name, value in response.headers.raw]
        self._http_status = response.status_code
        self._upstream_request_id = first(lower, b"request-id")
        self._tap = tap_for(
            self.exchange.operation,
            response.status_code,
            first(lower, b"content-type"),
            first(lower, b"content-encoding"),
        )
        length = first(lower, b"content-length")
        has_body = self.exchange.method != "HEAD" and response.status_code not in BODILESS_STATUSES
        if length.isdigit() and has_body:
            self._bytes_left = int(length)

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
        """Whether the answer has ended before it said so."""
        return self._tap.is_cut_short or bool(self._bytes_left)

    def refused(self, refusal: Refusal) -> None:
        """The gateway answers itself."""
        self._http_status = refusal.status
        self._error_type = refusal.error_type

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
        else:
            self._close("completed", reading)

    def close(self, outcome: Outcome) -> None:
        """Close the exchange; when this returns it is durable. A second call does nothing."""
        if not self.is_closed:
            self._close(outcome, self._tap.read())

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
