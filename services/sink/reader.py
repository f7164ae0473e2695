"""Reads back what the sink has stored, in bounded blocks and beside the sink; changes nothing."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, Protocol

import msgspec

from schemas.ids import RequestId
from schemas.rated import RatedUsage
from services.sink.facts import USAGE_COLUMNS, rated_of
from services.sink.tables import USAGE

# Some 2 KB a row in memory; a block takes well under a second to read.
BLOCK_ROWS_MAX = 5_000
# And where rows are long, of which one may have half a megabyte: the row that reaches it is the last.
BLOCK_BYTES_MAX = 16 * 1024 * 1024
# More exchanges than this under one id of Anthropic's are no answer to a question about one.
FOUND_ROWS_MAX = 20
# A usage has an entry or two for each book that priced it.
ENTRIES_MAX = 1_000
MISSING_ROWS_MAX = 1_000
KEYS_SHOWN_MAX = 5

# What of a row has no length of its own.
_LONG = "usage_json, metadata, tags, cost_lines, cost_lines_json"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_USAGE = f"SELECT {USAGE_COLUMNS} FROM tollhouse_raw.usage FINAL"
# Of an hour the next rows by id, as many as fit; the last column says how many there were before they had to.
_BLOCK = f"""
SELECT {USAGE_COLUMNS}, page_rows
FROM
(
    SELECT
        *,
        count() OVER () AS page_rows,
        sum(byteSize({_LONG})) OVER (ORDER BY request_id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
            - byteSize({_LONG}) AS bytes_before
    FROM
    (
        SELECT {", ".join(USAGE.names)}
        FROM tollhouse_raw.usage FINAL
        WHERE toStartOfHour(started_at) = toDateTime({{{{hour:UInt32}}}}, 'UTC') AND {{where}}
            AND request_id > toUUID({{{{after:String}}}})
        ORDER BY request_id
        LIMIT {{{{rows_max:UInt32}}}}
    )
)
WHERE bytes_before < {{{{bytes_max:UInt64}}}}
ORDER BY request_id
"""
_SETTINGS = "SETTINGS do_not_merge_across_partitions_select_final = 1"
_ZERO_ID = "00000000-0000-0000-0000-000000000000"
_MODEL = "if(model_served = '', model_requested, model_served)"
_WITHIN = (
    "started_at >= fromUnixTimestamp64Milli({since:Int64}) "
    "AND started_at < fromUnixTimestamp64Milli({until:Int64})"
)
UNREAD = "no usage was read"
# `model/dimension` names the model whose price is missing; a bare dimension is of the exchange's own.
_MISSING = f"""
SELECT
    multiIf(what LIKE '%/%', replaceRegexpOne(what, '/[^/]*$', ''), is_message, exchange_model, '') AS model,
    multiIf(
        what != '', replaceRegexpOne(what, '^.*/', ''),
        is_message, '{UNREAD}',
        concat('endpoint ', path)
    ) AS dimension,
    count() AS exchanges, uniqExact(key), arraySort(groupUniqArray({KEYS_SHOWN_MAX})(key)),
    toUnixTimestamp64Milli(min(at)), toUnixTimestamp64Milli(max(at))
FROM
(
    SELECT
        {_MODEL} AS exchange_model,
        operation IN ('messages', 'batch_item') AS is_message,
        endpoint AS path,
        arrayJoin(if(empty(unpriced_dimensions), [''], unpriced_dimensions)) AS what,
        virtual_key_id AS key,
        started_at AS at
    FROM tollhouse.usage
    WHERE {_WITHIN} AND cost_status IN ('partial', 'unpriced')
)
GROUP BY model, dimension
ORDER BY exchanges DESC, model, dimension
LIMIT {MISSING_ROWS_MAX}
"""


class Queries(Protocol):
    """What is needed of ClickHouse; the real one is `services.runtime.clickhouse.ClickHouse`."""

    async def rows(
        self, sql: str, parameters: Mapping[str, str | int] | None = None
    ) -> Sequence[Sequence[object]]:
        """Run one query and give all of its rows."""
        ...


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which usage to read: from one moment up to another, of one key, of models whose name fits a pattern.

    In the pattern `*` stands for any text and `?` for one character; "" is every key, every model.
    """

    since: datetime
    until: datetime
    virtual_key_id: str = ""
    model: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the ledger's view: what a book charged, or the reversal of that."""

    entry: str
    booked_at: datetime
    book_seq: int
    price_book: str
    amount_usd: Decimal | None
    cost_status: str


class StoredBook(NamedTuple):
    """An edition of the price book as it was published."""

    label: str
    content: str


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What was used and has no price: a dimension of a model, or everything of it.

    `dimension` is UNREAD where nobody knows what was used: no price could help.
    """

    model: str
    dimension: str
    exchanges: int
    keys: int
    examples: tuple[str, ...]
    first_seen: datetime
    last_seen: datetime


async def stored(
    clickhouse: Queries,
    selection: Selection,
    block_rows_max: int = BLOCK_ROWS_MAX,
    block_bytes_max: int = BLOCK_BYTES_MAX,
) -> AsyncIterator[list[RatedUsage]]:
    """Give what is stored, hour by hour and in blocks of a bounded number of rows and bytes."""
    parameters = _parameters(selection)
    limits = {"rows_max": block_rows_max, "bytes_max": block_bytes_max}
    where = f"{_WITHIN}{_conditions(selection)}"
    hours = await clickhouse.rows(
        f"SELECT DISTINCT toUnixTimestamp(toStartOfHour(started_at)) AS hour FROM tollhouse_raw.usage "
        f"WHERE {where} ORDER BY hour",
        parameters,
    )
    for (hour,) in hours:
        after = _ZERO_ID
        while True:
            rows = await clickhouse.rows(
                _BLOCK.format(where=where) + _SETTINGS,
                {**parameters, **limits, "hour": int(str(hour)), "after": after},
            )
            if rows:
                yield [rated_of(row[:-1]) for row in rows]
            page_rows = int(str(rows[-1][-1])) if rows else 0
            if len(rows) == page_rows < block_rows_max:
                break
            after = str(rows[-1][0])


async def found(clickhouse: Queries, text: str) -> list[RatedUsage]:
    """Find usage by our request id, Anthropic's request id or the message's id."""
    for column, kind in (("request_id", "UUID"), ("upstream_request_id", "String"), ("message_id", "String")):
        if kind == "UUID" and not _is_uuid(text):
            continue
        rows = await clickhouse.rows(
            f"{_USAGE} WHERE {column} = {{id:{kind}}} ORDER BY started_at LIMIT {FOUND_ROWS_MAX} {_SETTINGS}",
            {"id": text},
        )
        if rows:
            return [rated_of(row) for row in rows]
    return []


async def ledger_of(clickhouse: Queries, request_id: RequestId) -> list[Entry]:
    """Give what the ledger says of one usage, in the order in which it was booked."""
    rows = await clickhouse.rows(
        "SELECT entry, toUnixTimestamp64Milli(booked_at), book_seq, price_book, amount_usd, cost_status "
        "FROM tollhouse.cost_ledger WHERE request_id = {id:UUID} "
        f"ORDER BY booked_at, row_version, entry LIMIT {ENTRIES_MAX}",
        {"id": request_id},
    )
    return [
        msgspec.convert(dict(zip(Entry.__struct_fields__, (entry, _moment(at), *rest), strict=True)), Entry)
        for entry, at, *rest in rows
    ]


async def book_of(clickhouse: Queries, book_seq: int, book_hash: str) -> StoredBook | None:
    """Give the price book with that number and content, None where it never came here."""
    rows = await clickhouse.rows(
        "SELECT label, content FROM tollhouse.price_books "
        "WHERE book_seq = {seq:UInt64} AND book_hash = {hash:String} ORDER BY published_at LIMIT 1",
        {"seq": book_seq, "hash": book_hash},
    )
    return StoredBook(str(rows[0][0]), str(rows[0][1])) if rows else None


async def missing(clickhouse: Queries, since: datetime, until: datetime) -> list[Missing]:
    """Give what has no price, the most frequent first; at most MISSING_ROWS_MAX of them."""
    rows = await clickhouse.rows(_MISSING, _bounds(since, until))
    return [
        msgspec.convert(
            dict(zip(Missing.__struct_fields__, (*counts, _moment(first), _moment(last)), strict=True)),
            Missing,
        )
        for *counts, first, last in rows
    ]


def _conditions(selection: Selection) -> str:
    key = " AND virtual_key_id = {key:String}" if selection.virtual_key_id else ""
    model = f" AND {_MODEL} LIKE {{model:String}}" if selection.model else ""
    return key + model


def _parameters(selection: Selection) -> dict[str, str | int]:
    parameters = _bounds(selection.since, selection.until)
    if selection.virtual_key_id:
        parameters["key"] = selection.virtual_key_id
    if selection.model:
        parameters["model"] = _like(selection.model)
    return parameters


def _like(pattern: str) -> str:
    """Write a pattern of `*` and `?` as LIKE has it; what else would mean something there is escaped."""
    escaped = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def _bounds(since: datetime, until: datetime) -> dict[str, str | int]:
    return {"since": _millis(since), "until": _millis(until)}


def _millis(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _moment(millis: object) -> datetime:
    return _EPOCH + timedelta(milliseconds=int(str(millis)))


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
