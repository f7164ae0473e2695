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
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    CommitFailedError,
    CorruptRecordException,
    GroupAuthorizationFailedError,
    IllegalStateError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
    UnsupportedVersionError,
)

from schemas.topics import DLQ_SUFFIX
from services.runtime import metrics
from services.runtime.backoff import Backoff
from services.runtime.contact import AWAY_S_MAX, Contact
from services.runtime.dead_letters import dead_letter
from services.runtime.dead_limits import DeadLimits
from services.runtime.errors import ServiceStopped
from services.runtime.groupless import let_go
from services.runtime.kafka import KafkaConfig, consumed
from services.runtime.publisher import Publisher, PublishFailed, Refused
from services.runtime.records import (
    ConsumedRecord,
    DeadRecord,
    OutgoingRecord,
    PartitionOwner,
    Processed,
    Stage,
)
from services.runtime.stopping import until_stopped

log = structlog.get_logger(__name__)

POLL_S = 0.5
# Of the values gathered before a stage works, whatever their number.
BATCH_BYTES_MAX = 64 * 1024 * 1024
# How long a rebalance waits for the work in hand before it is abandoned; below every rebalance time-out.
REVOKE_S_MAX = 10.0
# The same for a process that was asked to end: a store or a Kafka that is away may not keep it.
STOP_S_MAX = 10.0
# aiokafka tries a commit for as long as the broker is away; a later one says as much as this one.
COMMIT_S_MAX = 30.0
SESSION_TIMEOUT_MS = 15_000
REBALANCE_TIMEOUT_MS = 60_000
# A stage may wait for its store for as long as that is away; heartbeats, which go on by themselves, say that
# the member lives. Polling meanwhile would wait for a rebalance that waits for the stage.
POLL_INTERVAL_MS_MAX = 7 * 24 * 3600 * 1000

# What Kafka will say again however long one waits: rights, and settings that do not fit.
FATAL = (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    CorruptRecordException,
    GroupAuthorizationFailedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
    UnsupportedVersionError,
)


class ConsumerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How one stage reads: its group, its lasting name in it, and how much it gathers before it works."""

    group_id: str
    group_instance_id: str = ""
    batch_records_max: int = 2_000
    batch_bytes_max: int = BATCH_BYTES_MAX
    batch_wait_ms_max: int = 0
    revoke_s_max: float = REVOKE_S_MAX
    stop_s_max: float = STOP_S_MAX
    session_timeout_ms: int = SESSION_TIMEOUT_MS
    kafka_away_s_max: float = AWAY_S_MAX


class ConsumerLoop:
    """One member of a consumer group."""

    def __init__(
        self, stage: Stage, config: ConsumerConfig, kafka: KafkaConfig, publisher: Publisher
    ) -> None:
        self._stage = stage
        self._owner = stage if isinstance(stage, PartitionOwner) else None
        self._config = config
        self._kafka = kafka
        self._publisher = publisher
        self._generation = 0
        self._work: asyncio.Task[Processed] | None = None
        self._busy = asyncio.Lock()
        self._limits = DeadLimits(stage.name)
        self._contact = Contact(stage.name, config.kafka_away_s_max)
        self._is_joined = False

    @property
    def is_ready(self) -> bool:
        """Whether it has joined its group, and Kafka has answered lately."""
        return self._is_joined and self._contact.is_near

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set, then finish what is in hand, if that can be soon, and leave."""
        backoff = Backoff()
        while not stopping.is_set():
            consumer = await until_stopped(self._joined(), stopping, 0.0)
            if consumer is None:
                return
            watching = asyncio.create_task(self._contact.watch(consumer))
            try:
                await until_stopped(self._worked(consumer, stopping), stopping, self._config.stop_s_max)
            except KafkaError as exc:
                self._check_fatal(exc)
            finally:
                self._is_joined = False
                watching.cancel()
                await self._give_up()
                await self._leave(consumer)
            if not stopping.is_set():
                await until_stopped(backoff.wait(), stopping, 0.0)

    def _check_fatal(self, error: KafkaError) -> None:
        """Stop for what no waiting mends; anything else is worth another membership."""
        if isinstance(error, FATAL):
            raise ServiceStopped(
                f"Kafka will not let {self._stage.name} read as {self._config.group_id}: "
                f"{type(error).__name__} ({error}). Check the rights and the configuration of both."
            ) from error
        log.warning(
            "consumer.membership_lost", stage=self._stage.name, error=f"{type(error).__name__}: {error}"
        )

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
                request_timeout_ms=max(self._kafka.request_timeout_ms, self._config.session_timeout_ms * 2),
                session_timeout_ms=self._config.session_timeout_ms,
                rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
                max_poll_interval_ms=POLL_INTERVAL_MS_MAX,
            )
            try:
                await consumer.start()
                await self._until_there(consumer)
                consumer.subscribe(self._stage.topics, listener=_Listener(self._assigned, self._revoked))
            except (KafkaError, OSError) as exc:
                await self._leave(consumer)
                log.warning("consumer.kafka_unreachable", stage=self._stage.name, error=type(exc).__name__)
                await backoff.wait()
                continue
            except BaseException:
                await self._leave(consumer)
                raise
            return consumer

    async def _until_there(self, consumer: AIOKafkaConsumer) -> None:
        """Wait for the topics: aiokafka looks for one that does not exist for 40 s, and says nothing."""
        backoff = Backoff()
        while missing := set(self._stage.topics) - await consumer.topics():
            log.error("consumer.topics_missing", topics=sorted(missing), remedy="tollhouse migrate")
            await backoff.wait()

    async def _leave(self, consumer: AIOKafkaConsumer) -> None:
        if not await let_go(consumer):
            log.warning("consumer.leave_failed", stage=self._stage.name)

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
            came = [consumed(record) for run in polled.values() for record in run]
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
        self._limits.check(len(records), len(processed.dead))
        if await self._published(self._outgoing(processed)):
            return await self._processed_apart(records)
        return processed

    async def _processed_apart(self, records: list[ConsumedRecord]) -> Processed:
        """Do it again in ever smaller parts, until what Kafka will never take is known by its source.

        That record is dead; whatever else is published twice has the same ids.
        """
        pending, dead = [records], list[DeadRecord]()
        while pending:
            part = pending.pop()
            processed = await self._stage.process(part)
            refused = await self._published(self._outgoing(processed))
            if refused and len(part) > 1:
                middle = len(part) // 2
                pending += [part[middle:], part[:middle]]
                continue
            dead += processed.dead
            if refused:
                error = f"Kafka does not take what came of it for {refused[0].record.topic}"
                dead.append(DeadRecord(part[0], refused[0].error_class, error))
                self._limits.check(1, 1)
                await self._published(self._outgoing(Processed(dead=dead[-1:])))
        return Processed(dead=dead)

    def _outgoing(self, processed: Processed) -> list[OutgoingRecord]:
        letters = [dead_letter(self._stage.name, dead) for dead in processed.dead]
        return [*processed.outgoing, *letters]

    async def _published(self, outgoing: list[OutgoingRecord]) -> list[Refused]:
        """Publish, however often it takes, and give what Kafka will never take."""
        backoff = Backoff()
        while True:
            try:
                refused = await self._publisher.publish(outgoing)
            except PublishFailed as exc:
                log.warning("consumer.publish_failed", stage=self._stage.name, error=str(exc))
                await backoff.wait()
                continue
            for each in refused:
                if each.record.topic.endswith(DLQ_SUFFIX):
                    raise ServiceStopped(
                        f"Kafka does not take a dead letter of {len(each.record.value or b'')} bytes on "
                        f"{each.record.topic}: raise its max.message.bytes; nothing of it is committed."
                    )
            return refused

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

    def _assigned(self, partitions: frozenset[tuple[str, int]]) -> None:
        self._is_joined = True
        if self._owner is not None:
            self._owner.assigned(partitions)

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
            await self._give_up()

    async def _give_up(self) -> None:
        """End what an owner does beside the records, in so much time as a rebalance waits for."""
        if self._owner is None:
            return
        try:
            async with asyncio.timeout(self._config.revoke_s_max):
                await self._owner.revoked()
        except TimeoutError:
            log.warning("consumer.work_abandoned", stage=self._stage.name, records=0)


class _Listener(ConsumerRebalanceListener):
    def __init__(
        self,
        on_assigned: Callable[[frozenset[tuple[str, int]]], None],
        on_revoked: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked

    async def on_partitions_revoked(self, revoked: object) -> None:
        del revoked  # an eager rebalance takes all of them
        await self._on_revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._on_assigned(frozenset((place.topic, place.partition) for place in assigned))
        log.info("consumer.partitions_assigned", partitions=len(assigned))


def _next_offsets(records: list[ConsumedRecord]) -> Mapping[TopicPartition, int]:
    offsets: dict[TopicPartition, int] = {}
    for record in records:
        place = TopicPartition(record.topic, record.partition)
        offsets[place] = max(offsets.get(place, 0), record.offset + 1)
    return offsets
