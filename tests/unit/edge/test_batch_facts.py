"""Which batches an answer holds, and what of them is news."""

import json
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from schemas.batches import BatchCounts, BatchCreated
from services.edge.batches.facts import Remembered, created
from services.edge.batches.objects import BatchObject, DeletedObject, batches_in
from services.edge.batches.scan import CreateView
from tests.unit.edge.exchanges import EXCHANGE

JSON = {
    "id": "msgbatch_1",
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {"processing": 3, "succeeded": 0, "new_state": 1},
    "created_at": "2026-09-28T18:58:01.180445+00:00",
    "expires_at": "2026-09-29T18:58:01.180445Z",
    "ended_at": None,
    "results_url": None,
}
BATCH = BatchObject(
    id="msgbatch_1",
    processing_status="in_progress",
    request_counts=BatchCounts(processing=3),
    created_at=datetime(2026, 9, 28, 18, 58, 1, 180445, tzinfo=UTC),
    expires_at=datetime(2026, 9, 29, 18, 58, 1, 180445, tzinfo=UTC),
)


def other(number, status="in_progress"):
    return BatchObject(
        id=f"b-{number}",
        processing_status=status,
        created_at=BATCH.created_at,
        expires_at=BATCH.expires_at,
    )


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (JSON, [BATCH]),
        ({"data": [JSON, JSON], "has_more": False}, [BATCH, BATCH]),
        ({"id": "msgbatch_1", "type": "message_batch_deleted"}, [DeletedObject(id="msgbatch_1")]),
        ({"data": None}, []),
        ({"data": 7}, []),
        ([], []),
        ({**JSON, "created_at": "2026-09-28T18:58:01"}, []),  # nobody knows where that is
        ({**JSON, "id": ""}, []),
        ({"data": [{**JSON, "type": "new"}, JSON]}, [BATCH]),
    ],
)
def test_batches_are_found_alone_and_on_pages(answer, found):
    assert batches_in(json.dumps(answer).encode()) == found


def test_what_is_no_batch_is_counted():
    before = REGISTRY.get_sample_value("edge_batch_objects_unread_total")
    assert batches_in(b'{"data":[{}]}') == []
    assert REGISTRY.get_sample_value("edge_batch_objects_unread_total") == before + 1
    assert batches_in(b"\xff") == []


def test_only_a_change_is_news():
    remembered = Remembered(batches_max=2)
    assert [remembered.is_news(each) for each in (other(1), other(1), other(1, "ended"))] == [
        True,
        False,
        True,
    ]
    assert remembered.of("b-1") == other(1, "ended")
    assert remembered.is_news(DeletedObject(id="b-1"))
    assert remembered.of("b-1") is None


def test_of_more_batches_than_are_remembered_those_seen_longest_ago_are_forgotten():
    remembered = Remembered(batches_max=2)
    seen = [remembered.is_news(other(number)) for number in (1, 2, 1, 3, 1, 2)]
    assert seen == [True, True, False, True, False, True]


def test_a_creation_whose_body_was_not_read_has_the_number_that_anthropic_gives():
    expected = BatchCreated(
        created_at=BATCH.created_at,
        expires_at=BATCH.expires_at,
        requests=3,
        attribution=EXCHANGE.attribution,
        credential="default",
        request_id=EXCHANGE.request_id,
        anthropic_version=EXCHANGE.anthropic_version,
        anthropic_beta=EXCHANGE.anthropic_beta,
    )
    assert created(BATCH, CreateView(), EXCHANGE, "default", 0) == expected
    assert created(BATCH, CreateView(is_read=True, requests=2), EXCHANGE, "default", 0).requests == 2
