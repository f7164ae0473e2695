"""Puts the three moments of an exchange into the spool, and never lets that trouble the exchange."""

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

import structlog

from schemas.ids import RequestId
from schemas.usage_rules import Reading
from services.edge import events
from services.edge.events import Ending, Exchange, Place
from services.runtime import metrics
from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import ADDED, CLOSED, OPENED, STARTED
from services.runtime.spool.pump import Pump
from services.runtime.spool.segment import SpoolFailed
from services.runtime.spool.store import Spool, SpoolFull
from services.runtime.spool.sync import GroupSync

log = structlog.get_logger(__name__)

# What the last bytes of an answer should wait for the spool at most; a slower one is counted (promise P2).
SPOOL_WAIT_MS_MAX = 50
# Of exchanges that are served without a record at most one a second is logged; the counter has them all.
SHED_LOG_S_MIN = 1.0

_STAGES = {OPENED: "opened", STARTED: "started", CLOSED: "closed", ADDED: "added"}


class CannotRecord(Exception):
    """The exchange must not begin: there is no room to say so."""


class Recorder:
    """The edge's end of the spool; with `sync` the last bytes of an answer wait for the platter."""

    def __init__(
        self,
        spool: Spool,
        pump: Pump,
        when_full: Literal["refuse", "shed"] = "refuse",
        sync: GroupSync | None = None,
        wait_ms_max: float = SPOOL_WAIT_MS_MAX,
    ) -> None:
        self._spool = spool
        self._pump = pump
        self.when_full = when_full
        self._sync = sync
        self._wait_ms_max = wait_ms_max
        self._shed_open: set[RequestId] = set()
        self._shed_logged_at = 0.0
        self.shed = 0

    @property
    def is_accepting(self) -> bool:
        """Whether an exchange may begin now."""
        return self.when_full == "shed" or not self._spool.is_full

    def open(self, exchange: Exchange) -> None:
        """Record that an exchange begins; CannotRecord where it may not begin without."""
        try:
            self._spool.append(exchange.request_id, OPENED, events.opening(exchange))
        except (SpoolFull, SpoolFailed) as exc:
            if self.when_full == "shed":
                self._shed(exchange, exc)
                return
            if isinstance(exc, SpoolFailed):
                self._lost(exchange, OPENED, exc)
            raise CannotRecord(str(exc)) from exc
        self._pump.wake()

    def start(self, exchange: Exchange, reading: Reading) -> None:
        """Keep the usage of message_start, to be published only if this process dies."""
        if exchange.request_id not in self._shed_open:
            self._append(exchange, STARTED, events.usage_so_far(exchange, reading, self._place()))

    def add(self, exchange: Exchange, records: Sequence[OutgoingRecord]) -> None:
        """Record what was learnt beside the exchange itself: facts of batches, usage of their items."""
        if exchange.request_id in self._shed_open or not records:
            return
        self._append(exchange, ADDED, records)
        self._pump.wake()

    def close(self, exchange: Exchange, reading: Reading, ending: Ending) -> None:
        """Record the end; when this returns, the usage outlives this process."""
        if exchange.request_id in self._shed_open:
            self._shed_open.remove(exchange.request_id)
            return
        began = time.perf_counter_ns()
        self._append(exchange, CLOSED, events.closing(exchange, reading, ending, self._place()))
        self._pump.wake()
        if time.perf_counter_ns() - began > self._wait_ms_max * 1_000_000:
            metrics.edge_spool_slow.inc()

    async def synced(self) -> None:
        """Wait until what was recorded outlives the host as well, where that was asked for; not for long."""
        if self._sync is None:
            return
        try:
            async with asyncio.timeout(self._wait_ms_max / 1000):
                await self._sync.synced()
        except TimeoutError:
            metrics.edge_spool_slow.inc()
        except OSError as exc:
            log.error("spool.sync_failed", error=exc.strerror)
            metrics.spool_failures.labels("sync").inc()

    def _shed(self, exchange: Exchange, error: Exception) -> None:
        """Let the exchange go on without a record, and count it; its number stays used."""
        self._shed_open.add(exchange.request_id)
        self.shed += 1
        metrics.edge_shed.inc()
        now = time.monotonic()
        if now - self._shed_logged_at >= SHED_LOG_S_MIN:
            self._shed_logged_at = now
            log.error("exchange.shed", request_id=exchange.request_id, shed=self.shed, error=str(error))

    def _place(self) -> Place:
        return Place(self._spool.source_id, self._spool.appended + 1)

    def _append(self, exchange: Exchange, stage: int, records: Sequence[OutgoingRecord]) -> None:
        try:
            self._spool.append(exchange.request_id, stage, records)
        except SpoolFailed as exc:
            # The exchange goes on: what is lost is our record of it, and the counter says so.
            self._lost(exchange, stage, exc)

    def _lost(self, exchange: Exchange, stage: int, error: Exception) -> None:
        log.error(
            "spool.append_failed",
            request_id=exchange.request_id,
            stage=_STAGES[stage],
            error=str(error),
        )
        metrics.edge_records_lost.labels(_STAGES[stage]).inc()
