"""What a tap says of one answer: its usage, whether it is complete, and nothing where it cannot be read."""

import gzip
import json
import zlib

import msgspec
import pytest

from schemas.usage import TokenCounts
from schemas.usage_rules import NO_USAGE, Reading
from services.edge.tap.document import (
    JSON_BYTES_MAX,
    MIB,
    READ_ON_LOOP_BYTES_MAX,
    READ_ON_LOOP_CODED_BYTES_MAX,
    JsonTap,
)
from services.edge.tap.stream import SseTap
from services.edge.tap.taps import Blind, tap_for

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


def sse(*chunks, coding="", cache_ttls="none"):
    tap = tap_for("messages", 200, "text/event-stream; charset=utf-8", coding, cache_ttls)
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


@pytest.mark.parametrize("chunks", [(), (NOISE,), (STOPPED[:-1],)])
def test_a_stream_without_its_start_has_no_usage_and_is_cut_short(chunks):
    tap = sse(*chunks)
    assert (tap.read(), state(tap)) == (Reading(), (False, False, True))


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


def wrote(**delta):
    return event("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta})


def floored(tokens):
    return msgspec.structs.replace(
        PARTIAL,
        usage_status="estimated",
        tokens=msgspec.structs.replace(PARTIAL.tokens, output_tokens=tokens),
        estimated_dimensions=("output_tokens",),
    )


@pytest.mark.parametrize(
    ("output", "tokens"),
    [
        ([{"type": "text_delta", "text": "H"}], 1),
        ([{"type": "text_delta", "text": 'é\U0001f600\n\\"'}], 2),
        ([{"type": "text_delta", "text": "x" * 401}], 101),
        ([{"type": "text_delta", "text": "xx"}, {"type": "text_delta", "text": "xx"}], 1),
        ([{"type": "input_json_delta", "partial_json": '{"q":"x"}'}], 3),
        ([{"type": "thinking_delta", "thinking": "x" * 40, "estimated_tokens": None}], 10),
        ([{"type": "thinking_delta", "thinking": "", "estimated_tokens": 50}] * 2, 100),
        ([{"type": "thinking_delta", "thinking": "", "estimated_tokens": 50}, {"text": "12345"}], 52),
    ],
)
def test_a_stream_that_breaks_off_within_its_output_has_at_least_what_was_seen(output, tokens):
    deltas = [wrote(**delta) for delta in output]
    assert sse(STARTED, NOISE, *deltas).read() == floored(tokens)


@pytest.mark.parametrize(
    "output",
    [
        {"type": "text_delta", "text": ""},
        {"type": "thinking_delta", "thinking": "", "estimated_tokens": None},
        {"type": "thinking_delta", "thinking": ""},
        {"type": "signature_delta", "signature": "x" * 400},
        {"type": "citations_delta", "citation": {"cited_text": "x" * 400}},
        {"type": "of_tomorrow", "text": None},
    ],
)
def test_what_is_no_output_that_can_be_counted_leaves_the_usage_partial(output):
    assert sse(STARTED, wrote(**output)).read() == PARTIAL


def test_the_placeholder_of_the_start_is_never_lowered():
    start = {**START, "message": {**START["message"], "usage": {"input_tokens": 10, "output_tokens": 7}}}
    reading = sse(event("message_start", start), wrote(text="x" * 8)).read()
    assert (reading.usage_status, reading.tokens) == (
        "estimated",
        TokenCounts(input_tokens=10, output_tokens=7),
    )


def test_an_error_within_the_output_leaves_the_floor():
    fault = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    reading = sse(STARTED, wrote(text="x" * 40), event("error", fault)).read()
    assert reading == msgspec.structs.replace(floored(10), error_type="overloaded_error")


def test_the_totals_of_a_message_delta_outrank_the_floor():
    assert sse(STARTED, wrote(text="x" * 4000), ENDING, STOPPED).read() == FINAL
    assert sse(STARTED, wrote(text="x" * 4000), ENDING).read() == FINAL


def test_output_behind_a_message_delta_makes_its_totals_a_floor_until_the_stream_stops():
    more = wrote(text="x" * 400)
    cut = sse(STARTED, ENDING, more).read()
    assert (cut.usage_status, cut.tokens.output_tokens, cut.stop_reason) == ("estimated", 100, "end_turn")
    assert sse(STARTED, ENDING, wrote(text="x")).read().tokens.output_tokens == 42
    assert sse(STARTED, ENDING, more, STOPPED).read() == FINAL


def test_totals_without_a_start_are_not_taken_for_the_whole():
    reading = sse(ENDING, STOPPED).read()
    assert (reading.usage_status, reading.tokens) == ("partial", TokenCounts(output_tokens=42))


def test_an_output_event_beyond_the_limit_or_no_json_is_passed_over():
    huge = wrote(text="x" * 2 * MIB)
    tap = sse(STARTED, huge, event("content_block_start", "{fallback"), NOISE, wrote(text="x"))
    assert tap.read() == floored(1)
    tap.feed(ENDING + STOPPED)
    assert tap.read() == FINAL


def fallback(**block):
    return event("content_block_start", {"type": "content_block_start", "index": 1, "content_block": block})


def test_a_fallback_within_the_output_names_the_model_that_serves():
    hop = {"type": "fallback", "from": {"model": "a"}, "to": {"model": "claude-opus-5-5"}, "trigger": {}}
    last = {**hop, "to": {"model": "claude-haiku-5-5"}}
    served = [
        sse(STARTED, *hops, ENDING, STOPPED).read()
        for hops in ([fallback(**hop)], [fallback(**hop), fallback(**last)])
    ]
    assert served == [
        msgspec.structs.replace(FINAL, model_served=model)
        for model in ("claude-opus-5-5", "claude-haiku-5-5")
    ]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": "a fallback"},
        {"type": "fallback"},
        {"type": "fallback", "to": {"model": 7}},
        {"type": "tool_use", "name": "fallback", "to": {"model": "m"}},
    ],
)
def test_a_block_that_is_no_fallback_changes_nothing(block):
    assert sse(STARTED, fallback(**block), ENDING, STOPPED).read() == FINAL


def test_a_refusal_within_the_stream_is_final():
    ending = event("message_delta", {**DELTA, "delta": {"stop_reason": "refusal"}})
    assert sse(STARTED, ending, STOPPED).read() == msgspec.structs.replace(FINAL, stop_reason="refusal")


def test_server_tools_and_thinking_come_with_the_totals():
    usage = {
        "output_tokens": 42,
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
        "output_tokens_details": {"thinking_tokens": 30},
    }
    reading = sse(STARTED, event("message_delta", {"usage": usage}), STOPPED).read()
    assert reading.tokens == TokenCounts(
        input_tokens=10,
        output_tokens=42,
        cache_read_tokens=100,
        cache_write_5m_tokens=5,
        thinking_tokens=30,
        web_search_requests=2,
        web_fetch_requests=1,
    )


@pytest.mark.parametrize(
    ("cache_ttls", "expected"),
    [
        ("1h", ("final", 0, 60, ())),
        ("5m", ("final", 60, 0, ())),
        ("both", ("estimated", 60, 0, ("cache_write_5m_tokens",))),
    ],
)
def test_cache_writes_that_the_start_did_not_know_go_where_the_request_asked(cache_ttls, expected):
    split = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
    usage = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_creation": split}
    start = {"message": {"id": "msg_1", "model": "m", "usage": usage}}
    totals = {"usage": {"output_tokens": 9, "cache_creation_input_tokens": 60}}
    tap = sse(event("message_start", start), event("message_delta", totals), STOPPED, cache_ttls=cache_ttls)
    body = json.dumps({"usage": {**usage, "cache_creation_input_tokens": 60}}).encode()
    for reading in (tap.read(), json_tap(body, cache_ttls=cache_ttls).read()):
        writes = reading.tokens.cache_write_5m_tokens, reading.tokens.cache_write_1h_tokens
        assert (reading.usage_status, *writes, reading.estimated_dimensions) == expected


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


def json_tap(body, status=200, operation="messages", coding="", cache_ttls="none"):
    tap = tap_for(operation, status, "application/json", coding, cache_ttls)
    assert isinstance(tap, JsonTap)
    for at in range(0, len(body), 4096):
        tap.feed(body[at : at + 4096])
    return tap


def whole(body, status=200, operation="messages", coding=""):
    tap = json_tap(body, status, operation, coding)
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
        b"[]",
        b"null",
        b"}",
        b'{"usage":[]}',
        b'{"id":7}',
        b'{"error":"no"}',
        b"\xff\xfe",
        b"[" * 5000 + b"]" * 5000,
        b"<html>502</html>",
        b'{"id":"msg","usage":{"input_tokens":1}}}',
    ],
)
def test_a_document_that_cannot_be_read_says_nothing(body):
    assert whole(body) == Reading()


@pytest.mark.parametrize("length", [0, 1, 2, 20, 60, 100, len(json.dumps(MESSAGE)) - 1])
def test_a_document_that_breaks_off_says_nothing_and_is_cut_short(length):
    body = json.dumps(MESSAGE).encode()[:length]
    tap = json_tap(body)
    assert (tap.read(), state(tap)) == (Reading(), (False, False, True))
    packed = zlib.compressobj(wbits=31)
    flushed = packed.compress(body) + packed.flush(zlib.Z_SYNC_FLUSH)
    assert state(json_tap(flushed, coding="gzip")) == (False, False, True)


@pytest.mark.parametrize(
    "text", ["\\ud83d", "\\ude00 and so on", "\\ud83d\\ude00", "\\\\ud83d", "\\\\\\ud83d"]
)
def test_half_an_emoji_in_an_answer_does_not_hide_its_usage(text):
    body = json.dumps(MESSAGE).replace("\\u00e9", text).encode()
    assert text.encode() in body
    assert whole(body) == MESSAGE_READING


def test_a_document_beyond_the_limit_is_not_kept_and_says_nothing():
    tap = json_tap(b"")
    for _ in range(JSON_BYTES_MAX // MIB + 2):
        tap.feed(b" " * MIB)
    assert (tap.read(), state(tap), tap.is_long) == (Reading(), (False, False, False), False)


def test_a_document_that_decodes_to_more_than_the_limit_says_nothing():
    assert whole(gzip.compress(b" " * (JSON_BYTES_MAX + 1)), coding="gzip") == Reading()


@pytest.mark.parametrize(
    ("coding", "size", "expected"),
    [
        ("", READ_ON_LOOP_BYTES_MAX, False),
        ("", READ_ON_LOOP_BYTES_MAX + 1, True),
        ("gzip", READ_ON_LOOP_CODED_BYTES_MAX, False),
        ("gzip", READ_ON_LOOP_CODED_BYTES_MAX + 1, True),
    ],
)
def test_a_long_document_is_read_beside_the_event_loop_and_once(coding, size, expected):
    tap = json_tap(b" " * size, coding=coding)
    before = tap.is_long
    tap.read()
    assert (before, tap.is_long) == (expected, False)


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
    assert type(tap_for(operation, status, content_type, coding, "none")) is expected


def test_what_is_not_watched_says_nothing():
    tap = Blind()
    tap.feed(STARTED)
    assert (tap.read(), state(tap)) == (Reading(), (False, False, False))
