"""Keeps a second usage table beside the first: fills it, holds the two against each other, exchanges them.

No row is lost by an exchange: what the shadow lacks is copied before, what came meanwhile behind it.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import msgspec

from services.runtime.clickhouse import ClickHouse
from services.runtime.errors import StartRefused
from services.runtime.records import ConsumedRecord
from services.sink.blocks import gather
from services.sink.store import BlockStore
from services.sink.tables import USAGE

NAME = "usage_shadow"
_SHADOW = USAGE._replace(name=NAME)
# Tells a shadow that may be thrown away from a table that an exchange has put in its place.
_MARK = "a shadow of usage, made by tollhouse replay"
DIFFERENCES_MAX = 1_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Whatever an analyst could see differ; the time of arrival is none of it.
_CONTENT = ", ".join(name for name, _ in USAGE.columns if name not in ("request_id", "started_at"))
_MODEL = "if(model_served = '', model_requested, model_served)"
# Of `usage`, only what must lie in the range: it was appended behind its beginning, and before it was stored.
_DIFFERENCES = f"""
SELECT
    toString(toDate(started_at)) AS day, model, virtual_key_id,
    countIf(has_here AND NOT has_there) AS only_here,
    countIf(has_there AND NOT has_here) AS only_there,
    countIf(has_here AND has_there AND here != there) AS different,
    sum(cost_there - cost_here) AS cost_usd
FROM
(
    SELECT
        started_at, request_id,
        max(side = 'here') AS has_here, max(side = 'there') AS has_there,
        anyIf(content, side = 'here') AS here, anyIf(content, side = 'there') AS there,
        sumIf(cost, side = 'here') AS cost_here, sumIf(cost, side = 'there') AS cost_there,
        max(is_within) AS counts, anyLast(name) AS model, anyLast(key) AS virtual_key_id
    FROM
    (
        SELECT 'here' AS side, started_at, request_id, sipHash128({_CONTENT}) AS content, cost_usd AS cost,
            started_at >= {{since}} AND ingested_at < {{until}} AS is_within, {_MODEL} AS name,
            virtual_key_id AS key
        FROM tollhouse_raw.usage FINAL
        WHERE started_at >= {{oldest}}
        UNION ALL
        SELECT 'there', started_at, request_id, sipHash128({_CONTENT}), cost_usd, true, {_MODEL},
            virtual_key_id
        FROM tollhouse_raw.{NAME} FINAL
    )
    GROUP BY started_at, request_id
    HAVING counts AND (NOT has_here OR NOT has_there OR here != there)
)
GROUP BY day, model, virtual_key_id
ORDER BY day, model, virtual_key_id
LIMIT {DIFFERENCES_MAX + 1}
SETTINGS do_not_merge_across_partitions_select_final = 1
"""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How one day's rows of a model and key differ: here is usage, there the shadow; cost is the rise."""

    day: str
    model: str
    virtual_key_id: str
    only_here: int
    only_there: int
    different: int
    cost_usd: Decimal


class Filled(NamedTuple):
    """What a block of records came to: rows that were stored, and records that have none."""

    rows: int
    unusable: int


async def begin(clickhouse: ClickHouse) -> None:
    """Make an empty shadow; what an earlier replay left is thrown away, what is no shadow is refused."""
    found = await clickhouse.rows(
        f"SELECT comment FROM system.tables WHERE database = 'tollhouse_raw' AND name = '{NAME}'"
    )
    if found and found[0][0] != _MARK:
        raise StartRefused(
            f"tollhouse_raw.{NAME} holds what an exchange put there, and maybe rows that usage lacks: "
            "look at it, then rename or drop it."
        )
    await clickhouse.command(f"DROP TABLE IF EXISTS tollhouse_raw.{NAME} SYNC")
    await clickhouse.command(f"CREATE TABLE tollhouse_raw.{NAME} AS tollhouse_raw.usage")
    await clickhouse.command(f"ALTER TABLE tollhouse_raw.{NAME} MODIFY COMMENT '{_MARK}'")


async def fill(store: BlockStore, records: Sequence[ConsumedRecord]) -> Filled:
    """Store rated usage in the shadow, exactly as the sink would in usage."""
    gathered = gather(records)
    rows, unusable = 0, len(gathered.dead)
    for block in gathered.blocks:
        if block.table == USAGE:
            refused = await store.store(block._replace(table=_SHADOW))
            unusable += len(refused)
            rows += len(block.records) - len(refused)
    return Filled(rows, unusable)


async def differences(clickhouse: ClickHouse, since: datetime, until: datetime) -> list[Difference]:
    """Say by day, model and key where the two differ; rows from outside of the range count as alike."""
    oldest = await clickhouse.rows(
        f"SELECT toUnixTimestamp64Milli(min(started_at)) FROM tollhouse_raw.{NAME}"
    )
    first = min(_millis(since), int(str(oldest[0][0])) or _millis(since))
    rows = await clickhouse.rows(
        _DIFFERENCES.format(since=_sql(_millis(since)), until=_sql(_millis(until)), oldest=_sql(first))
    )
    names = Difference.__struct_fields__
    return [msgspec.convert(dict(zip(names, row, strict=True)), Difference) for row in rows]


async def exchange(clickhouse: ClickHouse, now: datetime) -> AsyncIterator[str]:
    """Put the shadow in usage's place, and say each step before it is done."""
    kept = f"usage_replaced_{now:%Y%m%dT%H%M%S}"
    yield "copying what only usage has into the shadow"
    await _copy(clickhouse, "usage", NAME)
    yield "exchanging the two"
    await clickhouse.command(f"EXCHANGE TABLES tollhouse_raw.usage AND tollhouse_raw.{NAME}")
    await clickhouse.command("ALTER TABLE tollhouse_raw.usage MODIFY COMMENT ''")
    yield "copying what came meanwhile"
    await _copy(clickhouse, NAME, "usage")
    yield f"keeping what was usage as tollhouse_raw.{kept}, until you drop it"
    await clickhouse.command(f"RENAME TABLE tollhouse_raw.{NAME} TO tollhouse_raw.{kept}")


async def _copy(clickhouse: ClickHouse, source: str, target: str) -> None:
    """Copy, day by day, versions that the target does not have; it shows the highest of each row."""
    days = await clickhouse.rows(
        f"SELECT DISTINCT toUnixTimestamp(toStartOfDay(started_at)) AS day FROM tollhouse_raw.{source} "
        "ORDER BY day"
    )
    for (day,) in days:
        first = int(str(day)) * 1000
        within = f"started_at >= {_sql(first)} AND started_at < {_sql(first + 86_400_000)}"
        await clickhouse.command(
            f"INSERT INTO tollhouse_raw.{target} SELECT * FROM tollhouse_raw.{source} FINAL WHERE {within} "
            "AND (request_id, row_version) NOT IN "
            f"(SELECT request_id, row_version FROM tollhouse_raw.{target} WHERE {within}) "
            "SETTINGS insert_deduplicate = 0"
        )


def _sql(millis: int) -> str:
    return f"fromUnixTimestamp64Milli({millis}, 'UTC')"


def _millis(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)
