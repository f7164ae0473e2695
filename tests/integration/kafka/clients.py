"""Clients and small readings for tests on a broker; every wait has a time-out."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.structs import ConsumerRecord

SERVERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")

TEST_S_MAX = 40.0
READ_S_MAX = 15.0
POLL_S = 0.02
SESSION_MS_MIN = 6_000  # group.min.session.timeout.ms of a broker that nobody configured otherwise


def local_differs(reason: str) -> pytest.MarkDecorator:
    """Mark what the local stand-in is known to do otherwise than Apache Kafka, which is right."""
    return pytest.mark.xfail(not SERVERS, reason=reason, strict=True)


def run(test: Coroutine[Any, Any, None], seconds_max: float = TEST_S_MAX) -> None:
    """Run one test; a wait that never ends is a failure of that test alone."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds_max):
            await test

    asyncio.run(bounded())


@contextlib.asynccontextmanager
async def an_admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=10_000)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@contextlib.asynccontextmanager
async def a_producer(bootstrap: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, **{"acks": "all", "request_timeout_ms": 10_000, **options}
    )
    await producer.start()
    try:
        yield producer
    finally:
        with contextlib.suppress(TimeoutError):  # a fenced producer may not come to an end
            await asyncio.wait_for(producer.stop(), 5)


@contextlib.asynccontextmanager
async def a_consumer(bootstrap: str, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that reads from the start and commits nothing by itself."""
    listener = options.pop("listener", None)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        **{"auto_offset_reset": "earliest", "enable_auto_commit": False, **options},
    )
    if topics:
        consumer.subscribe(topics, listener=listener)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@contextlib.asynccontextmanager
async def a_client(bootstrap: str) -> AsyncIterator[AIOKafkaClient]:
    """The layer below: sends single requests, for what no client asks on request."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        yield client
    finally:
        await client.close()


async def create(
    bootstrap: str, topic: str, partitions: int = 1, replicas: int = 1, **configs: object
) -> None:
    """Create a topic, wait until it is led; settings are written with underscores."""
    settings = {name.replace("_", "."): str(value) for name, value in configs.items()}
    async with an_admin(bootstrap) as admin:
        reply = await admin.create_topics([NewTopic(topic, partitions, replicas, topic_configs=settings)])
        assert [error[1] for error in reply.topic_errors] == [0], reply
        await until_true(lambda: _is_led(admin, topic, partitions))


async def _is_led(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> bool:
    (found,) = await admin.describe_topics([topic])
    leaders = [part["leader"] for part in found["partitions"]]
    return len(leaders) == partitions and min(leaders) >= 0


async def settings_of(bootstrap: str, topic: str) -> Mapping[str, str]:
    async with an_admin(bootstrap) as admin:
        (reply,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    (resource,) = reply.resources
    assert resource[0] == 0, resource
    return {entry[0]: entry[1] for entry in resource[4]}


async def send_numbers(bootstrap: str, topic: str, count: int, partitions: int = 1) -> None:
    """Send 0, 1, 2..., to the partitions in turn; each partition's in one batch."""
    async with a_producer(bootstrap, linger_ms=20) as producer:
        waiting = [
            await producer.send(topic, b"%d" % number, partition=number % partitions)
            for number in range(count)
        ]
        await asyncio.gather(*waiting)


async def take(consumer: AIOKafkaConsumer, count: int) -> list[ConsumerRecord]:
    """Read so many records; more than that is a failure of the test that asks."""
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(READ_S_MAX):
        while len(found) < count:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
    return found


async def read(bootstrap: str, topic: str, count: int, **options: Any) -> list[ConsumerRecord]:
    async with a_consumer(bootstrap, topic, **options) as consumer:
        return await take(consumer, count)


async def read_to_end(
    bootstrap: str, topic: str, partitions: int = 1, **options: Any
) -> list[ConsumerRecord]:
    """Read what the topic holds now; the end is a position, as the last offset may be no record."""
    places = [TopicPartition(topic, number) for number in range(partitions)]
    found: list[ConsumerRecord] = []
    async with a_consumer(bootstrap, **options) as consumer, asyncio.timeout(READ_S_MAX):
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += records
    return found


async def committed(bootstrap: str, group: str) -> Mapping[int, int]:
    """The offsets of a group by partition, for a group that reads one topic."""
    async with an_admin(bootstrap) as admin:
        offsets = await admin.list_consumer_group_offsets(group)
    return {place.partition: found.offset for place, found in offsets.items()}


async def until(condition: Callable[[], bool], seconds_max: float = 20.0) -> None:
    """Wait for what clients do in the background and tell nobody."""

    async def holds() -> bool:
        return condition()

    await until_true(holds, seconds_max)


async def until_true(condition: Callable[[], Awaitable[bool]], seconds_max: float = 20.0) -> None:
    async with asyncio.timeout(seconds_max):
        while not await condition():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(POLL_S)


async def coordinator_of(client: AIOKafkaClient, group: str) -> int:
    """The coordinator's node; a broker's first group waits until its topic for offsets is there."""
    replies = []

    async def is_there() -> bool:
        replies.append(await client.send(client.get_random_node(), FindCoordinatorRequest(group, 0)))
        return replies[-1].error_code == 0

    await until_true(is_there)
    return replies[-1].coordinator_id


@contextlib.asynccontextmanager
async def pumped(consumer: AIOKafkaConsumer) -> AsyncIterator[list[ConsumerRecord]]:
    """Read on in the background, as a service does, and give what was read."""
    seen: list[ConsumerRecord] = []

    async def pump() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                seen.extend(records)

    task = asyncio.create_task(pump())
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def shares(*consumers: AIOKafkaConsumer) -> list[int]:
    return [len(consumer.assignment()) for consumer in consumers]


class Holdings(ConsumerRebalanceListener):
    """Notes what a member holds and how often that was taken from it."""

    def __init__(self) -> None:
        self.revocations = 0
        self.held: Collection[TopicPartition] = ()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self.revocations += bool(revoked)
        self.held = ()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self.held = assigned
