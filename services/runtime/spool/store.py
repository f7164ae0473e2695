"""Keeps entries on disk in order of append until they are forgotten; knows no Kafka and no event.

An append has happened when the call returns: write() was done, so the entry survives the death of the
process. It survives the loss of the host only with `fsync`.
"""

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.ids import RequestId, SourceId, new_source_id
from services.runtime.errors import StartRefused
from services.runtime.lock import DirectoryHeld, lock_directory
from services.runtime.records import OutgoingRecord

DATABASE_NAME = "spool.sqlite3"
SOURCE_NAME = "source_id"
LOCK_NAME = "lock"
# Pages of 4 KiB that the write-ahead log holds before it is moved into the database: about 1,300 exchanges.
CHECKPOINT_PAGES = 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, even for entries long forgotten
    exchange TEXT NOT NULL,
    stage INTEGER NOT NULL,
    records BLOB NOT NULL
)
"""

OPENED, STARTED, CLOSED = 1, 2, 3


class Entry(NamedTuple):
    """One append of an exchange: its place, which of the three it is, and the records to publish for it."""

    seq: int
    exchange: RequestId
    stage: int
    records: tuple[OutgoingRecord, ...]


class SpoolFull(Exception):
    """The spool has reached its limit in bytes: refuse new exchanges, or serve and count the loss."""


class SpoolHeld(StartRefused):
    """Another running process has this directory: take the next one."""


class Spool:
    """The spool of one process: one locked directory with its lasting id inside.

    `appended` never decreases and is the seq of the last entry. All calls are short (tens of
    microseconds) and come from one thread.
    """

    def __init__(self, directory: Path, bytes_max: int, *, fsync: bool = False) -> None:
        self.directory = directory
        self.bytes_max = bytes_max
        self._lock = _lock(directory)
        self.source_id = _lasting_id(directory)
        self._db = _opened(directory / DATABASE_NAME, fsync)
        self._sizes: dict[int, int] = {}
        self._open: dict[RequestId, list[int]] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[OutgoingRecord, ...]).decode
        self.bytes = 0
        try:
            self.appended = self._recover()
        except sqlite3.Error as exc:
            raise StartRefused(f"the spool {directory / DATABASE_NAME} cannot be read: {exc}.") from exc

    @property
    def entries(self) -> int:
        """Entries on disk."""
        return len(self._sizes)

    @property
    def open_exchanges(self) -> int:
        """Exchanges with an entry on disk and no closing one."""
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether a new exchange may not begin; those that are open may always close."""
        return self.bytes >= self.bytes_max

    def append(self, exchange: RequestId, stage: int, records: Sequence[OutgoingRecord]) -> int:
        """Write one entry and give its seq; SpoolFull for an opening one beyond the limit."""
        if stage == OPENED and self.is_full:
            raise SpoolFull(f"{self.bytes} bytes of at most {self.bytes_max}")
        blob = self._encode(records)
        seq = self.appended + 1
        self._db.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", (seq, exchange, stage, blob))
        self.appended = seq
        self._remember(seq, exchange, stage, len(blob))
        return seq

    def read(self, after: int, limit: int) -> list[Entry]:
        """Give up to `limit` entries that follow `after`, in order of append."""
        rows = self._db.execute(
            "SELECT seq, exchange, stage, records FROM entries WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [
            Entry(seq, RequestId(exchange), stage, self._decode(blob)) for seq, exchange, stage, blob in rows
        ]

    def entries_of(self, exchange: RequestId) -> list[Entry]:
        """Give what is on disk of one open exchange."""
        wanted = self._open.get(exchange, [])
        return [entry for seq in wanted for entry in self.read(seq - 1, 1)]

    def unclosed(self) -> list[RequestId]:
        """Name the exchanges that have no closing entry, oldest first."""
        return list(self._open)

    def forget(self, entries: Iterable[Entry]) -> None:
        """Drop the closed exchanges among acknowledged entries; an open one stays until it is closed."""
        closed = [entry for entry in entries if entry.stage == CLOSED]
        gone = [(seq,) for entry in closed for seq in self._closed.get(entry.exchange, [entry.seq])]
        if not gone:
            return
        self._db.execute("BEGIN")
        try:
            self._db.executemany("DELETE FROM entries WHERE seq = ?", gone)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            # Left open, the transaction would swallow every append that follows.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        for entry in closed:
            self._closed.pop(entry.exchange, None)
        for (seq,) in gone:
            self.bytes -= self._sizes.pop(seq, 0)

    def close(self) -> None:
        """Close the files and give the directory up; what was not forgotten stays for the next owner."""
        self._db.close()
        os.close(self._lock)

    def _remember(self, seq: int, exchange: RequestId, stage: int, size: int) -> None:
        self._sizes[seq] = size
        self.bytes += size
        if stage == CLOSED:
            self._closed[exchange] = [*self._open.pop(exchange, []), seq]
        else:
            self._open.setdefault(exchange, []).append(seq)

    def _recover(self) -> int:
        self._closed: dict[RequestId, list[int]] = {}
        for seq, exchange, stage, size in self._db.execute(
            "SELECT seq, exchange, stage, length(records) FROM entries ORDER BY seq"
        ):
            self._remember(seq, RequestId(exchange), stage, size)
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'").fetchone()
        return row[0] if row else 0


def _opened(path: Path, fsync: bool) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {'FULL' if fsync else 'NORMAL'}")
        database.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        database.execute(_SCHEMA)
    except sqlite3.Error as exc:
        raise StartRefused(f"the spool {path} cannot be opened: {exc}.") from exc
    return database


def _lock(directory: Path) -> int:
    try:
        return lock_directory(directory, LOCK_NAME)
    except DirectoryHeld as exc:
        raise SpoolHeld(f"the spool {directory} belongs to another running process.") from exc
    except OSError as exc:
        raise StartRefused(f"the spool {directory} cannot be used: {exc.strerror}.") from exc


def _lasting_id(directory: Path) -> SourceId:
    path = directory / SOURCE_NAME
    if path.exists():
        lasting = path.read_text().strip()
        if not lasting:
            raise StartRefused(f"the spool {directory} has lost its id: {path} is empty.")
        return SourceId(lasting)
    source_id = new_source_id()
    draft = path.with_suffix(".new")
    draft.write_text(source_id)
    draft.replace(path)
    return source_id
