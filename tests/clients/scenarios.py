"""What every SDK is to see in each scenario, and what is to be booked; the programs beside it act them."""

TEXT = "Tollhouse counted every token that passed the gate, once and only once."
MODEL = "claude-haiku-5-5"
USAGE = [5, 12]  # "Tell me of tolls." and TEXT
MESSAGE = {"id": "msg_01", "model": MODEL, "text": TEXT, "stop_reason": "end_turn", "usage": USAGE}


def _error(status, error_type, should_retry):
    return {"status": status, "type": error_type, "request_id": True, "should_retry": should_retry}


NOT_FOUND = _error(404, "not_found_error", "false")
ERRORS = {
    "400": _error(400, "invalid_request_error", "false"),
    "401": _error(401, "authentication_error", "false"),
    "403": _error(403, "permission_error", "false"),
    "404": NOT_FOUND,
    "409": _error(409, "conflict_error", "true"),
    "413": _error(413, "request_too_large", "false"),
    "429": _error(429, "rate_limit_error", "true"),
    "500": _error(500, "api_error", "true"),
    "503": _error(503, "api_error", "true"),
    "504": _error(504, "timeout_error", "true"),
    "529": _error(529, "overloaded_error", "true"),
}

SEEN = {
    "message": MESSAGE | {"request_id": "req_"},
    "stream": [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ],
    "stream_helper": MESSAGE | {"spoken": TEXT},
    "tool": ["tool_use", "weather", {"place": "simulated"}],
    "gzipped": [MESSAGE, MESSAGE],
    "count_tokens": 5,
    "models": [18, "claude-fable-5-2", "claude-haiku-4-5-20251001"],
    "batch": {
        "statuses": ["in_progress", "ended"],
        "succeeded": 1,
        "is_here": True,
        "results": {
            "one": ["succeeded", USAGE],
            "errored-two": ["errored", None],
            "expired-three": ["expired", None],
        },
        "listed": [True],
    },
    "batch_canceled": {
        "early": ERRORS["400"],
        "statuses": ["canceling", "ended"],
        "canceled": 1,
        "deleted": "message_batch_deleted",
        "gone": NOT_FOUND,
    },
    "files": {
        "uploaded": ["a b.bin", 102_400, "application/octet-stream"],
        "same": True,
        "metadata": "a b.bin",
        "listed": [True],
        "deleted": "file_deleted",
        "gone": NOT_FOUND,
    },
    "retried_429": MESSAGE,
    "retried_529": MESSAGE,
    "retried_cut": MESSAGE,
    "given_up": ERRORS["529"],
    "not_retried": _error(402, "billing_error", "false"),
    "errors": ERRORS,
    "left": ["message_start", "content_block_start", "content_block_delta"],
    "error_within": "overloaded_error",
    "cut_within": "api_error",
}


def _passed(operation, count=1):
    return [(operation, "completed", 200, "none", 0, 0)] * count


def _refused(operation, status):
    return (operation, "upstream_error", status, "none", 0, 0)


SPOKEN = ("messages", "completed", 200, "final", *USAGE)

# Of each exchange in turn: operation, outcome, HTTP status, usage status, input and output tokens.
BOOKED = {
    "message": [SPOKEN],
    "stream": [SPOKEN],
    "stream_helper": [SPOKEN],
    "tool": [("messages", "completed", 200, "final", 34, 19)],
    "gzipped": [SPOKEN, SPOKEN],
    "count_tokens": _passed("count_tokens"),
    "models": _passed("models", 4),
    "batch": _passed("batches", 5),
    "batch_canceled": [
        *_passed("batches"),
        _refused("batches", 400),
        *_passed("batches", 3),
        _refused("batches", 404),
    ],
    "files": [*_passed("files", 5), _refused("files", 404)],
    "retried_429": [*[_refused("messages", 429)] * 2, SPOKEN],
    "retried_529": [_refused("messages", 529), SPOKEN],
    "retried_cut": [("messages", "upstream_cut", 502, "none", 0, 0), SPOKEN],
    "given_up": [_refused("messages", 529)] * 3,
    "not_retried": [_refused("messages", 402)],
    "errors": [_refused("messages", int(status)) for status in ERRORS],
    # The answer is read to its end for its usage.
    "left": [("messages", "client_gone", 200, "final", *USAGE)],
    # A floor of four characters a token for the text that came: "Tollhouse counted every token".
    "error_within": [("messages", "upstream_error", 200, "estimated", 5, 8)],
    "cut_within": [("messages", "upstream_cut", 200, "estimated", 5, 8)],
}
