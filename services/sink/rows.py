"""Turns an event into the row of its table, exactly or not at all; holds no I/O.

What a column would bend or could not hold (a time without a zone, a dollar's thirteenth place, an id that
is no UUID, a count below 0) is refused here: found later, it would cost its block many inserts.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from operator import itemgetter
from typing import NamedTuple, cast

import msgspec

from schemas.attribution import Attribution
from schemas.edges import Heartbeat
from schemas.rated import CostLine, RatedUsage
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished

Row = tuple[object, ...]
"""The values of one row, in the order of its table's columns."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# toStartOfHour, which sorts the tables, counts seconds in 32 bits.
TIME_MS_MAX = 2**32 * 1000 - 1
# What ClickHouse itself counts with, signed or not.
COUNT_MAX = 2**63 - 1
STATUS_MAX = 2**16 - 1
# Decimal(18, 12): six digits before the point, twelve behind it.
MONEY_STEP_USD = Decimal("1e-12")
MONEY_USD_MAX = Decimal(10) ** 6
_JSON = msgspec.json.Encoder()


class Unstorable(ValueError):
    """The event decodes but has no exact row; the text names the column, never the value."""


class Table(NamedTuple):
    """A table of tollhouse_raw and the columns that the sink gives it, with the types the table has."""

    name: str
    columns: tuple[tuple[str, str], ...]

    @property
    def full_name(self) -> str:
        """The name with its database, as SQL has it."""
        return f"tollhouse_raw.{self.name}"

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the order of a row."""
        return tuple(name for name, _ in self.columns)

    @property
    def types(self) -> tuple[str, ...]:
        """The columns' types, in the order of a row."""
        return tuple(kind for _, kind in self.columns)


_TIME = "DateTime64(3, 'UTC')"
_WORD = "LowCardinality(String)"
_ATTRIBUTION = (
    ("virtual_key_id", _WORD),
    ("key_alias", _WORD),
    ("team_id", _WORD),
    ("end_user_id", "String"),
    ("session_id", "String"),
    ("tags", "Array(LowCardinality(String))"),
    ("metadata", "Map(LowCardinality(String), String)"),
)

USAGE = Table(
    "usage",
    (
        ("request_id", "UUID"),
        ("started_at", _TIME),
        ("row_version", "UInt64"),
        ("finished_at", _TIME),
        ("edge_id", _WORD),
        ("exchange_seq", "UInt64"),
        ("source_id", _WORD),
        ("source_seq", "UInt64"),
        *_ATTRIBUTION,
        ("operation", _WORD),
        ("endpoint", _WORD),
        ("is_stream", "Bool"),
        ("model_requested", _WORD),
        ("model_served", _WORD),
        ("message_id", "String"),
        ("upstream_request_id", "String"),
        ("batch_id", "String"),
        ("batch_custom_id", "String"),
        ("http_status", "UInt16"),
        ("outcome", _WORD),
        ("error_type", _WORD),
        ("stop_reason", _WORD),
        ("usage_status", _WORD),
        ("input_tokens", "UInt64"),
        ("output_tokens", "UInt64"),
        ("cache_read_tokens", "UInt64"),
        ("cache_write_5m_tokens", "UInt64"),
        ("cache_write_1h_tokens", "UInt64"),
        ("thinking_tokens", "UInt64"),
        ("web_search_requests", "UInt64"),
        ("web_fetch_requests", "UInt64"),
        ("service_tier", _WORD),
        ("speed", _WORD),
        ("inference_geo", _WORD),
        ("usage_json", "String"),
        ("cost_status", _WORD),
        ("cost_usd", "Decimal(18, 12)"),
        ("cost_lines", "Map(LowCardinality(String), Decimal(18, 12))"),
        ("cost_lines_json", "String"),
        ("unpriced_dimensions", "Array(LowCardinality(String))"),
        ("price_book", _WORD),
        ("book_seq", "UInt64"),
        ("ttfb_ms", "UInt64"),
        ("duration_ms", "UInt64"),
        ("overhead_us", "UInt64"),
    ),
)
REQUESTS = Table(
    "requests",
    (
        ("request_id", "UUID"),
        ("started_at", _TIME),
        ("edge_id", _WORD),
        ("exchange_seq", "UInt64"),
        *_ATTRIBUTION,
        ("method", _WORD),
        ("operation", _WORD),
        ("endpoint", _WORD),
        ("model_requested", _WORD),
        ("is_stream", "Bool"),
        ("request_bytes", "UInt64"),
        ("client_user_agent", _WORD),
        ("anthropic_version", _WORD),
        ("anthropic_beta", _WORD),
    ),
)
RESPONSES = Table(
    "responses",
    (
        ("request_id", "UUID"),
        ("started_at", _TIME),
        ("row_version", "UInt64"),
        ("finished_at", _TIME),
        ("edge_id", _WORD),
        ("exchange_seq", "UInt64"),
        ("virtual_key_id", _WORD),
        ("operation", _WORD),
        ("endpoint", _WORD),
        ("outcome", _WORD),
        ("http_status", "UInt16"),
        ("error_type", _WORD),
        ("stop_reason", _WORD),
        ("upstream_request_id", "String"),
        ("response_bytes", "UInt64"),
        ("ttfb_ms", "UInt64"),
        ("duration_ms", "UInt64"),
        ("overhead_us", "UInt64"),
    ),
)
EDGES = Table(
    "edges",
    (
        ("edge_id", _WORD),
        ("at", _TIME),
        ("source_id", _WORD),
        ("process_started_at", _TIME),
        ("exchange_seq", "UInt64"),
        ("open_exchanges", "UInt64"),
        ("spool_entries", "UInt64"),
        ("spool_bytes", "UInt64"),
    ),
)


def _counts_of(table: Table) -> Callable[[Sequence[object]], tuple[object, ...]]:
    """Pick the counts out of a row; every table has several."""
    return itemgetter(*(place for place, kind in enumerate(table.types) if kind == "UInt64"))


_COUNTS: Mapping[str, Callable[[Sequence[object]], tuple[object, ...]]] = {
    table.name: _counts_of(table) for table in (USAGE, REQUESTS, RESPONSES, EDGES)
}


def usage_row(event: RatedUsage) -> Row:
    """Give the row of a rated usage: the fact and its cost at one price book."""
    fact = event.usage
    tokens = fact.tokens
    row = (
        _uuid("request_id", fact.request_id),
        _time_ms("started_at", fact.started_at),
        event.row_version,
        _time_ms("finished_at", fact.finished_at),
        fact.edge_id,
        fact.exchange_seq,
        fact.source_id,
        fact.source_seq,
        *_attribution(fact.attribution),
        fact.operation,
        fact.endpoint,
        fact.is_stream,
        fact.model_requested,
        fact.model_served,
        fact.message_id,
        fact.upstream_request_id,
        fact.batch_id,
        fact.batch_custom_id,
        _status(fact.http_status),
        fact.outcome,
        fact.error_type,
        fact.stop_reason,
        fact.usage_status,
        tokens.input_tokens,
        tokens.output_tokens,
        tokens.cache_read_tokens,
        tokens.cache_write_5m_tokens,
        tokens.cache_write_1h_tokens,
        tokens.thinking_tokens,
        tokens.web_search_requests,
        tokens.web_fetch_requests,
        fact.service_tier,
        fact.speed,
        fact.inference_geo,
        bytes(fact.usage),
        event.cost_status,
        _money_usd("cost_usd", event.cost_usd),
        _by_dimension(event.cost_lines),
        _JSON.encode(event.cost_lines),
        event.unpriced_dimensions,
        event.price_book,
        event.book_seq,
        fact.ttfb_ms,
        fact.duration_ms,
        fact.overhead_us,
    )
    return _with_counts_checked(USAGE, row)


def request_row(event: RequestStarted) -> Row:
    """Give the row of an exchange's beginning."""
    row = (
        _uuid("request_id", event.request_id),
        _time_ms("started_at", event.started_at),
        event.edge_id,
        event.exchange_seq,
        *_attribution(event.attribution),
        event.method,
        event.operation,
        event.endpoint,
        event.model_requested,
        event.is_stream,
        event.request_bytes,
        event.client_user_agent,
        event.anthropic_version,
        event.anthropic_beta,
    )
    return _with_counts_checked(REQUESTS, row)


def response_row(event: ResponseFinished) -> Row:
    """Give the row of an exchange's end; an orphan's end ranks below every other."""
    row = (
        _uuid("request_id", event.request_id),
        _time_ms("started_at", event.started_at),
        0 if event.outcome == "orphaned" else 1,
        _time_ms("finished_at", event.finished_at),
        event.edge_id,
        event.exchange_seq,
        event.virtual_key_id,
        event.operation,
        event.endpoint,
        event.outcome,
        _status(event.http_status),
        event.error_type,
        event.stop_reason,
        event.upstream_request_id,
        event.response_bytes,
        event.ttfb_ms,
        event.duration_ms,
        event.overhead_us,
    )
    return _with_counts_checked(RESPONSES, row)


def edge_row(event: Heartbeat) -> Row:
    """Give the row of a heartbeat."""
    row = (
        event.edge_id,
        _time_ms("at", event.at),
        event.source_id,
        _time_ms("process_started_at", event.process_started_at),
        event.exchange_seq,
        event.open_exchanges,
        event.spool_entries,
        event.spool_bytes,
    )
    return _with_counts_checked(EDGES, row)


def _with_counts_checked(table: Table, row: Row) -> Row:
    counts = cast("tuple[int, ...]", _COUNTS[table.name](row))
    if min(counts) < 0 or max(counts) > COUNT_MAX:
        names = _COUNTS[table.name](table.names)
        bad = next(name for name, count in zip(names, counts, strict=True) if not 0 <= count <= COUNT_MAX)
        raise Unstorable(f"{bad} is below 0 or beyond 63 bits")
    return row


def _status(status: int) -> int:
    if not 0 <= status <= STATUS_MAX:
        raise Unstorable("http_status is not between 0 and 65535")
    return status


def _attribution(who: Attribution) -> Row:
    return (
        who.virtual_key_id,
        who.key_alias,
        who.team_id,
        who.end_user_id,
        who.session_id,
        who.tags,
        who.metadata,
    )


def _uuid(column: str, text: str) -> int:
    """Read a UUID as the number that the native format wants."""
    try:
        return uuid.UUID(text).int
    except ValueError as exc:
        raise Unstorable(f"{column} is not a UUID") from exc


def _time_ms(column: str, moment: datetime) -> int:
    if moment.tzinfo is None:
        raise Unstorable(f"{column} has no time zone")
    millis = (moment - _EPOCH) // _MILLISECOND
    if not 0 <= millis <= TIME_MS_MAX:
        raise Unstorable(f"{column} is not between 1970 and 2106")
    return millis


def _money_usd(column: str, amount: Decimal) -> Decimal:
    try:
        stored = amount.quantize(MONEY_STEP_USD)
    except InvalidOperation as exc:
        raise Unstorable(f"{column} has more digits than Decimal(18, 12)") from exc
    # Comparison is exact whatever the context, so a cut thirteenth place shows.
    if stored != amount or abs(stored) >= MONEY_USD_MAX:
        raise Unstorable(f"{column} has more digits than Decimal(18, 12)")
    return stored


def _by_dimension(lines: tuple[CostLine, ...]) -> dict[str, Decimal]:
    """Add the lines up per dimension, over the models that one exchange may have used."""
    sums: dict[str, Decimal] = {}
    for line in lines:
        amount = _money_usd("cost_lines", line.amount_usd)
        if line.dimension in sums:
            amount = _money_usd("cost_lines", sums[line.dimension] + amount)
        sums[line.dimension] = amount
    return sums
