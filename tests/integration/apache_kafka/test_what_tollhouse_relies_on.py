"""Asks the broker at KAFKA_BOOTSTRAP_SERVERS for what Tollhouse relies on; deploy/kafka starts one to ask."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError, OutOfOrderSequenceNumber, UnknownTopicOrPartitionError
from aiokafka.structs import OffsetAndMetadata

SERVERS = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
TEST_S_MAX = 40.0

pytestmark = pytest.mark.skipif(not SERVERS, reason="KAFKA_BOOTSTRAP_SERVERS names no broker")


@asynccontextmanager
async def an_admin() -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=SERVERS)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def a_topic(partitions: int = 1, **configs: str) -> AsyncIterator[str]:
    name = f"relied-on-{uuid.uuid4().hex}"
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    async with an_admin() as admin:
        reply = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        assert [error[1] for error in reply.topic_errors] == [0]
        try:
            yield name
        finally:
            await admin.delete_topics([name])


@asynccontextmanager
async def a_producer(request_timeout_ms: int = 10_000) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=SERVERS,
        acks="all",
        enable_idempotence=True,
        compression_type="zstd",
        max_request_size=1024 * 1024,
        max_batch_size=1024 * 1024,
        request_timeout_ms=request_timeout_ms,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def run(test) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TEST_S_MAX):
            await test

    asyncio.run(bounded())


def test_a_topic_nobody_declared_is_not_created_by_sending_to_it():
    async def test() -> None:
        async with a_producer(request_timeout_ms=1_000) as producer:
            with pytest.raises(UnknownTopicOrPartitionError):
                await producer.send_and_wait(f"undeclared-{uuid.uuid4().hex}", b"x")

    run(test())


def test_a_refused_batch_ends_the_partition_for_its_producer_and_a_new_producer_goes_on():
    """Why the publisher makes its producer anew after any failure: the refused sequence numbers are gone."""

    async def test() -> None:
        async with a_topic(max_message_bytes="10000") as topic:
            async with a_producer() as producer:
                await producer.send_and_wait(topic, b"first")
                with pytest.raises(MessageSizeTooLargeError):
                    await producer.send_and_wait(topic, os.urandom(50_000))
                with pytest.raises(OutOfOrderSequenceNumber):
                    await producer.send_and_wait(topic, b"never")
            async with a_producer() as producer:
                acknowledged = await producer.send_and_wait(topic, b"second")
            assert acknowledged.offset == 1

    run(test())


def test_the_broker_stamps_a_batch_and_says_the_stamp_in_the_acknowledgement():
    async def test() -> None:
        async with a_topic(message_timestamp_type="LogAppendTime") as topic:
            async with a_producer() as producer:
                batch = producer.create_batch()
                for value in (b"a", b"b"):
                    batch.append(timestamp=1_000, key=None, value=value, headers=[("ce_id", value)])
                before_ms = time.time_ns() // 1_000_000
                acknowledged = await (await producer.send_batch(batch, topic, partition=0))
            read = await first_records(topic, 2)
            stamp_ms = acknowledged.timestamp
            assert before_ms - 1_000 <= stamp_ms <= before_ms + 60_000
            assert [(one.value, one.headers, one.timestamp, one.timestamp_type) for one in read] == [
                (b"a", (("ce_id", b"a"),), stamp_ms, 1),
                (b"b", (("ce_id", b"b"),), stamp_ms, 1),
            ]

    run(test())


def test_altering_one_setting_resets_those_not_named():
    """Why a migration must name every setting of a topic when it alters one."""

    async def test() -> None:
        async with a_topic(cleanup_policy="compact", min_compaction_lag_ms="3600000") as topic:
            async with an_admin() as admin:
                await admin.alter_configs(
                    [ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "1234"})]
                )
                (reply,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            settings = {entry[0]: entry[1] for entry in reply.resources[0][4]}
            names = ("cleanup.policy", "min.compaction.lag.ms", "retention.ms")
            assert [settings[name] for name in names] == ["delete", "0", "1234"]

    run(test())


def test_the_metadata_of_a_commit_comes_back():
    async def test() -> None:
        async with a_topic() as topic:
            group, place = f"group-of-{topic}", TopicPartition(topic, 0)
            consumer = a_consumer(topic, group, None)
            await consumer.start()
            try:
                await consumer.commit({place: OffsetAndMetadata(3, "pending:3-4:7")})
            finally:
                await consumer.stop()
            async with an_admin() as admin:
                committed = await admin.list_consumer_group_offsets(group)
            assert committed == {place: OffsetAndMetadata(3, "pending:3-4:7")}

    run(test())


def test_a_static_member_that_returns_gets_its_partitions_back_and_nobody_else_notices():
    async def test() -> None:
        async with a_topic(partitions=4) as topic:
            group, staying = f"group-of-{topic}", Assignments()
            first, second = a_consumer(topic, group, "first", staying), a_consumer(topic, group, "second")
            await asyncio.gather(first.start(), second.start())
            returned = a_consumer(topic, group, "second")
            try:
                await staying.until(partitions=2)
                revocations, had = staying.revocations, second.assignment()
                await second.stop()
                # A rebalance would end only when the other member has let its partitions go and joined again.
                await returned.start()
                assert (returned.assignment(), staying.revocations) == (had, revocations)
            finally:
                await asyncio.gather(first.stop(), second.stop(), returned.stop())

    run(test())


class Assignments(ConsumerRebalanceListener):
    """Notes what a member holds and how often it gave that up, and lets a test wait for it."""

    def __init__(self) -> None:
        self.revocations = 0
        self._held: Collection[TopicPartition] = ()
        self._changed = asyncio.Condition()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self.revocations += 1

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        async with self._changed:
            self._held = assigned
            self._changed.notify_all()

    async def until(self, partitions: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._held) == partitions)


def a_consumer(
    topic: str, group: str, instance: str | None, listener: ConsumerRebalanceListener | None = None
) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=SERVERS,
        group_id=group,
        group_instance_id=instance,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=10_000,
        heartbeat_interval_ms=500,
    )
    consumer.subscribe([topic], listener=listener)
    return consumer


async def first_records(topic: str, count: int) -> list:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=SERVERS, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()
