"""What producers may rely on: order, once, stamps, sizes, and what a refusal leaves behind."""

import asyncio
import os
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    UnknownTopicOrPartitionError,
)
from aiokafka.partitioner import murmur2
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from tests.integration.kafka.clients import (
    a_client,
    a_producer,
    create,
    read,
    read_to_end,
    run,
    settings_of,
)

CODECS = (None, "gzip", "snappy", "lz4", "zstd")
IDEMPOTENT = {"enable_idempotence": True, "compression_type": "zstd"}
CREATE_TIME, APPEND_TIME = 0, 1
INVALID_TIMESTAMP = 32


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_a_record_comes_back_as_it_was_sent(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        headers = [("a", b"\x00\xff"), ("a", b"again"), ("empty", b""), ("ünï", "ö".encode())]
        async with a_producer(bootstrap) as producer:
            stamps = [now_ms() - 5_000, 1_700_000_000_123, now_ms()]
            sent = [
                await producer.send_and_wait(topic, b"v", b"k", timestamp_ms=stamps[0], headers=headers),
                await producer.send_and_wait(topic, b"", b"", timestamp_ms=stamps[1]),
                await producer.send_and_wait(topic, b"\x00" * 1_000, None, timestamp_ms=stamps[2]),
            ]
        assert [
            (one.topic, one.partition, one.offset, one.timestamp, one.timestamp_type) for one in sent
        ] == [(topic, 0, offset, stamps[offset], CREATE_TIME) for offset in range(3)]
        found = await read(bootstrap, topic, 3)
        assert [
            (one.offset, one.key, one.value, one.timestamp, one.timestamp_type, one.headers) for one in found
        ] == [
            (0, b"k", b"v", stamps[0], CREATE_TIME, tuple(headers)),
            (1, b"", b"", stamps[1], CREATE_TIME, ()),
            (2, None, b"\x00" * 1_000, stamps[2], CREATE_TIME, ()),
        ]

    run(test())


def test_a_tombstone_is_no_empty_value(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, cleanup_policy="compact")
        async with a_producer(bootstrap, **IDEMPOTENT) as producer:
            for key, value in ((b"a", b"1"), (b"b", b""), (b"a", None)):
                await producer.send_and_wait(topic, value, key)
        found = await read(bootstrap, topic, 3)
        assert [(one.key, one.value) for one in found] == [(b"a", b"1"), (b"b", b""), (b"a", None)]

    run(test())


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_an_idempotent_producer_writes_everything_once_and_in_order(bootstrap, topic, codec):
    async def test():
        await create(bootstrap, topic, partitions=3)
        options = {"enable_idempotence": True, "compression_type": codec, "linger_ms": 2}
        async with a_producer(bootstrap, **options) as producer:
            for start in range(0, 900, 300):
                await asyncio.gather(
                    *[
                        await producer.send(topic, b"%d-" % number * 30, partition=number % 3)
                        for number in range(start, start + 300)
                    ]
                )
        found = await read_to_end(bootstrap, topic, 3)
        for partition in range(3):
            values = [(one.offset, one.value) for one in found if one.partition == partition]
            assert values == [(number // 3, b"%d-" % number * 30) for number in range(partition, 900, 3)]

    run(test())


def test_batches_that_the_caller_fills_are_acknowledged_at_their_first_offset(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, partitions=2)
        async with a_producer(bootstrap, **IDEMPOTENT) as producer:
            waiting = []
            for start in (0, 100, 200):
                batch = producer.create_batch()
                for number in range(start, start + 100):
                    batch.append(timestamp=now_ms(), key=None, value=b"%d" % number, headers=[("h", b"1")])
                waiting.append(await producer.send_batch(batch, topic, partition=1))
            acknowledged = await asyncio.gather(*waiting)
        assert [(one.partition, one.offset) for one in acknowledged] == [(1, 0), (1, 100), (1, 200)]
        found = await read_to_end(bootstrap, topic, 2)
        assert [(one.partition, one.offset, one.value) for one in found] == [
            (1, number, b"%d" % number) for number in range(300)
        ]

    run(test())


def test_records_of_one_key_lie_in_the_partition_that_java_clients_choose(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, partitions=5)
        keys = [b"key-%d" % number for number in range(40)]
        async with a_producer(bootstrap) as producer:
            await asyncio.gather(*[await producer.send(topic, b"v", key) for key in keys * 2])
        found = await read_to_end(bootstrap, topic, 5)
        assert sorted((one.key, one.partition) for one in found) == sorted(
            (key, (murmur2(key) & 0x7FFF_FFFF) % 5) for key in keys * 2
        )

    run(test())


def test_the_broker_stamps_a_batch_and_says_the_stamp_in_the_acknowledgement(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, message_timestamp_type="LogAppendTime")
        async with a_producer(bootstrap, **IDEMPOTENT) as producer:
            batch = producer.create_batch()
            for value in (b"a", b"b"):
                batch.append(timestamp=1_000, key=None, value=value, headers=[("ce_id", value)])
            before_ms = now_ms()
            acknowledged = await (await producer.send_batch(batch, topic, partition=0))
        stamp_ms = acknowledged.timestamp
        assert before_ms - 1_000 <= stamp_ms <= before_ms + 60_000
        assert acknowledged.timestamp_type == APPEND_TIME
        found = await read(bootstrap, topic, 2)
        assert [(one.value, one.headers, one.timestamp, one.timestamp_type) for one in found] == [
            (b"a", (("ce_id", b"a"),), stamp_ms, APPEND_TIME),
            (b"b", (("ce_id", b"b"),), stamp_ms, APPEND_TIME),
        ]

    run(test())


def test_a_record_may_be_large_where_the_topic_allows_it(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, max_message_bytes=8 * 1024**2)
        values = [os.urandom(size) for size in (1024**2, 4 * 1024**2, 7 * 1024**2)]
        async with a_producer(bootstrap, max_request_size=16 * 1024**2) as producer:
            for value in values:
                await producer.send_and_wait(topic, value)
        # Each is larger than what a consumer asks for per partition, and must come all the same.
        found = await read(bootstrap, topic, 3, max_partition_fetch_bytes=64 * 1024)
        assert [one.value == value for one, value in zip(found, values, strict=True)] == [True] * 3

    run(test())


def test_the_size_limit_is_that_of_the_batch_to_the_byte(bootstrap, topic):
    limit = 20_000

    async def test():
        await create(bootstrap, topic, max_message_bytes=limit)
        async with a_producer(bootstrap) as producer:
            largest = await _largest_taken(producer, topic, limit - 200, limit)
        assert len(_batch(bytes(largest), key=None)) == limit

    run(test())


async def _largest_taken(producer, topic: str, taken: int, refused: int) -> int:
    """Find by halving the longest value that the broker takes."""
    while refused - taken > 1:
        size = (taken + refused) // 2
        try:
            await producer.send_and_wait(topic, os.urandom(size))
        except MessageSizeTooLargeError:
            refused = size
        else:
            taken = size
    return taken


def test_the_size_limit_counts_compressed_bytes(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, max_message_bytes=10_000)
        async with a_producer(bootstrap, compression_type="zstd") as producer:
            await producer.send_and_wait(topic, b"x" * 500_000)
            with pytest.raises(MessageSizeTooLargeError):
                await producer.send_and_wait(topic, os.urandom(10_000))
        (found,) = await read_to_end(bootstrap, topic)
        assert found.value == b"x" * 500_000

    run(test())


def test_a_default_topic_takes_a_mebibyte_and_no_more(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        async with a_producer(bootstrap, max_request_size=16 * 1024**2) as producer:
            await producer.send_and_wait(topic, os.urandom(1_048_000))
            with pytest.raises(MessageSizeTooLargeError):
                await producer.send_and_wait(topic, os.urandom(1_048_588))

    run(test())


def test_a_refused_batch_ends_the_partition_for_its_producer_and_a_new_producer_goes_on(bootstrap, topic):
    """Why the publisher makes its producer anew after any failure: the refused sequence numbers are gone."""

    async def test():
        await create(bootstrap, topic, partitions=2, max_message_bytes=10_000)
        async with a_producer(bootstrap, **IDEMPOTENT) as producer:
            await producer.send_and_wait(topic, b"first", partition=0)
            with pytest.raises(MessageSizeTooLargeError):
                await producer.send_and_wait(topic, os.urandom(50_000), partition=0)
            with pytest.raises(OutOfOrderSequenceNumber):
                await producer.send_and_wait(topic, b"never", partition=0)
            assert (await producer.send_and_wait(topic, b"elsewhere", partition=1)).offset == 0
        async with a_producer(bootstrap, **IDEMPOTENT) as producer:
            assert (await producer.send_and_wait(topic, b"second", partition=0)).offset == 1

    run(test())


def test_a_stamp_more_than_an_hour_ahead_is_refused(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        bound_ms = (await settings_of(bootstrap, topic)).get("message.timestamp.after.max.ms", "3600000")
        if bound_ms != "3600000":
            pytest.skip("before 4.0, Kafka takes any stamp")
        await _takes_stamps_up_to(bootstrap, topic, minutes=60)

    run(test())


def test_how_far_ahead_a_stamp_may_lie_is_a_setting_of_the_topic(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, message_timestamp_after_max_ms=600_000)
        await _takes_stamps_up_to(bootstrap, topic, minutes=10)

    run(test())


def test_how_old_a_stamp_may_be_is_a_setting_of_the_topic(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, message_timestamp_before_max_ms=600_000)
        async with a_producer(bootstrap, compression_type="zstd") as producer:
            await producer.send_and_wait(topic, b"late", timestamp_ms=now_ms() - 9 * 60_000)
            batch = producer.create_batch()
            for minutes_ago in (0, 11):
                stamp_ms = now_ms() - minutes_ago * 60_000
                batch.append(timestamp=stamp_ms, key=None, value=b"too late", headers=[])
            with pytest.raises(KafkaError) as refused:
                await (await producer.send_batch(batch, topic, partition=0))
            assert refused.value.errno == INVALID_TIMESTAMP

    run(test())


async def _takes_stamps_up_to(bootstrap: str, topic: str, minutes: int) -> None:
    async with a_producer(bootstrap) as producer:
        await producer.send_and_wait(topic, b"soon", timestamp_ms=now_ms() + (minutes - 1) * 60_000)
        with pytest.raises(KafkaError) as refused:
            await producer.send_and_wait(topic, b"far", timestamp_ms=now_ms() + (minutes + 1) * 60_000)
        assert refused.value.errno == INVALID_TIMESTAMP


def test_a_compacted_topic_refuses_a_record_without_a_key(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, cleanup_policy="compact")
        async with a_client(bootstrap) as client:
            assert await _produced(client, topic, _batch(value=b"v", key=b"k")) == (0, 0)
            assert await _produced(client, topic, _batch(value=b"v", key=None)) == (87, -1)

    run(test())


def test_a_damaged_batch_is_refused(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        damaged = bytearray(_batch(value=b"value"))
        damaged[-2] ^= 1
        async with a_client(bootstrap) as client:
            assert await _produced(client, topic, bytes(damaged)) == (2, -1)
            assert await _produced(client, topic, _batch(value=b"value")) == (0, 0)

    run(test())


def test_a_batch_sent_again_is_acknowledged_again_where_it_lies(bootstrap, topic):
    """What makes a retry after a lost acknowledgement harmless; Kafka remembers the last five batches."""

    async def test():
        await create(bootstrap, topic)
        async with a_client(bootstrap) as client:
            producer_id, epoch = await _producer_id(client)
            batches = [_batch(b"%d" % number, producer_id, epoch, number) for number in range(6)]
            sent = [await _produced(client, topic, batch) for batch in batches]
            again = [await _produced(client, topic, batch) for batch in batches]
            gap = await _produced(client, topic, _batch(b"gap", producer_id, epoch, 7))
            following = await _produced(client, topic, _batch(b"6", producer_id, epoch, 6))
        assert sent == [(0, offset) for offset in range(6)]
        # The first is forgotten by now, and out of order.
        assert again == [(45, -1), *((0, offset) for offset in range(1, 6))]
        assert (gap, following) == ((45, -1), (0, 6))
        values = [one.value for one in await read_to_end(bootstrap, topic)]
        assert values == [b"%d" % number for number in range(7)]

    run(test())


def test_a_producer_may_begin_at_any_sequence_number_and_a_later_epoch_ends_the_earlier(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        async with a_client(bootstrap) as client:
            producer_id, epoch = await _producer_id(client)
            answers = [
                await _produced(client, topic, _batch(b"v", producer_id, epoch + plus, sequence))
                for plus, sequence in ((0, 17), (1, 5), (1, 0), (0, 18))
            ]
        assert answers == [(0, 0), (45, -1), (0, 1), (47, -1)]

    run(test())


def test_a_topic_nobody_declared_is_not_created_by_sending_to_it(bootstrap, topic):
    async def test():
        async with a_producer(bootstrap, request_timeout_ms=1_000) as producer:
            with pytest.raises(UnknownTopicOrPartitionError):
                await producer.send_and_wait(topic, b"x")
            cluster = await producer.client.fetch_all_metadata()
        assert topic not in cluster.topics()

    run(test())


def test_a_producer_waits_for_a_topic_that_is_declared_meanwhile(bootstrap, topic):
    async def test():
        async with a_producer(bootstrap) as producer:
            sending = asyncio.create_task(producer.send_and_wait(topic, b"x"))
            await create(bootstrap, topic)
            assert (await sending).offset == 0

    run(test())


def test_a_minimum_of_replicas_above_what_the_topic_has_counts_as_all_it_has(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, min_insync_replicas=2)
        async with a_client(bootstrap) as client:
            assert await _produced(client, topic, _batch(value=b"v")) == (0, 0)

    run(test())


def test_a_producer_that_wants_no_acknowledgement_gets_none_and_is_served(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        async with a_producer(bootstrap, acks=0) as producer:
            for number in range(3):
                await producer.send_and_wait(topic, b"%d" % number)
        assert [one.value for one in await read(bootstrap, topic, 3)] == [b"0", b"1", b"2"]

    run(test())


def _batch(value, producer_id=-1, epoch=-1, sequence=-1, key=b"k") -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, producer_id, epoch, sequence, 1024**2)
    builder.append(0, timestamp=now_ms(), key=key, value=value, headers=[])
    return bytes(builder.build())


async def _producer_id(client) -> tuple[int, int]:
    reply = await client.send(client.get_random_node(), InitProducerIdRequest(None, 60_000))
    assert reply.error_code == 0
    return reply.producer_id, reply.producer_epoch


async def _produced(client, topic: str, batch: bytes, acks: int = -1) -> tuple[int, int]:
    """Send one batch to the partition's leader; give the error and the offset."""
    await client.add_topic(topic)
    leader = client.cluster.leader_for_partition(TopicPartition(topic, 0))
    request = ProduceRequest(None, acks, 5_000, [(topic, [(0, batch)])])
    reply = await client.send(leader, request)
    ((_, ((_, error, offset, *_),)),) = reply.topics
    return error, offset
