"""The fact: what one exchange or batch item used, self-contained and without a price; on gateway.usage.v1."""

from datetime import datetime

import msgspec

from schemas.attribution import Attribution
from schemas.exchange import Operation, Outcome, UsageStatus
from schemas.ids import EdgeId, RequestId, SourceId


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Anthropic's billing dimensions of one response: additive, none contained in another.

    `thinking_tokens` is the exception: it is the part of `output_tokens` spent on thinking.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    thinking_tokens: int = 0
    web_search_requests: int = 0
    web_fetch_requests: int = 0


class UsageRecorded(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange's usage; exactly one is published for each, whatever became of it.

    `usage` is Anthropic's usage object with every member it had, written anew (for a stream:
    message_start's, overwritten by message_delta's), so that a price book of a later day can read what
    the counts leave out. (source_id, source_seq) rise with the order of publication, so that a tally can
    tell a replay from news. `estimated_dimensions` names the members of `tokens` that are no figure of
    Anthropic's but our own estimate. `cut` names what was left out so that the event fits a record: `usage`,
    `metadata`, `tags`, in this order.
    """

    request_id: RequestId
    started_at: datetime
    finished_at: datetime
    edge_id: EdgeId
    exchange_seq: int
    source_id: SourceId
    source_seq: int
    attribution: Attribution
    operation: Operation
    endpoint: str
    is_stream: bool
    outcome: Outcome
    usage_status: UsageStatus
    http_status: int
    model_requested: str = ""
    model_served: str = ""
    message_id: str = ""
    upstream_request_id: str = ""
    batch_id: str = ""
    batch_custom_id: str = ""
    error_type: str = ""
    stop_reason: str = ""
    tokens: TokenCounts = TokenCounts()
    service_tier: str = ""
    speed: str = ""
    inference_geo: str = ""
    usage: msgspec.Raw = msgspec.Raw(b"null")
    ttfb_ms: int = 0
    duration_ms: int = 0
    overhead_us: int = 0
    estimated_dimensions: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
