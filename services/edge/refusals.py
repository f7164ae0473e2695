"""Decides what the gateway itself answers: Anthropic's error shape, a status that its SDKs understand."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from schemas.exchange import NEVER_SENT
from services.edge.body import MEMBERS_MAX
from services.edge.headers import own_headers


class Refusal(NamedTuple):
    """An answer of the gateway's own; `reason` is the label of its counter.

    `code` is Anthropic's own code for the same fault, where it has one; after `retry_after_s` another try
    may do better. `booked_as` is the error type on the record where that says more than the client's.
    """

    reason: str
    status: int
    error_type: str
    message: str
    should_retry: bool = False
    retry_after_s: int = 0
    code: str = ""
    booked_as: str = ""


NO_CREDENTIAL = Refusal(
    "no_credential",
    401,
    "authentication_error",
    "No API key was given: send it as x-api-key or as Authorization: Bearer.",
)
NO_UPSTREAM_CREDENTIAL = Refusal(
    "no_upstream_credential",
    401,
    "authentication_error",
    "The gateway has no credential for the Anthropic API, and the request brings none beside the gateway's "
    "key: set ANTHROPIC_API_KEY for the gateway, or send one as x-api-key and the gateway's key as "
    "x-litellm-api-key.",
)
UNKNOWN_CREDENTIAL = Refusal("unknown_credential", 401, "authentication_error", "invalid x-api-key")
KEYS_UNREAD = Refusal(
    "keys_unread",
    503,
    "api_error",
    "The gateway has just started and cannot check keys yet; try again shortly.",
    should_retry=True,
    retry_after_s=1,
)
KEY_EXPIRED = Refusal("key_expired", 401, "authentication_error", "This API key has expired.")
KEY_BLOCKED = Refusal("key_blocked", 401, "authentication_error", "This API key is blocked.")
TEAM_BLOCKED = Refusal(
    "team_blocked", 401, "authentication_error", "The team of this API key is blocked or gone."
)
END_USER_BLOCKED = Refusal(
    "end_user_blocked", 401, "authentication_error", "The end user that this request names is blocked."
)
MODEL_UNREADABLE = Refusal(
    "model_denied",
    403,
    "permission_error",
    "This API key may not use every model, and the gateway could not read which ones this request asks for.",
)
UNKNOWN_ROUTE = Refusal(
    "unknown_route",
    404,
    "not_found_error",
    "The gateway serves /anthropic/{path} and /v1/{path}; where it has a master key, also LiteLLM's routes "
    "below /key, /team and /customer, as /openapi.json has them.",
)
METHOD_UNKNOWN = Refusal(
    "unknown_route",
    405,
    "invalid_request_error",
    "This route is not served by this method; /openapi.json says which is.",
)
METHOD_UNSERVED = Refusal(
    "unknown_route", 405, "invalid_request_error", "The gateway serves neither TRACE nor CONNECT."
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
BODY_TOO_LARGE_DECODED = Refusal(
    "body_too_large",
    413,
    "request_too_large",
    "The request's body decodes to more than the gateway accepts.",
    code="request_body_too_large_after_decoding",
)
MODEL_TWICE = Refusal(
    "model_twice",
    400,
    "invalid_request_error",
    "model: stands twice in the request's body; what is asked for must be said once.",
)
TOO_MANY_MEMBERS = Refusal(
    "too_many_members",
    400,
    "invalid_request_error",
    f"The request's body has more than {MEMBERS_MAX} top-level members.",
)
ITEM_TOO_LARGE = Refusal(
    "body_too_large",
    413,
    "request_too_large",
    "One request of the batch exceeds the maximum size that the gateway accepts of a message.",
)
MEMBER_TWICE = Refusal(
    "member_twice",
    400,
    "invalid_request_error",
    "A member of the batch stands twice in the request's body; it must be said once.",
)
BATCH_FILES_FULL = Refusal(
    "batch_files",
    529,
    "overloaded_error",
    "The gateway takes in as many batches as it has room for; try again shortly.",
    should_retry=True,
    retry_after_s=5,
)
MEMORY_FULL = Refusal(
    "bodies_in_memory",
    529,
    "overloaded_error",
    "The gateway holds as many request bodies as it may; try again shortly.",
    should_retry=True,
    retry_after_s=1,
)
BATCH_NOT_FOUND = Refusal(
    "batch_not_found",
    404,
    "not_found_error",
    "There is no message batch with this id that this API key may see.",
)
OWNERS_UNREAD = Refusal(
    "owners_unread",
    503,
    "api_error",
    "The gateway cannot tell now whose message batch this is; try again shortly.",
    should_retry=True,
    retry_after_s=1,
)
BATCH_LIST_CUT = Refusal(
    "batch_list_cut",
    502,
    "api_error",
    "The gateway could not read as much of Anthropic's list of message batches as was asked for; try again.",
    should_retry=True,
    retry_after_s=5,
)
BATCH_LIST_TOO_LONG = Refusal(
    "batch_list_too_long",
    502,
    "api_error",
    "Among the batches that the gateway looked through none is this API key's, and there are more; ask for "
    "them by their ids.",
)
FAILED = Refusal("failed", 500, "api_error", "The gateway failed to handle this request.", True)
SPOOL_FULL = Refusal(
    "spool_full",
    503,
    "api_error",
    "The gateway cannot record this request now; try again shortly.",
    should_retry=True,
    retry_after_s=5,
)
STOPPING = Refusal(
    "stopping", 503, "api_error", "The gateway stopped before the answer was complete; try again.", True
)
# No byte of the request went up: only this is known to have cost nothing.
UPSTREAM_UNREACHABLE = Refusal(
    "upstream_unreachable",
    502,
    "api_error",
    "The gateway could not reach the Anthropic API.",
    should_retry=True,
    booked_as=NEVER_SENT,
)
UPSTREAM_CUT = Refusal(
    "upstream_cut", 502, "api_error", "The Anthropic API closed the connection before it answered.", True
)
HOST_INVALID = Refusal(
    "host_invalid",
    400,
    "invalid_request_error",
    "The Host header names no host, so the gateway cannot say where this batch's results will be.",
)
BATCH_UNREADABLE = Refusal(
    "batch_unreadable",
    502,
    "api_error",
    "The Anthropic API answered, but its results_url cannot be pointed to the gateway, and might send your "
    "key elsewhere: the answer is withheld. A batch that this request created exists.",
)
REDIRECTED_ELSEWHERE = Refusal(
    "redirected_elsewhere",
    502,
    "api_error",
    "The Anthropic API answered with a redirect that leads away from the gateway, and might send your key "
    "elsewhere: the answer is withheld.",
)
UPSTREAM_TIMED_OUT = Refusal(
    "upstream_timed_out", 504, "timeout_error", "The Anthropic API did not answer in time.", True
)

# Of models or routes, that an answer names.
NAMED_MAX = 10


def model_denied(whose: str, model: str, allowed: Sequence[str]) -> Refusal:
    """Refuse a model; `whose` list it is that does not have it: the API key's, or its team's."""
    message = f"{whose} may not use the model {model!r}; it may use {_listed(allowed)}."
    return Refusal("model_denied", 403, "permission_error", message)


def route_denied(allowed: Sequence[str]) -> Refusal:
    """Refuse a route; a key without routes of its own may use those that every key may."""
    by_default = "without allowed_routes it may use messages, count_tokens, models and batches"
    may = f"its allowed_routes are {_listed(allowed)}" if allowed else by_default
    message = f"This API key may not use this endpoint; {may}."
    return Refusal("route_denied", 403, "permission_error", message)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more


TARGET_FAULTS = {
    "unknown_route": UNKNOWN_ROUTE,
    "method_unserved": METHOD_UNSERVED,
    "target_too_long": TARGET_TOO_LONG,
    "target_not_ascii": TARGET_NOT_ASCII,
    "target_leaves_base": TARGET_LEAVES_BASE,
}
CREDENTIAL_FAULTS = {
    "no_credential": NO_CREDENTIAL,
    "no_upstream_credential": NO_UPSTREAM_CREDENTIAL,
    "unknown_credential": UNKNOWN_CREDENTIAL,
    "keys_unread": KEYS_UNREAD,
    "key_expired": KEY_EXPIRED,
    "key_blocked": KEY_BLOCKED,
    "team_blocked": TEAM_BLOCKED,
}


def body_of(refusal: Refusal, request_id: str) -> bytes:
    """Write the error object; `request_id` is the gateway's, which its logs and tables are searched by."""
    error: dict[str, object] = {"type": refusal.error_type, "message": refusal.message}
    if refusal.code:
        error["details"] = {"error_code": refusal.code}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def headers_of(refusal: Refusal, request_id: str, body_bytes: int) -> list[tuple[bytes, bytes]]:
    """Write the headers of the answer.

    x-should-retry tells SDKs what the status alone does not; request-id is where their errors look for one.
    """
    retry_after = [(b"retry-after", b"%d" % refusal.retry_after_s)] if refusal.retry_after_s else []
    return [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % body_bytes),
        (b"x-should-retry", b"true" if refusal.should_retry else b"false"),
        *retry_after,
        (b"request-id", request_id.encode()),
        *own_headers(request_id),
    ]


def sse_error(refusal: Refusal, request_id: str) -> bytes:
    """Write the event that ends a stream which upstream did not end: SDKs raise on it."""
    return b"event: error\ndata: " + body_of(refusal, request_id) + b"\n\n"
