"""Runs a stage over its topics: poll, process, publish, commit, in that order, and never out of it.

What is committed has been processed, and everything that came of it is acknowledged. A revoked
partition's work is finished or abandoned, never committed past. A stage may wait for a store that is
down for as long as it takes: the group keeps the member.
"""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportMissingParameterType=false, reportIncompatibleMethodOverride=false

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord

from services.runtime import metrics
from services.runtime.backoff import Backoff
from services.runtime.dead_letters import dead_letter
from services.runtime.errors import ServiceStopped
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import ConsumedRecord, Processed, Stage

log = structlog.get_logger(__name__)

POLL_S = 0.5
# Of the values gathered before a stage works, whatever their number.
BATCH_BYTES_MAX = 64 * 1024 * 1024
# So many dead letters without a live record between them are no accident of a few: a person has to look.
DEAD_IN_A_ROW_MAX = 1_000
# How long a rebalance waits for the work in hand before it is abandoned; below every rebalance time-out.
REVOKE_S_MAX = 10.0
# The same for a process that was asked to end: a store or a Kafka that is away may not keep it.
STOP_S_MAX = 10.0
# For saying goodbye to the group; one that does not hear it finds out by the session's time-out.
LEAVE_S_MAX = 5.0
# aiokafka tries a commit for as long as the broker is away; a later one says as much as this one.
COMMIT_S_MAX = 30.0
SESSION_TIMEOUT_MS = 15_000
REBALANCE_TIMEOUT_MS = 60_000
# A stage may wait for its store for as long as that is away; heartbeats, which go on by themselves, say that
# the member lives. Polling meanwhile would wait for a rebalance that waits for the stage.
POLL_INTERVAL_MS_MAX = 7 * 24 * 3600 * 1000

Result = TypeVar("Result")


class ConsumerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How one stage reads: its group, its lasting name in it, and how much it gathers before it works."""

    group_id: str
    group_instance_id: str = ""
    batch_records_max: int = 2_000
    batch_bytes_max: int = BATCH_BYTES_MAX
    batch_wait_ms_max: int = 0
    revoke_s_max: float = REVOKE_S_MAX
    stop_s_max: float = STOP_S_MAX


class ConsumerLoop:
    """One member of a consumer group."""

    def __init__(
        self, stage: Stage, config: ConsumerConfig, kafka: KafkaConfig, publisher: Publisher
    ) -> None:
        self._stage = stage
        self._config = config
        self._kafka = kafka
        self._publisher = publisher
        self._generation = 0
        self._work: asyncio.Task[Processed] | None = None
        self._busy = asyncio.Lock()
        self._dead_in_a_row = 0
        self.is_ready = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set, then finish what is in hand, if that can be soon, and leave."""
        consumer = await _until_stopped(self._joined(), stopping, 0.0)
        if consumer is None:
            return
        self.is_ready = True
        try:
            await _until_stopped(self._worked(consumer, stopping), stopping, self._config.stop_s_max)
        finally:
            self.is_ready = False
            await self._leave(consumer)

    async def _worked(self, consumer: AIOKafkaConsumer, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            generation, records = await self._gathered(consumer, stopping)
            if records:
                await self._finish(consumer, generation, records)

    async def _joined(self) -> AIOKafkaConsumer:
        backoff = Backoff()
        while True:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._kafka.bootstrap_servers,
                client_id=self._kafka.client_id,
                group_id=self._config.group_id,
                group_instance_id=self._config.group_instance_id or None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                partition_assignment_strategy=(StickyPartitionAssignor,),
                request_timeout_ms=max(self._kafka.request_timeout_ms, SESSION_TIMEOUT_MS * 2),
                session_timeout_ms=SESSION_TIMEOUT_MS,
                rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
                max_poll_interval_ms=POLL_INTERVAL_MS_MAX,
            )
            consumer.subscribe(self._stage.topics, listener=_Listener(self._revoked))
            try:
                await consumer.start()
            except (KafkaError, OSError) as exc:
                await self._leave(consumer)
                log.warning("consumer.kafka_unreachable", stage=self._stage.name, error=type(exc).__name__)
                await backoff.wait()
                continue
            except BaseException:
                await self._leave(consumer)
                raise
            return consumer

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        # In a task of its own: with Kafka away, stop() raises the cancellation of a task of its own.
        leaving = asyncio.create_task(consumer.stop())
        await asyncio.wait({leaving}, timeout=LEAVE_S_MAX)
        if not leaving.done() or leaving.cancelled() or leaving.exception() is not None:
            leaving.cancel()
            log.warning("consumer.leave_failed", stage=self._stage.name)
            await consumer._client.close()  # pyright: ignore[reportPrivateUsage] - what stop() left open

    async def _gathered(
        self, consumer: AIOKafkaConsumer, stopping: asyncio.Event
    ) -> tuple[int, list[ConsumedRecord]]:
        """Collect records until there are enough, or the first of them has waited long enough."""
        generation, records, deadline, size = self._generation, [], None, 0
        while (
            not stopping.is_set()
            and len(records) < self._config.batch_records_max
            and size < self._config.batch_bytes_max
        ):
            left_s = POLL_S if deadline is None else min(POLL_S, deadline - time.monotonic())
            if left_s <= 0:
                break
            polled = await consumer.getmany(
                timeout_ms=int(left_s * 1000), max_records=self._config.batch_records_max - len(records)
            )
            if generation != self._generation:
                generation, records, deadline, size = self._generation, [], None, 0
            came = [_consumed(record) for run in polled.values() for record in run]
            size += sum(len(record.value or b"") for record in came)
            records.extend(came)
            if records and deadline is None:
                deadline = time.monotonic() + self._config.batch_wait_ms_max / 1000
        return generation, records

    async def _finish(
        self, consumer: AIOKafkaConsumer, generation: int, records: list[ConsumedRecord]
    ) -> None:
        started = time.monotonic()
        async with self._busy:
            if generation != self._generation:
                return
            self._work = asyncio.create_task(self._processed_and_published(records))
            try:
                await asyncio.wait({self._work})
                processed = self._work.result()
            except asyncio.CancelledError:
                log.warning("consumer.work_abandoned", stage=self._stage.name, records=len(records))
                if not self._work.cancelled():
                    self._work.cancel()
                    raise
                return
            finally:
                self._work = None
            await self._commit(consumer, records)
            self._count(records, processed, time.monotonic() - started)

    async def _processed_and_published(self, records: list[ConsumedRecord]) -> Processed:
        processed = await self._stage.process(records)
        self._check_dead(len(records), len(processed.dead))
        outgoing = [*processed.outgoing, *(dead_letter(self._stage.name, dead) for dead in processed.dead)]
        backoff = Backoff()
        while True:
            try:
                await self._publisher.publish(outgoing)
            except PublishFailed as exc:
                log.warning("consumer.publish_failed", stage=self._stage.name, error=str(exc))
                await backoff.wait()
                continue
            return processed

    def _check_dead(self, records: int, dead: int) -> None:
        """Stop, with nothing set aside or committed, where a stage can use none of what comes."""
        self._dead_in_a_row = self._dead_in_a_row + dead if dead == records else 0
        if self._dead_in_a_row > DEAD_IN_A_ROW_MAX:
            raise ServiceStopped(
                f"{self._dead_in_a_row} records in a row were unusable for {self._stage.name}: "
                "is it older than those who publish?"
            )

    async def _commit(self, consumer: AIOKafkaConsumer, records: list[ConsumedRecord]) -> None:
        """Commit; where that fails the records come again to whoever owns them next."""
        offsets = _next_offsets(records)
        try:
            async with asyncio.timeout(COMMIT_S_MAX):
                await consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError) as exc:
            log.warning("consumer.commit_refused", stage=self._stage.name, error=type(exc).__name__)
            return
        except (KafkaError, TimeoutError) as exc:
            log.warning("consumer.commit_failed", stage=self._stage.name, error=type(exc).__name__)
            return
        for place, offset in offsets.items():
            metrics.consumer_committed_offset.labels(self._stage.name, place.topic, str(place.partition)).set(
                offset
            )

    def _count(self, records: list[ConsumedRecord], processed: Processed, seconds: float) -> None:
        for record in records:
            metrics.consumer_records.labels(self._stage.name, record.topic).inc()
        for dead in processed.dead:
            metrics.consumer_dead_letters.labels(self._stage.name, dead.record.topic).inc()
            log.error(
                "consumer.record_dead_lettered",
                stage=self._stage.name,
                topic=dead.record.topic,
                partition=dead.record.partition,
                offset=dead.record.offset,
                error_class=dead.error_class,
            )
        metrics.consumer_batch_duration.labels(self._stage.name).observe(seconds)

    async def _revoked(self) -> None:
        """Finish or abandon the work in hand before its partitions go to another member."""
        self._generation += 1
        log.info("consumer.partitions_revoked", stage=self._stage.name)
        work = self._work
        if work is not None:
            await asyncio.wait({work}, timeout=self._config.revoke_s_max)
            if not work.done():
                work.cancel()
        async with self._busy:
            return


class _Listener(ConsumerRebalanceListener):
    def __init__(self, on_revoked: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._on_revoked = on_revoked

    async def on_partitions_revoked(self, revoked: object) -> None:
        del revoked  # an eager rebalance takes all of them
        await self._on_revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        log.info("consumer.partitions_assigned", partitions=len(assigned))


async def _until_stopped(
    work: Coroutine[Any, Any, Result], stopping: asyncio.Event, grace_s: float
) -> Result | None:
    """Await the work; None where it was cut off, `grace_s` after `stopping` was set."""
    limit = asyncio.timeout(None)
    try:
        async with limit:
            watch = asyncio.create_task(_limited(limit, stopping, grace_s))
            try:
                return await work
            finally:
                watch.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        return None


async def _limited(limit: asyncio.Timeout, stopping: asyncio.Event, grace_s: float) -> None:
    await stopping.wait()
    limit.reschedule(asyncio.get_running_loop().time() + grace_s)


def _consumed(record: ConsumerRecord[bytes | None, bytes | None]) -> ConsumedRecord:
    return ConsumedRecord(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        # Kafka knows headers without a value; ours have an empty one.
        tuple((name, bytes(value or b"")) for name, value in record.headers),
    )


def _next_offsets(records: list[ConsumedRecord]) -> Mapping[TopicPartition, int]:
    offsets: dict[TopicPartition, int] = {}
    for record in records:
        place = TopicPartition(record.topic, record.partition)
        offsets[place] = max(offsets.get(place, 0), record.offset + 1)
    return offsets
