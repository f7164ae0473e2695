"""Turns an event into the row of its table, exactly or not at all; holds no I/O.

What a column would bend or could not hold (a time without a zone, a dollar's nineteenth place, an id that
is no UUID, a count below 0) is refused here: found later, it would cost its block many inserts.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from operator import itemgetter
from typing import cast

import msgspec

from schemas.attribution import Attribution
from schemas.batches import BatchState
from schemas.dead_letters import DeadLetter
from schemas.edges import Heartbeat
from schemas.price_books import PriceBookPublished
from schemas.rated import CostLine, RatedUsage
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from schemas.usage import TokenCounts
from services.sink.letters import COUNT_MAX, exchange_of
from services.sink.tables import (
    BATCHES,
    COST_LEDGER,
    DEAD_LETTERS,
    EDGES,
    PRICE_BOOKS,
    REQUESTS,
    RESPONSES,
    TABLES,
    USAGE,
    Table,
)

Row = tuple[object, ...]
"""The values of one row, in the order of its table's columns."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# toStartOfHour, which sorts the tables, counts seconds in 32 bits.
TIME_MS_MAX = 2**32 * 1000 - 1
STATUS_MAX = 2**16 - 1
# The columns are Decimal(38, 18). A sum over them may not reach 1e20, and ClickHouse would not say so: this
# limit lets a hundred thousand million rows add up. Its digits fit the 28 that decimal counts with, too.
MONEY_STEP_USD = Decimal("1e-18")
MONEY_USD_MAX = Decimal(10) ** 9
# Only charges are stored: reversals are derived, see schemas/clickhouse/0006_cost_ledger.sql. Of charges of
# one kind at one book the first stays; an orphan's is of another kind, as it stood until the real one came.
CHARGE = "charge"
ORPHANS_CHARGE = "orphans_charge"
# What is booked earlier takes precedence: milliseconds are taken from this.
PRECEDENCE_MAX = 2**63
_JSON = msgspec.json.Encoder()


class Unstorable(ValueError):
    """The event decodes but has no exact row; the text names the column, never the value."""


def _counts_of(table: Table) -> Callable[[Sequence[object]], tuple[object, ...]]:
    """Pick the counts out of a row; the last stands twice, so that one count is a tuple as well."""
    places = [place for place, kind in enumerate(table.types) if kind == "UInt64"]
    return itemgetter(*places, places[-1])


_COUNTS: Mapping[str, Callable[[Sequence[object]], tuple[object, ...]]] = {
    table.name: _counts_of(table) for table in TABLES
}


def usage_row(event: RatedUsage) -> Row:
    """Give the row of a rated usage: the fact and its cost at one price book."""
    fact = event.usage
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
        *_tokens(fact.tokens),
        fact.service_tier,
        fact.speed,
        fact.inference_geo,
        bytes(fact.usage),
        fact.estimated_dimensions,
        fact.cut,
        event.cost_status,
        _money_usd("cost_usd", event.cost_usd),
        _sums("cost_lines", ((line.dimension, line) for line in event.cost_lines)),
        _JSON.encode(event.cost_lines),
        event.unpriced_dimensions,
        event.price_book,
        event.book_seq,
        event.book_hash,
        fact.ttfb_ms,
        fact.duration_ms,
        fact.overhead_us,
    )
    return _with_counts_checked(USAGE, row)


def ledger_row(event: RatedUsage, appended_ms: int) -> Row:
    """Give the ledger's row of a rated usage: a charge, which the view takes back where a later one stands.

    `appended_ms` is when the event came into its topic: an event of an earlier release says no better.
    """
    fact = event.usage
    booked_ms = appended_ms if event.booked_at is None else _time_ms("booked_at", event.booked_at)
    row = (
        _uuid("request_id", fact.request_id),
        _time_ms("started_at", fact.started_at),
        event.book_seq,
        ORPHANS_CHARGE if fact.outcome == "orphaned" else CHARGE,
        event.row_version,
        booked_ms,
        PRECEDENCE_MAX - booked_ms,
        fact.attribution.virtual_key_id,
        fact.attribution.team_id,
        fact.attribution.end_user_id,
        fact.operation,
        fact.model_served,
        fact.outcome,
        event.cost_status,
        _sums("lines", ((f"{line.model}/{line.dimension}", line) for line in event.cost_lines)),
        _money_usd("amount_usd", event.cost_usd),
        event.unpriced_dimensions,
        event.price_book,
        event.book_hash,
    )
    return _with_counts_checked(COST_LEDGER, row)


def book_row(event: PriceBookPublished) -> Row:
    """Give the row of an edition of the price book."""
    row = (
        event.book_seq,
        event.book_hash,
        event.label,
        _time_ms("published_at", event.published_at),
        event.content,
    )
    return _with_counts_checked(PRICE_BOOKS, row)


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
        event.cut,
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
        event.shed,
        event.oldest_open_seq,
    )
    return _with_counts_checked(EDGES, row)


def batch_row(event: BatchState) -> Row:
    """Give the row of a batch's state; the beginning of time where it has not ended, or is not closed."""
    counts, booked = event.counts, event.booked
    row = (
        event.batch_id,
        event.version,
        _time_ms("at", event.at),
        event.phase,
        event.status,
        _time_ms("created_at", event.created_at),
        _time_ms("expires_at", event.expires_at),
        _time_ms("ended_at", event.ended_at or _EPOCH),
        _time_ms("closed_at", event.closed_at or _EPOCH),
        *_attribution(event.attribution),
        event.credential,
        event.request_id,
        event.is_adopted,
        event.models,
        event.requests,
        counts.processing,
        counts.succeeded,
        counts.errored,
        counts.canceled,
        counts.expired,
        event.lines_read,
        booked.succeeded,
        booked.errored,
        booked.canceled,
        booked.expired,
        event.malformed,
        event.error,
    )
    return _with_counts_checked(BATCHES, row)


def dead_letter_row(event: DeadLetter) -> Row:
    """Give the row of a dead letter: where and why, and which exchange it was about; none of its bytes."""
    row = (
        event.topic,
        event.partition,
        event.offset,
        event.stage,
        _time_ms("dead_at", event.dead_at),
        event.error_class,
        event.error,
        *exchange_of(event),
        len(event.value or b""),
    )
    return _with_counts_checked(DEAD_LETTERS, row)


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


def _tokens(counts: TokenCounts) -> Row:
    return (
        counts.input_tokens,
        counts.output_tokens,
        counts.cache_read_tokens,
        counts.cache_write_5m_tokens,
        counts.cache_write_1h_tokens,
        counts.thinking_tokens,
        counts.web_search_requests,
        counts.web_fetch_requests,
    )


def _attribution(who: Attribution) -> Row:
    return (
        who.virtual_key_id,
        who.key_alias,
        who.team_id,
        who.end_user_id,
        who.session_id,
        who.tags,
        who.metadata,
        who.client_app,
        who.client_version,
        who.agent_id,
        who.parent_agent_id,
        who.device_id,
        who.account_id,
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
        raise Unstorable(f"{column} has more than 18 decimals or is beyond 1e9 dollars") from exc
    # Comparison is exact whatever the context, so a cut nineteenth place shows.
    if stored != amount or abs(stored) >= MONEY_USD_MAX:
        raise Unstorable(f"{column} has more than 18 decimals or is beyond 1e9 dollars")
    return stored


def _sums(column: str, lines: Iterable[tuple[str, CostLine]]) -> dict[str, Decimal]:
    """Add the lines up by their names; attempts of one exchange may have lines of one name."""
    sums: dict[str, Decimal] = {}
    for name, line in lines:
        amount = _money_usd(column, line.amount_usd)
        if name in sums:
            amount = _money_usd(column, sums[name] + amount)
        sums[name] = amount
    return sums
