"""Results files: read from the first line or past what is booked, and how they end."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.attribution import Attribution
from schemas.batch_items import BatchOfItems
from schemas.batches import BatchCounts, BatchItem, BatchItems, ItemCounts
from services.batch_tracker.errors import LinesChanged
from services.batch_tracker.items import ItemIndex
from services.batch_tracker.results import NONE_READ, Progress, ResultsReader, end_of

AT = datetime(2026, 11, 22, 7, 30, tzinfo=UTC)
BATCH = BatchOfItems("msgbatch_1", AT, AT, Attribution(virtual_key_id="vk_1"))


def line(custom_id, outcome="canceled"):
    return json.dumps({"custom_id": custom_id, "result": {"type": outcome}}).encode()


LINES = [line("a"), line("b", "expired"), b"{", line("c", "errored"), None, line("d")]


def nobody(custom_id):
    return BatchItem(custom_id=custom_id)


def read(lines, booked=NONE_READ):
    reader = ResultsReader(BATCH, nobody, booked)
    events = [event for each in lines if (event := reader.take(each)) is not None]
    return events, reader.end()


def test_every_line_is_an_event_and_is_counted():
    events, progress = read(LINES)
    assert [event.batch_custom_id for event in events] == ["a", "b", "line 3", "c", "line 5", "d"]
    assert [event.source_seq for event in events] == [1, 2, 3, 4, 5, 6]
    assert (progress.lines_read, progress.malformed) == (6, 2)
    assert progress.booked == ItemCounts(canceled=2, expired=1, errored=1)


@given(st.integers(0, len(LINES)))
def test_reading_goes_on_behind_what_is_booked(booked):
    whole, end = read(LINES)
    first, progress = read(LINES[:booked])
    rest, end_again = read(LINES, progress)
    assert [*first, *rest] == whole
    assert end_again == end


@pytest.mark.parametrize(
    "lines", [[LINES[1], LINES[0], *LINES[2:]], LINES[:1], [], [line("other"), *LINES[1:]]]
)
def test_lines_that_are_not_those_that_were_booked_are_noticed(lines):
    _, progress = read(LINES[:2])
    with pytest.raises(LinesChanged):
        read(lines, progress)


@pytest.mark.parametrize(
    ("counts", "read_", "phase"),
    [
        (BatchCounts(succeeded=2), Progress(booked=ItemCounts(succeeded=2)), "booked"),
        (BatchCounts(succeeded=2), Progress(booked=ItemCounts(succeeded=1)), "mismatch"),
        (BatchCounts(succeeded=2), Progress(booked=ItemCounts(errored=2)), "mismatch"),
        (BatchCounts(succeeded=2), Progress(booked=ItemCounts(succeeded=2), malformed=1), "unreadable"),
        (BatchCounts(), Progress(), "booked"),
    ],
)
def test_a_file_ends_by_what_it_held(counts, read_, phase):
    assert end_of(counts, read_) == phase


def test_items_are_found_by_their_custom_id_and_the_first_of_two_holds():
    one = BatchItem(custom_id="a", end_user_id="user-1", tags=("größe",), metadata={"x": "1"})
    with ItemIndex() as items:
        assert items.item_of("a") == BatchItem(custom_id="a")
        items.add(BatchItems(chunk=0, items=(one, BatchItem(custom_id="b"))))
        items.add(BatchItems(chunk=1, items=(BatchItem(custom_id="a", end_user_id="user-2"),)))
        assert items.item_of("a") == one
        assert items.item_of("b") == BatchItem(custom_id="b")
        assert items.item_of("c") == BatchItem(custom_id="c")
