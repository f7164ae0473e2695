"""How the store waits, stops and halves, against a ClickHouse that follows a script."""

import asyncio
from collections import deque

import pytest
import structlog.testing

from services.runtime import metrics
from services.runtime.clickhouse import RowsRefused, StoreMismatch, StoreUnavailable
from services.runtime.errors import ServiceStopped
from services.runtime.records import DeadRecord
from services.sink.blocks import gather
from services.sink.store import DEAD_ROWS_PER_BLOCK_MAX, BlockStore
from tests.unit.sink import events

SEQ = 4  # where exchange_seq stands in a row of edges


class ScriptedClickHouse:
    """Fails as the script says, then refuses every block that holds one of the refused numbers."""

    def __init__(self, *failures: Exception, refused: frozenset[int] = frozenset()) -> None:
        self.failures = deque(failures)
        self.refused = refused
        self.stored: list[int] = []
        self.tokens: list[str] = []

    async def insert(self, table, names, types, columns, token):
        self.tokens.append(token)
        if self.failures:
            raise self.failures.popleft()
        if self.refused & set(columns[SEQ]):
            raise RowsRefused("VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE (code 321)", 321)
        self.stored.extend(columns[SEQ])


def block_of(count: int):
    records = [events.record_of(events.heartbeat(exchange_seq=number), number) for number in range(count)]
    (block,) = gather(records).blocks
    return block


def value_of(metric) -> float:
    return metric.labels("edges")._value.get()


def test_a_block_is_tried_again_with_the_same_token_until_clickhouse_takes_it():
    away = [StoreUnavailable("TOO_MANY_PARTS (code 252)", 252), StoreUnavailable("no answer in time")]
    clickhouse = ScriptedClickHouse(*away)
    store = BlockStore(clickhouse, retry_wait_ms_max=1)
    retries, rows = value_of(metrics.sink_insert_retries), value_of(metrics.sink_rows)

    with structlog.testing.capture_logs() as logs:
        dead = asyncio.run(store.store(block_of(3)))

    assert dead == []
    assert clickhouse.stored == [0, 1, 2]
    assert len(clickhouse.tokens) == 3
    assert len(set(clickhouse.tokens)) == 1
    assert value_of(metrics.sink_insert_retries) - retries == 2
    assert value_of(metrics.sink_rows) - rows == 3
    assert [(entry["event"], entry.get("code")) for entry in logs] == [
        ("sink.store_went_away", 252),
        ("sink.store_still_away", None),  # for another reason
        ("sink.store_came_back", None),
    ]


def test_two_blocks_never_share_a_token():
    clickhouse = ScriptedClickHouse()
    store = BlockStore(clickhouse, retry_wait_ms_max=1)

    async def twice():
        await store.store(block_of(1))
        await store.store(block_of(1))

    asyncio.run(twice())
    assert len(set(clickhouse.tokens)) == 2


def test_the_store_is_unavailable_from_the_first_failure_to_the_next_answer():
    seen: list[bool] = []

    class Watched(ScriptedClickHouse):
        async def insert(self, table, names, types, columns, token):
            seen.append(store.is_available)
            await super().insert(table, names, types, columns, token)

    store = BlockStore(Watched(StoreUnavailable("gone")), retry_wait_ms_max=1)
    asyncio.run(store.store(block_of(1)))
    assert [*seen, store.is_available] == [True, False, True]


@pytest.mark.parametrize("refused", [set(), {0}, {9}, {3, 4}, {0, 5, 9}, set(range(10))])
def test_halving_sets_aside_exactly_the_refused_rows(refused):
    clickhouse = ScriptedClickHouse(refused=frozenset(refused))
    block = block_of(10)

    dead = asyncio.run(BlockStore(clickhouse, retry_wait_ms_max=1).store(block))

    assert clickhouse.stored == [number for number in range(10) if number not in refused]
    assert dead == [
        DeadRecord(
            block.records[number],
            "RowsRefused",
            "ClickHouse refused it: VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE (code 321)",
        )
        for number in sorted(refused)
    ]


def test_a_row_is_not_given_up_for_an_outage_while_its_block_is_halved():
    clickhouse = ScriptedClickHouse(
        RowsRefused("refused", 321), StoreUnavailable("gone"), refused=frozenset({1})
    )
    dead = asyncio.run(BlockStore(clickhouse, retry_wait_ms_max=1).store(block_of(4)))
    assert clickhouse.stored == [0, 2, 3]
    assert [each.record.offset for each in dead] == [1]


def test_a_block_of_which_too_many_rows_are_refused_stops_the_service():
    rows = DEAD_ROWS_PER_BLOCK_MAX + 1
    clickhouse = ScriptedClickHouse(refused=frozenset(range(rows)))
    with pytest.raises(ServiceStopped, match="refused more than 100 rows of one block of edges"):
        asyncio.run(BlockStore(clickhouse, retry_wait_ms_max=1).store(block_of(rows)))


def test_tables_that_do_not_fit_stop_the_service():
    clickhouse = ScriptedClickHouse(StoreMismatch("UNKNOWN_TABLE (code 60)", 60))
    with pytest.raises(ServiceStopped, match=r"rows of edges: UNKNOWN_TABLE \(code 60\)"):
        asyncio.run(BlockStore(clickhouse, retry_wait_ms_max=1).store(block_of(1)))


def test_waiting_for_clickhouse_can_be_cancelled():
    class Away:
        def __init__(self) -> None:
            self.asked = asyncio.Event()

        async def insert(self, table, names, types, columns, token):
            self.asked.set()
            raise StoreUnavailable("gone")

    async def cancelled() -> bool:
        clickhouse = Away()
        waiting = asyncio.create_task(BlockStore(clickhouse, retry_wait_ms_max=3_600_000).store(block_of(1)))
        await asyncio.wait_for(clickhouse.asked.wait(), timeout=5)
        waiting.cancel()
        await asyncio.wait({waiting}, timeout=5)
        return waiting.cancelled()

    assert asyncio.run(cancelled())
