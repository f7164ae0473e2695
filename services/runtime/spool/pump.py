"""Moves entries from a spool to Kafka in order of append and forgets them once they are acknowledged.

While Kafka is away it waits, with the entries on disk; it never loses one and never bothers a client.
"""

import asyncio
import sqlite3

import structlog

from services.runtime.backoff import Backoff
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.spool.store import STARTED, Spool

log = structlog.get_logger(__name__)

ENTRIES_PER_ROUND_MAX = 500
# Long enough to fill a batch under load, short against the second after which an analyst may ask.
GATHER_S = 0.02


class Pump:
    """Publishes one spool; `wake` after every append, `run` in a task, `drain` before the process ends."""

    def __init__(self, spool: Spool, publisher: Publisher) -> None:
        self._spool = spool
        self._publisher = publisher
        self._published = 0
        self._appended = asyncio.Event()
        self._failing = False

    def wake(self) -> None:
        """Say that there is something to publish."""
        self._appended.set()

    @property
    def is_idle(self) -> bool:
        """Whether everything that was appended has been acknowledged."""
        return self._published >= self._spool.appended

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
                await self._publish_some()
                backoff.reset()
            except (PublishFailed, sqlite3.Error) as exc:
                # What was published but not forgotten goes out again: its ids make that harmless.
                if not self._failing:
                    log.warning("spool.publish_failed", error=str(exc), entries=self._spool.entries)
                self._failing = True
                await backoff.wait()

    async def _publish_some(self) -> None:
        entries = self._spool.read(self._published, ENTRIES_PER_ROUND_MAX)
        if not entries:
            self._published = self._spool.appended
            return
        await self._publisher.publish(
            [record for entry in entries if entry.stage != STARTED for record in entry.records]
        )
        self._spool.forget(entries)
        self._published = entries[-1].seq
        if self._failing:
            log.info("spool.publish_recovered", entries=self._spool.entries)
            self._failing = False
