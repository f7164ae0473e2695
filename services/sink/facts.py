"""Turns a row of tollhouse_raw.usage back into the rated usage it was made of: the inverse of `usage_row`.

A row holds milliseconds, and says nothing of when it was booked (the ledger does): the rest comes back whole.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from schemas.attribution import Attribution
from schemas.exchange import Operation, Outcome, UsageStatus
from schemas.ids import EdgeId, RequestId, SourceId, VirtualKeyId, rated_id
from schemas.rated import CostLine, CostStatus, RatedUsage
from schemas.usage import TokenCounts, UsageRecorded
from services.sink.tables import USAGE

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LINES = msgspec.json.Decoder(tuple[CostLine, ...])


class Unreadable(ValueError):
    """No release up to this one wrote the row; the text names the column, never the value."""


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of USAGE as they are read: times in milliseconds, ids as text."""

    request_id: str
    started_at: int
    row_version: int
    finished_at: int
    edge_id: str
    exchange_seq: int
    source_id: str
    source_seq: int
    virtual_key_id: str
    key_alias: str
    team_id: str
    end_user_id: str
    session_id: str
    tags: tuple[str, ...]
    metadata: dict[str, str]
    client_app: str
    client_version: str
    agent_id: str
    parent_agent_id: str
    device_id: str
    account_id: str
    operation: Operation
    endpoint: str
    is_stream: bool
    model_requested: str
    model_served: str
    message_id: str
    upstream_request_id: str
    batch_id: str
    batch_custom_id: str
    http_status: int
    outcome: Outcome
    error_type: str
    stop_reason: str
    usage_status: UsageStatus
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_5m_tokens: int
    cache_write_1h_tokens: int
    thinking_tokens: int
    web_search_requests: int
    web_fetch_requests: int
    service_tier: str
    speed: str
    inference_geo: str
    usage_json: str
    estimated_dimensions: tuple[str, ...]
    cut: tuple[str, ...]
    cost_status: CostStatus
    cost_usd: Decimal
    cost_lines: dict[str, Decimal]
    cost_lines_json: str
    unpriced_dimensions: tuple[str, ...]
    price_book: str
    book_seq: int
    book_hash: str
    ttfb_ms: int
    duration_ms: int
    overhead_us: int


assert _Row.__struct_fields__ == USAGE.names, "both directions know the same columns"

_AS_READ = {"UUID": "toString({})", "DateTime64(3, 'UTC')": "toUnixTimestamp64Milli({})"}
USAGE_COLUMNS = ", ".join(_AS_READ.get(kind, "{}").format(name) for name, kind in USAGE.columns)
"""What to select from tollhouse_raw.usage for `rated_of`, in its order; no alias hides a column."""


def rated_of(values: Sequence[object]) -> RatedUsage:
    """Read a row that was selected as USAGE_COLUMNS; `booked_at` is not in it."""
    try:
        row = msgspec.convert(dict(zip(USAGE.names, values, strict=True)), _Row)
        lines = _LINES.decode(row.cost_lines_json)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise Unreadable(f"a row of {USAGE.full_name} cannot be read: {_place(exc)}") from exc
    usage = _usage(row)
    return RatedUsage(
        rated_id=rated_id(usage.request_id, row.book_seq),
        usage=usage,
        cost_status=row.cost_status,
        cost_usd=row.cost_usd,
        cost_lines=lines,
        price_book=row.price_book,
        book_seq=row.book_seq,
        row_version=row.row_version,
        unpriced_dimensions=row.unpriced_dimensions,
        book_hash=row.book_hash,
    )


def _usage(row: _Row) -> UsageRecorded:
    return UsageRecorded(
        request_id=RequestId(row.request_id),
        started_at=_moment(row.started_at),
        finished_at=_moment(row.finished_at),
        edge_id=EdgeId(row.edge_id),
        exchange_seq=row.exchange_seq,
        source_id=SourceId(row.source_id),
        source_seq=row.source_seq,
        attribution=_attribution(row),
        operation=row.operation,
        endpoint=row.endpoint,
        is_stream=row.is_stream,
        outcome=row.outcome,
        usage_status=row.usage_status,
        http_status=row.http_status,
        model_requested=row.model_requested,
        model_served=row.model_served,
        message_id=row.message_id,
        upstream_request_id=row.upstream_request_id,
        batch_id=row.batch_id,
        batch_custom_id=row.batch_custom_id,
        error_type=row.error_type,
        stop_reason=row.stop_reason,
        tokens=_tokens(row),
        service_tier=row.service_tier,
        speed=row.speed,
        inference_geo=row.inference_geo,
        usage=msgspec.Raw(row.usage_json.encode()),
        ttfb_ms=row.ttfb_ms,
        duration_ms=row.duration_ms,
        overhead_us=row.overhead_us,
        estimated_dimensions=row.estimated_dimensions,
        cut=row.cut,
    )


def _attribution(row: _Row) -> Attribution:
    return Attribution(
        virtual_key_id=VirtualKeyId(row.virtual_key_id),
        key_alias=row.key_alias,
        team_id=row.team_id,
        end_user_id=row.end_user_id,
        session_id=row.session_id,
        tags=row.tags,
        metadata=row.metadata,
        client_app=row.client_app,
        client_version=row.client_version,
        agent_id=row.agent_id,
        parent_agent_id=row.parent_agent_id,
        device_id=row.device_id,
        account_id=row.account_id,
    )


def _tokens(row: _Row) -> TokenCounts:
    return TokenCounts(
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cache_read_tokens=row.cache_read_tokens,
        cache_write_5m_tokens=row.cache_write_5m_tokens,
        cache_write_1h_tokens=row.cache_write_1h_tokens,
        thinking_tokens=row.thinking_tokens,
        web_search_requests=row.web_search_requests,
        web_fetch_requests=row.web_fetch_requests,
    )


def _moment(millis: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=millis)


def _place(error: Exception) -> str:
    """Give what msgspec says of the place; it may quote a word that is in no closed set."""
    return (
        str(error).rpartition(" - at ")[2] if isinstance(error, msgspec.MsgspecError) else "nested too deeply"
    )
