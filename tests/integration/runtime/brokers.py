"""Starts brokers for tests: in this event loop, or as a process of their own."""

import asyncio
import contextlib

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.local.kafka.broker import BrokerSettings
from services.local.kafka.server import KafkaServer

START_S_MAX = 15


@contextlib.asynccontextmanager
async def broker(data_dir, **options):
    """Run a broker in this event loop and give its address."""
    retention_interval_s = options.pop("retention_interval_s", 30.0)
    server = KafkaServer(BrokerSettings(data_dir=data_dir, **options), retention_interval_s)
    await server.start("127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.address)
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def admin(address):
    """Give an admin client."""
    client = AIOKafkaAdminClient(bootstrap_servers=address)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create_topic(address, name, partitions=1, **configs):
    """Create a topic; configuration names are written with underscores."""
    settings = {key.replace("_", "."): str(value) for key, value in configs.items()}
    async with admin(address) as client:
        answer = await client.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
    assert [error[1] for error in answer.topic_errors] == [0], answer


@contextlib.asynccontextmanager
async def producer(address, **options):
    """Give a producer."""
    options.setdefault("request_timeout_ms", 5_000)
    client = AIOKafkaProducer(bootstrap_servers=address, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@contextlib.asynccontextmanager
async def consumer(address, *topics, **options):
    """Give a consumer that reads from the start."""
    options.setdefault("auto_offset_reset", "earliest")
    client = AIOKafkaConsumer(*topics, bootstrap_servers=address, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def take(client, count, timeout_s=10):
    """Read `count` records."""
    found = []
    async with asyncio.timeout(timeout_s):
        while len(found) < count:
            for records in (await client.getmany(timeout_ms=100)).values():
                found += records
    return found


async def until(condition, timeout_s=10):
    """Wait until `condition()` holds; for what clients do in the background and tell nobody."""

    async def holds():
        return condition()

    await until_true(holds, timeout_s)


async def until_true(condition, timeout_s=10):
    """Wait until `await condition()` holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - neither clients nor files set an event
            await asyncio.sleep(0.02)
