"""Reads a topic's records between two moments of the log's own time; belongs to no group, commits nothing."""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import datetime
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.topics import topic
from services.runtime.errors import StartRefused
from services.runtime.groupless import groupless, require_topic
from services.runtime.kafka import KafkaConfig, consumed
from services.runtime.records import ConsumedRecord

POLL_MS = 200
RECORDS_MAX = 5_000  # in hand at a time; some 2 KB each
# Without a record and without an end: Kafka is not answering.
SILENCE_S_MAX = 30.0


class LogRange(NamedTuple):
    """Which records lie between the two moments: offsets from the first up to, not with, the last."""

    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    is_cut: bool
    """Whether a partition no longer holds its first record: what was before is gone from the log."""

    @property
    def records(self) -> int:
        """How many there are, those that a compaction or a transaction took out included."""
        return sum(max(0, end - self.begins[place]) for place, end in self.ends.items())


class LogReader:
    """A consumer that is assigned one topic's partitions by hand."""

    def __init__(self, consumer: AIOKafkaConsumer, name: str) -> None:
        self._consumer = consumer
        self._places = [TopicPartition(name, number) for number in range(topic(name).partitions)]
        consumer.assign(self._places)

    async def range(self, since: datetime, until: datetime) -> LogRange:
        """Find the records that were appended from one moment up to another."""
        ends = await self._consumer.end_offsets(self._places)
        firsts = await self._consumer.beginning_offsets(self._places)
        begins = await self._offsets_at(since, ends)
        return LogRange(begins, await self._offsets_at(until, ends), any(firsts.values()))

    async def records(self, found: LogRange) -> AsyncIterator[list[ConsumedRecord]]:
        """Give the records of the range in blocks of at most RECORDS_MAX."""
        left = {place: end for place, end in found.ends.items() if found.begins[place] < end}
        for place in self._places:
            self._consumer.seek(place, found.begins[place])
            if place not in left:
                self._consumer.pause(place)
        while left:
            async with asyncio.timeout(SILENCE_S_MAX):
                polled = {}
                while left and not polled:
                    polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
                    left = await self._unfinished(left)
            block = [
                consumed(each)
                for place, records in polled.items()
                for each in records
                if each.offset < found.ends[place]
            ]
            if block:
                yield block

    async def _unfinished(self, left: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        unfinished: dict[TopicPartition, int] = {}
        for place, end in left.items():
            if await self._consumer.position(place) < end:
                unfinished[place] = end
            else:
                self._consumer.pause(place)
        return unfinished

    async def _offsets_at(
        self, moment: datetime, ends: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        millis = int(moment.timestamp() * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._places, millis))
        return {place: ends[place] if at is None else at.offset for place, at in found.items()}


@contextlib.asynccontextmanager
async def log_reader(kafka: KafkaConfig, name: str) -> AsyncGenerator[LogReader, None]:
    """Open a reader for a block; StartRefused where Kafka does not answer or has no such topic."""
    try:
        async with groupless(kafka) as consumer:
            await require_topic(consumer, kafka, name)
            yield LogReader(consumer, name)
    except (KafkaError, TimeoutError, ConnectionError) as exc:
        raise StartRefused(
            f"Kafka at {kafka.bootstrap_servers} does not answer: {type(exc).__name__}."
        ) from exc
