"""What the stage makes of records: rated ones, dead ones, the same ones every time."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from prometheus_client import REGISTRY

from schemas import codec
from schemas.rated import RatedUsage
from schemas.usage import UsageRecorded
from services.rating.handler import RatingStage
from services.rating.pricing import rate
from services.runtime.records import ConsumedRecord, DeadRecord, OutgoingRecord, Processed, Stage
from tests.unit.rating.cases import BOOK, TODAY, usage

FACT = usage("claude-opus-5", started_at=TODAY.replace(microsecond=120_000), tokens={"input_tokens": 1000})
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


PUBLISHED_AT = datetime(2026, 11, 1, tzinfo=UTC)
ARRIVED_MS = 1_795_000_000_123
ARRIVED_AT = datetime(2026, 11, 18, 11, 6, 40, 123_000, tzinfo=UTC)


def record(value, headers=(), offset=0):
    return ConsumedRecord("gateway.usage.v1", 3, offset, ARRIVED_MS, b"vk_1", value, headers)


def processed(*records) -> Processed:
    stage: Stage = begun(PUBLISHED_AT)
    return asyncio.run(stage.process(records))


def begun(published_at: datetime) -> RatingStage:
    stage = RatingStage(BOOK)
    stage.begin(published_at)
    return stage


def booked(fact: UsageRecorded) -> RatedUsage:
    return msgspec.structs.replace(rate(fact, BOOK), booked_at=ARRIVED_AT)


def test_a_usage_becomes_a_rated_record_of_the_same_key_with_the_time_and_trace_of_the_exchange():
    source = record(codec.encode(FACT), codec.headers(FACT, "2026-11-22T12:00:05Z", TRACEPARENT))
    rated = booked(FACT)
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", rated.rated_id.encode()),
        ("ce_type", b"tollhouse.rated_usage.v1"),
        ("ce_source", f"/rating/{BOOK.label}".encode()),
        ("ce_time", b"2026-11-22T12:00:00.120000Z"),
        ("ce_subject", FACT.request_id.encode()),
        ("ce_dataschema", b"urn:tollhouse:schema:rated_usage:v1"),
        ("content-type", b"application/json"),
        ("traceparent", TRACEPARENT.encode()),
    )
    assert processed(source) == Processed(
        [OutgoingRecord("gateway.rated.v1", b"vk_1", codec.encode(rated), headers)], []
    )
    assert codec.decode(RatedUsage, processed(source).outgoing[0].value) == rated


def test_a_cost_is_booked_when_its_usage_arrived_but_not_before_its_book_was_published():
    later = ARRIVED_AT + timedelta(days=1)
    found = [
        asyncio.run(begun(published_at).process([record(codec.encode(FACT))])).outgoing[0].value
        for published_at in (PUBLISHED_AT, later)
    ]
    assert [codec.decode(RatedUsage, value).booked_at for value in found] == [ARRIVED_AT, later]


def test_nothing_is_priced_by_a_book_that_is_not_published():
    with pytest.raises(AssertionError, match="not published"):
        asyncio.run(RatingStage(BOOK).process([record(codec.encode(FACT))]))


def test_without_a_trace_none_is_made_up():
    assert "traceparent" not in dict(processed(record(codec.encode(FACT))).outgoing[0].headers)


def test_records_come_out_in_the_order_they_came_in_and_the_bad_ones_apart():
    good = [usage(request_id=f"01940000-0000-7000-8000-00000000000{number}") for number in range(3)]
    records = [
        record(codec.encode(good[0]), offset=10),
        record(b"{not json", offset=11),
        record(codec.encode(good[1]), offset=12),
        record(None, offset=13),
        record(codec.encode(usage(tokens={"output_tokens": -5})), offset=14),
        record(codec.encode(good[2]), offset=15),
    ]
    answer = processed(*records)
    assert [codec.decode(RatedUsage, each.value).usage for each in answer.outgoing] == good
    assert [(each.record, each.error_class) for each in answer.dead] == [
        (records[1], "Undecodable"),
        (records[3], "Undecodable"),
        (records[4], "ImplausibleUsage"),
    ]


def test_a_record_nested_too_deep_is_set_aside_and_the_next_one_rated():
    deep = msgspec.Raw(b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}")
    answer = processed(record(codec.encode(usage(usage=deep))), record(codec.encode(FACT)))
    assert [each.error_class for each in answer.dead] == ["Undecodable"]
    assert [codec.decode(RatedUsage, each.value).usage for each in answer.outgoing] == [FACT]


def test_a_dead_record_quotes_nothing_of_the_record():
    secret = record(b'{"request_id": "sk-ant-secret"}')
    (dead,) = processed(secret).dead
    assert isinstance(dead, DeadRecord)
    assert "secret" not in dead.error


def test_the_same_records_give_the_same_bytes():
    records = [
        record(codec.encode(FACT)),
        record(codec.encode(usage("claude-of-tomorrow", tokens={"input_tokens": 1}))),
    ]
    assert processed(*records) == processed(*records)


def test_what_could_not_be_priced_is_counted_by_its_reason():
    def counted():
        return (
            REGISTRY.get_sample_value("rating_usages_total", {"cost_status": "unpriced"}) or 0,
            REGISTRY.get_sample_value("rating_unpriced_total", {"reason": "unknown_model"}) or 0,
        )

    before = counted()
    processed(record(codec.encode(usage("claude-of-tomorrow", tokens={"input_tokens": 1}))))
    assert counted() == (before[0] + 1, before[1] + 1)


def test_the_stage_says_who_it_is():
    stage = RatingStage(BOOK)
    assert (stage.name, stage.topics) == ("rating", ("gateway.usage.v1",))
