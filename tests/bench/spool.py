"""What an exchange costs in the spool, and what the same would cost in sqlite; `make bench-spool`.

An exchange is two appends (opened, closed) of records as the edge writes them, read back and forgotten in
rounds as the pump does it. Of several runs the best counts: neighbours on the machine only ever add.
"""

import shutil
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import CLOSED, OPENED
from services.runtime.spool.store import Spool

EXCHANGES = 20_000
ROUND_ENTRIES = 500
RUNS = 5
HEADERS = tuple((name, b"x" * 36) for name in ("ce_id", "ce_type", "ce_source", "ce_time", "ce_subject"))


def record(size: int) -> OutgoingRecord:
    return OutgoingRecord("gateway.usage.v1", b"k" * 36, b"v" * size, HEADERS)


OPENING = [record(700)]
CLOSING = [record(600), record(1_300)]


class Sqlite:
    """The smallest spool on sqlite in WAL mode that keeps the same order and survives the same deaths."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path / "spool.sqlite3", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(
            "CREATE TABLE entries (seq INTEGER PRIMARY KEY, exchange TEXT, stage INT, blob BLOB)"
        )
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[OutgoingRecord, ...]).decode
        self._seq = 0

    def append(self, exchange: str, stage: int, records: list[OutgoingRecord]) -> None:
        self._seq += 1
        row = (self._seq, exchange, stage, self._encode(records))
        self._db.execute("INSERT INTO entries VALUES (?, ?, ?, ?)", row)

    def read(self, after: int, limit: int) -> list[tuple]:
        found = self._db.execute(
            "SELECT seq, exchange, stage, blob FROM entries WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [(seq, exchange, stage, self._decode(blob)) for seq, exchange, stage, blob in found]

    def forget(self, up_to: int) -> None:
        self._db.execute("DELETE FROM entries WHERE seq <= ?", (up_to,))

    def close(self) -> None:
        self._db.close()


def measured(spool: Spool | Sqlite) -> tuple[float, float]:
    """Microseconds an append and an exchange's reading and forgetting take."""
    appending = emptying = done = 0
    for first in range(0, EXCHANGES, ROUND_ENTRIES // 2):
        began = time.perf_counter_ns()
        for number in range(first, first + ROUND_ENTRIES // 2):
            exchange = f"01940000-0000-7000-8000-{number:012d}"
            spool.append(exchange, OPENED, OPENING)
            spool.append(exchange, CLOSED, CLOSING)
        appended = time.perf_counter_ns()
        done = spool.read(done, ROUND_ENTRIES)[-1][0]
        spool.forget(done)
        appending += appended - began
        emptying += time.perf_counter_ns() - appended
    spool.close()
    return appending / EXCHANGES / 2_000, emptying / EXCHANGES / 1_000


def main(root: Path) -> None:
    for name, made in (("sqlite", Sqlite), ("segments", lambda path: Spool(path, 1 << 30))):
        runs = []
        for _ in range(RUNS):
            path = Path(tempfile.mkdtemp(dir=root))
            runs.append(measured(made(path)))
            shutil.rmtree(path)
        append, empty = (min(figures) for figures in zip(*runs, strict=True))
        print(f"{name:<9} append {append:5.1f} us   read and forget {empty:5.1f} us an exchange")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        main(Path(directory))
