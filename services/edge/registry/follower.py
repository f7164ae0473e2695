"""Reads gateway.keys.v1 to its end and then follows it, so that every edge knows what was written last.

Without Kafka the table stays as it was. After REBUILD_AFTER_S without Kafka, or where the log is no longer
the one that was read, it is built anew from the start, since tombstones may be gone by then.
"""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from schemas import codec
from schemas.keys import KeyRecord, record_key
from schemas.topics import KEYS
from services.edge.registry.table import Entry, KeyTable, Registry
from services.runtime import metrics
from services.runtime.backoff import Backoff
from services.runtime.groupless import groupless
from services.runtime.kafka import KafkaConfig

log = structlog.get_logger(__name__)

# Half of the day for which Kafka keeps a tombstone by default (delete.retention.ms).
REBUILD_AFTER_S = 12 * 3600.0
# So often Kafka is asked whether it is there: a consumer with nothing to read hears nothing else.
CONTACT_S = 5.0
ANSWER_S_MAX = 10.0
POLL_MS = 1_000
# Of one poll, so that exchanges go on while the table is built: some 10 ms of work.
POLL_RECORDS_MAX = 500
# A new try soon after Kafka came back: what was written meanwhile is not in force yet.
RETRY_S_MAX = 2.0

_PLACE = TopicPartition(KEYS, 0)


class _NotThere(Exception):
    """Kafka has no such topic."""


class _LogChanged(Exception):
    """What was read cannot be gone on from; the table must be built from the start."""


class _Read(NamedTuple):
    """A write that was read back, and what stood in its place before."""

    change_id: str
    before: Entry | None


class Follower:
    """Keeps a Registry as the log has it; one a process."""

    def __init__(
        self,
        kafka: KafkaConfig,
        registry: Registry,
        now: Callable[[], float] = time.time,
        contact_s: float = CONTACT_S,
    ) -> None:
        self._kafka = kafka
        self._registry = registry
        self._now = now
        self._contact_s = contact_s
        self._next: int | None = None
        self._heard_at = now()
        self._is_away = False
        self._expected: dict[str, asyncio.Future[Entry | None]] = {}

    def expect(self, change_id: str) -> asyncio.Future[Entry | None]:
        """Give what will hold, once this write is in force here, the record that it replaced."""
        expected = asyncio.get_running_loop().create_future()
        self._expected[change_id] = expected
        expected.add_done_callback(lambda _: self._expected.pop(change_id, None))
        return expected

    async def run(self) -> None:
        """Follow until cancelled."""
        backoff = Backoff(wait_s_max=RETRY_S_MAX)
        while True:
            try:
                async with groupless(self._kafka, poll_records_max=POLL_RECORDS_MAX) as consumer:
                    await self._follow(consumer, backoff)
            except _LogChanged as exc:
                log.warning("keys.rebuilding", reason=str(exc))
                self._next = None
            except (KafkaError, OSError, TimeoutError, _NotThere) as exc:
                self._lost(exc)
            await backoff.wait()

    async def _follow(self, consumer: AIOKafkaConsumer, backoff: Backoff) -> None:
        async with asyncio.timeout(ANSWER_S_MAX):
            if KEYS not in await consumer.topics():
                raise _NotThere(f"Kafka has no topic {KEYS}: run `tollhouse migrate`")
        consumer.assign([_PLACE])
        begin, end = await self._ends(consumer)
        self._heard(end)
        table = KeyTable() if self._next is None else self._registry.table
        position = begin if self._next is None else self._next
        consumer.seek(_PLACE, position)
        told: list[_Read] = []
        asked_at = time.monotonic()
        while True:
            if position >= end:
                self._in_force(table, position, told)
                told = []
                backoff.reset()
            polled = await consumer.getmany(_PLACE, timeout_ms=POLL_MS if position >= end else 100)
            for record in polled.get(_PLACE, ()):
                if record.offset < position:
                    raise _LogChanged("the log begins anew")
                told += self._applied(table, record)
                position = record.offset + 1
            if time.monotonic() - asked_at >= self._contact_s:
                asked_at = time.monotonic()
                self._next = position if table is self._registry.table else None
                self._heard((await self._ends(consumer))[1])

    async def _ends(self, consumer: AIOKafkaConsumer) -> tuple[int, int]:
        """Ask where the log begins and ends: also to know that Kafka is there."""
        async with asyncio.timeout(ANSWER_S_MAX):
            begins = await consumer.beginning_offsets([_PLACE])
            ends = await consumer.end_offsets([_PLACE])
        return begins[_PLACE], ends[_PLACE]

    def _heard(self, end: int) -> None:
        away_s = self._now() - self._heard_at
        self._heard_at = self._now()
        metrics.edge_keys_away.set(0)
        if self._is_away:
            self._is_away = False
            log.info("keys.kafka_came_back", away_s=round(away_s))
        if self._next is not None and away_s > REBUILD_AFTER_S:
            raise _LogChanged("Kafka was away for too long")
        if self._next is not None and self._next > end:
            raise _LogChanged("the log ends before what was read of it")

    def _lost(self, error: Exception) -> None:
        metrics.edge_keys_away.set(1)
        if not self._is_away:
            self._is_away = True
            log.warning(
                "keys.kafka_went_away",
                error=f"{type(error).__name__}: {error}",
                is_read=self._registry.is_read,
            )

    def _in_force(self, table: KeyTable, position: int, told: list[_Read]) -> None:
        """Let the table count, and tell who waits for what it holds now."""
        self._next = position
        if table is not self._registry.table or not self._registry.is_read:
            self._registry.table = table
            self._registry.is_read = True
            log.info("keys.read", records=len(table), offset=position)
        metrics.edge_keys.set(len(table))
        for each in told:
            expected = self._expected.get(each.change_id)
            if expected is not None and not expected.done():
                expected.set_result(each.before)

    def _applied(self, table: KeyTable, record: ConsumerRecord[bytes, bytes]) -> list[_Read]:
        name = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            table.remove(name)
            return []
        try:
            event = codec.decode(KeyRecord, record.value)
        except codec.Undecodable as exc:
            log.error("keys.record_undecodable", offset=record.offset, error=str(exc))
            metrics.edge_keys_undecodable.inc()
            return []
        before = table.get(record_key(event.record))
        table.put(event.record)
        return [_Read(event.change_id, before)]
