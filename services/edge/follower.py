"""Reads a topic of one partition to its end and then follows it, so that every edge knows what stands there.

Without Kafka what was read stays as it was. After REBUILD_AFTER_S without Kafka, or where the log is no
longer the one that was read, it is read anew from the start, since tombstones may be gone by then.
"""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from schemas import codec
from services.runtime import metrics
from services.runtime.backoff import Backoff
from services.runtime.groupless import groupless
from services.runtime.kafka import KafkaConfig
from services.runtime.service import beside

log = structlog.get_logger(__name__)

# Half of the day for which Kafka keeps a tombstone by default (delete.retention.ms).
REBUILD_AFTER_S = 12 * 3600.0
# So often Kafka is asked whether it is there: a consumer with nothing to read hears nothing else.
CONTACT_S = 5.0
ANSWER_S_MAX = 10.0
POLL_MS = 1_000
# Of one poll, so that exchanges go on while a log is read from its start: some 10 ms of work.
POLL_RECORDS_MAX = 500
# A new try soon after Kafka came back: what was written meanwhile is not in force yet.
RETRY_S_MAX = 2.0


class Followed(ABC):
    """What one topic says, in memory; it counts also while Kafka `is_away`, which the follower tells."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.is_away = False

    @property
    @abstractmethod
    def is_read(self) -> bool:
        """Whether the log was read to its end once; until then nobody can say what it says."""

    @abstractmethod
    def begin_anew(self) -> None:
        """Expect the log from its start, beside what is in force."""

    @abstractmethod
    def take(self, key: str, value: bytes | None) -> None:
        """Take in one record, a tombstone too; codec.Undecodable where it is passed over."""

    @abstractmethod
    def come_to_end(self) -> int:
        """Let all that was taken in count, as there is no more for now; gives how many records count."""


class _NotThere(Exception):
    """Kafka has no such topic."""


class _LogChanged(Exception):
    """What was read cannot be gone on from; it must be read from the start."""


class Follower:
    """Keeps one Followed as the log has it."""

    def __init__(
        self,
        kafka: KafkaConfig,
        followed: Followed,
        now: Callable[[], float] = time.time,
        contact_s: float = CONTACT_S,
    ) -> None:
        self._kafka = kafka
        self._followed = followed
        self._place = TopicPartition(followed.topic, 0)
        self._now = now
        self._contact_s = contact_s
        self._next: int | None = None
        self._heard_at = now()

    async def run(self) -> None:
        """Follow until cancelled."""
        backoff = Backoff(wait_s_max=RETRY_S_MAX)
        while True:
            try:
                async with groupless(self._kafka, poll_records_max=POLL_RECORDS_MAX) as consumer:
                    await self._follow(consumer, backoff)
            except* _LogChanged as group:
                log.warning("log.rebuilding", topic=self._followed.topic, reason=str(group.exceptions[0]))
                self._next = None
            except* (KafkaError, OSError, TimeoutError, _NotThere) as group:
                self._lost(group.exceptions[0])
            await backoff.wait()

    async def _follow(self, consumer: AIOKafkaConsumer, backoff: Backoff) -> None:
        topic, place = self._followed.topic, self._place
        async with asyncio.timeout(ANSWER_S_MAX):
            if topic not in await consumer.topics():
                raise _NotThere(f"Kafka has no topic {topic}: run `tollhouse migrate`")
        consumer.assign([place])
        position, end = await self._ends(consumer)
        self._heard(end, self._next)
        if self._next is None:
            self._followed.begin_anew()
        else:
            position = self._next
        consumer.seek(place, position)
        async with beside(self._keep_contact(consumer)):
            await self._read(consumer, position, end, backoff)

    async def _read(self, consumer: AIOKafkaConsumer, position: int, end: int, backoff: Backoff) -> None:
        while True:
            if position >= end:
                self._at_end(position)
                backoff.reset()
            polled = await consumer.getmany(self._place, timeout_ms=POLL_MS if position >= end else 100)
            # What has been fetched is given without a pause, and that can be 20,000 records: 0.4 s.
            await asyncio.sleep(0)
            for record in polled.get(self._place, ()):
                if record.offset < position:
                    raise _LogChanged("the log begins anew")
                self._take(record)
                position = record.offset + 1

    async def _keep_contact(self, consumer: AIOKafkaConsumer) -> None:
        """Ask now and then whether Kafka is there; beside the reading, as an answer may take 0.5 s."""
        while True:
            await asyncio.sleep(self._contact_s)
            read = self._next
            self._heard((await self._ends(consumer))[1], read)

    async def _ends(self, consumer: AIOKafkaConsumer) -> tuple[int, int]:
        """Ask where the log begins and ends: also to know that Kafka is there."""
        async with asyncio.timeout(ANSWER_S_MAX):
            begins = await consumer.beginning_offsets([self._place])
            ends = await consumer.end_offsets([self._place])
        return begins[self._place], ends[self._place]

    def _heard(self, end: int, read: int | None) -> None:
        followed, away_s = self._followed, self._now() - self._heard_at
        self._heard_at = self._now()
        metrics.edge_log_away.labels(followed.topic).set(0)
        if followed.is_away:
            followed.is_away = False
            log.info("log.kafka_came_back", topic=followed.topic, away_s=round(away_s))
        if read is not None and away_s > REBUILD_AFTER_S:
            raise _LogChanged("Kafka was away for too long")
        if read is not None and read > end:
            raise _LogChanged("the log ends before what was read of it")

    def _lost(self, error: Exception) -> None:
        followed = self._followed
        metrics.edge_log_away.labels(followed.topic).set(1)
        if not followed.is_away:
            followed.is_away = True
            told = f"{type(error).__name__}: {error}"
            log.warning("log.kafka_went_away", topic=followed.topic, error=told, is_read=followed.is_read)

    def _at_end(self, position: int) -> None:
        records = self._followed.come_to_end()
        metrics.edge_log_records.labels(self._followed.topic).set(records)
        if self._next is None:
            log.info("log.read", topic=self._followed.topic, records=records, offset=position)
        self._next = position

    def _take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        topic = self._followed.topic
        try:
            self._followed.take((record.key or b"").decode("utf-8", "replace"), record.value)
        except codec.Undecodable as exc:
            log.error("log.record_undecodable", topic=topic, offset=record.offset, error=str(exc))
            metrics.edge_log_undecodable.labels(topic).inc()
