"""What the gateway itself answers: Anthropic's shape to the byte."""

import json

import pytest

from services.edge import refusals
from services.edge.refusals import Refusal, body_of, headers_of, sse_error

ALL = {name: each for name, each in vars(refusals).items() if isinstance(each, Refusal)}
STATUSES = {
    "NO_CREDENTIAL": (401, "authentication_error", False, 0),
    "UNKNOWN_CREDENTIAL": (401, "authentication_error", False, 0),
    "KEYS_UNREAD": (503, "api_error", True, 1),
    "KEY_EXPIRED": (401, "authentication_error", False, 0),
    "KEY_BLOCKED": (401, "authentication_error", False, 0),
    "TEAM_BLOCKED": (401, "authentication_error", False, 0),
    "END_USER_BLOCKED": (401, "authentication_error", False, 0),
    "NO_UPSTREAM_CREDENTIAL": (401, "authentication_error", False, 0),
    "MODEL_UNREADABLE": (403, "permission_error", False, 0),
    "UNKNOWN_ROUTE": (404, "not_found_error", False, 0),
    "METHOD_UNKNOWN": (405, "invalid_request_error", False, 0),
    "METHOD_UNSERVED": (405, "invalid_request_error", False, 0),
    "TARGET_TOO_LONG": (400, "invalid_request_error", False, 0),
    "TARGET_NOT_ASCII": (400, "invalid_request_error", False, 0),
    "TARGET_LEAVES_BASE": (400, "invalid_request_error", False, 0),
    "MODEL_TWICE": (400, "invalid_request_error", False, 0),
    "TOO_MANY_MEMBERS": (400, "invalid_request_error", False, 0),
    "ITEM_TOO_LARGE": (413, "request_too_large", False, 0),
    "MEMBER_TWICE": (400, "invalid_request_error", False, 0),
    "BATCH_FILES_FULL": (529, "overloaded_error", True, 5),
    "BODY_TOO_SLOW": (408, "timeout_error", True, 0),
    "BODY_TOO_LARGE": (413, "request_too_large", False, 0),
    "BODY_TOO_LARGE_DECODED": (413, "request_too_large", False, 0),
    "FAILED": (500, "api_error", True, 0),
    "SPOOL_FULL": (503, "api_error", True, 5),
    "STOPPING": (503, "api_error", True, 0),
    "MEMORY_FULL": (529, "overloaded_error", True, 1),
    "HOST_INVALID": (400, "invalid_request_error", False, 0),
    # Not worth another try: what was asked for has been done, and only its answer is lost.
    "BATCH_UNREADABLE": (502, "api_error", False, 0),
    "BATCH_LIST_CUT": (502, "api_error", True, 5),
    "BATCH_LIST_TOO_LONG": (502, "api_error", False, 0),
    "BATCH_NOT_FOUND": (404, "not_found_error", False, 0),
    "OWNERS_UNREAD": (503, "api_error", True, 1),
    "REDIRECTED_ELSEWHERE": (502, "api_error", False, 0),
    "UPSTREAM_UNREACHABLE": (502, "api_error", True, 0),
    "UPSTREAM_CUT": (502, "api_error", True, 0),
    "UPSTREAM_TIMED_OUT": (504, "timeout_error", True, 0),
}


def test_each_refusal_has_the_status_that_sdks_understand():
    told = {
        name: (each.status, each.error_type, each.should_retry, each.retry_after_s)
        for name, each in ALL.items()
    }
    assert told == STATUSES


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
        (b"request-id", b"id"),
        (b"x-tollhouse-request-id", b"id"),
        (b"x-litellm-call-id", b"id"),
    ]


def test_what_may_pass_by_itself_is_worth_another_try():
    assert headers_of(refusals.SPOOL_FULL, "id", 1)[2:4] == [
        (b"x-should-retry", b"true"),
        (b"retry-after", b"5"),
    ]


def test_a_code_of_anthropics_is_told_where_it_has_one_for_the_fault():
    written = json.loads(body_of(refusals.BODY_TOO_LARGE_DECODED, "id"))
    assert written["error"]["details"] == {"error_code": "request_body_too_large_after_decoding"}


def test_the_last_event_of_a_broken_stream_carries_the_same_object():
    assert sse_error(refusals.UPSTREAM_CUT, "id") == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":'
        b'"The Anthropic API closed the connection before it answered."},"request_id":"id"}\n\n'
    )


@pytest.mark.parametrize("name", ALL)
def test_every_refusal_is_json_of_three_members_with_a_sentence(name):
    written = json.loads(body_of(ALL[name], "id"))
    written["error"].pop("details", None)
    message = written["error"]["message"]
    assert written == {
        "type": "error",
        "error": {"type": ALL[name].error_type, "message": message},
        "request_id": "id",
    }
    assert message
