"""The stage against a real engine: what analysts read, and what replays and outages cost: nothing."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

import services.sink
from schemas.rated import row_version
from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.errors import ServiceStopped
from services.runtime.records import ConsumedRecord, DeadRecord, Processed
from services.sink.blocks import gather
from services.sink.handler import SinkStage
from services.sink.store import BlockStore
from services.sink.tables import USAGE
from tests.integration.sink.gate import Gate
from tests.unit.sink import events

WAIT_S_MAX = 10
PARTS = "SELECT count(), sum(rows) FROM system.parts WHERE database = 'tollhouse_raw' AND table = 'usage'"
README = Path(services.sink.__file__).with_name("README.md")
Probe = Callable[[SinkStage, ClickHouse], Awaitable[None]]


def with_sink(config: ClickHouseConfig, probe: Probe) -> None:
    async def run() -> None:
        async with ClickHouse(config) as clickhouse:
            await probe(SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50)), clickhouse)

    asyncio.run(asyncio.wait_for(run(), WAIT_S_MAX))


def stored(config: ClickHouseConfig, *batches: Sequence[ConsumedRecord]) -> list[Processed]:
    results: list[Processed] = []

    async def probe(stage: SinkStage, clickhouse: ClickHouse) -> None:
        for batch in batches:
            results.append(await stage.process(batch))

    with_sink(config, probe)
    return results


def read(config: ClickHouseConfig, sql: str) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []

    async def probe(stage: SinkStage, clickhouse: ClickHouse) -> None:
        found.extend(tuple(row) for row in await clickhouse.rows(sql))

    with_sink(config, probe)
    return found


def ordered(config: ClickHouseConfig, sql: str) -> None:
    async def probe(stage: SinkStage, clickhouse: ClickHouse) -> None:
        await clickhouse.command(sql)

    with_sink(config, probe)


def read_named(config: ClickHouseConfig, view: str) -> list[dict[str, object]]:
    names = [str(row[0]) for row in read(config, f"DESCRIBE TABLE tollhouse.{view}")]
    rows = read(config, f"SELECT * EXCEPT ingested_at FROM tollhouse.{view}")
    return [dict(zip([name for name in names if name != "ingested_at"], row, strict=True)) for row in rows]


def usages(count: int, **changes: object) -> list[ConsumedRecord]:
    return [
        events.record_of(
            events.rated_usage(events.usage_recorded(request_id=events.new_id(), **changes)), offset
        )
        for offset in range(count)
    ]


NAIVE_STARTED = events.STARTED_AT.replace(tzinfo=None)
NAIVE_FINISHED = events.FINISHED_AT.replace(tzinfo=None)
# Tables with a TTL hold no rows of a date that the calendar will leave behind.
STARTED_NOW = datetime.now(UTC).replace(microsecond=123_000)
FINISHED_NOW = STARTED_NOW + timedelta(milliseconds=4444)
ATTRIBUTION = {
    "virtual_key_id": "vk_1",
    "team_id": "platform",
    "end_user_id": "user-7",
    "session_id": "session-9",
    "tags": ["nightly", "eval"],
    "metadata": {"repo": "tollhouse"},
}
CLIENT = {
    "client_app": "claude-cli",
    "client_version": "3.4.1",
    "agent_id": "agent-2",
    "parent_agent_id": "agent-1",
    "device_id": "device-5",
    "account_id": "account-6",
}


def test_an_analyst_reads_a_usage_with_every_column_in_its_place(migrated):
    assert stored(migrated, [events.record_of(events.rated_usage())]) == [Processed(dead=[])]
    (row,) = read_named(migrated, "usage")
    expected = {
        "request_id": row["request_id"],
        "started_at": NAIVE_STARTED,
        "edge_id": events.EDGE_ID,
        **ATTRIBUTION,
        "operation": "messages",
        "endpoint": "/v1/messages",
        "is_stream": True,
        "model_requested": "claude-opus-5-latest",
        "model_served": "claude-opus-5",
        "message_id": "msg_01",
        "upstream_request_id": "req_011",
        "batch_id": "msgbatch_1",
        "batch_custom_id": "item-3",
        "http_status": 200,
        "outcome": "completed",
        "error_type": "no_error",
        "stop_reason": "end_turn",
        "usage_status": "final",
        "input_tokens": 1000,
        "output_tokens": 200,
        "cache_read_tokens": 3,
        "cache_write_5m_tokens": 4,
        "cache_write_1h_tokens": 5,
        "thinking_tokens": 6,
        "web_search_requests": 7,
        "web_fetch_requests": 8,
        "service_tier": "standard",
        "speed": "fast",
        "inference_geo": "us",
        "usage_json": events.USAGE_JSON.decode(),
        "cost_status": "priced",
        "cost_usd": Decimal("0.009"),
        "cost_lines": {"input": Decimal("0.005"), "output": Decimal("0.004")},
        "price_book": "anthropic-2026-11",
        "book_seq": 12,
        "ttfb_ms": 321,
        "duration_ms": 4444,
        "overhead_us": 98,
        "finished_at": NAIVE_FINISHED,
        "exchange_seq": 41,
        "source_id": "019aa9f0-0000-7000-8000-000000000002",
        "source_seq": 77,
        "key_alias": "ci",
        "cost_lines_json": row["cost_lines_json"],
        "unpriced_dimensions": ["web_fetch"],
        **CLIENT,
        "estimated_dimensions": ["output_tokens"],
        "book_hash": events.BOOK_HASH,
        "cut": ["tags"],
    }
    assert row == expected
    assert list(row) == list(expected)
    assert str(row["request_id"]) == events.REQUEST_ID
    assert json.loads(str(row["cost_lines_json"]))[2] == {
        "model": "claude-haiku-4-5",
        "dimension": "output",
        "units": 50,
        "unit_price_usd": "0.000005",
        "multiplier": "1",
        "amount_usd": "0.00025",
    }


def test_beginnings_endings_and_heartbeats_are_read_as_they_were_written(migrated):
    stored(
        migrated,
        [
            events.record_of(events.request_started(started_at=STARTED_NOW)),
            events.record_of(events.response_finished(started_at=STARTED_NOW, finished_at=FINISHED_NOW)),
            events.record_of(events.heartbeat(at=FINISHED_NOW, process_started_at=STARTED_NOW)),
        ],
    )
    (began,) = read_named(migrated, "requests")
    assert str(began.pop("request_id")) == events.REQUEST_ID
    assert began == {
        "started_at": STARTED_NOW.replace(tzinfo=None),
        "edge_id": events.EDGE_ID,
        "exchange_seq": 41,
        "key_alias": "ci",
        **ATTRIBUTION,
        "method": "POST",
        "operation": "messages",
        "endpoint": "/v1/messages",
        "model_requested": "claude-opus-5",
        "is_stream": True,
        "request_bytes": 2345,
        "client_user_agent": "anthropic-sdk",
        "anthropic_version": "2023-06-01",
        "anthropic_beta": "some-beta",
        **CLIENT,
        "cut": ["metadata"],
    }
    (ended,) = read_named(migrated, "responses")
    assert str(ended.pop("request_id")) == events.REQUEST_ID
    assert ended == {
        "started_at": STARTED_NOW.replace(tzinfo=None),
        "finished_at": FINISHED_NOW.replace(tzinfo=None),
        "edge_id": events.EDGE_ID,
        "exchange_seq": 41,
        "virtual_key_id": "vk_1",
        "operation": "messages",
        "endpoint": "/v1/messages",
        "outcome": "completed",
        "http_status": 200,
        "error_type": "no_error",
        "stop_reason": "end_turn",
        "upstream_request_id": "req_011",
        "response_bytes": 6789,
        "ttfb_ms": 321,
        "duration_ms": 4444,
        "overhead_us": 98,
    }
    assert read_named(migrated, "edges") == [
        {
            "edge_id": events.EDGE_ID,
            "at": FINISHED_NOW.replace(tzinfo=None),
            "source_id": "019aa9f0-0000-7000-8000-000000000002",
            "process_started_at": STARTED_NOW.replace(tzinfo=None),
            "exchange_seq": 41,
            "open_exchanges": 2,
            "spool_entries": 3,
            "spool_bytes": 4096,
            "shed": 9,
            "oldest_open_seq": 5,
        }
    ]


def test_records_that_come_again_change_no_total(migrated):
    records = usages(50)
    records += [
        events.record_of(events.request_started(started_at=STARTED_NOW)),
        events.record_of(events.response_finished(started_at=STARTED_NOW)),
    ]
    stored(migrated, records, records[20:], list(reversed(records)))
    assert read(migrated, "SELECT count(), sum(input_tokens), sum(cost_usd) FROM tollhouse.usage") == [
        (50, 50_000, Decimal("0.450000000000"))
    ]
    assert read(
        migrated, "SELECT (SELECT count() FROM tollhouse.requests), count() FROM tollhouse.responses"
    ) == [(1, 1)]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1)])
def test_the_version_that_ranks_highest_stands_in_whatever_order_they_arrive(migrated, order):
    def version(outcome: str, book_seq: int, cost: str) -> ConsumedRecord:
        fact = events.usage_recorded(outcome=outcome)
        return events.record_of(
            events.rated_usage(
                fact,
                book_seq=book_seq,
                row_version=row_version(fact, book_seq),
                cost_usd=Decimal(cost),
            )
        )

    versions = [
        version("orphaned", 1, "1"),
        version("orphaned", 9, "2"),
        version("completed", 1, "3"),
        version("completed", 2, "4"),
    ]
    stored(migrated, *([versions[position]] for position in order))
    assert read(migrated, "SELECT outcome, book_seq, cost_usd FROM tollhouse.usage") == [
        ("completed", 2, Decimal("4"))
    ]


@pytest.mark.parametrize("outcomes", [("orphaned", "completed"), ("completed", "orphaned")])
def test_an_orphans_end_never_outranks_the_real_one(migrated, outcomes):
    endings = [events.response_finished(outcome=outcome, started_at=STARTED_NOW) for outcome in outcomes]
    stored(migrated, *([events.record_of(ending)] for ending in endings))
    assert read(migrated, "SELECT outcome FROM tollhouse.responses") == [("completed",)]


def test_an_unknown_cost_reads_as_null_and_never_as_nothing(migrated):
    unpriced = events.rated_usage(
        events.usage_recorded(request_id=events.new_id()),
        cost_status="unpriced",
        cost_usd=Decimal(0),
        cost_lines=(),
    )
    free = events.rated_usage(
        events.usage_recorded(request_id=events.new_id()), cost_status="zero", cost_usd=Decimal(0)
    )
    stored(migrated, [events.record_of(each) for each in (unpriced, free, events.rated_usage())])
    assert read(
        migrated, "SELECT cost_status, cost_usd FROM tollhouse.usage ORDER BY cost_status, cost_usd"
    ) == [("priced", Decimal("0.009")), ("unpriced", None), ("zero", Decimal(0))]
    assert read(migrated, "SELECT sum(cost_usd) FROM tollhouse.usage") == [(Decimal("0.009"),)]


def test_money_comes_back_to_the_last_place_and_sums_exactly(migrated):
    amount = Decimal("123456789.000000000000012501")
    records = [
        events.record_of(
            events.rated_usage(events.usage_recorded(request_id=events.new_id()), cost_usd=amount)
        )
        for _ in range(1000)
    ]
    stored(migrated, records)
    assert read(migrated, "SELECT sum(cost_usd), min(cost_usd) FROM tollhouse.usage") == [
        (amount * 1000, amount)
    ]


def test_a_block_may_span_more_months_than_clickhouse_would_take_by_default(migrated):
    months = [datetime(year, month, 15, tzinfo=UTC) for year in range(2016, 2026) for month in range(1, 13)]
    records = [record for month in months for record in usages(1, started_at=month)]
    stored(migrated, records)
    assert read(migrated, "SELECT count(), uniqExact(toYYYYMM(started_at)) FROM tollhouse.usage") == [
        (120, 120)
    ]


def test_a_refused_row_is_found_among_many_and_the_rest_is_stored(migrated):
    records = usages(200)
    block = gather(records).blocks[0]
    place = USAGE.names.index("exchange_seq")
    columns = [list(column) for column in block.columns]
    columns[place][137] = -1  # no event can bring this about: rows refuse it before
    block = block._replace(columns=columns)

    async def run() -> list[DeadRecord]:
        async with ClickHouse(migrated) as clickhouse:
            return await BlockStore(clickhouse, retry_wait_ms_max=50).store(block)

    assert asyncio.run(asyncio.wait_for(run(), WAIT_S_MAX)) == [
        DeadRecord(records[137], "RowsRefused", "ClickHouse refused it: a value does not fit its column")
    ]
    assert read(migrated, "SELECT count() FROM tollhouse.usage") == [(199,)]


def test_a_row_that_breaks_an_operators_constraint_is_set_aside(migrated):
    ordered(migrated, "ALTER TABLE tollhouse_raw.usage ADD CONSTRAINT odd CHECK exchange_seq != 666")
    bad = events.record_of(
        events.rated_usage(events.usage_recorded(request_id=events.new_id(), exchange_seq=666)), 1000
    )
    (processed,) = stored(migrated, [*usages(20), bad, *usages(20)])
    assert processed.dead == [
        DeadRecord(bad, "RowsRefused", "ClickHouse refused it: VIOLATED_CONSTRAINT (code 469)")
    ]
    assert read(migrated, "SELECT count() FROM tollhouse.usage") == [(40,)]


def test_a_missing_table_stops_the_sink_and_says_what_to_do(empty):
    with pytest.raises(
        ServiceStopped, match=r"rows of usage: UNKNOWN_(DATABASE|TABLE) .*`tollhouse migrate`"
    ):
        stored(empty, usages(1))


def test_tables_that_are_behind_the_sink_stop_it_and_it_says_what_to_do(migrated):
    ordered(migrated, "ALTER TABLE tollhouse_raw.usage DROP COLUMN book_hash")
    with pytest.raises(ServiceStopped, match=r"rows of usage: NO_SUCH_COLUMN_IN_TABLE .*`tollhouse migrate`"):
        stored(migrated, usages(1))


def test_a_row_that_usage_does_not_take_is_not_in_the_ledger_either(migrated):
    ordered(migrated, "ALTER TABLE tollhouse_raw.usage ADD CONSTRAINT odd CHECK exchange_seq != 666")
    (processed,) = stored(migrated, [*usages(3), *usages(1, exchange_seq=666)])
    assert len(processed.dead) == 1
    assert read(migrated, "SELECT count() FROM tollhouse.cost_ledger") == [(3,)]


def test_an_outage_is_waited_out_and_costs_nothing(migrated):
    async def run() -> None:
        gate = Gate(migrated.url)
        async with (
            gate.url() as url,
            ClickHouse(ClickHouseConfig(url=url)) as clickhouse,
        ):
            store = BlockStore(clickhouse, retry_wait_ms_max=50)
            stage = SinkStage(store)
            await stage.process(usages(10))
            gate.is_open = False
            waiting = asyncio.create_task(stage.process(usages(10)))
            await gate.turned_away.wait()
            assert not waiting.done()
            gate.is_open = True
            assert await waiting == Processed(dead=[])
            assert store.is_available

    asyncio.run(asyncio.wait_for(run(), WAIT_S_MAX))
    assert read(migrated, "SELECT count() FROM tollhouse.usage") == [(20,)]


def test_the_sink_may_start_before_clickhouse(migrated):
    async def run() -> None:
        gate = Gate(migrated.url)
        gate.is_open = False
        async with (
            gate.url() as url,
            ClickHouse(ClickHouseConfig(url=url)) as clickhouse,
        ):
            stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
            waiting = asyncio.create_task(stage.process(usages(10)))
            await gate.turned_away.wait()
            assert not waiting.done()
            gate.is_open = True
            assert await waiting == Processed(dead=[])

    asyncio.run(asyncio.wait_for(run(), WAIT_S_MAX))
    assert read(migrated, "SELECT count() FROM tollhouse.usage") == [(10,)]


def test_an_insert_whose_answer_was_lost_is_written_once(migrated):
    async def run() -> None:
        gate = Gate(migrated.url)
        async with (
            gate.url() as url,
            ClickHouse(ClickHouseConfig(url=url)) as clickhouse,
        ):
            stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
            await clickhouse.rows("SELECT 1")
            gate.lose_answers = 3
            assert await stage.process(usages(10)) == Processed(dead=[])
            assert gate.lost.is_set()
            assert gate.lose_answers == 0

    asyncio.run(asyncio.wait_for(run(), WAIT_S_MAX))
    assert read(migrated, PARTS) == [(1, 10)]


def test_a_block_of_another_batch_is_never_taken_for_a_repetition(migrated):
    """ClickHouse must not fold by content: what an operator took out has to be writable again."""
    records = usages(10)
    stored(migrated, records, records)
    written = "min_block_number = max_block_number"  # as they were inserted, merged since or not
    assert read(migrated, f"{PARTS} AND {written}") == [(2, 20)]
    assert read(migrated, "SELECT count() FROM tollhouse.usage") == [(10,)]


def test_every_question_of_the_readme_is_answered(migrated):
    now = datetime.now(UTC)
    booked = events.rated_usage(events.usage_recorded(started_at=now, exchange_seq=1), booked_at=now)
    line = msgspec.structs.replace(events.LINES[0], amount_usd=Decimal("0.004"))
    repriced = msgspec.structs.replace(
        booked,
        book_seq=13,
        row_version=(1 << 32) + 13,
        cost_usd=Decimal("0.008"),
        cost_lines=(line, *events.LINES[1:]),
    )
    stored(
        migrated,
        [
            events.record_of(booked),
            events.record_of(repriced),
            events.record_of(events.heartbeat(at=now, exchange_seq=5, open_exchanges=1, shed=2)),
        ],
    )
    questions = re.findall(r"```sql\n(.*?)```", README.read_text(), re.DOTALL)
    answers = [read(migrated, question) for question in questions]
    answers[1].sort()  # two dimensions, and two tags, that cost the same
    answers[2].sort()
    moment = answers[6][0][2]
    assert answers == [
        [(now.date(), "platform", 1, 200, Decimal("0.008"))],
        [
            ("claude-opus-5", "input", Decimal("0.004")),
            ("claude-opus-5", "output", Decimal("0.004")),
        ],
        [
            ("eval", Decimal("0.008"), 3 / 1012),
            ("nightly", Decimal("0.008"), 3 / 1012),
        ],
        [],
        [("platform", Decimal("0.009"), Decimal("0.008"), 0, 0)],
        [("platform", Decimal("0.008"))],
        [("claude-opus-5/input", Decimal("-0.001"), moment)],
        [(events.EDGE_ID, 5, 1, 2, 1, 1)],
    ]


def test_look_ups_through_the_view_use_the_indexes(migrated):
    stored(migrated, usages(10))
    for condition, index in [
        ("virtual_key_id = 'vk_none'", "virtual_key_set"),
        (f"request_id = '{events.REQUEST_ID}'", "request_bloom"),
        ("upstream_request_id = 'req_none'", "upstream_bloom"),
        ("end_user_id = 'nobody'", "end_user_bloom"),
        ("has(tags, 'none')", "tags_bloom"),
        ("metadata['repo'] = 'none'", "metadata_bloom"),
        ("agent_id = 'none'", "agent_bloom"),
        ("account_id = 'none'", "account_bloom"),
    ]:
        plan = read(migrated, f"EXPLAIN indexes = 1 SELECT count() FROM tollhouse.usage WHERE {condition}")
        assert any(f"Name: {index}" in str(line[0]) for line in plan), f"{condition}: {plan}"
