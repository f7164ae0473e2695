"""A stage that works on between records is told which partitions it has, and when they go."""

import asyncio
import contextlib

from services.runtime.consumer import ConsumerConfig, ConsumerLoop
from services.runtime.publisher import Publisher
from tests.integration.runtime.clients import EchoStage, new_topic, outgoing, publish, run, until


class Owner(EchoStage):
    """Notes what it is told, in order with the records that it is given."""

    def __init__(self, topic):
        super().__init__(topic)
        self.told = []

    def assigned(self, partitions):
        self.told.append(sorted(partition for _, partition in partitions))

    async def revoked(self):
        self.told.append("revoked")

    async def process(self, records):
        self.told += [record.value for record in records]
        return await super().process(records)


@contextlib.asynccontextmanager
async def joined(stage, kafka, group):
    stopping, publisher = asyncio.Event(), Publisher(kafka)
    loop = ConsumerLoop(stage, ConsumerConfig(group_id=group), kafka, publisher)
    task = asyncio.create_task(loop.run(stopping))
    await until(lambda: loop.is_ready)
    try:
        yield
    finally:
        stopping.set()
        await task
        await publisher.close()


def test_an_owner_is_told_before_its_first_record_and_when_it_leaves(kafka):
    async def test():
        topic = await new_topic(kafka, partitions=2)
        stage = Owner(topic)
        async with joined(stage, kafka, topic):
            await publish(kafka, outgoing(topic, 1))
            await until(lambda: len(stage.done) == 1)
        told = [each for each in stage.told if each != "revoked"]
        assert told == [[0, 1], b"0"]
        assert stage.told[-1] == "revoked"

    run(test())


def test_partitions_are_given_up_before_another_member_has_them(kafka):
    async def test():
        topic = await new_topic(kafka, partitions=2)
        first, second = Owner(topic), Owner(topic)
        async with joined(first, kafka, topic), joined(second, kafka, topic):
            await until(lambda: len(first.told[-1]) == len(second.told[-1]) == 1)
            assert first.told[-3:-1] == [[0, 1], "revoked"]
            assert sorted([*first.told[-1], *second.told[-1]]) == [0, 1]

    run(test())
