"""What an operator does about prices: price the past anew, ask why, find what has no price.

The commands run against a real engine and a broker; what they publish is stored by the sink's own stage.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from click.testing import CliRunner

from schemas import codec
from schemas.ids import VirtualKeyId
from schemas.rated import RatedUsage
from schemas.topics import PRICE_BOOKS, RATED
from schemas.usage import TokenCounts, UsageRecorded
from services.cli import main
from services.rating.book.event import event_of
from services.rating.book.file import load
from services.rating.book.log import announced_once
from services.rating.book.price_book import PriceBook
from services.rating.pricing import rate
from services.runtime.clickhouse import ClickHouse, ClickHouseConfig
from services.runtime.kafka import KafkaConfig
from services.runtime.records import ConsumedRecord
from services.runtime.topics import migrate_topics
from services.sink.handler import SinkStage
from services.sink.store import BlockStore
from tests.unit.sink import events

RUN_S_MAX = 60
START_S_MAX = 30
FOREIGN = ("KAFKA_", "CLICKHOUSE_", "ANTHROPIC_", "TOLLHOUSE_", "LITELLM_")
PRICES = """
name: test-list
book_seq: {seq}
modifiers:
  service_tier: {{standard: "1", batch: "0.5"}}
  inference_geo: {{us: "1.1"}}
  source: a test
  checked: 2026-11-22
free:
  operations: [count_tokens]
  endpoints: [/api/hello]
  source: a test
  checked: 2026-11-22
requests:
  - effective_from: 2024-01-01
    web_search: "10"
    web_fetch: "0"
    source: the searches of a test
    checked: 2026-11-22
models:
"""
MODEL = """
  {name}:
    is_geo_priced: true
    prices:
      - effective_from: 2024-01-01
        input: "{input}"
        output: "25"
        cache_read: "0.5"
        cache_write_5m: "6.25"
        cache_write_1h: "10"
        source: the list of a test
        checked: 2026-11-22
"""


class Stores:
    """An engine with every table, a broker with every topic, and a sink between them that a test moves."""

    def __init__(self, clickhouse: ClickHouseConfig, kafka: KafkaConfig) -> None:
        self.clickhouse = clickhouse
        self.kafka = kafka
        self._read: dict[str, int] = {}

    def keep(self, *facts: UsageRecorded, book: PriceBook) -> None:
        """Store usage as the book prices it, and the book."""
        booked_at = events.BOOKED_AT
        rated = [msgspec.structs.replace(rate(fact, book), booked_at=booked_at) for fact in facts]
        self._sink([events.record_of(event) for event in (*rated, event_of(book, booked_at))])

    def sink(self) -> list[RatedUsage]:
        """Store what is new on Kafka, and give the rated usages of it."""
        found = asyncio.run(asyncio.wait_for(self._new(), RUN_S_MAX))
        self._sink(found)
        return [codec.decode(RatedUsage, record.value) for record in found if record.topic == RATED]

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        async def run() -> list[tuple[object, ...]]:
            async with ClickHouse(self.clickhouse) as clickhouse:
                return [tuple(row) for row in await clickhouse.rows(sql)]

        return asyncio.run(asyncio.wait_for(run(), RUN_S_MAX))

    def run(self, *arguments: object) -> tuple[int, str, str]:
        environ = {name: None for name in os.environ if name.startswith(FOREIGN)} | {
            "CLICKHOUSE_URL": self.clickhouse.url,
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
        }
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environ)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    def _sink(self, records: list[ConsumedRecord]) -> None:
        async def run() -> None:
            async with ClickHouse(self.clickhouse) as clickhouse:
                processed = await SinkStage(BlockStore(clickhouse, retry_wait_ms_max=50)).process(records)
                assert processed.dead == []

        asyncio.run(asyncio.wait_for(run(), RUN_S_MAX))

    async def _new(self) -> list[ConsumedRecord]:
        client = AIOKafkaConsumer(
            RATED, PRICE_BOOKS, bootstrap_servers=self.kafka.bootstrap_servers, auto_offset_reset="earliest"
        )
        await client.start()
        try:
            ends = await client.end_offsets(list(client.assignment()))
            found: list[ConsumedRecord] = []
            while any([await client.position(place) < end for place, end in ends.items()]):
                for records in (await client.getmany(timeout_ms=200)).values():
                    found += [
                        ConsumedRecord(
                            each.topic, each.partition, each.offset, each.timestamp, each.key, each.value, ()
                        )
                        for each in records
                    ]
        finally:
            await client.stop()
        new = [each for each in found if each.offset >= self._read.get(f"{each.topic}/{each.partition}", 0)]
        for place, end in ends.items():
            self._read[f"{place.topic}/{place.partition}"] = end
        return new


@pytest.fixture
def stores(migrated: ClickHouseConfig, tmp_path: Path) -> Iterator[Stores]:
    command = [
        sys.executable,
        "-m",
        "services.local.kafka",
        "--port",
        "0",
        "--data-dir",
        str(tmp_path / "kafka"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    overdue = threading.Timer(START_S_MAX, process.kill)
    overdue.start()
    try:
        assert process.stderr is not None
        said = json.loads(process.stderr.readline())
        overdue.cancel()
        kafka = KafkaConfig(bootstrap_servers=f"127.0.0.1:{said['port']}")
        asyncio.run(asyncio.wait_for(migrate_topics(kafka), RUN_S_MAX))
        yield Stores(migrated, kafka)
    finally:
        overdue.cancel()
        process.terminate()
        process.communicate(timeout=START_S_MAX)


@pytest.fixture
def engine(migrated: ClickHouseConfig) -> Stores:
    """The engine alone, for what asks nothing of Kafka."""
    return Stores(migrated, KafkaConfig(bootstrap_servers="127.0.0.1:9"))


def written(tmp_path: Path, seq: int, **inputs: str) -> Path:
    """Write a price book that says what a million input tokens of each model cost."""
    path = tmp_path / f"prices-{seq}-{'-'.join(inputs.values())}.yaml"
    names = {name.replace("_", "-"): price for name, price in inputs.items()}
    models = "".join(MODEL.format(name=name, input=price) for name, price in names.items())
    path.write_text(PRICES.format(seq=seq) + models)
    return path


def fact(number: int, model: str = "claude-opus-5", key: str = "vk_1", **changes: object) -> UsageRecorded:
    event = events.usage_recorded(
        request_id=events.new_id(),
        upstream_request_id=f"req_{number}",
        message_id=f"msg_{number}",
        started_at=events.STARTED_AT + timedelta(minutes=number),
        model_requested=model,
        model_served=model,
        attribution=msgspec.structs.replace(events.WHO, virtual_key_id=VirtualKeyId(key)),
        tokens=TokenCounts(input_tokens=1_000_000, output_tokens=1000),
        speed="standard",
        inference_geo="",
        estimated_dimensions=(),
    )
    return msgspec.structs.replace(event, **changes)


SINCE = ("--since", "2026-11-22", "--until", "2026-11-23")


def test_the_past_is_priced_anew_by_a_later_book_once(stores, tmp_path):
    old, new = (
        written(tmp_path, 1, claude_opus_5="5"),
        written(tmp_path, 2, claude_opus_5="6", claude_next="1"),
    )
    stores.keep(fact(1), fact(2, key="vk_2"), fact(3, "claude-next"), book=load(str(old)))

    code, out, err = stores.run("reprice", *SINCE, "--book", new, "--dry-run")
    assert (code, err) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "model rows old_usd new_usd difference newly priced newly unpriced unpriced",
        "claude-opus-5 2 10.05 12.05 2 0 0 0",
        "claude-next 1 0 1.025 1.025 1 0 0",
        "",
        "key rows old_usd new_usd difference newly priced newly unpriced unpriced",
        "vk_1 2 5.025 7.05 2.025 1 0 0",
        "vk_2 1 5.025 6.025 1 0 0 0",
        "",
        "rows old_usd new_usd difference newly priced newly unpriced unpriced",
        "total 3 10.05 13.075 3.025 1 0 0",
        "",
        f"3 rows priced by {load(str(new)).label}, book_seq 2000",
    ]
    assert stores.sink() == []

    code, out, err = stores.run("reprice", *SINCE, "--book", new, "--yes")
    assert (code, err.splitlines()) == (
        0,
        [
            "published 3 revisions; rows show them when the sink has stored them",
            "new usage is priced by the book that rating was started with",
        ],
    )
    revised = stores.sink()
    assert {(each.book_seq, each.cost_status) for each in revised} == {(2000, "priced")}
    assert stores.rows(
        "SELECT (SELECT sum(cost_usd) FROM tollhouse.usage), "
        "(SELECT sum(amount_usd) FROM tollhouse.cost_ledger), "
        "(SELECT sum(amount_usd) FROM tollhouse.cost_ledger WHERE is_first)"
    ) == [(Decimal("13.075"), Decimal("13.075"), Decimal("10.05"))]

    code, out, err = stores.run("reprice", *SINCE, "--book", new, "--yes")
    assert (code, err) == (0, "nothing to do\n")
    assert out.splitlines()[-1] == "3 rows were priced by this book already"
    assert stores.sink() == []


def test_only_what_was_asked_for_is_priced_anew(stores, tmp_path):
    old, new = (
        written(tmp_path, 1, claude_opus_5="5"),
        written(tmp_path, 2, claude_opus_5="6", claude_next="1"),
    )
    other_day = fact(4, started_at=datetime(2026, 11, 23, tzinfo=UTC))
    mine = fact(1)
    stores.keep(mine, fact(2, key="vk_2"), fact(3, "claude-next"), other_day, book=load(str(old)))
    arguments = ("--book", new, "--model", "claude-opus*", "--key", "vk_1", "--yes", "--json")
    code, out, err = stores.run("reprice", *SINCE, *arguments)
    assert code == 0, err
    told = json.loads(out)
    assert {name: told[name] for name in ("book_seq", "rows", "published", "what_if")} == {
        "book_seq": 2000,
        "rows": {"behind": 1, "current": 0, "higher": 0, "conflict": 0},
        "published": 1,
        "what_if": "",
    }
    assert told["by_model"] == [
        {
            "name": "claude-opus-5",
            "rows": 1,
            "old_usd": "5.025",
            "new_usd": "6.025",
            "difference_usd": "1",
            "newly_priced": 0,
            "newly_unpriced": 0,
            "unpriced": 0,
            "book_usd": "6.025",
            "of_book_usd": "1",
            "of_what_if_usd": "0",
        }
    ]
    assert [each.usage.request_id for each in stores.sink()] == [mine.request_id]


def test_a_run_that_was_cut_off_is_finished_by_the_next(stores, tmp_path):
    """What the first run got through is current by then; its rest is published, and nothing twice."""
    old, new = written(tmp_path, 1, claude_opus_5="5"), written(tmp_path, 2, claude_opus_5="6")
    facts = [fact(number) for number in range(6)]
    stores.keep(*facts, book=load(str(old)))
    stores.keep(*facts[:4], book=load(str(new)))
    code, _, err = stores.run("reprice", *SINCE, "--book", new, "--yes", "--rows-per-second", "1")
    assert (code, err.splitlines()[-2]) == (
        0,
        "published 2 revisions; rows show them when the sink has stored them",
    )
    assert {each.usage.request_id for each in stores.sink()} == {each.request_id for each in facts[4:]}


def test_a_lower_book_is_refused_and_the_rows_stay(engine, tmp_path):
    old, new = written(tmp_path, 2, claude_opus_5="5"), written(tmp_path, 3, claude_opus_5="6")
    engine.keep(fact(1), book=load(str(new)))
    engine.keep(fact(2), book=load(str(written(tmp_path, 1, claude_opus_5="4"))))
    code, out, err = engine.run("reprice", *SINCE, "--book", old, "--yes")
    assert code == 2
    assert "1 rows are at a higher book_seq, up to 3000: they stay as they are" in out
    assert err.startswith("tollhouse: 1 rows are at a higher book_seq, up to 3000, than test-list-")
    assert engine.run("reprice", *SINCE, "--book", old, "--dry-run")[0] == 0


def test_another_book_under_the_same_number_is_refused(stores, tmp_path):
    old, other = written(tmp_path, 1, claude_opus_5="5"), written(tmp_path, 1, claude_opus_5="6")
    stores.keep(fact(1), book=load(str(old)))
    code, _, err = stores.run("reprice", *SINCE, "--book", other, "--yes")
    assert (code, err) == (
        2,
        "tollhouse: 1 rows were priced by another book of book_seq 1000: raise the book_seq of the book, or "
        "the edition of the overrides, with every change.\n",
    )

    published = load(str(written(tmp_path, 2, claude_opus_5="7")))
    asyncio.run(announced_once(published, stores.kafka, lambda: events.BOOKED_AT))
    code, _, err = stores.run("reprice", *SINCE, "--book", written(tmp_path, 2, claude_opus_5="8"), "--yes")
    assert code == 2
    assert err.startswith(
        f"tollhouse: book_seq 2000 is that of the price book {published.label}, published at "
    )
    assert stores.sink() == []


def test_nothing_is_published_unless_somebody_says_so(engine, tmp_path):
    old, new = written(tmp_path, 1, claude_opus_5="5"), written(tmp_path, 2, claude_opus_5="6")
    engine.keep(fact(1), book=load(str(old)))
    code, _, err = engine.run("reprice", *SINCE, "--book", new)
    assert (code, err) == (
        2,
        "tollhouse: nobody can be asked: say --yes to publish, or --dry-run to only look.\n",
    )


def test_what_if_another_model_had_served_it_is_only_printed(engine, tmp_path):
    book = written(tmp_path, 1, claude_opus_5="5", claude_next="1")
    iterations = [
        {"type": "message", "input_tokens": 1_000_000, "output_tokens": 0, "model": "claude-opus-5"},
        {"type": "advisor_message", "input_tokens": 1_000_000, "output_tokens": 0, "model": "claude-opus-5"},
        {"type": "message", "input_tokens": 1_000_000, "output_tokens": 1000},
    ]
    verbatim = msgspec.Raw(msgspec.json.encode({"iterations": iterations}))
    engine.keep(fact(1), fact(2, usage=verbatim), fact(3, operation="count_tokens"), book=load(str(book)))
    code, out, err = engine.run("reprice", *SINCE, "--book", book, "--what-if", "claude-next", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["what_if"] == "claude-next"
    # The first: 5.025 and 1.025; the second: a declined try is not billed, the advisor stays opus.
    assert (told["total"]["old_usd"], told["total"]["new_usd"]) == ("15.05", "7.05")
    code, _, err = engine.run("reprice", *SINCE, "--book", book, "--what-if", "claude-nobody")
    assert code == 2
    assert "has no model claude-nobody: see `tollhouse prices show`." in err


def test_a_what_if_keeps_what_the_book_changed_apart(engine, tmp_path):
    old = written(tmp_path, 1, claude_opus_5="5", claude_next="1")
    new = written(tmp_path, 2, claude_opus_5="6", claude_next="2")
    engine.keep(fact(1), book=load(str(old)))
    asked = ("reprice", *SINCE, "--book", new, "--what-if", "claude-next")
    _, out, _ = engine.run(*asked, "--json")
    total = json.loads(out)["total"]
    assert {name: total[name] for name in total if name.endswith("_usd")} == {
        "old_usd": "5.025",
        "book_usd": "6.025",
        "new_usd": "2.025",
        "difference_usd": "-3",
        "of_book_usd": "1",
        "of_what_if_usd": "-4",
    }
    _, out, _ = engine.run(*asked)
    head, row = out.splitlines()[:2]
    assert re.split(" {2,}", head)[:7] == [
        "model",
        "rows",
        "old_usd",
        "by the book",
        "as if",
        "of the book",
        "of the what-if",
    ]
    assert row.split() == ["claude-opus-5", "1", "5.025", "6.025", "2.025", "1", "-4", "0", "0", "0"]


def test_what_would_have_no_price_is_said_to_be_missing_from_the_sum(engine, tmp_path):
    """A sum that lacks rows looks like a saving."""
    old = written(tmp_path, 1, claude_opus_5="5", claude_next="1")
    new = written(tmp_path, 2, claude_opus_5="5")
    models = ("claude-opus-5", "claude-next", "claude-nobody")
    facts = [fact(number, model) for number, model in enumerate(models)]
    engine.keep(*facts, fact(3, inference_geo="mars"), book=load(str(old)))
    _, out, _ = engine.run("reprice", *SINCE, "--book", new, "--dry-run")
    assert out.splitlines()[-2:] == [
        "3 rows have no whole price then: new_usd is without what is unknown",
        "1 of them had one, so that the difference is too low",
    ]


def test_a_broker_that_is_away_leaves_everything_as_it_was(engine, tmp_path):
    old, new = written(tmp_path, 1, claude_opus_5="5"), written(tmp_path, 2, claude_opus_5="6")
    engine.keep(fact(1), book=load(str(old)))
    code, _, err = engine.run("reprice", *SINCE, "--book", new, "--yes")
    assert (code, err) == (2, "tollhouse: cannot reach Kafka at 127.0.0.1:9: KafkaConnectionError.\n")


def test_the_cost_of_one_usage_is_explained_in_words(engine, tmp_path):
    tokens = TokenCounts(input_tokens=2000, cache_read_tokens=10, web_search_requests=3)
    batch = fact(1, operation="batch_item", inference_geo="us", tokens=tokens, usage_status="estimated")
    asked = msgspec.structs.replace(batch, estimated_dimensions=("input_tokens",))
    book = load(str(written(tmp_path, 1, claude_opus_5="5")))
    engine.keep(asked, book=book)
    later = load(str(written(tmp_path, 2, claude_opus_5="6")))
    engine.keep(asked, book=later)
    for text in (asked.request_id, "req_1", "msg_1"):
        code, out, err = engine.run("explain", text)
        assert (code, err) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        f"usage {asked.request_id}, 2026-11-22 10:31:00.123 UTC",
        "upstream req_1, msg_1",
        "key vk_1",
        "asked batch_item /v1/messages, completed, usage estimated",
        "model claude-opus-5",
        "used 2000 input_tokens (our estimate); 10 cache_read_tokens; 3 web_search_requests; "
        "service tier standard; speed standard; region us",
        "cost 0.03660275 USD, priced: every dimension that was used has a price",
        f"price book {later.label}, book_seq 2000",
        "",
        "line units x unit price x multiplier = USD",
        "claude-opus-5 input 2000 0.000006 0.55 0.0066",
        "claude-opus-5 cache_read 10 0.0000005 0.55 0.00000275",
        "claude-opus-5 web_search 3 0.01 1 0.03",
        "",
        "claude-opus-5 input: 6 USD per million, standard speed, any prompt, from 2024-01-01; "
        "times 0.5 service tier batch and 1.1 region us",
        "source: the list of a test, checked 2026-11-22",
        "claude-opus-5 cache_read: 0.5 USD per million, standard speed, any prompt, from 2024-01-01; "
        "times 0.5 service tier batch and 1.1 region us",
        "source: the list of a test, checked 2026-11-22",
        "claude-opus-5 web_search: 10 USD per thousand requests, never multiplied, from 2024-01-01",
        "source: the searches of a test, checked 2026-11-22",
        "",
        "booked entry USD price book status",
        f"2026-11-22 10:30:06 charge 0.03550275 {book.label}, book_seq 1000 priced",
        f"2026-11-22 10:30:06 reversal -0.03550275 {book.label}, book_seq 1000 priced",
        f"2026-11-22 10:30:06 charge 0.03660275 {later.label}, book_seq 2000 priced",
    ]
    told = json.loads(engine.run("explain", asked.request_id, "--json")[1])
    assert (told["cost_usd"], told["lines"][0]["modifiers"]) == (
        "0.03660275",
        ["0.5 service tier batch", "1.1 region us"],
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_served": "claude-next"}, "cost unknown, unpriced: the book has no such model"),
        ({"operation": "count_tokens"}, "cost 0 USD, zero: count_tokens is free by the book"),
        (
            {"operation": "other", "endpoint": "/v1/agents"},
            "cost unknown, unpriced: the endpoint is not known to be free",
        ),
        (
            {"outcome": "refused", "usage_status": "none"},
            "cost 0 USD, zero: Anthropic bills nothing where the outcome is refused",
        ),
    ],
)
def test_why_something_costs_nothing_or_nobody_knows_how_much(engine, tmp_path, changes, words):
    engine.keep(fact(1, **changes), book=load(str(written(tmp_path, 1, claude_opus_5="5"))))
    code, out, _ = engine.run("explain", "req_1")
    assert code == 0
    assert words in [" ".join(line.split()) for line in out.splitlines()]


def test_an_id_is_found_however_it_is_spelled(engine, tmp_path):
    """A UUID from another program, or pasted with what stood around it."""
    asked = fact(1)
    engine.keep(
        asked, fact(2, upstream_request_id=""), book=load(str(written(tmp_path, 1, claude_opus_5="5")))
    )
    bare = asked.request_id.replace("-", "")
    for text in (f" {asked.request_id}\n", asked.request_id.upper(), bare, f"urn:uuid:{asked.request_id}"):
        code, out, err = engine.run("explain", text)
        assert (code, out.split()[1], err) == (0, f"{asked.request_id},", "")
    code, out, err = engine.run("explain", " ")
    assert (code, out) == (2, "")
    assert err.endswith("Error: Invalid value for REQUEST_ID: must not be empty.\n")


def test_an_id_that_nothing_is_stored_under_is_told_so(engine):
    for text in (events.new_id(), "req_none", "no\x1b[31mthing"):
        code, out, err = engine.run("explain", text)
        assert (code, out) == (1, "")
        assert err.startswith(
            f"tollhouse: no usage is stored under {text.replace(chr(27), '?')}. It may be on its way"
        )


def test_a_book_that_is_not_at_hand_is_said_to_be(engine, tmp_path):
    book = load(str(written(tmp_path, 1, claude_opus_5="5")))
    engine.keep(fact(1), book=book)

    async def forget() -> None:
        async with ClickHouse(engine.clickhouse) as clickhouse:
            await clickhouse.command("TRUNCATE TABLE tollhouse_raw.price_books")

    asyncio.run(forget())
    code, out, _ = engine.run("explain", "req_1")
    assert code == 0
    assert "the book that priced it is neither stored nor configured: its rules cannot be shown" in out


def test_what_has_no_price_is_listed_with_whom_it_concerns(engine, tmp_path):
    book = load(str(written(tmp_path, 1, claude_opus_5="5")))
    engine.keep(fact(1, "claude-next"), fact(2, "claude-next", "vk_2"), fact(3), book=book)
    code, out, err = engine.run("prices", "missing", "--since", "2026-11-22")
    assert (code, err) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "model dimension exchanges first seen last seen keys",
        "claude-next input 2 2026-11-22 10:31 2026-11-22 10:32 vk_1, vk_2",
        "claude-next output 2 2026-11-22 10:31 2026-11-22 10:32 vk_1, vk_2",
    ]
    code, out, _ = engine.run("prices", "missing", "--since", "2026-11-22", "--json")
    assert [json.loads(line)["dimension"] for line in out.splitlines()] == ["input", "output"]


def test_what_no_price_could_help_is_listed_apart(engine, tmp_path):
    book = load(str(written(tmp_path, 1, claude_opus_5="5")))
    unread = fact(2, usage_status="none", tokens=TokenCounts(), usage=msgspec.Raw(b"null"))
    engine.keep(unread, book=book)
    apart = [
        "no price could help: no usage was read of these exchanges; usage_status says why",
        "model exchanges first seen last seen keys",
        "claude-opus-5 1 2026-11-22 10:32 2026-11-22 10:32 vk_1",
    ]
    asked = ("prices", "missing", "--since", "2026-11-22")
    _, out, _ = engine.run(*asked)
    assert [" ".join(line.split()) for line in out.splitlines()] == apart
    engine.keep(fact(1, "claude-next"), book=book)
    _, out, _ = engine.run(*asked)
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "model dimension exchanges first seen last seen keys",
        "claude-next input 1 2026-11-22 10:31 2026-11-22 10:31 vk_1",
        "claude-next output 1 2026-11-22 10:31 2026-11-22 10:31 vk_1",
        "",
        *apart,
    ]


def test_a_clickhouse_that_is_away_is_told_in_one_sentence(engine):
    away = Stores(ClickHouseConfig(url="http://127.0.0.1:9"), engine.kafka)
    for command in (("reprice", *SINCE), ("explain", "req_1"), ("prices", "missing")):
        code, out, err = away.run(*command)
        assert (code, out) == (2, "")
        assert err.startswith("tollhouse: cannot read from ClickHouse at http://127.0.0.1:9: ")
