"""Writes to the registry: a change is done when Kafka has acknowledged it and this edge has read it back.

The last record of a key in the log counts, whole. A change that another edge's write came between is made
again on top of that one, so that neither gets lost; where it cannot be made any more, that one is put back.
"""

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import structlog

from schemas import codec
from schemas.ids import EdgeId
from schemas.keys import EndUser, KeyRecord, Team, VirtualKey, record_key
from schemas.topics import KEYS
from services.edge.registry.key_log import KeyLog
from services.edge.registry.table import Entry, KeyTable, Registry
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import OutgoingRecord

log = structlog.get_logger(__name__)

# A write takes some 10 ms; a person waits no longer than this for one that Kafka does not take.
WRITE_S_MAX = 10.0
# Two operators who change one key within milliseconds of one another; more than a few is a loop.
ROUNDS_MAX = 5
# Some 2 KB of memory each, in every edge.
RECORDS_MAX = 500_000
# What was deleted stays to be looked at, and goes for good after that.
DELETED_DAYS = 30
BURY_EVERY_S = 3600.0
# Tombstones of one turn, in which no other write is made: some 50 ms of work.
BURIED_AT_ONCE_MAX = 500


UNREAD = "The registry has not been read yet; try again shortly"
UNACKNOWLEDGED = "Kafka did not acknowledge the change; look whether it was made, and try again"
FULL = "The registry is full: it holds {} records, with those deleted in the last 30 days, and takes no more"
CONTENDED = "Others change the same records at the same time; try again"


class RegistryUnavailable(Exception):
    """Nothing is known of the write: Kafka is away, or the registry was never read."""


class Overtaken(Exception):
    """Another's write came first, and the change cannot be made on top of it: that write stands.

    Never raised itself.
    """


class Vanished(Overtaken):
    """The record that was to be changed is deleted."""


class Taken(Overtaken):
    """Where a record was to be put, another one stands by now."""


class Change(NamedTuple):
    """A change of one record: from what stands there, or None, to what shall stand there."""

    name: str
    made: Callable[[Entry | None], Entry]


class _Pending(NamedTuple):
    """A change to be written: on top of `base`, in the belief that `in_place` is what it will replace."""

    change: Change
    base: Entry | None
    in_place: Entry | None


Owner = TypeVar("Owner", VirtualKey, Team, EndUser)


def creation(entry: Entry) -> Change:
    """Put a record where none is; Taken where one stands by then."""

    def made(before: Entry | None) -> Entry:
        if before is not None and before.deleted_at is None:
            raise Taken
        return entry

    return Change(record_key(entry), made)


def alteration(entry: Owner, altered: Callable[[Owner], Owner]) -> Change:
    """Alter a record on top of what it is when the change is written; Vanished where it is gone by then."""
    kind = type(entry)

    def made(before: Entry | None) -> Entry:
        if not isinstance(before, kind) or before.deleted_at is not None:
            raise Vanished
        return altered(before)

    return Change(record_key(entry), made)


def creation_or_alteration(entry: Owner, altered: Callable[[Owner], Owner]) -> Change:
    """Alter the record that stands when the change is written, or put this one where none does."""
    kind = type(entry)

    def made(before: Entry | None) -> Entry:
        if isinstance(before, kind) and before.deleted_at is None:
            return altered(before)
        return entry

    return Change(record_key(entry), made)


def removal(entry: Owner, deleted: Callable[[Owner], Owner]) -> Change:
    """Delete a record; one that another has deleted by then is left as it is."""
    kind = type(entry)

    def made(before: Entry | None) -> Entry:
        if not isinstance(before, kind):
            raise Vanished
        return deleted(before) if before.deleted_at is None else before

    return Change(record_key(entry), made)


class Writer:
    """Writes of one edge, one after the other."""

    def __init__(
        self,
        registry: Registry,
        key_log: KeyLog,
        publisher: Publisher,
        edge_id: EdgeId,
        write_s_max: float = WRITE_S_MAX,
        records_max: int = RECORDS_MAX,
    ) -> None:
        self._registry = registry
        self._key_log = key_log
        self._publisher = publisher
        self._edge_id = edge_id
        self._write_s_max = write_s_max
        self._records_max = records_max
        self._lock = asyncio.Lock()

    async def write(self, changes: Sequence[Change]) -> list[Entry]:
        """Make the changes and give what stands there now; RegistryUnavailable where that is not known."""
        async with self._turn(len(changes)):
            return await self._written(changes)

    @contextlib.asynccontextmanager
    async def _turn(self, changes: int) -> AsyncGenerator[None]:
        """Write alone on this edge for a block, and no longer than a write may take."""
        try:
            async with asyncio.timeout(self._write_s_max), self._lock:
                yield
        except (PublishFailed, TimeoutError) as exc:
            log.warning("keys.write_failed", changes=changes, error=type(exc).__name__)
            await self._publisher.close()  # what waits in it must not be written after all, much later
            raise RegistryUnavailable(UNACKNOWLEDGED) from exc

    async def _written(self, changes: Sequence[Change]) -> list[Entry]:
        if not self._registry.is_read:
            raise RegistryUnavailable(UNREAD)
        done: dict[str, Entry] = {}
        pending = [
            _Pending(each, standing, standing)
            for each in changes
            for standing in [self._registry.table.get(each.name)]
        ]
        self._check_room(sum(each.base is None for each in pending))
        entries = _made(pending)
        for _ in range(ROUNDS_MAX):
            replaced = await self._published(entries)
            done |= {each.change.name: entry for each, entry in zip(pending, entries, strict=True)}
            # Something else stood there: it was overwritten, so the change is made again on top of it.
            pending = [
                _Pending(each.change, before, entry)
                for each, entry, before in zip(pending, entries, replaced, strict=True)
                if before != each.in_place
            ]
            if not pending:
                return [done[each.name] for each in changes]
            try:
                entries = _made(pending)
            except Overtaken:
                await self._put_back(pending)
                raise
        await self._put_back(pending)
        raise RegistryUnavailable(CONTENDED)

    def _check_room(self, new: int) -> None:
        if new and len(self._registry.table) + new > self._records_max:
            raise RegistryUnavailable(FULL.format(self._records_max))

    async def _put_back(self, pending: Sequence[_Pending]) -> None:
        """Let stand again what was overwritten; once, as who has overwritten that in turn mends it too."""
        await self._published([each.base for each in pending if each.base is not None])
        await self._bury([each.change.name for each in pending if each.base is None])

    async def _published(self, entries: Sequence[Entry]) -> list[Entry | None]:
        """Publish and read back; give what each record replaced."""
        now = datetime.now(UTC)
        events = [
            KeyRecord(change_id=uuid.uuid4().hex, edge_id=self._edge_id, at=now, record=entry)
            for entry in entries
        ]
        expected = [self._key_log.expect(event.change_id) for event in events]
        try:
            refused = await self._publisher.publish([_outgoing(event) for event in events])
            if refused:
                raise PublishFailed(refused[0].error_class)
            return await asyncio.gather(*expected)
        finally:
            for each in expected:
                each.cancel()

    async def bury(self) -> None:
        """Bury what was deleted long ago, now and then until cancelled; every edge may."""
        while True:
            # Edges that were started together part, so that one of them does it for all.
            await asyncio.sleep(BURY_EVERY_S * random.uniform(0.5, 1.0))
            try:
                await self.bury_deleted(datetime.now(UTC))
            except (RegistryUnavailable, Overtaken) as exc:
                log.warning("keys.burial_failed", error=type(exc).__name__)

    async def bury_deleted(self, now: datetime) -> int:
        """Write tombstones for what was deleted DELETED_DAYS before `now`, and give how many."""
        long_ago = now - timedelta(days=DELETED_DAYS)
        names = await asyncio.to_thread(_deleted_before, self._registry.table, long_ago)
        buried = 0
        for start in range(0, len(names), BURIED_AT_ONCE_MAX):
            buried += await self._bury_deleted(names[start : start + BURIED_AT_ONCE_MAX], long_ago)
        return buried

    async def _bury_deleted(self, names: Sequence[str], long_ago: datetime) -> int:
        def unchanged(before: Entry | None) -> Entry:
            if before is None:
                raise Vanished
            if not _is_deleted_before(before, long_ago):
                raise Taken
            return before

        async with self._turn(len(names)):
            # Another edge may have buried them since they were looked for.
            due = [each for each in names if _is_deleted_before(self._registry.table.get(each), long_ago)]
            # A tombstone cannot be taken back. So the record is written once more as it is: where this edge
            # is behind the log, in which the record may stand again, that shows when it is read back.
            await self._written([Change(name, unchanged) for name in due])
            await self._bury(due)
        return len(due)

    async def _bury(self, names: Sequence[str]) -> None:
        await self._publisher.publish([OutgoingRecord(KEYS, name.encode(), None, ()) for name in names])


def _made(pending: Sequence[_Pending]) -> list[Entry]:
    return [each.change.made(each.base) for each in pending]


def _deleted_before(table: KeyTable, at: datetime) -> list[str]:
    return [record_key(entry) for entry in table.deleted() if _is_deleted_before(entry, at)]


def _is_deleted_before(entry: Entry | None, at: datetime) -> bool:
    return entry is not None and entry.deleted_at is not None and entry.deleted_at < at


def _outgoing(event: KeyRecord) -> OutgoingRecord:
    return OutgoingRecord(
        KEYS, codec.key(event), codec.encode(event), codec.headers(event, event.at.isoformat())
    )
