"""The consumer loop on a broker: nothing skipped, nothing committed early, nobody waited for in vain."""

import asyncio
import time
import uuid
from itertools import groupby

import pytest
from aiokafka import AIOKafkaProducer
from structlog.testing import capture_logs

from schemas import codec
from schemas.dead_letters import DeadLetter
from services.local.ports import free_ports
from services.runtime.consumer import ConsumerConfig, ConsumerLoop
from services.runtime.dead_limits import DEAD_IN_A_ROW_MAX
from services.runtime.errors import ServiceStopped
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher
from services.runtime.records import OutgoingRecord
from tests.integration.runtime import brokers
from tests.integration.runtime.clients import (
    EchoStage,
    committed,
    group_state,
    member,
    new_topic,
    outgoing,
    publish,
    read,
    read_all,
    run,
    until,
    until_async,
)

STOP_S_MAX = 2.0
HOLD_S = 0.5  # how long a stage is held up, several heartbeats of a test's member
MOMENT_S_MAX = 0.2  # less than any wait between two tries that it could be in


def new_group() -> str:
    return f"g-{uuid.uuid4().hex}"


def by_partition(records):
    ordered = sorted(records, key=lambda record: record.partition)
    return {
        number: [(record.offset, record.value) for record in run]
        for number, run in groupby(ordered, key=lambda record: record.partition)
    }


def test_every_record_is_processed_once_in_order_within_its_partition(kafka):
    async def test():
        topic, out, group = await new_topic(kafka, 3), await new_topic(kafka, 3), new_group()
        sent = outgoing(topic, 300, keys=20)
        await publish(kafka, sent)
        async with member(EchoStage(topic, out), kafka, group, batch_records_max=50) as one:
            await until(lambda: len(one.stage.done) >= 300)
            await one.stop()
            given = one.stage.done
        expected = await read_all(kafka, topic, 3)
        assert by_partition(given) == by_partition(expected)
        assert sorted(record.value for record in await read_all(kafka, out, 3)) == sorted(
            record.value for record in sent
        )
        ends = {number: len(records) for number, records in by_partition(expected).items()}
        assert await committed(kafka, group) == ends

    run(test())


def test_what_a_crash_left_unfinished_comes_again(kafka):
    async def test():
        topic, group = await new_topic(kafka), new_group()
        await publish(kafka, outgoing(topic, 10))
        async with member(EchoStage(topic), kafka, group) as crashing:
            crashing.stage.gate.clear()
            await until(lambda: len(crashing.stage.given) == 10)
            await crashing.crash()
        assert await committed(kafka, group) == {}
        async with member(EchoStage(topic), kafka, group) as successor:
            await until(lambda: len(successor.stage.done) == 10)
            await successor.stop()
            assert successor.stage.done == crashing.stage.given
        assert await committed(kafka, group) == {0: 10}

    run(test())


def test_nothing_is_committed_before_what_came_of_it_is_acknowledged(kafka):
    async def test():
        topic, group, out = await new_topic(kafka), new_group(), f"late-{uuid.uuid4().hex}"
        impatient = KafkaConfig(bootstrap_servers=kafka.bootstrap_servers, request_timeout_ms=300)
        await publish(kafka, outgoing(topic, 3))
        with capture_logs() as logged:
            async with member(EchoStage(topic, out), impatient, group) as one:
                await until(lambda: "consumer.publish_failed" in [line["event"] for line in logged])
                assert await committed(kafka, group) == {}
                await brokers.create_topic(kafka.bootstrap_servers, out)
                assert [record.value for record in await read(kafka, out, 3)] == [b"0", b"1", b"2"]
                await until_async(lambda: _is_committed(kafka, group, {0: 3}))
                assert one.stage.values_done == [b"0", b"1", b"2"]

    run(test())


async def _is_committed(kafka, group, offsets) -> bool:
    return await committed(kafka, group) == offsets


def test_a_stage_that_can_use_nothing_stops_before_it_has_set_everything_aside(kafka):
    async def test():
        topic, group = await new_topic(kafka), new_group()
        await brokers.create_topic(kafka.bootstrap_servers, f"{topic}.dlq")
        sent = outgoing(topic, DEAD_IN_A_ROW_MAX + 200)
        await publish(kafka, sent)
        stage = EchoStage(topic, poison=frozenset(record.value for record in sent))
        publisher = Publisher(kafka)
        config = ConsumerConfig(group_id=group, batch_records_max=300)
        with pytest.raises(ServiceStopped, match="records in a row were unusable for echo"):
            await asyncio.wait_for(ConsumerLoop(stage, config, kafka, publisher).run(asyncio.Event()), 30)
        await publisher.close()
        assert (await committed(kafka, group))[0] <= DEAD_IN_A_ROW_MAX

    run(test())


def test_a_dead_record_lands_on_the_dlq_with_its_exact_bytes_and_the_rest_goes_on(kafka):
    async def test():
        topic, group = await new_topic(kafka, max_message_bytes=1_048_588), new_group()
        await brokers.create_topic(kafka.bootstrap_servers, f"{topic}.dlq", max_message_bytes=2 * 1_048_588)
        # Beside the ordinary: no UTF-8 anywhere, and a value as large as its topic takes.
        headers = (("ce_id", b"\xff\x00"), ("ce_id", b"twice"))
        poison = b"\x00\xff not JSON \x80"
        large = bytes(range(256)) * 4_000
        await publish(
            kafka,
            [
                OutgoingRecord(topic, b"\x01\xfe", poison, headers),
                OutgoingRecord(topic, b"good", b"good", ()),
                OutgoingRecord(topic, None, large, ()),
            ],
        )
        async with member(EchoStage(topic, poison=frozenset((poison, large))), kafka, group) as one:
            found = await read(kafka, f"{topic}.dlq", 2)
            await until_async(lambda: _is_committed(kafka, group, {0: 3}))
            assert one.stage.values_done == [poison, b"good", large]
        letters = [codec.decode(DeadLetter, record.value) for record in found]
        whole = {"topic": topic, "partition": 0, "stage": "echo", "error_class": "Poison"}
        assert letters == [
            DeadLetter(
                **whole,
                offset=0,
                error="it is poison",
                dead_at=letters[0].dead_at,
                key=b"\x01\xfe",
                value=poison,
                headers=headers,
            ),
            DeadLetter(
                **whole, offset=2, error="it is poison", dead_at=letters[1].dead_at, key=None, value=large
            ),
        ]
        assert [(record.key, dict(record.headers)["ce_id"]) for record in found] == [
            (b"\x01\xfe", f"{topic}/0/0".encode()),
            (None, f"{topic}/0/2".encode()),
        ]

    run(test())


def test_a_record_of_any_shape_reaches_the_stage(kafka):
    """A tombstone, no key, a header without a value: another program may have written them."""

    async def test():
        topic = await new_topic(kafka)
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        await producer.start()
        await producer.send_and_wait(topic, value=None, key=b"k", headers=[("none", None), ("empty", b"")])
        await producer.send_and_wait(topic, value=b"v", key=None)
        await producer.stop()
        async with member(EchoStage(topic), kafka, new_group()) as one:
            await until(lambda: len(one.stage.done) == 2 or one.task.done())
        assert [(record.key, record.value, record.headers) for record in one.stage.done] == [
            (b"k", None, (("none", b""), ("empty", b""))),
            (None, b"v", ()),
        ]

    run(test())


def test_work_that_takes_long_keeps_its_membership_and_skips_nothing(kafka):
    """Records that lie fetched while the stage works must come afterwards."""

    async def test():
        topic, group = await new_topic(kafka, 2), new_group()
        await publish(kafka, outgoing(topic, 6, keys=6))
        async with member(EchoStage(topic), kafka, group, batch_records_max=1) as one:
            one.stage.gate.clear()
            await until(lambda: len(one.stage.given) == 1)
            began = time.monotonic()
            await publish(kafka, outgoing(topic, 6, keys=6, start=6))
            await until(lambda: time.monotonic() - began > HOLD_S)
            assert await group_state(kafka, group) == ("Stable", 1)
            one.stage.gate.set()
            await until(lambda: len(one.stage.done) >= 12)
            await one.stop()
            given = by_partition(one.stage.done)
        expected = by_partition(await read_all(kafka, topic, 2))
        assert given == expected
        assert await committed(kafka, group) == {number: len(found) for number, found in expected.items()}

    run(test())


def test_two_members_share_the_partitions(kafka):
    async def test():
        topic, group = await new_topic(kafka, 4), new_group()
        async with (
            member(EchoStage(topic), kafka, group) as first,
            member(EchoStage(topic), kafka, group) as two,
        ):
            await first.until_ready()
            await two.until_ready()
            await until_async(lambda: _is_group(kafka, group, ("Stable", 2)))
            await publish(kafka, outgoing(topic, 200, keys=40))
            await until(lambda: len(first.stage.done) + len(two.stage.done) >= 200)
            await asyncio.gather(first.stop(), two.stop())
        halves = [{record.partition for record in one.stage.done} for one in (first, two)]
        assert [len(half) for half in halves] == [2, 2]
        assert halves[0] | halves[1] == {0, 1, 2, 3}
        values = sorted(int(record.value) for one in (first, two) for record in one.stage.done)
        assert values == list(range(200))

    run(test())


async def _is_group(kafka, group, state) -> bool:
    return await group_state(kafka, group) == state


def test_work_in_hand_is_finished_before_its_partitions_go_to_another_member(kafka):
    async def test():
        topic, group = await new_topic(kafka, 2), new_group()
        await publish(kafka, outgoing(topic, 20, keys=10))
        with capture_logs() as logged:
            async with (
                member(EchoStage(topic, name="first"), kafka, group) as first,
                member(EchoStage(topic, name="second"), kafka, group, joins_at_once=False) as second,
            ):
                first.stage.gate.clear()
                await until(lambda: len(first.stage.given) == 20)
                heard = len(logged)
                second.join()
                await until(lambda: "first" in revoked_of(logged[heard:]))
                # The rebalance waits for the stage: give everything else the chance to wait for it as well.
                began = time.monotonic()
                await until(lambda: time.monotonic() - began > HOLD_S)
                first.stage.gate.set()
                await until_async(lambda: _is_group(kafka, group, ("Stable", 2)))
                await second.until_ready()
                await publish(kafka, outgoing(topic, 20, keys=10, start=20))
                await until(lambda: len(first.stage.done) + len(second.stage.done) >= 40)
                await asyncio.gather(first.stop(), second.stop())
        values = sorted(int(record.value) for one in (first, second) for record in one.stage.done)
        assert values == list(range(40))

    run(test())


def revoked_of(logged):
    """Who was asked to give partitions up."""
    return [line["stage"] for line in logged if line["event"] == "consumer.partitions_revoked"]


def test_abandoned_work_is_not_committed_and_comes_to_the_new_owner(kafka):
    async def test():
        topic, group = await new_topic(kafka, 2), new_group()
        await publish(kafka, outgoing(topic, 20, keys=10))
        async with member(EchoStage(topic), kafka, group, revoke_s_max=0.2) as stuck:
            stuck.stage.gate.clear()
            await until(lambda: len(stuck.stage.given) == 20)
            async with member(EchoStage(topic), kafka, group) as second:
                await until(lambda: len(second.stage.done) > 0)
                await until_async(lambda: _is_group(kafka, group, ("Stable", 2)))
                (partition,) = {record.partition for record in second.stage.done}
                count = sum(record.partition == partition for record in stuck.stage.given[:20])
                await until(lambda: len(second.stage.done) == count)
                await until_async(lambda: _is_committed(kafka, group, {partition: count}))
        assert stuck.stage.done == []

    run(test())


def test_an_idle_member_stops_promptly(kafka):
    async def test():
        topic = await new_topic(kafka)
        async with member(EchoStage(topic), kafka, new_group()) as one:
            await one.until_ready()
            began = time.monotonic()
            await one.stop()
            assert time.monotonic() - began < STOP_S_MAX
            assert not one.loop.is_ready

    run(test())


def test_work_in_hand_is_finished_when_asked_to_stop(kafka):
    async def test():
        topic, group = await new_topic(kafka), new_group()
        await publish(kafka, outgoing(topic, 3))
        async with member(EchoStage(topic), kafka, group) as one:
            one.stage.gate.clear()
            await until(lambda: len(one.stage.given) == 3)
            one.stopping.set()
            one.stage.gate.set()
            await one.task
        assert await committed(kafka, group) == {0: 3}

    run(test())


def test_work_that_does_not_end_is_left_for_later_when_asked_to_stop(kafka):
    async def test():
        topic, group = await new_topic(kafka), new_group()
        await publish(kafka, outgoing(topic, 3))
        async with member(EchoStage(topic), kafka, group, stop_s_max=0.5) as one:
            one.stage.gate.clear()
            await until(lambda: len(one.stage.given) == 3)
            began = time.monotonic()
            await one.stop()
            assert time.monotonic() - began < STOP_S_MAX
        assert await committed(kafka, group) == {}

    run(test())


def test_a_member_that_never_reached_kafka_stops_at_once():
    async def test():
        nowhere = KafkaConfig(bootstrap_servers=f"127.0.0.1:{free_ports(1)}")
        with capture_logs() as logged:
            async with member(EchoStage("t"), nowhere, "g") as one:
                # The second wait is the first that would be felt.
                await until(lambda: [line["event"] for line in logged] == ["consumer.kafka_unreachable"] * 3)
                began = time.monotonic()
                await one.stop()
                assert time.monotonic() - began < MOMENT_S_MAX

    run(test())


@pytest.mark.parametrize("is_working", [False, True], ids=["idle", "with work in hand"])
def test_a_member_whose_kafka_went_away_stops_soon(own_broker, is_working):
    async def test():
        kafka = KafkaConfig(bootstrap_servers=own_broker.address, request_timeout_ms=1_000)
        topic = await new_topic(kafka)
        await publish(kafka, outgoing(topic, 3))
        async with member(EchoStage(topic), kafka, "g", stop_s_max=1.0) as one:
            await until(lambda: len(one.stage.done) == 3)
            if is_working:
                one.stage.gate.clear()
                await publish(kafka, outgoing(topic, 1, start=3))
                await until(lambda: len(one.stage.given) == 4)
            own_broker.kill()
            one.stage.gate.set()
            began = time.monotonic()
            await one.stop()
            assert time.monotonic() - began < 2 * STOP_S_MAX

    run(test())


class DyingStage(EchoStage):
    """Has a bug."""

    async def process(self, records):
        raise ZeroDivisionError("a bug")


def test_a_stage_that_dies_ends_the_process_with_nothing_committed(kafka):
    async def test():
        topic, group = await new_topic(kafka), new_group()
        await publish(kafka, outgoing(topic, 3))
        loop = ConsumerLoop(DyingStage(topic), ConsumerConfig(group_id=group), kafka, Publisher(kafka))
        with pytest.raises(ZeroDivisionError):
            await loop.run(asyncio.Event())
        assert (await committed(kafka, group), loop.is_ready) == ({}, False)

    run(test())


def test_a_member_is_not_ready_while_kafka_is_away_for_long_and_goes_on_when_it_is_back(own_broker):
    kafka = KafkaConfig(bootstrap_servers=own_broker.address, request_timeout_ms=1_000)

    async def test():
        topic, group = await new_topic(kafka), new_group()
        with capture_logs() as logged:
            async with member(EchoStage(topic), kafka, group, kafka_away_s_max=1.5) as one:
                await one.until_ready()
                own_broker.kill()
                await until(lambda: not one.loop.is_ready)
                assert not one.task.done()
                await asyncio.to_thread(own_broker.start)
                await one.until_ready()
                await publish(kafka, outgoing(topic, 3))
                await until(lambda: len(one.stage.done) >= 3)
        said = [line["event"] for line in logged if line["event"].startswith("consumer.kafka_")]
        assert said == ["consumer.kafka_went_away", "consumer.kafka_came_back"]

    run(test(), 60)


def test_a_member_whose_topics_are_missing_says_so_and_reads_them_once_they_are_there(kafka):
    async def test():
        topic = f"late-{uuid.uuid4().hex}"
        with capture_logs() as logged:
            async with member(EchoStage(topic), kafka, new_group()) as one:
                await until(lambda: "consumer.topics_missing" in [line["event"] for line in logged])
                assert not one.loop.is_ready
                await brokers.create_topic(kafka.bootstrap_servers, topic)
                await one.until_ready()
                await publish(kafka, outgoing(topic, 3))
                await until(lambda: len(one.stage.done) == 3)
        said = next(line for line in logged if line["event"] == "consumer.topics_missing")
        assert (said["topics"], said["remedy"]) == ([topic], "tollhouse migrate")

    run(test(), 60)
