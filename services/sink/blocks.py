"""Gathers records into one block of columns per table, and says which records have no row; holds no I/O."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Self

from schemas import codec, topics
from schemas.batches import BatchState
from schemas.codec import AnyEvent
from schemas.dead_letters import DeadLetter
from schemas.edges import Heartbeat
from schemas.price_books import PriceBookPublished
from schemas.rated import RatedUsage
from schemas.requests import RequestStarted
from schemas.responses import ResponseFinished
from services.runtime.records import ConsumedRecord, DeadRecord
from services.sink.rows import (
    Row,
    Unstorable,
    batch_row,
    book_row,
    dead_letter_row,
    edge_row,
    ledger_row,
    request_row,
    response_row,
    usage_row,
)
from services.sink.tables import (
    BATCHES,
    COST_LEDGER,
    DEAD_LETTERS,
    EDGES,
    PRICE_BOOKS,
    REQUESTS,
    RESPONSES,
    USAGE,
    Table,
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

    def without(self, records: Collection[ConsumedRecord]) -> Self:
        """Leave out the rows of these records; the very same ones, not their like."""
        left_out = {id(record) for record in records}
        kept = [place for place, record in enumerate(self.records) if id(record) not in left_out]
        return self._replace(
            columns=[[column[place] for place in kept] for column in self.columns],
            records=[self.records[place] for place in kept],
        )


class Gathered(NamedTuple):
    """What a batch of records came to: one block at most per table and topic; records that are no rows."""

    blocks: Sequence[Block]
    dead: Sequence[DeadRecord]


class _Source(NamedTuple):
    """The tables of a topic, and how a record becomes a row of each."""

    tables: tuple[Table, ...]
    rows: Callable[[ConsumedRecord], tuple[Row, ...]]


def _read_as(
    struct: type[AnyEvent], row_of: Callable[[AnyEvent], Row]
) -> Callable[[ConsumedRecord], tuple[Row, ...]]:
    def read(record: ConsumedRecord) -> tuple[Row, ...]:
        return (row_of(codec.decode(struct, record.value)),)

    return read


def _rated(record: ConsumedRecord) -> tuple[Row, ...]:
    event = codec.decode(RatedUsage, record.value)
    return usage_row(event), ledger_row(event, record.timestamp_ms)


_SOURCES: Mapping[str, _Source] = {
    topics.REQUESTS: _Source((REQUESTS,), _read_as(RequestStarted, request_row)),
    topics.RESPONSES: _Source((RESPONSES,), _read_as(ResponseFinished, response_row)),
    topics.RATED: _Source((USAGE, COST_LEDGER), _rated),
    topics.EDGES: _Source((EDGES,), _read_as(Heartbeat, edge_row)),
    topics.BATCHES: _Source((BATCHES,), _read_as(BatchState, batch_row)),
    topics.PRICE_BOOKS: _Source((PRICE_BOOKS,), _read_as(PriceBookPublished, book_row)),
    **{
        each.name: _Source((DEAD_LETTERS,), _read_as(DeadLetter, dead_letter_row))
        for each in topics.all_topics()
        if each.kind == "dead_letter"
    },
}
TOPICS = tuple(_SOURCES)


def gather(records: Sequence[ConsumedRecord]) -> Gathered:
    """Decode every record and set its rows into the blocks of their tables."""
    rows: dict[str, list[tuple[Row, ...]]] = {topic: [] for topic in TOPICS}
    kept: dict[str, list[ConsumedRecord]] = {topic: [] for topic in TOPICS}
    dead: list[DeadRecord] = []
    for record in records:
        if record.value is None and topics.topic(record.topic).cleanup == "compact":
            continue  # a tombstone: the topic forgets, the table does not
        try:
            found = _SOURCES[record.topic].rows(record)
        except (codec.Undecodable, Unstorable) as exc:
            dead.append(DeadRecord(record, type(exc).__name__, str(exc)))
            continue
        rows[record.topic].append(found)
        kept[record.topic].append(record)
    return Gathered(
        [
            Block(table, list(zip(*table_rows, strict=True)), kept[topic])
            for topic, source in _SOURCES.items()
            if rows[topic]
            for table, table_rows in zip(source.tables, zip(*rows[topic], strict=True), strict=True)
        ],
        dead,
    )
