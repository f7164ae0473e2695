"""What the tests put beside the runtime: a scriptable stage, bare clients, and waiting with a time-out."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from services.runtime.consumer import ConsumerConfig, ConsumerLoop
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.records import ConsumedRecord, DeadRecord, OutgoingRecord, Processed
from tests.integration.runtime import brokers

TEST_S_MAX = 30.0


def run(test: Awaitable[None], seconds_max: float = TEST_S_MAX) -> None:
    """Run one test; a wait that never ends is a failure of that test alone."""

    async def bounded() -> None:
        async with asyncio.timeout(seconds_max):
            await test

    asyncio.run(bounded())


async def new_topic(kafka: KafkaConfig, partitions: int = 1, **configs: object) -> str:
    name = f"t-{uuid.uuid4().hex}"
    await brokers.create_topic(kafka.bootstrap_servers, name, partitions, **configs)
    return name


def outgoing(topic: str, count: int, keys: int = 1, start: int = 0) -> list[OutgoingRecord]:
    """Records that carry their number, under so many keys in turn."""
    return [
        OutgoingRecord(topic, b"key-%d" % (number % keys), b"%d" % number, ())
        for number in range(start, start + count)
    ]


async def publish(kafka: KafkaConfig, records: Sequence[OutgoingRecord]) -> None:
    publisher = Publisher(kafka)
    try:
        await publisher.publish(records)
    finally:
        await publisher.close()


async def read(kafka: KafkaConfig, topic: str, count: int) -> list:
    """Read so many records of a topic from its start."""
    async with brokers.consumer(kafka.bootstrap_servers, topic) as client:
        return await brokers.take(client, count)


async def read_all(kafka: KafkaConfig, topic: str, partitions: int) -> list:
    """Read what a topic holds now."""
    places = [TopicPartition(topic, number) for number in range(partitions)]
    async with brokers.consumer(kafka.bootstrap_servers, topic) as client:
        ends = await client.end_offsets(places)
        return await brokers.take(client, sum(ends.values()))


async def committed(kafka: KafkaConfig, group: str) -> Mapping[int, int]:
    """The offsets of a group by partition, for a group that reads one topic."""
    async with brokers.admin(kafka.bootstrap_servers) as admin:
        offsets = await admin.list_consumer_group_offsets(group)
    return {place.partition: found.offset for place, found in offsets.items()}


async def group_state(kafka: KafkaConfig, group: str) -> tuple[str, int]:
    """A group's state in Kafka's words, and how many members it has."""
    async with brokers.admin(kafka.bootstrap_servers) as admin:
        (reply,) = await admin.describe_consumer_groups([group])
    (found,) = reply.groups
    return found[2], len(found[5])


async def until(condition: Callable[[], bool], seconds_max: float = 15.0) -> None:
    await brokers.until(condition, seconds_max)


async def until_async(condition: Callable[[], Awaitable[bool]], seconds_max: float = 15.0) -> None:
    """Ask a server until it answers as wanted, as often as a patient client would."""
    async with asyncio.timeout(seconds_max):
        while not await condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.02)


class EchoStage:
    """Notes what it is given, waits at its gate, and copies every record to `out`, if there is one.

    Records whose value is in `poison` are dead.
    """

    def __init__(
        self, topic: str, out: str = "", poison: frozenset[bytes] = frozenset(), name: str = "echo"
    ) -> None:
        self.name = name
        self.given: list[ConsumedRecord] = []
        self.done: list[ConsumedRecord] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._topic = topic
        self._out = out
        self._poison = poison

    @property
    def topics(self) -> tuple[str, ...]:
        return (self._topic,)

    @property
    def values_done(self) -> list[bytes | None]:
        return [record.value for record in self.done]

    async def process(self, records: Sequence[ConsumedRecord]) -> Processed:
        self.given.extend(records)
        await self.gate.wait()
        self.done.extend(records)
        dead = [DeadRecord(each, "Poison", "it is poison") for each in records if each.value in self._poison]
        alive = [each for each in records if each.value not in self._poison] if self._out else []
        return Processed([OutgoingRecord(self._out, each.key, each.value or b"", ()) for each in alive], dead)


class Member:
    """A consumer loop in a task of its own, once it has joined."""

    def __init__(self, stage: EchoStage, kafka: KafkaConfig, group: str, options: Mapping[str, Any]) -> None:
        self.stage = stage
        self.stopping = asyncio.Event()
        self.publisher = Publisher(kafka)
        self.loop = ConsumerLoop(stage, ConsumerConfig(group_id=group, **options), kafka, self.publisher)

    def join(self) -> None:
        self.task = asyncio.create_task(self.loop.run(self.stopping))

    async def until_ready(self) -> None:
        await until(lambda: self.loop.is_ready)

    async def stop(self) -> None:
        """Ask it to stop, as a signal would, and wait for the end."""
        self.stopping.set()
        await self.task

    async def crash(self) -> None:
        """End it wherever it is."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@contextlib.asynccontextmanager
async def member(
    stage: EchoStage, kafka: KafkaConfig, group: str, *, joins_at_once: bool = True, **options: Any
) -> AsyncIterator[Member]:
    """Run a loop for the length of a block, and end it however the block ends."""
    one = Member(stage, kafka, group, options)
    if joins_at_once:
        one.join()
    try:
        yield one
    finally:
        await one.crash()
        await one.publisher.close()
