"""What a line of a batch's results comes to."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from schemas.attribution import Attribution
from schemas.batch_items import (
    BatchOfItems,
    ItemResult,
    attribution_of_item,
    read_line,
    usage_of_item,
    usage_of_unreadable,
)
from schemas.batches import BatchItem
from schemas.ids import batch_item_id
from schemas.usage import TokenCounts, UsageRecorded
from schemas.usage_rules import reading_of

CREATED_AT = datetime(2026, 11, 22, 7, 30, 0, 180445, UTC)
ENDED_AT = datetime(2026, 11, 22, 9, 15, tzinfo=UTC)
CREATOR = Attribution(
    virtual_key_id="vk_1",
    team_id="team-1",
    end_user_id="creator",
    session_id="s-1",
    tags=("prod", "night"),
    metadata={"a": "1", "b": "1"},
)
BATCH = BatchOfItems("msgbatch_1", CREATED_AT, ENDED_AT, CREATOR, ("claude-sonnet-5",))
USAGE = {"input_tokens": 640, "output_tokens": 205, "service_tier": "batch", "inference_geo": "us"}
MESSAGE = {"id": "msg_1", "model": "claude-sonnet-5", "stop_reason": "refusal", "usage": USAGE}
PLAIN = BatchItem(custom_id="invoice-17")


def line(result, custom_id="invoice-17"):
    return json.dumps({"custom_id": custom_id, "result": result}).encode()


def test_a_succeeded_item_is_booked_as_what_its_message_used():
    result = read_line(line({"type": "succeeded", "message": MESSAGE}))
    assert usage_of_item(BATCH, 17, result, PLAIN) == UsageRecorded(
        request_id=batch_item_id("msgbatch_1", "invoice-17"),
        started_at=CREATED_AT,
        finished_at=ENDED_AT,
        edge_id="",
        exchange_seq=0,
        source_id="msgbatch_1",
        source_seq=17,
        attribution=CREATOR,
        operation="batch_item",
        endpoint="/v1/messages/batches",
        is_stream=False,
        outcome="succeeded",
        usage_status="final",
        http_status=200,
        model_requested="claude-sonnet-5",
        model_served="claude-sonnet-5",
        message_id="msg_1",
        batch_id="msgbatch_1",
        batch_custom_id="invoice-17",
        stop_reason="refusal",
        tokens=TokenCounts(input_tokens=640, output_tokens=205),
        service_tier="batch",
        inference_geo="us",
        usage=msgspec.Raw(msgspec.json.encode(USAGE)),
    )


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (
            {
                "type": "errored",
                "error": {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}},
            },
            ItemResult("invoice-17", "errored", error_type="invalid_request_error"),
        ),
        (
            {
                "type": "errored",
                "error": {"type": "error", "error": {"type": "api_error"}, "request_id": "req_1"},
            },
            ItemResult("invoice-17", "errored", error_type="api_error", upstream_request_id="req_1"),
        ),
        ({"type": "errored"}, ItemResult("invoice-17", "errored")),
        ({"type": "canceled"}, ItemResult("invoice-17", "canceled")),
        ({"type": "expired"}, ItemResult("invoice-17", "expired")),
    ],
)
def test_an_item_that_did_not_succeed_used_nothing(result, expected):
    assert read_line(line(result)) == expected
    event = usage_of_item(BATCH, 1, expected, PLAIN)
    assert (event.outcome, event.usage_status, event.http_status) == (result["type"], "none", 0)
    assert event.tokens == TokenCounts()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"custom_id":"a"}',
        b'{"custom_id":"","result":{"type":"expired"}}',
        b'{"custom_id":"a","result":{"type":"of_tomorrow"}}',
        b'{"custom_id":"a","result":{"type":"succeeded"}}',
        b'{"custom_id":7,"result":{"type":"expired"}}',
        b"\xff",
    ],
)
def test_what_is_no_result_is_none(broken):
    assert read_line(broken) is None


def test_half_an_emoji_in_an_answer_does_not_hide_its_usage():
    content = b'"content":[{"type":"text","text":"\\ud83d"}],"usage"'
    broken = line({"type": "succeeded", "message": MESSAGE}).replace(b'"usage"', content)
    assert read_line(broken).reading.tokens == TokenCounts(input_tokens=640, output_tokens=205)


def test_a_message_without_usage_is_not_free_but_unknown():
    result = read_line(line({"type": "succeeded", "message": {"id": "msg_1"}}))
    assert (result.outcome, result.reading.usage_status) == ("succeeded", "none")


def test_a_line_that_is_none_is_booked_without_usage_under_an_id_that_no_item_has():
    event = usage_of_unreadable(BATCH, 17)
    assert (event.outcome, event.usage_status, event.error_type) == (
        "succeeded",
        "none",
        "unreadable_result",
    )
    assert event.request_id == batch_item_id("msgbatch_1", "line 17")
    assert (event.source_seq, event.attribution) == (17, CREATOR)


def test_the_model_asked_for_is_known_only_where_all_items_ask_for_one():
    result = ItemResult("a", "succeeded", reading_of(USAGE, "none"))
    several = BATCH._replace(models=("claude-sonnet-5", "claude-haiku-4-5"))
    assert usage_of_item(several, 1, result, PLAIN).model_requested == ""
    assert usage_of_item(BATCH._replace(models=()), 1, result, PLAIN).model_requested == ""


def test_an_items_own_attribution_lies_over_its_creators():
    item = BatchItem(
        custom_id="a",
        end_user_id="user-7",
        session_id="s-7",
        tags=("night", "x"),
        metadata={"b": "2", "c": "3"},
    )
    assert attribution_of_item(CREATOR, item) == Attribution(
        virtual_key_id="vk_1",
        team_id="team-1",
        end_user_id="user-7",
        session_id="s-7",
        tags=("prod", "night", "x"),
        metadata={"a": "1", "b": "2", "c": "3"},
    )
    assert attribution_of_item(CREATOR, PLAIN) == CREATOR
