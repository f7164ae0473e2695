"""Brings blocks into ClickHouse: waits for ever while it cannot, stops when it must not, sets bad rows aside.

A row is never given up for the store's fault, and never for a neighbour's.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from services.runtime import metrics
from services.runtime.backoff import Backoff
from services.runtime.clickhouse import RowsRefused, StoreMismatch, StoreUnavailable
from services.runtime.errors import ServiceStopped
from services.runtime.records import DeadRecord
from services.sink.blocks import Block

log = structlog.get_logger(__name__)

RETRY_WAIT_S_MIN = 0.1
# More refused rows than this in one block are no accident of a few events: somebody has to look.
DEAD_ROWS_PER_BLOCK_MAX = 100
# How often a store that stays away is mentioned again, while the reason is the same.
REMINDER_S = 60.0
# What a person looks at, by ClickHouse's code; None is no answer, or one that is not ClickHouse's.
_REMEDIES: Mapping[int | None, str] = {
    None: "is it up, and is clickhouse.url its address?",
    159: "inserts take too long: look at system.merges and system.processes",
    202: "too many queries run: look at system.processes",
    241: "out of memory: look at system.processes, or lower sink.block_rows_max",
    242: "its replica is read-only: look at Keeper and system.replicas",
    243: "its disk is full: look at system.disks",
    252: "merges are behind: look at system.merges, or raise sink.block_wait_ms_max",
}
_OTHER_REMEDY = "look at its log; the block is tried again until it is taken"


class Inserts(Protocol):
    """What the store needs of ClickHouse; the real one is `services.runtime.clickhouse.ClickHouse`."""

    async def insert(
        self,
        table: str,
        names: Sequence[str],
        types: Sequence[str],
        columns: Sequence[Sequence[object]],
        token: str,
    ) -> None:
        """Insert one block; returns when it is written, raises a StoreError when it is not."""
        ...


class BlockStore:
    """Inserts one block after the other; remembers whether ClickHouse answered last time."""

    def __init__(self, clickhouse: Inserts, retry_wait_ms_max: int) -> None:
        self._clickhouse = clickhouse
        self._retry_wait_s_max = retry_wait_ms_max / 1000
        self._away_since: float | None = None
        self._said: tuple[int | None, float] = (None, 0.0)
        metrics.sink_store_away.set(0)

    @property
    def is_available(self) -> bool:
        """Whether the last insert was answered; for the readiness probe."""
        return self._away_since is None

    async def store(self, block: Block) -> list[DeadRecord]:
        """Insert every row that can be stored and give the records of those that cannot.

        ServiceStopped where ClickHouse's tables or rights do not fit, or too many rows are refused.
        """
        dead: list[DeadRecord] = []
        pending = [block]
        while pending:
            part = pending.pop()
            try:
                await self._insert(part)
            except RowsRefused as exc:
                if len(part.records) > 1:
                    first, second = part.halves()
                    pending += (second, first)
                    continue
                dead.append(DeadRecord(part.records[0], type(exc).__name__, f"ClickHouse refused it: {exc}"))
                if len(dead) > DEAD_ROWS_PER_BLOCK_MAX:
                    raise ServiceStopped(
                        f"ClickHouse refused more than {DEAD_ROWS_PER_BLOCK_MAX} rows of one block of "
                        f"{block.table.name}, the last with: {exc}."
                    ) from exc
        return dead

    async def _insert(self, block: Block) -> None:
        table = block.table
        # New for every block and kept through its retries: it folds what landed without an answer, and no
        # record of another day can ever be taken for a repetition.
        token = uuid.uuid4().hex
        backoff = Backoff(min(RETRY_WAIT_S_MIN, self._retry_wait_s_max), self._retry_wait_s_max)
        while True:
            started = time.monotonic()
            try:
                await self._clickhouse.insert(table.full_name, table.names, table.types, block.columns, token)
            except StoreUnavailable as exc:
                self._went_away(table.name, exc)
                metrics.sink_insert_retries.labels(table.name).inc()
                await backoff.wait()
                continue
            except StoreMismatch as exc:
                raise ServiceStopped(
                    f"ClickHouse does not take rows of {table.name}: {exc}. Check its tables and rights; "
                    "`tollhouse migrate` brings the tables up to date."
                ) from exc
            except RowsRefused:
                self._came_back()
                raise
            self._came_back()
            metrics.sink_insert_duration.labels(table.name).observe(time.monotonic() - started)
            metrics.sink_rows.labels(table.name).inc(len(block.records))
            return

    def _went_away(self, table: str, error: StoreUnavailable) -> None:
        """Say so once, again for another reason, and from time to time while it lasts."""
        now = time.monotonic()
        event = "sink.store_still_away"
        if self._away_since is None:
            self._away_since = now
            event = "sink.store_went_away"
            metrics.sink_store_away.set(1)
        elif self._said[0] == error.code and now - self._said[1] < REMINDER_S:
            return
        self._said = (error.code, now)
        log.warning(
            event,
            table=table,
            error=str(error),
            code=error.code,
            away_ms=round((now - self._away_since) * 1000),
            remedy=_REMEDIES.get(error.code, _OTHER_REMEDY),
        )

    def _came_back(self) -> None:
        if self._away_since is not None:
            away_ms = round((time.monotonic() - self._away_since) * 1000)
            self._away_since = None
            metrics.sink_store_away.set(0)
            log.info("sink.store_came_back", away_ms=away_ms)
