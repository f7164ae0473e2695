"""The events that tell of an exchange: for every ending, exactly these."""

import json
from typing import get_args

import msgspec
import pytest

from schemas import topics
from schemas.exchange import Outcome
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from schemas.usage import TokenCounts, UsageRecorded
from schemas.usage_rules import Reading
from services.edge.events import HEADER_CHARS_MAX, Ending, Place, closing, opening, usage_so_far
from tests.unit.edge.exchanges import (
    EDGE_ID,
    EXCHANGE,
    FINISHED_AT,
    READING,
    REQUEST_ID,
    SOURCE_ID,
    STARTED_AT,
    TRACEPARENT,
    event_of,
)

PLACE = Place(SOURCE_ID, 99)
ENDING = Ending(
    outcome="completed",
    finished_at=FINISHED_AT,
    http_status=200,
    upstream_request_id="req_1",
    error_type="",
    response_bytes=1234,
    ttfb_ms=250,
    duration_ms=3333,
    overhead_us=180,
)


def cloud_headers(kind, event_id, source, at, *more):
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", f"tollhouse.{kind}.v1".encode()),
        ("ce_source", source.encode()),
        ("ce_time", at.isoformat().encode()),
        ("ce_subject", REQUEST_ID.encode()),
        ("ce_dataschema", f"urn:tollhouse:schema:{kind}:v1".encode()),
        ("content-type", b"application/json"),
        *more,
    )


def response(**changes):
    fields = {
        "request_id": REQUEST_ID,
        "started_at": STARTED_AT,
        "finished_at": FINISHED_AT,
        "edge_id": EDGE_ID,
        "exchange_seq": 7,
        "virtual_key_id": "master",
        "operation": "messages",
        "endpoint": "/v1/messages",
        "outcome": "completed",
        "http_status": 200,
        "stop_reason": "end_turn",
        "upstream_request_id": "req_1",
        "response_bytes": 1234,
        "ttfb_ms": 250,
        "duration_ms": 3333,
        "overhead_us": 180,
    }
    return ResponseFinished(**{**fields, **changes})


def usage(**changes):
    fields = {
        "request_id": REQUEST_ID,
        "started_at": STARTED_AT,
        "finished_at": FINISHED_AT,
        "edge_id": EDGE_ID,
        "exchange_seq": 7,
        "source_id": SOURCE_ID,
        "source_seq": 99,
        "attribution": EXCHANGE.attribution,
        "operation": "messages",
        "endpoint": "/v1/messages",
        "is_stream": True,
        "outcome": "completed",
        "usage_status": "final",
        "http_status": 200,
        "model_requested": "claude-sonnet-5-5",
        "model_served": "claude-sonnet-5-5-20260901",
        "message_id": "msg_1",
        "upstream_request_id": "req_1",
        "stop_reason": "end_turn",
        "tokens": READING.tokens,
        "service_tier": "standard",
        "speed": "fast",
        "inference_geo": "us",
        "usage": READING.usage,
        "ttfb_ms": 250,
        "duration_ms": 3333,
        "overhead_us": 180,
    }
    return UsageRecorded(**{**fields, **changes})


def test_an_exchange_opens_with_one_record_of_the_request():
    (record,) = opening(EXCHANGE)
    assert event_of(record) == RequestStarted(
        request_id=REQUEST_ID,
        started_at=STARTED_AT,
        edge_id=EDGE_ID,
        exchange_seq=7,
        attribution=EXCHANGE.attribution,
        method="POST",
        operation="messages",
        endpoint="/v1/messages",
        model_requested="claude-sonnet-5-5",
        is_stream=True,
        request_bytes=321,
        client_user_agent="Anthropic/Python 2.12.0",
        anthropic_version="2026-10-21",
        anthropic_beta="a,b",
    )
    assert (record.topic, record.key) == (topics.REQUESTS, REQUEST_ID.encode())
    assert record.headers == cloud_headers(
        "request_started",
        f"{REQUEST_ID}/started",
        f"/edges/{EDGE_ID}",
        STARTED_AT,
        ("traceparent", TRACEPARENT.encode()),
    )


def test_an_exchange_closes_with_one_record_of_the_response_and_one_of_the_usage():
    responded, used = closing(EXCHANGE, READING, ENDING, PLACE)
    assert (event_of(responded), event_of(used)) == (response(), usage())
    assert (responded.topic, responded.key) == (topics.RESPONSES, REQUEST_ID.encode())
    assert (used.topic, used.key) == (topics.USAGE, b"master")
    trace = ("traceparent", TRACEPARENT.encode())
    assert responded.headers == cloud_headers(
        "response_finished", f"{REQUEST_ID}/finished", f"/edges/{EDGE_ID}", FINISHED_AT, trace
    )
    assert used.headers == cloud_headers(
        "usage_recorded", REQUEST_ID, f"/sources/{SOURCE_ID}", FINISHED_AT, trace
    )


NOTHING = Reading()
NO_USAGE = {
    "usage_status": "none",
    "tokens": TokenCounts(),
    "usage": msgspec.Raw(b"null"),
    "service_tier": "",
    "speed": "",
    "inference_geo": "",
    "model_served": "",
    "message_id": "",
    "stop_reason": "",
}
PARTIAL = msgspec.structs.replace(READING, usage_status="partial", stop_reason="")
ESTIMATED = msgspec.structs.replace(
    READING, usage_status="estimated", estimated_dimensions=("output_tokens",), stop_reason=""
)

ENDINGS = {
    "refused": (
        NOTHING,
        {"http_status": 413, "error_type": "request_too_large", "upstream_request_id": ""},
        NO_USAGE,
    ),
    "upstream_error": (
        Reading(error_type="overloaded_error"),
        {"http_status": 529},
        {**NO_USAGE, "error_type": "overloaded_error"},
    ),
    "upstream_cut": (
        PARTIAL,
        {"error_type": "api_error"},
        {"usage_status": "partial", "stop_reason": ""},
    ),
    "timed_out": (NOTHING, {"http_status": 504, "error_type": "timeout_error"}, NO_USAGE),
    "client_gone": (
        ESTIMATED,
        {},
        {"usage_status": "estimated", "estimated_dimensions": ("output_tokens",), "stop_reason": ""},
    ),
    "orphaned": (PARTIAL, {"http_status": 200}, {"usage_status": "partial", "stop_reason": ""}),
}


@pytest.mark.parametrize("outcome", ENDINGS)
def test_each_ending_is_told_alike_by_response_and_usage(outcome):
    reading, ended, read = ENDINGS[outcome]
    ending = msgspec.structs.replace(ENDING, outcome=outcome, **ended)
    responded, used = closing(EXCHANGE, reading, ending, PLACE)
    told = {"outcome": outcome, **ended}
    said = {name: read[name] for name in ("stop_reason", "error_type") if name in read}
    assert event_of(responded) == response(**{**told, **said})
    assert event_of(used) == usage(**{**told, **read})


def test_every_ending_of_an_edge_is_in_the_table():
    of_batch_items = {"succeeded", "errored", "canceled", "expired"}
    assert {*ENDINGS, "completed"} == set(get_args(Outcome)) - of_batch_items


def test_what_upstream_says_is_wrong_goes_before_what_the_gateway_says():
    reading = Reading(error_type="overloaded_error")
    ending = msgspec.structs.replace(ENDING, outcome="upstream_error", error_type="api_error")
    assert {event_of(record).error_type for record in closing(EXCHANGE, reading, ending, PLACE)} == {
        "overloaded_error"
    }


def test_the_usage_so_far_is_that_of_an_orphan():
    (record,) = usage_so_far(EXCHANGE, PARTIAL, PLACE)
    assert event_of(record) == usage(
        outcome="orphaned",
        finished_at=STARTED_AT,
        usage_status="partial",
        stop_reason="",
        upstream_request_id="",
        ttfb_ms=0,
        duration_ms=0,
        overhead_us=0,
    )


def test_the_usage_object_stands_in_the_event_as_json_of_its_own():
    _, used = closing(EXCHANGE, READING, ENDING, PLACE)
    assert json.loads(used.value)["usage"] == {
        "input_tokens": 10,
        "output_tokens": 42,
        "cache_creation_input_tokens": 5,
    }


def test_no_header_makes_an_event_that_kafka_refuses():
    long = "x" * 1_000_000
    exchange = msgspec.structs.replace(
        EXCHANGE, client_user_agent=long, anthropic_version=long, anthropic_beta=long, traceparent=long
    )
    ending = msgspec.structs.replace(ENDING, upstream_request_id=long)
    records = [*opening(exchange), *closing(exchange, READING, ending, PLACE)]
    cut = "x" * HEADER_CHARS_MAX
    assert [event_of(record) for record in records] == [
        msgspec.structs.replace(
            event_of(opening(EXCHANGE)[0]), client_user_agent=cut, anthropic_version=cut, anthropic_beta=cut
        ),
        response(upstream_request_id=cut),
        usage(upstream_request_id=cut),
    ]
    assert [name for record in records for name, _ in record.headers if name == "traceparent"] == []
