import asyncio
import contextlib

import pytest
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError

from tests.integration.local_kafka.brokers import admin, broker, consumer, create_topic, producer, take, until

GROUP = {
    "group_id": "g",
    "enable_auto_commit": False,
    "session_timeout_ms": 1_500,
    "heartbeat_interval_ms": 100,
}


@contextlib.asynccontextmanager
async def pumped(reader):
    """Read on in the background, as a service does, and give the records seen."""
    seen = []

    async def pump():
        while True:
            for records in (await reader.getmany(timeout_ms=50)).values():
                seen.extend(records)

    task = asyncio.create_task(pump())
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def shares(*readers):
    return [len(reader.assignment()) for reader in readers]


def test_two_consumers_share_the_partitions_and_one_takes_over(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t", partitions=4)
            async with consumer(address, "t", **GROUP) as first, pumped(first) as seen_first:
                await until(lambda: shares(first) == [4])
                async with consumer(address, "t", **GROUP) as second, pumped(second) as seen_second:
                    await until(lambda: shares(first, second) == [2, 2])
                    async with producer(address) as sender:
                        for number in range(40):
                            await sender.send_and_wait("t", b"%d" % number, partition=number % 4)
                    await until(lambda: len(seen_first) + len(seen_second) == 40)
                    counts = (len(seen_first), len(seen_second))
                    await first.commit()
                    await second.commit()
                await until(lambda: shares(first) == [4])
                return counts, [await first.committed(TopicPartition("t", number)) for number in range(4)]

    assert asyncio.run(run()) == ((20, 20), [10] * 4)


def test_members_may_commit_while_their_partitions_are_taken_away(tmp_path):
    class CommitOnRevoke(ConsumerRebalanceListener):
        def __init__(self, reader):
            self.reader = reader

        async def on_partitions_revoked(self, revoked):
            if revoked:
                await self.reader.commit(dict.fromkeys(revoked, 7))

        async def on_partitions_assigned(self, assigned):
            pass

    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t", partitions=2)
            async with consumer(address, **GROUP) as first, pumped(first):
                first.subscribe(["t"], listener=CommitOnRevoke(first))
                await until(lambda: shares(first) == [2])
                async with consumer(address, "t", **GROUP) as second:
                    await until(lambda: shares(first, second) == [1, 1])
                    return [await second.committed(TopicPartition("t", number)) for number in range(2)]

    assert asyncio.run(run()) == [7, 7]


def test_a_member_that_vanishes_is_replaced_after_its_session(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t", partitions=2)
            async with consumer(address, "t", **GROUP) as stays, pumped(stays):
                async with consumer(address, "t", **GROUP) as goes:
                    await until(lambda: shares(stays, goes) == [1, 1])
                    goes._coordinator._maybe_leave_group = _nothing
                await until(lambda: shares(stays) == [2])

    asyncio.run(run())


async def _nothing():
    """Stand in for the leave request that a killed process never sends."""


def test_a_static_member_comes_back_to_its_share_without_a_rebalance(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t", partitions=4)
            options = {**GROUP, "session_timeout_ms": 10_000}
            options["partition_assignment_strategy"] = [StickyPartitionAssignor]
            async with consumer(address, "t", group_instance_id="one", **options) as first, pumped(first):
                async with consumer(address, "t", group_instance_id="two", **options) as second:
                    await until(lambda: shares(first, second) == [2, 2])
                    before = (first.assignment(), second.assignment())
                    generation = first._coordinator.generation
                async with consumer(address, "t", group_instance_id="two", **options) as second:
                    await until(lambda: shares(second) == [2])
                    after = (first.assignment(), second.assignment())
                    return before == after, first._coordinator.generation == generation

    assert asyncio.run(run()) == (True, True)


def test_positions_are_kept_with_their_words_and_shown_to_administrators(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t", partitions=2)
            place = TopicPartition("t", 0)
            async with producer(address) as sender:
                for number in range(6):
                    await sender.send_and_wait("t", b"%d" % number, partition=0)
            async with consumer(address, "t", **GROUP) as reader:
                await take(reader, 6)
                await reader.commit({place: (4, "note")})
                async with admin(address) as client:
                    described = (await client.describe_consumer_groups(["g"]))[0].to_object()["groups"][0]
            async with consumer(address, "t", **GROUP) as reader:
                resumed = [item.offset for item in await take(reader, 2)]
            async with admin(address) as client:
                positions = await client.list_consumer_group_offsets("g")
                listed = await client.list_consumer_groups()
            return described["state"], len(described["members"]), resumed, positions, listed

    state, members, resumed, positions, listed = asyncio.run(run())
    assert (state, members, resumed) == ("Stable", 1, [4, 5])
    assert {place: tuple(position) for place, position in positions.items()} == {
        TopicPartition("t", 0): (4, "note")
    }
    assert listed == [("g", "consumer")]


def test_a_stranger_cannot_commit_into_a_living_group(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            place = TopicPartition("t", 0)
            async with consumer(address, **GROUP) as stranger:
                stranger.assign([place])
                await stranger.commit({place: 1})
                async with consumer(address, "t", **GROUP) as reader:
                    await until(lambda: shares(reader) == [1])
                    with pytest.raises(CommitFailedError):
                        await stranger.commit({place: 2})
                    return await reader.committed(place)

    assert asyncio.run(run()) == 1
