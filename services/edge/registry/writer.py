"""Writes to the registry: a change is done when Kafka has acknowledged it and this edge has read it back.

The last record of a key in the log counts, whole. A change that another edge's write came between is made
again on top of that one, so that neither gets lost.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar

import structlog

from schemas import codec
from schemas.ids import EdgeId
from schemas.keys import EndUser, KeyRecord, Team, VirtualKey, record_key
from schemas.topics import KEYS
from services.edge.registry.follower import Follower
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


UNREAD = "The registry has not been read yet; try again shortly"
UNACKNOWLEDGED = "Kafka did not acknowledge the change; look whether it was made, and try again"
FULL = f"The registry holds {RECORDS_MAX} records, with those deleted in the last 30 days, and takes no more"
CONTENDED = "Others change the same records at the same time; try again"


class RegistryUnavailable(Exception):
    """Nothing is known of the write: Kafka is away, or the registry was never read."""


class Vanished(Exception):
    """The record that was to be changed is deleted."""


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
    """Put a record where none is."""

    def made(_: Entry | None) -> Entry:
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


class Writer:
    """Writes of one edge, one after the other."""

    def __init__(
        self,
        registry: Registry,
        follower: Follower,
        publisher: Publisher,
        edge_id: EdgeId,
        write_s_max: float = WRITE_S_MAX,
    ) -> None:
        self._registry = registry
        self._follower = follower
        self._publisher = publisher
        self._edge_id = edge_id
        self._write_s_max = write_s_max
        self._lock = asyncio.Lock()

    async def write(self, changes: Sequence[Change]) -> list[Entry]:
        """Make the changes and give what stands there now; RegistryUnavailable where that is not known."""
        try:
            async with asyncio.timeout(self._write_s_max), self._lock:
                return await self._written(changes)
        except (PublishFailed, TimeoutError) as exc:
            log.warning("keys.write_failed", changes=len(changes), error=type(exc).__name__)
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
        if len(self._registry.table) + sum(each.base is None for each in pending) > RECORDS_MAX:
            raise RegistryUnavailable(FULL)
        for _ in range(ROUNDS_MAX):
            entries = [each.change.made(each.base) for each in pending]
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
        raise RegistryUnavailable(CONTENDED)

    async def _published(self, entries: Sequence[Entry]) -> list[Entry | None]:
        """Publish and read back; give what each record replaced."""
        now = datetime.now(UTC)
        events = [
            KeyRecord(change_id=uuid.uuid4().hex, edge_id=self._edge_id, at=now, record=entry)
            for entry in entries
        ]
        expected = [self._follower.expect(event.change_id) for event in events]
        try:
            refused = await self._publisher.publish([_outgoing(event) for event in events])
            if refused:
                raise PublishFailed(refused[0].error_class)
            return await asyncio.gather(*expected)
        finally:
            for each in expected:
                each.cancel()

    async def bury(self) -> None:
        """Write tombstones for what was deleted long ago, now and then until cancelled; every edge may."""
        while True:
            await asyncio.sleep(BURY_EVERY_S)
            long_ago = datetime.now(UTC) - timedelta(days=DELETED_DAYS)
            names = await asyncio.to_thread(_deleted_before, self._registry.table, long_ago)
            if names:
                await self._buried(names)

    async def _buried(self, names: Sequence[str]) -> None:
        try:
            await self._publisher.publish([OutgoingRecord(KEYS, name.encode(), None, ()) for name in names])
        except PublishFailed as exc:
            log.warning("keys.burial_failed", records=len(names), error=type(exc).__name__)


def _deleted_before(table: KeyTable, at: datetime) -> list[str]:
    return [
        record_key(entry)
        for entry in table.deleted()
        if entry.deleted_at is not None and entry.deleted_at < at
    ]


def _outgoing(event: KeyRecord) -> OutgoingRecord:
    return OutgoingRecord(
        KEYS, codec.key(event), codec.encode(event), codec.headers(event, event.at.isoformat())
    )
