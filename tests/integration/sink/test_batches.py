"""What an analyst and an operator see of batches: the view, and `tollhouse batches`."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from click.testing import CliRunner

from schemas import codec, topics
from schemas.attribution import Attribution
from schemas.batches import BatchCounts, BatchState, ItemCounts
from schemas.ids import batch_item_id
from services.cli import main
from services.runtime.clickhouse import ClickHouse
from services.runtime.records import ConsumedRecord
from services.sink.handler import SinkStage
from services.sink.store import BlockStore
from tests.unit.sink import events

CREATED_AT = datetime(2026, 11, 22, 7, 30, tzinfo=UTC)
ENDED_AT = CREATED_AT + timedelta(hours=1)
STATE = BatchState(
    batch_id="msgbatch_1",
    version=3,
    at=ENDED_AT,
    phase="waiting",
    status="in_progress",
    created_at=CREATED_AT,
    expires_at=CREATED_AT + timedelta(hours=24),
    requests=3,
    attribution=Attribution(virtual_key_id="vk_1", team_id="team-1", tags=("nightly",)),
    credential="default",
    request_id=events.REQUEST_ID,
    models=("claude-sonnet-5",),
    counts=BatchCounts(processing=3),
)
BOOKED = msgspec.structs.replace(
    STATE,
    version=7,
    phase="booked",
    status="ended",
    ended_at=ENDED_AT,
    closed_at=ENDED_AT + timedelta(seconds=12),
    counts=BatchCounts(succeeded=2, errored=1),
    booked=ItemCounts(succeeded=2, errored=1),
    lines_read=3,
)


def record(state, offset):
    return ConsumedRecord(topics.BATCHES, 4, offset, 0, codec.key(state), codec.encode(state), ())


def item(custom_id, **changes):
    usage = msgspec.structs.replace(
        events.usage_recorded(),
        request_id=batch_item_id("msgbatch_1", custom_id),
        started_at=CREATED_AT,
        operation="batch_item",
        batch_id="msgbatch_1",
        batch_custom_id=custom_id,
    )
    return events.record_of(events.rated_usage(usage, **changes), len(custom_id))


def stored(config, *records):
    async def run():
        async with ClickHouse(config) as clickhouse:
            processed = await SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50)).process(records)
            assert processed.dead == []

    asyncio.run(run())


def tollhouse(config, *arguments):
    foreign = ("KAFKA_", "CLICKHOUSE_", "ANTHROPIC_", "TOLLHOUSE_", "LITELLM_")
    clean = dict.fromkeys(name for name in os.environ if name.startswith(foreign))
    result = CliRunner().invoke(main, arguments, env={**clean, "CLICKHOUSE_URL": config.url})
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def booked(migrated):
    """A batch whose earlier state comes again behind its end, and a tombstone behind that."""
    tombstone = ConsumedRecord(topics.BATCHES, 4, 9, 0, b"msgbatch_1", None, ())
    stored(migrated, record(BOOKED, 1), record(STATE, 2), tombstone)
    unpriced = {"cost_status": "unpriced", "cost_usd": Decimal(0), "cost_lines": ()}
    stored(migrated, item("one"), item("three"), item("eleven", **unpriced))
    return migrated


def test_a_batch_is_listed_with_what_its_items_cost(booked):
    code, out, err = tollhouse(booked, "batches", "list", "--phase", "booked")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["batch", "phase", "created", "items", "booked", "cost", "key", "lag"],
        [
            "msgbatch_1",
            "booked",
            "2026-11-22",
            "07:30",
            "3",
            "3",
            "$0.018",
            "and",
            "1",
            "unpriced",
            "vk_1",
            "12",
            "s",
        ],
    ]


def test_a_batch_is_shown_whole(booked):
    code, out, err = tollhouse(booked, "batches", "show", "msgbatch_1")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "batch       msgbatch_1",
        "phase       booked",
        "anthropic   ended",
        "created     2026-11-22 07:30:00 UTC",
        "ended       2026-11-22 08:30:00 UTC",
        "counts      2 succeeded, 1 errored, 0 canceled, 0 expired",
        "booked      3 of 3, 3 stored, 12 s after its end",
        "cost        $0.018 and 1 unpriced",
        "creator     vk_1 of team-1",
        "credential  default",
        "models      claude-sonnet-5",
    ]


def test_json_has_every_figure(booked):
    _, out, _ = tollhouse(booked, "batches", "show", "msgbatch_1", "--json")
    (listed,) = tollhouse(booked, "batches", "list", "--key", "vk_1", "--json")[1].splitlines()
    assert json.loads(out) == json.loads(listed)
    assert json.loads(out) == {
        "batch_id": "msgbatch_1",
        "phase": "booked",
        "status": "ended",
        "created_at": "2026-11-22T07:30:00Z",
        "expires_at": "2026-11-23T07:30:00Z",
        "ended_at": "2026-11-22T08:30:00Z",
        "closed_at": "2026-11-22T08:30:12Z",
        "lag_s": 12,
        "requests": 3,
        "succeeded": 2,
        "errored": 1,
        "canceled": 0,
        "expired": 0,
        "items_booked": 3,
        "malformed": 0,
        "items": 3,
        "items_unpriced": 1,
        "cost_usd": "0.018000000000000000",
        "virtual_key_id": "vk_1",
        "team_id": "team-1",
        "credential": "default",
        "is_adopted": False,
        "models": ["claude-sonnet-5"],
        "error": "",
    }


def test_a_batch_that_has_not_ended_has_no_end_and_no_cost(migrated):
    stored(migrated, record(STATE, 1))
    shown = json.loads(tollhouse(migrated, "batches", "show", "msgbatch_1", "--json")[1])
    empty = ("ended_at", "closed_at", "lag_s", "cost_usd", "items", "items_booked")
    assert [shown[name] for name in empty] == [None, None, None, None, 0, 0]


def test_no_batch_is_one_sentence(migrated):
    assert tollhouse(migrated, "batches", "list") == (
        0,
        "no batches: none was made, or the batch tracker and the sink have not told of any\n",
        "",
    )
    assert tollhouse(migrated, "batches", "show", "x") == (
        2,
        "",
        "tollhouse: there is no batch x; for one made elsewhere: tollhouse batches adopt x.\n",
    )
