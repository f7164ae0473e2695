"""A seed decides what is asked of batches, and every call can be sent and judged."""

import json
import random

from tests.chaos.batch_traffic import BatchTraffic, Key, is_creation
from tests.chaos.traffic import Receipt

KEYS = [Key("sk-1", "vk_1", "one", "ledger"), Key("sk-2", "vk_2", "two", "ledger"), Key("sk-3", "vk_3")]


def drawn(seed, count):
    """So many calls, each answered as Anthropic would."""
    receipts, dice = [], random.Random(seed)
    traffic = BatchTraffic(KEYS, receipts)
    for number in range(count):
        call = traffic.next_call(dice)
        answer = json.dumps({"id": f"batch_{number}"}).encode() if call.action == "create" else b""
        receipts.append(Receipt(call, None, "complete", answer=answer))
    return receipts


def test_one_seed_means_one_traffic():
    assert drawn(7, 60) == drawn(7, 60)
    assert drawn(7, 60) != drawn(8, 60)


def test_everything_that_can_be_done_to_a_batch_is_done_and_only_by_those_whose_it_is():
    receipts = drawn(7, 300)
    assert {each.ask.action for each in receipts} == {"create", "retrieve", "list", "cancel", "results"}
    holders = {
        f"batch_{number}": each.ask.key.holder for number, each in enumerate(receipts) if is_creation(each)
    }
    asked = [each.ask for each in receipts if each.ask.batch_id]
    assert {call.key.holder for call in asked if holders[call.batch_id] != call.key.holder} == set()
    assert any(call.key.virtual_key_id == "vk_2" for call in asked)


def test_no_custom_id_stands_twice_and_batches_have_tens_to_thousands_of_items():
    calls = [each.ask for each in drawn(7, 300) if is_creation(each)]
    names = [item.custom_id for call in calls for item in call.items]
    assert len(set(names)) == len(names)
    sizes = [len(call.items) for call in calls]
    assert (min(sizes) >= 10, any(100 <= size <= 300 for size in sizes), max(sizes) > 1_000) == (True,) * 3


def test_items_of_every_kind_are_among_them():
    items = [item for each in drawn(7, 300) for item in each.ask.items]
    prefixes = {item.custom_id.partition("-")[0] for item in items if not item.custom_id.startswith("b")}
    assert prefixes == {"errored", "canceled", "expired"}
    assert all(any(getattr(item, name) for item in items) for name in ("metadata", "user_id", "is_unfit"))
