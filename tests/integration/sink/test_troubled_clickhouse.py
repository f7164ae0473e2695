"""ClickHouse in every kind of trouble: the sink says which, waits, and each row is written exactly once."""

import asyncio

import pytest
import structlog.testing
from structlog.typing import EventDict

from services.runtime import metrics
from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.errors import ServiceStopped
from services.runtime.records import Processed
from services.sink.handler import SinkStage
from services.sink.store import BlockStore
from tests.integration.sink.faults import (
    Fault,
    Troubled,
    answered_too_late,
    exception,
    landed_too_late,
    page,
    reset_behind,
    reset_within,
)
from tests.integration.sink.test_sink import ordered, read, usages

RUN_S_MAX = 60
ROWS = 10
# Parts as they were inserted: rows that landed twice would be two.
PARTS = (
    "SELECT count(), sum(rows) FROM system.parts "
    "WHERE database = 'tollhouse_raw' AND table = 'usage' AND active"
)


class Outcome:
    """What a batch came to under a script of faults, and what was said meanwhile."""

    def __init__(self, config: ClickHouseConfig, *script: Fault, answer_timeout_ms: int = 30_000) -> None:
        self.seen_available: list[bool] = []
        self.logs: list[EventDict] = []
        asyncio.run(asyncio.wait_for(self._run(config, script, answer_timeout_ms), RUN_S_MAX))

    async def _run(self, config: ClickHouseConfig, script: tuple[Fault, ...], answer_timeout_ms: int) -> None:
        self.troubled = Troubled(config.url, *script)
        async with self.troubled.url() as url:
            settings = ClickHouseConfig(
                url=url, answer_timeout_ms=answer_timeout_ms, connect_timeout_ms=min(5_000, answer_timeout_ms)
            )
            async with ClickHouse(settings) as clickhouse:
                await clickhouse.rows("SELECT 1")
                store = BlockStore(_Watched(self, clickhouse), retry_wait_ms_max=20)
                self.store = store
                with structlog.testing.capture_logs() as self.logs:
                    self.processed = await SinkStage(store).process(usages(ROWS))
                assert store.is_available

    @property
    def said(self) -> list[tuple[object, ...]]:
        """Give the log lines that an operator sees, without times."""
        return [(each["event"], each["log_level"], each.get("code"), each.get("error")) for each in self.logs]


class _Watched:
    """Notes before each try whether the store calls itself available, as the readiness probe asks."""

    def __init__(self, outcome: Outcome, clickhouse: ClickHouse) -> None:
        self._outcome = outcome
        self._clickhouse = clickhouse

    async def insert(self, table, names, types, columns, token):
        self._outcome.seen_available.append(self._outcome.store.is_available)
        await self._clickhouse.insert(table, names, types, columns, token)


TROUBLES = [
    (exception(252, "TOO_MANY_PARTS"), 252, "TOO_MANY_PARTS (code 252)", "merges are behind"),
    (exception(242, "TABLE_IS_READ_ONLY"), 242, "TABLE_IS_READ_ONLY (code 242)", "its replica is read-only"),
    (exception(241, "MEMORY_LIMIT_EXCEEDED"), 241, "MEMORY_LIMIT_EXCEEDED (code 241)", "out of memory"),
    (exception(159, "TIMEOUT_EXCEEDED"), 159, "TIMEOUT_EXCEEDED (code 159)", "inserts take too long"),
    (exception(202, "TOO_MANY_SIMULTANEOUS_QUERIES", 503), 202, None, "too many queries run"),
    (exception(243, "NOT_ENOUGH_SPACE"), 243, "NOT_ENOUGH_SPACE (code 243)", "its disk is full"),
    (exception(236, "ABORTED"), 236, "ABORTED (code 236)", "look at its log"),  # it shuts down
    (exception(4321, "OF_ANOTHER_YEAR"), 4321, "OF_ANOTHER_YEAR (code 4321)", "look at its log"),
    (page(503), None, None, "is it up"),
    (page(502), None, None, "is it up"),
    (reset_within, None, None, "is it up"),
    (reset_behind, None, None, "is it up"),
]
NAMES = [f"{code or place}" for place, (_, code, _, _) in enumerate(TROUBLES)]


@pytest.mark.parametrize(("fault", "code", "error", "remedy"), TROUBLES, ids=NAMES)
def test_a_trouble_is_told_waited_out_and_costs_no_row(migrated, fault, code, error, remedy):
    retries = metrics.sink_insert_retries.labels("usage")._value
    before = retries.get()
    outcome = Outcome(migrated, fault, fault, fault)

    assert outcome.processed == Processed(dead=[])
    assert outcome.troubled.failed == 3
    assert len(set(outcome.troubled.tokens)) == 2  # that of usage, then that of cost_ledger
    # The first try, those that found it away (the client itself repeats what a reset cut off), the ledger.
    tries = len(outcome.seen_available)
    assert outcome.seen_available == [True, *[False] * (tries - 2), True]
    assert 1 <= retries.get() - before == tries - 2
    assert read(migrated, PARTS) == [(1, ROWS)]
    assert read(migrated, "SELECT count() FROM tollhouse.cost_ledger WHERE is_first") == [(ROWS,)]

    went, came = outcome.logs
    assert (went["event"], went["log_level"], went["table"]) == ("sink.store_went_away", "warning", "usage")
    assert went["code"] == code
    assert error is None or went["error"] == error
    assert went["remedy"].startswith(remedy)
    assert "user-7" not in str(went)
    assert (came["event"], came["log_level"]) == ("sink.store_came_back", "info")


def test_every_change_of_the_trouble_is_told(migrated):
    outcome = Outcome(
        migrated,
        reset_within,
        page(503),
        exception(241, "MEMORY_LIMIT_EXCEEDED"),
        exception(241, "MEMORY_LIMIT_EXCEEDED"),
        exception(252, "TOO_MANY_PARTS"),
    )
    assert [(event, code) for event, _, code, _ in outcome.said] == [
        ("sink.store_went_away", None),
        ("sink.store_still_away", 241),
        ("sink.store_still_away", 252),
        ("sink.store_came_back", None),
    ]


@pytest.mark.parametrize("fault", [answered_too_late, landed_too_late])
def test_an_answer_that_comes_too_late_is_a_second_insert_of_the_same_block(migrated, fault):
    outcome = Outcome(migrated, fault, answer_timeout_ms=1_000)
    assert outcome.processed == Processed(dead=[])
    assert [(event, error) for event, _, _, error in outcome.said] == [
        ("sink.store_went_away", outcome.logs[0]["error"]),
        ("sink.store_came_back", None),
    ]
    assert outcome.troubled.tokens[0] == outcome.troubled.tokens[1]
    assert read(migrated, PARTS) == [(1, ROWS)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (exception(60, "UNKNOWN_TABLE", 404), r"UNKNOWN_TABLE \(code 60\)"),
        (exception(16, "NO_SUCH_COLUMN_IN_TABLE", 404), r"NO_SUCH_COLUMN_IN_TABLE \(code 16\)"),
        (exception(497, "ACCESS_DENIED", 403), r"ACCESS_DENIED \(code 497\)"),
        (exception(516, "AUTHENTICATION_FAILED", 403), r"AUTHENTICATION_FAILED \(code 516\)"),
        (exception(164, "READONLY", 403), r"READONLY \(code 164\)"),
    ],
)
def test_what_no_waiting_mends_stops_the_sink_with_nothing_committed(migrated, fault, reason):
    with pytest.raises(ServiceStopped, match=rf"does not take rows of usage: {reason}.*`tollhouse migrate`"):
        Outcome(migrated, fault)
    assert read(migrated, PARTS) == [(0, 0)]


def test_too_many_parts_of_the_engine_itself_are_waited_out(migrated):
    """The real refusal: merges are stopped, and the table has no room for a third part."""
    ordered(migrated, "SYSTEM STOP MERGES tollhouse_raw.usage")
    ordered(
        migrated,
        "ALTER TABLE tollhouse_raw.usage MODIFY SETTING parts_to_throw_insert = 2, "
        "max_avg_part_size_for_too_many_parts = 0",
    )

    async def run() -> list[EventDict]:
        async with ClickHouse(migrated) as clickhouse:
            store = BlockStore(clickhouse, retry_wait_ms_max=50)
            stage = SinkStage(store)
            with structlog.testing.capture_logs() as logs:
                for _ in range(2):
                    await stage.process(usages(ROWS))
                waiting = asyncio.create_task(stage.process(usages(ROWS)))
                while store.is_available and not waiting.done():
                    await clickhouse.rows("SELECT 1")
                assert not waiting.done()
                await clickhouse.command(
                    "ALTER TABLE tollhouse_raw.usage "
                    "RESET SETTING parts_to_throw_insert, max_avg_part_size_for_too_many_parts"
                )
                await clickhouse.command("SYSTEM START MERGES tollhouse_raw.usage")
                assert await waiting == Processed(dead=[])
            return logs

    logs = asyncio.run(asyncio.wait_for(run(), RUN_S_MAX))
    assert [(each["event"], each.get("code")) for each in logs] == [
        ("sink.store_went_away", 252),
        ("sink.store_came_back", None),
    ]
    assert read(migrated, "SELECT count() FROM tollhouse.usage") == [(3 * ROWS,)]
