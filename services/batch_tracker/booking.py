"""Reads a batch's results line by line and publishes the usage of each item; holds a few events at a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from schemas import codec, topics
from schemas.batch_items import BatchOfItems
from schemas.batches import BatchFact, BatchItems, BatchState
from schemas.usage import UsageRecorded
from services.batch_tracker.anthropic import Anthropic
from services.batch_tracker.errors import LinesChanged, TryLater
from services.batch_tracker.items import ItemIndex
from services.batch_tracker.results import NONE_READ, Progress, ResultsReader, progress_of
from services.runtime import metrics
from services.runtime.backoff import Backoff
from services.runtime.kafka import KafkaConfig
from services.runtime.log_reader import LogUnreadable, read_offsets
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import OutgoingRecord

log = structlog.get_logger(__name__)

# What is published, and then acknowledged, at once.
EVENTS_MAX = 1_000
EVENTS_BYTES_MAX = 4 * 1024 * 1024
# How often progress is written down: what a crash has to publish again at most, in time.
PROGRESS_S = 2.0

Report = Callable[[Progress], Awaitable[None]]
"""Writes down how far a batch is booked; everything up to there is acknowledged."""


class Booker:
    """Books batches, `bookings_max` of them at a time."""

    def __init__(
        self, anthropic: Anthropic, kafka: KafkaConfig, publisher: Publisher, bookings_max: int
    ) -> None:
        self._anthropic = anthropic
        self._kafka = kafka
        self._publisher = publisher
        self._places = asyncio.Semaphore(bookings_max)

    async def book(self, state: BatchState, report: Report) -> Progress:
        """Publish every item that is not booked yet, and give what the whole file held.

        TryLater, NotThere or AccessRefused where the file cannot be read to its end now.
        """
        async with self._places:
            with ItemIndex() as items:
                await self._fill(items, state)
                try:
                    return await self._booked(state, items, progress_of(state), report)
                except LinesChanged as exc:
                    # Nothing is lost or counted twice: the ids of items do not depend on their order.
                    log.warning("batch.results_changed", batch_id=state.batch_id, error=str(exc))
                return await self._booked(state, items, NONE_READ, report)

    async def _fill(self, items: ItemIndex, state: BatchState) -> None:
        offsets: dict[int, list[int]] = {}
        for place in state.chunks:
            offsets.setdefault(place.partition, []).append(place.offset)
        found = 0
        for partition, places in offsets.items():
            try:
                async for record in read_offsets(self._kafka, topics.BATCH_FACTS, partition, places):
                    fact = codec.decode(BatchFact, record.value)
                    if isinstance(fact.fact, BatchItems) and fact.batch_id == state.batch_id:
                        await asyncio.to_thread(items.add, fact.fact)
                        found += 1
            except LogUnreadable as exc:
                raise TryLater(f"the items' attribution cannot be read: {exc}") from exc
        if found < state.item_chunks:
            metrics.batch_tracker_chunks_missing.inc(state.item_chunks - found)
            log.error(
                "batch.chunks_missing",
                batch_id=state.batch_id,
                missing=state.item_chunks - found,
                effect="their items are booked to the creator alone",
            )

    async def _booked(
        self, state: BatchState, items: ItemIndex, booked: Progress, report: Report
    ) -> Progress:
        batch = BatchOfItems(
            batch_id=state.batch_id,
            created_at=state.created_at,
            ended_at=state.ended_at or state.expires_at,
            attribution=state.attribution,
            models=state.models,
        )
        reader, out = ResultsReader(batch, items.item_of, booked), _Outgoing(self._publisher)
        reported_at = time.monotonic()
        async with self._anthropic.results(state) as lines:
            async for line in lines:
                event = reader.take(line)
                if event is None:
                    continue
                out.add(event)
                if out.is_full:
                    await out.flush()
                    if time.monotonic() - reported_at >= PROGRESS_S:
                        await report(reader.progress)
                        reported_at = time.monotonic()
        await out.flush()
        return reader.end()


class _Sized(NamedTuple):
    event: UsageRecorded
    record: OutgoingRecord


class _Outgoing:
    """Events that wait to be published together."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._waiting: list[_Sized] = []
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= EVENTS_MAX or self._bytes >= EVENTS_BYTES_MAX

    def add(self, event: UsageRecorded) -> None:
        value = codec.encode(event)
        self._bytes += len(value)
        headers = codec.headers(event, event.finished_at.isoformat())
        self._waiting.append(_Sized(event, OutgoingRecord(topics.USAGE, codec.key(event), value, headers)))

    async def flush(self) -> None:
        """Publish them, however often it takes; what Kafka will never take is counted and said."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        backoff = Backoff()
        while True:
            try:
                refused = await self._publisher.publish([each.record for each in waiting])
                break
            except PublishFailed as exc:
                log.warning("batch.publish_failed", error=str(exc))
                await backoff.wait()
        for each in refused:
            log.error("batch.item_refused", error_class=each.error_class, bytes=len(each.record.value or b""))
            metrics.batch_tracker_items_refused.inc()
        for each in waiting:
            metrics.batch_tracker_items.labels(each.event.outcome).inc()
