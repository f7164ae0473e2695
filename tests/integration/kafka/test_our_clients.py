"""Tollhouse's own clients on the broker: the publisher, the consumer loop, and the topics of topics.yaml."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas import codec
from schemas.dead_letters import DeadLetter
from schemas.topics import EDGES, all_topics
from services.runtime.consumer import ConsumerConfig, ConsumerLoop
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher, PublishFailed, Refused, partition_of
from services.runtime.records import ConsumedRecord, DeadRecord, OutgoingRecord, Processed
from services.runtime.topics import migrate_topics
from tests.integration.kafka.clients import (
    a_consumer,
    an_admin,
    committed,
    create,
    read_to_end,
    run,
    settings_of,
    take,
    until,
    until_true,
)


@pytest.fixture
def kafka(bootstrap: str) -> KafkaConfig:
    return KafkaConfig(bootstrap_servers=bootstrap, request_timeout_ms=5_000)


@contextlib.asynccontextmanager
async def a_publisher(kafka: KafkaConfig) -> AsyncIterator[Publisher]:
    publisher = Publisher(kafka)
    try:
        yield publisher
    finally:
        await publisher.close()


def records(topic: str, start: int, end: int, size: int = 0) -> list[OutgoingRecord]:
    return [
        OutgoingRecord(
            topic, b"key-%d" % (number % 50), b"%d" % number + bytes(size), (("ce_id", b"%d" % number),)
        )
        for number in range(start, end)
    ]


def numbers(found) -> list[int]:
    return [int(dict(one.headers)["ce_id"]) for one in found]


def test_the_publisher_writes_each_record_once_in_order_per_key(bootstrap, topic, kafka):
    async def test():
        await create(bootstrap, topic, partitions=4, message_timestamp_type="LogAppendTime")
        async with a_publisher(kafka) as publisher:
            for start in (0, 500, 1_000):
                await publisher.publish(records(topic, start, start + 500, size=1_000))
        found = await read_to_end(bootstrap, topic, 4)
        assert sorted(numbers(found)) == list(range(1_500))
        assert all(one.partition == partition_of(one.key, 4) for one in found)
        for key in {one.key for one in found}:
            of_key = [number for number, one in zip(numbers(found), found, strict=True) if one.key == key]
            assert of_key == sorted(of_key)

    run(test())


def test_publishers_at_once_lose_and_double_nothing(bootstrap, topic, kafka):
    async def test():
        await create(bootstrap, topic, partitions=3)
        async with a_publisher(kafka) as publisher:
            await asyncio.gather(*[publisher.publish(records(topic, n, n + 50)) for n in range(0, 1_000, 50)])
        assert sorted(numbers(await read_to_end(bootstrap, topic, 3))) == list(range(1_000))

    run(test())


def test_the_publisher_gives_back_what_is_too_large_and_writes_the_rest_in_order(bootstrap, topic, kafka):
    """With a new producer, as every later batch of the old one would be out of order."""

    async def test():
        await create(bootstrap, topic, max_message_bytes=2_000)
        large = OutgoingRecord(topic, b"key-0", os.urandom(5_000), ())
        async with a_publisher(kafka) as publisher:
            assert await publisher.publish(records(topic, 0, 3)) == []
            refused = await publisher.publish([*records(topic, 3, 6), large, *records(topic, 6, 9)])
            assert refused == [Refused(large, "MessageSizeTooLargeError")]
            assert await publisher.publish(records(topic, 9, 12)) == []
        assert numbers(await read_to_end(bootstrap, topic)) == list(range(12))

    run(test())


def test_the_publisher_says_so_when_a_topic_does_not_exist(topic, kafka):
    async def test():
        impatient = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers, request_timeout_ms=500)
        async with a_publisher(impatient) as publisher:
            with pytest.raises(PublishFailed, match="UnknownTopicOrPartition"):
                await publisher.publish(records(topic, 0, 1))

    run(test())


class Copy:
    """Copies every record to another topic; what says `poison` is dead."""

    def __init__(self, topic: str, out: str) -> None:
        self.done: list[ConsumedRecord] = []
        self.name = "copy"
        self.topics = (topic,)
        self._out = out

    async def process(self, given: Sequence[ConsumedRecord]) -> Processed:
        self.done.extend(given)
        dead = [DeadRecord(one, "Poison", "it is poison") for one in given if one.value == b"poison"]
        alive = [one for one in given if one.value != b"poison"]
        return Processed(
            [OutgoingRecord(self._out, one.key, one.value or b"", one.headers) for one in alive], dead
        )


@contextlib.asynccontextmanager
async def a_loop(
    stage: Copy, group: str, kafka: KafkaConfig, instance: str = ""
) -> AsyncIterator[asyncio.Event]:
    """Run a consumer loop for the length of a block, and let it leave at the end."""
    stopping = asyncio.Event()
    config = ConsumerConfig(group_id=group, group_instance_id=instance, batch_records_max=100)
    async with a_publisher(kafka) as publisher:
        task = asyncio.create_task(ConsumerLoop(stage, config, kafka, publisher).run(stopping))
        try:
            yield stopping
        finally:
            stopping.set()
            await asyncio.wait_for(task, 15)


def test_the_consumer_loop_carries_every_record_once_and_commits_it(bootstrap, topic, group, kafka):
    async def test():
        out = f"{topic}-out"
        await create(bootstrap, topic, partitions=3)
        await create(bootstrap, out, partitions=3)
        async with a_publisher(kafka) as publisher:
            await publisher.publish(records(topic, 0, 1_000))
            async with a_loop(Copy(topic, out), group, kafka):
                await until_true(lambda: _is_done(bootstrap, group, 1_000))
            # Another process of the same group goes on where the first stopped.
            await publisher.publish(records(topic, 1_000, 1_200))
            async with a_loop(Copy(topic, out), group, kafka):
                await until_true(lambda: _is_done(bootstrap, group, 1_200))
        assert sorted(numbers(await read_to_end(bootstrap, out, 3))) == list(range(1_200))

    run(test())


def test_two_consumer_loops_share_the_work(bootstrap, topic, group, kafka):
    async def test():
        out = f"{topic}-out"
        await create(bootstrap, topic, partitions=4)
        await create(bootstrap, out)
        stages = [Copy(topic, out), Copy(topic, out)]
        async with (
            a_loop(stages[0], group, kafka, "one"),
            a_loop(stages[1], group, kafka, "two"),
            an_admin(bootstrap) as admin,
            a_publisher(kafka) as publisher,
        ):

            async def is_shared() -> bool:
                (reply,) = await admin.describe_consumer_groups([group])
                (found,) = reply.to_object()["groups"]
                return (found["state"], len(found["members"])) == ("Stable", 2)

            await until_true(is_shared)
            await publisher.publish(records(topic, 0, 400))
            await until_true(lambda: _is_done(bootstrap, group, 400))
        assert all(stage.done for stage in stages)
        partitions = [{one.partition for one in stage.done} for stage in stages]
        assert not partitions[0] & partitions[1]
        assert sorted(numbers(stages[0].done + stages[1].done)) == list(range(400))

    run(test())


def test_a_dead_record_lies_in_the_dead_letter_topic_and_the_rest_goes_on(bootstrap, topic, group, kafka):
    async def test():
        out = f"{topic}-out"
        for name in (topic, out, f"{topic}.dlq"):
            await create(bootstrap, name)
        async with a_publisher(kafka) as publisher:
            await publisher.publish(
                [OutgoingRecord(topic, b"k", value, (("h", b"\xff"),)) for value in (b"a", b"poison", b"b")]
            )
            async with a_loop(Copy(topic, out), group, kafka):
                await until_true(lambda: _is_done(bootstrap, group, 3))
        assert [one.value for one in await read_to_end(bootstrap, out)] == [b"a", b"b"]
        (letter,) = await read_to_end(bootstrap, f"{topic}.dlq")
        found = codec.decode(DeadLetter, letter.value)
        assert (found.topic, found.partition, found.offset, found.key, found.value, found.headers) == (
            topic,
            0,
            1,
            b"k",
            b"poison",
            (("h", b"\xff"),),
        )

    run(test())


async def _is_done(bootstrap: str, group: str, count: int) -> bool:
    return sum((await committed(bootstrap, group)).values()) == count


@pytest.fixture(scope="module")
def no_topics_yet(bootstrap: str) -> Iterator[None]:
    """Keep away from brokers that carry Tollhouse's topics already; delete them at the end."""
    names = [topic.name for topic in all_topics()]

    async def existing() -> list[str]:
        async with an_admin(bootstrap) as admin:
            return [name for name in await admin.list_topics() if name in names]

    async def delete() -> None:
        async with an_admin(bootstrap) as admin:
            await admin.delete_topics(names)

    if asyncio.run(existing()):
        pytest.skip("the broker carries Tollhouse's topics already, which this test would alter")
    yield
    asyncio.run(delete())


@pytest.mark.usefixtures("no_topics_yet")
def test_migration_creates_every_topic_as_declared_once_and_refuses_those_that_differ(bootstrap, kafka):
    async def test():
        declared = {topic.name: topic for topic in all_topics()}
        assert await migrate_topics(kafka) == list(declared)
        assert await migrate_topics(kafka) == []
        for name, topic in declared.items():
            found = await settings_of(bootstrap, name)
            assert {setting: found.get(setting) for setting in topic.configs()} == topic.configs()
        async with an_admin(bootstrap) as admin:
            described = await admin.describe_topics(list(declared))
            assert {found["topic"]: len(found["partitions"]) for found in described} == {
                name: topic.partitions for name, topic in declared.items()
            }
            await admin.create_partitions({EDGES: NewPartitions(2)})
            await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, EDGES, {"retention.ms": "3600000"})]
            )
            await until_true(lambda: _is_set(bootstrap, EDGES, "retention.ms", "3600000"))
        with pytest.raises(StartRefused) as refused:
            await migrate_topics(kafka)
        for fault in ("has 2 partitions instead of 1", "retention.ms=3600000", "timestamp.type=CreateTime"):
            assert fault in str(refused.value)

    run(test())


@pytest.mark.usefixtures("no_topics_yet")
def test_migration_creates_what_is_missing_beside_what_is_there(bootstrap, kafka):
    async def test():
        await _without(bootstrap, EDGES)
        await migrate_topics(kafka)
        await _without(bootstrap, EDGES)
        assert await migrate_topics(kafka) == [EDGES]

    run(test())


async def _without(bootstrap: str, topic: str) -> None:
    async with an_admin(bootstrap) as admin:
        await admin.delete_topics([topic])
        await until_true(lambda: _is_absent(admin, topic))


async def _is_absent(admin, topic: str) -> bool:
    return topic not in await admin.list_topics()


async def _is_set(bootstrap: str, topic: str, name: str, value: str) -> bool:
    return (await settings_of(bootstrap, topic)).get(name) == value


def test_nothing_is_skipped_or_doubled_when_a_loop_is_stopped_between_batches(bootstrap, topic, group, kafka):
    async def test():
        out = f"{topic}-out"
        await create(bootstrap, topic)
        await create(bootstrap, out)
        async with a_publisher(kafka) as publisher:
            await publisher.publish(records(topic, 0, 300))
        first = Copy(topic, out)
        async with a_loop(first, group, kafka) as stopping:
            await until(lambda: len(first.done) >= 100)
            stopping.set()
        async with a_loop(Copy(topic, out), group, kafka):
            await until_true(lambda: _is_done(bootstrap, group, 300))
        async with a_consumer(bootstrap, out) as reader:
            assert numbers(await take(reader, 300)) == list(range(300))

    run(test())
