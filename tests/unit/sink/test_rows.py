"""What each event becomes in its table, value by value, and what has no row."""

import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest

from schemas import codec
from services.sink import rows, tables
from tests.unit.sink import events

ATTRIBUTION = {
    "virtual_key_id": "vk_1",
    "key_alias": "ci",
    "team_id": "platform",
    "end_user_id": "user-7",
    "session_id": "session-9",
    "tags": ("nightly", "eval"),
    "metadata": {"repo": "tollhouse"},
    "client_app": "claude-cli",
    "client_version": "3.4.1",
    "agent_id": "agent-2",
    "parent_agent_id": "agent-1",
    "device_id": "device-5",
    "account_id": "account-6",
}


def named(table: tables.Table, row: rows.Row) -> dict[str, object]:
    return dict(zip(table.names, row, strict=True))


def test_a_rated_usage_becomes_one_whole_row():
    assert named(tables.USAGE, rows.usage_row(events.rated_usage())) == {
        "request_id": uuid.UUID(events.REQUEST_ID).int,
        "started_at": events.STARTED_MS,
        "row_version": 4294967308,
        "finished_at": events.FINISHED_MS,
        "edge_id": events.EDGE_ID,
        "exchange_seq": 41,
        "source_id": "019aa9f0-0000-7000-8000-000000000002",
        "source_seq": 77,
        **ATTRIBUTION,
        "operation": "messages",
        "endpoint": "/v1/messages",
        "is_stream": True,
        "model_requested": "claude-opus-5-latest",
        "model_served": "claude-opus-5",
        "message_id": "msg_01",
        "upstream_request_id": "req_011",
        "batch_id": "msgbatch_1",
        "batch_custom_id": "item-3",
        "http_status": 200,
        "outcome": "completed",
        "error_type": "no_error",
        "stop_reason": "end_turn",
        "usage_status": "final",
        "input_tokens": 1000,
        "output_tokens": 200,
        "cache_read_tokens": 3,
        "cache_write_5m_tokens": 4,
        "cache_write_1h_tokens": 5,
        "thinking_tokens": 6,
        "web_search_requests": 7,
        "web_fetch_requests": 8,
        "service_tier": "standard",
        "speed": "fast",
        "inference_geo": "us",
        "usage_json": events.USAGE_JSON,
        "estimated_dimensions": ("output_tokens",),
        "cut": ("tags",),
        "cost_status": "priced",
        "cost_usd": Decimal("0.009"),
        "cost_lines": {"input": Decimal("0.005"), "output": Decimal("0.004")},
        "cost_lines_json": msgspec.json.encode(events.LINES),
        "unpriced_dimensions": ("web_fetch",),
        "price_book": "anthropic-2026-11",
        "book_seq": 12,
        "book_hash": events.BOOK_HASH,
        "ttfb_ms": 321,
        "duration_ms": 4444,
        "overhead_us": 98,
    }


def test_a_rated_usage_becomes_one_charge_of_the_ledger():
    row = rows.ledger_row(events.rated_usage(), events.APPENDED_MS)
    assert named(tables.COST_LEDGER, row) == {
        "request_id": uuid.UUID(events.REQUEST_ID).int,
        "started_at": events.STARTED_MS,
        "book_seq": 12,
        "kind": "charge",
        "row_version": 4294967308,
        "booked_at": events.BOOKED_MS,
        "precedence": 2**63 - events.BOOKED_MS,
        "virtual_key_id": "vk_1",
        "team_id": "platform",
        "end_user_id": "user-7",
        "operation": "messages",
        "model_served": "claude-opus-5",
        "outcome": "completed",
        "cost_status": "priced",
        "lines": {
            "claude-opus-5/input": Decimal("0.005"),
            "claude-opus-5/output": Decimal("0.00375"),
            "claude-haiku-4-5/output": Decimal("0.00025"),
        },
        "amount_usd": Decimal("0.009"),
        "unpriced_dimensions": ("web_fetch",),
        "price_book": "anthropic-2026-11",
        "book_hash": events.BOOK_HASH,
    }


def test_an_orphans_charge_is_of_a_kind_that_a_real_one_does_not_replace():
    fact = events.usage_recorded(outcome="orphaned")
    assert named(tables.COST_LEDGER, rows.ledger_row(events.rated_usage(fact), 0))["kind"] == "orphans_charge"


def test_a_charge_of_an_earlier_release_was_booked_when_it_came_into_its_topic():
    row = named(tables.COST_LEDGER, rows.ledger_row(events.rated_usage(booked_at=None), events.APPENDED_MS))
    assert row["booked_at"] == events.APPENDED_MS


def test_two_lines_of_one_model_and_dimension_are_one_of_the_ledger():
    lines = (*events.LINES, msgspec.structs.replace(events.LINES[0], units=7, amount_usd=Decimal("0.001")))
    row = named(tables.COST_LEDGER, rows.ledger_row(events.rated_usage(cost_lines=lines), 0))
    assert row["lines"] == {
        "claude-opus-5/input": Decimal("0.006"),
        "claude-opus-5/output": Decimal("0.00375"),
        "claude-haiku-4-5/output": Decimal("0.00025"),
    }


def test_a_price_book_becomes_one_whole_row():
    assert named(tables.PRICE_BOOKS, rows.book_row(events.price_book())) == {
        "book_seq": 12,
        "book_hash": events.BOOK_HASH,
        "label": "anthropic-2026-11",
        "published_at": events.STARTED_MS,
        "content": '{"name":"anthropic"}',
    }


def test_a_beginning_becomes_one_whole_row():
    assert named(tables.REQUESTS, rows.request_row(events.request_started())) == {
        "request_id": uuid.UUID(events.REQUEST_ID).int,
        "started_at": events.STARTED_MS,
        "edge_id": events.EDGE_ID,
        "exchange_seq": 41,
        **ATTRIBUTION,
        "method": "POST",
        "operation": "messages",
        "endpoint": "/v1/messages",
        "model_requested": "claude-opus-5",
        "is_stream": True,
        "request_bytes": 2345,
        "client_user_agent": "anthropic-sdk",
        "anthropic_version": "2023-06-01",
        "anthropic_beta": "some-beta",
        "cut": ("metadata",),
    }


def test_an_ending_becomes_one_whole_row():
    assert named(tables.RESPONSES, rows.response_row(events.response_finished())) == {
        "request_id": uuid.UUID(events.REQUEST_ID).int,
        "started_at": events.STARTED_MS,
        "row_version": 1,
        "finished_at": events.FINISHED_MS,
        "edge_id": events.EDGE_ID,
        "exchange_seq": 41,
        "virtual_key_id": "vk_1",
        "operation": "messages",
        "endpoint": "/v1/messages",
        "outcome": "completed",
        "http_status": 200,
        "error_type": "no_error",
        "stop_reason": "end_turn",
        "upstream_request_id": "req_011",
        "response_bytes": 6789,
        "ttfb_ms": 321,
        "duration_ms": 4444,
        "overhead_us": 98,
    }


def test_the_end_of_an_orphan_ranks_below_a_real_end():
    orphaned = named(tables.RESPONSES, rows.response_row(events.response_finished(outcome="orphaned")))
    assert orphaned["row_version"] == 0


def test_a_heartbeat_becomes_one_whole_row():
    assert named(tables.EDGES, rows.edge_row(events.heartbeat())) == {
        "edge_id": events.EDGE_ID,
        "at": events.FINISHED_MS,
        "source_id": "019aa9f0-0000-7000-8000-000000000002",
        "process_started_at": events.STARTED_MS,
        "exchange_seq": 41,
        "open_exchanges": 2,
        "spool_entries": 3,
        "spool_bytes": 4096,
        "shed": 9,
        "oldest_open_seq": 5,
    }


DEAD = {
    "topic": "gateway.rated.v1",
    "partition": 3,
    "offset": 99,
    "stage": "sink",
    "dead_at": events.FINISHED_MS,
    "error_class": "Unstorable",
    "error": "http_status is not between 0 and 65535",
}
HEADERS = (("ce_id", b"other"), ("ce_subject", events.REQUEST_ID.encode()))


@pytest.mark.parametrize(
    ("changes", "request_id", "edge_id", "exchange_seq"),
    [
        ({}, events.REQUEST_ID, events.EDGE_ID, 41),
        (
            {"topic": "gateway.usage.v1", "value": codec.encode(events.usage_recorded())},
            events.REQUEST_ID,
            events.EDGE_ID,
            41,
        ),
        ({"value": b'{"usage": {"request_id": "no-id", "edge_id": "e", "exchange_seq": 7}}'}, None, "e", 7),
        ({"value": b'{"usage": {"edge_id": "e", "exchange_seq": -7}}'}, None, "", 0),
        ({"value": b'{"usage": {"edge_id": "e", "exchange_seq": 7e30}}', "headers": ()}, None, "", 0),
        ({"value": b'{"usage": {"edge_', "headers": HEADERS}, events.REQUEST_ID, "", 0),
        ({"value": b"\xff", "headers": (("ce_subject", b"\xff"),)}, None, "", 0),
        ({"value": b"[" * 10_000, "headers": ()}, None, "", 0),
        ({"value": None, "headers": ()}, None, "", 0),
    ],
)
def test_a_dead_letter_tells_its_exchange_as_far_as_that_can_be_read(
    changes, request_id, edge_id, exchange_seq
):
    letter = events.dead_letter(**changes)
    assert named(tables.DEAD_LETTERS, rows.dead_letter_row(letter)) == {
        **DEAD,
        "topic": letter.topic,
        "request_id": uuid.UUID(request_id).int if request_id else 0,
        "edge_id": edge_id,
        "exchange_seq": exchange_seq,
        "value_bytes": len(letter.value or b""),
    }


def test_a_time_is_the_same_instant_in_every_zone_and_keeps_whole_milliseconds():
    elsewhere = datetime(2026, 11, 22, 16, 0, 0, 123_999, timezone(timedelta(hours=5, minutes=30)))
    row = named(tables.REQUESTS, rows.request_row(events.request_started(started_at=elsewhere)))
    assert row["started_at"] == events.STARTED_MS


def test_money_keeps_eighteen_places_and_trailing_zeros_beyond_them_do_not_matter():
    amount = Decimal("999999999.999999999999999999000")
    row = named(tables.USAGE, rows.usage_row(events.rated_usage(cost_usd=amount)))
    assert row["cost_usd"] == amount


@pytest.mark.parametrize(
    ("event", "refusal"),
    [
        (events.rated_usage(events.usage_recorded(request_id="no-id")), "request_id is not a UUID"),
        (
            events.rated_usage(events.usage_recorded(started_at=datetime(2026, 1, 1))),  # noqa: DTZ001
            "started_at has no time zone",
        ),
        (
            events.rated_usage(events.usage_recorded(started_at=datetime(1969, 12, 31, tzinfo=UTC))),
            "started_at is not between 1970 and 2106",
        ),
        (
            events.rated_usage(events.usage_recorded(finished_at=datetime(2107, 1, 1, tzinfo=UTC))),
            "finished_at is not between 1970 and 2106",
        ),
        (
            events.rated_usage(events.usage_recorded(exchange_seq=-1)),
            "exchange_seq is below 0 or beyond 63 bits",
        ),
        (events.rated_usage(book_seq=2**63), "book_seq is below 0 or beyond 63 bits"),
        (
            events.rated_usage(events.usage_recorded(http_status=65_536)),
            "http_status is not between 0 and 65535",
        ),
    ],
)
def test_what_a_column_would_bend_has_no_row(event, refusal):
    with pytest.raises(rows.Unstorable) as caught:
        rows.usage_row(event)
    assert str(caught.value) == refusal


@pytest.mark.parametrize(
    ("row_of", "event", "column"),
    [
        (rows.request_row, events.request_started(request_bytes=-1), "request_bytes"),
        (rows.response_row, events.response_finished(overhead_us=-1), "overhead_us"),
        (rows.edge_row, events.heartbeat(spool_bytes=-1), "spool_bytes"),
        (rows.book_row, events.price_book(book_seq=-1), "book_seq"),
    ],
)
def test_no_table_takes_a_count_below_nothing(row_of, event, column):
    with pytest.raises(rows.Unstorable, match=f"^{column} is below 0"):
        row_of(event)


TOO_LONG = r"has more than 18 decimals or is beyond 1e9 dollars$"


@pytest.mark.parametrize(
    "amount",
    ["1E-19", "1000000000", "-1000000000", "1e40", "NaN", "sNaN", "Infinity", "0.1" + "0" * 40 + "1"],
)
def test_money_that_would_be_cut_has_no_row(amount):
    lines = (msgspec.structs.replace(events.LINES[0], amount_usd=Decimal(amount)),)
    with pytest.raises(rows.Unstorable, match=rf"^cost_usd {TOO_LONG}"):
        rows.usage_row(events.rated_usage(cost_usd=Decimal(amount)))
    with pytest.raises(rows.Unstorable, match=rf"^cost_lines {TOO_LONG}"):
        rows.usage_row(events.rated_usage(cost_lines=lines))
