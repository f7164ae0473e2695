"""Puts a sink process together: ClickHouse's client, the stage, its place in the group."""

import asyncio

from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.consumer import ConsumerConfig
from services.runtime.consumer_service import run_consumer
from services.runtime.kafka import KafkaConfig
from services.sink.config import SinkConfig
from services.sink.handler import SinkStage
from services.sink.hourly import HourlyRebuilder
from services.sink.store import BlockStore


async def run_sink(
    config: SinkConfig, clickhouse: ClickHouseConfig, kafka: KafkaConfig, stopping: asyncio.Event
) -> None:
    """Store events until `stopping` is set."""
    consumer = ConsumerConfig(
        group_id=config.group_id,
        group_instance_id=config.group_instance_id,
        batch_records_max=config.block_rows_max,
        batch_wait_ms_max=config.block_wait_ms_max,
    )
    async with ClickHouse(clickhouse) as client:
        store = BlockStore(client, config.retry_wait_ms_max)
        hourly = HourlyRebuilder(client, config.hourly_every_s)
        stage = SinkStage(store, hourly.own)
        address = (config.host, config.port)
        async with asyncio.TaskGroup() as group:
            rebuilding = group.create_task(hourly.run())
            await run_consumer(stage, consumer, kafka, address, stopping, lambda: store.is_available)
            rebuilding.cancel()
