"""What a tap says of one answer: its usage, whether it is complete, and nothing where it cannot be read."""

import gzip
import json

import msgspec
import pytest

from schemas.usage import TokenCounts
from services.edge.tap.reading import NO_USAGE, Reading
from services.edge.tap.taps import Blind, JsonTap, SseTap, tap_for

START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "claude-sonnet-5-5",
        "stop_reason": None,
        "usage": {
            "input_tokens": 10,
            "output_tokens": 1,
            "cache_creation_input_tokens": 5,
            "cache_read_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
            "service_tier": "standard",
        },
    },
}
DELTA = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn"},
    "usage": {"input_tokens": None, "output_tokens": 42, "cache_read_input_tokens": 0},
}


def event(name, data):
    text = data if isinstance(data, str) else json.dumps(data)
    return f"event: {name}\ndata: {text}    \n\n".encode()


def raw(usage):
    return msgspec.Raw(msgspec.json.encode(usage))


STARTED = event("message_start", START)
ENDING = event("message_delta", DELTA)
STOPPED = event("message_stop", {"type": "message_stop"})
NOISE = event("ping", {"type": "ping"}) + event("content_block_delta", "{not json") + event("of_tomorrow", {})

PARTIAL = Reading(
    usage_status="partial",
    tokens=TokenCounts(input_tokens=10, output_tokens=1, cache_read_tokens=100, cache_write_5m_tokens=5),
    usage=raw(START["message"]["usage"]),
    service_tier="standard",
    model_served="claude-sonnet-5-5",
    message_id="msg_1",
)
FINAL = msgspec.structs.replace(
    PARTIAL,
    usage_status="final",
    tokens=TokenCounts(input_tokens=10, output_tokens=42, cache_write_5m_tokens=5),
    usage=raw({**START["message"]["usage"], "output_tokens": 42, "cache_read_input_tokens": 0}),
    stop_reason="end_turn",
)


def sse(*chunks, coding=""):
    tap = tap_for("messages", 200, "text/event-stream; charset=utf-8", coding)
    assert isinstance(tap, SseTap)
    for chunk in chunks:
        tap.feed(chunk)
    return tap


def state(tap):
    return tap.has_started, tap.is_complete, tap.is_cut_short


def test_a_whole_stream_gives_the_final_usage():
    tap = sse(NOISE, STARTED, NOISE, ENDING, STOPPED)
    assert (tap.read(), state(tap)) == (FINAL, (True, True, False))


def test_a_stream_that_only_started_gives_the_usage_of_its_start_and_is_cut_short():
    tap = sse(STARTED, NOISE)
    assert (tap.read(), state(tap)) == (PARTIAL, (True, False, True))


def test_a_stream_without_its_start_has_no_usage_and_cannot_be_told_to_be_cut():
    tap = sse(NOISE)
    assert (tap.read(), state(tap)) == (Reading(), (False, False, False))


def test_of_several_message_deltas_the_last_figures_win():
    more = event("message_delta", {"usage": {"output_tokens": 50}})
    reading = sse(STARTED, ENDING, more, STOPPED).read()
    assert (reading.usage_status, reading.tokens.output_tokens, reading.stop_reason) == (
        "final",
        50,
        "end_turn",
    )


def test_a_message_delta_without_usage_leaves_it_partial():
    tap = sse(STARTED, event("message_delta", {"delta": {"stop_reason": "refusal"}}))
    assert tap.read() == msgspec.structs.replace(PARTIAL, stop_reason="refusal")


def test_an_error_event_completes_the_stream_and_names_its_type():
    fault = {"type": "error", "error": {"details": None, "type": "overloaded_error", "message": "Overloaded"}}
    tap = sse(STARTED, event("error", fault))
    assert tap.read() == msgspec.structs.replace(PARTIAL, error_type="overloaded_error")
    assert state(tap) == (True, True, False)


def test_an_error_event_of_another_shape_is_an_api_error():
    assert sse(event("error", {"type": "error"})).read() == Reading(error_type="api_error")


@pytest.mark.parametrize("chunk_bytes", [1, 10, 10_000])
def test_a_compressed_stream_reads_the_same(chunk_bytes):
    body = gzip.compress(STARTED + NOISE + ENDING + STOPPED)
    tap = sse(*(body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)), coding="gzip")
    assert (tap.read(), state(tap)) == (FINAL, (True, True, False))


@pytest.mark.parametrize(
    "fault",
    [
        event("message_delta", "{"),
        event("message_delta", {"usage": 7}),
        event("message_start", {"message": None}),
        event("message_start", "[" * 5000),
        event("message_delta", b"\xff".decode("latin-1")),
    ],
)
def test_an_event_that_cannot_be_read_ends_the_reading_and_nothing_else(fault):
    tap = sse(STARTED, fault, ENDING, STOPPED)
    assert (tap.read(), state(tap)) == (PARTIAL, (True, False, False))


def test_a_coding_that_breaks_ends_the_reading_and_nothing_else():
    tap = sse(b"this is not gzip", STARTED, coding="gzip")
    assert (tap.read(), state(tap)) == (Reading(), (False, False, False))


def whole(body, status=200, operation="messages", coding=""):
    tap = tap_for(operation, status, "application/json", coding)
    assert isinstance(tap, JsonTap)
    for at in range(0, len(body), 10):
        tap.feed(body[at : at + 10])
    assert state(tap) == (False, False, False)
    return tap.read()


MESSAGE = {
    "type": "message",
    "id": "msg_2",
    "model": "claude-opus-5-5",
    "stop_reason": "max_tokens",
    "content": [{"type": "text", "text": "é"}],
    "usage": {"input_tokens": 3, "output_tokens": 4},
}
MESSAGE_READING = Reading(
    usage_status="final",
    tokens=TokenCounts(input_tokens=3, output_tokens=4),
    usage=raw(MESSAGE["usage"]),
    model_served="claude-opus-5-5",
    message_id="msg_2",
    stop_reason="max_tokens",
)


def test_a_message_gives_its_usage():
    assert whole(json.dumps(MESSAGE, indent=1).encode()) == MESSAGE_READING
    assert whole(gzip.compress(json.dumps(MESSAGE).encode()), coding="gzip") == MESSAGE_READING


def test_a_message_without_usage_has_none():
    body = json.dumps({"id": "msg_2", "model": "m", "usage": None}).encode()
    assert whole(body) == Reading(model_served="m", message_id="msg_2")


def test_a_count_of_tokens_is_no_usage():
    assert whole(b'{"input_tokens": 14}', operation="count_tokens") == Reading()


@pytest.mark.parametrize("operation", ["messages", "count_tokens", "models", "files", "other"])
def test_an_error_is_named_whatever_was_asked(operation):
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"slow down"},"request_id":"r"}'
    assert whole(body, 429, operation) == Reading(error_type="rate_limit_error")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"usage":[]}',
        b'{"id":7}',
        b'{"error":"no"}',
        b"\xff\xfe",
        b"[" * 5000,
        json.dumps(MESSAGE).encode()[:-1],
    ],
)
def test_a_document_that_cannot_be_read_says_nothing(body):
    assert whole(body) == Reading()


def test_names_that_an_answer_gives_are_bounded():
    long = "m" * 100_000
    message = {"id": long, "model": long, "stop_reason": long, "usage": {"input_tokens": 1, "speed": long}}
    cut = "m" * 256
    assert whole(json.dumps(message).encode()) == Reading(
        usage_status="estimated",
        tokens=TokenCounts(input_tokens=1),
        usage=NO_USAGE,
        speed=cut,
        model_served=cut,
        message_id=cut,
        stop_reason=cut,
    )
    assert whole(json.dumps({"error": {"type": long}}).encode(), 500) == Reading(error_type=cut)


@pytest.mark.parametrize(
    ("operation", "status", "content_type", "coding", "expected"),
    [
        ("messages", 200, "text/event-stream", "", SseTap),
        ("messages", 200, "Text/Event-Stream;charset=utf-8", "br", SseTap),
        ("messages", 200, "application/json", "", JsonTap),
        ("count_tokens", 200, "application/json; charset=utf-8", "zstd", JsonTap),
        ("messages", 200, "text/event-stream", "compress", Blind),
        ("messages", 200, "application/json", "gzip, gzip", Blind),
        ("messages", 200, "text/html", "", Blind),
        ("messages", 200, "", "", Blind),
        ("files", 200, "application/json", "", Blind),
        ("files", 200, "text/event-stream", "", Blind),
        ("files", 404, "application/json", "", JsonTap),
        ("other", 529, "application/json", "deflate", JsonTap),
        ("batches", 200, "application/x-jsonl", "", Blind),
    ],
)
def test_a_tap_is_chosen_by_what_was_asked_and_what_the_answer_is(
    operation, status, content_type, coding, expected
):
    assert type(tap_for(operation, status, content_type, coding)) is expected


def test_what_is_not_watched_says_nothing():
    tap = Blind()
    tap.feed(STARTED)
    assert (tap.read(), state(tap)) == (Reading(), (False, False, False))
