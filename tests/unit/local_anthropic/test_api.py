"""The rules of the simulated API, worked out by hand; no server, no clock."""

import base64
import json
import sys
import zlib

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.local.anthropic.api import Api
from services.local.anthropic.call import Call

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HEADERS = {b"x-api-key": b"k", b"anthropic-version": b"2023-06-01"}
SENTENCE = "Tollhouse counted every token that passed the gate, once and only once."
NO_CACHE = {
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
}
PLACE = {"service_tier": "standard", "inference_geo": "global"}


class Caller:
    """Asks one Api, as a server would, and reads its replies."""

    def __init__(self, **settings):
        self.api = Api(clock=lambda: 1_800_000_000.0, **settings)
        self.number = 0

    def call(self, method, path, body=b"", headers=HEADERS, query=b""):
        self.number += 1
        return self.api.reply(
            Call(number=self.number, method=method, path=path, query=query, headers=headers, body=body)
        )

    def ask(self, spec="", headers=HEADERS, **fields):
        request = {
            "model": "claude-sonnet-5-5",
            "max_tokens": 1000,
            "messages": [{"role": "user", "content": "What passed?"}],
        } | fields
        headers = headers | ({b"x-simulate": spec.encode()} if spec else {})
        return self.call("POST", "/v1/messages", json.dumps(request).encode(), headers)

    def message(self, spec="", **fields):
        reply = self.ask(spec, **fields)
        assert reply.status == 200, reply.chunks
        return json.loads(reply.chunks[0])

    def events(self, spec="", headers=HEADERS, **fields):
        reply = self.ask(spec, headers, stream=True, **fields)
        return [read_event(event) for event in b"".join(reply.chunks).decode().split("\n\n")[:-1]]


def read_event(text):
    name, data = text.split("\n")
    payload = json.loads(data.removeprefix("data: "))
    assert name == f"event: {payload['type']}"
    return payload


@pytest.fixture
def caller():
    return Caller()


def error_of(reply):
    error = json.loads(reply.chunks[0])["error"]
    return reply.status, error["type"], error["message"]


def test_a_plain_message_is_whole(caller):
    assert caller.message() == {
        "model": "claude-sonnet-5-5",
        "id": "msg_010000000000000000000001",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": SENTENCE}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {"input_tokens": 3, **NO_CACHE, "output_tokens": 12, **PLACE},
    }


def test_the_same_requests_get_the_same_bytes_and_another_seed_other_ids():
    first, second, third = Caller(), Caller(), Caller(seed=7)
    assert [first.ask(), first.ask(stream=True)] == [second.ask(), second.ask(stream=True)]
    assert third.message()["id"] == "msg_010000070000000000000001"


def test_a_reply_names_its_request_its_organisation_and_its_limits(caller):
    headers = dict(caller.ask().headers)
    assert headers[b"request-id"] == b"req_010000000000000000000001"
    assert headers[b"anthropic-organization-id"] == b"510c0de5-0000-4000-8000-000000000000"
    limits = [name for name in headers if name.startswith(b"anthropic-ratelimit-")]
    assert len(limits) == 12
    assert headers[b"anthropic-ratelimit-tokens-reset"] == b"2027-01-15T08:00:00Z"


def test_a_prompt_counts_four_characters_a_token_rounded_up_by_block(caller):
    tool = {"name": "look", "input_schema": {"type": "object"}}
    usage = caller.message(
        system="12345",
        tools=[tool],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "a" * 9}, {"type": "image", "source": {}}]},
            {"role": "assistant", "content": "abcd"},
            {"role": "user", "content": [{"type": "document", "source": {}}]},
        ],
    )["usage"]
    tool_tokens = -(-len(json.dumps(tool, separators=(",", ":"))) // 4)
    assert usage["input_tokens"] == tool_tokens + 2 + 3 + 1_500 + 1 + 3_000


def test_a_marked_prefix_is_written_once_and_read_afterwards(caller):
    system = [
        {"type": "text", "text": "a" * 40, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "b" * 80, "cache_control": {"type": "ephemeral"}},
    ]
    first = caller.message(system=system)["usage"]
    second = caller.message(system=system)["usage"]
    split = {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10}
    written = {"cache_creation_input_tokens": 30, "cache_read_input_tokens": 0, "cache_creation": split}
    assert first == {"input_tokens": 3, **written, "output_tokens": 12, **PLACE}
    assert second == {
        "input_tokens": 3,
        **NO_CACHE,
        "cache_read_input_tokens": 30,
        "output_tokens": 12,
        **PLACE,
    }


def test_a_conversation_reads_what_its_last_turn_cached(caller):
    turn = {"role": "user", "content": "a" * 40}
    caller.message(cache_control={"type": "ephemeral"}, messages=[turn])
    longer = [turn, {"role": "assistant", "content": "b" * 8}, {"role": "user", "content": "c" * 4}]
    usage = caller.message(cache_control={"type": "ephemeral"}, messages=longer)["usage"]
    assert (
        usage["input_tokens"],
        usage["cache_creation_input_tokens"],
        usage["cache_read_input_tokens"],
    ) == (
        0,
        3,
        10,
    )


def test_another_model_shares_no_cache_and_a_fifth_mark_is_refused(caller):
    marked = {"type": "text", "text": "a" * 40, "cache_control": {"type": "ephemeral"}}
    caller.message(system=[marked])
    assert caller.message(system=[marked], model="claude-haiku-5-5")["usage"]["cache_read_input_tokens"] == 0
    refused = error_of(caller.ask(system=[marked] * 5))
    assert refused == (
        400,
        "invalid_request_error",
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    )


def test_max_tokens_cuts_the_answer(caller):
    message = caller.message(max_tokens=3)
    assert (message["content"], message["stop_reason"], message["usage"]["output_tokens"]) == (
        [{"type": "text", "text": "Tollhouse counted every"}],
        "max_tokens",
        3,
    )


def test_no_tokens_at_all_warm_the_cache_and_say_nothing(caller):
    message = caller.message(max_tokens=0, cache_control={"type": "ephemeral"})
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")
    assert message["usage"]["output_tokens"] == 0
    assert message["usage"]["cache_creation_input_tokens"] == 3


@pytest.mark.parametrize(
    ("sequence", "text", "tokens"),
    [("gate", "Tollhouse counted every token that passed the ", 8), ("every ", "Tollhouse counted ", 4)],
)
def test_a_stop_sequence_ends_the_text_and_its_tokens_count(caller, sequence, text, tokens):
    message = caller.message(stop_sequences=["never", sequence])
    assert (message["content"], message["stop_reason"], message["stop_sequence"]) == (
        [{"type": "text", "text": text}],
        "stop_sequence",
        sequence,
    )
    assert message["usage"]["output_tokens"] == tokens


def test_thinking_comes_first_and_is_inside_the_output(caller):
    message = caller.message(thinking={"type": "adaptive"})
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert message["usage"]["output_tokens"] == 44
    assert message["usage"]["output_tokens_details"] == {"thinking_tokens": 32}


def test_hidden_thinking_shows_a_signature_and_under_the_beta_its_size(caller):
    headers = HEADERS | {b"anthropic-beta": b"a,thinking-token-count-2026-05-13"}
    thinking = {"type": "adaptive", "display": "omitted"}
    events = caller.events("thinking-tokens=25", headers, thinking=thinking)
    deltas = [
        event["delta"] for event in events if event["type"] == "content_block_delta" and not event["index"]
    ]
    step = {"type": "thinking_delta", "thinking": "", "estimated_tokens": 10}
    assert deltas[:2] == [step, step]
    assert [delta["type"] for delta in deltas[2:]] == ["signature_delta"]


def test_a_tool_is_used_when_the_prompt_asks_for_it(caller):
    properties = {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": ["city", "days"]}
    tools = [{"name": "get_weather", "input_schema": schema}]
    ordinary = caller.message(tools=tools)
    asked = caller.message(tools=tools, messages=[{"role": "user", "content": "Please use get_weather."}])
    call = {
        "type": "tool_use",
        "id": "toolu_010000000000000000000002",
        "name": "get_weather",
        "input": {"city": "simulated", "days": 1},
    }
    assert ordinary["stop_reason"] == "end_turn"
    assert (asked["content"][1], asked["stop_reason"]) == (call, "tool_use")
    call_chars = len('get_weather{"city":"simulated","days":1}')
    assert asked["usage"]["output_tokens"] == 12 + call_chars // 4


def test_a_demanded_tool_must_be_offered(caller):
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    assert caller.message(tools=tools, tool_choice={"type": "any"})["stop_reason"] == "tool_use"
    assert error_of(caller.ask(tools=tools, tool_choice={"type": "tool", "name": "see"}))[0] == 400


def test_a_web_search_raises_the_prompt_and_is_counted(caller):
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]
    message = caller.message("web-searches=5", tools=tools)
    kinds = ["server_tool_use", "web_search_tool_result"] * 2 + ["text"]
    assert [block["type"] for block in message["content"]] == kinds
    assert message["content"][4]["citations"][0]["url"] == "https://example.com/search/1/page/1"
    usage = message["usage"]
    # the prompt's 3, the tool's 62 characters, two searches
    assert usage["input_tokens"] == 3 + -(-len(json.dumps(tools[0], separators=(",", ":"))) // 4) + 2_000
    assert usage["server_tool_use"] == {"web_search_requests": 2, "web_fetch_requests": 0}


def test_tier_place_and_speed_are_told(caller):
    usage = caller.message("service-tier=priority", inference_geo="us", speed="fast")["usage"]
    assert (usage["service_tier"], usage["inference_geo"], usage["speed"]) == ("priority", "us", "fast")


def test_a_refusal_before_any_output_says_nothing(caller):
    message = caller.message("refuse")
    details = {
        "type": "refusal",
        "category": None,
        "explanation": "The simulated model was scripted to refuse.",
    }
    assert (message["content"], message["stop_reason"], message["stop_details"]) == ([], "refusal", details)
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (3, 0)


def test_a_refusal_midway_keeps_what_was_said(caller):
    message = caller.message("refuse-after-tokens=2")
    assert (message["content"][0]["text"], message["stop_reason"]) == ("Tollhouse counted", "refusal")
    assert message["usage"]["output_tokens"] == 2


def test_output_tokens_are_exactly_as_many_as_scripted(caller):
    message = caller.message("output-tokens=500", thinking={"type": "adaptive"})
    assert message["usage"]["output_tokens"] == 500
    assert message["content"][1]["text"].count(" ") == 500 - 32 - 1


def test_usage_can_be_scripted_verbatim_at_both_ends(caller):
    def encoded(usage):
        return base64.urlsafe_b64encode(usage).decode()

    final, start = b'{"input_tokens": 5,"odd":[1]}', b'{"input_tokens":4}'
    spec = f"usage={encoded(final)};start-usage={encoded(start)}"
    assert b'"usage":' + final in caller.ask(spec).chunks[0]
    stream = b"".join(caller.ask(spec, stream=True).chunks)
    assert b'"usage":' + start + b"}" in stream
    assert b'"usage":' + final in stream


def test_compaction_moves_the_prompt_out_of_the_top_level(caller):
    marked = [{"type": "text", "text": "a" * 40, "cache_control": {"type": "ephemeral"}}]
    events = caller.events("iterations=compaction", system=marked)
    start, final = events[0]["message"]["usage"], events[-2]["usage"]
    assert (start["input_tokens"], start["cache_creation_input_tokens"]) == (3, 10)
    split = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 0}
    compaction = {
        "input_tokens": 3,
        "output_tokens": 50,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 10,
        "cache_creation": split,
        "type": "compaction",
    }
    message = {"input_tokens": 200, "output_tokens": 12, **NO_CACHE, "type": "message"}
    assert final == {
        "input_tokens": 200,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 12,
        "iterations": [compaction, message],
    }


def test_an_advisor_is_told_apart_from_the_executor_that_the_top_level_adds_up(caller):
    advisor = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8"}
    usage = caller.message("iterations=advisor", tools=[advisor])["usage"]
    prompt = 3 + -(-len(json.dumps(advisor, separators=(",", ":"))) // 4)
    assert usage["iterations"] == [
        {"input_tokens": prompt, "output_tokens": 6, **NO_CACHE, "type": "message"},
        {
            "input_tokens": prompt + 500,
            "output_tokens": 30,
            **NO_CACHE,
            "type": "advisor_message",
            "model": "claude-opus-4-8",
        },
        {"input_tokens": prompt + 100, "output_tokens": 6, **NO_CACHE, "type": "message"},
    ]
    assert (usage["input_tokens"], usage["output_tokens"]) == (2 * prompt + 100, 12)


def test_a_fallback_opens_as_one_model_and_ends_as_another(caller):
    events = caller.events("iterations=fallback;model-served=claude-haiku-5-5")
    whole = caller.message("iterations=fallback;model-served=claude-haiku-5-5")
    assert events[0]["message"]["model"] == "claude-sonnet-5-5"
    assert whole["model"] == whole["content"][0]["to"]["model"] == "claude-haiku-5-5"
    assert [
        (entry["type"], entry["model"], entry["output_tokens"]) for entry in whole["usage"]["iterations"]
    ] == [
        ("message", "claude-sonnet-5-5", 0),
        ("fallback_message", "claude-haiku-5-5", 12),
    ]
    assert events[-2]["usage"]["iterations"] == whole["usage"]["iterations"]


def test_a_stream_tells_its_events_in_order(caller):
    events = caller.events()
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0]["message"]["usage"] == {"input_tokens": 3, **NO_CACHE, "output_tokens": 1, **PLACE}
    assert events[-2] == {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None},
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 12,
        },
    }
    spoken = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(spoken) == SENTENCE


def test_data_is_padded_before_its_last_brace(caller):
    chunks = caller.ask(stream=True).chunks
    padded = [
        len(chunk) - 3 - len(chunk[:-3].rstrip(b" ")) for chunk in chunks if b"event: ping" not in chunk
    ]
    assert all(chunk.endswith(b"}\n\n") for chunk in chunks)
    assert len(set(padded)) > 3
    assert max(padded) < 16


def test_a_failing_stream_ends_in_an_error_event(caller):
    chunks = caller.ask("error-event-after=2", stream=True).chunks
    assert len(chunks) == 3
    assert chunks[2] == (
        b'event: error\ndata: {"type":"error","error":{"details":null,"type":"overloaded_error",'
        b'"message":"Overloaded"},"request_id":"req_010000000000000000000001"}\n\n'
    )


def test_cuts_and_stalls_count_events_and_bytes(caller):
    whole = caller.ask(stream=True).chunks
    by_events = caller.ask("cut-after-events=3", stream=True)
    by_bytes = caller.ask("chunk-bytes=10;cut-after-bytes=25", stream=True)
    stalled = caller.ask("stall-after-events=1", stream=True)
    behind = caller.ask("cut-after-events=99", stream=True)
    assert (len(by_events.chunks), by_events.ending) == (3, "cut")
    assert ([len(chunk) for chunk in by_bytes.chunks], by_bytes.ending) == ([10, 10, 5], "cut")
    assert (len(stalled.chunks), stalled.ending) == (1, "stall")
    assert (len(behind.chunks), behind.ending) == (len(whole), "complete")


@pytest.mark.parametrize(
    ("coding", "read"),
    [
        ("gzip", lambda body: zlib.decompress(body, 31)),
        ("deflate", zlib.decompress),
        ("br", brotli.decompress),
        ("zstd", zstd.decompress),
    ],
)
def test_a_coded_body_says_the_same(coding, read):
    plain, coded = Caller(), Caller()
    for stream in (False, True):
        expected, reply = plain.ask(stream=stream), coded.ask(coding, stream=stream)
        assert read(b"".join(reply.chunks)) == b"".join(expected.chunks)
        assert (b"content-encoding", coding.encode()) in reply.headers
        assert len(reply.chunks) == len(expected.chunks)


def test_a_directive_for_the_first_attempts_leaves_the_next_one_alone(caller):
    assert error_of(caller.ask("status=529;times=1"))[0] == 529
    assert caller.ask("status=529;times=1", HEADERS | {b"x-stainless-retry-count": b"1"}).status == 200


@pytest.mark.parametrize(
    ("status", "kind", "should_retry"),
    [
        (400, "invalid_request_error", b"false"),
        (402, "billing_error", b"false"),
        (429, "rate_limit_error", b"true"),
        (500, "api_error", b"true"),
        (529, "overloaded_error", b"true"),
    ],
)
def test_a_scripted_status_has_the_api_s_error_shape(caller, status, kind, should_retry):
    reply = caller.ask(f"status={status}")
    body = json.loads(reply.chunks[0])
    assert (reply.status, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert body["request_id"].encode() == dict(reply.headers)[b"request-id"]
    assert dict(reply.headers)[b"x-should-retry"] == should_retry
    assert dict(reply.headers).get(b"retry-after") == (b"1" if status == 429 else None)


@pytest.mark.parametrize(
    ("body", "status", "kind", "message"),
    [
        (b"{", 400, "invalid_request_error", None),
        (b'{"messages":[],"max_tokens":1}', 400, "invalid_request_error", "model: Field required"),
        (
            b'{"model":"claude-opus-5","max_tokens":1}',
            400,
            "invalid_request_error",
            "messages: Field required",
        ),
        (
            b'{"model":"claude-opus-5","messages":[{"role":"user","content":"x"}]}',
            400,
            "invalid_request_error",
            "max_tokens: Field required",
        ),
        (
            b'{"model":"claude-opus-5","messages":["x"],"max_tokens":1}',
            400,
            "invalid_request_error",
            "messages.0: Input does not match the expected shape.",
        ),
        (
            b'{"model":"claude-opus-5","messages":[{"role":"user"}],"max_tokens":1}',
            400,
            "invalid_request_error",
            "messages.0.content: Field required",
        ),
        (
            b'{"model":"claude-0","messages":[{"role":"user","content":"x"}],"max_tokens":1}',
            404,
            "not_found_error",
            "model: claude-0",
        ),
        (
            b'{"model":"claude-opus-4-1","messages":[{"role":"user","content":"x"}],"max_tokens":1}',
            404,
            "not_found_error",
            "model: claude-opus-4-1",
        ),
    ],
)
def test_a_wrong_request_is_refused(caller, body, status, kind, message):
    refused = error_of(caller.call("POST", "/v1/messages", body))
    assert refused[:2] == (status, kind)
    assert message is None or refused[2] == message


def test_a_body_above_the_limit_is_too_large(caller):
    reply = caller.call("POST", "/v1/messages", b" " * (32 * 1024**2 + 1))
    assert error_of(reply) == (413, "request_too_large", "Request exceeds the maximum size")


def test_a_compressed_body_is_read_and_may_not_burst(caller):
    headers = HEADERS | {b"content-encoding": b"gzip"}
    body = json.dumps({"model": "claude-opus-5", "messages": [{"role": "user", "content": "x" * 8}]}).encode()
    target = ("POST", "/v1/messages/count_tokens")
    assert caller.call(*target, zlib.compress(body, wbits=31), headers).chunks == (b'{"input_tokens":2}',)
    assert caller.call(*target, zlib.compress(b" " * (33 * 1024**2), wbits=31), headers).status == 413
    assert caller.call(*target, b"plain", headers).status == 400


def test_credentials_may_come_in_either_header(caller):
    version = {b"anthropic-version": b"2023-06-01"}
    strict = Caller(api_key="right")
    assert error_of(caller.ask(headers=version)) == (
        401,
        "authentication_error",
        "x-api-key header is required",
    )
    assert caller.ask(headers=version | {b"authorization": b"Bearer any"}).status == 200
    assert strict.ask(headers=version | {b"x-api-key": b"right"}).status == 200
    assert strict.ask(headers=version | {b"authorization": b"Bearer right"}).status == 200
    assert error_of(strict.ask(headers=version | {b"x-api-key": b"wrong"}))[2] == "invalid x-api-key"
    assert (
        error_of(strict.ask(headers=version | {b"authorization": b"Bearer no"}))[2] == "Invalid bearer token"
    )


def test_a_version_is_required_and_the_newest_refuses_sampling(caller):
    newest = HEADERS | {b"anthropic-version": b"2026-10-21"}
    assert error_of(caller.ask(headers={b"x-api-key": b"k"}))[2] == "anthropic-version: header is required"
    assert caller.ask(temperature=1.0).status == 200
    assert error_of(caller.ask(headers=newest, temperature=1.0))[2] == (
        "temperature: Extra inputs are not permitted"
    )


def test_the_models_come_in_pages(caller):
    first = json.loads(caller.call("GET", "/v1/models", query=b"limit=2").chunks[0])
    rest = json.loads(caller.call("GET", "/v1/models", query=b"after_id=claude-mythos-5-2").chunks[0])
    back = json.loads(caller.call("GET", "/v1/models", query=b"limit=2&before_id=claude-haiku-5-5").chunks[0])
    assert [model["id"] for model in first["data"]] == ["claude-fable-5-2", "claude-mythos-5-2"]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (
        True,
        "claude-fable-5-2",
        "claude-mythos-5-2",
    )
    assert (rest["data"][0]["id"], rest["has_more"]) == ("claude-haiku-5-5", False)
    assert back == first | {"has_more": False}
    alias = json.loads(caller.call("GET", "/v1/models/claude-haiku-4-5").chunks[0])
    assert (alias["id"], alias["display_name"]) == ("claude-haiku-4-5-20251001", "Claude Haiku 4.5")
    assert caller.call("GET", "/v1/models/claude-0").status == 404
    assert caller.call("GET", "/v1/models", query=b"limit=0").status == 400


def test_hello_needs_no_key_and_unknown_paths_are_not_found(caller):
    assert caller.call("HEAD", "/api/hello", headers={}).status == 200
    assert error_of(caller.call("GET", "/v1/unknown")) == (404, "not_found_error", "Not found")


def test_bytes_of_any_kind_are_answered():
    hostile = [
        b"[" * 100_000,
        b'{"model":"claude-opus-5","max_tokens":1e400,"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"claude-opus-5","max_tokens":9,"messages":[{"role":"user","content":[]}],"cache_control":'
        b'{"type":"ephemeral"}}',
        b'{"model":"claude-opus-5","max_tokens":9,"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"claude-opus-5","max_tokens":9,"messages":[{"role":"user","content":"use t"}],'
        b'"tools":[{"name":"t","input_schema":{"properties":{"a":true},"required":["a"]}}]}',
        b'{"model":"claude-opus-5","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":1,'
        b'"cache_control":7}]}]}',
    ]
    caller = Caller()
    assert [caller.call("POST", "/v1/messages", body).status for body in hostile] == [
        400,
        400,
        200,
        400,
        400,
        400,
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["system", "tools", "tool_choice", "thinking", "stop_sequences", "cache_control", "stream"]
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(FIELDS, VALUES, max_size=3))
def test_odd_fields_are_answered_or_refused(fields):
    reply = Caller().ask(**fields)
    assert reply.status in (200, 400)
