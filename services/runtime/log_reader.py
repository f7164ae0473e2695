"""Reads a partition without belonging to a group: from beginning to end, or single records by their place."""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.runtime.groupless import groupless
from services.runtime.kafka import KafkaConfig, consumed
from services.runtime.records import ConsumedRecord

POLL_MS = 500
# Without a record and without an end: Kafka is not answering.
SILENCE_S_MAX = 30.0


class LogUnreadable(Exception):
    """Kafka did not give what was asked for in time: ask again."""


class TopicMissing(LogUnreadable):
    """Kafka has no such topic: until somebody makes it, asking again will not help."""


async def read_partition(kafka: KafkaConfig, topic: str, partition: int) -> AsyncGenerator[ConsumedRecord]:
    """Read a partition from its beginning to where it ends now; LogUnreadable where Kafka is away."""
    place = TopicPartition(topic, partition)
    async with _reader(kafka, place) as consumer:
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for record in await _polled(consumer, place):
                yield record


async def read_offsets(
    kafka: KafkaConfig, topic: str, partition: int, offsets: Sequence[int]
) -> AsyncGenerator[ConsumedRecord]:
    """Read the records at these offsets, one at a time; those that the topic no longer keeps are left out."""
    place = TopicPartition(topic, partition)
    async with _reader(kafka, place) as consumer:
        first = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        for offset in sorted(offsets):
            if not first <= offset < end:
                continue
            if await consumer.position(place) != offset:
                consumer.seek(place, offset)
            for record in await _polled(consumer, place, records_max=1):
                if record.offset == offset:
                    yield record


@contextlib.asynccontextmanager
async def _reader(kafka: KafkaConfig, place: TopicPartition) -> AsyncGenerator[AIOKafkaConsumer]:
    try:
        async with groupless(kafka) as consumer:
            async with asyncio.timeout(SILENCE_S_MAX):
                if place.topic not in await consumer.topics():
                    raise TopicMissing(f"there is no {place.topic}: run `tollhouse migrate`")
            consumer.assign([place])
            yield consumer
    except (KafkaError, OSError) as exc:
        raise LogUnreadable(f"{place.topic}/{place.partition}: {type(exc).__name__}") from exc


async def _polled(
    consumer: AIOKafkaConsumer, place: TopicPartition, records_max: int | None = None
) -> list[ConsumedRecord]:
    async with asyncio.timeout(SILENCE_S_MAX):
        while True:
            polled = await consumer.getmany(place, timeout_ms=POLL_MS, max_records=records_max)
            if place in polled:
                return [consumed(record) for record in polled[place]]
