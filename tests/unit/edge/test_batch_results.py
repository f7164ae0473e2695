"""A download comes to the same usage events however its bytes are cut, coded or spoilt."""

import gzip
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.attribution import Attribution
from schemas.batch_items import BatchOfItems, read_line, usage_of_item, usage_of_unreadable
from schemas.batches import BatchItem
from schemas.ids import VirtualKeyId
from schemas.usage import UsageRecorded
from services.edge.batches import results
from services.edge.batches.results import ResultsReader
from services.edge.tap.codings import CannotDecode

BATCH = BatchOfItems(
    batch_id="msgbatch_1",
    created_at=datetime(2026, 11, 22, 10, tzinfo=UTC),
    ended_at=datetime(2026, 11, 22, 11, tzinfo=UTC),
    attribution=Attribution(virtual_key_id=VirtualKeyId("own:1")),
)


def succeeded(number):
    usage = {"input_tokens": number, "output_tokens": 2, "service_tier": "batch"}
    message = {"id": f"msg_{number}", "model": "claude-haiku-4-5", "stop_reason": "end_turn", "usage": usage}
    line = {"custom_id": f"i-{number}", "result": {"type": "succeeded", "message": message}}
    return json.dumps(line).encode()


LINES = [succeeded(1), b'{"custom_id":"i-2","result":{"type":"expired"}}', b"", b"no JSON", succeeded(5)]
EXPECTED = [
    usage_of_item(BATCH, 1, read_line(LINES[0]), BatchItem(custom_id="i-1")),
    usage_of_item(BATCH, 2, read_line(LINES[1]), BatchItem(custom_id="i-2")),
    usage_of_unreadable(BATCH, 4),
    usage_of_item(BATCH, 5, read_line(LINES[4]), BatchItem(custom_id="i-5")),
]


def used(data, sizes=(1000,), coding=""):
    reader, at, turn, groups = ResultsReader(coding, BATCH), 0, 0, []
    while at < len(data):
        size = sizes[turn % len(sizes)]
        groups += reader.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    groups += reader.end()
    return [codec.decode(UsageRecorded, each.value) for group in groups for each in group]


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=1), is_ended=st.booleans(), is_coded=st.booleans())
def test_every_line_is_one_item_wherever_the_chunks_end(sizes, is_ended, is_coded):
    data = b"\n".join(LINES) + (b"\n" if is_ended else b"")
    if is_coded:
        assert used(gzip.compress(data), sizes, "gzip") == EXPECTED
    else:
        assert used(data, sizes) == EXPECTED


def test_a_line_too_long_to_be_held_is_booked_as_one_that_cannot_be_read():
    long = b'{"custom_id":"i-1","result":"' + b"x" * results.LINE_BYTES_MAX + b'"}'
    assert used(b"\n".join((long, LINES[1])), (1 << 20,)) == [usage_of_unreadable(BATCH, 1), EXPECTED[1]]


def test_many_items_are_given_in_groups_that_an_entry_of_the_spool_has_room_for():
    reader = ResultsReader("", BATCH)
    groups = list(reader.feed(b"\n".join(succeeded(number) for number in range(2000))))
    assert len(groups) > 2
    sizes = [sum(len(each.value) for each in group) for group in groups]
    assert max(sizes) < results.GROUP_BYTES + 2000


def test_a_coding_that_is_not_known_is_said_so_at_once():
    with pytest.raises(CannotDecode):
        ResultsReader("gzip, br", BATCH)
