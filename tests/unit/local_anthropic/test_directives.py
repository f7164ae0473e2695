"""What the x-simulate header may say, and how it is refused."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local.anthropic.directives import Directives, ToolCall, parse_directives
from services.local.anthropic.errors import ApiFault
from tests.unit.local_anthropic.callers import Caller


def refusal(spec):
    with pytest.raises(ApiFault) as refused:
        parse_directives(spec)
    return refused.value.status, refused.value.message


def test_an_empty_header_scripts_nothing():
    assert parse_directives("") == parse_directives(" ; ;") == Directives()


def test_several_directives_are_joined_by_semicolons_and_blanks_do_not_matter():
    assert parse_directives(" latency-ms = 200;chunk-delay-ms=20 ; gzip;status=529 ") == Directives(
        latency_ms=200, chunk_delay_ms=20, coding="gzip", status=529
    )


def test_every_directive_is_read():
    usage = base64.urlsafe_b64encode(b'{"input_tokens":1}').decode().rstrip("=")
    read = parse_directives(
        "times=1;retry-after=3;cut-before-answer;cut-after-events=5;cut-after-bytes=6;stall;stall-after-events=7;"
        "error-event-after=8;br;chunk-bytes=1;output-tokens=500;thinking-tokens=9;delta-tokens=2;web-searches=3;"
        f"refuse;refuse-after-tokens=4;iterations=advisor;model-served=m;service-tier=priority;usage={usage};"
        f"start-usage={usage};batch-seconds=10;cancel-seconds=11;"
        + calls_spec({"name": "Bash", "input": {"command": "ls"}})
    )
    assert read == Directives(
        times=1,
        retry_after=3,
        cut_before_answer=True,
        cut_after_events=5,
        cut_after_bytes=6,
        stall=True,
        stall_after_events=7,
        error_event_after=8,
        coding="br",
        chunk_bytes=1,
        output_tokens=500,
        thinking_tokens=9,
        delta_tokens=2,
        web_searches=3,
        refuse=True,
        refuse_after_tokens=4,
        iterations="advisor",
        model_served="m",
        service_tier="priority",
        usage=b'{"input_tokens":1}',
        start_usage=b'{"input_tokens":1}',
        batch_seconds=10,
        cancel_seconds=11,
        tool_calls=(ToolCall(name="Bash", input={"command": "ls"}),),
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("teapot=1", "x-simulate: unknown directive 'teapot'"),
        ("GZIP", "x-simulate: unknown directive 'GZIP'"),
        ("gzip=9", "x-simulate: directive 'gzip' takes no value"),
        ("latency-ms", "x-simulate: directive 'latency-ms' needs a value"),
        ("latency-ms=", "x-simulate: directive 'latency-ms' needs a value"),
        ("chunk-bytes=0", "x-simulate: directive 'chunk-bytes' needs a whole number from 1 to 16777216"),
        ("latency-ms=-1", "x-simulate: directive 'latency-ms' needs a whole number from 0 to 600000"),
        ("latency-ms=1_0", "x-simulate: directive 'latency-ms' needs a whole number from 0 to 600000"),
        ("latency-ms=²", "x-simulate: directive 'latency-ms' needs a whole number from 0 to 600000"),
        (
            "iterations=x",
            "x-simulate: directive 'iterations' needs one of message, compaction, advisor, fallback",
        ),
        ("usage=W10", "x-simulate: directive 'usage' needs a JSON object in base64url"),
        ("usage=!", "x-simulate: directive 'usage' needs a JSON object in base64url"),
        ("stall;stall", "x-simulate: directive 'stall' says what another one has said already"),
        ("gzip;br", "x-simulate: directive 'br' says what another one has said already"),
    ],
)
def test_a_wrong_directive_is_refused_by_name(spec, message):
    assert refusal(spec) == (400, message)


def test_an_unknown_status_is_refused():
    assert refusal("status=418")[0] == 400


@given(st.text())
def test_any_text_is_read_or_refused(spec):
    try:
        assert isinstance(parse_directives(spec), Directives)
    except ApiFault as fault:
        assert fault.status == 400


def calls_spec(*calls):
    return "tool-calls=" + base64.urlsafe_b64encode(json.dumps(calls).encode()).decode().rstrip("=")


def test_scripted_tool_calls_are_made_one_a_turn_where_the_tool_is_offered():
    caller, url = Caller(), "/v1/messages"
    spec = calls_spec({"name": "Bash", "input": {"command": "ls"}}, {"name": "Read", "input": {}})
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("Read", "Bash")]
    turns = [{"role": "user", "content": "Look."}]
    ask = {"model": "claude-sonnet-5-5", "max_tokens": 500, "messages": turns}
    made = []
    for _ in range(3):
        message = caller.ask("POST", url, ask | {"tools": tools}, spec)
        made.append((message["stop_reason"], message["content"][1:]))
        turns += [{"role": "assistant", "content": message["content"]}, {"role": "user", "content": "Go on."}]
    assert made == [
        (
            "tool_use",
            [{"type": "tool_use", "id": f"toolu_01{1:022d}", "name": "Bash", "input": {"command": "ls"}}],
        ),
        ("tool_use", [{"type": "tool_use", "id": f"toolu_01{2:022d}", "name": "Read", "input": {}}]),
        ("end_turn", []),
    ]
    turns[1:] = []
    assert caller.ask("POST", url, ask, spec)["stop_reason"] == "end_turn"
    assert caller.ask("POST", url, ask | {"tools": tools[:1]}, spec)["stop_reason"] == "end_turn"


@pytest.mark.parametrize("value", ["e30", "W3t9XQ", "!", ""])
def test_tool_calls_that_are_none_are_refused(value):
    with pytest.raises(ApiFault):
        parse_directives(f"tool-calls={value}")
