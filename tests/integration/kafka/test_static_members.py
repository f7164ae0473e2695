"""Members with lasting names: a restart that nobody notices, and an end that everybody does."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

from tests.integration.kafka.clients import (
    SESSION_MS_MIN,
    Holdings,
    a_client,
    a_consumer,
    an_admin,
    committed,
    coordinator_of,
    create,
    pumped,
    run,
    send_numbers,
    shares,
    until,
)

FENCED_INSTANCE_ID = 82
MEMBER = {
    "session_timeout_ms": 10_000,
    "heartbeat_interval_ms": 300,
    "partition_assignment_strategy": (StickyPartitionAssignor,),
}


@pytest.mark.parametrize("returning", ["first", "second"])
def test_a_member_that_returns_gets_its_partitions_back_and_nobody_else_notices(
    bootstrap, topic, group, returning
):
    """Whichever of the two: one of them is the group's leader."""

    async def test():
        await create(bootstrap, topic, partitions=4)
        names = ("first", "second")
        (staying_name,) = set(names) - {returning}
        staying = Holdings()
        options = {**MEMBER, "group_id": group}
        async with (
            a_consumer(
                bootstrap, topic, group_instance_id=staying_name, listener=staying, **options
            ) as stays,
            pumped(stays),
        ):
            async with a_consumer(bootstrap, topic, group_instance_id=returning, **options) as leaves:
                await until(lambda: shares(stays, leaves) == [2, 2] and len(staying.held) == 2)
                had, generation = leaves.assignment(), leaves._coordinator.generation
                revocations = staying.revocations
            async with a_consumer(bootstrap, topic, group_instance_id=returning, **options) as returned:
                # A rebalance would end only when the other member has let its partitions go and joined again.
                await until(lambda: shares(returned) == [2])
                assert (returned.assignment(), returned._coordinator.generation) == (had, generation)
                assert (staying.revocations, shares(stays)) == (revocations, [2])

    run(test())


def test_a_member_that_returns_goes_on_where_it_committed(bootstrap, topic, group):
    options = {**MEMBER, "group_id": group, "group_instance_id": "only"}

    async def test():
        await create(bootstrap, topic, partitions=2)
        for number in range(3):
            await send_numbers(bootstrap, topic, 10, partitions=2)
            async with a_consumer(bootstrap, topic, **options) as consumer, pumped(consumer) as seen:
                await until(lambda found=seen: len(found) >= 10)
                assert sorted(one.offset // 5 for one in seen) == [number] * 10
                await consumer.commit()
        assert await committed(bootstrap, group) == {0: 15, 1: 15}

    run(test())


def test_a_member_that_stays_away_is_replaced_after_its_session_only(bootstrap, topic, group):
    options = {**MEMBER, "group_id": group, "session_timeout_ms": SESSION_MS_MIN}

    async def test():
        await create(bootstrap, topic, partitions=2)
        async with a_consumer(bootstrap, topic, group_instance_id="stays", **options) as stays, pumped(stays):
            async with a_consumer(bootstrap, topic, group_instance_id="leaves", **options) as leaves:
                await until(lambda: shares(stays, leaves) == [1, 1])
            loop = asyncio.get_running_loop()
            began = loop.time()
            await until(lambda: shares(stays) == [2])
            assert loop.time() - began > SESSION_MS_MIN / 1000 - 2

    run(test())


def test_a_description_shows_static_members_under_their_names(bootstrap, topic, group):
    async def test():
        await create(bootstrap, topic)
        options = {**MEMBER, "group_id": group, "group_instance_id": "replica-0"}
        async with a_consumer(bootstrap, topic, **options) as consumer, pumped(consumer):
            await until(lambda: consumer.assignment() == {TopicPartition(topic, 0)})
            async with an_admin(bootstrap) as admin:
                (reply,) = await admin.describe_consumer_groups([group])
        (found,) = reply.to_object()["groups"]
        assert [member["member_id"][:10] for member in found["members"]] == ["replica-0-"]

    run(test())


def test_a_member_whose_place_was_taken_is_told_so(bootstrap, group):
    async def test():
        async with a_client(bootstrap) as client:
            node = await coordinator_of(client, group)

            async def joined(member: str):
                protocols = [("range", b"")]
                request = JoinGroupRequest(
                    group, SESSION_MS_MIN, 1_000, member, "name", "consumer", protocols
                )
                return await client.send(node, request)

            earlier, later = await joined(""), await joined("")
            assert (earlier.error_code, later.error_code) == (0, 0)
            sync = SyncGroupRequest(group, later.generation_id, earlier.member_id, "name", [])
            codes = [(await joined(earlier.member_id)).error_code, (await client.send(node, sync)).error_code]
            assert codes == [FENCED_INSTANCE_ID] * 2

    run(test())


def test_of_two_processes_with_one_name_the_later_holds_the_partitions(bootstrap, topic, group):
    """The earlier is thrown out at its next heartbeat, and comes back: names must be unique per replica."""

    async def test():
        await create(bootstrap, topic, partitions=2)
        options = {**MEMBER, "group_id": group, "group_instance_id": "same"}
        earlier_held, later_held = Holdings(), Holdings()
        async with (
            a_consumer(bootstrap, topic, listener=earlier_held, **options) as earlier,
            pumped(earlier),
        ):
            await until(lambda: len(earlier_held.held) == 2)
            async with a_consumer(bootstrap, topic, listener=later_held, **options) as later, pumped(later):
                await until(lambda: len(later_held.held) == 2)
                await until(lambda: earlier_held.revocations > 0)
                await until(lambda: later_held.revocations > 0)

    run(test())
