"""What consumers may rely on: any offset, the exact end, the exact record for a time, and how far behind."""

import asyncio
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from tests.integration.kafka.clients import (
    a_consumer,
    a_producer,
    create,
    read,
    read_to_end,
    run,
    send_numbers,
    take,
)


def test_reading_begins_at_the_offset_asked_for_even_within_a_batch(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        await send_numbers(bootstrap, topic, 100)
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap) as consumer:
            consumer.assign([place])
            for offset in (57, 0, 99, 31):
                consumer.seek(place, offset)
                found = (await take(consumer, 100 - offset))[0]
                assert (found.offset, found.value) == (offset, b"%d" % offset)
            await consumer.seek_to_beginning(place)
            assert await consumer.position(place) == 0
            await consumer.seek_to_end(place)
            assert await consumer.position(place) == 100

    run(test())


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_reading_begins_within_a_compressed_batch_too(bootstrap, topic, codec):
    async def test():
        await create(bootstrap, topic)
        async with a_producer(bootstrap, compression_type=codec, linger_ms=50) as producer:
            await asyncio.gather(*[await producer.send(topic, b"%d" % number) for number in range(50)])
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap) as consumer:
            consumer.assign([place])
            consumer.seek(place, 33)
            assert [one.offset for one in await take(consumer, 17)] == list(range(33, 50))

    run(test())


def test_an_offset_that_does_not_exist_is_an_error_or_a_new_start_as_the_consumer_prefers(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        await send_numbers(bootstrap, topic, 3)
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap, auto_offset_reset="none") as strict:
            strict.assign([place])
            strict.seek(place, 4)
            with pytest.raises(OffsetOutOfRangeError):
                await asyncio.wait_for(strict.getone(), 10)
        async with a_consumer(bootstrap, auto_offset_reset="earliest") as lenient:
            lenient.assign([place])
            lenient.seek(place, 99_999)
            assert [one.offset for one in await take(lenient, 3)] == [0, 1, 2]

    run(test())


def test_both_ends_are_exact_and_an_empty_partition_ends_where_it_begins(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, partitions=3)
        await send_numbers(bootstrap, topic, 101, partitions=2)
        places = [TopicPartition(topic, number) for number in range(3)]
        async with a_consumer(bootstrap) as consumer:
            assert await consumer.beginning_offsets(places) == dict.fromkeys(places, 0)
            assert await consumer.end_offsets(places) == dict(zip(places, (51, 50, 0), strict=True))

    run(test())


def test_the_first_record_at_or_after_a_time_is_found_exactly_within_a_batch(bootstrap, topic):
    base_ms = time.time_ns() // 1_000_000 - 100_000

    async def test():
        await create(bootstrap, topic, partitions=2)
        async with a_producer(bootstrap, linger_ms=50, compression_type="zstd") as producer:
            sent = [
                await producer.send(topic, b"v", partition=0, timestamp_ms=base_ms + 100 * number)
                for number in range(100)
            ]
            await asyncio.gather(*sent)
        place, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
        async with a_consumer(bootstrap) as consumer:
            found = [
                (await consumer.offsets_for_times({place: base_ms + plus_ms}))[place]
                for plus_ms in (-5_000, 0, 5_050, 5_100, 9_900, 9_901)
            ]
            assert [at and (at.offset, at.timestamp - base_ms) for at in found] == [
                (0, 0),
                (0, 0),
                (51, 5_100),
                (51, 5_100),
                (99, 9_900),
                None,
            ]
            assert await consumer.offsets_for_times({empty: 0}) == {empty: None}

    run(test())


def test_a_time_is_looked_up_by_offset_order_where_stamps_are_out_of_order(bootstrap, topic):
    base_ms = time.time_ns() // 1_000_000 - 100_000

    async def test():
        await create(bootstrap, topic)
        async with a_producer(bootstrap) as producer:
            for plus_ms in (10, 50, 20, 60):
                await producer.send_and_wait(topic, b"v", timestamp_ms=base_ms + plus_ms)
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap) as consumer:
            found = [
                (await consumer.offsets_for_times({place: base_ms + plus_ms}))[place]
                for plus_ms in (15, 20, 51)
            ]
        assert [(at.offset, at.timestamp - base_ms) for at in found] == [(1, 50), (1, 50), (3, 60)]

    run(test())


def test_times_are_those_of_the_broker_where_the_broker_stamps(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, message_timestamp_type="LogAppendTime")
        async with a_producer(bootstrap) as producer:
            stamps = [(await producer.send_and_wait(topic, b"v", timestamp_ms=5)).timestamp]
            await asyncio.sleep(0.005)  # the stamps must differ; nothing is waited for
            stamps.append((await producer.send_and_wait(topic, b"v", timestamp_ms=5)).timestamp)
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap) as consumer:
            found = (await consumer.offsets_for_times({place: stamps[1]}))[place]
        assert (found.offset, found.timestamp) == (1, stamps[1])

    run(test())


def test_a_consumer_knows_its_position_and_how_far_it_is_behind(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        await send_numbers(bootstrap, topic, 10)
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap) as consumer:
            consumer.assign([place])
            records = (await consumer.getmany(timeout_ms=10_000, max_records=4))[place]
            assert [one.offset for one in records] == [0, 1, 2, 3]
            assert await consumer.position(place) == 4
            assert (consumer.highwater(place), consumer.last_stable_offset(place)) == (10, 10)
            assert consumer.highwater(place) - await consumer.position(place) == 6

    run(test())


def test_a_reader_that_waits_at_the_end_gets_what_comes_long_before_its_wait_is_over(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, partitions=2)
        await send_numbers(bootstrap, topic, 10, partitions=2)
        places = [TopicPartition(topic, number) for number in range(2)]
        async with a_consumer(bootstrap, auto_offset_reset="latest", fetch_max_wait_ms=30_000) as consumer:
            consumer.assign(places)
            assert [await consumer.position(place) for place in places] == [5, 5]
            waiting = asyncio.create_task(consumer.getone())
            async with a_producer(bootstrap) as producer:
                await producer.send_and_wait(topic, b"new", partition=1)
            found = await asyncio.wait_for(waiting, 10)
            assert (found.partition, found.offset, found.value) == (1, 5, b"new")

    run(test())


def test_a_fetch_waits_for_data_and_not_longer_than_asked(bootstrap, topic):
    async def test():
        await create(bootstrap, topic)
        async with a_consumer(bootstrap, fetch_max_wait_ms=300) as consumer:
            consumer.assign([TopicPartition(topic, 0)])
            began = time.monotonic()
            assert await consumer.getmany(timeout_ms=700) == {}
            assert 0.6 < time.monotonic() - began < 5

    run(test())


def test_many_small_fetches_read_everything_once(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, partitions=3)
        async with a_producer(bootstrap, linger_ms=0, max_batch_size=2_000) as producer:
            sent = [
                await producer.send(topic, b"%d-" % number * 20, partition=number % 3)
                for number in range(600)
            ]
            await asyncio.gather(*sent)
        found = await read(bootstrap, topic, 600, max_partition_fetch_bytes=1_000, fetch_max_bytes=3_000)
        assert sorted(int(one.value.split(b"-")[0]) for one in found) == list(range(600))
        assert len(await read_to_end(bootstrap, topic, 3)) == 600

    run(test())
