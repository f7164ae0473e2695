"""What a topic forgets: by age, by size, by key, and never anything else; offsets stay what they were.

Each batch lies in a segment of its own, as `segment.ms` is 1 and the stamps lie further apart: nothing here
needs megabytes. The last segment is the active one: it may expire, but is never compacted.
"""

import asyncio
import itertools
import time

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from tests.integration.kafka.clients import (
    a_consumer,
    a_producer,
    create,
    read_to_end,
    run,
    until_true,
)

HOUR_MS = 3_600_000
STEP_MS = 10
COMPACT = {"cleanup_policy": "compact", "segment_ms": 1, "min_cleanable_dirty_ratio": 0.01}


def hours_ago(hours: int) -> int:
    return time.time_ns() // 1_000_000 - hours * HOUR_MS


async def send(producer, topic, *records, since_ms):
    """Send (key, value) each in a batch of its own, stamped one step after the other."""
    for number, (key, value) in enumerate(records):
        stamp_ms = since_ms + number * STEP_MS
        await producer.send_and_wait(topic, value, key, partition=0, timestamp_ms=stamp_ms)


async def until_it_begins_at(bootstrap, topic, offset):
    place = TopicPartition(topic, 0)
    async with a_consumer(bootstrap) as consumer:

        async def begins() -> bool:
            return (await consumer.beginning_offsets([place]))[place] == offset

        await until_true(begins)
        return (await consumer.end_offsets([place]))[place]


async def until_it_holds(bootstrap, topic, *expected):
    """Wait until the topic holds exactly these (offset, key, value)."""
    found = []

    async def holds() -> bool:
        found[:] = [(one.offset, one.key, one.value) for one in await read_to_end(bootstrap, topic)]
        return found == list(expected)

    try:
        await until_true(holds)
    except TimeoutError:
        assert found == list(expected)


def test_records_older_than_the_retention_are_gone_and_reading_them_is_an_error(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, retention_ms=HOUR_MS, segment_ms=1)
        async with a_producer(bootstrap) as producer:
            await send(producer, topic, *[(b"k", b"old")] * 3, since_ms=hours_ago(3))
            await send(producer, topic, *[(b"k", b"new")] * 2, since_ms=hours_ago(0))
        assert await until_it_begins_at(bootstrap, topic, 3) == 5
        assert [one.offset for one in await read_to_end(bootstrap, topic)] == [3, 4]
        async with a_consumer(bootstrap, auto_offset_reset="none") as strict:
            strict.assign([TopicPartition(topic, 0)])
            strict.seek(TopicPartition(topic, 0), 2)
            with pytest.raises(OffsetOutOfRangeError):
                await asyncio.wait_for(strict.getone(), 10)

    run(test())


def test_a_topic_of_which_everything_expired_goes_on_at_its_end(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, retention_ms=HOUR_MS)
        async with a_producer(bootstrap, enable_idempotence=True) as producer:
            await send(producer, topic, *[(b"k", b"old")] * 3, since_ms=hours_ago(3))
            assert await until_it_begins_at(bootstrap, topic, 3) == 3
            assert (await producer.send_and_wait(topic, b"new")).offset == 3

    run(test())


def test_the_oldest_segments_beyond_the_size_are_gone(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, retention_bytes=35_000, segment_ms=1)
        async with a_producer(bootstrap) as producer:
            await send(producer, topic, *[(b"k", b"v" * 10_000)] * 10, since_ms=hours_ago(1))
        # Whole segments go, and never so many that less than the size is left.
        assert await until_it_begins_at(bootstrap, topic, 6) == 10

    run(test())


def test_a_compacted_topic_never_expires_and_keeps_the_last_value_of_each_key(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, **COMPACT, retention_ms=1)
        async with a_producer(bootstrap, enable_idempotence=True) as producer:
            batch = producer.create_batch()
            since_ms = hours_ago(3)
            for key in (b"a", b"b", b"a"):
                batch.append(timestamp=since_ms, key=key, value=b"first", headers=[("h", key)])
            await (await producer.send_batch(batch, topic, partition=0))
            records = [(b"b", b"second"), (b"c", b"only"), (b"b", b"third"), (b"end", b"")]
            await send(producer, topic, *records, since_ms=since_ms + STEP_MS)
            kept = [(2, b"a", b"first"), (4, b"c", b"only"), (5, b"b", b"third"), (6, b"end", b"")]
            await until_it_holds(bootstrap, topic, *kept)
            # What is there keeps its offset, what comes is counted on, and nothing else of a record changes.
            assert (await producer.send_and_wait(topic, b"", b"end")).offset == 7
        (first, *_) = await read_to_end(bootstrap, topic)
        assert (first.timestamp, first.headers) == (since_ms, (("h", b"a"),))
        place = TopicPartition(topic, 0)
        async with a_consumer(bootstrap) as consumer:
            assert await consumer.beginning_offsets([place]) == {place: 0}
            assert await consumer.end_offsets([place]) == {place: 8}
            consumer.assign([place])
            consumer.seek(place, 3)
            assert (await asyncio.wait_for(consumer.getone(), 10)).offset == 4

    run(test())


def test_a_producer_whose_every_record_was_superseded_goes_on(bootstrap, topic):
    """Its last batch stays as an empty one, so that the broker knows its sequence; readers pass over that."""

    async def test():
        await create(bootstrap, topic, **COMPACT)
        async with (
            a_producer(bootstrap, enable_idempotence=True) as superseded,
            a_producer(bootstrap, enable_idempotence=True) as other,
        ):
            await send(superseded, topic, (b"a", b"1"), (b"a", b"2"), since_ms=hours_ago(3))
            await send(other, topic, (b"a", b"3"), (b"end", b""), since_ms=hours_ago(2))
            await until_it_holds(bootstrap, topic, (2, b"a", b"3"), (3, b"end", b""))
            assert (await superseded.send_and_wait(topic, b"4", b"a")).offset == 4

    run(test())


def test_a_tombstone_takes_its_key_and_stays_for_those_who_have_yet_to_read_it(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, **COMPACT)
        async with a_producer(bootstrap) as producer:
            records = [(b"gone", b"1"), (b"kept", b"2"), (b"gone", None), (b"end", b"")]
            await send(producer, topic, *records, since_ms=hours_ago(3))
        kept = [(1, b"kept", b"2"), (2, b"gone", None), (3, b"end", b"")]
        await until_it_holds(bootstrap, topic, *kept)

    run(test())


def test_a_tombstone_goes_when_its_time_is_over(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, **COMPACT, delete_retention_ms=100)
        async with a_producer(bootstrap) as producer:
            records = [(b"gone", b"1"), (b"kept", b"2"), (b"gone", None)]
            await send(producer, topic, *records, since_ms=hours_ago(3))
            stamps = itertools.count(hours_ago(2), STEP_MS)

            async def is_gone() -> bool:
                # Apache Kafka looks at old tombstones only when there is something new to clean.
                await send(producer, topic, (b"end", b""), since_ms=next(stamps))
                return {one.key for one in await read_to_end(bootstrap, topic)} == {b"kept", b"end"}

            await until_true(is_gone)

    run(test())


def test_what_is_younger_than_the_lag_is_not_compacted(bootstrap, topic):
    async def test():
        await create(bootstrap, topic, **COMPACT, min_compaction_lag_ms=HOUR_MS)
        async with a_producer(bootstrap) as producer:
            await send(producer, topic, (b"a", b"1"), (b"a", b"2"), since_ms=hours_ago(3))
            await send(producer, topic, (b"a", b"3"), (b"a", b"4"), (b"end", b""), since_ms=hours_ago(0))
        kept = [(1, b"a", b"2"), (2, b"a", b"3"), (3, b"a", b"4"), (4, b"end", b"")]
        await until_it_holds(bootstrap, topic, *kept)

    run(test())


def test_what_has_been_dirty_for_too_long_is_compacted_however_little_it_is(bootstrap, topic):
    async def test():
        settings = {**COMPACT, "min_cleanable_dirty_ratio": 1.0, "max_compaction_lag_ms": HOUR_MS}
        await create(bootstrap, topic, **settings)
        await create(bootstrap, f"{topic}-patient", **{**settings, "max_compaction_lag_ms": 5 * HOUR_MS})
        for name in (topic, f"{topic}-patient"):
            async with a_producer(bootstrap) as producer:
                await send(producer, name, (b"a", b"1"), (b"a", b"2"), (b"end", b""), since_ms=hours_ago(3))
        await until_it_holds(bootstrap, topic, (1, b"a", b"2"), (2, b"end", b""))
        assert len(await read_to_end(bootstrap, f"{topic}-patient")) == 3

    run(test())
