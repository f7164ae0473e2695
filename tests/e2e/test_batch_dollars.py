"""What items of batches cost, from the client's call to the row, in exact dollars worked out by hand."""

import base64
import json
from datetime import UTC, datetime

import pytest
from anthropic import Anthropic

from tests.golden.arithmetic import worked_out
from tests.golden.cases import all_cases

SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 1}
SEARCH_TOKENS = 16  # its compact JSON, 63 characters: four to a token
HALF = "/ 1e6 * 0.5"
# The golden cases of today, which come here as results of a batch.
TODAY = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLAIN_ITEM = {"operation": "batch_item", "outcome": "succeeded"}
GOLDEN = {
    name: case
    for name, case in all_cases().items()
    if case.at == TODAY and case.context == PLAIN_ITEM and case.usage is not None
}


def block(tokens, word, **members):
    return {"type": "text", "text": (word * tokens)[: 4 * tokens], **members}


def cached(tokens, word, ttl):
    return block(tokens, word, cache_control={"type": "ephemeral", "ttl": ttl})


def item(name, model, *content, **params):
    message = {"role": "user", "content": list(content)}
    return {
        "custom_id": name,
        "params": {"model": model, "max_tokens": 500, "messages": [message], **params},
    }


BOTH_LIFETIMES = (cached(5_000, "long", "1h"), cached(3_000, "five", "5m"), block(100, "tail"))
PARTLY_CACHED = (cached(60_000, "road", "1h"), block(40_001, "path"))
# The request, how many of its tokens are of which kind by the rules of the simulated API, and what they cost.
ITEMS = {
    "both-lifetimes": (
        item("both-lifetimes", "claude-opus-5-5", *BOTH_LIFETIMES),
        f"(100 * 4 + 50 * 20 + 3000 * 5 + 5000 * 8) {HALF}",
    ),
    "long-prompt": (
        item("long-prompt", "claude-haiku-5-5", block(100_001, "toll")),
        f"(100001 * 0.50 + 50 * 2.50) {HALF}",
    ),
    "below-a-long-prompt": (
        item("below-a-long-prompt", "claude-haiku-5-5", block(100_000, "gate")),
        f"(100000 * 0.10 + 50 * 0.50) {HALF}",
    ),
    "long-prompt-in-the-us": (
        item("long-prompt-in-the-us", "claude-haiku-5-5", *PARTLY_CACHED, inference_geo="us"),
        f"(40001 * 0.50 + 60000 * 1 + 50 * 2.50) {HALF} * 1.1",
    ),
    "in-the-us": (
        item("in-the-us", "claude-fable-5-2", block(1_000, "east"), inference_geo="us"),
        f"(1000 * 8 + 50 * 40) {HALF} * 1.1",
    ),
    "web-search": (
        item("web-search", "claude-opus-5-5", block(1_000, "find"), tools=[SEARCH]),
        f"({1_000 + SEARCH_TOKENS + 1_000} * 4 + 50 * 20) {HALF} + 1 * 10 / 1e3",
    ),
}


def costs(stack, condition, count):
    query = (
        "SELECT batch_id, batch_custom_id, cost_status, cost_usd FROM tollhouse.usage "
        f"WHERE operation = 'batch_item' AND batch_id {condition}"
    )
    return {(batch_id, name): rest for batch_id, name, *rest in stack.rows(query, count)}


def ended(client, requests, simulate):
    """Create a batch and look once: it has ended, and the tracker hears of it."""
    batch = client.messages.batches.create(requests=requests, extra_headers={"x-simulate": simulate})
    assert client.messages.batches.retrieve(batch.id).processing_status == "ended"
    return batch


@pytest.fixture(scope="module")
def client(simulated_stack):
    return Anthropic(base_url=simulated_stack.base_url, api_key="sk-any")


def test_items_of_every_kind_cost_what_was_worked_out(simulated_stack, client):
    batch = ended(client, [asked for asked, _ in ITEMS.values()], "output-tokens=50")
    found = costs(simulated_stack, f"= '{batch.id}'", len(ITEMS))
    assert found == {(batch.id, name): ["priced", worked_out(total)] for name, (_, total) in ITEMS.items()}
    spent = f"SELECT cost_usd FROM tollhouse.batches WHERE batch_id = '{batch.id}' AND phase = 'booked'"
    assert simulated_stack.rows(spent, 1) == [(sum(worked_out(total) for _, total in ITEMS.values()),)]


def test_golden_cases_cost_the_same_as_results_of_a_batch(simulated_stack, client):
    expected = {}
    for case in GOLDEN.values():
        usage = base64.urlsafe_b64encode(json.dumps(case.usage).encode()).decode()
        batch = ended(client, [item("golden", case.model, block(1, "toll"))], f"usage={usage}")
        expected[batch.id, "golden"] = [case.status, case.usd]
    assert len(expected) > 8
    ids = tuple(batch_id for batch_id, _ in expected)
    assert costs(simulated_stack, f"IN {ids}", len(ids)) == expected
