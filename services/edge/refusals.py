"""Decides what the gateway itself answers: Anthropic's error shape, a status that its SDKs understand."""

from typing import NamedTuple

import msgspec

from services.edge.headers import own_headers


class Refusal(NamedTuple):
    """An answer of the gateway's own; `reason` is the label of its counter."""

    reason: str
    status: int
    error_type: str
    message: str
    should_retry: bool = False


NO_CREDENTIAL = Refusal(
    "no_credential",
    401,
    "authentication_error",
    "No API key was given: send it as x-api-key or as Authorization: Bearer.",
)
UNKNOWN_CREDENTIAL = Refusal("unknown_credential", 401, "authentication_error", "invalid x-api-key")
UNKNOWN_ROUTE = Refusal(
    "unknown_route", 404, "not_found_error", "The gateway serves /anthropic/{path} and /v1/{path}."
)
TARGET_TOO_LONG = Refusal("unknown_route", 400, "invalid_request_error", "The request target is too long.")
TARGET_NOT_ASCII = Refusal(
    "unknown_route",
    400,
    "invalid_request_error",
    "The request target must be ASCII; percent-encode the rest.",
)
TARGET_LEAVES_BASE = Refusal(
    "unknown_route", 400, "invalid_request_error", "The request target must not contain dot segments."
)
BODY_TOO_SLOW = Refusal(
    "body_too_slow", 408, "timeout_error", "The request's body did not arrive in time.", True
)
BODY_TOO_LARGE = Refusal(
    "body_too_large", 413, "request_too_large", "Request exceeds the maximum size that the gateway accepts."
)
FAILED = Refusal("failed", 500, "api_error", "The gateway failed to handle this request.", True)
SPOOL_FULL = Refusal(
    "spool_full", 503, "api_error", "The gateway cannot record this request now; try again shortly.", True
)
UPSTREAM_UNREACHABLE = Refusal(
    "upstream_unreachable", 502, "api_error", "The gateway could not reach the Anthropic API.", True
)
UPSTREAM_CUT = Refusal(
    "upstream_cut", 502, "api_error", "The Anthropic API closed the connection before it answered.", True
)
UPSTREAM_TIMED_OUT = Refusal(
    "upstream_timed_out", 504, "timeout_error", "The Anthropic API did not answer in time.", True
)

TARGET_FAULTS = {
    "unknown_route": UNKNOWN_ROUTE,
    "target_too_long": TARGET_TOO_LONG,
    "target_not_ascii": TARGET_NOT_ASCII,
    "target_leaves_base": TARGET_LEAVES_BASE,
}
CREDENTIAL_FAULTS = {"no_credential": NO_CREDENTIAL, "unknown_credential": UNKNOWN_CREDENTIAL}


def body_of(refusal: Refusal, request_id: str) -> bytes:
    """Write the error object; `request_id` is the gateway's, which its logs and tables are searched by."""
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": refusal.error_type, "message": refusal.message},
            "request_id": request_id,
        }
    )


def headers_of(refusal: Refusal, request_id: str, body_bytes: int) -> list[tuple[bytes, bytes]]:
    """Write the headers of the answer; x-should-retry tells SDKs what the status alone does not."""
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % body_bytes),
        (b"x-should-retry", b"true" if refusal.should_retry else b"false"),
        *own_headers(request_id),
    ]


def sse_error(refusal: Refusal, request_id: str) -> bytes:
    """Write the event that ends a stream which upstream did not end: SDKs raise on it."""
    return b"event: error\ndata: " + body_of(refusal, request_id) + b"\n\n"
