"""What the client gets and what is booked when upstream fails, in every way and at every moment."""

import gzip
import json
import sys

import msgspec
import pytest

from schemas.usage import TokenCounts
from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import (
    Edge,
    RawClient,
    ScriptedUpstream,
    exchange,
    usage_of,
)

START_USAGE = {"input_tokens": 27, "output_tokens": 1}
START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","model":"m-1",'
    b'"usage":{"input_tokens":27,"output_tokens":1}}}   \n\n'
)
TEXT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n'
WORDS = b'event: content_block_delta\ndata: {"delta":{"type":"text_delta","text":"%s"}}\n\n' % (b"x" * 81)
DELTA = b'event: message_delta\ndata: {"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
SSE = ((b"content-type", b"text/event-stream; charset=utf-8"),)
JSON = ((b"content-type", b"application/json"),)
HEADERS = {"x-api-key": "sk-caller", "content-type": "application/json"}
BODY = b'{"model":"m","stream":true}'

STARTED = {
    "model_requested": "m",
    "is_stream": True,
    "usage_status": "partial",
    "model_served": "m-1",
    "message_id": "msg_1",
    "tokens": TokenCounts(input_tokens=27, output_tokens=1),
    "usage": msgspec.Raw(msgspec.json.encode(START_USAGE)),
}
FINAL = {
    **STARTED,
    "usage_status": "final",
    "stop_reason": "end_turn",
    "tokens": TokenCounts(input_tokens=27, output_tokens=15),
    "usage": msgspec.Raw(msgspec.json.encode({"input_tokens": 27, "output_tokens": 15})),
}
ASKED = {"model_requested": "m", "is_stream": True}
FLOORED = {
    **STARTED,
    "usage_status": "estimated",
    "tokens": TokenCounts(input_tokens=27, output_tokens=21),
    "estimated_dimensions": ("output_tokens",),
}


def gateway_error(error_type, message, request_id):
    error = {"type": error_type, "message": message}
    return {"type": "error", "error": error, "request_id": request_id}


def ask(edge, client, content=BODY):
    answer, body = exchange(client, "POST", edge.base_url + "/v1/messages", HEADERS, content)
    return answer, body, edge.take_one()


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_error_of_upstream_passes_verbatim(status, error_type, edge, upstream, client):
    body = json.dumps({"error": {"message": "é", "type": error_type}, "type": "error"}, indent=3).encode()
    came = ((b"x-should-retry", b"false"), (b"retry-after", b"3"), (b"content-length", b"%d" % len(body)))
    upstream.reply_next(CannedReply(status=status, headers=(*JSON, *came), chunks=(body,)))
    answer, received, exchanged = ask(edge, client)
    assert (answer.status_code, received) == (status, body)
    assert answer.headers.raw[: 1 + len(came)] == [*JSON, *came]
    assert exchanged.used == usage_of(
        exchanged, **ASKED, outcome="upstream_error", http_status=status, error_type=error_type
    )


def test_an_error_that_is_no_json_passes_verbatim(edge, upstream, client):
    body = b"<html>bad gateway</html>"
    upstream.reply_next(CannedReply(status=502, headers=((b"content-type", b"text/html"),), chunks=(body,)))
    answer, received, exchanged = ask(edge, client)
    assert (answer.status_code, received) == (502, body)
    assert exchanged.used == usage_of(exchanged, **ASKED, outcome="upstream_error", http_status=502)


def test_an_error_event_passes_and_is_booked(edge, upstream, client):
    event = (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    )
    upstream.reply_next(CannedReply(headers=SSE, chunks=(START, TEXT, event)))
    answer, received, exchanged = ask(edge, client)
    assert (answer.status_code, received) == (200, START + TEXT + event)
    assert exchanged.used == usage_of(
        exchanged, **STARTED, outcome="upstream_error", error_type="overloaded_error"
    )


@pytest.mark.parametrize(
    ("sent", "line_end"),
    [
        ((START, TEXT), b""),
        ((START, TEXT[:40]), b"\n"),
        ((START, b"event: content_blo"), b"\n"),
        ((START, b"event: ping\ndata: {}\n"), b""),
    ],
    ids=["between events", "within data", "within a name", "within an event"],
)
def test_a_stream_that_is_cut_ends_with_an_error_event(sent, line_end, edge, upstream, client):
    upstream.reply_next(CannedReply(headers=SSE, chunks=sent, ending="cut"))
    answer, received, exchanged = ask(edge, client)
    told = gateway_error(
        "api_error",
        "The Anthropic API closed the connection before it answered.",
        exchanged.used.request_id,
    )
    last = line_end + b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"
    assert (answer.status_code, received) == (200, b"".join(sent) + last)
    assert exchanged.used == usage_of(exchanged, **STARTED, outcome="upstream_cut", error_type="api_error")


def test_a_stream_that_ends_properly_but_too_early_is_cut_as_well(edge, upstream, client):
    upstream.reply_next(CannedReply(headers=SSE, chunks=(START, TEXT, DELTA)))
    _, received, exchanged = ask(edge, client)
    assert received.startswith(START + TEXT + DELTA + b"event: error\n")
    assert exchanged.used == usage_of(exchanged, **FINAL, outcome="upstream_cut", error_type="api_error")


@pytest.mark.parametrize("sent", [(), (b"event: ping\ndata: {}\n\n",), (TEXT,), (START[:-1],)])
def test_a_stream_that_ends_before_it_has_begun_is_cut(sent, edge, upstream, client):
    upstream.reply_next(CannedReply(headers=SSE, chunks=sent))
    _, received, exchanged = ask(edge, client)
    told = gateway_error(
        "api_error",
        "The Anthropic API closed the connection before it answered.",
        exchanged.used.request_id,
    )
    assert received == b"".join(sent) + b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"
    assert exchanged.used == usage_of(exchanged, **ASKED, outcome="upstream_cut", error_type="api_error")


@pytest.mark.parametrize("ending", ["cut", "complete"])
def test_a_stream_that_is_cut_within_its_output_is_booked_with_the_floor(ending, edge, upstream, client):
    upstream.reply_next(CannedReply(headers=SSE, chunks=(START, TEXT, WORDS), ending=ending))
    _, _, exchanged = ask(edge, client)
    assert exchanged.used == usage_of(exchanged, **FLOORED, outcome="upstream_cut", error_type="api_error")


def test_an_error_event_within_the_output_is_booked_with_the_floor(edge, upstream, client):
    event = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
    upstream.reply_next(CannedReply(headers=SSE, chunks=(START, WORDS, event)))
    _, _, exchanged = ask(edge, client)
    assert exchanged.used == usage_of(
        exchanged, **FLOORED, outcome="upstream_error", error_type="overloaded_error"
    )


def test_a_stream_of_known_length_without_its_end_passes_and_is_booked_as_cut(edge, upstream, client):
    headers = (*SSE, (b"content-length", b"%d" % len(START)))
    upstream.reply_next(CannedReply(headers=headers, chunks=(START,)))
    _, received, exchanged = ask(edge, client)
    assert received == START
    assert exchanged.used == usage_of(exchanged, **STARTED, outcome="upstream_cut")


def test_a_message_that_ends_properly_but_too_early_is_left_unfinished(edge, upstream):
    upstream.reply_next(CannedReply(headers=JSON, chunks=(b'{"id":"msg_1","usage":{"input',)))
    head, body, exchanged = raw_answer(edge)
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b'1d\r\n{"id":"msg_1","usage":{"input\r\n'  # no last chunk: the client knows
    assert exchanged.used == usage_of(exchanged, **ASKED, outcome="upstream_cut", error_type="api_error")


def test_a_message_of_known_length_that_breaks_off_passes_and_is_booked_as_cut(edge, upstream, client):
    body = b'{"id":"msg_1","usage":{"input'
    upstream.reply_next(CannedReply(headers=(*JSON, (b"content-length", b"29")), chunks=(body,)))
    _, received, exchanged = ask(edge, client)
    assert received == body
    assert exchanged.used == usage_of(exchanged, **ASKED, outcome="upstream_cut")


@pytest.mark.parametrize("status", [400, 500])
def test_an_error_without_a_body_passes_as_it_is(status, edge, upstream, client):
    upstream.reply_next(CannedReply(status=status, headers=JSON))
    answer, received, exchanged = ask(edge, client)
    assert (answer.status_code, received) == (status, b"")
    assert exchanged.used == usage_of(exchanged, **ASKED, outcome="upstream_error", http_status=status)


def test_what_an_error_says_about_trying_again_passes(edge, upstream, client):
    said = ((b"x-should-retry", b"true"), (b"retry-after", b"7"), (b"retry-after-ms", b"6500"))
    body = b'{"type":"error","error":{"type":"rate_limit_error","message":"x"}}'
    upstream.reply_next(CannedReply(status=429, headers=(*JSON, *said), chunks=(body,)))
    answer, received, _ = ask(edge, client)
    assert received == body
    assert [each for each in answer.headers.raw if each in said] == [*said]


def test_a_cut_behind_the_end_of_a_stream_troubles_nobody(edge, upstream, client):
    upstream.reply_next(CannedReply(headers=SSE, chunks=(START, DELTA, STOP), ending="cut"))
    answer, received, exchanged = ask(edge, client)
    assert (answer.status_code, received) == (200, START + DELTA + STOP)
    assert exchanged.used == usage_of(exchanged, **FINAL)


def raw_answer(edge):
    client = RawClient(edge)
    client.post(b"/v1/messages", BODY, b"x-api-key: k", b"content-type: application/json")
    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    client.leave()
    return head, body, edge.take_one()


def test_a_compressed_stream_that_is_cut_is_left_unfinished(edge, upstream):
    packed = gzip.compress(START + TEXT)[:-8]
    headers = (*SSE, (b"content-encoding", b"gzip"))
    upstream.reply_next(CannedReply(headers=headers, chunks=(packed,), ending="cut"))
    head, body, exchanged = raw_answer(edge)
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b"%x\r\n%s\r\n" % (len(packed), packed)  # no last chunk: the client knows
    assert exchanged.used.outcome == "upstream_cut"


def test_a_stream_of_known_length_that_is_cut_is_left_unfinished(edge, upstream):
    headers = (*SSE, (b"content-length", b"1000"))
    upstream.reply_next(CannedReply(headers=headers, chunks=(START,), ending="cut"))
    head, body, exchanged = raw_answer(edge)
    assert (b"content-length: 1000" in head, body) == (True, START)
    assert exchanged.used == usage_of(exchanged, **STARTED, outcome="upstream_cut", error_type="api_error")


def test_a_message_that_is_cut_is_left_unfinished(edge, upstream):
    headers = (*JSON, (b"content-length", b"100"))
    upstream.reply_next(CannedReply(headers=headers, chunks=(b'{"id":',), ending="cut"))
    head, body, exchanged = raw_answer(edge)
    assert (b"content-length: 100" in head, body) == (True, b'{"id":')
    assert exchanged.used == usage_of(exchanged, **ASKED, outcome="upstream_cut", error_type="api_error")


def assert_own_answer(answer, body, exchanged, status, error_type, message):
    request_id = exchanged.used.request_id.encode()
    expected = msgspec.json.encode(gateway_error(error_type, message, exchanged.used.request_id))
    assert (answer.status_code, body) == (status, expected)
    assert answer.headers.raw == [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(expected)),
        (b"x-should-retry", b"true"),
        (b"request-id", request_id),
        (b"x-tollhouse-request-id", request_id),
        (b"x-litellm-call-id", request_id),
    ]


def test_an_upstream_that_hangs_up_before_it_answers_is_a_502(edge, upstream, client):
    upstream.reply_next(CannedReply(answered=False, ending="cut"))
    answer, body, exchanged = ask(edge, client)
    message = "The Anthropic API closed the connection before it answered."
    assert_own_answer(answer, body, exchanged, 502, "api_error", message)
    assert exchanged.used == usage_of(
        exchanged, **ASKED, outcome="upstream_cut", http_status=502, error_type="api_error"
    )


@pytest.fixture(scope="module")
def hasty(tmp_path_factory):
    """An edge with short patience, and the upstream before it in the test's hands."""
    upstream = ScriptedUpstream()
    config = EdgeConfig(upstream=UpstreamConfig(base_url=upstream.base_url, api_key="k", read_s_max=0.2))
    with Edge(tmp_path_factory.mktemp("hasty"), config) as edge:
        yield edge, upstream
    upstream.close()


def test_an_upstream_that_says_nothing_is_a_504(hasty, client):
    edge, _ = hasty
    answer, body, exchanged = ask(edge, client)
    assert_own_answer(
        answer, body, exchanged, 504, "timeout_error", "The Anthropic API did not answer in time."
    )
    assert exchanged.used == usage_of(
        exchanged, **ASKED, outcome="timed_out", http_status=504, error_type="timeout_error"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep this time")
def test_an_upstream_that_takes_no_more_of_a_body_is_a_504(hasty, client):
    """Of one that was read first; read_s_max is 0.2 s."""
    edge, _ = hasty
    content = b'{"model":"m","messages":"%s"}' % (b"x" * 20_000_000)
    answer, body, exchanged = ask(edge, client, content)
    assert_own_answer(
        answer, body, exchanged, 504, "timeout_error", "The Anthropic API did not answer in time."
    )
    assert (exchanged.used.outcome, exchanged.used.error_type) == ("timed_out", "timeout_error")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep this time")
def test_an_upstream_that_takes_no_more_of_an_upload_is_a_504(hasty):
    edge, _ = hasty
    client = RawClient(edge)
    head = (b"POST /v1/files HTTP/1.1", b"host: edge", b"x-api-key: k", b"content-length: 1000000000")
    client.send(b"\r\n".join((*head, b"content-type: multipart/form-data; boundary=b", b"", b"")))
    client.push(b"x" * 65536, stalled_s=0.1)
    assert client.read_until(b"}").startswith(b"HTTP/1.1 504 ")
    client.leave()
    assert edge.take_one().used.outcome == "timed_out"


def test_an_upstream_that_falls_silent_within_a_stream_ends_it_with_an_error_event(tmp_path):
    upstream = ScriptedUpstream()
    limits = UpstreamConfig(base_url=upstream.base_url, api_key="k", read_s_max=0.2)
    with Edge(tmp_path, EdgeConfig(upstream=limits)) as edge:
        client = RawClient(edge)
        client.post(b"/v1/messages", BODY, b"x-api-key: k", b"connection: close")
        connection = upstream.accept()
        connection.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        connection.send_chunk(START)
        received = client.read_to_end()
        exchanged = edge.take_one()
    told = gateway_error(
        "timeout_error", "The Anthropic API did not answer in time.", exchanged.used.request_id
    )
    assert b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n" in received
    assert received.endswith(b"\r\n0\r\n\r\n")
    assert exchanged.used == usage_of(exchanged, **STARTED, outcome="timed_out", error_type="timeout_error")
    upstream.close()


def test_a_connection_that_is_reset_within_a_stream_is_cut(tmp_path):
    upstream = ScriptedUpstream()
    config = EdgeConfig(upstream=UpstreamConfig(base_url=upstream.base_url, api_key="k"))
    with Edge(tmp_path, config) as edge:
        client = RawClient(edge)
        client.post(b"/v1/messages", BODY, b"x-api-key: k", b"connection: close")
        connection = upstream.accept()
        connection.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        connection.send_chunk(START)
        client.read_until(b"msg_1")
        connection.reset()
        assert b"event: error" in client.read_to_end()
        exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **STARTED, outcome="upstream_cut", error_type="api_error")
    upstream.close()


def test_a_whole_exchange_may_have_a_limit(tmp_path, client):
    upstream = ScriptedUpstream()
    limits = UpstreamConfig(base_url=upstream.base_url, api_key="k", total_s_max=0.2)
    with Edge(tmp_path, EdgeConfig(upstream=limits)) as edge:
        answer, _, exchanged = ask(edge, client)
        upstream.accept().until_closed()
    assert (answer.status_code, exchanged.used.outcome) == (504, "timed_out")
    upstream.close()
