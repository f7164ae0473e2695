"""The ledger against a real engine: its signed lines add up to the cost of today, and of any day before."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import msgspec
import pytest

from schemas.ids import RequestId, rated_id
from schemas.rated import RatedUsage, row_version
from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.records import ConsumedRecord
from services.sink import reader
from services.sink.handler import SinkStage
from services.sink.reader import Entry, Missing, Selection, StoredBook
from services.sink.store import BlockStore
from tests.unit.sink import events

RUN_S_MAX = 60
HOUR = timedelta(hours=1)
SUM = "SELECT sum(amount_usd) FROM tollhouse.cost_ledger"


def stored(config: ClickHouseConfig, *batches: Sequence[RatedUsage]) -> None:
    async def run() -> None:
        async with ClickHouse(config) as clickhouse:
            stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
            for batch in batches:
                processed = await stage.process([record(event) for event in batch])
                assert processed.dead == []

    asyncio.run(asyncio.wait_for(run(), RUN_S_MAX))


def record(event: RatedUsage) -> ConsumedRecord:
    return events.record_of(event)


def asked(config: ClickHouseConfig, sql: str) -> list[tuple[object, ...]]:
    async def run() -> list[tuple[object, ...]]:
        async with ClickHouse(config) as clickhouse:
            return [tuple(row) for row in await clickhouse.rows(sql)]

    return asyncio.run(asyncio.wait_for(run(), RUN_S_MAX))


def given(config: ClickHouseConfig, ask):
    """Ask through the reader."""

    async def run():
        async with ClickHouse(config) as clickhouse:
            return await ask(clickhouse)

    return asyncio.run(asyncio.wait_for(run(), RUN_S_MAX))


def charge(
    cost: str | None,
    book_seq: int,
    booked_at: datetime = events.BOOKED_AT,
    request_id: RequestId = events.REQUEST_ID,
    outcome: str = "completed",
) -> RatedUsage:
    """A usage at a book: two lines that add up to the cost; None is unpriced."""
    fact = events.usage_recorded(request_id=request_id, outcome=outcome)
    amount = Decimal(cost or 0)
    lines = [(events.LINES[0], amount / 4), (events.LINES[2], amount - amount / 4)]
    return events.rated_usage(
        fact,
        rated_id=rated_id(request_id, book_seq),
        cost_status="unpriced" if cost is None else "priced",
        cost_usd=amount,
        cost_lines=tuple(msgspec.structs.replace(line, amount_usd=part) for line, part in lines if cost),
        price_book=f"book-{book_seq}",
        book_seq=book_seq,
        row_version=row_version(fact, book_seq),
        booked_at=booked_at,
    )


def test_a_usage_that_was_priced_anew_is_charged_reversed_and_charged(migrated):
    stored(migrated, [charge("1", 1)], [charge("3", 2, events.BOOKED_AT + HOUR)])
    naive = events.BOOKED_AT.replace(tzinfo=None)
    assert asked(
        migrated,
        "SELECT entry, booked_at, book_seq, amount_usd, lines, is_first, is_current "
        "FROM tollhouse.cost_ledger "
        "ORDER BY booked_at, row_version, entry",
    ) == [
        ("charge", naive, 1, Decimal(1), lines_of("0.25", "0.75"), True, False),
        ("reversal", naive + HOUR, 1, Decimal(-1), lines_of("-0.25", "-0.75"), False, False),
        ("charge", naive + HOUR, 2, Decimal(3), lines_of("0.75", "2.25"), False, True),
    ]


def test_a_usage_that_is_published_again_later_stays_booked_when_it_was(migrated):
    stored(migrated, [charge("1", 1)], [charge("1", 1, events.BOOKED_AT + HOUR)])
    naive = events.BOOKED_AT.replace(tzinfo=None)
    query = "SELECT entry, booked_at, amount_usd FROM tollhouse.cost_ledger"
    assert asked(migrated, query) == [("charge", naive, Decimal(1))]


def lines_of(first: str, second: str) -> dict[str, Decimal]:
    return {"claude-opus-5/input": Decimal(first), "claude-haiku-4-5/output": Decimal(second)}


def test_what_had_no_price_and_got_one_is_not_reversed_into_nothing(migrated):
    stored(migrated, [charge(None, 1)], [charge("3", 2, events.BOOKED_AT + HOUR)])
    assert asked(
        migrated, "SELECT entry, amount_usd FROM tollhouse.cost_ledger ORDER BY booked_at, row_version, entry"
    ) == [("charge", None), ("reversal", None), ("charge", Decimal(3))]
    assert asked(migrated, SUM) == [(Decimal(3),)]


def test_an_orphans_charge_gives_way_to_the_real_one_whatever_the_book(migrated):
    orphan = charge("9", 5, outcome="orphaned")
    stored(migrated, [charge("1", 2, events.BOOKED_AT + HOUR)], [orphan])
    assert (
        asked(migrated, SUM)
        == asked(migrated, "SELECT sum(cost_usd) FROM tollhouse.usage")
        == [(Decimal(1),)]
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_orphans_charge_stood_until_the_real_one_was_booked_at_the_same_book(migrated, order):
    """What was billed on a day stays what was billed on it, also where the edge's end was only thought."""
    written = [charge("9", 2, outcome="orphaned"), charge("1", 2, events.BOOKED_AT + HOUR)]
    stored(migrated, [written[order[0]]], [written[order[1]]])
    assert asked(migrated, SUM) == [(Decimal(1),)]
    assert asked(migrated, f"{SUM} WHERE booked_at < '{events.BOOKED_AT + HOUR:%Y-%m-%d %H:%M:%S}'") == [
        (Decimal(9),)
    ]
    assert asked(migrated, f"{SUM} WHERE is_first") == [(Decimal(9),)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_rating_processes_at_different_books_over_the_same_usage_come_out_as_the_later_book(
    migrated, order
):
    """A rolling deploy: both read the same records, in any order, and either may be killed and replay."""
    ids = [events.new_id() for _ in range(20)]
    books = [
        [charge(str(book_seq), book_seq, request_id=request_id) for request_id in ids]
        for book_seq in (1000, 2000)
    ]
    stored(migrated, books[order[0]], books[order[1]][:7], books[order[0]][5:], books[order[1]])
    assert asked(
        migrated,
        "SELECT count(), uniqExact(request_id), groupUniqArray(book_seq), sum(cost_usd) FROM tollhouse.usage",
    ) == [(20, 20, [2000], Decimal(20 * 2000))]
    assert asked(migrated, SUM) == [(Decimal(20 * 2000),)]
    assert asked(migrated, f"{SUM} WHERE is_first") == [(Decimal(20 * 1000),)]
    assert asked(migrated, "SELECT count() FROM tollhouse.cost_ledger") == [(20 * 3,)]


class _Charge(NamedTuple):
    rank: int
    booked_at: datetime
    cost: Decimal


def test_the_signed_lines_add_up_at_every_moment_whatever_was_written_in_whatever_order(migrated):
    """Held against the plain rule: at a moment, the highest-ranked charge that was booked until then."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    written: list[RatedUsage] = []
    by_usage: dict[RequestId, list[_Charge]] = defaultdict(list)
    for _ in range(100):
        request_id = events.new_id()
        every = [(book, outcome) for book in range(1, 9) for outcome in ("completed", "orphaned")]
        for book_seq, outcome in dice.sample(every, dice.randint(1, 5)):
            booked_at = events.BOOKED_AT + HOUR * dice.randint(0, 6)
            cost = dice.choice([None, "1", "2.5", "0.000000012504", "7"])
            event = charge(cost, book_seq, booked_at, request_id, outcome)
            written += [event] * dice.randint(1, 2)
            by_usage[request_id].append(_Charge(event.row_version, booked_at, event.cost_usd))
    dice.shuffle(written)
    cut = dice.randrange(len(written))
    stored(migrated, written[:cut], written[cut:], dice.sample(written, 50))
    for hours in range(7):
        moment = events.BOOKED_AT + HOUR * hours
        expected = [standing(charges, moment) for charges in by_usage.values()]
        until = f"booked_at <= '{moment:%Y-%m-%d %H:%M:%S.%f}'"
        assert asked(
            migrated, f"SELECT ifNull(sum(amount_usd), 0) FROM tollhouse.cost_ledger WHERE {until}"
        ) == [(sum(expected),)]
        assert asked(
            migrated,
            "SELECT arraySum(mapValues(sumMap(lines))) FROM tollhouse.cost_ledger WHERE " + until,
        ) == [(sum(expected),)]
    firsts = [
        min(charges, key=lambda each: (each.booked_at, each.rank)).cost for charges in by_usage.values()
    ]
    assert asked(migrated, "SELECT sum(amount_usd), count() FROM tollhouse.cost_ledger WHERE is_first") == [
        (sum(firsts), len(firsts))
    ]
    assert asked(migrated, "SELECT sum(amount_usd), countIf(is_current) FROM tollhouse.cost_ledger") == [
        (asked(migrated, "SELECT sum(cost_usd) FROM tollhouse.usage")[0][0], len(by_usage))
    ]


def standing(charges: Sequence[_Charge], moment: datetime) -> Decimal:
    booked = [each for each in charges if each.booked_at <= moment]
    return max(booked).cost if booked else Decimal(0)


def test_a_question_about_some_days_reads_only_those(migrated):
    stored(migrated, [charge("1", 1)])
    plan = asked(
        migrated, f"EXPLAIN indexes = 1 {SUM} WHERE started_at >= '2026-11-01' AND started_at < '2026-12-01'"
    )
    assert any("toYYYYMM(started_at) in [202611" in str(line[0]) for line in plan), plan
    plan = asked(migrated, f"EXPLAIN indexes = 1 {SUM} WHERE request_id = '{events.REQUEST_ID}'")
    assert any("request_bloom" in str(line[0]) for line in plan), plan


def test_what_the_sink_stored_is_read_back_as_it_was(migrated):
    event = events.rated_usage(rated_id=rated_id(events.REQUEST_ID, 12), booked_at=None)
    stored(migrated, [event])
    for text in (events.REQUEST_ID, "req_011", "msg_01"):
        assert given(migrated, lambda clickhouse, text=text: reader.found(clickhouse, text)) == [event]
    assert given(migrated, lambda clickhouse: reader.found(clickhouse, "req_'; DROP TABLE x")) == []


def read_all(config: ClickHouseConfig, **changes: object) -> list[RequestId]:
    selection = Selection(since=events.STARTED_AT, until=events.STARTED_AT + HOUR)

    async def ask(clickhouse: ClickHouse) -> list[RequestId]:
        chosen = msgspec.structs.replace(selection, **changes)
        return [
            event.usage.request_id async for block in reader.stored(clickhouse, chosen) for event in block
        ]

    return given(config, ask)


def test_rows_are_selected_by_time_key_and_model(migrated):
    ids = [events.new_id() for _ in range(4)]
    who = msgspec.structs.replace(events.WHO, virtual_key_id="vk_2")
    facts = [
        events.usage_recorded(request_id=ids[0]),
        events.usage_recorded(request_id=ids[1], started_at=events.STARTED_AT + HOUR),
        events.usage_recorded(request_id=ids[2], attribution=who),
        events.usage_recorded(request_id=ids[3], model_served="", model_requested="claude_x%1"),
    ]
    stored(migrated, [events.rated_usage(fact) for fact in facts])
    assert set(read_all(migrated)) == {ids[0], ids[2], ids[3]}
    assert set(read_all(migrated, until=events.STARTED_AT + HOUR * 2)) == set(ids)
    assert read_all(migrated, virtual_key_id="vk_2") == [ids[2]]
    assert set(read_all(migrated, model="claude-opus-?")) == {ids[0], ids[2]}
    assert read_all(migrated, model="*x%1") == [ids[3]]
    assert read_all(migrated, model="claude?x_1") == []


def test_many_rows_come_in_bounded_blocks_each_once(migrated):
    ids = [events.new_id() for _ in range(30)]
    facts = [
        events.usage_recorded(request_id=request_id, started_at=events.STARTED_AT + HOUR * (number % 2))
        for number, request_id in enumerate(ids)
    ]
    stored(migrated, [events.rated_usage(fact) for fact in facts])
    selection = Selection(since=events.STARTED_AT, until=events.STARTED_AT + HOUR * 3)

    async def ask(clickhouse: ClickHouse) -> list[list[RatedUsage]]:
        return [block async for block in reader.stored(clickhouse, selection, block_rows_max=7)]

    blocks = given(migrated, ask)
    assert [len(block) for block in blocks] == [7, 7, 1, 7, 7, 1]
    assert sorted(event.usage.request_id for block in blocks for event in block) == sorted(ids)


def test_the_ledger_of_a_usage_is_read_in_the_order_of_booking(migrated):
    stored(migrated, [charge("1", 1), charge(None, 2, events.BOOKED_AT + HOUR)])
    entries = given(migrated, lambda clickhouse: reader.ledger_of(clickhouse, events.REQUEST_ID))
    first = Entry(
        entry="charge",
        booked_at=events.BOOKED_AT,
        book_seq=1,
        price_book="book-1",
        amount_usd=Decimal(1),
        cost_status="priced",
    )
    later = events.BOOKED_AT + HOUR
    assert entries == [
        first,
        msgspec.structs.replace(first, entry="reversal", booked_at=later, amount_usd=Decimal(-1)),
        Entry(
            entry="charge",
            booked_at=later,
            book_seq=2,
            price_book="book-2",
            amount_usd=None,
            cost_status="unpriced",
        ),
    ]


def test_a_price_book_is_found_by_its_number_and_content(migrated):
    async def ask(clickhouse: ClickHouse) -> list[StoredBook | None]:
        stage = SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50))
        await stage.process([events.record_of(events.price_book())])
        return [
            await reader.book_of(clickhouse, 12, events.BOOK_HASH),
            await reader.book_of(clickhouse, 12, "another"),
            await reader.book_of(clickhouse, 13, events.BOOK_HASH),
        ]

    assert given(migrated, ask) == [StoredBook("anthropic-2026-11", '{"name":"anthropic"}'), None, None]


def test_long_rows_come_in_blocks_of_bounded_bytes_each_once(migrated):
    """Half a megabyte is what a row may have; 5,000 of them are not what a process may."""
    long = msgspec.Raw(b'{"x": "%s"}' % (b"x" * 1000))
    facts = [events.usage_recorded(request_id=events.new_id(), usage=long) for _ in range(12)]
    stored(migrated, [events.rated_usage(fact) for fact in facts])
    selection = Selection(since=events.STARTED_AT, until=events.STARTED_AT + HOUR)

    def blocks(rows_max: int, bytes_max: int) -> list[list[RatedUsage]]:
        async def ask(clickhouse: ClickHouse) -> list[list[RatedUsage]]:
            return [block async for block in reader.stored(clickhouse, selection, rows_max, bytes_max)]

        return given(migrated, ask)

    for rows_max, bytes_max, sizes in (
        (100, 1, [1] * 12),
        (5, 1, [1] * 12),
        (100, 4_000, [3] * 4),
        (5, 1_000_000, [5, 5, 2]),
        (6, 1_000_000, [6, 6]),
    ):
        found = blocks(rows_max, bytes_max)
        assert [len(block) for block in found] == sizes, (rows_max, bytes_max)
        ids = [event.usage.request_id for block in found for event in block]
        assert sorted(ids) == sorted(fact.request_id for fact in facts)


def test_what_has_no_price_is_counted_by_model_and_dimension(migrated):
    def unpriced(status: str, dimensions: tuple[str, ...], **changes: object) -> RatedUsage:
        fact = events.usage_recorded(request_id=events.new_id(), **changes)
        return events.rated_usage(fact, cost_status=status, unpriced_dimensions=dimensions)

    who = msgspec.structs.replace(events.WHO, virtual_key_id="vk_2")
    later = events.STARTED_AT + HOUR
    stored(
        migrated,
        [
            unpriced("unpriced", ("claude-next/input", "claude-next/output"), model_served="claude-next"),
            unpriced("unpriced", ("claude-next/input",), attribution=who, started_at=later),
            unpriced("partial", ("code_execution_requests",)),
            unpriced("unpriced", (), operation="other", endpoint="/v1/agents", model_served=""),
            unpriced("unpriced", (), usage_status="none"),
            unpriced("priced", ()),
        ],
    )
    found = given(
        migrated,
        lambda clickhouse: reader.missing(clickhouse, events.STARTED_AT, events.STARTED_AT + HOUR * 2),
    )

    seen_once = Missing(
        model="",
        dimension="endpoint /v1/agents",
        exchanges=1,
        keys=1,
        examples=("vk_1",),
        first_seen=events.STARTED_AT,
        last_seen=events.STARTED_AT,
    )

    def seen(model: str, dimension: str, **changes: object) -> Missing:
        return msgspec.structs.replace(seen_once, model=model, dimension=dimension, **changes)

    assert found == [
        seen("claude-next", "input", exchanges=2, keys=2, examples=("vk_1", "vk_2"), last_seen=later),
        seen_once,
        seen("claude-next", "output"),
        seen("claude-opus-5", "code_execution_requests"),
        seen("claude-opus-5", "no usage was read"),
    ]
