"""The table "When things break" of services/README.md, row by row, on one world of real processes.

TOLLHOUSE_CHAOS_KAFKA=apache runs it on three brokers of Apache Kafka. Every test ends with the judgement of
everything that any client has got so far.
"""

import asyncio
import json
import shutil

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas import codec
from schemas.dead_letters import DeadLetter
from schemas.topics import DLQ_SUFFIX, RATED, USAGE
from tests.chaos.clients import Clients
from tests.chaos.traffic import UNKNOWN_MODEL, Ask
from tests.chaos.world import GROUP_TOPICS
from tests.integration.kafka.clients import until_true

WAIT_S_MAX = 60.0
FEW = 8
SPOOL_BYTES_MAX = 1024 * 1024  # the least that an edge takes
EXCHANGES_TO_FILL_MAX = 1_000  # of some 4 KB each
NOBODYS_KAFKA = "127.0.0.1:9"  # discard: nobody listens there
STREAM = Ask(is_stream=True, simulate=("output-tokens=40",))
# Some two seconds from the first event to the last: time for something to happen to it.
LONG_STREAM = Ask(is_stream=True, simulate=("output-tokens=120", "chunk-delay-ms=60"))


def test_kafka_down_events_stay_in_the_spool_and_clients_notice_nothing(stage):
    async def test():
        await stage.world.kafka.lose()
        await stage.served(*[STREAM] * FEW, *[Ask()] * FEW)
        entries, still_open = await asyncio.to_thread(stage.waiting)
        assert (entries >= 2 * FEW, still_open) == (True, 0)
        await stage.world.kafka.mend()
        await stage.is_proven()

    stage.run(test())


def test_kafka_slow_events_stay_in_the_spool_and_clients_notice_nothing(stage):
    async def test():
        for broker in stage.world.kafka.brokers.values():
            broker.freeze()
        await stage.served(*[STREAM] * FEW, *[Ask()] * FEW)
        entries, _ = await asyncio.to_thread(stage.waiting)
        assert entries >= 2 * FEW
        for broker in stage.world.kafka.brokers.values():
            broker.thaw()
        await stage.is_proven()

    stage.run(test())


def test_a_full_spool_refuses_and_what_it_holds_is_published_by_whoever_comes_next(stage, tmp_path):
    async def test():
        full = {"directory": str(tmp_path), "bytes_max": SPOOL_BYTES_MAX, "when_full": "refuse"}
        settings = {**stage.world.edge_section(), "spool": full}
        async with stage.another("edge", "edge-refusing", settings, NOBODYS_KAFKA) as edge:
            theirs = Clients([edge.url])
            last = await filled(theirs, lambda receipt: receipt.ending != "complete")
            assert (last.status, json.loads(last.error)["error"]["type"]) == (503, "api_error")
            async with httpx.AsyncClient(trust_env=False) as client:
                assert await edge.status(client) == 503
        await theirs.close()
        said = await stage.world.command("spool", "replay", tmp_path / "0000")
        assert "done: " in said
        await stage.is_proven(theirs)
        stage.clients.receipts.extend(theirs.receipts)

    stage.run(test())


def test_a_full_spool_that_is_told_to_shed_serves_on_and_counts_the_loss(stage, tmp_path):
    """Its Kafka is nobody's, so that no total of the world is touched by what it does not record."""

    async def test():
        full = {"directory": str(tmp_path), "bytes_max": SPOOL_BYTES_MAX, "when_full": "shed"}
        settings = {**stage.world.edge_section(), "spool": full}
        async with stage.another("edge", "edge-shedding", settings, NOBODYS_KAFKA) as edge:
            theirs = Clients([edge.url])
            await filled(theirs, lambda _: edge.has_said("exchange.shed"))
            await theirs.close()
            assert {receipt.ending for receipt in theirs.receipts} == {"complete"}
            assert await edge.metric("edge_shed_total") >= 1
            async with httpx.AsyncClient(trust_env=False) as client:
                assert await edge.status(client) == 200

    stage.run(test())


def test_clickhouse_down_the_sink_waits_and_nothing_is_dead_lettered(stage):
    async def test():
        clickhouse = stage.world.processes["clickhouse"]
        await clickhouse.kill()
        await stage.served(*[Ask()] * FEW)

        async def sinks_say_so():
            async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
                sinks = [stage.world.processes[name] for name in ("sink-1", "sink-2")]
                return 503 in [await each.status(client) for each in sinks]

        await until_true(sinks_say_so, WAIT_S_MAX)
        await clickhouse.start()
        await stage.is_proven()
        assert "0 of 0 shown" in await stage.world.command("dlq", "list")

    stage.run(test())


@pytest.mark.parametrize("fault", ["cut", "stall", "slow", "reset"])
def test_a_network_to_clickhouse_that_fails_changes_no_total(stage, fault):
    async def test():
        door = stage.world.doors["clickhouse-door"]
        getattr(door, fault)()
        await stage.served(*[Ask()] * FEW)
        if fault == "cut":
            await until_true(lambda: _so(door.turned_away > 0), WAIT_S_MAX)
        door.mend()
        await stage.is_proven()

    stage.run(test())


def test_one_bad_event_goes_to_the_dead_letters_with_its_bytes_and_place_and_the_rest_goes_on(stage):
    garbage = b'{"request_id": "no usage at all", \xff'

    async def test():
        servers = stage.world.kafka.servers
        producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
        await producer.start()
        try:
            placed = await producer.send_and_wait(
                USAGE, garbage, key=b"vk_nobody", headers=[("who", b"a test")]
            )
        finally:
            await producer.stop()
        await stage.served(*[Ask()] * FEW)
        place = TopicPartition(USAGE + DLQ_SUFFIX, placed.partition)
        consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([place])
            async with asyncio.timeout(WAIT_S_MAX):
                letter = codec.decode(DeadLetter, (await consumer.getone()).value)
        finally:
            await consumer.stop()
        assert (letter.topic, letter.partition, letter.offset) == (USAGE, placed.partition, placed.offset)
        assert (letter.stage, letter.key, letter.value) == ("rating", b"vk_nobody", garbage)
        assert letter.headers == (("who", b"a test"),)
        await stage.is_proven()

    stage.run(test())


def test_an_edge_killed_what_it_had_open_is_orphaned_with_what_it_had_seen(stage):
    async def test():
        one_edge = Clients(stage.world.edge_urls[:1])
        asking = asyncio.create_task(one_edge.ask(LONG_STREAM))
        await until_true(lambda: asyncio.to_thread(lambda: stage.waiting()[1] == 1), WAIT_S_MAX)
        upstream = stage.world.doors["upstream-door"]
        seen = upstream.passed_bytes
        await until_true(lambda: _so(upstream.passed_bytes > seen + 2_000), WAIT_S_MAX)
        edge = stage.world.processes["edge-1"]
        await edge.kill()
        receipt = await asking
        await one_edge.close()
        assert (receipt.ending, receipt.message_id != "") == ("cut", True)
        await edge.start()
        outcome, status, message_id, input_tokens = await stage.row(
            receipt, "outcome, usage_status, message_id, input_tokens"
        )
        assert (outcome, message_id, input_tokens) == (
            "orphaned",
            receipt.message_id,
            receipt.usage["input_tokens"],
        )
        assert status in ("partial", "estimated")
        await stage.is_proven(one_edge)
        stage.clients.receipts.extend(one_edge.receipts)

    stage.run(test())


@pytest.mark.parametrize("room", ["rating", "sink"])
def test_a_consumer_killed_under_load_loses_and_doubles_nothing(stage, room):
    async def test():
        async with stage.clients.at_work(4, 0.05, lambda _: Ask()):
            for number in (1, 2):
                await stage.clients.until_more(FEW, WAIT_S_MAX)
                await stage.world.processes[f"{room}-{number}"].kill()
            await stage.clients.until_more(FEW, WAIT_S_MAX)
            for number in (1, 2):
                await stage.world.processes[f"{room}-{number}"].start()
        await stage.is_proven()

    stage.run(test())


def test_zombies_that_wake_in_mid_work_with_their_partitions_gone_change_no_total(stage):
    async def test():
        door = stage.world.doors["clickhouse-door"]
        zombies = [stage.world.processes[name] for name in ("rating-1", "sink-1")]
        door.stall()  # so that both sinks are frozen, or not, in the middle of an insert
        await stage.served(*[Ask(tag="before")] * FEW)
        for zombie in zombies:
            zombie.freeze()
        door.mend()
        await stage.served(*[Ask(tag="meanwhile")] * FEW)
        await stage.world.until_quiet()  # the others have taken over and done everything
        for zombie in zombies:
            zombie.thaw()
        await stage.served(*[Ask(tag="after")] * FEW)
        await stage.is_proven()

    stage.run(test())


def test_a_partition_consumed_by_two_changes_no_total(stage):
    """A second rating rates everything again, and a second sink stores all of it again."""

    async def test():
        groups = {
            "another.rating": GROUP_TOPICS["tollhouse.rating"],
            "another.sink": GROUP_TOPICS["tollhouse.sink"],
        }

        async def has_read_all():
            return not await stage.world.lag(groups)

        await stage.served(*[Ask()] * FEW)
        before = await stage.world.ends(RATED)
        async with (
            stage.another("rating", "rating-again", {"group_id": "another.rating"}),
            stage.another("sink", "sink-again", {"group_id": "another.sink"}),
        ):
            await until_true(has_read_all, WAIT_S_MAX)
            await stage.is_proven()
        assert await stage.world.ends(RATED) >= before + FEW

    stage.run(test())


def test_a_spool_replayed_twice_changes_no_total(stage, tmp_path):
    async def test():
        await stage.world.kafka.lose()
        await stage.served(*[STREAM] * FEW)
        copies = [tmp_path / "once", tmp_path / "again"]
        for copy in copies:
            shutil.copytree(stage.world.spool_root, copy)
        await stage.world.kafka.mend()
        await stage.world.until_quiet()
        before = await stage.world.ends(USAGE)
        for copy in copies:
            for directory in sorted(copy.iterdir()):
                await stage.world.command("spool", "replay", directory)
        await stage.is_proven()
        assert await stage.world.ends(USAGE) == before + 2 * FEW

    stage.run(test())


def test_anthropic_down_is_an_error_in_its_own_shape_and_is_booked(stage):
    async def test():
        door = stage.world.doors["upstream-door"]
        door.cut()
        receipts = await stage.ask(STREAM, Ask())
        door.mend()
        for receipt in receipts:
            assert (receipt.ending, receipt.status, receipt.is_upstreams) == ("error", 502, False)
            assert json.loads(receipt.error)["error"]["type"] == "api_error"
            # The door takes the connection and ends it: the request may have gone up, its cost is not known.
            assert await stage.row(receipt) == ("upstream_cut", "none", "unpriced")
        await stage.is_proven()

    stage.run(test())


def test_anthropic_silent_is_a_time_out_in_its_own_shape_and_is_booked(stage):
    async def test():
        (receipt,) = await stage.ask(Ask(simulate=("stall",)))
        assert (receipt.ending, receipt.status, receipt.is_upstreams) == ("error", 504, False)
        assert json.loads(receipt.error)["error"]["type"] == "timeout_error"
        assert (await stage.row(receipt))[:2] == ("timed_out", "none")
        await stage.is_proven()

    stage.run(test())


def test_anthropic_slow_is_waited_for(stage):
    async def test():
        door = stage.world.doors["upstream-door"]
        door.slow()
        await stage.served(*[STREAM] * 3, Ask())
        door.mend()
        await stage.is_proven()

    stage.run(test())


def test_anthropic_cut_in_mid_stream_ends_with_an_error_event_and_is_booked(stage):
    async def test():
        (receipt,) = await stage.ask(Ask(is_stream=True, simulate=("output-tokens=80", "cut-after-events=8")))
        assert (receipt.ending, receipt.status) == ("error_event", 200)
        assert (await stage.row(receipt))[:2] == ("upstream_cut", "estimated")
        await stage.is_proven()

    stage.run(test())


def test_a_client_that_leaves_is_booked_with_exact_usage(stage):
    async def test():
        asks = [LONG_STREAM._replace(hangs_up_after=after) for after in (0, 3)]
        for receipt in await stage.ask(*asks):
            assert receipt.ending == "hung_up"
            found = await stage.row(receipt, "outcome, usage_status, output_tokens, cost_status")
            assert found == ("client_gone", "final", 120, "priced")
        await stage.is_proven()

    stage.run(test())


def test_an_unknown_price_is_unpriced_and_counted_and_never_nothing(stage):
    async def test():
        (receipt,) = await stage.served(Ask(simulate=(f"model-served={UNKNOWN_MODEL}",)))
        assert await stage.row(receipt, "cost_status, cost_usd") == ("unpriced", None)
        ratings = [stage.world.processes[name] for name in ("rating-1", "rating-2")]
        counted = [await each.metric('rating_unpriced_total{reason="unknown_model"}') for each in ratings]
        assert sum(counted) >= 1
        await stage.is_proven()

    stage.run(test())


def test_a_rolling_restart_of_everything_under_load_loses_and_refuses_nothing(stage):
    """Of every room one after the other; clients go to the edge that listens."""

    async def restarted(name):
        process = stage.world.processes[name]
        assert await process.end() == 0, process.last_words()
        await process.start()
        await process.until_ready()

    async def test():
        first = len(stage.clients.receipts)
        async with stage.clients.at_work(8, 0.02, lambda dice: dice.choice((Ask(), STREAM, LONG_STREAM))):
            for number in (1, 2):
                await asyncio.gather(*(restarted(f"{room}-{number}") for room in ("edge", "rating", "sink")))
                await stage.clients.until_more(FEW, WAIT_S_MAX)
        refused = [each for each in stage.clients.receipts[first:] if each.ending != "complete"]
        assert refused == []
        await stage.is_proven()

    stage.run(test())


async def filled(clients, is_enough):
    """Ask until a receipt says that it is enough, and give that."""
    while len(clients.receipts) < EXCHANGES_TO_FILL_MAX:
        for receipt in await asyncio.gather(*(clients.ask(Ask()) for _ in range(FEW))):
            if is_enough(receipt):
                return receipt
    raise AssertionError(f"{EXCHANGES_TO_FILL_MAX} exchanges did not fill a spool")


async def _so(holds):
    return holds
