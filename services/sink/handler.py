"""The sink's stage: events in, acknowledged rows out; what it returns for may be committed."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from schemas.topics import RATED, topic
from services.runtime import metrics
from services.runtime.records import ConsumedRecord, DeadRecord, Processed
from services.sink.blocks import TOPICS, gather
from services.sink.store import BlockStore

# Whoever reads this partition rebuilds usage_hourly: of all sinks exactly one does.
HOURLY_OWNER = (RATED, 0)

log = structlog.get_logger(__name__)


class SinkStage:
    """Stores the records of one batch, one block per table and topic; the same records again change nothing.

    `process` takes as long as ClickHouse does, for ever if need be: the loop around it keeps its partitions.
    """

    name = "sink"
    topics = TOPICS

    def __init__(self, store: BlockStore, own_hourly: Callable[[bool], None] = lambda is_owner: None) -> None:
        self._store = store
        self._own_hourly = own_hourly

    def assigned(self, partitions: frozenset[tuple[str, int]]) -> None:
        """Rebuild usage_hourly where the one partition is ours that decides who does."""
        self._own_hourly(HOURLY_OWNER in partitions)

    async def revoked(self) -> None:
        """Leave usage_hourly to the next owner; two at once are harmless."""
        self._own_hourly(False)

    async def process(self, records: Sequence[ConsumedRecord]) -> Processed:
        """Return when every row is acknowledged; records that have none come back as dead."""
        # Off the event loop: a full block is a second of decoding, and the group's heartbeats must not wait.
        gathered = await asyncio.to_thread(gather, records)
        dead = list(gathered.dead)
        for block in gathered.blocks:
            # What has no row in usage shall have none in the ledger: the two are one story.
            dead += await self._store.store(block.without([each.record for each in dead]) if dead else block)
        return Processed(dead=[each for each in dead if _has_dead_letters(each)])


def _has_dead_letters(dead: DeadRecord) -> bool:
    """Drop, and count, what its topic keeps no dead letters for: the next heartbeat is a second away."""
    if topic(dead.record.topic).dlq:
        return True
    metrics.sink_records_dropped.labels(dead.record.topic).inc()
    log.warning(
        "sink.record_dropped",
        topic=dead.record.topic,
        partition=dead.record.partition,
        offset=dead.record.offset,
        error_class=dead.error_class,
    )
    return False
