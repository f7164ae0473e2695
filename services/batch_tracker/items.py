"""Finds the attribution of an item of a batch by its custom_id; what it knows lies on disk, not in memory."""

import sqlite3
from types import TracebackType
from typing import Self

import msgspec

from schemas.batches import BatchItem, BatchItems

# Of the index that is held in memory; the rest is in a file that vanishes with the connection.
CACHE_KIB = 2_000

_DECODER = msgspec.json.Decoder(BatchItem)


class ItemIndex:
    """The items of one batch that have an attribution of their own; every other one is its creator's."""

    def __init__(self) -> None:
        # sqlite's own temporary database: a private file, deleted when it is closed or the process dies.
        self._items = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._items.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._items.execute("PRAGMA journal_mode = OFF")
        self._items.execute("CREATE TABLE items (custom_id TEXT PRIMARY KEY, item BLOB) WITHOUT ROWID")
        self._is_empty = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._items.close()

    def add(self, chunk: BatchItems) -> None:
        """Take in a chunk; of two items with one custom_id the first counts."""
        self._is_empty = self._is_empty and not chunk.items
        self._items.execute("BEGIN")
        self._items.executemany(
            "INSERT OR IGNORE INTO items VALUES (?, ?)",
            ((item.custom_id, msgspec.json.encode(item)) for item in chunk.items),
        )
        self._items.execute("COMMIT")

    def item_of(self, custom_id: str) -> BatchItem:
        """Give the item, or one without an attribution of its own."""
        if self._is_empty:
            return BatchItem(custom_id=custom_id)
        found = self._items.execute("SELECT item FROM items WHERE custom_id = ?", (custom_id,)).fetchone()
        return BatchItem(custom_id=custom_id) if found is None else _DECODER.decode(found[0])
