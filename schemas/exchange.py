"""Names what an exchange is and how it may end; closed sets, so that every consumer can be complete."""

from typing import Literal

Operation = Literal["messages", "count_tokens", "batches", "batch_item", "models", "files", "skills", "other"]
"""What was asked of the API; decided from method and path alone."""

Outcome = Literal[
    "completed",  # upstream answered in full, and the client was there to the end
    "refused",  # the gateway refused an authenticated caller
    "upstream_error",  # upstream answered with an error, before or within the stream
    "upstream_cut",  # upstream could not be reached, or broke off
    "timed_out",  # upstream was silent for too long
    "client_gone",  # the client hung up first
    "orphaned",  # the edge process died; closed by its successor
    "succeeded",  # batch items, from here on
    "errored",
    "canceled",
    "expired",
]
"""How an exchange ended; each ends in exactly one of these."""

NEVER_SENT = "upstream_unreachable"
"""The `error_type` of an exchange of which no byte left the gateway: upstream cannot have billed it."""

UsageStatus = Literal[
    "final",  # upstream's last word
    "partial",  # what message_start said; the end was not seen
    "estimated",  # part of the figures is a documented estimate
    "none",  # there was no usage to read
]
"""How far the token counts of a usage record can be trusted."""
