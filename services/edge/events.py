"""Turns an exchange into the events that tell of it; pure, so that every ending is a table in a test."""

from datetime import datetime

import msgspec

from schemas import codec, topics
from schemas.codec import Event
from schemas.exchange import Outcome
from schemas.ids import SourceId
from schemas.keys import OnDisconnect
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from schemas.usage import UsageRecorded
from schemas.usage_rules import CacheTtls, Reading
from services.edge.size import fitted
from services.runtime.records import OutgoingRecord

# What a client says of itself, or upstream of the exchange, in a header that goes on an event.
HEADER_CHARS_MAX = 512


class Exchange(RequestStarted, frozen=True, kw_only=True):
    """What is known of an exchange before it goes upstream: what its first event says, and what none says.

    `cache_ttls` are those that the request asks for, to tell where cache writes go that no split explains;
    `on_disconnect` is the word of its key for when the client hangs up.
    """

    traceparent: str = ""
    on_disconnect: OnDisconnect = ""
    cache_ttls: CacheTtls = "none"


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How an exchange ended, apart from what the answer said of itself."""

    outcome: Outcome
    finished_at: datetime
    http_status: int = 0
    upstream_request_id: str = ""
    error_type: str = ""
    response_bytes: int = 0
    ttfb_ms: int = 0
    duration_ms: int = 0
    overhead_us: int = 0


class Place(msgspec.Struct, frozen=True):
    """Where a usage event stands in its source: the spool's lasting id and its number there."""

    source_id: SourceId
    source_seq: int


def opening(exchange: Exchange) -> list[OutgoingRecord]:
    """Write the records of an exchange that begins."""
    event = msgspec.structs.replace(
        msgspec.convert(exchange, RequestStarted, from_attributes=True),
        client_user_agent=exchange.client_user_agent[:HEADER_CHARS_MAX],
        anthropic_version=exchange.anthropic_version[:HEADER_CHARS_MAX],
        anthropic_beta=exchange.anthropic_beta[:HEADER_CHARS_MAX],
    )
    return [record(topics.REQUESTS, event, exchange.started_at, exchange.traceparent)]


def usage_so_far(exchange: Exchange, reading: Reading, place: Place) -> list[OutgoingRecord]:
    """Write the record to publish if this process dies before the exchange ends."""
    ending = Ending(outcome="orphaned", finished_at=exchange.started_at, http_status=200)
    return [_usage_record(exchange, reading, ending, place)]


def closing(exchange: Exchange, reading: Reading, ending: Ending, place: Place) -> list[OutgoingRecord]:
    """Write the records of an exchange that has ended."""
    event = ResponseFinished(
        request_id=exchange.request_id,
        started_at=exchange.started_at,
        finished_at=ending.finished_at,
        edge_id=exchange.edge_id,
        exchange_seq=exchange.exchange_seq,
        virtual_key_id=exchange.attribution.virtual_key_id,
        operation=exchange.operation,
        endpoint=exchange.endpoint,
        outcome=ending.outcome,
        http_status=ending.http_status,
        error_type=reading.error_type or ending.error_type,
        stop_reason=reading.stop_reason,
        upstream_request_id=ending.upstream_request_id[:HEADER_CHARS_MAX],
        response_bytes=ending.response_bytes,
        ttfb_ms=ending.ttfb_ms,
        duration_ms=ending.duration_ms,
        overhead_us=ending.overhead_us,
    )
    return [
        record(topics.RESPONSES, event, ending.finished_at, exchange.traceparent),
        _usage_record(exchange, reading, ending, place),
    ]


def _usage_record(exchange: Exchange, reading: Reading, ending: Ending, place: Place) -> OutgoingRecord:
    event = UsageRecorded(
        request_id=exchange.request_id,
        started_at=exchange.started_at,
        finished_at=ending.finished_at,
        edge_id=exchange.edge_id,
        exchange_seq=exchange.exchange_seq,
        source_id=place.source_id,
        source_seq=place.source_seq,
        attribution=exchange.attribution,
        operation=exchange.operation,
        endpoint=exchange.endpoint,
        is_stream=exchange.is_stream,
        outcome=ending.outcome,
        usage_status=reading.usage_status,
        http_status=ending.http_status,
        model_requested=exchange.model_requested,
        model_served=reading.model_served,
        message_id=reading.message_id,
        upstream_request_id=ending.upstream_request_id[:HEADER_CHARS_MAX],
        error_type=reading.error_type or ending.error_type,
        stop_reason=reading.stop_reason,
        tokens=reading.tokens,
        service_tier=reading.service_tier,
        speed=reading.speed,
        inference_geo=reading.inference_geo,
        usage=reading.usage,
        ttfb_ms=ending.ttfb_ms,
        duration_ms=ending.duration_ms,
        overhead_us=ending.overhead_us,
        estimated_dimensions=reading.estimated_dimensions,
        cut=exchange.cut,
    )
    return record(topics.USAGE, event, ending.finished_at, exchange.traceparent)


def record(topic: str, event: Event, at: datetime, traceparent: str = "") -> OutgoingRecord:
    """Write an event as it is published."""
    trace = traceparent if len(traceparent) <= HEADER_CHARS_MAX else ""  # half of one would lead nowhere
    event, value = fitted(event)
    return OutgoingRecord(topic, codec.key(event), value, codec.headers(event, at.isoformat(), trace))
