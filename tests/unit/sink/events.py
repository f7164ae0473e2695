"""Sample events, no two fields alike, so that a value in the wrong column shows."""

import uuid
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from schemas import codec, topics
from schemas.attribution import Attribution
from schemas.dead_letters import DeadLetter
from schemas.edges import Heartbeat
from schemas.ids import EdgeId, RatedId, RequestId, SourceId, VirtualKeyId
from schemas.price_books import PriceBookPublished
from schemas.rated import CostLine, RatedUsage
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from schemas.usage import TokenCounts, UsageRecorded
from services.runtime.records import ConsumedRecord

REQUEST_ID = RequestId("019aa9f0-6c00-7abc-8def-0123456789ab")
EDGE_ID = EdgeId("019aa9f0-0000-7000-8000-000000000001")
STARTED_AT = datetime(2026, 11, 22, 10, 30, 0, 123_000, UTC)
FINISHED_AT = datetime(2026, 11, 22, 10, 30, 4, 567_000, UTC)
STARTED_MS = 1_795_343_400_123
FINISHED_MS = 1_795_343_404_567
BOOKED_AT = datetime(2026, 11, 22, 10, 30, 6, 789_000, UTC)
BOOKED_MS = 1_795_343_406_789
APPENDED_MS = 1_795_343_407_000
BOOK_HASH = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
WHO = Attribution(
    virtual_key_id=VirtualKeyId("vk_1"),
    key_alias="ci",
    team_id="platform",
    end_user_id="user-7",
    session_id="session-9",
    tags=("nightly", "eval"),
    metadata={"repo": "tollhouse"},
    client_app="claude-cli",
    client_version="3.4.1",
    agent_id="agent-2",
    parent_agent_id="agent-1",
    device_id="device-5",
    account_id="account-6",
)
USAGE_JSON = b'{"input_tokens":1000,"output_tokens":200}'
LINES = (
    CostLine(
        model="claude-opus-5",
        dimension="input",
        units=1000,
        unit_price_usd=Decimal("0.000005"),
        multiplier=Decimal("1"),
        amount_usd=Decimal("0.005"),
    ),
    CostLine(
        model="claude-opus-5",
        dimension="output",
        units=150,
        unit_price_usd=Decimal("0.000025"),
        multiplier=Decimal("1"),
        amount_usd=Decimal("0.00375"),
    ),
    CostLine(
        model="claude-haiku-4-5",
        dimension="output",
        units=50,
        unit_price_usd=Decimal("0.000005"),
        multiplier=Decimal("1"),
        amount_usd=Decimal("0.00025"),
    ),
)


def request_started(**changes: object) -> RequestStarted:
    event = RequestStarted(
        request_id=REQUEST_ID,
        started_at=STARTED_AT,
        edge_id=EDGE_ID,
        exchange_seq=41,
        attribution=WHO,
        method="POST",
        operation="messages",
        endpoint="/v1/messages",
        model_requested="claude-opus-5",
        is_stream=True,
        request_bytes=2345,
        client_user_agent="anthropic-sdk",
        anthropic_version="2023-06-01",
        anthropic_beta="some-beta",
        cut=("metadata",),
    )
    return msgspec.structs.replace(event, **changes)


def response_finished(**changes: object) -> ResponseFinished:
    event = ResponseFinished(
        request_id=REQUEST_ID,
        started_at=STARTED_AT,
        finished_at=FINISHED_AT,
        edge_id=EDGE_ID,
        exchange_seq=41,
        virtual_key_id=VirtualKeyId("vk_1"),
        operation="messages",
        endpoint="/v1/messages",
        outcome="completed",
        http_status=200,
        error_type="no_error",
        stop_reason="end_turn",
        upstream_request_id="req_011",
        response_bytes=6789,
        ttfb_ms=321,
        duration_ms=4444,
        overhead_us=98,
    )
    return msgspec.structs.replace(event, **changes)


def usage_recorded(**changes: object) -> UsageRecorded:
    event = UsageRecorded(
        request_id=REQUEST_ID,
        started_at=STARTED_AT,
        finished_at=FINISHED_AT,
        edge_id=EDGE_ID,
        exchange_seq=41,
        source_id=SourceId("019aa9f0-0000-7000-8000-000000000002"),
        source_seq=77,
        attribution=WHO,
        operation="messages",
        endpoint="/v1/messages",
        is_stream=True,
        outcome="completed",
        usage_status="final",
        http_status=200,
        model_requested="claude-opus-5-latest",
        model_served="claude-opus-5",
        message_id="msg_01",
        upstream_request_id="req_011",
        batch_id="msgbatch_1",
        batch_custom_id="item-3",
        error_type="no_error",
        stop_reason="end_turn",
        tokens=TokenCounts(
            input_tokens=1000,
            output_tokens=200,
            cache_read_tokens=3,
            cache_write_5m_tokens=4,
            cache_write_1h_tokens=5,
            thinking_tokens=6,
            web_search_requests=7,
            web_fetch_requests=8,
        ),
        service_tier="standard",
        speed="fast",
        inference_geo="us",
        usage=msgspec.Raw(USAGE_JSON),
        ttfb_ms=321,
        duration_ms=4444,
        overhead_us=98,
        estimated_dimensions=("output_tokens",),
        cut=("tags",),
    )
    return msgspec.structs.replace(event, **changes)


def rated_usage(usage: UsageRecorded | None = None, **changes: object) -> RatedUsage:
    event = RatedUsage(
        rated_id=RatedId("019aa9f0-0000-5000-8000-000000000003"),
        usage=usage or usage_recorded(),
        cost_status="priced",
        cost_usd=Decimal("0.009"),
        cost_lines=LINES,
        price_book="anthropic-2026-11",
        book_seq=12,
        row_version=(1 << 32) + 12,
        unpriced_dimensions=("web_fetch",),
        book_hash=BOOK_HASH,
        booked_at=BOOKED_AT,
    )
    return msgspec.structs.replace(event, **changes)


def heartbeat(**changes: object) -> Heartbeat:
    event = Heartbeat(
        edge_id=EDGE_ID,
        source_id=SourceId("019aa9f0-0000-7000-8000-000000000002"),
        at=FINISHED_AT,
        process_started_at=STARTED_AT,
        exchange_seq=41,
        open_exchanges=2,
        spool_entries=3,
        spool_bytes=4096,
        shed=9,
        oldest_open_seq=5,
    )
    return msgspec.structs.replace(event, **changes)


def price_book(**changes: object) -> PriceBookPublished:
    event = PriceBookPublished(
        book_seq=12,
        book_hash=BOOK_HASH,
        label="anthropic-2026-11",
        published_at=STARTED_AT,
        content='{"name":"anthropic"}',
    )
    return msgspec.structs.replace(event, **changes)


def dead_letter(**changes: object) -> DeadLetter:
    event = DeadLetter(
        topic=topics.RATED,
        partition=3,
        offset=99,
        stage="sink",
        error_class="Unstorable",
        error="http_status is not between 0 and 65535",
        dead_at=FINISHED_AT,
        key=b"vk_1",
        value=codec.encode(rated_usage()),
        headers=codec.headers(rated_usage(), FINISHED_AT.isoformat()),
    )
    return msgspec.structs.replace(event, **changes)


def record_of(event: codec.Event, offset: int = 0) -> ConsumedRecord:
    if isinstance(event, DeadLetter):
        topic = event.topic + topics.DLQ_SUFFIX
        return ConsumedRecord(topic, 0, offset, APPENDED_MS, codec.key(event), codec.encode(event), ())
    topic = {
        RequestStarted: topics.REQUESTS,
        ResponseFinished: topics.RESPONSES,
        RatedUsage: topics.RATED,
        Heartbeat: topics.EDGES,
        PriceBookPublished: topics.PRICE_BOOKS,
    }[type(event)]
    return ConsumedRecord(topic, 0, offset, APPENDED_MS, codec.key(event), codec.encode(event), ())


def broken(topic: str, offset: int = 0) -> ConsumedRecord:
    return ConsumedRecord(topic, 0, offset, 0, None, b'{"request_id": ', ())


def new_id() -> RequestId:
    return RequestId(str(uuid.uuid4()))
