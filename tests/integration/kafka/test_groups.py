"""Consumer groups: who reads what, who takes over, and whose commits count."""

import asyncio
import contextlib
import sys

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest
from aiokafka.structs import OffsetAndMetadata

from tests.integration.kafka.clients import (
    SESSION_MS_MIN,
    Holdings,
    a_client,
    a_consumer,
    a_producer,
    an_admin,
    committed,
    coordinator_of,
    create,
    pumped,
    run,
    send_numbers,
    shares,
    take,
    until,
)

MEMBER = {"session_timeout_ms": SESSION_MS_MIN, "heartbeat_interval_ms": 300}
ASSIGNORS = (RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor)


@pytest.mark.parametrize("assignor", ASSIGNORS, ids=lambda one: one.name)
def test_two_members_share_the_partitions_and_one_takes_over_when_the_other_leaves(
    bootstrap, topic, group, assignor
):
    options = {**MEMBER, "group_id": group, "partition_assignment_strategy": (assignor,)}

    async def test():
        await create(bootstrap, topic, partitions=4)
        async with a_consumer(bootstrap, topic, **options) as first, pumped(first) as seen_by_first:
            await until(lambda: shares(first) == [4])
            async with a_consumer(bootstrap, topic, **options) as second, pumped(second) as seen_by_second:
                await until(lambda: shares(first, second) == [2, 2])
                assert not first.assignment() & second.assignment()
                await send_numbers(bootstrap, topic, 40, partitions=4)
                await until(lambda: len(seen_by_first) + len(seen_by_second) >= 40)
                assert (len(seen_by_first), len(seen_by_second)) == (20, 20)
                await asyncio.gather(first.commit(), second.commit())
            await until(lambda: shares(first) == [4])
            await send_numbers(bootstrap, topic, 8, partitions=4)
            await until(lambda: len(seen_by_first) >= 28)
            assert len(seen_by_first) == 28
            await first.commit()
        assert await committed(bootstrap, group) == dict.fromkeys(range(4), 12)

    run(test())


def test_a_third_member_takes_no_more_than_it_must_from_a_sticky_group(bootstrap, topic, group):
    options = {**MEMBER, "group_id": group, "partition_assignment_strategy": (StickyPartitionAssignor,)}

    async def member(stack, name) -> AIOKafkaConsumer:
        consumer = await stack.enter_async_context(a_consumer(bootstrap, topic, client_id=name, **options))
        await stack.enter_async_context(pumped(consumer))
        return consumer

    async def test():
        await create(bootstrap, topic, partitions=12)
        async with contextlib.AsyncExitStack() as stack:
            first, second = await member(stack, "a"), await member(stack, "b")
            await until(lambda: shares(first, second) == [6, 6])
            third = await member(stack, "c")
            await until(lambda: shares(first, second, third) == [4, 4, 4])
            held = [consumer.assignment() for consumer in (first, second, third)]
            assert len(held[0] | held[1] | held[2]) == 12

    run(test())


def test_a_member_may_commit_while_its_partitions_are_taken_away(bootstrap, topic, group):
    class CommitOnRevoke(Holdings):
        async def on_partitions_revoked(self, revoked):
            if revoked:
                await self.consumer.commit(dict.fromkeys(revoked, 7))

    async def test():
        await create(bootstrap, topic, partitions=2)
        listener = CommitOnRevoke()
        options = {**MEMBER, "group_id": group}
        async with a_consumer(bootstrap, topic, listener=listener, **options) as first, pumped(first):
            listener.consumer = first
            await until(lambda: shares(first) == [2])
            async with a_consumer(bootstrap, topic, **options) as second:
                await until(lambda: shares(first, second) == [1, 1])
                places = [TopicPartition(topic, number) for number in range(2)]
                assert [await second.committed(place) for place in places] == [7, 7]

    run(test())


def test_a_member_that_dies_is_replaced_after_its_session(bootstrap, topic, group):
    program = f"""
import asyncio
from aiokafka import AIOKafkaConsumer

async def read():
    consumer = AIOKafkaConsumer({topic!r}, bootstrap_servers={bootstrap!r}, group_id={group!r}, **{MEMBER!r})
    await consumer.start()
    while True:
        await consumer.getmany(timeout_ms=200)

asyncio.run(read())
"""

    async def test():
        await create(bootstrap, topic, partitions=2)
        async with a_consumer(bootstrap, topic, group_id=group, **MEMBER) as stays, pumped(stays):
            dies = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
            try:
                await until(lambda: shares(stays) == [1])
            finally:
                dies.kill()
                await dies.wait()
            loop = asyncio.get_running_loop()
            began = loop.time()
            await until(lambda: shares(stays) == [2])
            assert loop.time() - began > SESSION_MS_MIN / 1000 - 2

    run(test())


def test_reading_goes_on_where_the_group_committed(bootstrap, topic, group):
    async def test():
        await create(bootstrap, topic)
        await send_numbers(bootstrap, topic, 10)
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap, topic, group_id=group, **MEMBER) as consumer:
            await take(consumer, 10)
            await consumer.commit({place: 6})
            assert await consumer.committed(place) == 6
        async with a_consumer(bootstrap, topic, group_id=group, **MEMBER) as consumer:
            assert [one.offset for one in await take(consumer, 4)] == [6, 7, 8, 9]

    run(test())


def test_the_metadata_of_a_commit_comes_back(bootstrap, topic, group):
    async def test():
        await create(bootstrap, topic, partitions=2)
        places = [TopicPartition(topic, number) for number in range(2)]
        # Offsets may lie beyond the end, and the limit is in characters.
        notes = {
            places[0]: OffsetAndMetadata(3, "pending:3-4:7"),
            places[1]: OffsetAndMetadata(99_999, "é" * 4_096),
        }
        async with a_consumer(bootstrap, topic, group_id=group, **MEMBER) as consumer:
            await consumer.commit(notes)
        async with an_admin(bootstrap) as admin:
            assert await admin.list_consumer_group_offsets(group) == notes

    run(test())


def test_metadata_may_have_4096_characters_and_a_commit_has_its_own_refusals(bootstrap, topic, group):
    async def test():
        await create(bootstrap, topic)
        async with a_client(bootstrap) as client:
            codes = [
                await _commit(client, group, topic, "x" * 4_096),
                await _commit(client, group, topic, "x" * 4_097),
                await _commit(client, group, f"{topic}-unknown", ""),
                await _commit(client, group, topic, "", generation=3, member="nobody"),
            ]
        assert codes == [0, 12, 3, 25]

    run(test())


def test_a_member_of_a_group_that_is_gone_is_of_another_generation(bootstrap, topic, group):
    async def test():
        await create(bootstrap, topic)
        async with a_client(bootstrap) as client:
            assert await _commit(client, group, topic, "", generation=3, member="nobody") == 22

    run(test())


def test_a_stranger_cannot_commit_into_a_group_with_members(bootstrap, topic, group):
    async def test():
        await create(bootstrap, topic)
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap, group_id=group) as stranger:
            stranger.assign([place])
            await stranger.commit({place: 1})
            async with a_consumer(bootstrap, topic, group_id=group, **MEMBER) as member, pumped(member):
                await until(lambda: shares(member) == [1])
                with pytest.raises(CommitFailedError):
                    await stranger.commit({place: 2})
                assert await member.committed(place) == 1

    run(test())


def test_a_zombie_that_lost_its_partitions_cannot_commit(bootstrap, topic, group):
    """It stopped taking part, the others rebalanced without it, and its generation is over."""

    async def test():
        await create(bootstrap, topic, partitions=2)
        options = {**MEMBER, "group_id": group, "rebalance_timeout_ms": 1_000}
        async with a_consumer(bootstrap, topic, **options) as zombie:
            await until(lambda: shares(zombie) == [2])
            # A process that hangs: no heartbeat, no rejoin, though its session has not run out yet.
            await _silenced(zombie)
            async with a_consumer(bootstrap, topic, **options) as successor, pumped(successor):
                await until(lambda: shares(successor) == [2])
                await successor.commit({TopicPartition(topic, 0): 8, TopicPartition(topic, 1): 9})
                with pytest.raises(CommitFailedError):
                    await zombie.commit({TopicPartition(topic, 0): 1, TopicPartition(topic, 1): 1})
        assert await committed(bootstrap, group) == {0: 8, 1: 9}

    run(test())


async def _silenced(consumer: AIOKafkaConsumer) -> None:
    coordinator = consumer._coordinator
    coordinator._coordination_task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await coordinator._coordination_task
    await coordinator._stop_heartbeat_task()


def test_a_generation_that_is_over_is_refused_as_such(bootstrap, topic, group):
    async def test():
        await create(bootstrap, topic)
        async with (
            a_client(bootstrap) as client,
            a_consumer(bootstrap, topic, group_id=group, **MEMBER) as member,
            pumped(member),
        ):
            await until(lambda: shares(member) == [1])
            known, generation = member._coordinator.member_id, member._coordinator.generation
            node = await coordinator_of(client, group)

            async def heartbeat(name: str, number: int) -> int:
                return (await client.send(node, HeartbeatRequest(group, number, name))).error_code

            assert [
                await heartbeat(known, generation),
                await heartbeat(known, generation - 1),
                await heartbeat("nobody", generation),
                await _commit(client, group, topic, "", generation=generation, member=known),
                await _commit(client, group, topic, "", generation=generation - 1, member=known),
            ] == [0, 22, 25, 0, 22]

    run(test())


def test_what_cannot_join_or_leave_is_told_why(bootstrap, group):
    async def test():
        async with a_client(bootstrap) as client:
            node = await coordinator_of(client, group)
            codes = [
                (await client.send(node, _join(""))).error_code,
                (await client.send(node, _join(group, member="nobody"))).error_code,
                (await client.send(node, _join(group, session_ms=1_800_001))).error_code,
                (await client.send(node, LeaveGroupRequest(group, "nobody"))).error_code,
            ]
        assert codes == [24, 25, 26, 25]

    run(test())


def test_a_dynamic_member_is_told_its_id_before_it_may_join(bootstrap, group):
    async def test():
        async with a_client(bootstrap) as client:
            node = await coordinator_of(client, group)
            told = await client.send(node, _join(group))
            assert (told.error_code, told.generation_id, bool(told.member_id)) == (79, -1, True)
            joined = await client.send(node, _join(group, member=told.member_id))
            assert (joined.error_code, joined.generation_id, joined.member_id, joined.leader_id) == (
                0,
                1,
                told.member_id,
                told.member_id,
            )

    run(test())


def test_a_session_below_six_seconds_is_refused(bootstrap, group):
    async def test():
        async with a_client(bootstrap) as client:
            node = await coordinator_of(client, group)
            assert (await client.send(node, _join(group, session_ms=SESSION_MS_MIN - 1))).error_code == 26

    run(test())


def _join(group: str, member: str = "", session_ms: int = SESSION_MS_MIN) -> JoinGroupRequest:
    return JoinGroupRequest(group, session_ms, 1_000, member, None, "consumer", [("range", b"")])


def test_a_group_is_described_with_its_members_while_it_lives_and_kept_when_they_left(
    bootstrap, topic, group
):
    async def test():
        await create(bootstrap, topic)
        async with an_admin(bootstrap) as admin:
            options = {**MEMBER, "group_id": group, "client_id": "reader"}
            async with a_consumer(bootstrap, topic, **options) as consumer, pumped(consumer):
                await until(lambda: shares(consumer) == [1])
                await consumer.commit({TopicPartition(topic, 0): 0})
                alive = await _described(admin, group)
                assert (group, "consumer") in await admin.list_consumer_groups()
            empty = await _described(admin, group)
            dead = await _described(admin, f"{group}-unknown")
        assert (alive["error_code"], alive["state"], alive["protocol_type"], alive["protocol"]) == (
            0,
            "Stable",
            "consumer",
            "roundrobin",
        )
        (member,) = alive["members"]
        assert (member["client_id"], member["member_id"][:7]) == ("reader", "reader-")
        assert (empty["state"], empty["members"]) == ("Empty", [])
        assert (dead["state"], dead["members"]) == ("Dead", [])

    run(test())


def test_offsets_nobody_committed_are_none(bootstrap, topic, group):
    async def test():
        await create(bootstrap, topic)
        async with a_consumer(bootstrap, group_id=group) as consumer:
            assert await consumer.committed(TopicPartition(topic, 0)) is None
        assert await committed(bootstrap, group) == {}
        place = TopicPartition(topic, 0)
        async with an_admin(bootstrap) as admin:
            found = await admin.list_consumer_group_offsets(group, partitions=[place])
        assert found == {place: OffsetAndMetadata(-1, "")}

    run(test())


def test_a_group_that_follows_a_pattern_finds_topics_made_later(bootstrap, topic, group):
    async def test():
        await create(bootstrap, f"{topic}-a")
        options = {**MEMBER, "group_id": group, "metadata_max_age_ms": 500}
        async with a_consumer(bootstrap, **options) as consumer, pumped(consumer) as seen:
            consumer.subscribe(pattern=f"{topic}-.*")
            await until(lambda: shares(consumer) == [1])
            await create(bootstrap, f"{topic}-b")
            await until(lambda: shares(consumer) == [2])
            async with a_producer(bootstrap) as producer:
                await producer.send_and_wait(f"{topic}-b", b"v")
            await until(lambda: [one.topic for one in seen] == [f"{topic}-b"])

    run(test())


async def _described(admin, group) -> dict:
    (reply,) = await admin.describe_consumer_groups([group])
    (found,) = reply.to_object()["groups"]
    return found


async def _commit(client, group, topic, note, *, generation=-1, member="") -> int:
    node = await coordinator_of(client, group)
    reply = await client.send(
        node, OffsetCommitRequest(group, generation, member, -1, [(topic, [(0, 1, note)])])
    )
    ((_, ((_, code),)),) = reply.topics
    return code
