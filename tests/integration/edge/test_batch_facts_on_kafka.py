"""What is said of a batch comes to Kafka in the order in which it was seen, under the batch's id."""

import asyncio
import json

from schemas import codec, topics
from schemas.batches import BatchCreated, BatchFact, BatchItems, BatchSeen
from tests.integration.edge.registry_stack import AS_MASTER, stack
from tests.integration.runtime import brokers

TEST_S_MAX = 60
ITEMS = 3000
BATCHES = "/v1/messages/batches"


def request(number):
    message = {"role": "user", "content": "hi"}
    params = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [message]}
    own = {"user": f"u{number}", "note": "x" * 200}
    return {"custom_id": f"i-{number}", "params": {**params, "litellm_metadata": own}}


def test_creation_items_and_end_come_in_order_and_each_fits_its_record(tmp_path):
    async def scene():
        async with stack(tmp_path) as running:
            (edge,) = running.edges
            headers = {**AS_MASTER, "anthropic-version": "2023-06-01"}
            body = json.dumps({"requests": [request(number) for number in range(ITEMS)]})
            batch = (await edge.post(BATCHES, headers=headers, content=body)).json()
            running.upstream.finish_batch(batch["id"])
            for _ in range(3):
                await edge.get(f"{BATCHES}/{batch['id']}", headers=headers)
            async with brokers.consumer(running.kafka.bootstrap_servers, topics.BATCH_FACTS) as consumer:
                records = await brokers.take(consumer, 1, TEST_S_MAX)
                chunks = codec.decode(BatchFact, records[0].value).fact.item_chunks
                records += await brokers.take(consumer, 2 + chunks - len(records), TEST_S_MAX)
        return batch["id"], chunks, records

    batch_id, chunks, records = asyncio.run(asyncio.wait_for(scene(), TEST_S_MAX))
    facts = [codec.decode(BatchFact, each.value).fact for each in records]
    assert [type(fact) for fact in facts] == [BatchCreated, *[BatchItems] * chunks, BatchSeen]
    assert {each.key.decode() for each in records} == {batch_id}
    assert [item.end_user_id for fact in facts[1:-1] for item in fact.items] == [
        f"u{n}" for n in range(ITEMS)
    ]
    assert chunks > 1
    assert max(len(each.value) for each in records) <= 512 * 1024
    assert facts[-1].status == "ended"
