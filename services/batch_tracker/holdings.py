"""Keeps the states of one partition's batches as they stand on gateway.batches.v1; the only writer there."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

import structlog
from msgspec.structs import replace

from schemas import codec, topics
from schemas.batches import BatchState
from services.batch_tracker.state import CLOSED
from services.runtime import metrics
from services.runtime.backoff import Backoff
from services.runtime.errors import ServiceStopped
from services.runtime.kafka import KafkaConfig
from services.runtime.log_reader import LogUnreadable, read_partition
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import OutgoingRecord

log = structlog.get_logger(__name__)

# Facts are kept as long: afterwards nothing could bring the batch back.
KEPT = timedelta(days=60)

NEVER = datetime.max.replace(tzinfo=UTC) - KEPT

Change = Callable[[BatchState], BatchState]


class Holding:
    """One partition, from its assignment until it is given up."""

    def __init__(self, partition: int, kafka: KafkaConfig, publisher: Publisher, writer: str) -> None:
        self.partition = partition
        self._kafka = kafka
        self._publisher = publisher
        self._writer = writer
        self._states: dict[str, BatchState] = {}
        self._writing = asyncio.Lock()
        self._is_loaded = asyncio.Event()

    @property
    def states(self) -> Mapping[str, BatchState]:
        """What is known of each batch."""
        return self._states

    async def loaded(self) -> None:
        """Wait until the states are read."""
        await self._is_loaded.wait()

    async def load(self) -> None:
        """Read the partition to its end, however often it takes; of two states the higher version holds."""
        backoff = Backoff()
        while True:
            try:
                states, stale = await self._read()
                break
            except LogUnreadable as exc:
                log.warning("batches.unreadable", partition=self.partition, error=str(exc))
                await backoff.wait()
        # A zombie wrote behind its successor: compaction would keep what it wrote.
        if stale:
            await self._publish(states[batch_id] for batch_id in stale)
        self._states = states
        for state in states.values():
            metrics.batch_tracker_batches.labels(state.phase).inc()
        self._is_loaded.set()
        log.info("batches.loaded", partition=self.partition, batches=len(states), stale=len(stale))

    async def change(self, batch_id: str, change: Change) -> BatchState:
        """Change a state and return when that is acknowledged; nothing is written where nothing changed."""
        async with self._writing:
            state = change(self._states[batch_id])
            return (await self._kept({batch_id: state}))[batch_id]

    async def take_in(
        self, decide: Callable[[Mapping[str, BatchState]], Mapping[str, BatchState]]
    ) -> Mapping[str, BatchState]:
        """Let `decide` make new states of those there are, and return when they are acknowledged."""
        async with self._writing:
            return await self._kept(decide(self._states))

    async def forget(self, now: datetime) -> int:
        """Write a tombstone for every batch that is long over, and say how many there were."""
        async with self._writing:
            over = [state for state in self._states.values() if _over_since(state) + KEPT < now]
            await self._written(OutgoingRecord(topics.BATCHES, codec.key(each), None, ()) for each in over)
            for state in over:
                del self._states[state.batch_id]
                metrics.batch_tracker_batches.labels(state.phase).dec()
            return len(over)

    def give_up(self) -> None:
        """Let go of the partition."""
        if self._is_loaded.is_set():
            for state in self._states.values():
                metrics.batch_tracker_batches.labels(state.phase).dec()
        self._states = {}

    async def _read(self) -> tuple[dict[str, BatchState], set[str]]:
        states: dict[str, BatchState] = {}
        stale: set[str] = set()
        async for record in read_partition(self._kafka, topics.BATCHES, self.partition):
            batch_id = (record.key or b"").decode(errors="replace")
            stale.discard(batch_id)
            if record.value is None:
                states.pop(batch_id, None)
                continue
            try:
                state = codec.decode(BatchState, record.value)
            except codec.Undecodable as exc:
                raise ServiceStopped(
                    f"{topics.BATCHES}/{record.partition} holds no state at {record.offset} ({exc}): "
                    "a later release wrote it, start that one."
                ) from exc
            if batch_id in states and states[batch_id].version > state.version:
                stale.add(batch_id)
            else:
                states[batch_id] = state
        return states, stale

    async def _kept(self, wanted: Mapping[str, BatchState]) -> Mapping[str, BatchState]:
        now = datetime.now(UTC)
        changed = {
            batch_id: replace(state, version=state.version + 1, at=now, writer=self._writer)
            for batch_id, state in wanted.items()
            if state != self._states.get(batch_id)
        }
        await self._publish(changed.values())
        for batch_id, state in changed.items():
            self._count(self._states.get(batch_id), state)
            self._states[batch_id] = state
        return {**wanted, **changed}

    async def _publish(self, states: Iterable[BatchState]) -> None:
        await self._written(
            OutgoingRecord(
                topics.BATCHES,
                codec.key(state),
                codec.encode(state),
                codec.headers(state, state.at.isoformat()),
            )
            for state in states
        )

    async def _written(self, records: Iterable[OutgoingRecord]) -> None:
        outgoing, backoff = list(records), Backoff()
        while outgoing:
            try:
                refused = await self._publisher.publish(outgoing)
            except PublishFailed as exc:
                log.warning("batches.publish_failed", partition=self.partition, error=str(exc))
                await backoff.wait()
                continue
            if refused:
                raise ServiceStopped(
                    f"Kafka does not take the state of a batch, of {len(refused[0].record.value or b'')} "
                    f"bytes: raise max.message.bytes of {topics.BATCHES}."
                )
            return

    def _count(self, before: BatchState | None, after: BatchState) -> None:
        if before is not None:
            metrics.batch_tracker_batches.labels(before.phase).dec()
        metrics.batch_tracker_batches.labels(after.phase).inc()
        if after.phase in CLOSED and (before is None or before.phase not in CLOSED):
            _tell_end(after)


def _tell_end(state: BatchState) -> None:
    metrics.batch_tracker_closed.labels(state.phase).inc()
    metrics.batch_tracker_lines_malformed.inc(state.malformed)
    if state.phase == "booked" and state.ended_at and state.closed_at:
        metrics.batch_tracker_lag.observe(max(0.0, (state.closed_at - state.ended_at).total_seconds()))
    tell = log.info if state.phase == "booked" else log.error
    tell(
        "batch.closed",
        batch_id=state.batch_id,
        phase=state.phase,
        lines=state.lines_read,
        malformed=state.malformed,
        error=state.error,
    )


def _over_since(state: BatchState) -> datetime:
    """Say since when nothing more happens to a batch; results that others read are there for 29 days."""
    if state.closed_at is not None:
        return state.closed_at
    return state.created_at if state.phase in ("own_key", "other_credential") else NEVER
