"""One exchange to test with, and how its records are read back."""

from datetime import UTC, datetime

import msgspec

from schemas import codec, topics
from schemas.attribution import Attribution
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from schemas.usage import TokenCounts, UsageRecorded
from schemas.usage_rules import Reading
from services.edge.events import Exchange

REQUEST_ID = "01940000-0000-7000-8000-000000000001"
EDGE_ID = "01940000-0000-7000-8000-0000000000ed"
SOURCE_ID = "01940000-0000-7000-8000-0000000000ce"
STARTED_AT = datetime(2026, 11, 22, 12, 0, 0, 123000, tzinfo=UTC)
FINISHED_AT = datetime(2026, 11, 22, 12, 0, 3, 456000, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

EXCHANGE = Exchange(
    request_id=REQUEST_ID,
    started_at=STARTED_AT,
    edge_id=EDGE_ID,
    exchange_seq=7,
    attribution=Attribution(virtual_key_id="master", end_user_id="u", tags=("a",), metadata={"job": "x"}),
    method="POST",
    operation="messages",
    endpoint="/v1/messages",
    model_requested="claude-sonnet-5-5",
    is_stream=True,
    request_bytes=321,
    client_user_agent="Anthropic/Python 2.12.0",
    anthropic_version="2026-10-21",
    anthropic_beta="a,b",
    traceparent=TRACEPARENT,
)
READING = Reading(
    usage_status="final",
    tokens=TokenCounts(input_tokens=10, output_tokens=42, cache_write_5m_tokens=5),
    usage=msgspec.Raw(b'{"input_tokens":10,"output_tokens":42,"cache_creation_input_tokens":5}'),
    service_tier="standard",
    speed="fast",
    inference_geo="us",
    model_served="claude-sonnet-5-5-20260901",
    message_id="msg_1",
    stop_reason="end_turn",
)

STRUCTS = {
    topics.REQUESTS: RequestStarted,
    topics.RESPONSES: ResponseFinished,
    topics.USAGE: UsageRecorded,
}


def event_of(record):
    return codec.decode(STRUCTS[record.topic], record.value)


def numbered(number):
    """The exchange under another request id."""
    return msgspec.structs.replace(EXCHANGE, request_id=f"01940000-0000-7000-8000-{number:012d}")
