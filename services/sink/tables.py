"""Lists the columns of every table that the sink writes, once for both directions; holds no value."""

from typing import NamedTuple


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
_WORDS = "Array(LowCardinality(String))"
_MONEY = "Decimal(38, 18)"
_MONEY_BY_WORD = "Map(LowCardinality(String), Decimal(38, 18))"
_ATTRIBUTION = (
    ("virtual_key_id", _WORD),
    ("key_alias", _WORD),
    ("team_id", _WORD),
    ("end_user_id", "String"),
    ("session_id", "String"),
    ("tags", _WORDS),
    ("metadata", "Map(LowCardinality(String), String)"),
    ("client_app", _WORD),
    ("client_version", _WORD),
    ("agent_id", "String"),
    ("parent_agent_id", "String"),
    ("device_id", "String"),
    ("account_id", "String"),
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
        ("estimated_dimensions", _WORDS),
        ("cut", _WORDS),
        ("cost_status", _WORD),
        ("cost_usd", _MONEY),
        ("cost_lines", _MONEY_BY_WORD),
        ("cost_lines_json", "String"),
        ("unpriced_dimensions", _WORDS),
        ("price_book", _WORD),
        ("book_seq", "UInt64"),
        ("book_hash", _WORD),
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
        ("cut", _WORDS),
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
        ("shed", "UInt64"),
        ("oldest_open_seq", "UInt64"),
    ),
)
COST_LEDGER = Table(
    "cost_ledger",
    (
        ("request_id", "UUID"),
        ("started_at", _TIME),
        ("book_seq", "UInt64"),
        ("kind", _WORD),
        ("row_version", "UInt64"),
        ("booked_at", _TIME),
        ("precedence", "UInt64"),
        ("virtual_key_id", _WORD),
        ("team_id", _WORD),
        ("end_user_id", "String"),
        ("operation", _WORD),
        ("model_served", _WORD),
        ("outcome", _WORD),
        ("cost_status", _WORD),
        ("lines", _MONEY_BY_WORD),
        ("amount_usd", _MONEY),
        ("unpriced_dimensions", _WORDS),
        ("price_book", _WORD),
        ("book_hash", _WORD),
    ),
)
PRICE_BOOKS = Table(
    "price_books",
    (
        ("book_seq", "UInt64"),
        ("book_hash", "String"),
        ("label", "String"),
        ("published_at", _TIME),
        ("content", "String"),
    ),
)
DEAD_LETTERS = Table(
    "dead_letters",
    (
        ("topic", _WORD),
        ("partition", "UInt64"),
        ("offset", "UInt64"),
        ("stage", _WORD),
        ("dead_at", _TIME),
        ("error_class", _WORD),
        ("error", "String"),
        ("request_id", "UUID"),
        ("edge_id", _WORD),
        ("exchange_seq", "UInt64"),
        ("value_bytes", "UInt64"),
    ),
)
BATCHES = Table(
    "batches",
    (
        ("batch_id", "String"),
        ("version", "UInt64"),
        ("at", _TIME),
        ("phase", _WORD),
        ("status", _WORD),
        ("created_at", _TIME),
        ("expires_at", _TIME),
        ("ended_at", _TIME),
        ("closed_at", _TIME),
        *_ATTRIBUTION,
        ("credential", _WORD),
        ("request_id", "String"),
        ("is_adopted", "Bool"),
        ("models", _WORDS),
        ("requests", "UInt64"),
        ("processing", "UInt64"),
        ("succeeded", "UInt64"),
        ("errored", "UInt64"),
        ("canceled", "UInt64"),
        ("expired", "UInt64"),
        ("lines_read", "UInt64"),
        ("booked_succeeded", "UInt64"),
        ("booked_errored", "UInt64"),
        ("booked_canceled", "UInt64"),
        ("booked_expired", "UInt64"),
        ("malformed", "UInt64"),
        ("error", "String"),
    ),
)
TABLES = (USAGE, REQUESTS, RESPONSES, EDGES, COST_LEDGER, PRICE_BOOKS, DEAD_LETTERS, BATCHES)
