"""Decides what Anthropic's usage objects say in tokens; the rules are those of its SDKs' accumulators.

message_delta carries totals of the whole message: a figure that is there and not null overwrites the one
of message_start, and one that is absent leaves it. The split of cache writes by time to live is only in
message_start, so a total that differs from it at the end is attributed here, and said to be estimated
where that is a guess.
"""

from collections.abc import Mapping
from typing import cast

import msgspec

from schemas.exchange import UsageStatus
from schemas.usage import TokenCounts

# Of the verbatim usage object on an event. Recorded ones are below 2 KB, with twenty iterations 6 KB.
USAGE_JSON_BYTES_MAX = 64 * 1024
# A count beyond this is no count of ours; ClickHouse's columns are UInt32.
COUNT_MAX = 2**32 - 1
# Of a name that an answer gives (model, id, reason, tier): no answer may make an event that Kafka refuses.
TEXT_CHARS_MAX = 256

NO_USAGE = msgspec.Raw(b"null")

COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer said of itself, as far as it was read."""

    usage_status: UsageStatus = "none"
    tokens: TokenCounts = TokenCounts()
    usage: msgspec.Raw = NO_USAGE
    service_tier: str = ""
    speed: str = ""
    inference_geo: str = ""
    model_served: str = ""
    message_id: str = ""
    stop_reason: str = ""
    error_type: str = ""


Usage = Mapping[str, object]


def overwritten(start: Usage, delta: Usage) -> Usage:
    """Lay message_delta's usage over message_start's: what is there and not null replaces."""
    return {**start, **{name: value for name, value in delta.items() if value is not None}}


def reading_of(usage: Usage, status: UsageStatus) -> Reading:
    """Count the tokens of a usage object; an empty one has none."""
    if not usage:
        return Reading()
    five_minutes, one_hour, is_guess = cache_writes(usage)
    details = _object(usage.get("output_tokens_details"))
    server_tools = _object(usage.get("server_tool_use"))
    verbatim = _verbatim(usage)
    # Without its verbatim form the iterations are lost, which are the bill where there are any.
    is_guess = is_guess or verbatim is NO_USAGE or not all(_is_count(usage.get(name)) for name in COUNTS)
    return Reading(
        usage_status="estimated" if is_guess and status == "final" else status,
        tokens=TokenCounts(
            input_tokens=_count(usage.get("input_tokens")),
            output_tokens=_count(usage.get("output_tokens")),
            cache_read_tokens=_count(usage.get("cache_read_input_tokens")),
            cache_write_5m_tokens=five_minutes,
            cache_write_1h_tokens=one_hour,
            thinking_tokens=_count(details.get("thinking_tokens")),
            web_search_requests=_count(server_tools.get("web_search_requests")),
            web_fetch_requests=_count(server_tools.get("web_fetch_requests")),
        ),
        usage=verbatim,
        service_tier=text(usage.get("service_tier")),
        speed=text(usage.get("speed")),
        inference_geo=text(usage.get("inference_geo")),
    )


def cache_writes(usage: Usage) -> tuple[int, int, bool]:
    """Split the cache writes into 5-minute and 1-hour tokens, and say whether that took a guess.

    The total is right where it differs from the split. The difference goes to the only time to live that
    the split knows; where it knows both, to 5 minutes; where there is no split, all is 5 minutes, which
    was the only one before there were splits.
    """
    split = _object(usage.get("cache_creation"))
    five_minutes = _count(split.get("ephemeral_5m_input_tokens"))
    one_hour = _count(split.get("ephemeral_1h_input_tokens"))
    total = usage.get("cache_creation_input_tokens")
    if not isinstance(total, int) or total == five_minutes + one_hour:
        return five_minutes, one_hour, False
    if not five_minutes and one_hour:
        return 0, _count(total), False
    if not one_hour:
        return _count(total), 0, False
    one_hour = min(one_hour, _count(total))
    return _count(total) - one_hour, one_hour, True


def text(value: object) -> str:
    """Take a name from an answer, up to TEXT_CHARS_MAX; what is no string is none."""
    return value[:TEXT_CHARS_MAX] if isinstance(value, str) else ""


def _verbatim(usage: Usage) -> msgspec.Raw:
    try:
        encoded = msgspec.json.encode(usage)
    except RecursionError:  # it was decoded with fewer calls on the stack
        return NO_USAGE
    return msgspec.Raw(encoded) if len(encoded) <= USAGE_JSON_BYTES_MAX else NO_USAGE


def _count(value: object) -> int:
    return value if isinstance(value, int) and _is_count(value) else 0


def _is_count(value: object) -> bool:
    """Say whether a member is absent or a number of tokens; anything else is counted as none, by guess."""
    if value is None:
        return True
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX


def _object(value: object) -> Usage:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
