"""`tollhouse replay`: what the log says is rebuilt beside usage, what differs is told, no row is lost."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
from click.testing import CliRunner

from services.cli import main
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.records import OutgoingRecord
from services.sink import shadow
from services.sink.handler import SinkStage
from services.sink.store import BlockStore
from tests.integration.sink.test_pricing_commands import Stores
from tests.integration.sink.test_pricing_commands import stores as stores
from tests.unit.sink import events

FOREIGN = ("KAFKA_", "CLICKHOUSE_", "ANTHROPIC_", "TOLLHOUSE_", "LITELLM_")
TOTALS = "SELECT count(), sum(cost_usd) FROM tollhouse.usage"


def replayed(stores, *arguments):
    environ = {
        "CLICKHOUSE_URL": stores.clickhouse.url,
        "KAFKA_BOOTSTRAP_SERVERS": stores.kafka.bootstrap_servers,
    }
    clean = {name: None for name in os.environ if name.startswith(FOREIGN)}
    command = ("replay", "--from", "2026-01-01", "--into", "shadow", *arguments)
    result = CliRunner().invoke(main, command, env={**clean, **environ})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def in_clickhouse(stores, *statements):
    async def run():
        async with ClickHouse(stores.clickhouse) as clickhouse:
            for statement in statements[:-1]:
                await clickhouse.command(statement)
            return [tuple(row) for row in await clickhouse.rows(statements[-1])]

    return asyncio.run(run())


def published(stores, *rated):
    async def run():
        publisher = Publisher(stores.kafka)
        records = [events.record_of(each) for each in rated]
        try:
            await publisher.publish(
                [OutgoingRecord(each.topic, each.key, each.value, ()) for each in records]
            )
        finally:
            await publisher.close()

    asyncio.run(run())


def stored(stores, *rated):
    async def run():
        async with ClickHouse(stores.clickhouse) as clickhouse:
            stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
            await stage.process([events.record_of(each) for each in rated])

    asyncio.run(run())


def usage(cost="1", **changes):
    began = changes.pop("started_at", datetime.now(UTC))
    fact = events.usage_recorded(request_id=events.new_id(), started_at=began, **changes)
    return events.rated_usage(fact, cost_usd=Decimal(cost))


def test_usage_that_is_as_the_log_has_it_differs_in_nothing(stores):
    rated = [usage() for _ in range(30)]
    published(stores, *rated, *rated[:5])
    stored(stores, *rated)
    for _ in range(2):  # and again, over what the first left
        result = replayed(stores)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines()[0].endswith(": 35 rows, 0 unusable")
        assert result.stdout.splitlines()[1:] == ["usage and its shadow say the same"]
    assert in_clickhouse(stores, TOTALS) == [(30, Decimal(30))]
    assert in_clickhouse(stores, "SELECT count() FROM tollhouse_raw.usage_shadow FINAL") == [(30,)]


def test_what_differs_is_told_by_day_model_and_key_and_a_swap_mends_it_without_losing_a_row(stores):
    good, lost, bent = usage("1"), usage("2"), usage("4")
    before = usage("8", started_at=datetime(2025, 12, 31, 23, 59, tzinfo=UTC))  # from before the range
    unlogged = usage("16")  # within it, and the log does not have it
    repriced = usage("32")
    dearer = msgspec.structs.replace(
        repriced, cost_usd=Decimal(64), row_version=repriced.row_version + 1, book_seq=13
    )
    published(stores, good, lost, bent, repriced)
    stored(stores, good, msgspec.structs.replace(bent, cost_usd=Decimal(5)), before, unlogged, dearer)
    count = in_clickhouse(stores, TOTALS)
    assert count == [(5, Decimal(1 + 5 + 8 + 16 + 64))]

    result = replayed(stores, "--json")
    report = json.loads(result.stdout)
    day = f"{good.usage.started_at:%Y-%m-%d}"
    assert report["differences"] == [
        {
            "day": day,
            "model": "claude-opus-5",
            "virtual_key_id": "vk_1",
            "only_here": 1,
            "only_there": 1,
            "different": 2,
            "cost_usd": report["differences"][0]["cost_usd"],
        }
    ]
    assert Decimal(report["differences"][0]["cost_usd"]) == 2 - 16 - 1 - 32
    assert in_clickhouse(stores, TOTALS) == count
    assert [report[name] for name in ("records", "rows", "unusable", "is_swapped")] == [4, 4, 0, False]

    assert replayed(stores, "--swap").exit_code == 2  # nobody can be asked
    result = replayed(stores, "--swap", "--yes")
    assert result.exit_code == 0, result.output
    # As the log has it, with the later price, and with what only usage had.
    assert in_clickhouse(stores, TOTALS) == [(6, Decimal(1 + 2 + 4 + 8 + 16 + 64))]
    kept = result.stderr.split("tollhouse_raw.")[-1].split(",")[0]
    assert in_clickhouse(stores, f"SELECT count() FROM tollhouse_raw.{kept} FINAL") == [(5,)]
    assert (
        in_clickhouse(
            stores,
            f"DROP TABLE tollhouse_raw.{kept} SYNC",
            "SELECT comment FROM system.tables WHERE name LIKE 'usage%' AND comment != ''",
        )
        == []
    )


def test_only_what_was_appended_between_the_times_is_read(stores):
    published(stores, usage(), usage())
    early = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%S}"
    result = replayed(stores, "--to", early, "--json")
    assert json.loads(result.stdout)["records"] == 0
    result = replayed(stores, "--to", "2025-12-31")
    assert (result.exit_code, result.stderr) == (2, "tollhouse: --from must lie before --to.\n")


def test_a_record_without_a_row_is_counted_and_the_rest_is_stored(stores):
    async def run():
        publisher = Publisher(stores.kafka)
        broken = events.broken("gateway.rated.v1")
        try:
            await publisher.publish([OutgoingRecord(broken.topic, b"vk_1", broken.value, ())])
        finally:
            await publisher.close()

    asyncio.run(run())
    published(stores, usage())
    assert replayed(stores).stdout.splitlines()[0].endswith(": 1 rows, 1 unusable")
    assert in_clickhouse(stores, "SELECT count() FROM tollhouse_raw.usage_shadow") == [(1,)]


def test_a_table_that_an_exchange_left_is_never_thrown_away(stores):
    result = replayed(stores)
    assert result.exit_code == 0
    in_clickhouse(stores, "EXCHANGE TABLES tollhouse_raw.usage AND tollhouse_raw.usage_shadow", "SELECT 1")
    result = replayed(stores)
    assert result.exit_code == 2
    assert "usage_shadow holds what an exchange put there" in result.stderr
    in_clickhouse(stores, "EXCHANGE TABLES tollhouse_raw.usage AND tollhouse_raw.usage_shadow", "SELECT 1")


def test_rows_that_come_during_the_exchange_are_carried_over(stores):
    published(stores, usage("1"))
    assert replayed(stores).exit_code == 0
    stored(stores, usage("2"))

    async def run():
        async with ClickHouse(stores.clickhouse) as clickhouse:
            stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
            async for step in shadow.exchange(clickhouse, datetime.now(UTC)):
                if step.startswith("exchanging"):  # copied already, and not yet exchanged
                    await stage.process([events.record_of(usage("4"))])

    asyncio.run(run())
    assert in_clickhouse(stores, TOTALS) == [(3, Decimal(7))]


def test_a_kafka_that_is_away_is_told_in_one_sentence(stores):
    moved = Stores(stores.clickhouse, KafkaConfig(bootstrap_servers="127.0.0.1:9"))
    result = replayed(moved)
    assert (result.exit_code, result.stderr.splitlines()) == (
        2,
        ["tollhouse: Kafka at 127.0.0.1:9 does not answer: KafkaConnectionError."],
    )
