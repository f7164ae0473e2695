"""What is booked of a batch again, late, or by two at once is booked once."""

import asyncio
import shutil
import uuid
from collections import Counter
from decimal import Decimal

import httpx
import msgspec
from aiokafka import TopicPartition
from anthropic import AsyncAnthropic

from schemas import codec, topics
from schemas.attribution import Attribution
from schemas.batches import BatchState
from schemas.ids import batch_item_id
from services.edge.identity import own_key_id
from services.runtime.kafka import KafkaConfig
from tests.e2e.edges import NO_KAFKA, edge, replay, upstream_of
from tests.e2e.test_batches import request
from tests.integration.batch_tracker.world import usages
from tests.integration.runtime import brokers
from tests.integration.runtime.clients import read_all

WAIT_S = 60.0
STATUSES = ("in_progress", "canceling", "ended")
# Who reads what an edge publishes, in the order in which one waits for the other.
READERS = (
    ("tollhouse.batch-tracker", topics.BATCH_FACTS),
    ("tollhouse.rating", topics.USAGE),
    ("tollhouse.sink", topics.RATED),
    ("tollhouse.sink", topics.BATCHES),
)
DOWNLOADS = 5
ITEMS = 400
# 100 tokens in at 2 dollars a million, 50 out at 10, and half of that in a batch.
ITEM_USD = Decimal(100 * 2 + 50 * 10) / 1_000_000 / 2
NOBODY = Attribution(virtual_key_id="")


def client(address, tag):
    headers = {"x-litellm-tags": tag}
    return AsyncAnthropic(base_url=address, api_key="sk-ant-own", max_retries=0, default_headers=headers)


async def download(anthropic, batch_id):
    """Read the results as a client does; give whose they are."""
    return sorted([each.custom_id async for each in await anthropic.messages.batches.results(batch_id)])


async def until_all_is_read(stack):
    """Wait until everything that edges published is on its way no more."""
    async with brokers.admin(stack.kafka) as admin, brokers.consumer(stack.kafka) as reader:
        for group, name in READERS:
            places = [TopicPartition(name, part) for part in range(topics.topic(name).partitions)]

            async def is_read(group=group, places=places):
                done = await admin.list_consumer_group_offsets(group)
                ends = await reader.end_offsets(places)
                return all(place in done and done[place].offset >= end for place, end in ends.items() if end)

            await brokers.until_true(is_read, WAIT_S)


def booked(stack, tag, ids):
    """Everything that is booked under a tag, and the batches: all columns but the times of writing."""
    tagged = f"FROM tollhouse.usage WHERE has(tags, '{tag}')"
    usage = f"SELECT * EXCEPT (ingested_at) {tagged} ORDER BY request_id"
    batches = (
        f"SELECT * EXCEPT (ingested_at) FROM tollhouse.batches WHERE batch_id IN {ids} ORDER BY batch_id"
    )
    # When a charge came to stand is when its usage arrived in Kafka; what it comes to is the same.
    ledger = "SELECT * EXCEPT (ingested_at, booked_at) FROM tollhouse.cost_ledger"
    entries = f"{ledger} WHERE request_id IN (SELECT request_id {tagged}) ORDER BY request_id"
    return [stack.rows(query, 1) for query in (usage, batches, entries)]


async def histories(kafka, ids):
    """Every state that was written of each batch, in order."""
    found = {batch_id: [] for batch_id in ids}
    for record in await read_all(kafka, topics.BATCHES, 6):
        if record.value is not None and record.key.decode() in found:
            found[record.key.decode()].append(codec.decode(BatchState, record.value))
    return found


def test_spools_replayed_after_the_tracker_finished_change_nothing(simulated_stack, tmp_path):
    """Facts come late, when both edges are dead, and all that they published comes once more."""
    stack, tag = simulated_stack, uuid.uuid4().hex
    kafka = KafkaConfig(bootstrap_servers=stack.kafka)

    async def lived(name, key):
        """Lead a batch from its creation to its results at an edge that never sees Kafka."""
        async with edge(stack, tmp_path / name, NO_KAFKA, key) as process:
            anthropic = client(process.url, tag)
            create = anthropic.messages.batches.create
            requests = [request("one", litellm_metadata={"user": "grace"}), request("errored-two")]
            batch = await create(
                requests=requests, extra_headers={"x-simulate": "output-tokens=50;batch-seconds=3600"}
            )
            assert (await anthropic.messages.batches.retrieve(batch.id)).processing_status == "in_progress"
            async with httpx.AsyncClient(trust_env=False) as http:
                await http.post(f"{upstream_of(stack)}/simulation/batches/{batch.id}/finish")
            assert (await anthropic.messages.batches.retrieve(batch.id)).processing_status == "ended"
            assert await download(anthropic, batch.id) == ["errored-two", "one"]
        shutil.copytree(tmp_path / name, tmp_path / f"{name}-again")
        return batch.id

    async def run():
        ids = tuple(await asyncio.gather(lived("gateway", "sk-ant-gateway"), lived("own-key", "")))
        entries = [await replay(stack, tmp_path / name) for name in ("gateway", "own-key")]
        ended = f"SELECT batch_id FROM tollhouse.batches WHERE batch_id = '{ids[0]}' AND phase = 'booked'"
        assert await asyncio.to_thread(stack.rows, ended, 1) == [(ids[0],)]
        await until_all_is_read(stack)
        before, states = booked(stack, tag, ids), await histories(kafka, ids)
        items = (
            "SELECT batch_id, batch_custom_id, cost_usd FROM tollhouse.usage "
            f"WHERE batch_id IN {ids} AND operation = 'batch_item'"
        )
        costs = (("one", ITEM_USD), ("errored-two", Decimal(0)))
        assert sorted(stack.rows(items, 4)) == sorted((each, *cost) for each in ids for cost in costs)
        assert [states[each][-1].phase for each in ids] == ["booked", "own_key"]

        again = [await replay(stack, tmp_path / f"{name}-again") for name in ("own-key", "gateway")]
        assert again == entries[::-1] and min(again) > 0
        await until_all_is_read(stack)
        metered = [each for each in await usages(kafka, ids[1]) if each.operation == "batch_item"]
        assert Counter(each.batch_custom_id for each in metered) == {"one": 2, "errored-two": 2}
        assert booked(stack, tag, ids) == before
        after = await histories(kafka, ids)
        for batch_id in ids:
            assert after[batch_id][-1] == states[batch_id][-1]
            steps = [(STATUSES.index(each.status), each.lines_read, each.version) for each in after[batch_id]]
            assert steps == sorted(steps)

    asyncio.run(run())


def test_items_count_once_when_results_are_downloaded_five_times_while_they_are_booked(
    simulated_stack, tmp_path
):
    """The batch of one edge is downloaded through another, which meters under its callers' own keys."""
    stack, tag = simulated_stack, uuid.uuid4().hex
    names = sorted(f"item-{number}" for number in range(ITEMS))

    async def run():
        async with edge(stack, tmp_path / "own-key", stack.kafka) as own:
            gateway, owner = client(stack.base_url, tag), client(own.url, tag)
            batch = await gateway.messages.batches.create(
                requests=[request(name) for name in names],
                extra_headers={"x-simulate": "output-tokens=50;batch-seconds=3600"},
            )
            async with httpx.AsyncClient(trust_env=False) as http:
                await http.post(f"{upstream_of(stack)}/simulation/batches/{batch.id}/finish")
            # The tracker wakes at the first of these, and books while they read.
            await gateway.messages.batches.retrieve(batch.id)
            reads = [download(each, batch.id) for each in (gateway, owner) for _ in range(DOWNLOADS)]
            assert await asyncio.gather(*reads) == [names] * 2 * DOWNLOADS
            # What an edge has in its spool is published before it ends.
            assert await own.end() == 0
            return batch.id

    async def events(batch_id):
        ended = (
            f"SELECT items_booked FROM tollhouse.batches WHERE batch_id = '{batch_id}' AND phase = 'booked'"
        )
        assert await asyncio.to_thread(stack.rows, ended, 1) == [(ITEMS,)]
        await until_all_is_read(stack)
        return await usages(KafkaConfig(bootstrap_servers=stack.kafka), batch_id)

    batch_id = asyncio.run(run())
    published = asyncio.run(events(batch_id))
    by_key = Counter(each.attribution.virtual_key_id for each in published)
    assert by_key == {"anonymous": ITEMS, own_key_id("sk-ant-own", ""): DOWNLOADS * ITEMS}
    # Whoever publishes an item, and however often, says the same of it, but for what only the create tells.
    said = {
        codec.encode(msgspec.structs.replace(each, attribution=NOBODY, model_requested=""))
        for each in published
    }
    ids = {str(batch_item_id(batch_id, name)) for name in names}
    assert (len(said), {str(each.request_id) for each in published}) == (ITEMS, ids)
    items = (
        "SELECT toString(request_id), input_tokens, output_tokens, cost_usd FROM tollhouse.usage "
        f"WHERE batch_id = '{batch_id}' AND operation = 'batch_item' ORDER BY request_id"
    )
    assert sorted(stack.rows(items, ITEMS)) == sorted((each, 100, 50, ITEM_USD) for each in ids)
    ledger = (
        "SELECT count(), sum(amount_usd) FROM tollhouse.cost_ledger WHERE request_id IN "
        f"(SELECT request_id FROM tollhouse.usage WHERE batch_id = '{batch_id}' AND operation = 'batch_item')"
    )
    assert stack.rows(ledger, 1) == [(ITEMS, ITEMS * ITEM_USD)]
