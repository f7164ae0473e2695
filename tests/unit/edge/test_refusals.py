"""What the gateway itself answers: Anthropic's shape to the byte."""

import json

import pytest

from services.edge import refusals
from services.edge.refusals import Refusal, body_of, headers_of, sse_error

ALL = {name: each for name, each in vars(refusals).items() if isinstance(each, Refusal)}
STATUSES = {
    "NO_CREDENTIAL": (401, "authentication_error", False),
    "UNKNOWN_CREDENTIAL": (401, "authentication_error", False),
    "UNKNOWN_ROUTE": (404, "not_found_error", False),
    "TARGET_TOO_LONG": (400, "invalid_request_error", False),
    "TARGET_NOT_ASCII": (400, "invalid_request_error", False),
    "TARGET_LEAVES_BASE": (400, "invalid_request_error", False),
    "BODY_TOO_LARGE": (413, "request_too_large", False),
    "SPOOL_FULL": (503, "api_error", True),
    "UPSTREAM_UNREACHABLE": (502, "api_error", True),
    "UPSTREAM_CUT": (502, "api_error", True),
    "UPSTREAM_TIMED_OUT": (504, "timeout_error", True),
}


@pytest.mark.parametrize("name", STATUSES)
def test_each_refusal_has_the_status_that_sdks_understand(name):
    refusal = ALL[name]
    assert (refusal.status, refusal.error_type, refusal.should_retry) == STATUSES[name]


def test_a_refusal_is_written_exactly_as_anthropic_writes_errors():
    body = (
        b'{"type":"error","error":{"type":"authentication_error",'
        b'"message":"invalid x-api-key"},"request_id":"id"}'
    )
    assert body_of(refusals.UNKNOWN_CREDENTIAL, "id") == body
    assert headers_of(refusals.UNKNOWN_CREDENTIAL, "id", len(body)) == [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-should-retry", b"false"),
        (b"x-tollhouse-request-id", b"id"),
        (b"x-litellm-call-id", b"id"),
    ]


def test_what_may_pass_by_itself_is_worth_another_try():
    assert (b"x-should-retry", b"true") in headers_of(refusals.SPOOL_FULL, "id", 1)


def test_the_last_event_of_a_broken_stream_carries_the_same_object():
    assert sse_error(refusals.UPSTREAM_CUT, "id") == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":'
        b'"The Anthropic API closed the connection before it answered."},"request_id":"id"}\n\n'
    )


@pytest.mark.parametrize("name", ALL)
def test_every_refusal_is_json_of_three_members_with_a_sentence(name):
    written = json.loads(body_of(ALL[name], "id"))
    message = written["error"]["message"]
    assert written == {
        "type": "error",
        "error": {"type": ALL[name].error_type, "message": message},
        "request_id": "id",
    }
    assert message
