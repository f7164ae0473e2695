"""usage_hourly equals what usage says, whatever came in which order, and wherever a rebuild ended."""

import asyncio
import os
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from schemas import topics
from schemas.attribution import Attribution
from schemas.ids import VirtualKeyId
from services.runtime.clickhouse import ClickHouse, StoreUnavailable
from services.sink.handler import SinkStage
from services.sink.hourly import HourlyRebuilder, clean, rebuild
from services.sink.store import BlockStore
from tests.unit.sink import events

RUN_S_MAX = 60
SEED = int(os.environ.get("SEED", random.randrange(10**9)))
DIMENSIONS = "virtual_key_id, team_id, model, operation, outcome, service_tier"
SUMS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "thinking_tokens")
HOURLY = f"""
SELECT hour, {DIMENSIONS}, requests, unpriced, partly_priced, not_final, {", ".join(SUMS)}, cost_usd,
    finalizeAggregation(ttfb_ms_state), finalizeAggregation(end_users_state)
FROM tollhouse.usage_hourly ORDER BY ALL
"""
DIRECT = f"""
SELECT toStartOfHour(started_at) AS hour, virtual_key_id, team_id,
    if(model_served = '', model_requested, model_served) AS model, operation, outcome, service_tier,
    count(), countIf(cost_status = 'unpriced'), countIf(cost_status = 'partial'),
    countIf(usage_status != 'final'),
    {", ".join(f"sum({name})" for name in SUMS)}, sum(cost_usd),
    quantilesTDigest(0.5, 0.9, 0.99)(ttfb_ms), uniqIf(end_user_id, end_user_id != '')
FROM tollhouse.usage GROUP BY hour, {DIMENSIONS} ORDER BY ALL
"""


class Killed(Exception):
    """The process ended here."""


class Mortal:
    """A ClickHouse client whose process dies before, or behind, one of its statements."""

    def __init__(self, clickhouse, statements, lands):
        self._clickhouse = clickhouse
        self._left = statements
        self._lands = lands

    async def command(self, sql):
        await self._run(self._clickhouse.command(sql))

    async def rows(self, sql, parameters=None):
        return await self._run(self._clickhouse.rows(sql, parameters))

    async def _run(self, work):
        self._left -= 1
        if self._left >= 0:
            return await work
        if self._lands and self._left == -1:
            await work
        else:
            work.close()
        raise Killed


def run(config, probe):
    async def connected():
        async with ClickHouse(config) as clickhouse:
            return await probe(clickhouse)

    return asyncio.run(asyncio.wait_for(connected(), RUN_S_MAX))


def rated(chance, begin, request_id, version):
    """Make one of few keys, models and outcomes, in one of three hours; its later versions in the same."""
    own = random.Random(request_id)
    status = chance.choice(["priced", "unpriced", "partial", "zero"])
    usage = events.usage_recorded(
        request_id=request_id,
        started_at=begin + timedelta(minutes=own.randrange(180)),
        attribution=Attribution(
            virtual_key_id=VirtualKeyId(own.choice(["vk_1", "vk_2"])),
            end_user_id=own.choice(["", "a", "b", "c"]),
        ),
        model_served=own.choice(["claude-opus-5", ""]),
        outcome=chance.choice(["completed", "client_gone"]),
        usage_status=chance.choice(["final", "estimated"]),
        ttfb_ms=own.randrange(1000),
    )
    cost = Decimal(0) if status == "unpriced" else Decimal(chance.randrange(1, 10**9)).scaleb(-18)
    return events.rated_usage(
        usage, cost_status=status, cost_usd=cost, row_version=(1 << 32) + version, book_seq=version
    )


async def agreed(clickhouse):
    hourly, direct = await clickhouse.rows(HOURLY), await clickhouse.rows(DIRECT)
    assert [tuple(row) for row in hourly] == [tuple(row) for row in direct]
    return len(direct)


def test_any_history_comes_to_what_usage_says(migrated):
    """Inserts, replays, other prices and late rows, with a rebuild now and then of which some are killed."""
    print(f"SEED={SEED}")
    chance = random.Random(SEED)
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=40)

    async def probe(clickhouse):
        stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
        known = []
        for turn in range(8):
            known += [events.new_id() for _ in range(20)]
            again = chance.sample(known, 10)
            chosen = [*known[-20:], *again]
            versions = [rated(chance, begin, request_id, turn) for request_id in chosen]
            # One version of a row has one content.
            unique = {each.usage.request_id: each for each in versions}
            await stage.process([events.record_of(each) for each in unique.values()])
            try:
                await rebuild(Mortal(clickhouse, chance.randrange(10), chance.random() < 0.5))
            except Killed:
                continue
            await agreed(clickhouse)
        await rebuild(clickhouse)
        assert await agreed(clickhouse) > 10

    run(migrated, probe)


@pytest.mark.parametrize("lands", [False, True])
def test_a_rebuild_that_ends_at_any_step_leaves_what_was_read_and_is_done_by_the_next(migrated, lands):
    begin = datetime(2026, 11, 20, tzinfo=UTC)
    chance = random.Random(7)

    async def probe(clickhouse):
        stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
        first = [rated(chance, begin, events.new_id(), 1) for _ in range(30)]
        await stage.process([events.record_of(each) for each in first])
        assert await rebuild(clickhouse) == 3
        before = [tuple(row) for row in await clickhouse.rows(HOURLY)]
        for steps in range(6):
            late = rated(chance, begin, first[0].usage.request_id, steps + 2)
            await stage.process([events.record_of(late)])
            with pytest.raises(Killed):
                await rebuild(Mortal(clickhouse, steps, lands))
            after = [tuple(row) for row in await clickhouse.rows(HOURLY)]
            # Reading, or writing rows that no pointer names, changes nothing; a pointer changes all at once.
            if steps < 4 or (steps == 4 and not lands):
                assert after == before
            else:
                await agreed(clickhouse)
            before = after
        await rebuild(clickhouse)
        await agreed(clickhouse)

    run(migrated, probe)


def test_two_who_rebuild_at_once_are_one(migrated):
    begin = datetime(2026, 11, 20, tzinfo=UTC)
    chance = random.Random(8)

    async def probe(clickhouse):
        stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
        for _ in range(4):
            batch = [rated(chance, begin, events.new_id(), 1) for _ in range(20)]
            await asyncio.gather(
                stage.process([events.record_of(each) for each in batch]),
                rebuild(clickhouse),
                rebuild(clickhouse),
            )
            await asyncio.gather(rebuild(clickhouse), rebuild(clickhouse), rebuild(clickhouse))
            await agreed(clickhouse)

    run(migrated, probe)


def test_hours_without_news_are_left_alone_and_emptied_ones_are_empty(migrated):
    records = [events.record_of(events.rated_usage())]

    async def probe(clickhouse):
        stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
        assert await rebuild(clickhouse) == 0
        await stage.process(records)
        assert await rebuild(clickhouse) == 1
        old = (
            "ALTER TABLE tollhouse_raw.usage UPDATE ingested_at = ingested_at - INTERVAL 11 MINUTE WHERE true"
        )
        await clickhouse.command(f"{old} SETTINGS mutations_sync = 1")
        assert await rebuild(clickhouse) == 0
        assert await agreed(clickhouse) == 1

    run(migrated, probe)


def test_superseded_generations_are_deleted_after_an_hour_and_the_one_that_is_read_never(migrated):
    async def probe(clickhouse):
        stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
        await stage.process([events.record_of(events.rated_usage())])
        for _ in range(3):
            await rebuild(clickhouse)
        await clean(clickhouse)  # all of them are young
        count = "SELECT count() FROM tollhouse_raw.usage_hourly"
        assert await clickhouse.rows(count) == [(3,)]
        for table in ("usage_hourly", "usage_hourly_generations"):
            await clickhouse.command(f"CREATE OR REPLACE TABLE tollhouse_raw.old AS tollhouse_raw.{table}")
            await clickhouse.command(
                f"INSERT INTO tollhouse_raw.old SELECT * REPLACE (generation - 3700000000 AS generation) "
                f"FROM tollhouse_raw.{table}"
            )
            await clickhouse.command(f"EXCHANGE TABLES tollhouse_raw.old AND tollhouse_raw.{table}")
            await clickhouse.command("DROP TABLE tollhouse_raw.old SYNC")
        await clean(clickhouse)
        assert await clickhouse.rows(count) == [(1,)]
        assert await agreed(clickhouse) == 1

    run(migrated, probe)


def test_the_owner_of_the_first_partition_rebuilds_and_nobody_else(migrated):
    async def probe(clickhouse):
        rebuilt = asyncio.Event()

        class Watched:
            asked = 0

            async def command(self, sql):
                await clickhouse.command(sql)

            async def rows(self, sql, parameters=None):
                self.asked += 1
                if self.asked == 1:
                    raise StoreUnavailable("TOO_MANY_PARTS (code 252)", 252)  # the next turn does it
                found = await clickhouse.rows(sql, parameters)
                if "DISTINCT" in sql:
                    rebuilt.set()
                return found

        watched = Watched()
        hourly = HourlyRebuilder(watched, every_s=0.01)
        stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50), hourly.own)
        running = asyncio.create_task(hourly.run())
        stage.assigned(frozenset({(topics.RATED, 1), (topics.USAGE, 0)}))
        await clickhouse.rows("SELECT 1")
        assert watched.asked == 0
        stage.assigned(frozenset({(topics.RATED, 0)}))
        await rebuilt.wait()
        await stage.revoked()
        running.cancel()

    run(migrated, probe)
