"""Rebuilds usage_hourly: the hours that rows came into, whole and in the background; never adds to one.

Each step may be the last: what was begun is not read, and the next rebuild does it again. Two who rebuild
at once are harmless, see schemas/clickhouse/0009_usage_hourly.sql.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from services.runtime import metrics
from services.runtime.clickhouse import StoreError

log = structlog.get_logger(__name__)

# A row's ingested_at is taken when its insert begins; no insert is given as long to become visible.
OVERLAP_US = 10 * 60 * 1_000_000
# Read by one statement; an hour at 500 exchanges a second is 1.8 million rows.
HOURS_PER_STATEMENT_MAX = 6
# A generation older than this may not become the one that is read: its rows may be deleted soon.
POINTER_US_MAX = 30 * 60 * 1_000_000
CLEAN_EVERY_S = 3_600
SUPERSEDED_US_MAX = CLEAN_EVERY_S * 1_000_000
assert POINTER_US_MAX < SUPERSEDED_US_MAX

_NOW_US = "toUInt64(toUnixTimestamp64Micro(now64(6)))"
_DIRTY = """
SELECT DISTINCT toUnixTimestamp(toStartOfHour(started_at)) AS hour
FROM tollhouse_raw.usage
WHERE ingested_at >= fromUnixTimestamp64Micro({since:Int64})
ORDER BY hour
"""
_REBUILD = """
INSERT INTO tollhouse_raw.usage_hourly
SELECT
    toStartOfHour(started_at) AS hour,
    {generation} AS generation,
    virtual_key_id, team_id, if(model_served = '', model_requested, model_served) AS model,
    operation, outcome, service_tier,
    count(), countIf(cost_status = 'unpriced'), countIf(cost_status = 'partial'),
    countIf(usage_status != 'final'),
    sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
    sum(cache_write_5m_tokens), sum(cache_write_1h_tokens),
    sum(thinking_tokens), sum(web_search_requests), sum(web_fetch_requests),
    sumIf(cost_usd, cost_status != 'unpriced'),
    quantilesTDigestState(0.5, 0.9, 0.99)(ttfb_ms), quantilesTDigestState(0.5, 0.9, 0.99)(duration_ms),
    uniqStateIf(end_user_id, end_user_id != '')
FROM tollhouse_raw.usage FINAL
WHERE toStartOfHour(started_at) IN ({hours})
GROUP BY ALL
SETTINGS do_not_merge_across_partitions_select_final = 1, insert_deduplication_token = '{generation}-{first}'
"""
_POINT = f"""
INSERT INTO tollhouse_raw.usage_hourly_generations (hour, generation)
SELECT arrayJoin([{{hours}}]), {{generation}} WHERE {_NOW_US} < {{generation}} + {POINTER_US_MAX}
"""
_NOTE = "INSERT INTO tollhouse_raw.usage_hourly_rebuilds (generation, hours) VALUES ({generation}, {hours})"
_CLEAN = f"""
DELETE FROM tollhouse_raw.usage_hourly
WHERE generation < {_NOW_US} - {SUPERSEDED_US_MAX} AND (hour, generation) NOT IN
(SELECT hour, max(generation) FROM tollhouse_raw.usage_hourly_generations GROUP BY hour)
"""


class Statements(Protocol):
    """What is needed of ClickHouse; the real one is `services.runtime.clickhouse.ClickHouse`."""

    async def command(self, sql: str) -> None:
        """Run one statement that answers with no rows."""
        ...

    async def rows(
        self, sql: str, parameters: Mapping[str, str | int] | None = None
    ) -> Sequence[Sequence[object]]:
        """Run one query and give all of its rows."""
        ...


class HourlyRebuilder:
    """Rebuilds for as long as it is told that this process is the one to do it."""

    def __init__(self, clickhouse: Statements, every_s: float) -> None:
        self._clickhouse = clickhouse
        self._every_s = every_s
        self._is_owner = asyncio.Event()

    def own(self, is_owner: bool) -> None:
        """Be the one who rebuilds, or no longer; a rebuild that is under way comes to its end."""
        if is_owner:
            self._is_owner.set()
        else:
            self._is_owner.clear()

    async def run(self) -> None:
        """Rebuild until cancelled; where ClickHouse is in trouble, with the next turn."""
        loop = asyncio.get_running_loop()
        cleaned_at = loop.time()
        while True:
            await self._is_owner.wait()
            try:
                await rebuild(self._clickhouse)
                if loop.time() - cleaned_at >= CLEAN_EVERY_S:
                    await clean(self._clickhouse)
                    cleaned_at = loop.time()
            except StoreError as exc:
                log.warning("sink.hourly_not_rebuilt", error=str(exc), code=exc.code)
            await asyncio.sleep(self._every_s)


async def rebuild(clickhouse: Statements) -> int:
    """Rebuild every hour that rows came into since the last rebuild, and give their number."""
    generation = await _number(clickhouse, f"SELECT {_NOW_US}")
    last = await _number(clickhouse, "SELECT max(generation) FROM tollhouse_raw.usage_hourly_rebuilds")
    since = max(0, last - OVERLAP_US)
    hours = [int(str(row[0])) for row in await clickhouse.rows(_DIRTY, {"since": since})]
    for start in range(0, len(hours), HOURS_PER_STATEMENT_MAX):
        part = hours[start : start + HOURS_PER_STATEMENT_MAX]
        listed = ", ".join(f"toDateTime({hour}, 'UTC')" for hour in part)
        await clickhouse.command(_REBUILD.format(generation=generation, hours=listed, first=part[0]))
        await clickhouse.command(_POINT.format(generation=generation, hours=listed))
    if hours:
        await clickhouse.command(_NOTE.format(generation=generation, hours=len(hours)))
    metrics.sink_hourly_hours.inc(len(hours))
    metrics.sink_hourly_rebuilt_at.set(generation / 1e6)
    return len(hours)


async def clean(clickhouse: Statements) -> None:
    """Delete generations that were superseded, or never came to be read, an hour ago."""
    await clickhouse.command(_CLEAN)


async def _number(clickhouse: Statements, sql: str) -> int:
    return int(str((await clickhouse.rows(sql))[0][0]))
