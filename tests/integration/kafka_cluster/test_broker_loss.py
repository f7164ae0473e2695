"""Losing brokers: nothing acknowledged is lost, and what comes twice came of a publish that failed."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from services.runtime.consumer import ConsumerConfig, ConsumerLoop
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import ConsumedRecord, OutgoingRecord, Processed
from tests.integration.kafka.clients import an_admin, committed, create, read_to_end, run, until, until_true

TEST_S_MAX = 110.0
PARTITIONS = 3
BATCH = 20  # records in one publish, spread over the partitions by key
MORE = 50  # publishes that show that it goes on
PAUSE_S = 0.01  # this is no load test
GOES_ON_S_MAX = 60.0
QUIET_S = 3.0
LEAVES_S_MAX = 30.0


class Stream:
    """Publishes numbered records, one publish after the other, each until it is acknowledged."""

    def __init__(self, kafka: KafkaConfig, topic: str) -> None:
        self._publisher = Publisher(kafka)
        self._topic = topic
        self.acknowledged = 0
        self.tried_again: set[int] = set()
        self.longest_s = 0.0

    async def run(self) -> None:
        while True:
            ids = range(self.acknowledged, self.acknowledged + BATCH)
            records = [
                OutgoingRecord(self._topic, b"key-%d" % (one % BATCH), b"%d" % one, (("ce_id", b"%d" % one),))
                for one in ids
            ]
            began = time.monotonic()
            while True:
                try:
                    await self._publisher.publish(records)
                    break
                except PublishFailed:
                    self.tried_again.update(ids)
                    await asyncio.sleep(PAUSE_S)
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.acknowledged += BATCH
            await asyncio.sleep(PAUSE_S)

    async def more(self, publishes: int = MORE, seconds_max: float = GOES_ON_S_MAX) -> None:
        """Wait until so many more publishes are acknowledged."""
        enough = self.acknowledged + publishes * BATCH
        await until(lambda: self.acknowledged >= enough, seconds_max)

    async def close(self) -> None:
        await self._publisher.close()


@contextlib.asynccontextmanager
async def streaming(kafka: KafkaConfig, topic: str) -> AsyncIterator[Stream]:
    """Publish for the length of a block; what the last publish did is unknown."""
    stream = Stream(kafka, topic)
    task = asyncio.create_task(stream.run())
    try:
        yield stream
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await stream.close()


class Copy:
    """Copies every record to another topic."""

    def __init__(self, topic: str, out: str) -> None:
        self.seen: Counter[int] = Counter()
        self.name = "copy"
        self.topics = (topic,)
        self._out = out

    async def process(self, given: Sequence[ConsumedRecord]) -> Processed:
        self.seen.update(_id(one) for one in given)
        return Processed([OutgoingRecord(self._out, one.key, one.value or b"", one.headers) for one in given])


@contextlib.asynccontextmanager
async def consuming(stage: Copy, group: str, kafka: KafkaConfig) -> AsyncIterator[None]:
    """Run a consumer loop for the length of a block, and let it leave at the end."""
    publisher, stopping = Publisher(kafka), asyncio.Event()
    loop = ConsumerLoop(stage, ConsumerConfig(group_id=group), kafka, publisher)
    task = asyncio.create_task(loop.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(task, LEAVES_S_MAX)
        await publisher.close()


def test_publishing_and_consuming_go_on_through_the_kill_of_a_broker_and_its_return(cluster, kafka, topic):
    """The broker leads a partition of the topic and coordinates the consumer's group."""
    group, out = f"group-{topic}", f"{topic}-out"

    async def test():
        await create_safe(cluster, topic)
        await create_safe(cluster, out)
        stage = Copy(topic, out)
        async with consuming(stage, group, kafka):
            async with streaming(kafka, topic) as stream:
                await until(lambda: len(stage.seen) >= MORE * BATCH, GOES_ON_S_MAX)
                lost = await coordinator_of(cluster, group)
                assert lost in await leaders_of(cluster, topic)
                await cluster.kill(lost)
                await stream.more()
                acknowledged = range(stream.acknowledged)
                await until(lambda: stage.seen.keys() >= set(acknowledged), GOES_ON_S_MAX)
                await cluster.start(lost)
                await until_in_sync(cluster, topic)
                await stream.more()
            found = await read_to_end(cluster.servers, topic, PARTITIONS)
            await until_true(lambda: _is_committed(cluster, group, len(found)), GOES_ON_S_MAX)
        copied = Counter(_id(one) for one in await read_to_end(cluster.servers, out, PARTITIONS))
        sent = Counter(_id(one) for one in found)
        print(
            f"longest publish {stream.longest_s:.1f} s; published again: {len(stream.tried_again)}; ", end=""
        )
        print(f"consumed again: {(stage.seen - sent).total()}; copied again: {(copied - sent).total()}")
        await assert_all_there(cluster, topic, stream)
        assert copied.keys() == stage.seen.keys() == sent.keys()

    run(test(), TEST_S_MAX)


def test_publishing_goes_on_while_brokers_are_restarted_one_after_the_other(cluster, kafka, topic):
    async def test():
        await create_safe(cluster, topic)
        async with streaming(kafka, topic) as stream:
            for broker in (1, 2):
                await cluster.stop(broker)
                await stream.more()
                await cluster.start(broker)
                await until_in_sync(cluster, topic)
                await stream.more()
        print(f"longest publish {stream.longest_s:.1f} s; published again: {len(stream.tried_again)}")
        await assert_all_there(cluster, topic, stream)

    run(test(), TEST_S_MAX)


def test_nothing_is_acknowledged_while_two_of_three_are_away_and_all_goes_on_when_they_are_back(
    cluster, kafka, topic
):
    async def test():
        await create_safe(cluster, topic)
        async with streaming(kafka, topic) as stream:
            await stream.more()
            await asyncio.gather(cluster.kill(1), cluster.kill(3))
            # One publish may have been all but acknowledged when the second was killed; a second is none.
            with pytest.raises(TimeoutError):
                await stream.more(2, seconds_max=QUIET_S)
            await cluster.start(1, 3)
            await until_in_sync(cluster, topic)
            await stream.more()
        print(f"longest publish {stream.longest_s:.1f} s; published again: {len(stream.tried_again)}")
        await assert_all_there(cluster, topic, stream)

    run(test(), TEST_S_MAX)


async def assert_all_there(cluster, topic: str, stream: Stream) -> None:
    """Each acknowledged record is there, once unless its publish was tried again, in order per key."""
    found = await read_to_end(cluster.servers, topic, PARTITIONS)
    copies = Counter(_id(one) for one in found)
    assert set(range(stream.acknowledged)) - copies.keys() == set()
    assert {one for one, count in copies.items() if count > 1} - stream.tried_again == set()
    # Beyond what was acknowledged there may lie the publish that the end of the stream cut short.
    assert max(copies) < stream.acknowledged + BATCH
    for key in {one.key for one in found}:
        first_seen = list(dict.fromkeys(_id(one) for one in found if one.key == key))
        assert first_seen == sorted(first_seen)


async def create_safe(cluster, topic: str) -> None:
    await create(cluster.servers, topic, PARTITIONS, replicas=3, min_insync_replicas=2)
    await until_in_sync(cluster, topic)


async def leaders_of(cluster, topic: str) -> set[int]:
    async with an_admin(cluster.servers) as admin:
        (found,) = await admin.describe_topics([topic])
    return {part["leader"] for part in found["partitions"]}


async def coordinator_of(cluster, group: str) -> int:
    async with an_admin(cluster.servers) as admin:
        return await admin.find_coordinator(group)


async def until_in_sync(cluster, topic: str) -> None:
    """Wait until every replica of the topic holds everything."""
    async with an_admin(cluster.servers) as admin:
        await until_true(lambda: _is_in_sync(admin, topic), GOES_ON_S_MAX)


async def _is_in_sync(admin: AIOKafkaAdminClient, topic: str) -> bool:
    (found,) = await admin.describe_topics([topic])
    return all(len(part["isr"]) == 3 and part["leader"] > 0 for part in found["partitions"])


async def _is_committed(cluster, group: str, end: int) -> bool:
    return sum((await committed(cluster.servers, group)).values()) == end


def _id(record) -> int:
    return int(dict(record.headers)["ce_id"])
