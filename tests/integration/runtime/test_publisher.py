"""The publisher on a broker: acknowledged means kept, in order by key, where others look for it."""

import asyncio
import itertools
import os
import random
import uuid

import confluent_kafka
import pytest

from services.local.ports import free_ports
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import BATCH_BYTES_MAX, Publisher, PublishFailed, partition_of
from services.runtime.records import OutgoingRecord
from tests.integration.runtime import brokers
from tests.integration.runtime.clients import new_topic, outgoing, publish, read, read_all, run, until

PARTITIONS = 12


def numbers_by_key(records):
    """The numbers of each key in the order of their first arrival."""
    found: dict[bytes, dict[int, None]] = {}
    for record in records:
        found.setdefault(record.key, {})[int(record.value)] = None
    return {key: list(numbers) for key, numbers in found.items()}


def test_many_records_over_many_partitions_arrive_once_and_in_order_by_key(kafka):
    async def test():
        topic = await new_topic(kafka, PARTITIONS)
        sent = outgoing(topic, 20_000, keys=50)
        publisher = Publisher(kafka)
        try:
            for step in range(0, len(sent), 5_000):
                await publisher.publish(sent[step : step + 5_000])
        finally:
            await publisher.close()
        found = await read_all(kafka, topic, PARTITIONS)
        assert len(found) == len(sent)
        assert numbers_by_key(found) == numbers_by_key(sent)
        assert {record.partition for record in found} == {
            partition_of(record.key, PARTITIONS) for record in sent
        }

    run(test())


def test_headers_keys_and_values_arrive_as_they_are_however_many_batches_they_fill(kafka):
    async def test():
        topic = await new_topic(kafka)
        headers = (("ce_id", b"1"), ("ce_id", b"again"), ("binary", b"\xff\x00"))
        values = [os.urandom(BATCH_BYTES_MAX // 3) for _ in range(8)]
        values += [b"", os.urandom(BATCH_BYTES_MAX + 1)]
        sent = [OutgoingRecord(topic, None, value, headers) for value in values]
        await publish(kafka, sent)
        found = await read(kafka, topic, len(sent))
        assert [(each.key, each.value, each.headers) for each in found] == [
            (each.key, each.value, each.headers) for each in sent
        ]

    run(test())


def test_partitions_are_those_of_librdkafka_with_the_partitioner_of_the_java_client(kafka):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    keys = [chance.randbytes(length) for length in range(1, 41) for _ in range(5)]
    chosen: dict[bytes, int] = {}

    def produce(topic):
        producer = confluent_kafka.Producer(
            {"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"}
        )

        def delivered(error, message):
            assert error is None, error
            chosen[message.key()] = message.partition()

        for key in keys:
            producer.produce(topic, key=key, value=b"v", on_delivery=delivered)
        assert producer.flush(10) == 0

    async def test():
        await asyncio.to_thread(produce, await new_topic(kafka, 7))

    run(test())
    assert {key: partition_of(key, 7) for key in keys} == chosen


def test_a_broker_that_is_killed_and_comes_back_loses_nothing_that_was_acknowledged(own_broker):
    kafka = KafkaConfig(bootstrap_servers=own_broker.address, request_timeout_ms=2_000)
    acknowledged: list[OutgoingRecord] = []

    async def publish_until_acknowledged(publisher, records):
        while True:
            try:
                await publisher.publish(records)
            except PublishFailed:
                continue
            acknowledged.extend(records)
            return

    async def write(topic, enough):
        publisher = Publisher(kafka)
        try:
            for start in itertools.count(step=200):
                await publish_until_acknowledged(publisher, outgoing(topic, 200, keys=20, start=start))
                if enough():
                    return
        finally:
            await publisher.close()

    async def test():
        topic = await new_topic(kafka, 4)
        target = float("inf")
        writing = asyncio.create_task(write(topic, lambda: len(acknowledged) >= target))
        await until(lambda: len(acknowledged) >= 1_000 or writing.done())
        own_broker.kill()
        await asyncio.to_thread(own_broker.start)
        target = len(acknowledged) + 1_000
        await writing
        found = await read_all(kafka, topic, 4)
        assert numbers_by_key(found) == numbers_by_key(acknowledged)

    run(test())


def test_no_acknowledgement_is_a_failure_and_the_publisher_can_be_used_again(kafka):
    async def test():
        topic = f"late-{uuid.uuid4().hex}"
        publisher = Publisher(KafkaConfig(bootstrap_servers=kafka.bootstrap_servers, request_timeout_ms=300))
        try:
            with pytest.raises(PublishFailed):
                await publisher.publish(outgoing(topic, 1))
            await brokers.create_topic(kafka.bootstrap_servers, topic)
            await publisher.publish(outgoing(topic, 1))
        finally:
            await publisher.close()
        assert [record.value for record in await read_all(kafka, topic, 1)] == [b"0"]

    run(test())


def test_a_kafka_that_is_not_there_is_a_failure_at_once():
    async def test():
        publisher = Publisher(KafkaConfig(bootstrap_servers=f"127.0.0.1:{free_ports(1)}"))
        with pytest.raises(PublishFailed):
            await asyncio.wait_for(publisher.publish(outgoing("t", 1)), 2)
        await publisher.close()

    run(test())


def test_publishing_nothing_needs_no_kafka():
    async def test():
        await Publisher(KafkaConfig(bootstrap_servers=f"127.0.0.1:{free_ports(1)}")).publish([])

    run(test())
