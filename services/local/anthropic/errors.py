"""Names what the simulated API refuses and writes it in Anthropic's error shape; never decides when."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.runtime.errors import TollhouseError

ErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "timeout_error",
    "conflict_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
]

ERROR_TYPES: dict[int, tuple[ErrorType, str]] = {
    400: ("invalid_request_error", "Invalid request"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low to access the Anthropic API"),
    403: ("permission_error", "Your API key does not have permission to use the specified resource"),
    404: ("not_found_error", "Not found"),
    408: ("timeout_error", "Request timed out"),
    409: ("conflict_error", "Conflict"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "Number of requests has exceeded your rate limit"),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}

# What the SDKs would decide from the status alone; the real API says it in x-should-retry as well.
RETRYABLE_STATUSES = frozenset({408, 409, 429, 500, 503, 504, 529})

RATE_LIMIT_RETRY_AFTER_SECONDS = (
    1  # the real API always names a wait with 429; a short one keeps callers quick
)


class ApiFault(TollhouseError):
    """The simulated API refuses this request: answer with its status, type and message."""

    def __init__(self, status: int, message: str | None = None) -> None:
        error_type, usual_message = ERROR_TYPES[status]
        self.status = status
        self.error_type: ErrorType = error_type
        self.message = usual_message if message is None else message
        super().__init__(self.message)


class _ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    details: UnsetType | None = UNSET
    type: ErrorType
    message: str


class _ErrorEnvelope(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["error"] = "error"
    error: _ErrorDetail
    request_id: str


_encoder = msgspec.json.Encoder()


def error_body(fault: ApiFault, request_id: str) -> bytes:
    """Write the body of an error response."""
    detail = _ErrorDetail(type=fault.error_type, message=fault.message)
    return _encoder.encode(_ErrorEnvelope(error=detail, request_id=request_id))


def error_event_data(fault: ApiFault, request_id: str) -> bytes:
    """Write the data of an SSE `error` event, which the real API gives a null `details`."""
    detail = _ErrorDetail(details=None, type=fault.error_type, message=fault.message)
    return _encoder.encode(_ErrorEnvelope(error=detail, request_id=request_id))


def error_headers(fault: ApiFault, retry_after_seconds: int | None) -> tuple[tuple[bytes, bytes], ...]:
    """Tell the SDKs whether to try again and, with 429 or where the caller names a wait, when."""
    should_retry = b"true" if fault.status in RETRYABLE_STATUSES else b"false"
    headers = [(b"x-should-retry", should_retry)]
    if retry_after_seconds is None and fault.status == 429:
        retry_after_seconds = RATE_LIMIT_RETRY_AFTER_SECONDS
    if retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % retry_after_seconds))
    return tuple(headers)
