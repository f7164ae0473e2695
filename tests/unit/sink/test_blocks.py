"""How records are gathered into blocks, and which are set aside."""

import pytest

from schemas import topics
from services.sink import rows, tables
from services.sink.blocks import TOPICS, Block, Gathered, gather
from tests.unit.sink import events


def columns_of(*table_rows):
    return list(zip(*table_rows, strict=True))


def test_every_kind_goes_into_the_block_of_its_table_in_the_order_of_arrival():
    first = events.record_of(events.rated_usage(), 1)
    second = events.record_of(events.rated_usage(book_seq=13), 2)
    began = events.record_of(events.request_started(), 3)
    ended = events.record_of(events.response_finished(), 4)
    beat = events.record_of(events.heartbeat(), 5)
    book = events.record_of(events.price_book(), 6)

    gathered = gather([beat, first, ended, second, book, began])

    assert gathered == Gathered(
        [
            Block(tables.REQUESTS, columns_of(rows.request_row(events.request_started())), [began]),
            Block(tables.RESPONSES, columns_of(rows.response_row(events.response_finished())), [ended]),
            Block(
                tables.USAGE,
                columns_of(
                    rows.usage_row(events.rated_usage()), rows.usage_row(events.rated_usage(book_seq=13))
                ),
                [first, second],
            ),
            Block(
                tables.COST_LEDGER,
                columns_of(
                    rows.ledger_row(events.rated_usage(), events.APPENDED_MS),
                    rows.ledger_row(events.rated_usage(book_seq=13), events.APPENDED_MS),
                ),
                [first, second],
            ),
            Block(tables.EDGES, columns_of(rows.edge_row(events.heartbeat())), [beat]),
            Block(tables.PRICE_BOOKS, columns_of(rows.book_row(events.price_book())), [book]),
        ],
        [],
    )


def test_a_record_without_a_row_is_set_aside_and_its_neighbours_are_kept():
    good = events.record_of(events.rated_usage(), 1)
    cut = events.broken(topics.RATED, 2)
    tombstone = events.record_of(events.heartbeat(), 3)._replace(value=None)
    odd = events.record_of(events.request_started(request_id="odd"), 4)

    gathered = gather([good, cut, tombstone, odd])

    assert [block.records for block in gathered.blocks] == [[good], [good]]
    assert [(dead.record, dead.error_class) for dead in gathered.dead] == [
        (cut, "Undecodable"),
        (tombstone, "Undecodable"),
        (odd, "Unstorable"),
    ]


def test_nothing_gathered_is_no_block():
    assert gather([]) == Gathered([], [])


def test_the_sink_reads_only_topics_that_exist():
    assert [topics.topic(name).kind for name in TOPICS] == [
        "request_started",
        "response_finished",
        "rated_usage",
        "heartbeat",
        "batch_state",
        "price_book_published",
        *["dead_letter"] * sum(each.dlq for each in topics.all_topics()),
    ]


def test_a_block_without_some_records_has_the_rows_of_the_others():
    records = [events.record_of(events.heartbeat(exchange_seq=number), number) for number in range(5)]
    (block,) = gather(records).blocks
    (expected,) = gather([records[0], records[2], records[4]]).blocks

    assert block.without([records[1], records[3]]) == expected._replace(
        columns=[list(column) for column in expected.columns]
    )


@pytest.mark.parametrize(("count", "sizes"), [(2, (1, 1)), (3, (1, 2)), (10, (5, 5))])
def test_the_halves_of_a_block_are_the_block(count, sizes):
    records = [events.record_of(events.heartbeat(exchange_seq=number), number) for number in range(count)]
    (block,) = gather(records).blocks

    first, second = block.halves()

    assert (len(first.records), len(second.records)) == sizes
    assert [*first.records, *second.records] == records
    assert [(*a, *b) for a, b in zip(first.columns, second.columns, strict=True)] == list(block.columns)
    assert first.table == second.table == block.table
