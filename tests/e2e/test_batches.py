"""Batches through a whole stack: who creates one need not come back for its items to be booked."""

import uuid
from decimal import Decimal

from anthropic import Anthropic
from click.testing import CliRunner

from services.cli import main

MODEL = "claude-sonnet-5-5"
NAMES = ("one", "errored-two", "three")


def request(name, **metadata):
    message = {"role": "user", "content": "toll" * 100}
    params = {"model": MODEL, "max_tokens": 500, "messages": [message], **metadata}
    return {"custom_id": name, "params": params}


def test_items_are_booked_without_a_client_that_fetches_them(simulated_stack):
    tag = uuid.uuid4().hex
    client = Anthropic(base_url=simulated_stack.base_url, api_key="sk-any")
    batch = client.messages.batches.create(
        requests=[request("one", litellm_metadata={"user": "grace"}), *map(request, NAMES[1:])],
        extra_body={"litellm_metadata": {"tags": [tag], "user": "ada"}},
        extra_headers={"x-simulate": "output-tokens=50"},
    )
    columns = "batch_custom_id, end_user_id, outcome, input_tokens, output_tokens, cost_status, cost_usd"
    where = f"batch_id = '{batch.id}' AND operation = 'batch_item' AND has(tags, '{tag}')"
    query = f"SELECT {columns} FROM tollhouse.usage WHERE {where} ORDER BY batch_custom_id"
    # 100 tokens in at 1 dollar a million, 50 out at 5: half of what a message costs.
    cost = Decimal(100 * 1 + 50 * 5) / 1_000_000
    assert simulated_stack.rows(query, 3) == [
        ("errored-two", "ada", "errored", 0, 0, "zero", Decimal(0)),
        ("one", "grace", "succeeded", 100, 50, "priced", cost),
        ("three", "ada", "succeeded", 100, 50, "priced", cost),
    ]
    # The client reads them after all, twice: they are the same rows.
    for _ in range(2):
        results = {each.custom_id: each.result.type for each in client.messages.batches.results(batch.id)}
    assert results == {"one": "succeeded", "errored-two": "errored", "three": "succeeded"}
    view = "phase, virtual_key_id, requests, items, items_booked, cost_usd"
    ended = f"SELECT {view} FROM tollhouse.batches WHERE batch_id = '{batch.id}' AND phase = 'booked'"
    assert simulated_stack.rows(ended, 1) == [("booked", "anonymous", 3, 3, 3, 2 * cost)]


def test_a_batch_of_another_client_is_adopted_by_hand(simulated_stack):
    direct = Anthropic(base_url=f"http://127.0.0.1:{simulated_stack.port + 3}", api_key="sk-any")
    batch = direct.messages.batches.create(requests=[request("one")])
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": simulated_stack.kafka,
        "ANTHROPIC_API_BASE": f"http://127.0.0.1:{simulated_stack.port + 3}",
        "ANTHROPIC_API_KEY": "sk-any",
    }
    adopted = CliRunner().invoke(main, ["batches", "adopt", batch.id], env=environ)
    assert (adopted.exit_code, adopted.stderr) == (0, "")
    query = f"SELECT phase, is_adopted, virtual_key_id FROM tollhouse.batches WHERE batch_id = '{batch.id}'"
    assert [row[1:] for row in simulated_stack.rows(query, 1)] == [(True, "unattributed")]
    refused = CliRunner().invoke(main, ["batches", "adopt", "msgbatch_none"], env=environ)
    assert (refused.exit_code, refused.stderr) == (
        2,
        "tollhouse: Anthropic has no batch msgbatch_none under the credential default.\n",
    )
