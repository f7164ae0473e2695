"""Exchanges that a dead process left open are closed once, with what was known of them."""

from datetime import UTC, datetime

import msgspec

from schemas import topics
from schemas.responses import ResponseFinished
from schemas.usage import UsageRecorded
from schemas.usage_rules import Reading
from services.edge import events
from services.edge.events import Ending, Place
from services.edge.orphans import close_orphans
from services.runtime.records import OutgoingRecord
from services.runtime.spool.frames import ADDED, CLOSED, OPENED, STARTED
from services.runtime.spool.store import Spool
from tests.unit.edge.exchanges import EXCHANGE, READING, event_of, numbered

NOW = datetime(2026, 11, 22, 13, tzinfo=UTC)
PARTIAL = msgspec.structs.replace(READING, usage_status="partial", stop_reason="")
BEFORE_UPSTREAM, IN_STREAM, FINISHED = numbered(1), numbered(2), numbered(3)


def left_behind(directory):
    """The spool of a process that died with two exchanges open and one closed."""
    spool = Spool(directory, 1 << 20)
    for exchange in (BEFORE_UPSTREAM, IN_STREAM, FINISHED):
        spool.append(exchange.request_id, OPENED, events.opening(exchange))
    place = Place(spool.source_id, spool.appended + 1)
    spool.append(IN_STREAM.request_id, STARTED, events.usage_so_far(IN_STREAM, PARTIAL, place))
    ending = Ending(outcome="completed", finished_at=NOW, http_status=200)
    place = Place(spool.source_id, spool.appended + 1)
    spool.append(FINISHED.request_id, CLOSED, events.closing(FINISHED, READING, ending, place))
    spool.close()
    return Spool(directory, 1 << 20)


def orphaned(exchange, reading, spool, seq, http_status):
    shared = {
        "request_id": exchange.request_id,
        "started_at": exchange.started_at,
        "finished_at": NOW,
        "edge_id": exchange.edge_id,
        "exchange_seq": exchange.exchange_seq,
        "operation": exchange.operation,
        "endpoint": exchange.endpoint,
        "outcome": "orphaned",
        "http_status": http_status,
    }
    return (
        ResponseFinished(virtual_key_id=exchange.attribution.virtual_key_id, **shared),
        UsageRecorded(
            source_id=spool.source_id,
            source_seq=seq,
            attribution=exchange.attribution,
            is_stream=exchange.is_stream,
            usage_status=reading.usage_status,
            model_requested=exchange.model_requested,
            model_served=reading.model_served,
            message_id=reading.message_id,
            tokens=reading.tokens,
            service_tier=reading.service_tier,
            speed=reading.speed,
            inference_geo=reading.inference_geo,
            usage=reading.usage,
            **shared,
        ),
    )


def test_orphans_are_closed_with_the_usage_seen_so_far(tmp_path):
    spool = left_behind(tmp_path)
    assert close_orphans(spool, NOW) == 2
    closings = [tuple(map(event_of, entry.records)) for entry in spool.read(5, 10)]
    assert closings == [
        orphaned(BEFORE_UPSTREAM, Reading(), spool, 6, 0),
        orphaned(IN_STREAM, PARTIAL, spool, 7, 200),
    ]
    assert [(entry.seq, entry.stage) for entry in spool.read(5, 10)] == [(6, CLOSED), (7, CLOSED)]
    spool.close()


def test_orphans_are_closed_once(tmp_path):
    spool = left_behind(tmp_path)
    assert (close_orphans(spool, NOW), close_orphans(spool, NOW), spool.unclosed()) == (2, 0, [])
    spool.close()
    again = Spool(tmp_path, 1 << 20)
    assert (close_orphans(again, NOW), again.entries) == (0, 7)
    again.close()


def test_facts_of_a_batch_are_kept_and_published_though_its_exchange_is_orphaned(tmp_path):
    spool = Spool(tmp_path, 1 << 20)
    fact = OutgoingRecord(topics.BATCH_FACTS, b"msgbatch_1", b"{}", ())
    spool.append(IN_STREAM.request_id, OPENED, events.opening(IN_STREAM))
    spool.append(IN_STREAM.request_id, ADDED, [fact])
    spool.close()
    spool = Spool(tmp_path, 1 << 20)
    assert close_orphans(spool, NOW) == 1
    _, added, closed = spool.read(0, 10)
    assert (added.stage, added.records, closed.stage) == (ADDED, (fact,), CLOSED)
    assert tuple(map(event_of, closed.records)) == orphaned(IN_STREAM, Reading(), spool, 3, 0)
    spool.close()


def test_a_spool_without_orphans_is_left_as_it_is(tmp_path):
    spool = Spool(tmp_path, 1 << 20)
    assert (close_orphans(spool, NOW), spool.entries) == (0, 0)
    spool.close()


def test_an_orphan_keeps_everything_its_request_said(tmp_path):
    spool = Spool(tmp_path, 1 << 20)
    spool.append(EXCHANGE.request_id, OPENED, events.opening(EXCHANGE))
    close_orphans(spool, NOW)
    _, used = spool.read(1, 1)[0].records
    assert event_of(used).attribution == EXCHANGE.attribution
    spool.close()
