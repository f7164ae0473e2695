"""What the stage hands back to the consumer loop."""

import asyncio

from schemas import topics
from services.runtime import metrics
from services.runtime.records import Processed, Stage
from services.sink.handler import SinkStage
from services.sink.store import BlockStore
from tests.unit.sink import events


class Recording:
    def __init__(self) -> None:
        self.tables: list[tuple[str, int]] = []

    async def insert(self, table, names, types, columns, token):
        self.tables.append((table, len(columns[0])))


def test_a_batch_is_one_insert_for_each_table():
    clickhouse = Recording()
    stage: Stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=1))
    processed = asyncio.run(
        stage.process(
            [
                events.record_of(events.rated_usage()),
                events.record_of(events.heartbeat()),
                events.record_of(events.rated_usage()),
                events.record_of(events.response_finished()),
                events.record_of(events.request_started()),
            ]
        )
    )
    assert processed == Processed(dead=[])
    assert clickhouse.tables == [
        ("tollhouse_raw.requests", 1),
        ("tollhouse_raw.responses", 1),
        ("tollhouse_raw.usage", 2),
        ("tollhouse_raw.cost_ledger", 2),
        ("tollhouse_raw.edges", 1),
    ]


def test_an_unusable_record_is_dead_unless_its_topic_keeps_no_dead_letters():
    dropped = metrics.sink_records_dropped.labels(topics.EDGES)._value
    before = dropped.get()
    stage = SinkStage(BlockStore(Recording(), retry_wait_ms_max=1))
    processed = asyncio.run(
        stage.process([events.broken(topics.RESPONSES, 7), events.broken(topics.EDGES, 8)])
    )
    assert [(dead.record.topic, dead.record.offset) for dead in processed.dead] == [(topics.RESPONSES, 7)]
    assert dropped.get() - before == 1
