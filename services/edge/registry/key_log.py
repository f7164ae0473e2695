"""Takes gateway.keys.v1 into the registry's table, and tells a writer when its own record is in force."""

import asyncio
from typing import NamedTuple

from schemas import codec
from schemas.keys import KeyRecord, record_key
from schemas.topics import KEYS
from services.edge.follower import Followed
from services.edge.registry.table import Entry, KeyTable, Registry


class _Read(NamedTuple):
    """A write that was read back, and what stood in its place before."""

    change_id: str
    before: Entry | None


class KeyLog(Followed):
    """Keeps a Registry as the log has it."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(KEYS)
        self._registry = registry
        self._table = registry.table
        self._told: list[_Read] = []
        self._expected: dict[str, asyncio.Future[Entry | None]] = {}

    @property
    def is_read(self) -> bool:
        """Whether the registry knows which keys there are."""
        return self._registry.is_read

    def expect(self, change_id: str) -> asyncio.Future[Entry | None]:
        """Give what will hold, once this write is in force here, the record that it replaced."""
        expected = asyncio.get_running_loop().create_future()
        self._expected[change_id] = expected
        expected.add_done_callback(lambda _: self._expected.pop(change_id, None))
        return expected

    def begin_anew(self) -> None:
        """Build a table beside the one in force."""
        self._table = KeyTable()
        self._told = []

    def take(self, key: str, value: bytes | None) -> None:
        """Put a record in place of the one before it, or take it away."""
        if value is None:
            self._table.remove(key)
            return
        event = codec.decode(KeyRecord, value)
        before = self._table.get(record_key(event.record))
        self._table.put(event.record)
        if event.change_id in self._expected:
            self._told.append(_Read(event.change_id, before))

    def come_to_end(self) -> int:
        """Let the table count, and tell who waits for what it holds now."""
        self._registry.table = self._table
        self._registry.is_read = True
        told, self._told = self._told, []
        for each in told:
            expected = self._expected.get(each.change_id)
            if expected is not None and not expected.done():
                expected.set_result(each.before)
        return len(self._table)
