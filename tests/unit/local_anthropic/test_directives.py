"""What the x-simulate header may say, and how it is refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local.anthropic.directives import Directives, parse_directives
from services.local.anthropic.errors import ApiFault


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
        f"start-usage={usage}"
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
