"""Moves entries from a spool to Kafka in order of append and forgets them once they are acknowledged.

While Kafka is away it waits, with the entries on disk; it never loses one and never bothers a client.
"""

import asyncio
import time

import structlog

from services.runtime import metrics
from services.runtime.backoff import Backoff
from services.runtime.publisher import Publisher, PublishFailed, Refused
from services.runtime.spool.frames import STARTED
from services.runtime.spool.refused import set_aside
from services.runtime.spool.segment import SpoolFailed
from services.runtime.spool.store import Spool

log = structlog.get_logger(__name__)

ENTRIES_PER_ROUND_MAX = 500
# Long enough to fill a batch under load, short against the second after which an analyst may ask.
GATHER_S = 0.02
# How often a fault that lasts is said again.
REPEAT_LOG_S = 60.0


class Pump:
    """Publishes one spool; `wake` after every append, `run` in a task, `drain` before the process ends."""

    def __init__(self, spool: Spool, publisher: Publisher) -> None:
        self._spool = spool
        self._publisher = publisher
        self._appended = asyncio.Event()
        self._fault = ""
        self._fault_logged_at = 0.0

    def wake(self) -> None:
        """Say that there is something to publish."""
        self._appended.set()

    @property
    def is_idle(self) -> bool:
        """Whether everything that was appended has been acknowledged."""
        return not self._spool.entries

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._appended.wait()
            await asyncio.sleep(GATHER_S)
            self._appended.clear()
            await self.drain()

    async def drain(self) -> None:
        """Publish what is there now, however often Kafka has to be asked."""
        backoff = Backoff()
        while not self.is_idle:
            try:
                await self.publish_round()
            except (PublishFailed, SpoolFailed) as exc:
                # What was published but not forgotten goes out again: its ids make that harmless.
                self._failed(exc)
                await backoff.wait()
                continue
            backoff.reset()
            self._recovered()

    async def publish_round(self) -> int:
        """Publish the next entries and give their number; PublishFailed or SpoolFailed leave them there."""
        entries = self._spool.read(self._spool.acknowledged, ENTRIES_PER_ROUND_MAX)
        refused = await self._publisher.publish(
            [record for entry in entries if entry.stage != STARTED for record in entry.records]
        )
        for each in refused:
            self._set_aside(each)
        if entries:
            self._spool.forget(entries[-1].seq)
        return len(entries)

    def _set_aside(self, refused: Refused) -> None:
        is_kept = set_aside(self._spool.directory, "spool", refused)
        metrics.spool_refused_records.labels("kept" if is_kept else "dropped").inc()
        log.error(
            "spool.record_refused",
            topic=refused.record.topic,
            value_bytes=len(refused.record.value or b""),
            error_class=refused.error_class,
            is_kept=is_kept,
            directory=str(self._spool.directory),
        )

    def _failed(self, error: Exception) -> None:
        """Say what stands in the way, when it begins or changes, and now and then while it lasts."""
        metrics.spool_failures.labels("publish" if isinstance(error, PublishFailed) else "disk").inc()
        fault, now = str(error), time.monotonic()
        if fault != self._fault or now - self._fault_logged_at >= REPEAT_LOG_S:
            log.warning("spool.publish_failed", error=fault, entries=self._spool.entries)
            self._fault, self._fault_logged_at = fault, now

    def _recovered(self) -> None:
        if self._fault:
            log.info("spool.publish_recovered", entries=self._spool.entries)
            self._fault = ""
