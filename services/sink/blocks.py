"""Gathers records into one block of columns per table, and says which records have no row; holds no I/O."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Self

from schemas import codec, topics
from schemas.codec import AnyEvent
from schemas.edges import Heartbeat
from schemas.rated import RatedUsage
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from services.runtime.records import ConsumedRecord, DeadRecord
from services.sink.rows import (
    EDGES,
    REQUESTS,
    RESPONSES,
    USAGE,
    Row,
    Table,
    Unstorable,
    edge_row,
    request_row,
    response_row,
    usage_row,
)


class Block(NamedTuple):
    """Rows of one table, column by column, and the records that they came from, in the same order."""

    table: Table
    columns: Sequence[Sequence[object]]
    records: Sequence[ConsumedRecord]

    def halves(self) -> tuple[Self, Self]:
        """Cut a block of at least two rows in the middle."""
        middle = len(self.records) // 2
        assert middle > 0
        return (
            self._replace(
                columns=[column[:middle] for column in self.columns], records=self.records[:middle]
            ),
            self._replace(
                columns=[column[middle:] for column in self.columns], records=self.records[middle:]
            ),
        )


class Gathered(NamedTuple):
    """What a batch of records came to: at most one block per table, and the records that are no rows."""

    blocks: Sequence[Block]
    dead: Sequence[DeadRecord]


class _Source(NamedTuple):
    table: Table
    row: Callable[[bytes | None], Row]


def _read_as(struct: type[AnyEvent], row_of: Callable[[AnyEvent], Row]) -> Callable[[bytes | None], Row]:
    def read(value: bytes | None) -> Row:
        return row_of(codec.decode(struct, value))

    return read


_SOURCES: Mapping[str, _Source] = {
    topics.REQUESTS: _Source(REQUESTS, _read_as(RequestStarted, request_row)),
    topics.RESPONSES: _Source(RESPONSES, _read_as(ResponseFinished, response_row)),
    topics.RATED: _Source(USAGE, _read_as(RatedUsage, usage_row)),
    topics.EDGES: _Source(EDGES, _read_as(Heartbeat, edge_row)),
}
TOPICS = tuple(_SOURCES)


def gather(records: Sequence[ConsumedRecord]) -> Gathered:
    """Decode every record and set its row into the block of its table."""
    rows: dict[str, list[Row]] = {topic: [] for topic in TOPICS}
    kept: dict[str, list[ConsumedRecord]] = {topic: [] for topic in TOPICS}
    dead: list[DeadRecord] = []
    for record in records:
        try:
            row = _SOURCES[record.topic].row(record.value)
        except (codec.Undecodable, Unstorable) as exc:
            dead.append(DeadRecord(record, type(exc).__name__, str(exc)))
            continue
        rows[record.topic].append(row)
        kept[record.topic].append(record)
    return Gathered(
        [
            Block(source.table, list(zip(*rows[topic], strict=True)), kept[topic])
            for topic, source in _SOURCES.items()
            if rows[topic]
        ],
        dead,
    )
