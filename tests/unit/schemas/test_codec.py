"""Bytes to events, events to bytes, and what stands beside an event in its record."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from schemas import codec
from schemas.attribution import Attribution
from schemas.batches import BatchDeleted, BatchFact, BatchItems, BatchOwner, BatchSeen, BatchState
from schemas.codec import STRUCTS, Event, Undecodable
from schemas.dead_letters import DeadLetter
from schemas.edges import Heartbeat
from schemas.ids import EdgeId, RatedId, RequestId, SourceId, VirtualKeyId
from schemas.keys import KeyRecord, Team
from schemas.price_books import PriceBookPublished
from schemas.rated import CostLine, RatedUsage
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from schemas.usage import UsageRecorded

AT = datetime(2026, 11, 22, 9, 30, 0, 250_000, tzinfo=UTC)
TIME = "2026-11-22T09:30:00.250000+00:00"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST = RequestId("01a20297-5e39-7ca8-be71-7b1f64eb1410")
EDGE = EdgeId("01a20229-70c0-71cb-900f-57e971cacf26")
SPOOL = SourceId("01a1a0be-79c0-727c-812b-20c46af50a2a")
KEY = VirtualKeyId("vk_größe")
RATED = RatedId("a42d09d4-0351-5482-879a-ebf1f71c2b25")

STARTED = RequestStarted(
    request_id=REQUEST,
    started_at=AT,
    edge_id=EDGE,
    exchange_seq=1,
    attribution=Attribution(virtual_key_id=KEY),
    method="POST",
    operation="messages",
    endpoint="/v1/messages",
)
FINISHED = ResponseFinished(
    request_id=REQUEST,
    started_at=AT,
    finished_at=AT,
    edge_id=EDGE,
    exchange_seq=1,
    virtual_key_id=KEY,
    operation="messages",
    endpoint="/v1/messages",
    outcome="completed",
    http_status=200,
)
USAGE = UsageRecorded(
    request_id=REQUEST,
    started_at=AT,
    finished_at=AT,
    edge_id=EDGE,
    exchange_seq=1,
    source_id=SPOOL,
    source_seq=7,
    attribution=Attribution(virtual_key_id=KEY),
    operation="messages",
    endpoint="/v1/messages",
    is_stream=False,
    outcome="completed",
    usage_status="final",
    http_status=200,
)
LINE = CostLine(
    model="claude-haiku-4-5",
    dimension="cache_read",
    units=3,
    unit_price_usd=Decimal("0.0000001"),
    multiplier=Decimal("1.10"),
    amount_usd=Decimal("0.00000033"),
)
RATED_USAGE = RatedUsage(
    rated_id=RATED,
    usage=USAGE,
    cost_status="priced",
    cost_usd=Decimal("12.50"),
    cost_lines=(LINE,),
    price_book="anthropic-list-1a5cb2a06bd7",
    book_seq=1,
    row_version=1 << 32 | 1,
)
HEARTBEAT = Heartbeat(
    edge_id=EDGE,
    source_id=SPOOL,
    at=AT,
    process_started_at=AT,
    exchange_seq=1,
    open_exchanges=0,
    spool_entries=0,
    spool_bytes=0,
)
DEAD = DeadLetter(
    topic="gateway.usage.v1",
    partition=3,
    offset=41,
    stage="rating",
    error_class="Undecodable",
    error="the record has no value",
    dead_at=AT,
    key=b"\x00\xff",
    value=None,
)
BOOK = PriceBookPublished(
    book_seq=2001,
    book_hash="5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
    label="anthropic-list-5f70bf18a086",
    published_at=AT,
    content="{}",
)
FACT = BatchFact(batch_id="msgbatch_1", at=AT, edge_id=EDGE, fact=BatchDeleted())
STATE = BatchState(
    batch_id="msgbatch_1",
    version=7,
    at=AT,
    phase="waiting",
    status="in_progress",
    created_at=AT,
    expires_at=AT,
    requests=3,
    attribution=USAGE.attribution,
    credential="default",
    request_id=REQUEST,
    writer="w1",
)
OWNER = BatchOwner(
    batch_id="msgbatch_1",
    at=AT,
    edge_id=EDGE,
    created_at=AT,
    request_id=REQUEST,
    virtual_key_id=KEY,
)

WRITE = KeyRecord(
    change_id="0199f3b0-2222-7000-8000-000000000001",
    edge_id=EDGE,
    at=AT,
    record=Team(team_id="t-1", revision=1, created_at=AT, updated_at=AT),
)


def extended(value: object) -> object:
    """Put a member that nobody knows into every object, maps of free names and verbatim JSON left out."""
    if isinstance(value, list):
        return [extended(each) for each in value]
    if not isinstance(value, dict) or not value:
        return value
    return {**{name: extended(each) for name, each in value.items()}, "zz_later": {"deep": [None, 1.5]}}


def written(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def headers_of(
    kind: str, event_id: str, source: str, subject: str, trace: tuple[tuple[str, bytes], ...] = ()
) -> codec.Headers:
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_type", f"tollhouse.{kind}.v1".encode()),
        ("ce_source", source.encode()),
        ("ce_time", b"2026-11-22T09:30:00.250000+00:00"),
        ("ce_subject", subject.encode()),
        ("ce_dataschema", f"urn:tollhouse:schema:{kind}:v1".encode()),
        ("content-type", b"application/json"),
        *trace,
    )


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (STARTED, headers_of("request_started", f"{REQUEST}/started", f"/edges/{EDGE}", REQUEST)),
        (FINISHED, headers_of("response_finished", f"{REQUEST}/finished", f"/edges/{EDGE}", REQUEST)),
        (USAGE, headers_of("usage_recorded", REQUEST, f"/sources/{SPOOL}", REQUEST)),
        (
            RATED_USAGE,
            headers_of("rated_usage", RATED, "/rating/anthropic-list-1a5cb2a06bd7", REQUEST),
        ),
        (HEARTBEAT, headers_of("heartbeat", f"{EDGE}/1795339800250", f"/edges/{EDGE}", EDGE)),
        (
            DEAD,
            headers_of("dead_letter", "gateway.usage.v1/3/41", "/stages/rating", "gateway.usage.v1/3/41"),
        ),
        (
            BOOK,
            headers_of(
                "price_book_published", f"2001/{BOOK.book_hash}", "/rating", "anthropic-list-5f70bf18a086"
            ),
        ),
        (FACT, headers_of("batch_fact", "msgbatch_1/deleted", f"/edges/{EDGE}", "msgbatch_1")),
        (STATE, headers_of("batch_state", "msgbatch_1/7/w1", "/batch_tracker", "msgbatch_1")),
        (OWNER, headers_of("batch_owner", "msgbatch_1/owner", f"/edges/{EDGE}", "msgbatch_1")),
        (WRITE, headers_of("key_record", WRITE.change_id, f"/edges/{EDGE}", "team:t-1")),
    ],
    ids=list(STRUCTS),
)
def test_the_headers_of_each_kind(event: Event, expected: codec.Headers):
    assert codec.headers(event, TIME) == expected


@pytest.mark.parametrize(
    ("fact", "edge_id", "event_id", "source"),
    [
        (BatchItems(chunk=4, items=()), EDGE, "msgbatch_1/items/4", f"/edges/{EDGE}"),
        (
            BatchSeen(status="ended", created_at=AT, expires_at=AT, credential=""),
            "",
            "msgbatch_1/seen/1795339800250",
            "/batch_tracker",
        ),
    ],
)
def test_a_fact_is_named_by_what_it_says(fact, edge_id, event_id, source):
    event = msgspec.structs.replace(FACT, fact=fact, edge_id=edge_id)
    assert codec.headers(event, TIME) == headers_of("batch_fact", event_id, source, "msgbatch_1")


def test_a_fact_of_a_kind_that_is_not_known_yet_is_undecodable_and_not_quoted():
    value = codec.encode(FACT).replace(b"deleted", SECRET.encode())
    with pytest.raises(Undecodable) as caught:
        codec.decode(BatchFact, value)
    assert str(caught.value) == "Invalid value - at `$.fact.type`"


def test_a_traceparent_comes_last_and_only_where_there_is_one():
    assert codec.headers(USAGE, TIME, TRACEPARENT) == (
        *codec.headers(USAGE, TIME),
        ("traceparent", TRACEPARENT.encode()),
    )


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (STARTED, REQUEST.encode()),
        (FINISHED, REQUEST.encode()),
        (USAGE, "vk_größe".encode()),
        (RATED_USAGE, "vk_größe".encode()),
        (HEARTBEAT, EDGE.encode()),
        (DEAD, b"\x00\xff"),
        (msgspec.structs.replace(DEAD, key=None), None),
        (BOOK, b"2001"),
        (FACT, b"msgbatch_1"),
        (STATE, b"msgbatch_1"),
        (OWNER, b"msgbatch_1"),
        (WRITE, b"team:t-1"),
    ],
)
def test_the_key_is_what_the_topic_is_partitioned_by(event: Event, expected: bytes | None):
    assert codec.key(event) == expected


def test_decimals_are_strings_that_keep_every_digit():
    members = json.loads(codec.encode(RATED_USAGE))
    assert members["cost_usd"] == "12.50"
    assert members["cost_lines"] == [
        {
            "model": "claude-haiku-4-5",
            "dimension": "cache_read",
            "units": 3,
            "unit_price_usd": "1E-7",
            "multiplier": "1.10",
            "amount_usd": "3.3E-7",
        }
    ]


def test_verbatim_usage_passes_byte_for_byte():
    verbatim = b'{"input_tokens": 1,  "new": [1.50, 1e400, "\\u00e9"]}'
    event = msgspec.structs.replace(USAGE, usage=msgspec.Raw(verbatim))
    value = codec.encode(event)
    assert verbatim in value
    assert bytes(codec.decode(UsageRecorded, value).usage) == verbatim


def test_bytes_of_a_dead_letter_are_base64():
    members = json.loads(codec.encode(msgspec.structs.replace(DEAD, headers=(("n", b"\xfe"),))))
    assert (members["key"], members["value"], members["headers"]) == ("AP8=", None, [["n", "/g=="]])


@pytest.mark.parametrize(
    "event", [STARTED, FINISHED, USAGE, RATED_USAGE, HEARTBEAT, DEAD, BOOK, FACT, STATE, OWNER, WRITE]
)
def test_members_of_a_later_day_are_ignored_at_every_depth(event: Event):
    longer = extended(json.loads(codec.encode(event)))
    assert codec.decode(type(event), written(longer)) == event


def test_a_tombstone_is_no_event():
    with pytest.raises(Undecodable) as caught:
        codec.decode(UsageRecorded, None)
    assert str(caught.value) == "the record has no value"


def changed(**members: object) -> bytes:
    return written({**json.loads(codec.encode(RATED_USAGE)), **members})


SECRET = "sk-ant-secret"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "Input data was truncated"),
        (b"{", "Input data was truncated"),
        (SECRET.encode(), "JSON is malformed: invalid character (byte 0)"),
        (codec.encode(RATED_USAGE)[:-1], "Input data was truncated"),
        (b"null", "Expected `object`, got `null`"),
        (b"[]", "Expected `object`, got `array`"),
        (b'"' + SECRET.encode() + b'"', "Expected `object`, got `str`"),
        (b"{}", "Object missing required field `rated_id`"),
        (b'{"' + SECRET.encode() + b'":1}', "Object missing required field `rated_id`"),
        (changed(cost_usd=SECRET), "Invalid decimal string - at `$.cost_usd`"),
        (changed(book_seq=SECRET), "Expected `int`, got `str` - at `$.book_seq`"),
        (changed(cost_status=SECRET), "Invalid enum value - at `$.cost_status`"),
        (changed(cost_status=f"{SECRET} - at `$.x`"), "Invalid enum value - at `$.cost_status`"),
        (changed(cost_lines=[{"model": SECRET}]), "Object missing required field `dimension`"),
        (b'{"rated_id":"' + SECRET.encode() + b'\xff"}', "the record is not UTF-8"),
        (b'{"rated_id":' + b"[" * 100_000, "Expected `str`, got `array` - at `$.rated_id`"),
        (b'{"later":' + b"[" * 100_000, "the record is nested too deeply"),
    ],
    ids=range(17),
)
def test_what_is_no_event_is_undecodable_and_the_text_holds_no_value_of_it(value: bytes, expected: str):
    with pytest.raises(Undecodable) as caught:
        codec.decode(RatedUsage, value)
    assert str(caught.value).startswith(expected)
    assert SECRET not in str(caught.value)


def test_a_time_that_is_none_is_undecodable():
    value = codec.encode(HEARTBEAT).replace(b"2026-11-22T09:30:00.250000Z", SECRET.encode(), 1)
    with pytest.raises(Undecodable) as caught:
        codec.decode(Heartbeat, value)
    assert str(caught.value) == "Invalid RFC3339 encoded datetime - at `$.at`"
