"""Puts the three moments of an exchange into the spool, and never lets that trouble the exchange."""

import sqlite3
import time
from collections.abc import Sequence

import structlog

from services.edge import events
from services.edge.events import Ending, Exchange, Place
from services.edge.tap.reading import Reading
from services.runtime import metrics
from services.runtime.records import OutgoingRecord
from services.runtime.spool.pump import Pump
from services.runtime.spool.store import CLOSED, OPENED, STARTED, Spool, SpoolFull

log = structlog.get_logger(__name__)

# What the last bytes of an answer should wait for the spool at most; a slower append is counted (promise P2).
SPOOL_WAIT_MS_MAX = 50


class CannotRecord(Exception):
    """The exchange must not begin: there is no room to say so."""


class Recorder:
    """The edge's end of the spool."""

    def __init__(self, spool: Spool, pump: Pump) -> None:
        self._spool = spool
        self._pump = pump

    def open(self, exchange: Exchange) -> None:
        """Record that an exchange begins; CannotRecord where it may not."""
        try:
            self._spool.append(exchange.request_id, OPENED, events.opening(exchange))
        except SpoolFull as exc:
            raise CannotRecord(str(exc)) from exc
        except sqlite3.Error as exc:
            log.error("spool.append_failed", request_id=exchange.request_id, error=str(exc))
            metrics.edge_records_lost.labels("opened").inc()
            raise CannotRecord(str(exc)) from exc
        self._pump.wake()

    def start(self, exchange: Exchange, reading: Reading) -> None:
        """Keep the usage of message_start, to be published only if this process dies."""
        self._append(exchange, STARTED, events.usage_so_far(exchange, reading, self._place()))

    def close(self, exchange: Exchange, reading: Reading, ending: Ending) -> None:
        """Record the end; when this returns, the usage is durable and the client may have its last bytes."""
        began = time.perf_counter_ns()
        self._append(exchange, CLOSED, events.closing(exchange, reading, ending, self._place()))
        self._pump.wake()
        if time.perf_counter_ns() - began > SPOOL_WAIT_MS_MAX * 1_000_000:
            metrics.edge_spool_slow.inc()

    def _place(self) -> Place:
        return Place(self._spool.source_id, self._spool.appended + 1)

    def _append(self, exchange: Exchange, stage: int, records: Sequence[OutgoingRecord]) -> None:
        try:
            self._spool.append(exchange.request_id, stage, records)
        except sqlite3.Error as exc:
            # The exchange goes on: what is lost is our record of it, and the counter says so.
            name = "started" if stage == STARTED else "closed"
            log.error("spool.append_failed", request_id=exchange.request_id, stage=name, error=str(exc))
            metrics.edge_records_lost.labels(name).inc()
