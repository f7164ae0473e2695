import asyncio
import os
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    UnknownTopicOrPartitionError,
)

from tests.integration.local_kafka.brokers import broker, consumer, create_topic, producer, take, until_true


def test_records_come_back_as_they_were_sent(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            async with producer(address, acks="all") as sender:
                await sender.send_and_wait(
                    "t", b"v", b"k", timestamp_ms=1_700_000_000_123, headers=[("h", b"1")]
                )
                await sender.send_and_wait("t", None, b"k", timestamp_ms=1_700_000_000_124)
            async with consumer(address, "t") as reader:
                return [
                    (item.offset, item.key, item.value, item.timestamp, item.timestamp_type, item.headers)
                    for item in await take(reader, 2)
                ]

    assert asyncio.run(run()) == [
        (0, b"k", b"v", 1_700_000_000_123, 0, (("h", b"1"),)),
        (1, b"k", None, 1_700_000_000_124, 0, ()),
    ]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches_come_back(tmp_path, codec):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            async with producer(address, compression_type=codec, linger_ms=20) as sender:
                await asyncio.gather(*[await sender.send("t", b"%d-" % number * 50) for number in range(200)])
            async with consumer(address, "t") as reader:
                return [(item.offset, item.value) for item in await take(reader, 200)]

    assert asyncio.run(run()) == [(number, b"%d-" % number * 50) for number in range(200)]


def test_an_idempotent_producer_writes_everything_once_and_in_order(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t", partitions=3)
            async with producer(address, enable_idempotence=True, linger_ms=2) as sender:
                sent = [await sender.send("t", b"%d" % number, partition=number % 3) for number in range(900)]
                await asyncio.gather(*sent)
            async with consumer(address, "t") as reader:
                found = await take(reader, 900)
                return [
                    [int(item.value) for item in found if item.partition == number] for number in range(3)
                ]

    assert asyncio.run(run()) == [list(range(number, 900, 3)) for number in range(3)]


def test_offsets_are_found_by_time_to_the_record_and_at_both_ends(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            place = TopicPartition("t", 0)
            async with producer(address, linger_ms=50) as sender:
                sent = [await sender.send("t", b"v", timestamp_ms=1_000 + number) for number in range(100)]
                await asyncio.gather(*sent)
            async with consumer(address) as reader:
                ends = (await reader.beginning_offsets([place]), await reader.end_offsets([place]))
                times = [await reader.offsets_for_times({place: time_ms}) for time_ms in (0, 1_051, 1_100)]
                reader.assign([place])
                reader.seek(place, 57)
                record = await reader.getone()
                await reader.seek_to_end(place)
                return (
                    [end[place] for end in ends],
                    [found[place] and tuple(found[place]) for found in times],
                    record.offset,
                    await reader.position(place),
                )

    assert asyncio.run(run()) == ([0, 100], [(0, 1_000), (51, 1_051), None], 57, 100)


def test_large_records_pass_where_the_topic_allows_them_and_only_there(tmp_path):
    value = os.urandom(3 * 1024**2)

    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "wide", max_message_bytes=8 * 1024**2)
            await create_topic(address, "narrow")
            async with producer(address, max_request_size=16 * 1024**2) as sender:
                await sender.send_and_wait("wide", value)
                with pytest.raises(MessageSizeTooLargeError):
                    await sender.send_and_wait("narrow", value)
                await sender.send_and_wait("narrow", b"small")
            async with consumer(address, "wide") as reader:
                (found,) = await take(reader, 1)
                return found.value == value

    assert asyncio.run(run())


def test_append_time_topics_are_dated_by_the_broker(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t", message_timestamp_type="LogAppendTime")
            before_ms = time.time_ns() // 1_000_000
            async with producer(address) as sender:
                sent = await sender.send_and_wait("t", b"v", timestamp_ms=5)
            async with consumer(address, "t") as reader:
                (found,) = await take(reader, 1)
            assert before_ms <= sent.timestamp <= time.time_ns() // 1_000_000
            return (sent.timestamp_type, found.timestamp_type, found.timestamp == sent.timestamp)

    assert asyncio.run(run()) == (1, 1, True)


def test_an_unknown_topic_stays_unknown(tmp_path):
    async def run():
        async with broker(tmp_path) as address, producer(address, request_timeout_ms=400) as sender:
            with pytest.raises(UnknownTopicOrPartitionError):
                await sender.send_and_wait("nowhere", b"v")
            return (await sender.client.fetch_all_metadata()).topics()

    assert asyncio.run(run()) == set()


def test_unknown_topics_are_created_where_that_is_asked_for(tmp_path):
    async def run():
        async with broker(tmp_path, auto_create_partitions=2) as address, producer(address) as sender:
            await sender.send_and_wait("new", b"v")
            return await sender.partitions_for("new")

    assert asyncio.run(run()) == {0, 1}


def test_a_topic_that_wants_more_replicas_than_there_are_refuses_acks_all(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t", min_insync_replicas=2)
            async with producer(address, acks=1) as sender:
                await sender.send_and_wait("t", b"v")
            async with producer(address, acks="all", request_timeout_ms=300) as sender:
                future = await sender.send("t", b"v")
                with pytest.raises(NotEnoughReplicasError):
                    await asyncio.wait_for(future, 10)

    asyncio.run(run())


def test_a_producer_without_acks_gets_no_answer_and_its_records_arrive(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            async with producer(address, acks=0) as sender:
                for number in range(10):
                    await sender.send("t", b"%d" % number)
            async with consumer(address, "t") as reader:
                return [item.value for item in await take(reader, 10)]

    assert asyncio.run(run()) == [b"%d" % number for number in range(10)]


def test_a_waiting_reader_is_woken_by_an_append_long_before_its_time(tmp_path):
    async def run():
        async with broker(tmp_path) as address:
            await create_topic(address, "t")
            async with (
                consumer(address, "t", fetch_max_wait_ms=30_000) as reader,
                producer(address) as sender,
            ):
                async with asyncio.timeout(10):
                    waits = []
                    for number in range(5):
                        reading = asyncio.create_task(reader.getone())
                        await sender.send_and_wait("t", b"%d" % number)
                        waits.append((await reading).value)
                    return waits

    assert asyncio.run(run()) == [b"%d" % number for number in range(5)]


def test_old_segments_expire_and_compacted_topics_are_cleaned_while_running(tmp_path):
    async def run():
        async with broker(tmp_path, retention_interval_s=0.05) as address:
            await create_topic(address, "old", retention_ms=1_000, segment_bytes=1_000)
            await create_topic(
                address, "keys", cleanup_policy="compact", segment_bytes=1_000, min_cleanable_dirty_ratio=0.01
            )
            async with producer(address) as sender:
                for number in range(50):
                    await sender.send_and_wait("old", b"x" * 100, timestamp_ms=1_700_000_000_000)
                    await sender.send_and_wait("keys", b"%d" % number * 20, b"k%d" % (number % 2))
            place = TopicPartition("old", 0)
            async with consumer(address) as reader:

                async def has_expired():
                    return (await reader.beginning_offsets([place]))[place] == 50

                await until_true(has_expired)
                old_end = (await reader.end_offsets([place]))[place]

            async def is_clean():
                return sum(path.stat().st_size for path in tmp_path.glob("logs/keys-0/*.log")) < 2_500

            await until_true(is_clean)
            async with consumer(address, "keys") as reader:
                kept = [await reader.getone()]
                while kept[-1].offset < 49:
                    kept.append(await reader.getone())
            return old_end, len(kept) < 25, {item.key: item.value for item in kept}

    last = {b"k0": b"48" * 20, b"k1": b"49" * 20}
    assert asyncio.run(run()) == (50, True, last)
