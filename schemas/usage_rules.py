"""Decides what Anthropic's usage objects say in tokens; the rules are those of its SDKs' accumulators.

The split of cache writes by time to live is only in message_start, so a total that differs from it at the
end is attributed here, and said to be estimated where that is a guess.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

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

FIVE_MINUTES = "cache_write_5m_tokens"
ONE_HOUR = "cache_write_1h_tokens"
OUTPUT = "output_tokens"
# Anthropic's figures, and the members of TokenCounts that they come to.
COUNTS = {
    "input_tokens": "input_tokens",
    "output_tokens": OUTPUT,
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": FIVE_MINUTES,
}

CacheTtls = Literal["none", "5m", "1h", "both"]
"""The times to live that a request's `cache_control` blocks ask for; none also where it was not read."""


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
    estimated_dimensions: tuple[str, ...] = ()


class CacheWrites(NamedTuple):
    """Tokens written to the cache by time to live, and which of the two took a guess."""

    five_minutes: int
    one_hour: int
    guessed: tuple[str, ...] = ()


Usage = Mapping[str, object]


def reading_of(usage: Usage, cache_ttls: CacheTtls) -> Reading:
    """Count the tokens of a usage object that is Anthropic's last word; an empty one has none."""
    if not usage:
        return Reading()
    writes = cache_writes(usage, cache_ttls)
    details = _object(usage.get("output_tokens_details"))
    server_tools = _object(usage.get("server_tool_use"))
    verbatim = _verbatim(usage)
    uncounted = [member for name, member in COUNTS.items() if not _is_count(usage.get(name))]
    estimated = tuple(dict.fromkeys((*uncounted, *writes.guessed)))
    # Without its verbatim form the iterations are lost, which are the bill where there are any.
    is_estimated = bool(estimated) or verbatim is NO_USAGE
    return Reading(
        usage_status="estimated" if is_estimated else "final",
        tokens=TokenCounts(
            input_tokens=_count(usage.get("input_tokens")),
            output_tokens=_count(usage.get("output_tokens")),
            cache_read_tokens=_count(usage.get("cache_read_input_tokens")),
            cache_write_5m_tokens=writes.five_minutes,
            cache_write_1h_tokens=writes.one_hour,
            thinking_tokens=_count(details.get("thinking_tokens")),
            web_search_requests=_count(server_tools.get("web_search_requests")),
            web_fetch_requests=_count(server_tools.get("web_fetch_requests")),
        ),
        usage=verbatim,
        service_tier=text(usage.get("service_tier")),
        speed=text(usage.get("speed")),
        inference_geo=text(usage.get("inference_geo")),
        estimated_dimensions=estimated,
    )


def cache_writes(usage: Usage, cache_ttls: CacheTtls) -> CacheWrites:
    """Split the cache writes by time to live; the total is right where it differs from the split.

    What the split does not explain goes to the only time to live that is in use: by the split, or where
    that knows none, by the request. Otherwise it goes to 5 minutes, and that is a guess; but not where
    there is no split at all, as in the days when 5 minutes was the only one.
    """
    split = _object(usage.get("cache_creation"))
    five_minutes = _count(split.get("ephemeral_5m_input_tokens"))
    one_hour = _count(split.get("ephemeral_1h_input_tokens"))
    given = usage.get("cache_creation_input_tokens")
    if not isinstance(given, int) or given == five_minutes + one_hour:
        return CacheWrites(five_minutes, one_hour)
    total = _count(given)
    if five_minutes and one_hour:
        return _both_written(total, five_minutes, one_hour, cache_ttls)
    if one_hour or (cache_ttls == "1h" and not five_minutes):
        return CacheWrites(0, total)
    is_known = five_minutes or not total or cache_ttls == "5m" or (not split and cache_ttls == "none")
    return CacheWrites(total, 0, () if is_known else (FIVE_MINUTES,))


def _both_written(total: int, five_minutes: int, one_hour: int, cache_ttls: CacheTtls) -> CacheWrites:
    if not total:
        return CacheWrites(0, 0)
    if total < five_minutes + one_hour:
        kept = min(one_hour, total)
        return CacheWrites(total - kept, kept, (FIVE_MINUTES, ONE_HOUR))
    if cache_ttls == "1h":
        return CacheWrites(five_minutes, total - five_minutes, (ONE_HOUR,))
    return CacheWrites(total - one_hour, one_hour, (FIVE_MINUTES,))


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
